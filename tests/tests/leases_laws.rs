//! Invariants of references part A, laws and faults in the terms of leases, by number.

use freehold_tests::leases;

#[track_caller]
fn holds(verdict: freehold_tests::cases::Verdict) {
    if let Err(e) = verdict {
        panic!("{e}");
    }
}

macro_rules! named {
    ($($case:ident,)*) => { $(
        #[test]
        fn $case() {
            holds(leases::$case());
        }
    )* };
}

named! {
    b3_a_growth_that_moves_the_last_block_recalls_its_readers,
    a01_io_only_under_a_lease_that_is_held,
    a02_a_grant_is_never_narrower_and_never_is_not_later,
    a03_numbers_grow_and_are_never_0,
    a04_blocks_for_writing_are_durable_first,
    a05_changing_bytes_recalls_stable_and_exclusive_only,
    a06_recalled_and_revoked_are_told_apart,
    a07_a_recall_says_whether_to_flush,
    a08_what_is_gone_counts_as_returned,
    a09_nothing_is_returned_with_io_outstanding,
    a10_a_flush_that_was_synced_is_durable,
    a11_partial_returns_are_progress,
    a12_a17_the_ordinary_way_always_works,
    a13_a15_a_holder_has_the_time_that_it_was_promised,
    a22_holders_are_sessions,
    a14_a16_a_fence_waits_for_io_and_refuses_more,
    a18_only_what_was_not_synced_is_undefined,
    a19_shared_blocks_are_unshared_for_a_writable_lease,
    a20_a24_io_is_reaped_then_actions_run_then_it_is_over,
    a21_a_write_seal_denies_drains_and_rolls_back,
    a21_a_write_seal_waits_for_plain_writes_in_flight,
    r5_a_stable_grant_waits_for_plain_writes_in_flight,
    a23_own_operations_refresh_or_refuse,
    a25_a_pin_holds_the_files_blocks,
    a26_sealing_changes_no_map,
    b3_what_a_pin_sees_is_not_reused,
    r1_a_pinned_lease_is_not_taken,
    r2_stores_are_written_back_before_anything_is_promised,
    r4_a_window_is_taken_away_from_who_keeps_it,
    r5_a_slice_spans_extents_that_lie_apart,
    b5_a_truncate_is_durable_before_a_lease_on_its_block,
    b6_a_partial_write_waits_for_a_flush_in_flight,
    b7_logged_bytes_do_not_come_back_over_a_flush,
    b12_a_lease_shows_nobody_elses_bytes,
    b12_growth_over_a_shared_last_block_moves_it,
    d2_a_reflink_waits_for_flushes_in_flight,
    d4_a_fence_reports_a_command_when_the_device_is_done,
    r4_a_failed_action_leaves_the_operation_busy,
    r4_an_action_cannot_call_its_store,
    r4_an_action_that_does_not_return_keeps_nobody,
    r4_what_the_holder_took_back_is_not_called,
    r3_the_end_of_a_session_takes_everything,
    m2_deadlines_are_driven_by_who_waits,
    a_store_closes_when_its_leases_are_given_up,
    b6_own_operations_wait_for_what_is_in_flight_through_a_stale_lease,
    r4_a_fence_that_moves_blocks_recalls_who_reads_them,
    r4_a_fence_that_moves_blocks_waits_for_their_readers,
    b1_a_grant_for_writing_leaves_quarantined_blocks,
    r4_a_seal_against_writing_does_not_keep_a_file_on_its_blocks,
    d8_a_place_is_good_for_its_lease_and_length_only,
    a22_nothing_is_granted_to_a_session_that_has_ended,
    r3_dropping_waits_for_nothing_and_leaves_nothing,
    a23_a_stale_lease_is_good_again_when_it_is_refreshed,
    a23_a_refresh_goes_by_the_end_that_it_finds,
    a11_what_is_returned_during_a_refresh_stays_returned,
    a_wait_that_is_over_closes_no_circle,
    a_circle_is_one_of_sessions_and_not_of_threads,
    a_call_ends_when_its_store_is_given_up,
    m2_nothing_waits_for_what_its_store_gave_up,
    b7_a_lease_over_logged_bytes_of_a_read_only_store_is_refused,
    r4_a_move_does_not_wait_for_who_waits_for_it,
    r4_two_overdue_leases_of_one_session_are_fenced,
    r4_a_fence_that_fails_half_way_keeps_what_it_moved,
    r4_a_fence_that_fails_leaves_its_lease_recalled,
    a21_a_recall_that_is_withdrawn_is_so_for_delegates,
    r1_unflushed_bytes_of_what_is_cut_wholly_are_not_waited_for,
    who_gave_a_lease_back_may_ask_again_at_once,
    b10_a_lease_that_is_over_keeps_nothing,
}

/// A sync, and the end of a lease, write back what ended pins wrote through its window.
#[test]
fn r2_a_sync_writes_back_what_pins_wrote() {
    use freehold_blockmap::arbiter::Access;
    use freehold_blockmap::{FormatSpec, LeaseSpec, Volume};
    let medium = freehold_engine::format_target("mem:16M", &Default::default()).expect("memory");
    let vol = Volume::format(medium, &FormatSpec::default()).expect("a store");
    let file = vol.create(b"f").expect("a file");
    vol.write_at(&file, &[1; 16384], 0).expect("it writes");
    vol.sync().expect("it syncs");
    let spec = LeaseSpec { access: Access::Write, max_hold: std::time::Duration::ZERO };
    let lease = vol.lease(&file, &vol.default_session(), (0, 16384), spec).expect("a lease");
    let view = lease.view().expect("a window");
    let write = || view.pin().expect("it is held").store(4096, &[2; 100]).expect("inside");
    write();
    assert!(lease.write_back().expect("memory"), "a pin leaves a mark");
    assert!(!lease.write_back().expect("memory"));
    write();
    vol.sync_handle(&file).expect("it syncs");
    assert!(!lease.write_back().expect("memory"), "the sync has written it back");
}
