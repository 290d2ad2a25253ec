//! `freehold stats`: the store's counters.

use super::open_within;
use crate::failure::Outcome;
use crate::{output, size, table};
use serde_json::{Map, Value};

/// Show the store's counters since it was opened.
///
/// This opens the store itself, so the counters are those of opening and
/// recovering it. Programs that link the library read their own.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Memory for maps and bitmaps, 16K at least [default: 512M]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    cache: Option<u64>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let fields = open_within(&args.uri, args.cache)?.stats().fields();
    if args.json {
        let object: Map<String, Value> =
            fields.into_iter().map(|(name, n)| (name.to_string(), n.into())).collect();
        return output::json(&Value::from(object));
    }
    let rows: Vec<_> = fields.into_iter().map(|(name, n)| (name, size::count(n))).collect();
    table::pairs(&rows)
}
