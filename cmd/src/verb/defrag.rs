//! `freehold defrag`: move a file's blocks together.

use super::change;
use crate::failure::Outcome;
use crate::{name, output, size, table};
use serde_json::json;
use std::ffi::OsString;

/// Move the blocks of a file, or of a range of it, together.
///
/// What lies in several places is moved where free space has a longer run; blocks
/// that other files share stay where they are. The bytes do not change.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// The file
    name: OsString,
    /// First byte
    #[arg(value_parser = size::parse, requires = "length")]
    offset: Option<u64>,
    /// How many bytes
    #[arg(value_parser = size::parse)]
    length: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let bytes = name::given(&args.name)?;
    let (offset, length) = (args.offset.unwrap_or(0), args.length.unwrap_or(u64::MAX));
    let done = change(&args.uri, |store| Ok(store.open_file(bytes)?.defrag(offset, length)?))?;
    if args.json {
        return output::json(&json!({
            "extents_before": done.extents_before,
            "extents_after": done.extents_after,
            "moved": done.moved,
        }));
    }
    table::pairs(&[
        ("extents before", size::count(done.extents_before)),
        ("extents after", size::count(done.extents_after)),
        ("moved", size::show(done.moved)),
    ])
}
