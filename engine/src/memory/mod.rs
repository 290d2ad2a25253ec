//! The memory that devices read and write, and that the CPU shares with others.
//!
//! A [`Pool`] hands out [`Buffer`]s: 4096-aligned memory that a device may use
//! while an operation owns the buffer. `shared` holds memory that several
//! threads read and write at once, by copies; a [`WindowMemory`] is a handle to it, and
//! a [`View`] the way to references into it, which exist only while a pin does and
//! the view has booked its blocks. `wiped` counters are found zero by a forked child.
//! This module is the only place of the engine where a pointer becomes a slice.
//! What a medium does with memory (registering it, mapping it for DMA) is not
//! here but with the medium.

mod buffer;
mod copy;
mod ledger;
mod map;
mod pool;
mod reach;
mod salvage;
mod shared;
mod view;
mod window;
mod wiped;

pub use buffer::Buffer;
pub use ledger::Access;
pub(crate) use pool::MAX_REGIONS;
pub use pool::{MAX_BUFFER, Pool};
pub use reach::Reach;
pub(crate) use shared::{Port, SharedMemory};
pub use view::{Booking, HeldBytes, View, ViewHold, ViewPin, ViewPinMut};
pub use window::{Piece, WindowMemory};
pub(crate) use wiped::wiped_pairs;
