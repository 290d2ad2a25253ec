//! Cases that are histories: every crash of each, in block and window mode, with
//! a checkpoint at every place.

use super::Verdict;
use crate::crash::everywhere;
use crate::history::{BLOCK, Op, When, Who};

const A: Who = Who::Name(0);
const B: Who = Who::Name(1);
const C: Who = Who::Name(2);

fn write(who: Who, first: u64, blocks: u64, tag: u32) -> Op {
    Op::Write { who, off: first * BLOCK, len: blocks * BLOCK, tag }
}

fn bytes(who: Who, off: u64, len: u64, tag: u32) -> Op {
    Op::Write { who, off, len, tag }
}

fn create(name: u8) -> Op {
    Op::Create { name }
}

fn cut(who: Who, size: u64) -> Op {
    Op::Truncate { who, size }
}

/// A file whose map is a tree: every other block, up to 15 in one batch.
fn alternate(who: Who, batches: u64, tag: u32) -> Vec<Op> {
    let batch = |i: u64| Op::Batch {
        who,
        parts: (0..15).map(|k| ((i * 15 + k) * 2 * BLOCK, BLOCK)).collect(),
        tag: tag + i as u32,
        sync: When::Never,
    };
    (0..batches).map(batch).collect()
}

fn all(set_up: &[Op], ops: &[Op]) -> Verdict {
    everywhere(set_up, ops, 6).map(|points| assert!(points > 0))
}

/// The set-up of a file, once as a few extents and once as a tree.
fn small_and_large() -> [Vec<Op>; 2] {
    let mut large = vec![create(0)];
    large.extend(alternate(A, 4, 1));
    [vec![create(0), write(A, 0, 4, 1)], large]
}

/// Law B1: after a leaf was copied its blocks have two owners, though the path
/// to them has one parent at each node.
pub fn b1_shared_blocks_are_copied() -> Verdict {
    for set_up in small_and_large() {
        let ops = [
            Op::Reflink { who: A, to: 1 },
            write(A, 2, 1, 50),
            write(B, 0, 1, 51),
            write(A, 0, 1, 52),
            Op::Sync { who: B },
            write(B, 2, 1, 53),
            write(A, 0, 2, 54),
        ];
        all(&set_up, &ops)?;
    }
    Ok(())
}

/// Law B1: sharing a range inside a file, at other offsets and at the same ones.
pub fn b1_ranges_of_one_file() -> Verdict {
    for set_up in small_and_large() {
        let share = |off: u64, to: Who, to_off: u64, blocks: u64| Op::ReflinkRange {
            from: A,
            off: off * BLOCK,
            to,
            to_off: to_off * BLOCK,
            len: blocks * BLOCK,
        };
        let ops = [
            share(0, A, 200, 3),
            write(A, 0, 1, 60),
            write(A, 201, 2, 61),
            create(1),
            share(0, B, 0, 4),
            Op::SyncAll,
            write(B, 1, 1, 62),
            write(A, 2, 2, 63),
        ];
        all(&set_up, &ops)?;
    }
    Ok(())
}

/// Law B2: A unshares from X, B overwrites X in place, and the crash brings the
/// map back in which A has X.
pub fn b2_a_lowering_that_is_not_durable_counts() -> Verdict {
    for mut set_up in small_and_large() {
        set_up.push(Op::Reflink { who: A, to: 1 });
        for gone in [write(A, 0, 1, 70), Op::Remove { name: 0 }, cut(A, 0)] {
            let punch = Op::Punch { who: C, off: 0, len: BLOCK };
            let ops = [gone, punch, write(B, 0, 1, 71), write(B, 0, 1, 72), bytes(B, 5, 99, 73)];
            all(&set_up, &ops)?;
        }
    }
    Ok(())
}

