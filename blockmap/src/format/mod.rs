//! Every structure that lies on a medium, and nothing else.
//!
//! docs/format.md is the specification; a test holds it against these files.
//! Decoding never panics and never trusts a length: what does not fit is
//! [`FormatError`], with the reason.

pub mod types;
