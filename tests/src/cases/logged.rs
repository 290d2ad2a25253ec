//! Law B7: small durable writes whose bytes travel in the journal, and all that
//! can happen to their blocks before a checkpoint ends that.

use super::{Verdict, demand, text};
use crate::crash::{Journal, Plan, everywhere, history_after};
use crate::history::{BLOCK, Op, When, Who};
use freehold::{OpenOptions, Store};
use freehold_engine::sim::{SimMedium, SimOptions, Survival};

const A: Who = Who::Name(0);
const B: Who = Who::Name(1);

fn logged(who: Who, off: u64, len: u64, tag: u32) -> Op {
    Op::Durable { who, off, len, tag }
}

fn plain(who: Who, off: u64, len: u64, tag: u32) -> Op {
    Op::Write { who, off, len, tag }
}

fn create(name: u8) -> Op {
    Op::Create { name }
}

fn all(set_up: &[Op], ops: &[Op]) -> Verdict {
    everywhere(set_up, ops, 6).map(|points| assert!(points > 0))
}

/// What a durable write has promised is there after any crash from then on:
/// appends, holes, blocks set aside, shared blocks, parts of blocks.
pub fn b7_a_durable_write_is_there() -> Verdict {
    let set_up = [create(0), plain(A, 0, 2 * BLOCK, 1), Op::Reflink { who: A, to: 1 }];
    let ops = [
        logged(A, 2 * BLOCK, 100, 2),
        logged(A, 2 * BLOCK + 100, 5000, 3),
        logged(B, 300, BLOCK, 4),
        Op::Allocate { who: B, off: 8 * BLOCK, len: 4 * BLOCK },
        logged(B, 9 * BLOCK, 2 * BLOCK, 5),
        logged(A, 40 * BLOCK + 9, 4 * BLOCK, 6),
        logged(B, 10 * BLOCK + 1, 12 * BLOCK, 7),
    ];
    all(&set_up, &ops)?;
    let parts = vec![(0, BLOCK), (3 * BLOCK, 2 * BLOCK), (8 * BLOCK, BLOCK), (9 * BLOCK, BLOCK)];
    let batch = |tag| Op::Batch { who: A, parts: parts.clone(), tag, sync: When::Each };
    all(&set_up, &[batch(8), batch(9)])
}

/// A plain write, synced, after a logged one to the same blocks: the journal that
/// still holds the older bytes must not bring them back.
pub fn b7_the_log_does_not_bring_older_bytes_back() -> Verdict {
    let set_up = [create(0), logged(A, 0, 3 * BLOCK + 50, 1)];
    let ops = [
        plain(A, BLOCK, BLOCK, 2),
        Op::Sync { who: A },
        plain(A, 0, 4 * BLOCK, 3),
        Op::Sync { who: A },
        logged(A, 2 * BLOCK, BLOCK, 4),
        plain(A, 2 * BLOCK + 7, 90, 5),
        Op::Sync { who: A },
        logged(A, 2 * BLOCK + 7, 90, 6),
    ];
    all(&set_up, &ops)?;
    // Through a queue: the way that looks at no lock.
    let queued =
        |tag, sync| Op::Batch { who: A, parts: vec![(0, BLOCK), (BLOCK, BLOCK)], tag, sync };
    all(&set_up, &[queued(2, When::After), queued(3, When::Each), queued(4, When::After)])
}

/// The block of a logged write is freed, and another file gets it.
pub fn b7_a_freed_block_belongs_to_its_next_file() -> Verdict {
    let mut set_up = vec![create(0)];
    for i in 0..20 {
        set_up.push(logged(A, i * 3 * BLOCK, 2 * BLOCK, 1 + i as u32));
    }
    // More than is free, so that what was freed must be used again.
    let fill = |at: u64, tag| plain(B, at * 1000 * 1024, 1000 * 1024, tag);
    let ops = [
        Op::Remove { name: 0 },
        create(1),
        fill(0, 50),
        fill(1, 51),
        fill(2, 52),
        Op::Sync { who: B },
        fill(3, 53),
        fill(4, 54),
        fill(5, 55),
        Op::Sync { who: B },
        plain(B, 0, 30 * BLOCK, 56),
        Op::Sync { who: B },
    ];
    everywhere(&set_up, &ops, 1).map(drop)
}