/// Law B3: what was freed is used again only when the record is durable and the
/// checkpoint that names it is superseded.
pub fn b3_freed_blocks_wait() -> Verdict {
    let fill = |who, tag| bytes(who, 0, 900 * 1024, tag);
    let mut set_up = vec![];
    for name in 0..6 {
        set_up.push(create(name));
        set_up.push(fill(Who::Name(name), u32::from(name) + 1));
    }
    set_up.extend([Op::SyncAll, Op::Checkpoint]);
    // More than was free before, so that what was freed must be used again.
    let ops = [
        Op::Remove { name: 1 },
        cut(C, 100_000),
        Op::Punch { who: Who::Name(3), off: 8 * BLOCK, len: 200 * BLOCK },
        Op::Remove { name: 4 },
        create(1),
        bytes(B, 0, 1000 * 1024, 80),
        bytes(B, 1000 * 1024, 1000 * 1024, 81),
        Op::Sync { who: B },
        bytes(B, 2000 * 1024, 1000 * 1024, 82),
    ];
    // These files are large: fewer outcomes, or the case takes long.
    everywhere(&set_up, &ops, 1).map(drop)
}

/// Law B4: what a record makes reachable is durable before the record.
pub fn b4_data_is_durable_before_its_record() -> Verdict {
    let batch = |tag, at: u64, sync| Op::Batch {
        who: A,
        parts: vec![(at, 4 * BLOCK), (at + 8 * BLOCK, BLOCK), (at + 10 * BLOCK, 2 * BLOCK)],
        tag,
        sync,
    };
    let ops = [
        create(0),
        batch(1, 0, When::During),
        batch(2, 20 * BLOCK, When::During),
        batch(3, 40 * BLOCK, When::After),
        Op::Reflink { who: A, to: 1 },
        batch(4, 0, When::During),
        Op::Sync { who: B },
    ];
    all(&[], &ops)
}

/// Law B4: an atomic write is there wholly or not at all, in any crash: over own, shared
/// and missing blocks, with edges, past the end, after writes that were not synced.
pub fn b4_atomic_writes_are_whole() -> Verdict {
    for set_up in small_and_large() {
        let atomic =
            |who, tag, parts: &[(u64, u64)]| Op::Atomic { who, parts: parts.to_vec(), tag };
        let ops = [
            write(A, 2, 1, 60),
            atomic(A, 61, &[(2 * BLOCK, BLOCK), (100, 50), (7 * BLOCK + 9, 5000)]),
            Op::Sync { who: A },
            atomic(A, 62, &[(0, 300), (400, 100), (150 * BLOCK + 70, 10)]),
            write(A, 0, 1, 63),
            Op::Reflink { who: A, to: 1 },
            atomic(B, 64, &[(0, 2 * BLOCK), (20 * BLOCK, BLOCK), (152 * BLOCK, 1)]),
            bytes(B, 200, 10, 65),
            Op::Sync { who: B },
        ];
        all(&set_up, &ops)?;
    }
    Ok(())
}

/// Law B4: blocks that are moved together are at their new place before the map says so,
/// in any crash, with writes before and after it.
pub fn b4_moved_blocks_are_where_the_map_says() -> Verdict {
    let mut set_up = vec![create(0), create(1)];
    for i in (0..12).rev() {
        set_up.extend([write(A, i, 1, 1 + i as u32), write(B, i, 1, 30 + i as u32)]);
    }
    let defrag = |off, blocks| Op::Defrag { who: A, off, len: blocks * BLOCK };
    let ops = [
        write(A, 3, 1, 60),
        defrag(0, 8),
        write(A, 2, 2, 61),
        Op::Sync { who: A },
        bytes(A, 6 * BLOCK + 9, 20, 62),
        defrag(BLOCK, 40),
        write(B, 0, 3, 63),
        Op::Sync { who: B },
        write(A, 7, 3, 64),
    ];
    all(&set_up, &ops)
}

/// Law B5: a truncate, a punch or an allocation that is not durable has no effect
/// on the medium.
pub fn b5_no_effect_before_its_record() -> Verdict {
    for blocks in [1, 3] {
        let set_up = [create(0), write(A, 0, blocks, 1)];
        let size = (blocks - 1) * BLOCK + 1000;
        let start = (blocks - 1) * BLOCK;
        let inside = bytes(A, start + 10, 100, 90);
        let grow = bytes(A, start + 900, 2000, 91);
        all(&set_up, &[cut(A, size), inside.clone(), inside.clone()])?;
        all(&set_up, &[cut(A, size), grow.clone(), inside.clone()])?;
        all(&set_up, &[cut(A, size), cut(A, size + 2 * BLOCK), inside.clone()])?;
        all(&set_up, &[cut(A, size), bytes(A, 9 * BLOCK + 7, 40, 92), inside.clone()])?;
        let punch = Op::Punch { who: A, off: 100, len: blocks * BLOCK };
        all(&set_up, &[punch, inside, grow])?;
    }
    Ok(())
}

