//! Crashes: a history on the simulated medium, the medium as a crash at each
//! write and flush would leave it, and what recovery makes of that.
//!
//! A [`Story`] is a history that ran, with the state that the oracle had before
//! and after each operation. `judge` says whether a recovered store is one that
//! the laws allow; `run` chooses crashes, recovers, judges, goes on working and
//! crashes again. `beside` has threads instead of an oracle.

mod beside;
mod judge;
mod machine;
mod run;
mod story;

pub use beside::beside_seed;
pub use judge::judge;
pub use machine::{Journal, Machine};
pub use run::{Plan, apart_seed, case, everywhere, history, history_after, seed};
pub use story::Story;
