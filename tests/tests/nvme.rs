//! The store on the emulated controller: its crash promises, when the controller with
//! its volatile cache is killed at random moments.
//!
//! One form loses the cache by a fault, after a random command, so that a seed repeats
//! it; the other kills a process. The faults and the conformance suite over the driver
//! are in `nvme_driver.rs`, the controller by itself in `nvme_emulator.rs`.

#[allow(dead_code)]
#[path = "program/harness.rs"]
mod harness;
mod nvme {
    mod asleep;
}

use freehold_tests::nvme::killed;
use freehold_tests::nvme::served::fresh_path;
use freehold_tests::random::Random;
use freehold_tests::seeds;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn m1_what_was_flushed_survives_the_loss_of_the_cache() {
    let mut syncs = 0;
    for seed in seeds::range(0..8) {
        match killed::seed(seed) {
            Ok(confirmed) => syncs += confirmed,
            Err(why) => panic!("seed {seed}: {why}; {}", seeds::again("nvme", seed)),
        }
    }
    assert!(syncs > 0, "nothing was ever confirmed");
}

#[test]
fn m1_what_is_behind_a_regions_barrier_survives_the_loss_of_the_rest() {
    let mut syncs = 0;
    for seed in seeds::range(0..8) {
        match killed::region_seed(seed) {
            Ok(confirmed) => syncs += confirmed,
            Err(why) => panic!("seed {seed}: {why}; {}", seeds::again("nvme", seed)),
        }
    }
    assert!(syncs > 0, "nothing was ever confirmed");
}

#[test]
fn m1_a_journal_on_the_region_survives_the_loss_of_both_caches() {
    let mut syncs = 0;
    for seed in seeds::range(0..8) {
        match killed::journal_seed(seed) {
            Ok(confirmed) => syncs += confirmed,
            Err(why) => panic!("seed {seed}: {why}; {}", seeds::again("nvme", seed)),
        }
    }
    assert!(syncs > 0, "nothing was ever confirmed");
}

/// A process that serves, killed when this is dropped.
struct Emulator(Child);

impl Emulator {
    fn start(socket: &Path, backing: &Path, seed: u64, more: &[&str]) -> Self {
        let (seed, backing) = (seed.to_string(), backing.to_str().expect("UTF-8"));
        let mut args = vec!["--size", "64M", "--backing", backing];
        args.extend(["--volatile-cache", "--seed", &seed]);
        args.extend(more);
        Self::serve(socket, &args)
    }

    /// Serves as it is told.
    fn serve(socket: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(harness::program());
        command.arg("emulate").arg("--socket").arg(socket).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a line");
        assert!(line.starts_with("serving on "), "{line:?}");
        Self(child)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // SIGKILL: nothing is flushed, the socket stays.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Stories whose emulator is killed by SIGKILL at a moment of the clock; `key` ends the store's
/// name, `more` is for the emulator.
fn killed_by_signal(seeds: std::ops::Range<u64>, key: &str, more: impl Fn(&Path) -> Vec<String>) {
    for seed in seeds {
        let mut random = Random::new(seed);
        let (backing, socket, region) = (fresh_path("img"), fresh_path("sock"), fresh_path("pmr"));
        let lba = *random.pick(&["512", "4096"]);
        let more = more(&region);
        let args: Vec<&str> = ["--lba", lba].into_iter().chain(more.iter().map(|m| &**m)).collect();
        let start =
            |random: &mut Random| Emulator::start(&socket, &backing, random.next_u64(), &args);
        let uri = format!("vfio-user:{}{key}", socket.display());
        let emulator = start(&mut random);
        let mut promises = killed::prepare(&uri).expect("a new store");
        drop(emulator);
        for _ in 0..3 {
            let emulator = start(&mut random);
            let when = Duration::from_micros(random.below(150_000));
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    std::thread::sleep(when);
                    drop(emulator);
                });
                killed::work(&uri, &mut promises, &mut random, u64::MAX, |_| {});
            });
            let _next = start(&mut random);
            let judged = killed::judge(&uri, &mut promises);
            judged.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        }
        for path in [socket, backing, region] {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[test]
fn m1_what_was_flushed_survives_a_kill() {
    killed_by_signal(seeds::range(0..4), "", |_| Vec::new());
}

#[test]
fn m1_a_journal_on_the_region_survives_a_kill() {
    killed_by_signal(seeds::range(0..3), "?journal=pmr", |region| {
        vec!["--pmr".to_owned(), format!("{}:2M", region.display())]
    });
}

#[test]
fn an_emulator_ends_well_when_it_is_asked_to() {
    let (backing, socket) = (fresh_path("img"), fresh_path("sock"));
    let mut emulator = Emulator::start(&socket, &backing, 1, &[]);
    let uri = format!("vfio-user:{}", socket.display());
    let mut promises = killed::prepare(&uri).expect("a new store");
    let pid = rustix::process::Pid::from_child(&emulator.0);
    killed::work(&uri, &mut promises, &mut Random::new(1), 50, |_| {});
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it lives");
    assert!(emulator.0.wait().expect("it ends").success());
    assert!(!socket.exists(), "the socket is removed");
    let _next = Emulator::start(&socket, &backing, 2, &[]);
    killed::judge(&uri, &mut promises).expect("what was written is there");
    let _ = std::fs::remove_file(&backing);
}

#[test]
fn emulators_that_make_no_sense_are_refused() {
    let place = harness::Place::empty();
    let (backing, socket) = (place.path("img"), place.path("sock"));
    let base = ["emulate", "--socket", socket.to_str().expect("UTF-8")];
    let run = |more: &[&str]| place.run(base.iter().chain(more).copied());
    run(&["--size", "100"]).refused(2, "multiple of 4096");
    run(&["--size", "1M", "--size", "5K"]).refused(2, "multiple of 4096");
    run(&["--size", "1M", "--volatile-cache", "--atomic", "3K"]).refused(2, "power of two");
    std::fs::write(&backing, [0; 8192]).expect("a file");
    run(&["--size", "1M", "--backing", backing.to_str().expect("UTF-8")]).refused(2, "8192 bytes");
    run(&["--size", "1M", "--backing", "/proc/version"]).refused(2, "/proc/version");
    run(&["--size", "1M", "--backing", "/"]).refused(2, "directory");
    std::fs::write(&socket, "not a socket").expect("a file");
    run(&["--size", "1M"]).refused(2, "socket");
    for fault in ["explode", "drop:nth=0", "delay:ms"] {
        let ran = place.run(base.iter().chain(&["--size", "1M", "--fault", fault]).copied());
        assert_eq!(ran.code, Some(2), "{fault}: {}", ran.stderr);
        assert!(ran.stderr.contains("KIND:KEY=VALUE"), "{}", ran.stderr);
    }
}
