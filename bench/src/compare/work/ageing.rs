//! Whether a store that has been used for long is as good as a new one.

use super::Site;
use crate::bed::{self, BLOCK, Bed, Ours};
use crate::drive::Rng;
use crate::outcome::{Outcome, fail};
use crate::results::{Results, Side, Unit, median};
use std::time::Instant;

pub(crate) const HOW: &str = "Files of 4 KiB to 16 MiB, as many of each power of two, fill \
    70 % of what is free on an empty device. Then files are replaced, rewritten, and overwritten in pieces of 64 KiB \
    after a reflink whose copy is removed later, until many times the size of the device \
    was written. All files are read in sequence, and so are the same files written to an empty \
    device. Free runs are the holes that are left between them.";

/// Largest file, as a power of two above one block.
const LARGEST: u64 = 12;

/// The files and how long each is.
struct Zoo<'a> {
    bed: &'a dyn Bed,
    rng: Rng,
    files: Vec<(u64, u64)>,
    next: u64,
    live: u64,
    written: u64,
    /// A copy that still shares with a file.
    copies: Vec<u64>,
}

impl Zoo<'_> {
    fn size(&mut self) -> u64 {
        let power = self.rng.below(LARGEST + 1);
        (BLOCK << power) + self.rng.below(1 << power) * BLOCK
    }

    fn add(&mut self) -> Outcome {
        let (id, size) = (self.next, self.size());
        self.next += 1;
        if self.bed.put(&id.to_string(), 0, size).is_err() {
            // What was freed may not be free yet.
            self.bed.settle()?;
            self.bed.put(&id.to_string(), 0, size)?;
        }
        self.files.push((id, size));
        self.live += size;
        self.written += size;
        Ok(())
    }

    fn drop_one(&mut self) -> Outcome {
        if self.files.is_empty() {
            return Ok(());
        }
        let at = self.rng.below(self.files.len() as u64) as usize;
        let (id, size) = self.files.swap_remove(at);
        self.live -= size;
        self.bed.remove(&id.to_string())
    }

    /// Overwrites some pieces of a file that was just reflinked.
    fn diverge(&mut self) -> Outcome {
        let at = self.rng.below(self.files.len() as u64) as usize;
        let (id, size) = self.files[at];
        let copy = self.next;
        self.next += 1;
        self.bed.reflink(&id.to_string(), &copy.to_string())?;
        self.copies.push(copy);
        for _ in 0..(size >> 18).clamp(1, 16) {
            let len = size.min(64 << 10);
            let offset = self.rng.below((size - len) / BLOCK + 1) * BLOCK;
            self.bed.put(&id.to_string(), offset, len)?;
            self.written += len;
        }
        if self.copies.len() > 4 {
            let old = self.copies.remove(0);
            self.bed.remove(&old.to_string())?;
        }
        Ok(())
    }

    /// Writes a file again from its start.
    fn rewrite(&mut self) -> Outcome {
        let at = self.rng.below(self.files.len() as u64) as usize;
        let (id, size) = self.files[at];
        self.bed.truncate(&id.to_string())?;
        self.bed.put(&id.to_string(), 0, size)?;
        self.written += size;
        Ok(())
    }

    fn churn(&mut self, full: u64) -> Outcome {
        match self.rng.below(10) {
            0..=1 => self.diverge(),
            2..=3 => self.rewrite(),
            _ => {
                self.drop_one()?;
                while self.live < full {
                    self.add()?;
                }
                while self.live > full + (32 << 20).min(full / 8) {
                    self.drop_one()?;
                }
                Ok(())
            }
        }
    }

    /// Bytes a second of reading all files, three times.
    fn read(&self) -> Outcome<f64> {
        let mut rates = Vec::new();
        for _ in 0..3 {
            let start = Instant::now();
            for (id, size) in &self.files {
                self.bed.get(&id.to_string(), *size)?;
            }
            rates.push(self.live as f64 / start.elapsed().as_secs_f64());
        }
        median(&rates).map_or_else(|| fail("nothing was read"), Ok)
    }
}

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let stage = site.stage.beside(site.dir, "aged", site.scale.aged)?;
    let sizes = if side == Side::Freehold {
        let ours = Ours::new(&stage)?;
        let zoo = age(site, &ours)?;
        numbers(&ours, &zoo, "aged", results)?;
        results.add("ageing", READ_AGED, Unit::Throughput, side, zoo.read()?);
        zoo.files.clone()
    } else {
        let bed = bed::make(&stage, side)?;
        let zoo = age(site, bed.as_ref())?;
        results.add("ageing", READ_AGED, Unit::Throughput, side, zoo.read()?);
        zoo.files.clone()
    };
    if side == Side::Freehold {
        let ours = Ours::new(&stage)?;
        let zoo = fresh(&ours, sizes)?;
        numbers(&ours, &zoo, "new", results)?;
        results.add("ageing", READ_NEW, Unit::Throughput, side, zoo.read()?);
    } else {
        let bed = bed::make(&stage, side)?;
        let zoo = fresh(bed.as_ref(), sizes)?;
        results.add("ageing", READ_NEW, Unit::Throughput, side, zoo.read()?);
    }
    Ok(())
}

