//! Takes tables, rulers and byte vectors out of the format document. What
//! they must say is not known here.

/// The document's text.
pub(crate) fn document() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/format.md");
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("docs/format.md: {e}"))
}

/// What follows each mark `<!-- kind: name -->`, by name, up to the next
/// empty line that ends a table or the end of a fenced block.
pub(crate) fn marked(text: &str, kind: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mark = line.strip_prefix("<!-- ").and_then(|l| l.strip_suffix(" -->"));
        let Some((this, name)) = mark.and_then(|m| m.split_once(": ")) else { continue };
        if this != kind {
            continue;
        }
        let fenced = lines.clone().nth(1).is_some_and(|l| l.starts_with("```"));
        lines.next().filter(|l| l.is_empty()).unwrap_or_else(|| panic!("{line}: no empty line"));
        let body: Vec<String> = if fenced {
            lines.next();
            lines.by_ref().take_while(|l| !l.starts_with("```")).map(String::from).collect()
        } else {
            lines.by_ref().take_while(|l| l.starts_with('|')).map(String::from).collect()
        };
        assert!(!body.is_empty(), "{line}: nothing behind it");
        found.push((name.to_string(), body));
    }
    found
}

/// The cells of a table's rows, without its head.
pub(crate) fn rows(table: &[String]) -> Vec<Vec<String>> {
    let cells = |row: &String| {
        let row = row.trim_matches('|').split('|');
        row.map(|c| c.trim().trim_matches('`').to_string()).collect()
    };
    table.iter().skip(2).map(cells).collect()
}

/// A table of fields: name, offset, size from its first three columns.
pub(crate) fn fields(table: &[String]) -> Vec<(String, usize, usize)> {
    let field = |row: Vec<String>| {
        let number = |i: usize| row[i].parse().unwrap_or_else(|_| panic!("{row:?}: no number"));
        (row[2].clone(), number(0), number(1))
    };
    rows(table).into_iter().map(field).collect()
}

/// The fields that a ruler draws: eight bytes a row, eight characters a byte.
pub(crate) fn ruler(lines: &[String]) -> Vec<(String, usize, usize)> {
    let mut drawn: Vec<(String, usize, usize)> = Vec::new();
    for line in lines.iter().skip(1) {
        let (row, mut rest) = line.split_at(6);
        let row = row.trim_end_matches('|').trim();
        let mut at: usize = row.parse().unwrap_or_else(|_| panic!("{line:?}: no offset"));
        while let Some((cell, after)) = rest.split_once('|') {
            let (name, chars) = (cell.trim(), cell.chars().count() + 1);
            assert_eq!(chars % 8, 0, "{line:?}: the cell of {name:?} is not whole bytes wide");
            match drawn.last_mut().filter(|(last, _, _)| last == name) {
                Some((_, _, size)) => *size += chars / 8,
                None if name.is_empty() => {}
                None => drawn.push((name.to_string(), at, chars / 8)),
            }
            at += chars / 8;
            rest = after;
        }
        assert!(rest.trim().is_empty(), "{line:?}: ends within a cell");
    }
    drawn
}

/// Bytes written in hexadecimal, with or without blanks.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16);
    (0..digits.len())
        .step_by(2)
        .map(|at| byte(at).unwrap_or_else(|e| panic!("{text}: {e}")))
        .collect()
}

/// A vector: an offset in hexadecimal and bytes on each line; what is not
/// named is zero, up to the end of the last block.
pub(crate) fn vector(lines: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in lines {
        let (at, data) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        let at = usize::from_str_radix(at, 16).unwrap_or_else(|e| panic!("{line}: {e}"));
        let data = hex(data);
        assert!(bytes.len() <= at, "{line}: out of order");
        bytes.resize(at, 0);
        bytes.extend_from_slice(&data);
    }
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    bytes
}

/// Bytes as [`vector`] reads them.
pub(crate) fn dump(bytes: &[u8]) -> String {
    let spaced = |row: &[u8]| row.iter().map(|b| format!(" {b:02x}")).collect::<String>();
    let rows = bytes.chunks(16).enumerate().filter(|(_, row)| row.iter().any(|b| *b != 0));
    rows.map(|(i, row)| format!("{:03x} {}\n", i * 16, spaced(row))).collect()
}
