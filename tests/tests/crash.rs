//! Crashes at writes and flushes of random histories, recovered and compared
//! with what was promised.
//!
//! By default a sample of the crashes of as many histories as the time allows;
//! `FREEHOLD_SEEDS=A..B cargo test -p freehold-tests --test crash random` looks at
//! all crashes of these seeds. A failure prints the seed and the shortest history
//! found.

use freehold_tests::crash;
use freehold_tests::random::Seeds;
use freehold_tests::seeds::again;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn random_histories() {
    let seeds = Seeds::of(Duration::from_secs(20));
    let steps = if seeds.asked_for() { usize::MAX } else { 40 };
    let points = AtomicU64::new(0);
    let n = seeds.run(|seed| {
        points.fetch_add(crash::seed(seed, steps)?, Ordering::Relaxed);
        Ok(())
    });
    let points = points.into_inner();
    println!("{points} crashes of {n} histories");
    assert!(seeds.asked_for() || points >= 500, "only {points} crashes");
}

#[test]
fn apart() {
    let seeds = Seeds::of(Duration::from_secs(8));
    let steps = if seeds.asked_for() { usize::MAX } else { 40 };
    let points = AtomicU64::new(0);
    let n = seeds.run(|seed| {
        points.fetch_add(crash::apart_seed(seed, steps)?, Ordering::Relaxed);
        Ok(())
    });
    let points = points.into_inner();
    println!("{points} crashes of {n} histories with the journal on a medium of its own");
    assert!(seeds.asked_for() || points >= 300, "only {points} crashes");
}

#[test]
fn threads_beside_each_other_on_a_window() {
    let seeds = Seeds::of(Duration::from_secs(8));
    let writes = AtomicU64::new(0);
    let n = seeds.run(|seed| {
        let found = crash::beside_seed(seed);
        let found = found.map_err(|e| format!("{e}\n{}", again("crash", seed)))?;
        writes.fetch_add(found, Ordering::Relaxed);
        Ok(())
    });
    let writes = writes.into_inner();
    println!("{n} crashes of three threads, {writes} writes before them");
    assert!(seeds.asked_for() || writes >= 1000, "only {writes} writes");
}
