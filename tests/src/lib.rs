//! What the specification tests share.

pub mod conformance;
pub mod fuzz;
pub mod seeds;
pub mod specimen;
