//! `freehold df`: how full a store is.

use super::open_to_read;
use crate::failure::Outcome;
use crate::{output, size, table};
use serde_json::json;

/// Show how full a store is.
///
/// Condemned space belonged to removed files and is being freed; reserved
/// space is kept for removal and for work in flight; quarantined space is free
/// but for those who had leases on it and have not let go. A journal apart is on a medium
/// of its own; the store keeps room for one all the same.
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
            "journal_apart": space.journal_apart,
            "quarantined": space.quarantined,
            "withheld": space.withheld,
        }));
    }
    let mut names = vec![">total", ">free", ">reserved", ">condemned", ">journal", ">quarantined"];
    let freehold::Space { total, free, reserved, condemned, journal, quarantined, .. } = space;
    let mut sizes = vec![total, free, reserved, condemned, journal, quarantined];
    if space.journal_apart > 0 {
        names.push(">journal apart");
        sizes.push(space.journal_apart);
    }
    let mut rows = table::new(&names);
    rows.add_row(sizes.into_iter().map(size::show));
    table::print(&rows)
}
