//! A detector is proved by what it detects: with one law broken on purpose, in a
//! process of its own, the named cases, the crash test or the model must fail.
//!
//! Each row of [`BROKEN`] is a law that the block map leaves out when
//! `FREEHOLD_SABOTAGE` names it, and what must notice that. With nothing broken all
//! of them pass.
#![cfg(feature = "sabotage")]

use freehold_tests::{cases, crash, leases, model, nvme};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is broken, and who must notice: a case by name, or `crash`, `model`, `leased` (crashes
/// under leases), `killed` (the emulated controller loses its cache), `region` (that of its Persistent Memory
/// Region), `apart` (crashes with the journal on a medium of its own), `pmr` (the same, on a Persistent
/// Memory Region) or `stress` (of leases) with so many seeds.
const BROKEN: &[(&str, &str)] = &[
    ("keep-own-bits", "b1_shared_blocks_are_copied"),
    ("ignore-lowerings", "b2_a_lowering_that_is_not_durable_counts"),
    ("no-journal-flush", "crash 20"),
    ("no-checkpoint-barrier", "crash 20"),
    ("no-epochs", "b3_a_read_in_flight_keeps_its_blocks"),
    ("ignore-readers", "b2_a_read_in_flight_shows_no_other_files_bytes"),
    ("ignore-readers", "b5_a_read_in_flight_shows_no_moved_bytes"),
    ("no-drain", "d2_a_reported_reflink_does_not_change"),
    ("publish-before-data", "b4_data_is_durable_before_its_record"),
    ("early-reuse", "b3_freed_blocks_wait"),
    ("no-mark", "b9_an_older_superblock_is_refused_after_the_mark"),
    ("place-over-cut", "b5_no_effect_before_its_record"),
    ("split-atomic", "b4_atomic_writes_are_whole"),
    ("place-over-zero", "b5_zeroed_blocks_keep_their_bytes"),
    ("no-reservation", "b8_recovery_starts_again_from_the_checkpoint"),
    ("no-confirmation", "b9_a_hole_in_the_journal_is_damage"),
    ("place-over-move", "b5_what_was_moved_is_not_written_before_that_is_durable"),
    ("place-over-logged", "b7_the_log_does_not_bring_older_bytes_back"),
    ("log-no-data", "b7_a_durable_write_is_there"),
    ("forget-late", "b7_late_bytes_are_found"),
    ("checkpoint-before-home", "b7_a_checkpoint_brings_late_bytes_home"),
    ("keep-older-late", "b7_readers_beside_homing"),
    ("forget-the-cut", "b9_files_are_changed_between_the_slices_of_a_checkpoint"),
    ("keep-cut-tail", "b12_no_strangers_bytes"),
    ("no-drain", "a21_a_write_seal_waits_for_plain_writes_in_flight"),
    ("no-drain", "r5_a_stable_grant_waits_for_plain_writes_in_flight"),
    ("seal-undrained", "a21_a_write_seal_denies_drains_and_rolls_back"),
    ("no-quarantine", "b3_what_a_pin_sees_is_not_reused"),
    ("no-quarantine", "stress 4"),
    ("reuse-pinned", "a25_a_pin_holds_the_files_blocks"),
    ("reuse-pinned", "stress 4"),
    ("take-pinned", "r1_a_pinned_lease_is_not_taken"),
    ("take-pinned", "stress 4"),
    ("stay-under-writers", "r4_a_fence_that_moves_blocks_recalls_who_reads_them"),
    ("stay-under-writers", "stress 4"),
    ("no-ask", "d2_a_reflink_waits_for_flushes_in_flight"),
    ("no-ask", "a05_changing_bytes_recalls_stable_and_exclusive_only"),
    ("log-under-lease", "b7_logged_bytes_do_not_come_back_over_a_flush"),
    ("lease-over-logged", "b7_logged_bytes_do_not_come_back_over_a_flush"),
    ("no-journal-flush", "leased 60"),
    ("no-journal-flush", "killed 6"),
    ("no-region-barrier", "region 6"),
    ("no-journal-barrier", "apart 6"),
    ("no-journal-header-barrier", "apart 6"),
    ("no-journal-barrier", "pmr 6"),
    ("no-region-barrier", "pmr 6"),
    ("no-window-write-back", "r2_stores_are_written_back_before_anything_is_promised"),
    ("no-window-write-back", "shore 4"),
    ("no-store-barrier", "shore 4"),
    ("no-journal-barrier", "shore 4"),
    ("publish-before-data", "shore 8"),
    ("flushing-told-late", "m1_a_sync_beside_a_commit_flushes_its_own"),
    ("no-settling", "b9_what_recovery_has_read_is_durable"),
    ("keep-ring-ends", "b9_a_short_group_over_a_long_one_is_whole"),
];

/// A child that takes longer has noticed nothing.
const LONGEST: Duration = Duration::from_secs(120);

fn detect(detector: &str) -> Result<(), String> {
    let mut words = detector.split(' ');
    let name = words.next().unwrap_or_default();
    let seeds: u64 = words.next().map_or(0, |n| n.parse().expect("a number of seeds"));
    match name {
        "crash" => (0..seeds).try_for_each(|s| crash::seed(s, 40).map(drop)),
        "apart" => (0..seeds).try_for_each(|s| crash::apart_seed(s, 40).map(drop)),
        "pmr" => (0..seeds).try_for_each(|s| nvme::killed::journal_seed(s).map(drop)),
        "model" => (0..seeds).try_for_each(|s| model::seed(s).map(drop)),
        "killed" => (0..seeds).try_for_each(|s| nvme::killed::seed(s).map(drop)),
        "region" => (0..seeds).try_for_each(|s| nvme::killed::region_seed(s).map(drop)),
        "leased" => (0..seeds).try_for_each(|s| leases::leased_history(s, 2).map(drop)),
        "shore" => (0..seeds).try_for_each(|s| leases::shore_history(s).map(drop)),
        "stress" => (0..seeds).try_for_each(|s| {
            leases::stress(leases::Kind::Memory, s, Duration::from_millis(1500)).map(drop)
        }),
        _ => {
            let case = cases::ALL.iter().chain(leases::BY_NAME).find(|(n, _)| *n == name);
            case.expect("a case of that name").1()
        }
    }
}

/// Run by this program itself, with a law broken; by anybody else, with none.
#[test]
fn detector() {
    if let Ok(one) = std::env::var("FREEHOLD_DETECTOR") {
        return detect(&one).unwrap_or_else(|e| panic!("noticed: {e}"));
    }
    assert!(std::env::var_os("FREEHOLD_SABOTAGE").is_none(), "this run is to break nothing");
    for (_, one) in BROKEN {
        detect(one).unwrap_or_else(|e| panic!("{one} fails though nothing is broken: {e}"));
    }
}

/// Does the detector fail in a process where this is broken?
fn notices(broken: &str, detector: &str) -> Result<(), String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut child = Command::new(program)
        .args(["--exact", "detector", "--nocapture"])
        .env("FREEHOLD_SABOTAGE", broken)
        .env("FREEHOLD_DETECTOR", detector)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|e| e.to_string())?;
    let begun = Instant::now();
    loop {
        match child.try_wait().map_err(|e| e.to_string())? {
            // What libtest gives when a test failed.
            Some(status) if status.code() == Some(101) => return Ok(()),
            Some(status) => return Err(format!("{broken}: {detector} ends with {status}")),
            None if begun.elapsed() > LONGEST => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("{broken}: {detector} does not end"));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[test]
fn each_broken_law_is_noticed() {
    let missed: Vec<String> = BROKEN.iter().filter_map(|(b, d)| notices(b, d).err()).collect();
    assert!(missed.is_empty(), "not noticed:\n{}", missed.join("\n"));
}
