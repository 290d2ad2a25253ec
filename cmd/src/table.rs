//! Tables for people: no borders, numbers to the right.

use crate::failure::Outcome;
use crate::output;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// A table with the given heads. A head that begins with `>` is of numbers.
pub(crate) fn new(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads.iter().map(|head| head.trim_start_matches('>')));
    for (i, head) in heads.iter().enumerate() {
        if let Some(column) = table.column_mut(i) {
            column.set_padding((0, 2));
            if head.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table
}

/// Prints it.
pub(crate) fn print(table: &Table) -> Outcome {
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    output::bytes(text.as_bytes())
}

/// Prints two columns without heads: what it is, and how much.
pub(crate) fn pairs(rows: &[(&str, String)]) -> Outcome {
    let width = rows.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (key, value) in rows {
        text.push_str(&format!("{key:width$}  {value}\n"));
    }
    output::bytes(text.as_bytes())
}
