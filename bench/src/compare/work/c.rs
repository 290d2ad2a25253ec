//! What the C library adds to an operation (`c`).

use super::Site;
use crate::bed::BLOCK;
use crate::drive::Rng;
use crate::outcome::{Outcome, fail};
use crate::results::{Results, Side, Unit};
use freehold::{Access, LeaseOptions, Store};
use freehold_bench::null::NullMedium;
use freehold_c::rig::{Rig, Through};
use std::ffi::OsString;
use std::process::Command;
use std::time::Instant;

pub(crate) const HOW: &str = "The medium of \"Reads without a device\", a file of 4 MiB, QD32, one \
    thread: the same loop in Rust through `Queue`, and through `fh_queue_read`, `fh_queue_fill` \
    and `fh_queue_poll`, called by their addresses as a program in C calls them. A fill goes \
    through a lease, without a look-up. In turns, each a process of its own (where its memory comes \
    to lie is worth some nanoseconds either way), so that both see the same machine; what C takes \
    more is of each pair of turns. Instructions are counted by callgrind (user side), as the difference of \
    two runs of which one is longer. A pin of C is a long one: it may go to another thread.";

/// Operations in flight.
const DEPTH: usize = 32;
/// Bytes of the file.
const SIZE: u64 = 4 << 20;
/// Pairs of turns in a round.
const TURNS: usize = 20;

const LANGUAGES: [(&str, &str); 2] = [("rust", "Rust"), ("c", "C")];

const ROWS: [(Through, &str, &str); 2] =
    [(Through::Reads, "reads", "a read"), (Through::Fills, "fills", "a fill through a lease")];

/// A store whose reads need no device.
fn store() -> Outcome<Store> {
    let medium = freehold_engine::open("mem:32M", &Default::default())?;
    let medium = NullMedium::new(medium);
    let store = Store::format_on(medium.clone())?;
    store.create(b"file")?.write_at(&vec![1; SIZE as usize], 0)?;
    store.checkpoint()?;
    medium.silence();
    Ok(store)
}

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let count = site.scale.leases * 50;
    for (what, word, name) in ROWS {
        for turn in 0..TURNS {
            let mut took = [0.0; 2];
            for half in 0..2 {
                let which = (turn + half) % 2;
                took[which] = timed(site, LANGUAGES[which].0, word, count)?;
            }
            let [in_rust, in_c] = took;
            results.add("c", format!("{name}, Rust"), Unit::Time, side, in_rust);
            results.add("c", format!("{name}, C"), Unit::Time, side, in_c);
            let more = format!("{name}, C more than Rust in the turn beside it, ns");
            results.add("c", more, Unit::Number, side, (in_c - in_rust) * 1e9);
        }
        for (language, in_words) in LANGUAGES {
            let Some(each) = instructions(site, language, word, count / 20) else {
                results.note("c", "Instructions: not measured here: valgrind does not run.");
                continue;
            };
            let name = format!("instructions of {name}, {in_words}");
            results.add("c", name, Unit::Number, side, each);
        }
        if what == Through::Fills {
            let mut rig = Rig::new(store()?, "file", DEPTH, what)?;
            let begun = Instant::now();
            rig.pins(count)?;
            let each = begun.elapsed().as_secs_f64() / count as f64;
            results.add("c", "a pin and its end, C", Unit::Time, side, each);
        }
    }
    Ok(())
}

/// The loop in Rust.
struct Rust {
    file: freehold::File,
    queue: freehold::Queue,
    buffers: Vec<freehold::Buffer>,
    leased: Vec<freehold::LeaseBuffer>,
    what: Through,
}

