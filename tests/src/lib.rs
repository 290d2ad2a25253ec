//! What the specification tests share.

pub mod conformance;
pub mod fuzz;
