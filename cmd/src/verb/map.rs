//! `freehold map`: where a file's bytes lie on the medium.

use super::open_to_read;
use crate::failure::Outcome;
use crate::{name, output, table};
use freehold::{Iomap, IomapKind};
use serde_json::{Value, json};
use std::ffi::OsString;

/// Show where a file's bytes lie.
///
/// One line for each extent and each hole, in bytes. Unwritten extents are
/// allocated and read as zeroes; the address is on the medium.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// The file
    name: OsString,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let bytes = name::given(&args.name)?;
    let store = open_to_read(&args.uri)?;
    let file = store.open_file(bytes)?;
    // Preallocation reaches past the size, so the whole range is asked for.
    let mut extents = file.iomap(0, u64::MAX)?;
    while extents.last().is_some_and(|e| e.kind == IomapKind::Hole && e.offset >= file.size()) {
        extents.pop();
    }
    if let Some(last) = extents.last_mut().filter(|e| e.kind == IomapKind::Hole) {
        last.length = last.length.min(file.size() - last.offset);
    }
    if args.json {
        return output::json(&extents.iter().map(to_json).collect());
    }
    let mut rows = table::new(&[">offset", ">length", "kind", "shared", ">address"]);
    for extent in &extents {
        rows.add_row([
            extent.offset.to_string(),
            extent.length.to_string(),
            kind(extent).to_string(),
            if extent.shared { "shared" } else { "" }.to_string(),
            extent.address.map_or(String::new(), |address| address.to_string()),
        ]);
    }
    table::print(&rows)
}

fn kind(extent: &Iomap) -> &'static str {
    match extent.kind {
        IomapKind::Hole => "hole",
        IomapKind::Unwritten => "unwritten",
        IomapKind::Written => "written",
    }
}

fn to_json(extent: &Iomap) -> Value {
    json!({
        "offset": extent.offset,
        "length": extent.length,
        "kind": kind(extent),
        "shared": extent.shared,
        "address": extent.address,
    })
}
