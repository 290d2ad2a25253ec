//! `freehold mv`: rename a file.

use super::change;
use crate::failure::Outcome;
use crate::name;
use std::ffi::OsString;

/// Rename a file, replacing atomically.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// The file
    from: OsString,
    /// Its new name; a file that has it is replaced
    to: OsString,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let (from, to) = (name::given(&args.from)?, name::given(&args.to)?);
    change(&args.uri, |store| Ok(store.rename(from, to)?))
}
