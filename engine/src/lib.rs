//! The devices under a Freehold store.
//!
//! `medium` is the waist: what every device promises, written as a
//! specification; `window` is the queue of media that are memory. `bus` is a PCI function and its registers; `vfio_user` carries one
//! over a socket, from both ends. `memory` is the memory that devices read and write.
//! `pin` counts what is in use and takes it back; `latch` is a lock that its owner enters
//! for nothing; `rcu` reads without a lock what may be
//! taken away. Each medium lives in a module of its own.
//! Nothing here knows what a file is.

pub mod bus;
#[cfg(feature = "sim")]
pub mod counting;
pub mod doctor;
pub mod emulator;
pub mod event;
pub mod file;
pub mod fork;
mod holder;
pub mod latch;
pub mod medium;
pub mod mem;
pub mod memory;
pub mod nvme;
mod open;
pub mod pci;
pub mod pin;
pub mod pmem;
mod probe;
pub mod rcu;
pub mod sabotage;
#[cfg(feature = "sim")]
pub mod sim;
pub mod uri;
pub mod vfio;
pub mod vfio_user;
mod window;

pub use holder::{HOLDER_BYTES, Holder};
pub use open::{FormatOptions, OpenOptions, check_target, format_target, open};
