//! What the specification tests share.

pub mod cases;
pub mod conformance;
pub mod crash;
pub mod fuzz;
pub mod golden;
pub mod history;
pub mod leases;
pub mod model;
pub mod nvme;
pub mod random;
pub mod seeds;
pub mod specimen;
pub mod vfio_user;

/// The README's examples run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
