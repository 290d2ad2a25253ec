//! Every cell of the conflict tables of docs/leases.md, done: the tables are read, and each
//! operation meets each seal and each lease, idle and pinned, of its own session and of
//! another.
//!
//! What is in the cells is the document's; what a row does is in `leases_table/rows.rs`,
//! and how a cell is told in `leases_table/cells.rs`.

#[path = "leases_table/cells.rs"]
mod cells;
#[path = "leases_table/rows.rs"]
mod rows;

use cells::{Column, check};
use rows::Row;

struct Table {
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

/// A table of the document, by its heading.
fn table(heading: &str) -> Table {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/leases.md");
    let text = std::fs::read_to_string(path).expect("docs/leases.md is there");
    let from = text.find(heading).unwrap_or_else(|| panic!("no heading {heading:?}"));
    let lines = text[from..].lines().skip_while(|l| !l.starts_with('|'));
    let cells = |l: &str| -> Vec<String> {
        l.trim_matches('|').split('|').map(|c| c.trim().trim_matches('`').to_owned()).collect()
    };
    let mut lines = lines.take_while(|l| l.starts_with('|')).map(cells);
    let head = lines.next().expect("a table has a head");
    let rows = lines.skip(1).map(|mut r| (r.remove(0), r)).collect();
    Table { columns: head[1..].to_vec(), rows }
}

fn run(heading: &str, own: bool) {
    let table = table(heading);
    let (mut done, mut apart, mut failed) = (0, 0, Vec::new());
    for (name, cells) in &table.rows {
        assert_eq!(cells.len(), table.columns.len(), "the row {name} has a cell for each column");
        let row = Row::named(name).unwrap_or_else(|| panic!("nobody knows how to do `{name}`"));
        for (column, cell) in table.columns.iter().zip(cells) {
            let column = Column::named(column);
            if cell == "-" || row.cannot_meet(&column) {
                apart += 1;
                continue;
            }
            match check(&row, &column, cell, own) {
                Ok(()) => done += 1,
                Err(why) => failed.push(format!("{name} x {column:?} = {cell}: {why}")),
            }
        }
    }
    println!("{done} cells done, {apart} that cannot come about");
    assert!(failed.is_empty(), "{} of {done} cells:\n{}", failed.len(), failed.join("\n"));
    assert!(done > 300, "only {done} cells were done");
}

#[test]
fn table_a_another_sessions_seals_and_leases() {
    run("### Table A", false);
}

#[test]
fn table_b_its_own_seals_and_leases() {
    run("### Table B", true);
}
