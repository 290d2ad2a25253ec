//! One suite for every medium: the medium contract, rule by rule.
//!
//! Each rule is a function that takes a way to make a fresh medium and panics
//! when the medium breaks the rule. [`run_all`] runs them all and names those
//! that failed. What a crash may do is not tested here (only the simulated
//! medium can crash on demand), nor what a single medium adds to the contract.

mod driver;
mod events;
mod model;
mod refusals;
mod threads;
mod transfers;
mod windows;

pub use driver::Driver;

use freehold_engine::medium::Medium;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Makes a medium that nobody else uses, of at least [`MIN_BLOCKS`] blocks,
/// with any content.
pub type Make<'a> = &'a dyn Fn() -> Arc<dyn Medium>;

/// Blocks that a medium under test has at least.
pub const MIN_BLOCKS: u64 = 2048;

/// A rule of the contract, by name.
pub type Rule = (&'static str, fn(Make<'_>));

/// All rules.
pub const RULES: &[Rule] = &[
    ("geometry_is_sound", refusals::geometry_is_sound),
    ("a_queue_has_the_depth_asked_for", refusals::a_queue_has_the_depth_asked_for),
    ("a_full_queue_gives_the_operation_back", refusals::a_full_queue_gives_the_operation_back),
    ("ranges_outside_are_refused", refusals::ranges_outside_are_refused),
    ("bad_lengths_are_refused", refusals::bad_lengths_are_refused),
    ("what_is_not_supported_is_refused", refusals::what_is_not_supported_is_refused),
    ("a_foreign_buffer_works_or_is_refused", refusals::a_foreign_buffer_works_or_is_refused),
    ("what_was_written_is_read", transfers::what_was_written_is_read),
    ("transfers_of_every_size_work", transfers::transfers_of_every_size_work),
    ("parts_of_a_buffer_are_buffers", transfers::parts_of_a_buffer_are_buffers),
    ("forced_writes_and_flushes_complete", transfers::forced_writes_and_flushes_complete),
    ("zeroes_are_written_and_neighbours_stay", transfers::zeroes_are_written_and_neighbours_stay),
    ("deallocation_leaves_the_neighbours", transfers::deallocation_leaves_the_neighbours),
    ("copies_are_copies", transfers::copies_are_copies),
    ("comparisons_find_each_difference", transfers::comparisons_find_each_difference),
    ("every_submission_completes_once", events::every_submission_completes_once),
    ("nothing_in_flight_means_no_waiting", events::nothing_in_flight_means_no_waiting),
    (
        "waiting_ends_when_something_can_be_polled",
        events::waiting_ends_when_something_can_be_polled,
    ),
    ("the_descriptor_tells_of_completions", events::the_descriptor_tells_of_completions),
    ("a_queue_outlives_its_medium", threads::a_queue_outlives_its_medium),
    ("a_queue_moves_between_threads", threads::a_queue_moves_between_threads),
    ("work_outlives_the_thread_that_began_it", threads::work_outlives_the_thread_that_began_it),
    ("queues_work_side_by_side", threads::queues_work_side_by_side),
    ("a_dropped_queue_keeps_its_memory", threads::a_dropped_queue_keeps_its_memory),
    ("a_write_of_one_queue_is_read_by_another", threads::a_write_of_one_queue_is_read_by_another),
    (
        "overlapping_writes_leave_one_of_each_sector",
        model::overlapping_writes_leave_one_of_each_sector,
    ),
    ("random_histories_match_the_model", model::random_histories_match_the_model),
    ("a_window_shows_what_queues_write", windows::a_window_shows_what_queues_write),
    ("a_window_ends_where_the_medium_does", windows::a_window_ends_where_the_medium_does),
    ("r5_a_view_keeps_writers_away", windows::r5_a_view_keeps_writers_away),
];

/// Runs every rule and panics with the names of those that failed. What each
/// of them said is printed by the panic hook before.
pub fn run_all(make: Make<'_>) {
    let failed: Vec<&str> = RULES
        .iter()
        .filter(|(_, rule)| catch_unwind(AssertUnwindSafe(|| rule(make))).is_err())
        .map(|(name, _)| *name)
        .collect();
    assert!(failed.is_empty(), "rules of the medium contract that are broken: {failed:?}");
}
