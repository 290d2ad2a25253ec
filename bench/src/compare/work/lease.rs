//! Leases: pins beside what others do to say "in use", grants, revocations, I/O through a
//! lease, memory; and what a file pays that has none (`lease`).

use super::Site;
use crate::bed::BLOCK;
use crate::outcome::{Outcome, fail};
use crate::results::{Results, Side, Unit};
use freehold::{File, Store};
use freehold_bench::leases::{BLOCKS, Bed, PIECES};
use freehold_bench::null::{NullMedium, mark};
use freehold_bench::pins::{self, Shared};
use freehold_blockmap::arbiter::Access;
use std::path::Path;
use std::time::Instant;

pub(crate) const HOW: &str = "Pins are timed in batches, on one thread and on two at once that \
    pin the same lease; the rivals take turns with them: an `Arc` that is cloned and dropped, a \
    pin of crossbeam-epoch, a read lock of an `RwLock`. Grants are of one block of a file of \
    64 MiB in one piece, where nothing must be allocated. An idle lease was pinned once and is \
    taken by an Exclusive grant of another session, which is timed. 4 KiB at random blocks, \
    QD32, on a memory medium that moves no data; of a file in one piece, and of one in pieces \
    of 4 KiB with a hole behind each, where each command is in another extent. Memory is the growth of a process of its \
    own (resident set). The last rows are of files without seals and leases, on the same \
    medium, through `File` and `Store`, which block.";

/// Rows of which the first is ours and the second a rival: a loss is one.
pub(crate) const RIVALS: &[(&str, &str)] = &[
    (pins::PIN, pins::OWN_ARC),
    (pins::PIN, pins::ONE_ARC),
    (pins::PIN, pins::EPOCH),
    (pins::PIN, pins::RW_LOCK),
    (pins::WINDOW, pins::OWN_ARC),
    (pins::WINDOW, pins::ONE_ARC),
    (pins::WINDOW, pins::EPOCH),
    (pins::WINDOW, pins::RW_LOCK),
    (FILL, BY_OFFSET),
    (FILL, BARE),
    (FILL_PIECES, PIECES_BY_OFFSET),
];

/// What is shown beside each other.
const PINS: &[&str] = &[
    pins::PIN,
    pins::WINDOW,
    pins::MEMORY,
    pins::OWN_ARC,
    pins::ONE_ARC,
    pins::EPOCH,
    pins::RW_LOCK,
];

const FILL: &str = "4 KiB fills through a lease";
const BY_OFFSET: &str = "4 KiB reads by offset";
const FILL_PIECES: &str = "4 KiB fills, a file of 131,072 extents";
const PIECES_BY_OFFSET: &str = "4 KiB reads by offset, 131,072 extents";
const BARE: &str = "4 KiB reads of the bare medium";

/// Turns in a round.
const TURNS: u64 = 5;

