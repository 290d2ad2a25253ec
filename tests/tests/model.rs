//! The public API against an in-memory oracle.
//!
//! `FREEHOLD_SEEDS=A..B cargo test -p freehold-tests --test model random` runs
//! these seeds; a failure prints its seed and the shortest history found.

use freehold_tests::model;
use freehold_tests::random::Seeds;
use std::time::Duration;

#[test]
fn random_histories() {
    let seeds = Seeds::of(Duration::from_secs(20));
    let n = seeds.run(model::seed);
    println!("{n} histories");
    assert!(seeds.asked_for() || n >= 20, "only {n} histories");
}
