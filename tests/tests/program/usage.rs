//! Help, completions, manual pages, and commands that make no sense.

use crate::program::harness::{Place, Ran};

const VERBS: [&str; 30] = [
    "format",
    "info",
    "ls",
    "put",
    "get",
    "cat",
    "rm",
    "mv",
    "stat",
    "map",
    "truncate",
    "punch",
    "zero",
    "collapse",
    "insert",
    "allocate",
    "reflink",
    "defrag",
    "diff",
    "doctor",
    "emulate",
    "bind",
    "unbind",
    "check",
    "df",
    "stats",
    "bench",
    "demo",
    "completions",
    "man",
];

/// It exited with 2 and says how it is used.
#[track_caller]
fn misused(ran: Ran) {
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("--help"), "{}", ran.stderr);
    assert!(ran.stdout.is_empty());
}

#[test]
fn help_lists_every_verb_and_no_hidden_one() {
    let place = Place::empty();
    let help = place.run(["--help"]).ok();
    for verb in VERBS {
        assert!(help.lines().any(|line| line.trim_start().starts_with(verb)), "{verb}: {help}");
        assert!(place.run([verb, "--help"]).ok().contains("Usage: freehold"), "{verb}");
    }
    assert!(
        !help.contains("demo-writer") && !help.contains("demo-device") && !help.contains("janitor"),
        "{help}"
    );
    assert!(place.run(["--version"]).ok().starts_with("freehold "));
}

#[test]
fn commands_that_make_no_sense_exit_with_2() {
    let place = Place::empty();
    misused(place.run(["frobnicate"]));
    misused(place.run(["ls"]));
    misused(place.run(["ls", "file:x", "--no-such-option"]));
    misused(place.run(["format", "file:x", "--size", "huge"]));
    misused(place.run(["truncate", "file:x", "name", "-1"]));
    misused(place.run(["truncate", "file:x", "name", "18446744073709551616"]));
    misused(place.run(["ls", "file:x", "--delimiter", "ab"]));
    misused(place.run(["bench", "juggle", "mem:64M"]));
    assert_eq!(place.run::<&str>([]).code, Some(2));
    assert_eq!(std::fs::read_dir(&place.dir).unwrap().count(), 0);
}

#[test]
fn completions_are_written_for_the_common_shells() {
    let place = Place::empty();
    for shell in ["bash", "zsh", "fish"] {
        let text = place.run(["completions", shell]).ok();
        assert!(text.contains("freehold") && text.contains("reflink"), "{shell}");
    }
    misused(place.run(["completions", "cmd.exe"]));
}

#[test]
fn manual_pages_are_written() {
    let place = Place::empty();
    let page = place.run(["man"]).ok();
    assert!(page.contains(".TH freehold 1") && page.contains("reflink"));
    assert!(place.run(["man", "put"]).ok().contains("atomically"));
    place.run(["man", "janitor"]).refused(2, "janitor");
    place.run(["man", "--dir", "pages"]).ok();
    for verb in VERBS {
        let path = place.path(format!("pages/freehold-{verb}.1"));
        assert!(std::fs::read_to_string(&path).unwrap().contains(".TH"), "{}", path.display());
    }
    assert_eq!(std::fs::read_dir(place.path("pages")).unwrap().count(), VERBS.len() + 1);
}
