//! `freehold insert`: make room in a file.

use super::change;
use crate::failure::Outcome;
use crate::{name, size};
use std::ffi::OsString;

/// Make room in a file: what lies at the offset or behind it moves up.
///
/// Between is a hole, which reads as zeroes; the file gets longer by as much,
/// however large it is in the same time. Offset and length are multiples of 4K.
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
    change(&args.uri, |store| Ok(store.open_file(bytes)?.insert(args.offset, args.length)?))
}
