//! One file of very many extents: how fast it is looked up and reflinked, and
//! what memory its map takes.

use super::Site;
use super::reflink::case;
use crate::bed::{BLOCK, Ours};
use crate::drive::Rng;
use crate::outcome::Outcome;
use crate::results::{Results, Side, Unit, median};
use std::hint::black_box;
use std::time::{Duration, Instant};

pub(crate) const HOW: &str = "Every second block of the file is allocated, none is written. \
    Memory is the growth of the process (resident set) while the map was made, and again while \
    every part of it was looked at after opening the store anew. A look-up is `iomap` of one \
    random block, warm. The reflink is the last row of its own table.";

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let extents = site.scale.map;
    let ours = Ours::new(site.stage)?;
    let before = resident();
    let file = ours.file("map")?;
    for i in 0..extents {
        file.allocate(i * 2 * BLOCK, BLOCK)?;
    }
    file.sync()?;
    ours.store.checkpoint()?;
    let each = |bytes: u64| bytes as f64 / extents as f64;
    let name = format!("memory, bytes for each of {extents} extents");
    if let Some(bytes) = resident().zip(before).map(|(a, b)| a.saturating_sub(b)) {
        results.add("map", name, Unit::Number, side, each(bytes));
    }
    let mut rng = Rng::new(3);
    let mut look = |n: u64| -> Outcome<Duration> {
        let start = Instant::now();
        for _ in 0..n {
            black_box(file.iomap(rng.below(extents) * 2 * BLOCK, BLOCK)?);
        }
        Ok(start.elapsed())
    };
    look(extents / 2)?;
    let n = (extents / 4).max(1000);
    let mut times = Vec::new();
    for _ in 0..5 {
        times.push(look(n)?.as_secs_f64() / n as f64);
    }
    for time in times {
        results.add("map", format!("look-up among {extents} extents"), Unit::Time, side, time);
    }
    let mut times = Vec::new();
    for i in 0..5 {
        let start = Instant::now();
        file.reflink(format!("copy-{i}").as_bytes())?.sync()?;
        times.push(start.elapsed().as_secs_f64());
    }
    if let Some(time) = median(&times) {
        results.add("reflink", case(extents), Unit::Time, side, time);
    }
    drop(file);
    reopened(site, ours, extents, results)
}

/// The same map, read back from the medium.
fn reopened(site: &Site<'_>, ours: Ours<'_>, extents: u64, results: &mut Results) -> Outcome {
    ours.store.checkpoint()?;
    drop(ours);
    let start = Instant::now();
    let store = site.stage.open()?;
    results.time("map", "opening the store", Side::Freehold, start.elapsed());
    let before = resident();
    let file = store.open_file(b"map")?;
    // One look-up in each stretch that is shorter than any node's.
    for i in (0..extents).step_by(16) {
        black_box(file.iomap(i * 2 * BLOCK, BLOCK)?);
    }
    if let Some(bytes) = resident().zip(before).map(|(a, b)| a.saturating_sub(b)) {
        let each = bytes as f64 / extents as f64;
        let name = format!("memory after opening, bytes for each of {extents} extents");
        results.add("map", name, Unit::Number, Side::Freehold, each);
    }
    Ok(())
}

/// Bytes of memory that this process has.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
