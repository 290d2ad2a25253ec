//! The document of an earlier run: what of it stays when it is written anew, and single
//! sections that take the place of its own.

use crate::outcome::{Outcome, fail};
use crate::report::{self, Circumstances};
use crate::results::Results;
use crate::work::Workload;
use std::ops::Range;
use std::path::Path;

/// Where what is measured elsewhere begins and ends in the document.
pub(crate) const APART: [&str; 2] =
    ["<!-- measured in a guest: begin -->", "<!-- measured in a guest: end -->"];

/// What an older document holds that is measured elsewhere, with its marks; empty for nothing.
pub(crate) fn kept(before: &str) -> &str {
    apart(before).and_then(|range| before.get(range)).unwrap_or("")
}

/// Where that lies.
fn apart(before: &str) -> Option<Range<usize>> {
    let (from, to) = before.find(APART[0]).zip(before.find(APART[1]))?;
    Some(from..to + APART[1].len() + 1)
}

/// Where a section lies, from the empty line before its title to the one before the next:
/// what `report::section` writes.
fn section(before: &str, title: &str) -> Option<Range<usize>> {
    let head = format!("\n## {title}\n");
    let from = before.find(&head)?;
    let rest = from + head.len();
    let next = before[rest..].find("\n## ").map(|at| rest + at);
    let elsewhere = before[rest..].find(APART[0]).map(|at| rest + at);
    Some(from..next.into_iter().chain(elsewhere).min().unwrap_or(before.len()))
}

/// The document with these sections, each a title and its text, in place of its own.
fn replaced(before: &str, sections: &[(&str, String)]) -> Outcome<String> {
    let mut text = before.to_owned();
    for (title, new) in sections {
        let Some(range) = section(&text, title) else { return fail(lacks(title)) };
        text.replace_range(range, new);
    }
    Ok(text)
}

fn lacks(title: &str) -> String {
    format!(
        "benchmarks.md has no section \"{title}\" to replace, and nothing was written: \
         ./bench/run without --only writes all of them"
    )
}

/// Fails when a section could not be replaced: asked before minutes are spent on measuring.
pub(crate) fn check(docs: &Path, chosen: &[&Workload]) -> Outcome {
    if let Some(workload) = chosen.iter().find(|w| w.asked_for) {
        return fail(format!(
            "the section of {} is measured in a guest: ./tests/qemu bench replaces it",
            workload.name
        ));
    }
    let before = read(docs)?;
    match chosen.iter().find(|w| section(&before, w.title).is_none()) {
        Some(workload) => fail(lacks(workload.title)),
        None => Ok(()),
    }
}

fn read(docs: &Path) -> Outcome<String> {
    let path = docs.join("benchmarks.md");
    std::fs::read_to_string(&path).or_else(|e| {
        let path = path.display();
        fail(format!("{path}: {e}; ./bench/run without --only writes it"))
    })
}

/// The document with the sections of these workloads measured anew, on that day.
pub(crate) fn update(
    docs: &Path,
    chosen: &[&Workload],
    results: &Results,
    c: &Circumstances,
    day: &str,
) -> Outcome<String> {
    let before = read(docs)?;
    let nothing = |w: &&&Workload| results.cases.iter().all(|case| case.workload != w.name);
    if let Some(workload) = chosen.iter().find(nothing) {
        return fail(format!("{} has no values here: the document is as it was", workload.name));
    }
    let sections: Vec<_> = chosen
        .iter()
        .map(|workload| {
            let mut text = String::new();
            let anew = anew(&before, workload, c, day);
            report::section(&mut text, workload, results, c, Some(&anew));
            (workload.title, text)
        })
        .collect();
    replaced(&before, &sections)
}

