//! `freehold df`: how full a store is.

use super::open_to_read;
use crate::failure::Outcome;
use crate::{output, size, table};
use serde_json::json;

/// Show how full a store is.
///
/// Condemned space belonged to removed files and is being freed; reserved
/// space is kept for removal and for work in flight.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let space = open_to_read(&args.uri)?.space();
    if args.json {
        return output::json(&json!({
            "total": space.total,
            "free": space.free,
            "reserved": space.reserved,
            "condemned": space.condemned,
            "journal": space.journal,
        }));
    }
    let mut rows = table::new(&[">total", ">free", ">reserved", ">condemned", ">journal"]);
    rows.add_row(
        [space.total, space.free, space.reserved, space.condemned, space.journal].map(size::show),
    );
    table::print(&rows)
}
