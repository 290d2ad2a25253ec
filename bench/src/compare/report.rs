//! What was measured, as tables: on the terminal and as `docs/benchmarks.md`.

use crate::earlier::APART;
use crate::results::{Case, Results, Side};
use crate::work::{ALL, Workload, guest, journal, lease, nvme, window};
use comfy_table::{ContentArrangement, Table, presets};

/// What a document says besides its tables.
pub(crate) struct Circumstances {
    pub(crate) machine: Vec<(String, String)>,
    /// The size of the run and its rounds.
    pub(crate) run: String,
    /// Sides that could not be measured, and why.
    pub(crate) missing: Vec<(Side, String)>,
    /// Workloads that failed for a side, and why.
    pub(crate) failed: Vec<(&'static str, Side, String)>,
    /// Plots that were written, with their titles.
    pub(crate) plots: Vec<(&'static str, String, String)>,
}

/// The tables of one workload, for the terminal.
pub(crate) fn print(workload: &Workload, results: &Results) -> String {
    let mut text = format!("\n{}\n", workload.title);
    for rows in [values(workload, results), costs(workload, results)].into_iter().flatten() {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(&rows[0]);
        for row in &rows[1..] {
            table.add_row(row);
        }
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    for (_, note) in results.notes.iter().filter(|(name, _)| *name == workload.name) {
        text.push_str(&format!("({note})\n"));
    }
    text
}

fn cases<'a>(workload: &'a Workload, results: &'a Results) -> impl Iterator<Item = &'a Case> {
    results.cases.iter().filter(|c| c.workload == workload.name)
}

/// Head and rows of the values; none when there are none.
fn values(workload: &Workload, results: &Results) -> Option<Vec<Vec<String>>> {
    let sides: Vec<Side> = Side::ALL.into_iter().filter(|s| workload.sides.contains(s)).collect();
    let mut head = vec![String::new()];
    for side in &sides {
        head.push(side.name().to_owned());
        if *side != Side::Freehold {
            head.push("ratio".to_owned());
        }
    }
    let mut rows = vec![head];
    for case in cases(workload, results) {
        let mut row = vec![case.name.clone()];
        for side in &sides {
            row.push(case.show(*side));
            if *side != Side::Freehold {
                row.push(case.ratio(*side).map_or(String::new(), |r| format!("{r:.2}")));
            }
        }
        rows.push(row);
    }
    (rows.len() > 1).then_some(rows)
}

/// Head and rows of what the device did; none when nobody knows.
fn costs(workload: &Workload, results: &Results) -> Option<Vec<Vec<String>>> {
    let sides: Vec<Side> = Side::ALL
        .into_iter()
        .filter(|s| cases(workload, results).any(|c| c.costs.contains_key(s)))
        .collect();
    let mut head = vec!["device writes / flushes for each operation".to_owned()];
    head.extend(sides.iter().map(|s| s.name().to_owned()));
    let mut rows = vec![head];
    for case in cases(workload, results).filter(|c| !c.costs.is_empty()) {
        let mut row = vec![case.name.clone()];
        for side in &sides {
            let cost = case.cost_of(*side);
            row.push(cost.map_or("not measured here".into(), |c| {
                format!("{:.3} / {:.3}", c.writes, c.flushes)
            }));
        }
        rows.push(row);
    }
    (rows.len() > 1).then_some(rows)
}

/// Every case in which a rival is better, with the ratio.
fn losses(results: &Results) -> Vec<String> {
    let mut out = Vec::new();
    for case in &results.cases {
        for side in [Side::Xfs, Side::Btrfs, Side::Raw] {
            if let Some(ratio) = case.ratio(side).filter(|r| *r < 1.0) {
                out.push(format!(
                    "- {}: {}: {} against {} of {} ({ratio:.2})",
                    case.workload,
                    case.name,
                    case.show(Side::Freehold),
                    case.show(side),
                    side.name()
                ));
            }
        }
    }
    out.extend(beside(results));
    out
}

/// Rows that are beaten by another row of the same table.
fn beside(results: &Results) -> Vec<String> {
    let mut out = Vec::new();
    for (ours, rival) in lease::RIVALS {
        for threads in [1, 2] {
            let (ours, rival) =
                (lease::on_threads(ours, threads), lease::on_threads(rival, threads));
            out.extend(loses(results, "lease", &ours, &rival));
        }
        out.extend(loses(results, "lease", ours, rival));
    }
    for (workload, rivals) in [
        ("window", window::RIVALS),
        ("nvme", nvme::RIVALS),
        ("journal", journal::RIVALS),
        ("guest", guest::RIVALS),
    ] {
        out.extend(rivals.iter().filter_map(|(ours, rival)| loses(results, workload, ours, rival)));
    }
    out
}

/// A row of ours that is worse than another row of the same workload.
fn loses(results: &Results, workload: &str, ours: &str, rival: &str) -> Option<String> {
    let find = |name: &str| results.cases.iter().find(|c| c.workload == workload && c.name == name);
    let (ours, rival) = (find(ours)?, find(rival)?);
    let (a, b) = (ours.median(Side::Freehold)?, rival.median(Side::Freehold)?);
    let ratio = if ours.unit.rises() { a / b } else { b / a };
    (ratio < 1.0).then(|| {
        format!(
            "- {workload}: {}: {} against {} of {} ({ratio:.2})",
            ours.name,
            ours.show(Side::Freehold),
            rival.show(Side::Freehold),
            rival.name
        )
    })
}

/// Said of a side that is missing in the whole run.
pub(crate) fn not_measured(side: Side, why: &str) -> String {
    format!("{}: not measured here: {why}", side.name())
}

/// The whole document.
pub(crate) fn document(results: &Results, c: &Circumstances) -> String {
    let mut text = String::from(
        "# Benchmarks\n\n\
         Written by `./bench/run`; do not edit. Each workload is a process of its own. Values are medians of the rounds, with the \
         smallest and the largest in brackets. A ratio says how many times better Freehold is: \
         below 1 it is worse. Sides take turns, each on the same device, which is \
         emptied in between.\n\n",
    );
    for (key, value) in &c.machine {
        text.push_str(&format!("- {key}: {value}\n"));
    }
    text.push_str(&format!("- run: {}\n", c.run));
    for (side, why) in &c.missing {
        text.push_str(&format!("- {}\n", not_measured(*side, why)));
    }
    for (workload, side, why) in &c.failed {
        let side = side.name();
        text.push_str(&format!("- {workload}, {side}: not measured here: {why}\n"));
    }
    text.push_str("\n## Where Freehold loses\n\n");
    let losses = losses(results);
    if losses.is_empty() {
        text.push_str("No row has a ratio below 1.\n");
    }
    for loss in losses {
        text.push_str(&loss);
        text.push('\n');
    }
    for workload in ALL.iter().filter(|w| cases(w, results).next().is_some()) {
        section(&mut text, workload, results, c, None);
    }
    text
}

/// The sections of what was measured elsewhere, with their marks: its machine and its losses are
/// its own.
pub(crate) fn apart(results: &Results, c: &Circumstances) -> String {
    let mut text = format!("{}\n", APART[0]);
    for workload in ALL.iter().filter(|w| cases(w, results).next().is_some()) {
        section(&mut text, workload, results, c, None);
    }
    text.push('\n');
    for (key, value) in &c.machine {
        text.push_str(&format!("- {key}: {value}\n"));
    }
    text.push_str(&format!("- run: {}\n\nWhere Freehold loses there:\n\n", c.run));
    let losses = losses(results);
    text.push_str(&if losses.is_empty() { "Nowhere.".into() } else { losses.join("\n") });
    text + &format!("\n{}\n", APART[1])
}

/// One section, with the empty line before it; `anew` says when it was measured, if that was
/// later than the rest.
pub(crate) fn section(
    text: &mut String,
    workload: &Workload,
    results: &Results,
    c: &Circumstances,
    anew: Option<&str>,
) {
    text.push_str(&format!("\n## {}\n\n{}\n", workload.title, workload.how));
    if let Some(anew) = anew {
        text.push_str(&format!("\n{anew}\n"));
    }
    for rows in [values(workload, results), costs(workload, results)].into_iter().flatten() {
        text.push('\n');
        for (i, row) in rows.iter().enumerate() {
            text.push_str(&format!("| {} |\n", row.join(" | ")));
            if i == 0 {
                text.push_str(&format!("| ---{} |\n", " | ---:".repeat(row.len() - 1)));
            }
        }
    }
    for (_, note) in results.notes.iter().filter(|(name, _)| *name == workload.name) {
        text.push_str(&format!("\n{note}.\n"));
    }
    for (_, title, file) in c.plots.iter().filter(|(name, ..)| *name == workload.name) {
        text.push_str(&format!("\n![{title}]({file})\n"));
    }
}
