//! The suites of other media, on controllers over VFIO.

use crate::place::{FIRST, long, namespace, region, second};
use freehold_engine::medium::Medium;
use freehold_engine::{FormatOptions, OpenOptions, format_target, open};
use freehold_tests::conformance::run_all;
use freehold_tests::leases::stress_on;
use freehold_tests::model;
use freehold_tests::nvme::killed;
use freehold_tests::random::Random;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Opens namespaces one after the other, so that a rule finds one that nobody has.
fn conforms(bdf: &str, namespaces: u32) {
    let next = AtomicU32::new(0);
    run_all(&|| {
        let ns = 1 + next.fetch_add(1, Ordering::Relaxed) % namespaces;
        open(&namespace(bdf, ns), &OpenOptions::default()).expect("it opens")
    });
}

#[test]
fn vfio_conformance_of_blocks_of_4096() {
    conforms(FIRST, 4);
}

#[test]
fn vfio_conformance_of_blocks_of_512() {
    conforms(&second(), 1);
}

#[test]
fn vfio_conformance_of_a_region() {
    run_all(&|| open(&region(), &OpenOptions::default()).expect("it opens"));
}

/// A medium to be written anew.
fn fresh(uri: &str) -> Arc<dyn Medium> {
    let options = FormatOptions { force: true, ..FormatOptions::default() };
    format_target(uri, &options).expect("it opens")
}

/// A story of stores, then what is there.
fn keeps(uri: &str) {
    drop(fresh(uri.split("&journal=").next().expect("a first part")));
    let mut promises = killed::prepare(uri).expect("a new store");
    killed::work(uri, &mut promises, &mut Random::new(3), 150, |_| {});
    killed::judge(uri, &mut promises).expect("it is all there");
    assert!(promises.syncs > 10, "only {} syncs", promises.syncs);
}

#[test]
fn vfio_a_store_keeps_what_it_is_given() {
    keeps(&namespace(FIRST, 2));
    keeps(&namespace(&second(), 1));
}

#[test]
fn vfio_a_store_keeps_its_journal_on_the_region() {
    drop(fresh(&region()));
    keeps(&format!("{}&journal=pmr", namespace(FIRST, 3)));
}

#[test]
fn vfio_a_store_on_the_region_keeps_what_it_is_given() {
    keeps(&region());
}

#[test]
fn vfio_random_histories_match_the_model() {
    let count = if long() { 40 } else { 4 };
    // Of each kind but those that want a full store, which this one is too large for.
    for seed in (2..).filter(|seed| seed % 8 > 1).take(count) {
        let case = model::case(seed);
        let medium = fresh(&namespace(FIRST, 1 + seed as u32 % 4));
        model::run_on(medium, &case).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

fn stressed(uri: &str, window: bool) {
    let time = Duration::from_secs(if long() { 60 } else { 5 });
    for seed in 0..if long() { 4 } else { 1 } {
        let totals = stress_on(fresh(uri), window, seed, time).unwrap_or_else(|e| panic!("{e}"));
        println!("{uri}: {totals:?}");
        assert!(totals.leases.load(Ordering::Relaxed) > 20, "hardly a lease was given");
        let used = totals.stale.load(Ordering::Relaxed) + totals.commands.load(Ordering::Relaxed);
        assert!(used > 0, "hardly a lease was used");
    }
}

#[test]
fn vfio_leases_are_never_stale() {
    stressed(&namespace(FIRST, 4), false);
}

#[test]
fn vfio_leases_on_the_region_are_never_stale() {
    stressed(&region(), true);
}
