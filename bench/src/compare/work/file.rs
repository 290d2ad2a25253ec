//! One file: reads and overwrites before and after reflinks, and the first
//! write to each block of a fresh one.

use super::Site;
use crate::bed::{self, BLOCK, Bed, Ours};
use crate::drive::{Done, Limit, Rng, counted, drive, permutation};
use crate::outcome::Outcome;
use crate::results::{Results, Side, Unit};
use std::time::Duration;

pub(crate) const HOW: &str = "The device was written whole before, so that the first write to a block costs \
    the system below no more than a later one. The file is written whole in sequence first. Operations are 4 KiB \
    at random blocks, direct, through io_uring on every side; nothing is synced meanwhile. \
    Overwrites after a reflink are the first ones after it, a fixed number of them, and end \
    early after 8 seconds. \"Each block once\" goes through all blocks of a fresh reflink in random \
    order at QD32; it ends after 10 seconds and then counts the rate so far.";

const NAME: &str = "file";

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    if side == Side::Freehold {
        let ours = Ours::new(site.written()?)?;
        all(site, side, &ours, results)?;
        return metadata(site, &ours, results);
    }
    let bed = bed::make(site.written()?, side)?;
    all(site, side, bed.as_ref(), results)
}

fn all(site: &Site<'_>, side: Side, bed: &dyn Bed, results: &mut Results) -> Outcome {
    bed.put(NAME, 0, site.scale.file)?;
    bed.settle()?;
    let mut part = Part { site, side, bed, results };
    part.timed("read, QD32", 32, false)?;
    part.timed("overwrite, QD1", 1, true)?;
    part.timed("overwrite, QD32", 32, true)?;
    if side == Side::Raw {
        return Ok(());
    }
    for i in 0..64 {
        bed.reflink(NAME, &format!("copy-{i}"))?;
    }
    part.timed("read, QD32, after 64 reflinks", 32, false)?;
    for i in 0..64 {
        bed.remove(&format!("copy-{i}"))?;
    }
    bed.settle()?;
    let count = site.scale.after;
    part.after("overwrite, QD32, after a reflink", 32, count)?;
    part.after("overwrite, QD1, after a reflink", 1, count / 8)?;
    part.each_once()
}

struct Part<'a> {
    site: &'a Site<'a>,
    side: Side,
    bed: &'a dyn Bed,
    results: &'a mut Results,
}

impl Part<'_> {
    fn blocks(&self) -> u64 {
        self.site.scale.file / BLOCK
    }

    fn timed(&mut self, case: &str, depth: u32, write: bool) -> Outcome {
        let limit = Limit::time(self.site.scale.time);
        let (blocks, mut rng) = (self.blocks(), Rng::new(self.site.round as u64));
        self.measure(case, depth, write, limit, &mut || rng.below(blocks))
    }

    fn after(&mut self, case: &str, depth: u32, count: u64) -> Outcome {
        let (copy, limit) =
            (format!("after-{depth}"), Limit { time: Duration::from_secs(8), count });
        self.bed.reflink(NAME, &copy)?;
        let (blocks, mut rng) = (self.blocks(), Rng::new(7 + self.site.round as u64));
        self.measure(case, depth, true, limit, &mut || rng.below(blocks))?;
        self.bed.remove(&copy)?;
        self.bed.settle()
    }

    fn each_once(&mut self) -> Outcome {
        // A whole file again, so that all sides begin with the same map.
        self.bed.remove(NAME)?;
        self.bed.settle()?;
        self.bed.put(NAME, 0, self.site.scale.file)?;
        self.bed.settle()?;
        self.bed.reflink(NAME, "once")?;
        let mut next = permutation(self.blocks(), self.site.round as u64);
        let limit = Limit { time: Duration::from_secs(10), count: self.blocks() };
        self.measure("each block once after a reflink", 32, true, limit, &mut next)?;
        self.bed.remove("once")
    }

    fn measure(
        &mut self,
        case: &str,
        depth: u32,
        write: bool,
        limit: Limit,
        place: &mut dyn FnMut() -> u64,
    ) -> Outcome {
        let mut target = self.bed.target(NAME, depth)?;
        let (done, cost) =
            counted(self.bed, || drive(target.as_mut(), depth, write, limit, place))?;
        let Done { count, .. } = done;
        self.results.add("file", case, Unit::PerSecond, self.side, done.per_second());
        if let Some(cost) = cost {
            self.results.cost("file", case, self.side, cost);
        }
        if limit.count != u64::MAX && count < limit.count {
            let name = self.side.name();
            self.results.note(
                "file",
                format!("{name}, \"{case}\": stopped after {count} of {}", limit.count),
            );
        }
        Ok(())
    }
}

/// What the first write to each block costs us besides its data.
fn metadata(site: &Site<'_>, ours: &Ours<'_>, results: &mut Results) -> Outcome {
    let blocks = site.scale.file / BLOCK;
    ours.settle()?;
    ours.reflink(NAME, "counted")?;
    ours.settle()?;
    let before = ours.store.stats();
    let mut target = ours.target(NAME, 32)?;
    let limit = Limit { time: Duration::MAX, count: blocks };
    drive(target.as_mut(), 32, true, limit, &mut permutation(blocks, 99))?;
    let after = ours.store.stats();
    let each = |n: u64| n as f64 / blocks as f64;
    let journal = (after.journal_bytes - before.journal_bytes).div_ceil(BLOCK);
    let nodes = after.nodes_written - before.nodes_written;
    let rows = [
        ("each block once: device writes for each", after.device_writes - before.device_writes),
        ("each block once: blocks of journal for each", journal),
        ("each block once: nodes for each", nodes),
        ("each block once: journal and nodes for each", journal + nodes),
    ];
    for (name, n) in rows {
        results.add("file", name, Unit::Number, Side::Freehold, each(n));
    }
    Ok(())
}
