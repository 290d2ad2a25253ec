//! `freehold check`: prove that a store is consistent.

use super::{discard, open_within};
use crate::failure::{Failure, Outcome};
use crate::{output, progress, size, table};
use serde_json::json;

/// Prove that a store is consistent; writes nothing.
///
/// Every block is free, or owned once, or counted exactly; every tree is
/// ordered; nothing reachable is free. Exits with 1 if there are findings.
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
    /// Say what is lost if the journal, which is on a medium of its own, is given up
    #[arg(long)]
    discard_journal: bool,
    /// With --discard-journal: do it
    #[arg(long, requires = "discard_journal")]
    force: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    if args.discard_journal {
        return discard::run(&args.uri, args.force, args.json);
    }
    let store = open_within(&args.uri, args.cache)?;
    let watch = progress::spinner("checking");
    let report = store.check();
    watch.finish_and_clear();
    let report = report?;
    if args.json {
        let findings: Vec<_> = report
            .findings
            .iter()
            .map(|f| json!({ "structure": f.structure, "address": f.address, "what": f.what }))
            .collect();
        output::json(&json!({ "clean": report.clean(), "findings": findings }))?;
    } else if report.clean() {
        output::line(format!(
            "clean: {}, {}, {}",
            size::of(report.files, "file"),
            size::of(report.nodes, "node"),
            size::of(report.blocks, "block")
        ))?;
    } else {
        let mut rows = table::new(&["structure", ">address", "finding"]);
        for finding in &report.findings {
            rows.add_row([
                finding.structure.to_string(),
                finding.address.to_string(),
                finding.what.to_string(),
            ]);
        }
        table::print(&rows)?;
    }
    if report.clean() { Ok(()) } else { Err(Failure::Told) }
}
