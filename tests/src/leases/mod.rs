//! Seals and leases, proved: a small world in which each invariant, law and fault has
//! its own history, and a stress in which all of them meet.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `world` | a store with sessions, and the steps that histories are made of |
//! | `invariants`, `fences` | references part A, by number |
//! | `laws` | laws B and faults D in terms of leases |
//! | `actions` | registrations, ends of sessions, deadlines |
//! | `crashes` | crashes at every point of leased I/O, seals and fences |
//! | `stress` | threads, stamps, stale holders |

mod actions;
mod crashes;
mod fences;
mod invariants;
mod laws;
mod stale;
mod stress;
mod world;

pub use actions::*;

pub use fences::*;
pub use invariants::*;
pub use laws::*;
pub use stale::*;

pub use stress::{Kind, Totals, run as stress};
pub use world::World;
