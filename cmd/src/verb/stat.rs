//! `freehold stat`: one file's size and allocation.

use super::{ls, open_to_read};
use crate::failure::Outcome;
use crate::{name, output, size, table};
use serde_json::{Map, Value};
use std::ffi::OsString;

/// Show a file's size and allocation.
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
    let stat = store.open_file(bytes)?.stat()?;
    if args.json {
        let mut object = Map::new();
        ls::stat_json(&mut object, bytes, &stat);
        return output::json(&Value::from(object));
    }
    table::pairs(&[
        ("name", name::show(bytes)),
        ("size", format!("{} bytes", stat.size)),
        ("allocated", size::show(stat.allocated)),
        ("shared", size::show(stat.shared)),
        ("extents", size::count(stat.extents)),
    ])
}
