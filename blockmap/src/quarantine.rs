//! Blocks in quarantine: something may still reach them.
//!
//! One more owner of a block that is on no medium (laws B1 and B3): while it has one, the
//! block is neither overwritten in place nor used again. A crash ends it, with the
//! process that could reach it.
//!
//! Who puts blocks here and takes them out: [`crate::volume`].

use crate::format::types::Addr;
use std::collections::BTreeMap;

/// Ranges of blocks with how many hold them, and those of them that are free but for that.
#[derive(Debug, Default)]
pub(crate) struct Quarantine {
    runs: BTreeMap<Addr, (u64, u32)>,
    kept: Vec<(Addr, u64)>,
}

impl Quarantine {
    /// One more holder of a range.
    pub(crate) fn add(&mut self, start: Addr, len: u64) {
        self.change(start, len, 1);
    }

    /// One holder fewer; what is free now.
    pub(crate) fn remove(&mut self, start: Addr, len: u64) -> Vec<(Addr, u64)> {
        self.change(start, len, -1);
        let kept = std::mem::take(&mut self.kept);
        kept.into_iter().flat_map(|(start, len)| self.sift(start, len)).collect()
    }

    /// Freed blocks: keeps those that somebody may reach and gives the others back.
    pub(crate) fn sift(&mut self, start: Addr, len: u64) -> Vec<(Addr, u64)> {
        let (mut free, mut at) = (Vec::new(), start);
        while at < start + len {
            let left = start + len - at;
            let quiet = self.quiet(at, left);
            if quiet > 0 {
                free.push((at, quiet));
                at += quiet;
                continue;
            }
            let held = self.held(at).min(left);
            self.kept.push((at, held));
            at += held;
        }
        free
    }

    /// How many blocks from `start` on, at most `len`, nobody holds.
    pub(crate) fn quiet(&self, start: Addr, len: u64) -> u64 {
        if self.runs.is_empty() {
            return len;
        }
        if self.held(start) > 0 {
            return 0;
        }
        self.runs.range(start..start + len).next().map_or(len, |(k, _)| k - start)
    }

    /// Blocks that are in it.
    pub(crate) fn blocks(&self) -> u64 {
        self.runs.values().map(|(len, _)| len).sum()
    }

    /// How far the run reaches that a block is in; 0 if it is in none.
    fn held(&self, at: Addr) -> u64 {
        let run = self.runs.range(..=at).next_back();
        run.map_or(0, |(k, (len, _))| (k + len).saturating_sub(at))
    }

    fn change(&mut self, start: Addr, len: u64, by: i32) {
        let end = start + len;
        self.cut(start);
        self.cut(end);
        let mut at = start;
        while at < end {
            match self.runs.get_mut(&at) {
                Some((n, holders)) => {
                    let n = *n;
                    *holders = holders.saturating_add_signed(by);
                    if *holders == 0 {
                        self.runs.remove(&at);
                    }
                    at += n;
                }
                None => {
                    let next = self.runs.range(at..end).next().map_or(end, |(k, _)| *k);
                    if by > 0 {
                        self.runs.insert(at, (next - at, 1));
                    }
                    at = next;
                }
            }
        }
    }

    fn cut(&mut self, at: Addr) {
        let Some((&k, &(len, holders))) = self.runs.range(..at).next_back() else { return };
        if k + len > at {
            self.runs.insert(k, (at - k, holders));
            self.runs.insert(at, (k + len - at, holders));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Quarantine;

    #[test]
    fn b3_what_is_held_is_kept_until_the_last_holder_goes() {
        let mut q = Quarantine::default();
        q.add(10, 10);
        q.add(15, 10);
        assert_eq!((q.quiet(0, 100), q.quiet(12, 5), q.quiet(25, 5), q.blocks()), (10, 0, 5, 15));
        assert_eq!(q.sift(8, 20), [(8, 2), (25, 3)]);
        assert_eq!(q.remove(10, 10), [(10, 5)]);
        assert_eq!((q.quiet(10, 100), q.blocks()), (5, 10));
        assert_eq!(q.remove(15, 10).iter().map(|(_, n)| n).sum::<u64>(), 10);
        assert_eq!((q.quiet(0, 100), q.blocks()), (100, 0));
        assert!(q.remove(0, 50).is_empty());
    }
}
