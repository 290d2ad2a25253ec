//! What the specification tests share.

pub mod conformance;
pub mod fuzz;
pub mod history;
pub mod model;
pub mod random;

/// The README's examples run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
