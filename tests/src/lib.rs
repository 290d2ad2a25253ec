//! What the specification tests share.

pub mod conformance;
pub mod crash;
pub mod fuzz;
pub mod history;
pub mod model;
pub mod random;
