//! Seals and leases, proved: a small world in which each invariant, law and fault has
//! its own history, and a stress in which all of them meet.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `world` | a store with sessions, and the steps that histories are made of |
//! | `invariants`, `fences` | references part A, by number |
//! | `laws` | laws B and faults D in terms of leases |
//! | `retries` | fences that fail, recalls that are taken back |
//! | `actions` | registrations, ends of sessions, deadlines |
//! | `ends` | the end of a file under a lease |
//! | `leaving` | what a lease that is over leaves behind |
//! | `crashes` | crashes at every point of leased I/O, seals and fences |
//! | `windows` | leases on windows of many extents |
//! | `shores` | crashes of histories on a window behind a cache |
//! | `stress` | threads, stamps, stale holders |

mod actions;
mod crashes;
mod ends;
mod fences;
mod invariants;
mod laws;
mod leaving;
mod retries;
mod shores;
mod stale;
mod stress;
mod windows;
mod world;

pub use actions::*;

pub use ends::*;
pub use fences::*;
pub use invariants::*;
pub use laws::*;
pub use leaving::*;
pub use retries::*;
pub use stale::*;
pub use windows::*;

pub use crashes::{Points, leased_history};
pub use shores::shore_history;
pub use stress::{Kind, Totals, run as stress, run_at as stress_on};
pub use world::World;

use crate::cases::Case;

macro_rules! named {
    ($($case:ident,)*) => { &[$((stringify!($case), $case),)*] };
}

/// Those that a broken law must make fail, by name.
pub const BY_NAME: &[(&str, Case)] = named![
    a05_changing_bytes_recalls_stable_and_exclusive_only,
    a21_a_write_seal_denies_drains_and_rolls_back,
    a21_a_write_seal_waits_for_plain_writes_in_flight,
    a25_a_pin_holds_the_files_blocks,
    b3_what_a_pin_sees_is_not_reused,
    b7_logged_bytes_do_not_come_back_over_a_flush,
    d2_a_reflink_waits_for_flushes_in_flight,
    r1_a_pinned_lease_is_not_taken,
    r2_stores_are_written_back_before_anything_is_promised,
    r4_a_fence_that_moves_blocks_recalls_who_reads_them,
    r5_a_stable_grant_waits_for_plain_writes_in_flight,
];