impl Rust {
    fn new(store: &Store, what: Through) -> Outcome<Self> {
        let (file, queue) = (store.open_file(b"file")?, store.queue(DEPTH as u32)?);
        let (mut buffers, mut leased) = (Vec::new(), Vec::new());
        match what {
            Through::Reads => {
                for _ in 0..DEPTH {
                    buffers.push(queue.buffer(BLOCK as usize)?);
                }
            }
            Through::Fills => {
                let lease = file.lease(.., Access::Read, &LeaseOptions::default())?;
                for at in (0..DEPTH as u64).map(|i| i * BLOCK) {
                    leased.push(lease.buffer_at(at..at + BLOCK)?);
                }
            }
        }
        Ok(Rust { file, queue, buffers, leased, what })
    }

    fn go(&mut self, count: u64, rng: &mut Rng) -> Outcome {
        let (mut done, mut completed) = (Vec::with_capacity(DEPTH), 0);
        while completed < count {
            let mut taken = true;
            match self.what {
                Through::Reads => {
                    while let Some(buf) = self.buffers.pop() {
                        let at = rng.below(SIZE / BLOCK) * BLOCK;
                        taken &= self.queue.read(&self.file, at, buf, 0).is_ok();
                    }
                }
                Through::Fills => {
                    while let Some(buf) = self.leased.pop() {
                        taken &= self.queue.fill(buf, 0).is_ok();
                    }
                }
            }
            if !taken {
                return fail("the queue took no operation");
            }
            self.queue.poll(&mut done);
            for mut c in done.drain(..) {
                match self.what {
                    Through::Reads => self.buffers.extend(c.buf.take()),
                    Through::Fills => self.leased.extend(c.take_lease()),
                }
                if c.result? as u64 != BLOCK {
                    return fail("a read was short");
                }
                completed += 1;
            }
        }
        Ok(())
    }
}

/// So many operations, and how long one takes, in nanoseconds: in a process of their own, and
/// for callgrind.
pub(crate) fn read(words: &[String]) -> Outcome {
    let [language, what, count] = words else { return fail("three words") };
    let Some((what, ..)) = ROWS.into_iter().find(|(_, word, _)| *word == what.as_str()) else {
        return fail("reads or fills");
    };
    let (store, count, mut rng) = (store()?, count.parse::<u64>()?, Rng::new(1));
    let begun = match language.as_str() {
        "c" => {
            let mut rig = Rig::new(store, "file", DEPTH, what)?;
            let begun = Instant::now();
            rig.go(count, || rng.below(SIZE / BLOCK))?;
            begun
        }
        _ => {
            let mut rust = Rust::new(&store, what)?;
            let begun = Instant::now();
            rust.go(count, &mut rng)?;
            begun
        }
    };
    println!("{}", begun.elapsed().as_nanos() as f64 / count as f64);
    Ok(())
}

/// The words that say what a process is to do.
fn words(site: &Site<'_>, language: &str, what: &str, count: u64) -> Vec<OsString> {
    let words = ["--read-c", language, what, &count.to_string()].map(OsString::from);
    [OsString::from("--work"), site.dir.into()].into_iter().chain(words).collect()
}

/// Seconds for an operation, in a process of its own.
fn timed(site: &Site<'_>, language: &str, what: &str, count: u64) -> Outcome<f64> {
    let program = std::env::current_exe()?;
    let out = Command::new(program).args(words(site, language, what, count)).output()?;
    if !out.status.success() {
        return fail(String::from_utf8_lossy(&out.stderr));
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().parse::<f64>()? / 1e9)
}

/// Instructions for each operation.
fn instructions(site: &Site<'_>, language: &str, what: &str, count: u64) -> Option<f64> {
    let program = std::env::current_exe().ok()?;
    let collected = |count: u64| -> Option<u64> {
        let out = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(&program)
            .args(words(site, language, what, count))
            .output()
            .ok()
            .filter(|out| out.status.success())?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let line = said.lines().find_map(|line| line.split_once("Collected :"))?;
        line.1.trim().split(' ').next()?.parse().ok()
    };
    let (few, many) = (collected(count)?, collected(3 * count)?);
    Some(many.saturating_sub(few) as f64 / (2 * count) as f64)
}