/// Law B5: until the record of a zeroed range is durable, a crash brings its bytes
/// back, so what is written to it meanwhile goes elsewhere.
pub fn b5_zeroed_blocks_keep_their_bytes() -> Verdict {
    let zero = |who, off, len| Op::Zero { who, off, len };
    for set_up in small_and_large() {
        // In one block, in all, at an edge; through a few writes in flight at once too.
        let over = [write(A, 2, 1, 80), bytes(A, 2 * BLOCK + 700, 900, 81)];
        for (off, len) in [(0, 4 * BLOCK), (2 * BLOCK, BLOCK), (100, 3 * BLOCK)] {
            all(&set_up, &[zero(A, off, len), over[0].clone(), over[1].clone()])?;
        }
        let parts = vec![(0, BLOCK), (2 * BLOCK, BLOCK)];
        let batch = Op::Batch { who: A, parts, tag: 82, sync: When::During };
        all(&set_up, &[zero(A, 0, 3 * BLOCK), batch, over[0].clone()])?;
        let again = zero(A, 0, 4 * BLOCK);
        let sync = Op::Sync { who: A };
        all(&set_up, &[again.clone(), sync, over[0].clone(), again, over[1].clone()])?;
    }
    Ok(())
}

/// Zeroing shared blocks, holes, and what a truncate has cut, in any crash.
pub fn b5_zeroing_what_is_not_own() -> Verdict {
    for set_up in small_and_large() {
        let zero = |who, off, len| Op::Zero { who, off, len };
        let ops = [
            Op::Reflink { who: A, to: 1 },
            zero(A, 100, 5 * BLOCK),
            write(A, 1, 2, 83),
            zero(B, 0, BLOCK),
            write(B, 0, 1, 84),
            Op::Sync { who: B },
            cut(B, 2 * BLOCK + 100),
            zero(B, BLOCK, 9 * BLOCK),
            cut(B, 3 * BLOCK),
            bytes(B, 2 * BLOCK + 5, 20, 85),
        ];
        all(&set_up, &ops)?;
    }
    Ok(())
}

/// Law B5 where no count tells: a block that collapse or insert moved keeps its
/// one owner, and yet, overwritten in place too early, would show the new bytes at
/// its old place after a crash.
pub fn b5_what_was_moved_is_not_written_before_that_is_durable() -> Verdict {
    let (off, len) = (2 * BLOCK, 3 * BLOCK);
    for moving in [Op::Collapse { who: A, off, len }, Op::Insert { who: A, off, len }] {
        // In the record itself, and in a tree whose subtrees move.
        let small = [create(0), write(A, 0, 9, 1), Op::Checkpoint];
        let mut large = vec![create(0)];
        large.extend(alternate(A, 5, 10));
        large.push(Op::Checkpoint);
        for set_up in [&small[..], &large] {
            let over = [write(A, 1, 1, 80), write(A, 2, 2, 81), bytes(A, 6 * BLOCK + 9, 70, 82)];
            let end = write(A, 40, 1, 83);
            all(set_up, &[vec![moving.clone()], over.to_vec(), vec![end]].concat())?;
        }
    }
    Ok(())
}