/// The block of a logged write is shared, and each side is written; then the one
/// that is left owns it alone.
pub fn b7_a_reflink_of_logged_bytes_keeps_them() -> Verdict {
    let set_up = [create(0), logged(A, 0, 2 * BLOCK, 1)];
    let ops = [
        Op::Reflink { who: A, to: 1 },
        plain(A, 0, BLOCK, 2),
        Op::Sync { who: A },
        Op::Remove { name: 0 },
        Op::SyncAll,
        plain(B, 0, 2 * BLOCK, 3),
        Op::Sync { who: B },
        logged(B, BLOCK, BLOCK, 4),
    ];
    all(&set_up, &ops)
}

/// A truncate cuts logged bytes off, and the file grows again: zeroes.
pub fn b7_what_was_cut_off_does_not_come_back() -> Verdict {
    let set_up = [create(0), logged(A, 0, 2 * BLOCK, 1)];
    let cut = |size| Op::Truncate { who: A, size };
    all(&set_up, &[cut(100), cut(3 * BLOCK), Op::Sync { who: A }, logged(A, 200, 20, 2)])?;
    all(&set_up, &[cut(BLOCK + 9), logged(A, 3 * BLOCK, 60, 2), plain(A, 50, 10, 3)])?;
    let punch = Op::Punch { who: A, off: 700, len: BLOCK };
    all(&set_up, &[punch, Op::Sync { who: A }, logged(A, 900, 4000, 2), cut(0), cut(5000)])
}

/// Crash, replay, crash again before a checkpoint, and on.
pub fn b7_two_crashes_in_a_row() -> Verdict {
    let ops = [
        logged(A, 0, 3 * BLOCK, 1),
        plain(A, BLOCK, BLOCK, 2),
        logged(A, BLOCK + 10, 30, 3),
        create(1),
        logged(B, 100, 9000, 4),
        Op::Sync { who: A },
    ];
    for seed in 0..16 {
        let plan = Plan {
            seed,
            blocks: 2048,
            window: seed % 2 == 1,
            steps: usize::MAX,
            outcomes: 2,
            again: 2,
            before: 9 * seed,
            journal: if seed % 4 < 2 { Journal::Inside } else { Journal::Window },
        };
        history_after(&plan, &[create(0)], &ops)?;
    }
    Ok(())
}

/// A store that must not be written shows what was promised, and is not written.
pub fn b7_reading_only_shows_logged_bytes() -> Verdict {
    for seed in 0..40 {
        let sim = SimMedium::new(SimOptions { blocks: 2048, seed, ..Default::default() });
        let store = Store::format_on(sim.medium()).map_err(text)?;
        let file = store.create(b"f").map_err(text)?;
        let bytes: Vec<u8> = (0..9000u32).map(|i| (i * 7 + seed as u32) as u8).collect();
        sim.keep_crashes();
        file.write_durable_at(&bytes, 300).map_err(text)?;
        let written = sim.crashes();
        // The crash comes before the next write that is.
        store.create(b"g").and_then(|_| store.sync()).map_err(text)?;
        let left = sim.crash_of(written, Survival::Random, seed);
        let before = left.image();
        let how = OpenOptions { read_only: true, ..Default::default() };
        let store = Store::open_on(left.medium(), &how).map_err(text)?;
        let file = store.open_file(b"f").map_err(text)?;
        let mut got = vec![0; bytes.len()];
        file.read_at(&mut got, 300).map_err(text)?;
        demand(got == bytes, || format!("seed {seed}: other bytes than were promised"))?;
        let mut queue = store.queue(4).map_err(text)?;
        let buf = queue.buffer(BLOCK as usize).map_err(text)?;
        queue.read(&file, BLOCK, buf, 0).map_err(|_| "an empty queue takes no read".to_owned())?;
        let mut done = Vec::new();
        while queue.poll(&mut done) == 0 {}
        let got = done[0].buf.as_ref().map(|b| b.to_vec());
        let want = &bytes[BLOCK as usize - 300..][..BLOCK as usize];
        demand(got.as_deref() == Some(want), || format!("seed {seed}: a queue reads others"))?;
        let after = left.image();
        let same = (0..2048).all(|b| before.get(b)[..] == after.get(b)[..]);
        demand(same, || "a store opened for reading only was written".to_owned())?;
    }
    Ok(())
}
