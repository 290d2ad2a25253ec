//! Law B7: logged bytes that are in the journal and not yet in their own place. Who
//! reads, copies, shares, moves or frees such a block, and a checkpoint, which ends
//! the journal, must do right by them.

use super::{Verdict, demand, text};
use crate::crash::{Journal, Plan, everywhere, history_after};
use crate::history::{BLOCK, Op, When, Who};
use freehold::{ErrorKind, File, OpenOptions, Store};
use freehold_engine::sim::{FailPlan, OpKind, SimMedium, SimOptions, Survival};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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

fn look(who: Who) -> Op {
    Op::Look { who }
}

/// Every reader, and every verb that reads or moves a block, finds the late bytes.
pub fn b7_late_bytes_are_found() -> Verdict {
    let set_up = [create(0), logged(A, 0, 6 * BLOCK, 1)];
    let verbs = [
        vec![Op::Read { who: A, off: 0, len: 6 * BLOCK }, Op::Read { who: A, off: 777, len: 9000 }],
        // Copies of shared blocks, of parts of them, and of those set aside.
        vec![
            Op::Reflink { who: A, to: 1 },
            plain(A, 100, 200, 2),
            logged(B, BLOCK + 100, 200, 3),
            Op::Allocate { who: B, off: 3 * BLOCK, len: 2 * BLOCK },
            look(B),
            Op::Remove { name: 1 },
        ],
        vec![plain(A, BLOCK + 9, 20, 4), Op::Sync { who: A }, logged(A, 2 * BLOCK + 9, 3000, 5)],
        vec![Op::Atomic { who: A, parts: vec![(10, 20), (5 * BLOCK - 7, 90)], tag: 6 }],
        vec![Op::Zero { who: A, off: 300, len: 2 * BLOCK }, logged(A, BLOCK + 9, 20, 7)],
        vec![Op::Punch { who: A, off: 300, len: 2 * BLOCK }, logged(A, BLOCK + 9, 20, 8)],
        vec![
            Op::Truncate { who: A, size: 4 * BLOCK + 10 },
            Op::Truncate { who: A, size: 7 * BLOCK },
            logged(A, 4 * BLOCK + 200, 20, 9),
        ],
        vec![
            Op::Collapse { who: A, off: BLOCK, len: BLOCK },
            look(A),
            Op::Insert { who: A, off: 2 * BLOCK, len: 3 * BLOCK },
            plain(A, 0, 30 * BLOCK, 10),
        ],
        // In many places, and so moved together.
        vec![
            logged(A, 9 * BLOCK, BLOCK, 11),
            logged(A, 7 * BLOCK, BLOCK, 12),
            logged(A, 8 * BLOCK, BLOCK, 13),
            logged(A, 6 * BLOCK, BLOCK, 14),
            Op::Defrag { who: A, off: 0, len: 10 * BLOCK },
        ],
        vec![
            create(1),
            Op::ReflinkRange { from: A, off: BLOCK, to: B, to_off: 0, len: 3 * BLOCK },
            plain(B, 5, 9000, 15),
            look(B),
        ],
    ];
    for mut ops in verbs {
        ops.push(look(A));
        everywhere(&set_up, &ops, 1)?;
    }
    Ok(())
}

/// A checkpoint ends the journal: what only that held must be at home before.
pub fn b7_a_checkpoint_brings_late_bytes_home() -> Verdict {
    let set_up = [create(0), plain(A, 0, BLOCK, 1)];
    let ops = [
        logged(A, 0, 3 * BLOCK + 50, 2),
        Op::Checkpoint,
        look(A),
        logged(A, 3 * BLOCK + 50, 100, 3),
        logged(A, 3 * BLOCK + 150, 100, 4),
        Op::Checkpoint,
        logged(A, 3 * BLOCK + 20, 300, 5),
        Op::Truncate { who: A, size: 2 * BLOCK },
        Op::Checkpoint,
        look(A),
    ];
    everywhere(&set_up, &ops, 4).map(drop)
}

/// A checkpoint that begins by itself goes on in slices while its files are changed,
/// removed and made: it holds them as they were at its cut.
pub fn b9_files_are_changed_between_the_slices_of_a_checkpoint() -> Verdict {
    const LAST: u8 = 250;
    let write = |name: u8, tag: u32| match tag % 3 {
        0 => logged(Who::Name(name), 0, 700, tag),
        _ => plain(Who::Name(name), u64::from(tag % 5) * BLOCK, BLOCK, tag),
    };
    let mut ops: Vec<Op> = (0..=LAST).map(create).collect();
    ops.push(Op::SyncAll);
    for i in 0..60u8 {
        // From the last to the first, against the order of the slices.
        let name = LAST - i;
        ops.push(write(name, 1 + u32::from(i)));
        ops.push(if i % 7 == 3 { Op::Remove { name } } else { Op::Sync { who: Who::Name(name) } });
    }
    let points: Result<Vec<u64>, String> = (0..14)
        .map(|seed| {
            let plan = Plan {
                seed,
                blocks: 2048,
                window: false,
                steps: 30,
                outcomes: 1,
                again: 0,
                before: 4 * seed,
                journal: Journal::Inside,
            };
            history_after(&plan, &[], &ops).map_err(|e| format!("{plan:?}: {e}"))
        })
        .collect();
    points.map(drop)
}

