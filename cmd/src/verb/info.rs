//! `freehold info`: what a store is, what it lies on, how it was recovered, and what the
//! device under it says of itself.

use super::open_to_read;
use crate::failure::Outcome;
use crate::{name, output, size, table};
use freehold::{Fact, FactValue, Info};
use serde_json::{Map, Value, json};

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
    let device = store.device()?;
    drop(store);
    if args.json {
        return output::json(&json!({
            "uri": info.uri,
            "store_id": name::hex(&info.store_id),
            "version": info.version,
            "blocks": info.blocks,
            "block_size": info.block_size,
            "journal_bytes": info.journal_bytes,
            "journal": journal_json(&info),
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
            "device": device_json(&device),
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
    let mut rows = vec![
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
    ];
    let at = 1 + rows.iter().position(|(name, _)| *name == "journal").unwrap_or(rows.len() - 1);
    rows.splice(at..at, journal_rows(&info));
    let names: Vec<String> = device
        .iter()
        .map(|fact| format!("{} {}", fact.group, fact.name.replace('_', " ")))
        .collect();
    rows.extend(names.iter().zip(&device).map(|(name, fact)| (name.as_str(), shown(&fact.value))));
    table::pairs(&rows)
}

/// The journal, where it is not in the store; else null.
pub(super) fn journal_json(info: &Info) -> Value {
    info.journal.as_ref().map_or(Value::Null, |j| {
        json!({
            "uri": j.uri,
            "id": name::hex(&j.id),
            "bytes": info.journal_bytes,
            "window": j.window,
        })
    })
}

/// The same for people.
pub(super) fn journal_rows(info: &Info) -> Vec<(&'static str, String)> {
    let Some(j) = &info.journal else { return Vec::new() };
    let how = if j.window { "stores and a barrier" } else { "a write" };
    vec![
        ("journal on", j.uri.clone()),
        ("journal id", name::hex(&j.id)),
        ("a commit is", how.to_string()),
    ]
}

/// What the device says, by group and name; null where there is no device to ask.
fn device_json(facts: &[Fact]) -> Value {
    if facts.is_empty() {
        return Value::Null;
    }
    let mut groups = Map::new();
    for fact in facts {
        let value: Value = match &fact.value {
            FactValue::Text(text) => text.as_str().into(),
            FactValue::Count(n) | FactValue::Bytes(n) | FactValue::Percent(n) => (*n).into(),
            FactValue::Flag(flag) => (*flag).into(),
            FactValue::Celsius(degrees) => (*degrees).into(),
        };
        let group = groups.entry(fact.group).or_insert_with(|| json!({}));
        group[fact.name] = value;
    }
    groups.into()
}

/// A value for people.
fn shown(value: &FactValue) -> String {
    match value {
        FactValue::Bytes(n) => size::show(*n),
        FactValue::Count(n) => size::count(*n),
        other => other.to_string(),
    }
}
