//! The header and the list of symbols: made from the sources, committed, and held against them.
//!
//! `FREEHOLD_WRITE_HEADER=1 cargo test -p freehold-ffi --test header` writes both anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What stands before the declarations.
const HEAD: &str = include_str!("../include/head.txt");

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(here(name)).unwrap_or_default()
}

/// What the header should be.
fn made() -> String {
    let config = cbindgen::Config::from_file(here("cbindgen.toml")).expect("cbindgen.toml");
    let config = cbindgen::Config { header: Some(HEAD.trim_end().to_owned()), ..config };
    let builder = cbindgen::Builder::new().with_config(config).with_crate(here(""));
    let mut text = Vec::new();
    builder.generate().expect("the sources can be read").write(&mut text);
    let text = String::from_utf8(text).expect("the header is UTF-8");
    // No trailing spaces: they are in nobody's sources.
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The names of all functions of a header.
fn functions(header: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in header.lines().filter(|l| !l.starts_with([' ', '/', '#', '}'])) {
        let Some((before, _)) = line.split_once('(') else { continue };
        let name = before.rsplit([' ', '*']).next().unwrap_or_default();
        if name.starts_with("fh_") {
            names.insert(name.to_owned());
        }
    }
    names
}

fn hold(name: &str, made: &str) {
    if std::env::var_os("FREEHOLD_WRITE_HEADER").is_some() {
        std::fs::write(here(name), made).unwrap();
    }
    assert!(
        read(name) == made,
        "api/ffi/{name} is not what the sources say: FREEHOLD_WRITE_HEADER=1 cargo test -p \
         freehold-ffi --test header, and look at what has changed"
    );
}

#[test]
fn the_header_is_what_the_sources_say() {
    hold("include/freehold.h", &made());
}

#[test]
fn the_symbols_are_those_of_the_header() {
    let list: String = functions(&made()).iter().map(|name| format!("{name}\n")).collect();
    hold("symbols", &list);
}

/// Each function says all that a caller has to know.
#[test]
fn each_function_says_what_it_has_to() {
    let header = made();
    let mut text = String::new();
    let mut seen = 0;
    for line in header.lines() {
        match line.trim_start() {
            "/*" | "/**" => text.clear(),
            comment if comment.starts_with('*') => text += &format!("{comment}\n"),
            _ => {
                let found = functions(line);
                let Some(name) = found.first() else { continue };
                seen += 1;
                for part in ["Parameters:", "Thread:", "Ownership:", "Returns:", "Errors:"] {
                    assert!(text.contains(&format!("* {part}")), "{name} says no {part}\n{text}");
                }
                text.clear();
            }
        }
    }
    assert!(seen > 90, "only {seen} functions were found");
}

/// Every struct that a caller fills or has filled, and that may grow, begins with its size; the
/// others are elements of arrays, and never grow.
#[test]
fn structs_that_may_grow_know_their_size() {
    let header = made();
    let fixed = ["fh_entry", "fh_event", "fh_write", "fh_extent", "fh_range", "fh_holding"];
    let fixed: Vec<&str> =
        fixed.into_iter().chain(["fh_lease_in_flight", "fh_completion"]).collect();
    for body in header.split("typedef struct ").skip(1) {
        let Some((name, rest)) = body.split_once(" {") else { continue };
        if name.contains(';') {
            continue;
        }
        let first = rest.lines().map(str::trim).find(|l| l.ends_with(';'));
        assert!(first == Some("uint32_t size;") || fixed.contains(&name), "{name}: {first:?}");
    }
}
