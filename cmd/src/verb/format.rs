//! `freehold format`: make a store.

use crate::failure::{Failure, Outcome};
use crate::{size, table};
use freehold::{FormatOptions, Store};
use serde_json::json;

/// Make a store on a file or device.
///
/// A file that does not exist is made, sparse, with the size given. What
/// carries a file system, a partition table or another store is refused and
/// named.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store: file:PATH; with ?journal=URI or ?journal=pmr its journal is there
    uri: String,
    /// Size of a file; a block device takes none
    #[arg(long, value_parser = size::parse)]
    size: Option<u64>,
    /// Size of a file for the journal, where the store is named with journal=FILE [default: 16M]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    journal_size: Option<u64>,
    /// Format over what is there (never over a mounted device)
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let options = FormatOptions {
        size: args.size,
        force: args.force,
        journal_size: args.journal_size,
        ..FormatOptions::default()
    };
    let store =
        Store::format(&args.uri, &options).map_err(|error| Failure::open(&args.uri, &error))?;
    let (info, space) = (store.info(), store.space());
    store.close()?;
    if args.json {
        return crate::output::json(&json!({
            "uri": info.uri,
            "store_id": crate::name::hex(&info.store_id),
            "total": space.total,
            "free": space.free,
            "journal": super::info::journal_json(&info),
        }));
    }
    let mut rows = vec![
        ("store", args.uri.clone()),
        ("id", crate::name::hex(&info.store_id)),
        ("size", size::show(space.total)),
        ("free", size::show(space.free)),
    ];
    rows.extend(super::info::journal_rows(&info));
    table::pairs(&rows)
}
