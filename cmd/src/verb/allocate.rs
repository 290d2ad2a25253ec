//! `freehold allocate`: give a range of a file blocks of its own.

use super::change;
use crate::failure::Outcome;
use crate::{name, size};
use std::ffi::OsString;

/// Allocate a range of a file, unshared.
///
/// Holes become unwritten blocks, which read as zeroes; shared blocks are
/// copied. Later writes to the range cannot run out of space.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// The file
    name: OsString,
    /// First byte
    #[arg(value_parser = size::parse)]
    offset: u64,
    /// How many bytes
    #[arg(value_parser = size::parse)]
    length: u64,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let bytes = name::given(&args.name)?;
    change(&args.uri, |store| Ok(store.open_file(bytes)?.allocate(args.offset, args.length)?))
}
