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
    b6_own_operations_wait_for_what_is_in_flight_through_a_stale_lease,
    r4_a_fence_that_moves_blocks_recalls_who_reads_them,
    r4_a_fence_that_moves_blocks_waits_for_their_readers,
    b1_a_grant_for_writing_leaves_quarantined_blocks,
    r4_a_seal_against_writing_does_not_keep_a_file_on_its_blocks,
    d8_a_place_is_good_for_its_lease_and_length_only,
    a22_nothing_is_granted_to_a_session_that_has_ended,
    r3_dropping_waits_for_nothing_and_leaves_nothing,
    a23_a_stale_lease_is_good_again_when_it_is_refreshed,
}
