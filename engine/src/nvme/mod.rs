//! The NVMe driver: one controller and its namespaces, polled from user space.
//!
//! `spec` is the specification as data: what the registers, commands and structures
//! mean, for the driver and for the emulated controller alike.

pub mod spec;
