//! Tidy is a test: the rules of the repository that a reader would otherwise
//! have to hold in their head.
//!
//! `tree.rs` lists the files, `scan.rs` reads Rust well enough to tell code from
//! comments, `rules.rs`, `layers.rs` and `prose.rs` hold the rules as functions
//! from text to complaints, and `samples.rs` shows each of them a bad sample.
//! The scan is right for code that rustfmt has formatted.

mod tidy {
    pub(crate) mod layers;
    pub(crate) mod prose;
    pub(crate) mod rules;
    pub(crate) mod samples;
    pub(crate) mod scan;
    pub(crate) mod tree;
}

use std::collections::{BTreeMap, BTreeSet};
use tidy::tree::{Source, Tree};
use tidy::{layers, prose, rules};

/// Laws that have no test of their own yet, each with the reason. Whoever adds
/// the first test that bears a law's number strikes it here.
const LATER: &[(&str, &str)] = &[];

fn demand(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// Holds a rule for one file against all Rust sources.
fn each_rust(rule: fn(&str, &str) -> Vec<String>) {
    let tree = Tree::read();
    let mut count = 0;
    let complaints = tree.ending(".rs").flat_map(|source| {
        count += 1;
        rule(&source.path, &source.text)
    });
    let complaints = complaints.collect();
    assert!(count > 10, "only {count} Rust sources were found");
    demand(complaints);
}

/// The crates of the tree: folder and manifest.
fn crates(tree: &Tree) -> Vec<(&str, &Source)> {
    let manifests = tree.ending("/Cargo.toml");
    let crates: Vec<(&str, &Source)> = manifests
        .filter_map(|source| Some((source.path.strip_suffix("/Cargo.toml")?, source)))
        .collect();
    assert!(crates.len() >= 6, "only {} crates were found", crates.len());
    crates
}

#[test]
fn tidy_unsafe_stands_where_it_may() {
    each_rust(rules::unsafe_places);
    each_rust(rules::forbids_unsafe);
}

#[test]
fn tidy_each_unsafe_has_its_argument() {
    each_rust(rules::safety_arguments);
}

#[test]
fn tidy_files_and_functions_are_short() {
    each_rust(rules::shape);
}

#[test]
fn tidy_nothing_is_unfinished() {
    each_rust(rules::unfinished);
}

#[test]
fn tidy_no_dead_files() {
    let tree = Tree::read();
    let mut roots = BTreeSet::new();
    for (krate, manifest) in crates(&tree) {
        roots.extend(rules::roots(krate, &manifest.text, &tree.paths));
    }
    demand(rules::dead_files(&tree.ending(".rs").collect::<Vec<_>>(), &roots));
}

#[test]
fn tidy_top_level_is_fixed() {
    demand(layers::top_level(&Tree::read().paths));
}

#[test]
fn tidy_calls_go_down() {
    let tree = Tree::read();
    let floors = crates(&tree).into_iter().flat_map(|(k, m)| layers::floors(k, &m.text));
    demand(floors.collect());
}

#[test]
fn tidy_crates_inherit_from_the_workspace() {
    let tree = Tree::read();
    let top = tree.sources.iter().find(|source| source.path == "Cargo.toml");
    let top = top.expect("the workspace's Cargo.toml");
    let mut complaints = layers::workspace(&top.text);
    for (krate, manifest) in crates(&tree) {
        complaints.extend(layers::inherits(krate, &manifest.text, &top.text));
    }
    demand(complaints);
}

#[test]
fn tidy_links_lead_somewhere() {
    let tree = Tree::read();
    let links = tree.ending(".md").flat_map(|s| prose::links(&s.path, &s.text, &tree.paths));
    demand(links.collect());
}

#[test]
fn tidy_no_paths_of_a_machine() {
    let tree = Tree::read();
    let named = tree.sources.iter().flat_map(|s| prose::machine_paths(&s.path, &s.text));
    demand(named.collect());
}

#[test]
fn tidy_each_law_has_its_test() {
    let tree = Tree::read();
    let tests: Vec<String> = tree.ending(".rs").flat_map(|s| prose::tests(&s.text)).collect();
    let later: BTreeMap<&str, &str> = LATER.iter().copied().collect();
    let mut complaints = prose::tested_laws(prose::LAWS, &later, &tests);
    for source in tree.ending(".md") {
        for law in prose::named_laws(&source.text) {
            if !prose::LAWS.contains(&law.as_str()) {
                complaints.push(format!("{}: there is no law {law}", source.path));
            }
        }
    }
    demand(complaints);
}
