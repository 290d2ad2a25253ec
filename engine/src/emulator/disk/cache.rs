//! The volatile write cache: what was written and not flushed, in the private
//! memory of this process.
//!
//! A kill loses it. So that a kill also tears and reorders, pieces of it are put
//! down early, chosen at random by a seed, newest before oldest as it falls. A
//! piece is one logical block, or the atomic unit where that is larger: the
//! controller promises that neither is torn (AWUPF, NAWUPF).

use super::super::random::Random;
use super::{Base, Done, SECTOR};
use std::collections::HashMap;

/// Bytes of an entry.
const ENTRY: usize = 4096;
const SECTORS: usize = ENTRY / SECTOR;
/// Entries before a write, at most: 64 MiB.
pub(super) const MOST: usize = 16384;
/// One write in so many is followed by an early destage.
const EARLY: u64 = 4;
/// Pieces that an early destage puts down at most.
const PIECES: u64 = 6;

/// Part of a 4 KiB block that is newer than the base.
#[derive(Debug)]
struct Entry {
    block: u64,
    /// Bit `i`: sector `i` is in `data`.
    mask: u8,
    data: Box<[u8; ENTRY]>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cache {
    /// Bytes of a piece.
    unit: usize,
    places: HashMap<u64, usize>,
    entries: Vec<Entry>,
    random: Random,
}

/// The mask of the sectors of one block from byte `from` to byte `to`.
fn mask(from: usize, to: usize) -> u8 {
    let (first, end) = (from / SECTOR, to / SECTOR);
    (((1u16 << end) - 1) & !((1u16 << first) - 1)) as u8
}

/// The parts of a range of sectors within blocks: block, first byte and end in it,
/// offset in the range.
fn parts(at: u64, len: u64) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let entry = ENTRY as u64;
    (at / entry..(at + len).div_ceil(entry)).map(move |block| {
        let start = block * entry;
        let from = at.max(start);
        let to = (at + len).min(start + entry);
        (block, (from - start) as usize, (to - start) as usize, (from - at) as usize)
    })
}

impl Cache {
    pub(super) fn new(unit: usize, random: Random) -> Self {
        Self { unit, places: HashMap::new(), entries: Vec::new(), random }
    }

    fn entry(&mut self, block: u64) -> &mut Entry {
        let place = *self.places.entry(block).or_insert_with(|| {
            self.entries.push(Entry { block, mask: 0, data: Box::new([0; ENTRY]) });
            self.entries.len() - 1
        });
        &mut self.entries[place]
    }

    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) {
        for (block, from, to, offset) in parts(at, bytes.len() as u64) {
            let entry = self.entry(block);
            entry.data[from..to].copy_from_slice(&bytes[offset..offset + (to - from)]);
            entry.mask |= mask(from, to);
        }
    }

    pub(super) fn zero(&mut self, at: u64, len: u64) {
        for (block, from, to, _) in parts(at, len) {
            let entry = self.entry(block);
            entry.data[from..to].fill(0);
            entry.mask |= mask(from, to);
        }
    }

    /// Puts what is newer over what was read from the base.
    pub(super) fn overlay(&self, at: u64, to: &mut [u8]) {
        if self.entries.is_empty() {
            return;
        }
        for (block, from, end, offset) in parts(at, to.len() as u64) {
            let Some(place) = self.places.get(&block) else { continue };
            let entry = &self.entries[*place];
            for sector in (from / SECTOR..end / SECTOR).filter(|s| entry.mask & 1 << s != 0) {
                let at = offset + sector * SECTOR - from;
                to[at..at + SECTOR]
                    .copy_from_slice(&entry.data[sector * SECTOR..(sector + 1) * SECTOR]);
            }
        }
    }

    /// Drops what it has of a range: the base is newer.
    pub(super) fn forget(&mut self, at: u64, len: u64) {
        if len / ENTRY as u64 > self.entries.len() as u64 {
            // A long range: look at what is there, not at what could be.
            let blocks: Vec<u64> = self.entries.iter().map(|entry| entry.block).collect();
            for block in blocks {
                let (start, end) = (block * ENTRY as u64, (block + 1) * ENTRY as u64);
                let (from, to) = (at.max(start), (at + len).min(end));
                if from < to {
                    self.clear(block, mask((from - start) as usize, (to - start) as usize));
                }
            }
            return;
        }
        for (block, from, to, _) in parts(at, len) {
            self.clear(block, mask(from, to));
        }
    }

    /// Drops sectors of a block, and the entry with its last one.
    fn clear(&mut self, block: u64, sectors: u8) {
        let Some(&place) = self.places.get(&block) else { return };
        self.entries[place].mask &= !sectors;
        if self.entries[place].mask == 0 {
            self.entries.swap_remove(place);
            self.places.remove(&block);
            if let Some(moved) = self.entries.get(place) {
                self.places.insert(moved.block, place);
            }
        }
    }

    /// Writes the given sectors of an entry, run by run, and drops them.
    fn put_down(&mut self, place: usize, sectors: u8, base: &mut Base) -> Done {
        let entry = &self.entries[place];
        let (block, chosen) = (entry.block, entry.mask & sectors);
        let mut sector = 0;
        while sector < SECTORS {
            if chosen & 1 << sector == 0 {
                sector += 1;
                continue;
            }
            let end = (sector..SECTORS).find(|s| chosen & 1 << s == 0).unwrap_or(SECTORS);
            let bytes = &self.entries[place].data[sector * SECTOR..end * SECTOR];
            base.write(block * ENTRY as u64 + (sector * SECTOR) as u64, bytes)?;
            sector = end;
        }
        self.clear(block, chosen);
        Ok(())
    }

    /// Makes room for one more write: puts random entries down while there are too many.
    ///
    /// # Errors
    /// What the base does not take; the write is not to be cached then.
    pub(super) fn make_room(&mut self, base: &mut Base) -> Done {
        while self.entries.len() > MOST {
            let place = self.random.below(self.entries.len() as u64) as usize;
            self.put_down(place, u8::MAX, base)?;
        }
        Ok(())
    }

    /// Now and then puts a few pieces down early. What the base does not take stays.
    pub(super) fn destage_some(&mut self, base: &mut Base) {
        if self.random.below(EARLY) != 0 {
            return;
        }
        for _ in 0..=self.random.below(PIECES) {
            if self.entries.is_empty() {
                return;
            }
            let place = self.random.below(self.entries.len() as u64) as usize;
            let piece = self.random.below((ENTRY / self.unit) as u64) as usize;
            let sectors = mask(piece * self.unit, (piece + 1) * self.unit);
            if self.put_down(place, sectors, base).is_err() {
                return;
            }
        }
    }

    /// Puts everything down, in no particular order. After an error, what was not
    /// put down is still here.
    pub(super) fn destage_all(&mut self, base: &mut Base) -> Done {
        while let Some(last) = self.entries.len().checked_sub(1) {
            let place = self.random.below(last as u64 + 1) as usize;
            self.put_down(place, u8::MAX, base)?;
        }
        Ok(())
    }
}
