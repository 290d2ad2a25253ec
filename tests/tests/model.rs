//! The public API against an in-memory oracle.
//!
//! `FREEHOLD_SEEDS=A..B cargo test -p freehold-tests --test model random` runs
//! these seeds; a failure prints its seed and the shortest history found.

use freehold_tests::history::{Op, Who};
use freehold_tests::model::{self, Case};
use freehold_tests::random::Seeds;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn random_histories() {
    let seeds = Seeds::of(Duration::from_secs(12));
    let full = AtomicU64::new(0);
    let n = seeds.run(|seed| {
        full.fetch_add(model::seed(seed)?, Ordering::Relaxed);
        Ok(())
    });
    let full = full.into_inner();
    println!("{n} histories; {full} operations found the store full");
    assert!(seeds.asked_for() || (n >= 20 && full > 0), "{n} histories, {full} times full");
}

fn holds(ops: Vec<Op>) {
    for (memory, cache) in [(true, None), (false, None), (true, Some(16 << 10))] {
        let case = Case { seed: 1, blocks: 2048, memory, cache, ops: ops.clone() };
        model::run(&case).unwrap_or_else(|e| panic!("{e}"));
    }
}

const A: Who = Who::Name(0);
const B: Who = Who::Name(1);

#[test]
fn a_refused_range_keeps_the_targets_size() {
    holds(vec![
        Op::Create { name: 0 },
        Op::Create { name: 1 },
        Op::Write { who: B, off: 0, len: 5000, tag: 1 },
        Op::ReflinkRange { from: A, off: 8192, to: B, to_off: 16384, len: 4096 },
        Op::Look { who: B },
    ]);
}

#[test]
fn a_map_that_was_a_tree_may_become_empty() {
    holds(vec![
        Op::Create { name: 0 },
        Op::Scatter { who: A, first: 0, step: 2, count: 40, tag: 1 },
        Op::Checkpoint,
        Op::Truncate { who: A, size: 0 },
        Op::Checkpoint,
        Op::Reopen,
        Op::Write { who: A, off: 0, len: 100, tag: 2 },
    ]);
}

#[test]
fn a_write_that_finds_no_space_keeps_the_size() {
    let mut ops = vec![
        Op::Create { name: 0 },
        Op::Write { who: A, off: 0, len: 1000, tag: 1 },
        Op::Create { name: 1 },
    ];
    let len = 1000 * 1024;
    ops.extend((0..8).map(|i| Op::Write { who: B, off: i * len, len, tag: 2 }));
    ops.extend([Op::Write { who: A, off: 9000, len, tag: 3 }, Op::Look { who: A }]);
    holds(ops);
}