/// When and on what a section was measured, as far as the document's head does not say it.
fn anew(before: &str, workload: &Workload, c: &Circumstances, day: &str) -> String {
    let head: Vec<&str> = before.lines().take_while(|line| !line.starts_with("## ")).collect();
    let commit = c.machine.iter().find(|(key, _)| key == "commit");
    let commit = commit.map_or("unknown", |(_, value)| value);
    let machine = c.machine.iter().filter(|(key, _)| key != "commit");
    let mut lines: Vec<_> = machine.map(|(key, value)| format!("{key}: {value}")).collect();
    lines.push(format!("run: {}", c.run));
    let missing = c.missing.iter().filter(|(side, _)| workload.sides.contains(side));
    lines.extend(missing.map(|(side, why)| report::not_measured(*side, why)));
    lines.retain(|line| !head.contains(&&*format!("- {line}")));
    // The list of losses is of the whole run: who reads it must not hold it against this table.
    let mut text = format!(
        "Measured anew on {day} at commit {commit}, later than \"Where Freehold loses\" above."
    );
    if !lines.is_empty() {
        text.push_str(&format!(" Other than above: {}.", lines.join("; ")));
    }
    text
}

/// Writes the document as a whole or not at all.
pub(crate) fn put(docs: &Path, text: &str) -> Outcome {
    let (path, new) = (docs.join("benchmarks.md"), docs.join("benchmarks.md.new"));
    let done = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path));
    if done.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    done?;
    println!("\nwritten: {}", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Side;
    use crate::work::ALL;

    const HEAD: &str = "# Benchmarks\n\n- kernel: 1\n- commit: a\n- run: full\n\n## Where\n\n- x\n";
    const ONE: &str = "\n## One\n\nHow.\n\n|  | A |\n| --- | ---: |\n| a | 1 |\n";
    /// Its title begins as that of the first.
    const MORE: &str = "\n## One more\n\nHow.\n\n![a](plots/a.svg)\n";
    const LAST: &str = "\n## Last\n\nHow.\n\nA note.\n";

    fn guest() -> String {
        format!("{}\n\n## Guest\n\nHow.\n\nNowhere.\n{}\n", APART[0], APART[1])
    }

    fn new(title: &str) -> String {
        format!("\n## {title}\n\nNew.\n")
    }

    #[test]
    fn only_what_is_named_is_replaced() {
        let guest = guest();
        let before = [HEAD, ONE, MORE, LAST, &guest].concat();
        let (one, more, last) = (new("One"), new("One more"), new("Last"));
        for (sections, after) in [
            (vec![("One", one.clone())], [HEAD, &one, MORE, LAST, &guest]),
            (vec![("One more", more.clone())], [HEAD, ONE, &more, LAST, &guest]),
            (vec![("Last", last.clone())], [HEAD, ONE, MORE, &last, &guest]),
            (vec![("Last", last.clone()), ("One", one.clone())], [HEAD, &one, MORE, &last, &guest]),
        ] {
            assert_eq!(replaced(&before, &sections).expect("they are there"), after.concat());
        }
        assert_eq!(kept(&before), guest);
    }

    #[test]
    fn the_last_section_ends_with_the_document() {
        let after = replaced(&[HEAD, ONE, LAST].concat(), &[("Last", new("Last"))]);
        assert_eq!(after.expect("it is there"), [HEAD, ONE, &new("Last")].concat());
    }

    #[test]
    fn a_missing_section_is_named_and_nothing_replaced() {
        let before = [HEAD, ONE, &guest()].concat();
        for title in ["Last", "One more", "On"] {
            let sections = [("One", new("One")), (title, new(title))];
            let why = replaced(&before, &sections).expect_err("it is not there").to_string();
            assert!(why.contains(&format!("{title:?}")), "{why}");
        }
    }

    #[test]
    fn it_says_what_the_head_does_not() {
        let line = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut c = Circumstances {
            machine: vec![line("kernel", "1"), line("commit", "b, changed")],
            run: "full".into(),
            missing: Vec::new(),
            failed: Vec::new(),
            plots: Vec::new(),
        };
        let short = "Measured anew on 2026-11-22 at commit b, changed, later than \
                     \"Where Freehold loses\" above.";
        assert_eq!(anew(HEAD, &ALL[0], &c, "2026-11-22"), short);
        c.machine[0] = line("kernel", "2");
        c.missing = vec![(Side::Xfs, "no root".into()), (Side::Raw, "no root".into())];
        let long = format!("{short} Other than above: kernel: 2; XFS: not measured here: no root.");
        assert_eq!(anew(HEAD, &ALL[0], &c, "2026-11-22"), long);
    }
}
