//! Is a device or file free to be formatted? Looking only, never writing.
//!
//! `signatures` knows what others write on their devices, `system` knows what
//! the kernel does with a device. What to do about the answer is decided in
//! `open`. `medium` reads what only queues reach.

mod medium;
mod signatures;
mod system;

pub(crate) use medium::MediumSource;
pub(crate) use signatures::{Source, signature};
pub(crate) use system::{System, parse_number};
