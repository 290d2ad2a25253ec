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
    /// The store: file:PATH
    uri: String,
    /// Size of a file; a block device takes none
    #[arg(long, value_parser = size::parse)]
    size: Option<u64>,
    /// Format over what is there (never over a mounted device)
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let options = FormatOptions { size: args.size, force: args.force };
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
        }));
    }
    table::pairs(&[
        ("store", args.uri.clone()),
        ("id", crate::name::hex(&info.store_id)),
        ("size", size::show(space.total)),
        ("free", size::show(space.free)),
    ])
}
