//! An emulated NVMe controller.

mod config;
mod controller;
mod disk;
mod doorbell;
mod fault;
mod guest;
mod options;
mod queue;
mod random;
mod transfer;

pub use disk::Backing;
pub use fault::Fault;
pub use options::{MAX_NAMESPACES, MAX_QUEUES, Options, Profile};
