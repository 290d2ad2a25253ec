//! Laws B1 and B2 as a small executable model: is a block shared or not?
//!
//! The model is a store without bytes: files with copy-on-write trees of three
//! levels, exact counts with lowerings that are not yet durable, a journal with
//! a durable prefix, checkpoints cut at a record, removal in slices, reflinks
//! whole and in range, quarantine, eviction, and crashes. After every step of a
//! random history the fast path (own bits, stamps, share generations) and the
//! slow path (nodes and counts) are asked about every block of every file, and
//! an oracle, which walks the trees of every state that a crash could bring
//! back, says who may reach the block. Neither path may call a block unshared
//! that anyone else reaches, *anyone* being another file or another offset of
//! the same file; and when all is durable the slow path must be exact.
//!
//! # What the implementer should know
//!
//! The laws hold as they stand: no history was found in which the fast path as
//! law B1 words it lies. But the words can be read in ways that do lie. Each of
//! these has a short history in `named.rs` and is held by a test below:
//!
//! 1. **A move is a raise and a lowering** (B2). A child that goes from one node
//!    to another (merge, split, a root that loses a level) keeps its exact count,
//!    yet the move must add one lowering that is not durable. Else: B lets go of a
//!    node N that it shares with A, so N counts one, with one lowering pending; A
//!    merges N away; the path to N's blocks is now clean, the slow path says
//!    "unshared", and a crash gives N back to B.
//! 2. **The counter and the generations of both files rise as one** (B1), before
//!    the reflink touches any leaf. A leaf that is stamped with the new counter
//!    while its file still has its old generation keeps its bits and then looks
//!    current. It takes only one file: a range reflink within it.
//! 3. **A checkpoint writes the stamps and bits of its cut** (B1), not later ones,
//!    though no record stands for them. The counter goes back in a crash; a stamp
//!    that did not go back equals a generation that is given out again.
//! 4. **Quarantine clears bits for good** (B1): the leaf is dirty, or a clean leaf
//!    that is evicted and read back has its bit again. Bits that a look-up sets, and
//!    stamps with the bits they cleared, may be lost together with no harm.
//! 5. **An own bit speaks for a whole extent** (B1): a look-up sets it only when
//!    every block of the extent is unshared, or splits the extent.
//! 6. **A look-up sets its bit only if neither the leaf nor its stamp has changed
//!    since it walked** (B1), or it does both under the lock that reflink and
//!    quarantine take. Look-ups write no record, so law B11 does not order them.
//! 7. **Collapse and insert are not B1's business but B5's**: all counts are one, and
//!    yet the block may not be written in place before the record that moved it is
//!    durable, or a crash shows new bytes at an old offset. One number per file (the
//!    last record that moved its blocks) is enough, on both paths.
//!
//! Two things that the law asks for were not needed: leaves that move whole, with
//! their parent (merge and split of inner nodes), may keep their bits and stamp;
//! and a leaf that other paths share may be stamped by any look-up.
//!
//! Reuse here is bound to the durable record and to quarantine alone (the part of
//! B3 that B1 needs), so that blocks come back as early as they ever could.
//! Condemned files count as owners until their slices lower them.
//!
//! # Running it
//!
//! `FREEHOLD_SEEDS=0..1000000 cargo test -p freehold-tests --test sharing_model`
//! for a longer run. A failure prints its seed and the shortest history that
//! still fails (after its last step every file but the first is removed, slice
//! by slice, and what is left must be writable in place).

mod sharing_model {
    pub(crate) mod apply;
    pub(crate) mod decide;
    pub(crate) mod history;
    pub(crate) mod named;
    pub(crate) mod oracle;
    pub(crate) mod rules;
    pub(crate) mod run;
    pub(crate) mod state;
    pub(crate) mod tree;
}

use sharing_model::rules::{BROKEN, Break, Fault};
use sharing_model::run::{Op, Run, Stats};
use sharing_model::{history, named};
use std::ops::Range;
use std::thread;

/// Seeds of a run: `FREEHOLD_SEEDS=FROM..TO`, or as many as a test takes by itself.
fn seeds(default: u64) -> Range<u64> {
    let Ok(text) = std::env::var("FREEHOLD_SEEDS") else { return 0..default };
    let range = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    range.unwrap_or_else(|| panic!("FREEHOLD_SEEDS must be FROM..TO, not {text:?}"))
}

