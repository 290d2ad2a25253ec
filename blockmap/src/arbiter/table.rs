//! What a change means to a seal or a lease that it meets: docs/leases.md as data.
//!
//! A row has a letter for each kind of seal (LAYOUT, SHRINK, GROW, WRITE,
//! FUTURE_WRITE, SEAL), one for each access of another session's lease and one for each
//! access of an own lease (Read, Write, Stable, Exclusive). `tests/conformance.rs` takes the
//! operations of the document apart into changes and compares every cell.

use super::kinds::{Access, Change, Held, Kinds};

/// What a change does about what it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cell {
    /// Goes on.
    On,
    /// Leaves the range as it is and does the rest.
    Round,
    /// An own lease becomes stale.
    Refresh,
    /// An own lease is taken.
    Take,
    /// Waits until it is given up.
    Recall,
    /// The same, and never fences.
    Drain,
    /// The same, and what is not given up in time makes it busy.
    RecallElseBusy,
    /// Refused: the store is in use.
    Busy,
    /// Refused by a seal.
    Sealed,
}

/// Seals, leases of others, leases of its own.
type Row = (&'static [u8; 6], &'static [u8; 4], &'static [u8; 4]);

const NOTHING: Row = (b"......", b"....", b"....");
const ALLOCATE: Row = (b"S.....", b"RRRR", b"FFFF");

fn row(change: Change) -> Row {
    match change {
        Change::Read => (b"......", b"...R", b"...F"),
        Change::Overwrite => (b"...SS.", b"..RR", b"..FF"),
        Change::OverwritePart => (b"...SS.", b".RRR", b".FFF"),
        Change::Fill | Change::Cut | Change::ReflinkOnto => (b"S..SS.", b"RRRR", b"FFFF"),
        Change::Allocate => ALLOCATE,
        Change::Grow => (b"..S...", b".RRR", b".FFF"),
        Change::Shrink => (b".S....", b"....", b"...."),
        Change::ReflinkFrom => (b"......", b".R.R", b".F.F"),
        Change::Unlink => NOTHING,
        Change::Grant { access, .. } | Change::Delegate { access, .. } => match access {
            Access::Read => (b"......", b"...R", b"...T"),
            Access::Write => (b"...SS.", b".RRR", b"..TT"),
            Access::Stable => (b"......", b".R.R", b".T.T"),
            Access::Exclusive => (b"...SS.", b"RRRR", b"TTTT"),
        },
        // While a lease is stale it stands in the way as before: nothing that conflicts
        // with it was granted. What must be unshared for it is added below.
        Change::Refresh { .. } => NOTHING,
        Change::Seal { kinds, .. } if kinds.contains(Kinds::WRITE) => (b".....A", b".D.D", b".D.D"),
        Change::Seal { .. } => (b".....A", b"....", b"...."),
        Change::Relocate => (b"G.....", b"GGGG", b"GGGG"),
        Change::Close => (b"BBBBBB", b"EEEE", b"EEEE"),
    }
}

fn unshares(change: Change) -> bool {
    matches!(change, Change::Grant { unshares: true, .. } | Change::Refresh { unshares: true, .. })
}

/// What a letter means for a lease.
fn of_lease(letter: u8) -> Cell {
    match letter {
        b'R' => Cell::Recall,
        b'F' => Cell::Refresh,
        b'T' => Cell::Take,
        b'D' => Cell::Drain,
        b'E' => Cell::RecallElseBusy,
        b'G' => Cell::Round,
        _ => Cell::On,
    }
}

/// What a letter means for a seal: a session's own is never broken by accident.
fn of_seal(letter: u8, breakable: bool, own: bool) -> Cell {
    match (letter, own, breakable) {
        (b'S', true, _) | (b'S' | b'A', false, false) => Cell::Sealed,
        (b'S' | b'A', false, true) => Cell::Recall,
        (b'B', false, false) => Cell::Busy,
        (b'B', false, true) => Cell::RecallElseBusy,
        (b'G', ..) => Cell::Round,
        _ => Cell::On,
    }
}

/// What a change does about a seal or lease that it meets, of the same session or of
/// another. Of a seal of several kinds the strictest one counts.
pub fn verdict(change: Change, held: Held, own: bool) -> Cell {
    let one = |(seals, others, owns): Row| match held {
        Held::Lease(access) => of_lease(if own { owns } else { others }[access as usize]),
        Held::Seal { kinds, breakable } => {
            let kinds = kinds.expanded();
            let of = |i: usize| kinds.contains(Kinds::from_bits_truncate(1 << i));
            let cells = (0..6).filter(|i| of(*i)).map(|i| of_seal(seals[i], breakable, own));
            cells.max().unwrap_or(Cell::On)
        }
    };
    let more = if unshares(change) { ALLOCATE } else { NOTHING };
    one(row(change)).max(one(more))
}
