//! Process-kill tests. Killing a process loses no page cache, so they prove no
//! power-loss claim; they prove that no state of ours in memory was needed.

use crate::program::harness::{Ending, Place, bytes};
use std::process::Stdio;
use std::time::Duration;

/// Opens the store although the killed process may still hold it for a moment.
fn settled(place: &Place) {
    for _ in 0..500 {
        if place.on::<&str>("info", []).code == Some(0) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    place.on::<&str>("info", []).ok();
}

#[test]
fn process_kill_put_leaves_the_old_file_or_the_whole_new_one() {
    let place = Place::with_store();
    let (old, new) = (bytes(1, 3_000_000), bytes(2, 6_000_001));
    place.local("old", &old);
    place.local("new", &new);
    place.put("bystander", &old);
    let (mut olds, mut news) = (0, 0);
    // The times sweep over the whole run of a put.
    for round in 0..24 {
        place.on("put", ["old", "f"]).ok();
        let mut command = place.command(["put", &place.uri, "new", "f"]);
        let mut child = Ending(command.stdout(Stdio::null()).spawn().unwrap());
        std::thread::sleep(Duration::from_micros(700 * round));
        drop(child.0.kill());
        child.0.wait().unwrap();
        settled(&place);
        let found = place.cat("f");
        match (found == old, found == new) {
            (true, _) => olds += 1,
            (_, true) => news += 1,
            _ => panic!("neither old nor new after {} us: {} bytes", 700 * round, found.len()),
        }
        assert!(place.cat("bystander") == old);
        place.assert_clean();
    }
    println!("old {olds} times, new {news} times");
    // The last put took away what those before it left.
    place.on("put", ["old", "f"]).ok();
    assert_eq!(place.names(), ["bystander", "f"]);
    place.assert_clean();
}

#[test]
fn process_kill_keeps_what_was_acknowledged() {
    use std::io::{BufRead, BufReader};
    let place = Place::with_store();
    place.put("database", &bytes(3, 1 << 20));
    let mut acknowledged = 0;
    for round in 0..3u64 {
        let records = format!("--records={acknowledged}");
        let mut command = place.command(["demo-writer", &place.uri, "--seed=9", &records]);
        let mut child = Ending(command.stdout(Stdio::piped()).spawn().unwrap());
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            if let Some(count) = line.strip_prefix("record ") {
                acknowledged = count.parse().unwrap();
            }
            if acknowledged >= (round + 1) * 40 {
                drop(child.0.kill());
            }
        }
        child.0.wait().unwrap();
        settled(&place);
        place.assert_clean();
        assert!(place.cat("database") == bytes(3, 1 << 20));
        let log = place.cat("writer/log");
        let mut at = 0;
        for number in 0..acknowledged {
            // Magic, number, length, then the record's bytes, which begin with its number.
            let word = |i: usize| u64::from_le_bytes(log[at + i..at + i + 8].try_into().unwrap());
            assert_eq!(&log[at..at + 8], b"FHRECORD", "record {number} of round {round}");
            assert_eq!((word(8), word(24)), (number, number), "round {round}");
            at += 24 + word(16) as usize;
            assert!(at <= log.len(), "record {number} is cut short in round {round}");
        }
    }
}
