//! Short histories, one for each trap that the random runs and a reading of the
//! laws have found. Each is silent under the rules and a lie without one.

use super::apply::Record;
use super::rules::Break;
use super::run::Op::{
    self, Begin, Crash, Cut, End, Evict, Finish, Look, Map, Quarantine, Sync, Write,
};
use super::state::FileId;

fn create(file: FileId) -> Op {
    Map(Record::Create { file })
}

fn reflink(from: FileId, to: FileId) -> Op {
    Map(Record::Reflink { from, to })
}

/// The history that shows why a rule is needed, where it is worth a name.
pub(crate) fn history(rule: Break) -> Option<Vec<Op>> {
    Some(match rule {
        Break::MoveIsNeutral => move_is_neutral(),
        Break::GenerationsRaisedLate => generations_raised_late(),
        Break::CutTakesLaterStamps => cut_takes_later_stamps(),
        Break::QuarantineUnwritten => quarantine_unwritten(),
        Break::BitFromOneBlock => bit_from_one_block(),
        Break::BitSetLate => bit_set_late(),
        Break::ShiftIgnored => shift_ignored(),
        _ => return None,
    })
}

/// File 2 lets go of a leaf that it shares with file 1: the leaf counts one, and
/// one lowering that is not durable. File 1 merges the leaf away: the block's new
/// path knows nothing of that lowering. A crash gives the leaf back to file 2.
fn move_is_neutral() -> Vec<Op> {
    vec![
        create(1),
        Write { file: 1, at: 0, len: 8 },
        reflink(1, 2),
        Write { file: 1, at: 0, len: 1 },
        Sync { late: 0 },
        Map(Record::Punch { file: 2, at: 4, len: 4 }),
        Map(Record::Merge { file: 1, index: 0, leaves: true }),
    ]
}

/// A reflink within one file raises the counter; clearing its target stamps a
/// leaf with the new value while the file still has its old generation, so the
/// bits stay; then the generation is raised to the stamp.
fn generations_raised_late() -> Vec<Op> {
    vec![
        create(1),
        Write { file: 1, at: 0, len: 4 },
        Map(Record::Range { from: 1, at: 0, len: 2, to: 1, dest: 2, trees: true }),
    ]
}

/// Another file's reflink raises the counter after the cut, and a look-up stamps
/// a leaf with it. The crash loses the reflink but not the stamp; the next
/// reflink is given the same number.
fn cut_takes_later_stamps() -> Vec<Op> {
    vec![
        create(1),
        create(2),
        Write { file: 1, at: 0, len: 1 },
        Write { file: 1, at: 2, len: 1 },
        Quarantine { file: 1, at: 2 },
        Sync { late: 0 },
        Cut,
        reflink(2, 3),
        Look { file: 1, at: 2 },
        Finish,
        Crash { lost: 1 },
        reflink(1, 4),
    ]
}

/// Quarantine clears the bit of a clean leaf in memory; the leaf is evicted and
/// read back with the bit that the medium holds.
fn quarantine_unwritten() -> Vec<Op> {
    let leaf = 2;
    vec![
        create(1),
        Write { file: 1, at: 0, len: 1 },
        Evict { leaf },
        Quarantine { file: 1, at: 0 },
        Evict { leaf },
    ]
}

/// One extent, one of its blocks in quarantine: the other one is unshared, the
/// extent is not.
fn bit_from_one_block() -> Vec<Op> {
    vec![
        create(1),
        Write { file: 1, at: 0, len: 2 },
        Quarantine { file: 1, at: 0 },
        Look { file: 1, at: 1 },
    ]
}

/// A look-up has found a block unshared. Before it sets the bit the file is
/// reflinked, and a look-up through the copy stamps the leaf.
fn bit_set_late() -> Vec<Op> {
    vec![
        create(1),
        Write { file: 1, at: 0, len: 1 },
        Begin { file: 1, at: 0 },
        reflink(1, 2),
        Look { file: 2, at: 0 },
        End,
    ]
}

/// A block stands at another offset by a record that a crash may undo; no other
/// file is in sight, and every count is one.
fn shift_ignored() -> Vec<Op> {
    vec![
        create(1),
        Write { file: 1, at: 0, len: 6 },
        Sync { late: 0 },
        Map(Record::Collapse { file: 1, at: 0, len: 4 }),
        Look { file: 1, at: 0 },
    ]
}

/// A file, its reflink, and the removal of the reflink up to its last slice.
pub(crate) fn removed_reflink() -> Vec<Op> {
    vec![
        create(1),
        Write { file: 1, at: 0, len: 4 },
        reflink(1, 2),
        Sync { late: 0 },
        Map(Record::Condemn { file: 2 }),
        Map(Record::Slice { file: 2 }),
    ]
}
