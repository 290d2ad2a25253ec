//! One test or more for each law of the block map and the media, from the
//! counter-example in the law's text, and for faults that other engines had.

use freehold_tests::cases;

#[track_caller]
fn holds(verdict: cases::Verdict) {
    if let Err(e) = verdict {
        panic!("{e}");
    }
}

#[test]
fn b1_shared_blocks_are_copied() {
    holds(cases::b1_shared_blocks_are_copied());
}

#[test]
fn b1_ranges_of_one_file() {
    holds(cases::b1_ranges_of_one_file());
}

#[test]
fn b2_a_lowering_that_is_not_durable_counts() {
    holds(cases::b2_a_lowering_that_is_not_durable_counts());
}

#[test]
fn b3_freed_blocks_wait() {
    holds(cases::b3_freed_blocks_wait());
}

#[test]
fn b3_a_read_in_flight_keeps_its_blocks() {
    holds(cases::b3_a_read_in_flight_keeps_its_blocks());
}

#[test]
fn b2_a_read_in_flight_shows_no_other_files_bytes() {
    holds(cases::b2_a_read_in_flight_shows_no_other_files_bytes());
}

#[test]
fn b5_a_read_in_flight_shows_no_moved_bytes() {
    holds(cases::b5_a_read_in_flight_shows_no_moved_bytes());
}

#[test]
fn b4_data_is_durable_before_its_record() {
    holds(cases::b4_data_is_durable_before_its_record());
}

#[test]
fn b4_atomic_writes_are_whole() {
    holds(cases::b4_atomic_writes_are_whole());
}

#[test]
fn b4_moved_blocks_are_where_the_map_says() {
    holds(cases::b4_moved_blocks_are_where_the_map_says());
}

#[test]
fn b5_no_effect_before_its_record() {
    holds(cases::b5_no_effect_before_its_record());
}

#[test]
fn b5_zeroed_blocks_keep_their_bytes() {
    holds(cases::b5_zeroed_blocks_keep_their_bytes());
}

#[test]
fn b5_zeroing_what_is_not_own() {
    holds(cases::b5_zeroing_what_is_not_own());
}

#[test]
fn b6_two_writes_of_one_block_survive() {
    holds(cases::b6_two_writes_of_one_block_survive());
}

#[test]
fn b5_what_was_moved_is_not_written_before_that_is_durable() {
    holds(cases::b5_what_was_moved_is_not_written_before_that_is_durable());
}

#[test]
fn b7_a_durable_write_is_there() {
    holds(cases::b7_a_durable_write_is_there());
}

#[test]
fn b7_the_log_does_not_bring_older_bytes_back() {
    holds(cases::b7_the_log_does_not_bring_older_bytes_back());
}

#[test]
fn b7_a_freed_block_belongs_to_its_next_file() {
    holds(cases::b7_a_freed_block_belongs_to_its_next_file());
}

#[test]
fn b7_a_reflink_of_logged_bytes_keeps_them() {
    holds(cases::b7_a_reflink_of_logged_bytes_keeps_them());
}

#[test]
fn b7_what_was_cut_off_does_not_come_back() {
    holds(cases::b7_what_was_cut_off_does_not_come_back());
}

#[test]
fn b7_two_crashes_in_a_row() {
    holds(cases::b7_two_crashes_in_a_row());
}

#[test]
fn b7_reading_only_shows_logged_bytes() {
    holds(cases::b7_reading_only_shows_logged_bytes());
}

#[test]
fn b7_late_bytes_are_found() {
    holds(cases::b7_late_bytes_are_found());
}

#[test]
fn b7_a_checkpoint_brings_late_bytes_home() {
    holds(cases::b7_a_checkpoint_brings_late_bytes_home());
}

#[test]
fn b7_late_bytes_written_again_on_their_way_home() {
    holds(cases::b7_late_bytes_written_again_on_their_way_home());
}

#[test]
fn b7_a_lost_write_home_loses_nothing() {
    holds(cases::b7_a_lost_write_home_loses_nothing());
}

#[test]
fn b7_readers_beside_homing() {
    holds(cases::b7_readers_beside_homing());
}

#[test]
fn b8_recovery_starts_again_from_the_checkpoint() {
    holds(cases::b8_recovery_starts_again_from_the_checkpoint());
}

#[test]
fn b9_files_are_changed_between_the_slices_of_a_checkpoint() {
    holds(cases::b9_files_are_changed_between_the_slices_of_a_checkpoint());
}

#[test]
fn b9_what_recovery_has_read_is_durable() {
    holds(cases::b9_what_recovery_has_read_is_durable());
}

#[test]
fn b9_a_short_group_over_a_long_one_is_whole() {
    holds(cases::b9_a_short_group_over_a_long_one_is_whole());
}

#[test]
fn b9_a_hole_in_the_journal_is_damage() {
    holds(cases::b9_a_hole_in_the_journal_is_damage());
}

#[test]
fn b9_an_older_superblock_is_refused_after_the_mark() {
    holds(cases::b9_an_older_superblock_is_refused_after_the_mark());
}

#[test]
fn b10_removal_goes_on_after_a_crash() {
    holds(cases::b10_removal_goes_on_after_a_crash());
}

#[test]
fn b11_names_are_a_serial_history() {
    holds(cases::b11_names_are_a_serial_history());
}

#[test]
fn b12_no_strangers_bytes() {
    holds(cases::b12_no_strangers_bytes());
}

#[test]
fn d1_a_second_write_to_a_new_block() {
    holds(cases::d1_a_second_write_to_a_new_block());
}

#[test]
fn d2_a_reported_reflink_does_not_change() {
    holds(cases::d2_a_reported_reflink_does_not_change());
}

#[test]
fn d5_every_sync_flushes() {
    holds(cases::d5_every_sync_flushes());
}

#[test]
fn d7_opening_reads_no_more_of_a_large_store() {
    holds(cases::d7_opening_reads_no_more_of_a_large_store());
}

#[test]
fn m1_a_device_that_lies_is_noticed() {
    holds(cases::m1_a_device_that_lies_is_noticed());
}

#[test]
fn m1_a_sync_beside_a_commit_flushes_its_own() {
    holds(cases::m1_a_sync_beside_a_commit_flushes_its_own());
}

#[test]
fn m1_syncs_cover_what_completed() {
    holds(cases::m1_syncs_cover_what_completed());
}

#[test]
fn m2_a_thread_that_never_polls() {
    holds(cases::m2_a_thread_that_never_polls());
}

#[test]
fn m3_after_a_loss_the_store_is_poisoned() {
    holds(cases::m3_after_a_loss_the_store_is_poisoned());
}
