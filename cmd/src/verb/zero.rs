//! `freehold zero`: make a range of a file read as zeroes.

use super::change;
use crate::failure::Outcome;
use crate::{name, size};
use std::ffi::OsString;

/// Make a range of a file read as zeroes; it keeps its blocks.
///
/// The size stays. Holes get blocks, and blocks that others share are replaced
/// by the file's own, so that writes to the range find space.
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
    change(&args.uri, |store| Ok(store.open_file(bytes)?.zero(args.offset, args.length)?))
}
