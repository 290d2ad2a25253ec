//! How many owners each block was found to have.

use super::CheckReport;
use crate::format::CountRun;
use crate::format::types::{Addr, GROUP_BLOCKS};
use crate::space::Words;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Owners of the blocks of a window, by group; a byte each, and a list for the few
/// with very many. Of blocks outside the window it knows nothing.
#[derive(Default)]
pub(super) struct Ledger {
    window: Range<Addr>,
    groups: BTreeMap<u64, Vec<u8>>,
    many: HashMap<Addr, u32>,
}

impl Ledger {
    /// A ledger for these blocks.
    pub(super) fn of(window: Range<Addr>) -> Self {
        Ledger { window, ..Ledger::default() }
    }

    fn inside(&self, start: Addr, end: Addr) -> Range<Addr> {
        start.max(self.window.start)..end.min(self.window.end)
    }

    /// One more owner for each block of a run.
    pub(super) fn add(&mut self, start: Addr, len: u64) {
        for addr in self.inside(start, start.saturating_add(len)) {
            let group = self
                .groups
                .entry(addr / GROUP_BLOCKS)
                .or_insert_with(|| vec![0; GROUP_BLOCKS as usize]);
            let n = &mut group[(addr % GROUP_BLOCKS) as usize];
            if *n < u8::MAX {
                *n += 1;
            } else {
                *self.many.entry(addr).or_insert(u32::from(u8::MAX)) += 1;
            }
        }
    }

    /// Is any of these blocks in the window?
    pub(super) fn covers(&self, start: Addr, len: u64) -> bool {
        !self.inside(start, start.saturating_add(len)).is_empty()
    }

    /// Owners of a block.
    pub(super) fn owners(&self, addr: Addr) -> u32 {
        let n = self
            .groups
            .get(&(addr / GROUP_BLOCKS))
            .map_or(0, |g| g[(addr % GROUP_BLOCKS) as usize]);
        if n < u8::MAX {
            u32::from(n)
        } else {
            self.many.get(&addr).copied().unwrap_or(u32::from(n))
        }
    }

    /// Groups that have any.
    pub(super) fn groups(&self) -> impl Iterator<Item = u64> + '_ {
        self.groups.keys().copied()
    }

    /// Blocks that have any.
    pub(super) fn owned(&self) -> u64 {
        self.groups.values().map(|g| g.iter().filter(|n| **n > 0).count() as u64).sum()
    }

    /// Holds a group's bitmap against its owners; gives its free blocks.
    pub(super) fn check_group(
        &self,
        g: u64,
        len: u64,
        bits: &Words,
        report: &mut CheckReport,
    ) -> u64 {
        let owners = self.groups.get(&g);
        let mut free = 0;
        for i in 0..len as usize {
            let used = bits[i / 64] >> (i % 64) & 1 == 1;
            let owned = owners.is_some_and(|o| o[i] > 0);
            let addr = g * GROUP_BLOCKS + i as u64;
            match (used, owned) {
                (true, false) => {
                    report.find("space bitmap", addr, "a leaked block: in use, but nobody owns it")
                }
                (false, true) => {
                    report.find("space bitmap", addr, "a block is owned but marked free")
                }
                _ => {}
            }
            free += u64::from(!used);
        }
        free
    }

    /// Holds the stored counts against the owners that were found.
    pub(super) fn check_counts(
        &self,
        counts: &[(Addr, CountRun)],
        blocks: u64,
        report: &mut CheckReport,
    ) {
        let mut counted: BTreeMap<Addr, &CountRun> = BTreeMap::new();
        for (start, run) in counts {
            counted.insert(*start, run);
            let end = *start + u64::from(run.len);
            if end > blocks {
                report.find("count tree", *start, "a count of blocks past the end of the store");
            }
            for addr in self.inside(*start, end.min(blocks)) {
                let owners = self.owners(addr);
                if owners != run.count {
                    let what =
                        format!("the block's count is {}, but it has {owners} owners", run.count);
                    report.find("count tree", addr, what);
                }
            }
        }
        for (g, owners) in &self.groups {
            for (i, n) in owners.iter().enumerate().filter(|(_, n)| **n > 1) {
                let addr = g * GROUP_BLOCKS + i as u64;
                let known = counted
                    .range(..=addr)
                    .next_back()
                    .is_some_and(|(s, r)| s + u64::from(r.len) > addr);
                if !known {
                    let what = format!("the block is doubly owned: {n} owners, but no count");
                    report.find("count tree", addr, what);
                }
            }
        }
    }
}
