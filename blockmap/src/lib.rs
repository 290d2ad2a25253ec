//! Files on a reflink-aware, crash-safe block map.
//!
//! This crate knows files, extents, sharing, free space, the journal and
//! recovery. It knows devices only through the medium contract of
//! `freehold_engine::medium`, and contains no unsafe code.
#![forbid(unsafe_code)]

pub mod arbiter;
mod cache;
pub mod error;
pub mod format;
mod health;
mod journal;
mod lane;
mod lowering;
mod numbered;
mod quarantine;
mod reuse;
mod space;
mod tree;
mod txn;
mod volume;

use freehold_engine::sabotage;

pub use error::{Error, ErrorKind, Place, Result};
pub use lane::{Finished, LeaseShare, LeaseTag};
pub use volume::*;
