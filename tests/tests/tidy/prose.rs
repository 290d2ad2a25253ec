//! Rules for documents, and for what no file may say.

use super::scan::{functions, mask};
use super::tree::join;
use std::collections::{BTreeMap, BTreeSet};

/// Every law of the design.
pub(crate) const LAWS: &[&str] = &[
    "M1", "M2", "M3", "M4", "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "B9", "B10", "B11",
    "B12", "R1", "R2", "R3", "R4", "R5", "R6",
];

/// No line names a folder of the machine it was written on.
pub(crate) fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let folders = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
    let mut bad = Vec::new();
    for (i, line) in text.lines().enumerate() {
        for folder in folders.iter().filter(|folder| line.contains(**folder)) {
            bad.push(format!("{path}:{}: names {folder}", i + 1));
        }
    }
    bad
}

/// Relative links lead to files that are there.
pub(crate) fn links(path: &str, text: &str, paths: &[String]) -> Vec<String> {
    let mut bad = Vec::new();
    let mut fenced = false;
    for (i, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        for part in line.split("](").skip(1) {
            let target = part.split([')', ' ', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let full = join(path, target);
            let folder = format!("{full}/");
            if !paths.iter().any(|p| *p == full || p.starts_with(&folder)) {
                bad.push(format!("{path}:{}: the link to {target} leads nowhere", i + 1));
            }
        }
    }
    bad
}

/// The names of all tests in a Rust source.
pub(crate) fn tests(text: &str) -> Vec<String> {
    let code = mask(text);
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    let mut names = Vec::new();
    for function in functions(&code) {
        let above = lines[..function.first - 1].iter().rev();
        let mut attributes = above.take_while(|line| line.starts_with('#') || line.is_empty());
        if attributes.any(|line| line.contains("#[test]")) {
            names.push(function.name);
        }
    }
    names.extend(listed(&code));
    names
}

/// The names in a list of cases, each of which becomes a test: `named! { one, two }`.
fn listed(code: &str) -> Vec<String> {
    let lists = code.split("named! {").skip(1).filter_map(|rest| rest.split('}').next());
    let names = lists.flat_map(|list| list.split(',')).map(|name| name.trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

/// The laws that documents name by their number in bold or after the word.
pub(crate) fn named_laws(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(['M', 'B', 'R']) {
        let number: String = text[at + 1..].chars().take_while(char::is_ascii_digit).collect();
        let before = &text[..at];
        if !number.is_empty() && (before.ends_with("**") || before.ends_with("aw ")) {
            found.insert(text[at..=at + number.len()].to_owned());
        }
    }
    found
}

/// Each law has a test that bears its number, or stands in `later` with the
/// reason why not yet, and never both.
pub(crate) fn tested_laws(
    laws: &[&str],
    later: &BTreeMap<&str, &str>,
    tests: &[String],
) -> Vec<String> {
    let mut bad = Vec::new();
    for law in laws {
        let number = law.to_lowercase();
        let has = tests.iter().any(|name| name.split('_').any(|part| part == number));
        match (has, later.get(law)) {
            (false, None) => bad.push(format!("law {law}: no test bears its number")),
            (true, Some(_)) => bad.push(format!("law {law} has a test: strike it from LATER")),
            (false, Some(&"")) => bad.push(format!("law {law} is put off without a reason")),
            _ => {}
        }
    }
    let unknown = later.keys().filter(|law| !laws.contains(*law));
    bad.extend(unknown.map(|law| format!("law {law} is put off, but there is no such law")));
    bad
}