/// How the row of a pin is called.
pub(crate) fn on_threads(name: &str, threads: usize) -> String {
    let s = if threads == 1 { "" } else { "s" };
    format!("{name}, {threads} thread{s}")
}

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let (pinned, many) = (site.scale.pins, site.scale.leases.min(BLOCKS));
    if site.round == 0 {
        weigh(site.dir, 20 * many, results)?;
    }
    let shared = Shared::new()?;
    for _ in 0..TURNS {
        for threads in [1, 2] {
            for (name, work) in pins::WORKS.iter().filter(|(name, _)| PINS.contains(name)) {
                let each = pins::time(threads, *work, &shared, pinned) / 1e9;
                results.add("lease", on_threads(name, threads), Unit::Time, side, each);
            }
        }
    }
    drop(shared);
    let bed = Bed::new()?;
    for _ in 0..TURNS {
        for access in [Access::Read, Access::Write, Access::Stable, Access::Exclusive] {
            let name = format!("grant and return, {access:?}");
            results.add("lease", name, Unit::Time, side, bed.granted(access, many)?);
        }
        let mut time = |name: String, took| results.add("lease", name, Unit::Time, side, took);
        time("one idle lease taken".into(), bed.one_taken(many / 10)?);
        time(format!("{many} idle leases taken by one grant"), bed.all_taken(many)?);
        for (name, rate) in [
            (FILL, bed.through(pinned)?),
            (BY_OFFSET, bed.by_offset(pinned)?),
            (BARE, bed.bare(pinned)?),
        ] {
            results.add("lease", name, Unit::PerSecond, side, rate);
        }
    }
    drop(bed);
    let bed = Bed::in_pieces()?;
    debug_assert_eq!(PIECES, 131_072, "the rows say so");
    for _ in 0..TURNS {
        for (name, rate) in
            [(FILL_PIECES, bed.through(pinned)?), (PIECES_BY_OFFSET, bed.by_offset(pinned)?)]
        {
            results.add("lease", name, Unit::PerSecond, side, rate);
        }
    }
    drop(bed);
    let store = Store::format_on(NullMedium::new(memory(256 << 20)?))?;
    for _ in 0..TURNS {
        for (name, took) in unleased(&store, many / 10)? {
            results.add("lease", format!("no leases: {name}"), Unit::Time, side, took);
        }
    }
    Ok(())
}

fn memory(bytes: u64) -> Outcome<std::sync::Arc<dyn freehold_engine::medium::Medium>> {
    Ok(freehold_engine::open(&format!("mem:{bytes}"), &Default::default())?)
}

/// Seconds of operations on files that have no leases, `count` times each.
fn unleased(store: &Store, count: u64) -> Outcome<[(&'static str, f64); 4]> {
    let each = |begun: Instant| begun.elapsed().as_secs_f64() / count as f64;
    let file = store.create(b"file")?;
    let mut block = vec![0; BLOCK as usize];
    mark(&mut block);
    for i in 0..count {
        file.write_at(&block, i * BLOCK)?;
    }
    file.sync()?;
    let begun = Instant::now();
    for i in 0..count {
        file.write_at(&block, i * BLOCK)?;
    }
    let overwrite = each(begun);
    let names: Vec<_> = (0..count).map(|i| format!("copy-{i}").into_bytes()).collect();
    let mut copies: Vec<File> = Vec::with_capacity(names.len());
    let begun = Instant::now();
    for name in &names {
        copies.push(file.reflink(name)?);
    }
    let reflink = each(begun);
    drop(copies);
    let begun = Instant::now();
    for name in &names {
        store.remove(name)?;
    }
    let unlink = each(begun);
    store.checkpoint()?;
    let begun = Instant::now();
    for i in (0..count).rev() {
        file.truncate(i * BLOCK)?;
    }
    let truncate = each(begun);
    store.remove(b"file")?;
    drop(file);
    store.checkpoint()?;
    Ok([
        ("4 KiB overwrite in place", overwrite),
        ("reflink of a file of one extent", reflink),
        ("unlink of a reflink", unlink),
        ("truncate by one block", truncate),
    ])
}

/// Has a process that has done nothing else say what leases weigh.
fn weigh(dir: &Path, leases: u64, results: &mut Results) -> Outcome {
    let out = std::process::Command::new(std::env::current_exe()?)
        .arg("--work")
        .arg(dir)
        .args(["--weigh", &leases.to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let [idle, pinned] = numbers[..] else {
        return fail(format!("leases were not weighed: {}", String::from_utf8_lossy(&out.stderr)));
    };
    let mut bytes = |name, n| results.add("lease", name, Unit::Number, Side::Freehold, n);
    bytes("bytes for an idle lease", idle);
    bytes("bytes more for each thread that pinned it", pinned);
    Ok(())
}

/// Says what so many leases weigh, each.
pub(crate) fn print_weight(leases: u64) -> Outcome {
    let (idle, pinned) = Bed::new()?.weight(leases)?;
    println!("{idle} {pinned}");
    Ok(())
}
