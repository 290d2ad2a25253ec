//! `freehold truncate`: set a file's size.

use super::change;
use crate::failure::Outcome;
use crate::{name, size};
use std::ffi::OsString;

/// Set a file's size.
///
/// What lies past a smaller size is freed; a larger one adds a hole.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// The file
    name: OsString,
    /// Its new size
    #[arg(value_parser = size::parse)]
    size: u64,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let bytes = name::given(&args.name)?;
    change(&args.uri, |store| Ok(store.open_file(bytes)?.truncate(args.size)?))
}
