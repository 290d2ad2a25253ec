//! NVMe by hand: a client of the emulator that shares no code with the driver, and
//! emulators to run it against.

pub mod initiator;
pub mod killed;
pub mod served;

pub use initiator::{Initiator, Place};
pub use served::Served;
