//! What the tests of Freehold share.
//!
//! The tests themselves are in `tests/`; here is what more than one of them
//! needs. Nothing of this is part of the product.

pub mod conformance;
