//! Named cases: each a counter-example from a law's text, as a function that
//! says what is wrong. The tests call them, and so do the sabotage builds, in
//! which the right ones must fail.

mod flights;
mod histories;
mod late;
mod logged;
mod media;

pub use flights::*;
pub use histories::*;
pub use late::*;
pub use logged::*;
pub use media::*;

/// What a case found.
pub type Verdict = Result<(), String>;

/// A case: begins with a store of its own.
pub type Case = fn() -> Verdict;

/// Fails with a text unless something holds.
fn demand(holds: bool, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(what()) }
}

/// Any error as a text.
fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

macro_rules! named {
    ($($case:ident,)*) => { &[$((stringify!($case), $case),)*] };
}

/// All cases, by name.
pub const ALL: &[(&str, Case)] = named![
    b1_shared_blocks_are_copied,
    b1_ranges_of_one_file,
    b2_a_lowering_that_is_not_durable_counts,
    b3_freed_blocks_wait,
    b4_data_is_durable_before_its_record,
    b4_atomic_writes_are_whole,
    b4_moved_blocks_are_where_the_map_says,
    b5_no_effect_before_its_record,
    b5_zeroed_blocks_keep_their_bytes,
    b5_zeroing_what_is_not_own,
    b5_what_was_moved_is_not_written_before_that_is_durable,
    b7_a_durable_write_is_there,
    b7_the_log_does_not_bring_older_bytes_back,
    b7_a_freed_block_belongs_to_its_next_file,
    b7_a_reflink_of_logged_bytes_keeps_them,
    b7_what_was_cut_off_does_not_come_back,
    b7_two_crashes_in_a_row,
    b7_reading_only_shows_logged_bytes,
    b7_late_bytes_are_found,
    b7_a_checkpoint_brings_late_bytes_home,
    b7_late_bytes_written_again_on_their_way_home,
    b7_a_lost_write_home_loses_nothing,
    b7_readers_beside_homing,
    b9_files_are_changed_between_the_slices_of_a_checkpoint,
    b8_recovery_starts_again_from_the_checkpoint,
    b10_removal_goes_on_after_a_crash,
    b11_names_are_a_serial_history,
    b12_no_strangers_bytes,
    d1_a_second_write_to_a_new_block,
    b3_a_read_in_flight_keeps_its_blocks,
    b2_a_read_in_flight_shows_no_other_files_bytes,
    b5_a_read_in_flight_shows_no_moved_bytes,
    b6_two_writes_of_one_block_survive,
    d2_a_reported_reflink_does_not_change,
    m2_a_thread_that_never_polls,
    m1_a_device_that_lies_is_noticed,
    b9_what_recovery_has_read_is_durable,
    b9_a_short_group_over_a_long_one_is_whole,
    m1_a_sync_beside_a_commit_flushes_its_own,
    m1_syncs_cover_what_completed,
    m3_after_a_loss_the_store_is_poisoned,
    b9_a_hole_in_the_journal_is_damage,
    b9_an_older_superblock_is_refused_after_the_mark,
    d5_every_sync_flushes,
    d7_opening_reads_no_more_of_a_large_store,
];
