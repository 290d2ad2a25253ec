//! Rules for Rust sources. Each takes what it judges and returns complaints.

use super::scan::{Function, declared, functions, line_of, mask, words};
use super::tree::{Source, join};
use std::collections::{BTreeMap, BTreeSet};

/// Where `unsafe` may stand.
const UNSAFE: &[&str] = &["engine/", "api/ffi/", "api/sqlite/", "api/ring/"];
/// Where pointers may become slices.
const SLICES: &[&str] = &["engine/src/memory/", "engine/src/memory.rs"];
/// Crate roots that must forbid unsafe code.
const FORBID: &[&str] = &["blockmap/src/lib.rs", "api/src/lib.rs", "cmd/src/main.rs"];
/// Lines in the longest file and in the longest function.
const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;
/// Lines above an `unsafe` among which its argument is looked for.
const NEAR: usize = 10;

/// `unsafe` and the making of slices stand only where they may.
pub(crate) fn unsafe_places(path: &str, text: &str) -> Vec<String> {
    let code = mask(text);
    let among = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
    let mut bad = Vec::new();
    for (at, word) in words(&code) {
        if word == "unsafe" && !among(UNSAFE) {
            let line = line_of(&code, at);
            bad.push(format!("{path}:{line}: `unsafe` may not stand here"));
        }
        if word.contains("from_raw_parts") && !among(SLICES) {
            let line = line_of(&code, at);
            bad.push(format!("{path}:{line}: only engine/src/memory turns pointers into slices"));
        }
    }
    bad
}

/// The crate roots that can do so forbid unsafe code.
pub(crate) fn forbids_unsafe(path: &str, text: &str) -> Vec<String> {
    let there = mask(text).lines().any(|line| line.trim() == "#![forbid(unsafe_code)]");
    if !FORBID.contains(&path) || there {
        return Vec::new();
    }
    vec![format!("{path}: lacks #![forbid(unsafe_code)]")]
}

/// Each unsafe block, impl and extern block says why it is right.
pub(crate) fn safety_arguments(path: &str, text: &str) -> Vec<String> {
    let code = mask(text);
    let lines: Vec<&str> = text.lines().collect();
    let mut starts = Vec::new();
    for (at, word) in words(&code) {
        let rest = code[at + word.len()..].trim_start();
        let argued =
            ["{", "impl", "extern"].iter().any(|s| rest.starts_with(s)) && !is_function(rest);
        if word == "unsafe" && argued {
            starts.push(line_of(&code, at) - 1);
        }
    }
    let mut bad = Vec::new();
    for (i, start) in starts.iter().enumerate() {
        let before = if i == 0 { None } else { Some(starts[i - 1]) };
        let first = start.saturating_sub(NEAR).max(before.map_or(0, |line| (line + 1).min(*start)));
        if !lines[first..=*start].iter().any(|line| line.contains("SAFETY:")) {
            bad.push(format!("{path}:{}: unsafe without a SAFETY argument", start + 1));
        }
    }
    bad
}

/// `extern "C" fn` is a function, whose contract is in its documentation.
fn is_function(rest: &str) -> bool {
    rest.split('{').next().is_some_and(|head| words(head).any(|(_, word)| word == "fn"))
}

/// A file begins with what lives there and is no longer than it may be.
pub(crate) fn shape(path: &str, text: &str) -> Vec<String> {
    let mut bad = Vec::new();
    if !text.starts_with("//!") {
        bad.push(format!("{path}: does not begin with //!"));
    }
    let lines = text.lines().count();
    if lines > FILE_LINES {
        bad.push(format!("{path}: {lines} lines, {FILE_LINES} at most"));
    }
    for Function { name, first, last } in functions(&mask(text)) {
        let lines = last - first + 1;
        if lines > FUNCTION_LINES {
            bad.push(format!(
                "{path}:{first}: `{name}` has {lines} lines, {FUNCTION_LINES} at most"
            ));
        }
    }
    bad
}

/// Nothing is left unfinished or switched off.
pub(crate) fn unfinished(path: &str, text: &str) -> Vec<String> {
    let code = mask(text);
    let in_code = [concat!("to", "do!"), concat!("unimple", "mented!"), concat!("d", "bg!")];
    let anywhere = [concat!("FIX", "ME"), concat!("XX", "X")];
    let ignored = concat!("#[ig", "nore");
    let mut bad = Vec::new();
    for (i, (line, raw)) in code.lines().zip(text.lines()).enumerate() {
        let macros = in_code.iter().filter(|name| has_macro(line, name));
        let words = anywhere.iter().filter(|word| raw.contains(**word));
        let ignores = std::iter::once(&ignored).filter(|mark| line.contains(**mark));
        for what in macros.chain(words).chain(ignores) {
            bad.push(format!("{path}:{}: `{what}`", i + 1));
        }
    }
    bad
}

fn has_macro(line: &str, name: &str) -> bool {
    line.match_indices(name)
        .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
}

/// Every file is reached from the root of a crate, a test or a benchmark.
pub(crate) fn dead_files(sources: &[&Source], roots: &BTreeSet<String>) -> Vec<String> {
    let texts: BTreeMap<&str, &str> =
        sources.iter().map(|source| (source.path.as_str(), source.text.as_str())).collect();
    let mut reached = BTreeSet::new();
    let mut next: Vec<(String, bool)> = roots.iter().map(|root| (root.clone(), true)).collect();
    while let Some((path, is_root)) = next.pop() {
        let Some(text) = texts.get(path.as_str()) else { continue };
        if reached.insert(path.clone()) {
            next.extend(declared(&path, &mask(text), is_root).into_iter().map(|p| (p, false)));
            next.extend(told(&path, text).map(|p| (p, false)));
        }
    }
    let dead = texts.keys().filter(|path| !reached.contains(**path));
    dead.map(|path| format!("{path}: no `mod` leads here")).collect()
}

/// The files that `#[path = "..."]` names in a file.
fn told(path: &str, text: &str) -> impl Iterator<Item = String> {
    let marks = text.lines().filter_map(|line| line.trim().strip_prefix("#[path"));
    marks.filter_map(move |rest| Some(join(path, rest.split('"').nth(1)?)))
}

/// The roots that cargo finds by itself in a crate's folder, and those that its
/// manifest names with `path = "..."`.
pub(crate) fn roots(krate: &str, manifest: &str, paths: &[String]) -> BTreeSet<String> {
    let mut roots = BTreeSet::new();
    for path in paths.iter().filter(|path| path.ends_with(".rs")) {
        let Some(inner) = path.strip_prefix(krate).and_then(|p| p.strip_prefix('/')) else {
            continue;
        };
        let parts: Vec<&str> = inner.split('/').collect();
        let found = match parts[..] {
            ["build.rs"] | ["src", "lib.rs" | "main.rs"] => true,
            ["src", "bin", _] | ["tests" | "benches" | "examples", _] => true,
            ["src", "bin", _, last] | ["tests" | "benches" | "examples", _, last] => {
                last == "main.rs"
            }
            _ => false,
        };
        if found {
            roots.insert(path.clone());
        }
    }
    for line in manifest.lines().map(str::trim) {
        let value = line.strip_prefix("path").map(|rest| rest.trim_start_matches([' ', '=']));
        if let Some(value) =
            value.map(|value| value.trim_matches('"')).filter(|v| v.ends_with(".rs"))
        {
            roots.insert(format!("{krate}/{value}"));
        }
    }
    roots
}