/// More late blocks than are left to gather: they are brought home, and written again
/// while they are on their way.
pub fn b7_late_bytes_written_again_on_their_way_home() -> Verdict {
    let many = |first: u64, tag| {
        let parts = (0..16).map(|i| ((first + i * 4) * BLOCK, 4 * BLOCK)).collect();
        Op::Batch { who: A, parts, tag, sync: When::Each }
    };
    let ops = [many(0, 1), many(70, 2), logged(A, 10, 9000, 3), many(2, 4), look(A)];
    everywhere(&[create(0)], &ops, 1).map(drop)
}

/// A write home is lost: what it was to bring was promised, and stays promised.
pub fn b7_a_lost_write_home_loses_nothing() -> Verdict {
    for after in 0..6 {
        let sim = SimMedium::new(SimOptions { blocks: 2048, seed: after, ..Default::default() });
        let store = Store::format_on(sim.medium()).map_err(text)?;
        let file = store.create(b"f").map_err(text)?;
        store.checkpoint().map_err(text)?;
        let bytes: Vec<u8> = (0..20_000u32).map(|i| (i * 11 + after as u32) as u8).collect();
        for (i, piece) in bytes.chunks(1000).enumerate() {
            file.write_durable_at(piece, i as u64 * 1000).map_err(text)?;
        }
        let place = file.extent_at(0).map_err(text)?.address.ok_or("no block")? / BLOCK;
        demand(sim.peek(place).iter().all(|b| *b == 0), || "it is home at once".to_owned())?;
        sim.fail(FailPlan {
            kind: OpKind::Write,
            after,
            sticky: true,
            error: freehold_engine::medium::ErrorKind::Io,
        });
        let end = store.checkpoint().expect_err("a checkpoint writes");
        demand(end.kind() == ErrorKind::Poisoned, || format!("a lost write is reported as {end}"))?;
        let read = |file: &File| -> Result<Vec<u8>, String> {
            let mut got = vec![0; bytes.len()];
            file.read_at(&mut got, 0).map_err(text)?;
            Ok(got)
        };
        demand(read(&file)? == bytes, || "a poisoned store reads other bytes".to_owned())?;
        for survival in [Survival::Nothing, Survival::Random] {
            let left = sim.reopen_with(survival, after);
            let store = Store::open_on(left.medium(), &OpenOptions::default()).map_err(text)?;
            let file = store.open_file(b"f").map_err(text)?;
            demand(read(&file)? == bytes, || format!("lost with {survival:?}"))?;
        }
    }
    Ok(())
}

/// Bytes of a log of records: at each place what its number says.
fn log_bytes(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Threads append to logs, others read them, and checkpoints bring home: a reader finds
/// all that was reported as durable before it looked, wherever it is just then.
pub fn b7_readers_beside_homing() -> Verdict {
    let sim = SimMedium::new(SimOptions { blocks: 16 << 10, seed: 1, ..Default::default() });
    let store = Store::format_on(sim.medium()).map_err(text)?;
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for log in 0..3u64 {
            let file = store.create(format!("{log}").as_bytes()).map_err(text)?;
            let (store, over) = (&store, &over);
            threads.push(scope.spawn(move || -> Verdict {
                let done = AtomicU64::new(0);
                std::thread::scope(|inner| {
                    let reader = inner.spawn(|| read_along(store, &file, &done, over));
                    let written = write_log(&file, 300 + 700 * log as usize, &done);
                    over.store(true, Ordering::Release);
                    written.and(reader.join().unwrap_or_else(|_| Err("panic".into())))
                })
            }));
        }
        let checkpoints = scope.spawn(|| -> Verdict {
            while !over.load(Ordering::Acquire) {
                store.checkpoint().map_err(text)?;
            }
            Ok(())
        });
        threads.push(checkpoints);
        threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| Err("panic".into())))
    })?;
    let report = store.check().map_err(text)?;
    demand(report.clean(), || format!("{:?}", report.findings))
}

fn write_log(file: &File, record: usize, done: &AtomicU64) -> Verdict {
    for i in 0..700 {
        let at = i * record as u64;
        file.write_durable_at(&log_bytes(at, record), at).map_err(text)?;
        done.store(at + record as u64, Ordering::Release);
    }
    let mut all = vec![0; 700 * record];
    file.read_at(&mut all, 0).map_err(text)?;
    let wrong = all.iter().zip(log_bytes(0, all.len())).position(|(a, b)| *a != b);
    wrong.map_or(Ok(()), |at| Err(format!("byte {at} of {} is another", all.len())))
}

fn read_along(store: &Store, file: &File, done: &AtomicU64, over: &AtomicBool) -> Verdict {
    let mut queue = store.queue(4).map_err(text)?;
    let mut seen = Vec::new();
    while !over.load(Ordering::Acquire) {
        let end = done.load(Ordering::Acquire);
        let from = end.saturating_sub(20_000);
        let mut got = vec![0; (end - from) as usize];
        file.read_at(&mut got, from).map_err(text)?;
        demand(got == log_bytes(from, got.len()), || format!("{from}..{end}: other bytes"))?;
        // The last whole block, by the way that looks at no lock.
        let Some(block) = (end / BLOCK).checked_sub(1) else { continue };
        let buf = queue.buffer(BLOCK as usize).map_err(text)?;
        queue.read(file, block * BLOCK, buf, 0).map_err(|_| "an empty queue is full".to_owned())?;
        while queue.poll(&mut seen) == 0 {
            queue.wait(None).map_err(text)?;
        }
        let got = seen.remove(0).buf.ok_or("no buffer")?;
        let want = log_bytes(block * BLOCK, BLOCK as usize);
        demand(got[..] == want[..], || format!("block {block}: other bytes"))?;
    }
    Ok(())
}
