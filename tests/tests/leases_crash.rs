//! Crashes at every write and flush of histories with leases, seals and fences at work.
//!
//! `FREEHOLD_SEEDS=A..B cargo test -p freehold-tests --test leases_crash` looks at all
//! crashes of these seeds.

use freehold_tests::leases::{leased_history, shore_history};
use freehold_tests::random::Seeds;
use freehold_tests::seeds::again;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn histories_of_leases() {
    let seeds = Seeds::of(Duration::from_secs(15));
    let points = AtomicU64::new(0);
    let n = seeds.run(|seed| {
        let found = leased_history(seed, 3);
        let found = found.map_err(|e| format!("{e}\n{}", again("leases_crash", seed)))?;
        points.fetch_add(found.0, Ordering::Relaxed);
        Ok(())
    });
    let points = points.into_inner();
    println!("{points} crashes of {n} histories");
    assert!(seeds.asked_for() || points >= 500, "only {points} crashes");
}

#[test]
fn r2_histories_on_a_window_behind_a_cache() {
    let seeds = Seeds::of(Duration::from_secs(8));
    let points = AtomicU64::new(0);
    let n = seeds.run(|seed| {
        let found = shore_history(seed);
        let found = found.map_err(|e| format!("{e}\n{}", again("leases_crash", seed)))?;
        points.fetch_add(found, Ordering::Relaxed);
        Ok(())
    });
    let points = points.into_inner();
    println!("{points} crashes of {n} histories");
    assert!(seeds.asked_for() || points >= 100, "only {points} crashes");
}
