//! What the specification tests share. The tests themselves are in `tests/`.

pub mod fuzz;

/// The README's examples run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
