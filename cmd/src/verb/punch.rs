//! `freehold punch`: free a range of a file.

use super::change;
use crate::failure::Outcome;
use crate::{name, size};
use std::ffi::OsString;

/// Free a range of a file; it reads as zeroes.
///
/// The size stays. Blocks that the range covers in part are kept and their
/// bytes set to zero.
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
    change(&args.uri, |store| Ok(store.open_file(bytes)?.punch(args.offset, args.length)?))
}
