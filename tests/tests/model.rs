//! The public API against an in-memory oracle.
//!
//! `FREEHOLD_SEEDS=A..B cargo test -p freehold-tests --test model random` runs
//! these seeds; a failure prints its seed and the shortest history found.

use freehold_tests::model;
use freehold_tests::random::Seeds;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[test]
fn random_histories() {
    let seeds = Seeds::of(Duration::from_secs(20));
    let full = AtomicU64::new(0);
    let n = seeds.run(|seed| {
        full.fetch_add(model::seed(seed)?, Ordering::Relaxed);
        Ok(())
    });
    let full = full.into_inner();
    println!("{n} histories; {full} operations found the store full");
    assert!(seeds.asked_for() || (n >= 20 && full > 0), "{n} histories, {full} times full");
}
