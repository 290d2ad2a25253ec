//! The demonstration, in a small setting, and what it leaves: nothing.

use crate::program::harness::{Ending, Place, bytes};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

#[test]
fn process_kill_demo_verifies_every_byte() {
    let place = Place::empty();
    let said = place.run(["demo", "--quick", "--seed", "1"]).ok();
    for step in [
        "format",
        "put",
        "write",
        "read",
        "reflink",
        "overwrite",
        "kill -9",
        "recover",
        "check",
        "nvme",
        "power cut",
    ] {
        assert!(said.lines().any(|line| line.starts_with(step)), "no {step} in\n{said}");
    }
    assert!(said.contains("seed 1"), "{said}");
    assert!(said.contains("4,000 extents, durable"), "{said}");
    assert!(said.contains("Proven:") && said.contains("power loss"), "{said}");
    assert_eq!(std::fs::read_dir(&place.dir).unwrap().count(), 0, "{said}");
}

#[test]
fn process_kill_demo_takes_files_of_its_user() {
    let place = Place::empty();
    place.local("a", &bytes(1, 300_001));
    place.local("empty", b"");
    let said = place.run(["demo", "--quick", "--keep", "a", "empty"]).ok();
    let kept = said.lines().find_map(|line| line.strip_prefix("The store is kept: "));
    let kept = kept.unwrap_or_else(|| panic!("no store in\n{said}"));
    assert!(place.run(["cat", kept, "inputs/0/a"]).stdout == bytes(1, 300_001));
    assert_eq!(place.run(["stat", kept, "copies/inputs/1/empty", "--json"]).json()["size"], 0);
    assert_eq!(place.run(["check", kept, "--json"]).json()["clean"], true);
}

#[test]
fn a_demo_that_cannot_run_says_why() {
    let place = Place::empty();
    place.run(["demo", "--quick", "missing"]).refused(1, "missing");
    place.run(["demo", "--quick", "--dir", "no/such/dir"]).refused(1, "no/such/dir");
    assert_eq!(std::fs::read_dir(&place.dir).unwrap().count(), 0);
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    // Not SIGINT: what runs these tests may have it ignored.
    let place = Place::empty();
    let mut command = place.command(["demo", "--quick"]);
    let mut child = Ending(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("format"));
    assert!(std::fs::read_dir(&place.dir).unwrap().count() > 0);
    kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), None);
    // Whoever cleans up outlives the demonstration by a moment.
    let give_up = Instant::now() + Duration::from_secs(20);
    while std::fs::read_dir(&place.dir).unwrap().count() > 0 {
        assert!(Instant::now() < give_up, "{} is not empty", place.dir.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}