/// Law B8: replay makes nodes of its own, none on a block that a later record
/// names, and a crash in the midst of it loses nothing.
pub fn b8_recovery_starts_again_from_the_checkpoint() -> Verdict {
    // Nodes that came and went fill the part of the store that is left to nodes, so
    // that those of the replay lie among the data: a batch to a fresh copy has its blocks
    // before the first of its records makes a node.
    let mut set_up = vec![create(0)];
    set_up.extend(alternate(A, 2, 100));
    for i in 0..70 {
        let copy = Op::Reflink { who: A, to: 1 };
        set_up.extend([copy, write(B, 0, 1, 200 + i), Op::Remove { name: 1 }]);
    }
    let mut ops = alternate(A, 3, 10);
    ops.push(Op::Reflink { who: A, to: 1 });
    ops.extend(alternate(B, 1, 30));
    ops.extend([write(A, 1, 1, 20), Op::Sync { who: A }]);
    ops.push(Op::Punch { who: A, off: 0, len: 40 * BLOCK });
    for i in 0..8 {
        let plan = crate::crash::Plan {
            // Half of these have a cache so small that a checkpoint follows the other.
            seed: 9 * i,
            blocks: 2048,
            window: i % 2 == 1,
            steps: usize::MAX,
            outcomes: 2,
            again: 1,
            before: 15 * i,
            journal: crate::crash::Journal::Inside,
        };
        crate::crash::history_after(&plan, &set_up, &ops)?;
    }
    Ok(())
}

/// Law B10: slices of a removal, and of a large truncate, in any crash.
pub fn b10_removal_goes_on_after_a_crash() -> Verdict {
    let mut set_up = vec![create(0)];
    set_up.extend(alternate(A, 30, 1));
    let open = Op::Open { slot: 0, name: 0 };
    let close = Op::Close { slot: 0 };
    let remove = Op::Remove { name: 0 };
    all(&set_up, &[remove.clone(), Op::SyncAll, create(2), Op::SyncAll])?;
    all(&set_up, &[open, remove, write(Who::Slot(0), 0, 1, 40), Op::SyncAll, close, Op::SyncAll])?;
    all(&set_up, &[cut(A, 8 * BLOCK), Op::SyncAll, write(A, 0, 8, 50), Op::SyncAll])?;
    let punch = Op::Punch { who: A, off: 10 * BLOCK, len: 700 * BLOCK };
    all(&set_up, &[punch, Op::SyncAll, create(2), Op::SyncAll])
}

/// Law B11: names come back as they were at one moment.
pub fn b11_names_are_a_serial_history() -> Verdict {
    let ops = [
        create(0),
        write(A, 0, 1, 1),
        Op::Reflink { who: A, to: 1 },
        Op::Sync { who: B },
        create(3),
        Op::Rename { from: 0, to: 1 },
        Op::Remove { name: 3 },
        Op::Rename { from: 1, to: 0 },
        Op::Reflink { who: A, to: 3 },
        Op::Sync { who: A },
        Op::Rename { from: 3, to: 0 },
    ];
    all(&[], &ops)
}

/// Law B12: blocks that others had show zeroes: set aside, behind the end, in holes.
pub fn b12_no_strangers_bytes() -> Verdict {
    let set_up = [
        create(0),
        bytes(A, 0, 900 * 1024, 1),
        Op::SyncAll,
        Op::Remove { name: 0 },
        Op::Checkpoint,
        Op::Checkpoint,
        create(1),
    ];
    let ops = [
        Op::Allocate { who: B, off: 100, len: 30 * BLOCK },
        Op::Look { who: B },
        bytes(B, 5 * BLOCK + 50, 10, 2),
        Op::Sync { who: B },
        bytes(B, 40 * BLOCK + 9, 10, 3),
        cut(B, 40 * BLOCK + 12),
        cut(B, 42 * BLOCK),
        Op::Look { who: B },
        bytes(B, 0, BLOCK, 4),
        cut(B, 1000),
        bytes(B, 3000, 10, 5),
        Op::Look { who: B },
    ];
    all(&set_up, &ops)
}

/// References, part D, 1: the second write to a new block is acknowledged, and
/// the crash loses both.
pub fn d1_a_second_write_to_a_new_block() -> Verdict {
    let set_up = [create(0), create(1), write(B, 0, 2, 1), Op::Reflink { who: B, to: 2 }];
    let ops = [
        write(A, 0, 1, 10),
        write(A, 0, 1, 11),
        Op::Sync { who: A },
        write(B, 1, 1, 12),
        write(B, 1, 1, 13),
        Op::Sync { who: B },
    ];
    all(&set_up, &ops)
}
