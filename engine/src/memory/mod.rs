//! The memory that devices read and write, and that the CPU shares with others.
//!
//! A [`Pool`] hands out [`Buffer`]s: 4096-aligned memory that a device may use
//! while an operation owns the buffer. `shared` holds memory that several
//! threads read and write at once, by copies; a [`WindowMemory`] is a handle to it, and
//! a [`View`] the way to references into it, which exist only while a pin does and
//! the view has booked its blocks; where a window has a file, `side` lays a view's pieces
//! side by side. `wiped` counters are found zero by a forked child.
//!
//! A pool may have a device behind it ([`Pool::backed`]): then its memory is sealed
//! files that the device is told of, [`DmaPages`] are what the device and the driver
//! both write, [`Adopted`] memory is the caller's own, and addresses come from
//! [`iova`]. The other side of that is [`PeerMemory`]: what a device that is served by
//! this process was given. Only the engine's own memory is ever given to a peer (law
//! M4).
//!
//! This module is the only place where a pointer becomes a slice; `foreign` does so for callers
//! in other languages.
//! How a device is told of memory is not here but with the transport.

mod adopt;
mod backing;
mod buffer;
mod copy;
mod dma;
pub mod foreign;
pub mod iova;
mod ledger;
pub mod limits;
mod map;
mod peer;
mod persist;
mod pool;
mod populate;
mod ranges;
mod reach;
mod ring;
mod salvage;
mod sealed;
mod shared;
mod side;
mod slab;
mod stream;
#[cfg(test)]
mod test_rng;
#[cfg(test)]
mod tests;
mod view;
mod window;
mod wiped;

pub use adopt::{Adopted, Page, Pages};
pub use backing::{Backing, RegionInfo};
pub use buffer::Buffer;
pub use dma::DmaPages;
pub use ledger::Access;
pub use peer::PeerMemory;
pub(crate) use persist::{Persistence, store_fence};
pub(crate) use pool::MAX_REGIONS;
pub use pool::{MAX_BUFFER, Pool};
pub use reach::Reach;
pub use ring::DmaRing;
#[cfg(any(test, feature = "sim"))]
pub(crate) use sealed::Sealed;
pub use sealed::huge_pages;
pub(crate) use sealed::{sealed_file, sealed_memory};
pub(crate) use shared::{Port, Refused, SharedMemory};
pub(crate) use stream::copy_private;
pub use view::{Booking, HeldBytes, View, ViewHold, ViewPin, ViewPinMut};
pub use window::{Piece, WindowMemory};
pub(crate) use wiped::wiped_pairs;
