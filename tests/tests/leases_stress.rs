//! Leases under stress: holders that answer recalls promptly, late or never, beside threads
//! that truncate, punch, share, move, remove and reuse the same blocks.
//!
//! `FREEHOLD_SEEDS=A..B cargo test -p freehold-tests --test leases_stress` runs these seeds,
//! each for its time; a failure says how to run it again.

use freehold_tests::leases::{Kind, stress};
use freehold_tests::seeds;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

fn run(kind: Kind) {
    for seed in seeds::range(0..4) {
        let totals =
            stress(kind, seed, Duration::from_millis(3300)).unwrap_or_else(|e| panic!("{e}"));
        println!("{kind:?}, seed {seed}: {totals:?}");
        assert!(totals.operations.load(Relaxed) > 50, "hardly anything was done");
        assert!(totals.leases.load(Relaxed) > 20, "hardly a lease was given");
        assert!(kind != Kind::Memory || totals.stale.load(Relaxed) > 0, "nobody was stale");
    }
}

#[test]
fn on_memory() {
    run(Kind::Memory);
}

#[test]
fn on_a_file() {
    run(Kind::File);
}

#[test]
fn on_the_simulated_medium() {
    run(Kind::Sim);
}

#[test]
fn on_an_nvme_namespace() {
    run(Kind::Nvme);
}
