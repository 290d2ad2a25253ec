//! Specification tests live in `tests/`. Here stands only what makes the
//! examples of the README run as tests.

/// The README's examples.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
