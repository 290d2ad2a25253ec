//! Freehold for C and C++: `libfreehold` and `freehold.h`.
//!
//! The header is made from these sources, and its text is the documentation of each function:
//! what it is for, its parameters, which thread may call it, who owns what, and what goes
//! wrong. docs/ffi.md is the tour.
//!
//! `handle` keeps objects behind numbers, so that a misuse is told; `object` lists their kinds;
//! `fault` is the boundary that no panic crosses, `code` what it answers, `args` how structs,
//! texts and lists go over it. The other rooms are named after what they make callable. Nothing
//! is decided here: each function is one of the crate `freehold`.
#![expect(non_camel_case_types, reason = "the names of C types are C's")]
#![expect(clippy::missing_safety_doc, reason = "the contract of each function is its C text")]

mod args;
mod buffer;
mod code;
mod fault;
mod file;
mod handle;
mod info;
mod kept;
mod lease;
mod map;
mod object;
mod pin;
mod queue;
mod registration;
mod report;
#[cfg(feature = "rig")]
pub mod rig;
mod seal;
mod session;
mod stale;
mod store;

pub use buffer::*;
pub use code::*;
pub use fault::{fh_error_message, fh_error_name, fh_error_place};
pub use file::*;
pub use info::*;
pub use lease::*;
pub use map::*;
pub use object::*;
pub use pin::*;
pub use queue::*;
pub use registration::*;
pub use report::*;
pub use seal::*;
pub use session::*;
pub use stale::*;
pub use store::*;

/// Gives a store that was opened from Rust a handle, for a program in both languages. The handle
/// is one more of the store's.
///
/// # Panics
/// When four million handles are in use.
pub fn handle_of(store: freehold::Store) -> *mut fh_store {
    let mut handle = std::ptr::null_mut();
    // SAFETY: the place is a good one.
    let made = unsafe { object::give(&raw mut handle, store) };
    assert!(made.is_ok(), "no handle is left");
    handle
}
