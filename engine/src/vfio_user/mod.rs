//! A PCI function over a socket: the protocol vfio-user, both ends of it.
//!
//! [`Client`] is a [`bus::Function`](crate::bus::Function) that a server serves: our own, or
//! a foreign one. [`server`] serves a [`server::Device`] to one client at a time. [`wire`]
//! is the protocol as data, `version` what both agree on first, `socket` one end of a
//! connection. Neither end trusts the other: lengths, counts and descriptors are bounded,
//! each request has its time, and whatever breaks the protocol ends the connection and
//! nothing else.
//!
//! The specification is QEMU's docs/interop/vfio-user.rst; see docs/nvme.md for who waits
//! for whom.

mod client;
pub mod server;
mod socket;
#[cfg(test)]
mod tests;
mod version;
pub mod wire;

pub use client::{Client, ClientOptions, Mapping, Timeouts};
