//! `freehold info`: what a store is, what it lies on, and how it was recovered.

use super::open_to_read;
use crate::failure::Outcome;
use crate::{name, output, size, table};
use serde_json::json;

/// Show what a store is and what it lies on.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let store = open_to_read(&args.uri)?;
    let (info, space, recovery) = (store.info(), store.space(), store.recovery().clone());
    drop(store);
    if args.json {
        return output::json(&json!({
            "uri": info.uri,
            "store_id": name::hex(&info.store_id),
            "version": info.version,
            "blocks": info.blocks,
            "block_size": info.block_size,
            "journal_bytes": info.journal_bytes,
            "checkpoint": info.checkpoint,
            "total": space.total,
            "free": space.free,
            "medium": {
                "lba_bytes": info.lba_bytes,
                "max_transfer": info.max_transfer,
                "atomic_bytes": info.atomic_bytes,
                "volatile_cache": info.volatile_cache,
                "window": info.window,
            },
            "recovery": {
                "checkpoint": recovery.checkpoint,
                "groups": recovery.groups,
                "records": recovery.records,
                "journal_bytes": recovery.journal_bytes,
                "elapsed_us": recovery.elapsed.as_nanos() as f64 / 1e3,
            },
        }));
    }
    let cache = if info.volatile_cache { "volatile: sync flushes it" } else { "none" };
    table::pairs(&[
        ("store", info.uri.clone()),
        ("id", name::hex(&info.store_id)),
        ("format", format!("version {}", info.version)),
        ("size", format!("{} ({} blocks)", size::show(space.total), size::count(info.blocks))),
        ("free", size::show(space.free)),
        ("journal", size::show(info.journal_bytes)),
        ("checkpoint", info.checkpoint.to_string()),
        ("device block", format!("{} B", info.lba_bytes)),
        ("largest transfer", size::show(u64::from(info.max_transfer))),
        ("written at once", format!("{} B", info.atomic_bytes)),
        ("write cache", cache.to_string()),
        ("byte window", if info.window { "yes" } else { "no" }.to_string()),
        (
            "recovery",
            format!(
                "{} records in {} groups ({}) after checkpoint {}, in {}",
                size::count(recovery.records),
                size::count(recovery.groups),
                size::show(recovery.journal_bytes),
                recovery.checkpoint,
                size::time(recovery.elapsed)
            ),
        ),
    ])
}