const READ_AGED: &str = "sequential read, aged";
const READ_NEW: &str = "sequential read, new";

fn zoo(bed: &dyn Bed) -> Zoo<'_> {
    let (files, copies) = (Vec::new(), Vec::new());
    Zoo { bed, rng: Rng::new(42), files, next: 0, live: 0, written: 0, copies }
}

fn age<'a>(site: &Site<'_>, bed: &'a dyn Bed) -> Outcome<Zoo<'a>> {
    let full = bed.free()? * 7 / 10;
    let mut zoo = zoo(bed);
    while zoo.live < full {
        zoo.add()?;
    }
    while zoo.written < site.scale.churn * site.scale.aged {
        zoo.churn(full)?;
    }
    for copy in std::mem::take(&mut zoo.copies) {
        bed.remove(&copy.to_string())?;
    }
    bed.settle()?;
    Ok(zoo)
}

fn fresh(bed: &dyn Bed, files: Vec<(u64, u64)>) -> Outcome<Zoo<'_>> {
    let mut zoo = zoo(bed);
    for (id, size) in files {
        bed.put(&id.to_string(), 0, size)?;
        zoo.files.push((id, size));
        zoo.live += size;
    }
    bed.settle()?;
    Ok(zoo)
}

/// Extents of our files, and the free runs between them.
fn numbers(ours: &Ours<'_>, zoo: &Zoo<'_>, when: &str, results: &mut Results) -> Outcome {
    let (mut extents, mut least) = (0, 0);
    let mut used: Vec<(u64, u64)> = Vec::new();
    for (id, size) in &zoo.files {
        let map = ours.file(&id.to_string())?.iomap(0, u64::MAX)?;
        used.extend(map.iter().filter_map(|p| Some((p.address?, p.length))));
        extents += joined(&map);
        least += size.div_ceil(16 << 20);
    }
    used.sort_unstable();
    let mut free: Vec<u64> = used
        .windows(2)
        .map(|w| w[1].0.saturating_sub(w[0].0 + w[0].1))
        .filter(|gap| *gap > 0)
        .collect();
    free.sort_unstable();
    let total: u64 = free.iter().sum();
    let long: u64 = free.iter().filter(|g| **g >= 2 << 20).sum();
    let mut add = |name: &str, value: f64| {
        results.add("ageing", format!("{name}, {when}"), Unit::Number, Side::Freehold, value);
    };
    add("extents for each file", extents as f64 / zoo.files.len().max(1) as f64);
    add("extents for each 16 MiB begun", extents as f64 / least.max(1) as f64);
    add("free runs", free.len() as f64);
    // Less is better, as for the others.
    add(
        "free space in runs below 2 MiB, percent",
        100.0 - long as f64 * 100.0 / total.max(1) as f64,
    );
    Ok(())
}

/// Runs of a map that do not continue each other on the medium.
fn joined(map: &[freehold::Iomap]) -> u64 {
    let mut n = 0;
    let mut end = None;
    for piece in map {
        if piece.address.is_some() && piece.address != end {
            n += 1;
        }
        end = piece.address.map(|a| a + piece.length);
    }
    n
}
