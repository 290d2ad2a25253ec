//! One store, one owner.

use crate::program::harness::{Ending, Place};
use freehold::{OpenOptions, Store};
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

fn wait_for_any(children: &mut [Ending]) -> usize {
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        for (i, child) in children.iter_mut().enumerate() {
            if child.0.try_wait().unwrap().is_some() {
                return i;
            }
        }
        assert!(Instant::now() < give_up, "nobody lost the race");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn said(child: &mut Child) -> String {
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn of_two_processes_exactly_one_gets_the_store() {
    let place = Place::with_store();
    for round in 0..8 {
        // A put holds the store for as long as its input goes on.
        let start = |name: &str| {
            let mut command = place.command(["put", &place.uri, "-", name]);
            command.stdin(Stdio::piped()).stderr(Stdio::piped());
            Ending(command.spawn().unwrap())
        };
        let mut both = [start("a"), start("b")];
        let loser = wait_for_any(&mut both);
        assert_eq!(both[loser].0.wait().unwrap().code(), Some(2), "round {round}");
        let text = said(&mut both[loser].0);
        assert!(text.contains("serve") && text.lines().count() == 1, "{text}");
        let winner = &mut both[1 - loser].0;
        winner.stdin.take().unwrap().write_all(b"won").unwrap();
        assert_eq!(winner.wait().unwrap().code(), Some(0), "{}", said(winner));
        let name = ["a", "b"][1 - loser];
        assert_eq!(place.names(), [name], "round {round}");
        assert_eq!(place.cat(name), b"won");
        place.on("rm", [name]).ok();
    }
    place.assert_clean();
}

#[test]
fn a_store_that_is_open_elsewhere_is_busy_for_every_verb() {
    let place = Place::with_store();
    place.put("f", b"bytes");
    let store = Store::open(&place.uri, &OpenOptions::default()).unwrap();
    for (verb, args) in [
        ("info", vec![]),
        ("ls", vec![]),
        ("cat", vec!["f"]),
        ("get", vec!["f", "local"]),
        ("rm", vec!["f"]),
        ("mv", vec!["f", "g"]),
        ("reflink", vec!["f", "g"]),
        ("check", vec![]),
        ("df", vec![]),
        ("format", vec!["--force", "--size", "64M"]),
    ] {
        place.on(verb, args).refused(2, "serve");
    }
    place.run(["bench", "randread", &place.uri]).refused(2, "serve");
    assert!(!place.path("local").exists());
    store.close().unwrap();
    assert_eq!(place.cat("f"), b"bytes");
}