/// Runs every seed of a range and adds up what was done.
fn histories(seeds: Range<u64>) -> Stats {
    let mut sum = Stats::default();
    for seed in seeds {
        match history::run(seed, Break::Nothing) {
            Ok(stats) => sum.add(&stats),
            Err(failure) => {
                let steps = failure.history.len();
                let short = history::shrink(failure, Break::Nothing);
                panic!(
                    "seed {seed}: {} after {steps} steps; shortest history:\n{:#?}\n\
                     again: FREEHOLD_SEEDS={seed}..{} cargo test -p freehold-tests \
                     --test sharing_model b1_b2_hold",
                    short.fault.text,
                    short.history,
                    seed + 1,
                );
            }
        }
    }
    sum
}

#[test]
fn b1_b2_hold_in_random_histories() {
    let all = seeds(20_000);
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let share = (all.end - all.start).div_ceil(threads).max(1);
    let parts = (0..threads).map(|i| {
        let start = (all.start + i * share).min(all.end);
        start..(start + share).min(all.end)
    });
    let sum = thread::scope(|scope| {
        let running: Vec<_> = parts.map(|part| scope.spawn(|| histories(part))).collect();
        let mut sum = Stats::default();
        for thread in running {
            match thread.join() {
                Ok(stats) => sum.add(&stats),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        sum
    });
    // A run in which nothing was ever unshared, or nothing ever crashed, proves nothing.
    let runs = all.end - all.start;
    assert!(runs < 100 || sum.fast > 100 * runs, "the fast path hardly ever spoke: {sum:?}");
    assert!(runs < 100 || sum.in_place > runs, "hardly a write went in place: {sum:?}");
    assert!(runs < 100 || sum.copied > runs, "hardly a block was copied: {sum:?}");
    assert!(runs < 100 || sum.crashes > runs, "hardly a crash: {sum:?}");
    assert!(runs < 100 || sum.regained > runs, "hardly a block was regained: {sum:?}");
}

#[test]
fn b1_b2_detect_each_broken_rule() {
    const BOUND: u64 = 2_000;
    for broken in BROKEN {
        let fault = match named::history(broken.rule) {
            Some(steps) => steps_of(&steps, broken.rule).err(),
            None => {
                (0..BOUND).find_map(|seed| history::run(seed, broken.rule).err().map(|f| f.fault))
            }
        };
        let Some(fault) = fault else { panic!("{:?} was not noticed", broken.rule) };
        assert!(broken.by.contains(&fault.kind), "{:?} was noticed as {fault:?}", broken.rule);
    }
}

/// Runs the steps of a named history and nothing after them.
fn steps_of(steps: &[Op], broken: Break) -> Result<(), Fault> {
    let mut run = Run::new(broken);
    steps.iter().try_for_each(|op| run.step(op))
}

#[test]
fn b1_b2_named_histories_hold() {
    let mut named = 0;
    for broken in BROKEN {
        if let Some(steps) = named::history(broken.rule) {
            let result = history::replay(&steps, Break::Nothing);
            assert!(result.is_ok(), "the history of {:?}: {:?}", broken.rule, result.err());
            named += 1;
        }
    }
    assert_eq!(named, 7, "a named history is missing");
}

#[test]
fn b1_owner_regains_in_place_writes() {
    let mut run = Run::new(Break::Nothing);
    let write = Op::Write { file: 1, at: 0, len: 1 };
    for op in named::removed_reflink() {
        run.step(&op).expect("the removal");
    }
    let before = run.stats;
    run.step(&Op::Look { file: 1, at: 1 }).expect("a look-up");
    run.step(&write).expect("a write before the removal is durable");
    assert_eq!((run.stats.in_place, run.stats.copied), (before.in_place, before.copied + 1));
    run.step(&Op::Sync { late: 0 }).expect("a sync");
    let before = run.stats;
    run.step(&Op::Write { file: 1, at: 1, len: 3 }).expect("a write after it");
    assert_eq!((run.stats.in_place, run.stats.copied), (before.in_place + 3, before.copied));
}
