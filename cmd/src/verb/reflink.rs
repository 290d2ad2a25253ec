//! `freehold reflink`: a copy that shares its blocks.

use super::change;
use crate::failure::Outcome;
use crate::{name, output};
use serde_json::json;
use std::ffi::OsString;
use std::time::Instant;

/// Make a copy of a file that shares its blocks, in constant time.
///
/// Writes to either file later copy the blocks that they touch; the other
/// file never sees them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// The file
    from: OsString,
    /// The copy; no file may have this name
    to: OsString,
    /// Print the time from the call to its durable return as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let (from, to) = (name::given(&args.from)?, name::given(&args.to)?);
    let elapsed = change(&args.uri, |store| {
        let start = Instant::now();
        let copy = store.reflink(from, to)?;
        copy.sync()?;
        Ok(start.elapsed())
    })?;
    if args.json {
        return output::json(&json!({ "elapsed_us": elapsed.as_nanos() as f64 / 1e3 }));
    }
    Ok(())
}
