//! Workloads of calls: look-ups and reflinks.

use super::measure::{BATCH, Measured, SHORT, TRIAL};
use super::{Args, Target};
use crate::failure::Outcome;
use crate::pattern::Rng;
use crate::verb::work::{self, BLOCK};
use freehold::{File, Stats};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Asks where random blocks of a file of many extents are.
pub(super) fn lookup(args: &Args, target: &Target, time: Duration) -> Outcome<(Measured, Stats)> {
    let file = target.create("extents")?;
    work::allocate_extents(&file, args.extents)?;
    target.store().checkpoint()?;
    for i in 0..TRIAL {
        look(&file, i % args.extents)?;
    }
    let before = target.store().stats();
    let seed = |i: u32| args.seed.wrapping_add(u64::from(i));
    let all = on_threads(args.threads, |i| {
        let mut rng = Rng::new(seed(i));
        calls(time, || look(&file, rng.below(args.extents)))
    })?;
    Ok((all, before))
}

/// Runs it on so many threads at once; it is given their numbers.
pub(super) fn on_threads(
    threads: u32,
    run: impl Fn(u32) -> Outcome<Measured> + Sync,
) -> Outcome<Measured> {
    let results = std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..threads).map(|i| scope.spawn(move || run(i))).collect();
        threads.into_iter().map(super::polled::joined).collect::<Outcome<Vec<_>>>()
    })?;
    let mut all = Measured::new();
    results.iter().for_each(|one| all.join(one));
    Ok(all)
}

#[inline]
fn look(file: &File, extent: u64) -> Outcome {
    black_box(file.extent_at(extent * 2 * BLOCK)?);
    Ok(())
}

/// Calls until the time is over, one by one or in batches.
pub(super) fn calls(time: Duration, mut call: impl FnMut() -> Outcome) -> Outcome<Measured> {
    let trial = Instant::now();
    for _ in 0..TRIAL {
        call()?;
    }
    let short = trial.elapsed() / (TRIAL as u32) < SHORT;
    let count = if short { BATCH } else { 1 };
    let mut measured = Measured::new();
    let start = Instant::now();
    let mut now = start;
    while now - start < time {
        for _ in 0..count {
            call()?;
        }
        let end = Instant::now();
        measured.record(end - now, count);
        now = end;
    }
    measured.elapsed = now - start;
    Ok(measured)
}

/// Reflinks a file of many extents, durably. The copies are removed in
/// between, which is not timed.
pub(super) fn reflink(args: &Args, target: &Target, time: Duration) -> Outcome<(Measured, Stats)> {
    const KEPT: usize = 64;
    let source = target.create("extents")?;
    work::allocate_extents(&source, args.extents)?;
    let store = target.store();
    store.checkpoint()?;
    let names: Vec<_> = (0..KEPT).map(|i| target.name(&format!("copy-{i}"))).collect();
    let mut measured = Measured::new();
    // Device work of removals would blur the figures per operation.
    let mut before = store.stats();
    let begin = Instant::now();
    while begin.elapsed() < time {
        for name in &names {
            let start = Instant::now();
            let copy = source.reflink(name)?;
            copy.sync()?;
            let elapsed = start.elapsed();
            measured.record(elapsed, 1);
            measured.elapsed += elapsed;
        }
        let removal = store.stats();
        for name in &names {
            store.remove(name)?;
        }
        store.checkpoint()?;
        let after = store.stats();
        before.device_writes += after.device_writes - removal.device_writes;
        before.device_flushes += after.device_flushes - removal.device_flushes;
    }
    Ok((measured, before))
}
