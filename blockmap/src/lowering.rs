//! Lowered counts whose records are not durable yet (law B2).
//!
//! Until the record is durable, a crash brings the old owner back: the block may
//! not be overwritten in place, although its exact count says one. Nor while a read is
//! in flight that found the block through the owner that is gone: it would show what
//! the other one writes.

use crate::format::types::{Addr, Seq};
use crate::quarantine::Quarantine;
use std::collections::BTreeMap;

/// Ranges of blocks, each with the newest record that lowered its count.
#[derive(Debug, Default)]
pub(crate) struct Lowerings {
    runs: BTreeMap<Addr, (u64, Seq)>,
    newest: Seq,
    /// Owners that are on no medium bind like those whose end is not durable.
    pub(crate) quarantine: Quarantine,
}

impl Lowerings {
    /// The counts of a range were lowered by this record.
    pub(crate) fn add(&mut self, start: Addr, len: u64, seq: Seq) {
        let end = start + len;
        self.newest = self.newest.max(seq);
        self.cut(start);
        self.cut(end);
        let inside: Vec<Addr> = self.runs.range(start..end).map(|(k, _)| *k).collect();
        for k in inside {
            self.runs.remove(&k);
        }
        self.runs.insert(start, (len, seq));
    }

    fn cut(&mut self, at: Addr) {
        let Some((&k, &(len, seq))) = self.runs.range(..at).next_back() else { return };
        if k + len > at {
            self.runs.insert(k, (at - k, seq));
            self.runs.insert(at, (k + len - at, seq));
        }
    }

    /// How many blocks from `start` on, at most `len`, have no lowering newer
    /// than `durable` and are not in quarantine.
    pub(crate) fn settled(&self, start: Addr, len: u64, durable: Seq) -> u64 {
        let len = self.quarantine.quiet(start, len);
        let end = start + len;
        let before = self.runs.range(..start).next_back();
        let first = before.filter(|(k, (n, seq))| **k + n > start && *seq > durable);
        if first.is_some() {
            return 0;
        }
        let next = self.runs.range(start..end).find(|(_, (_, seq))| *seq > durable);
        next.map_or(len, |(k, _)| k - start)
    }

    /// Forgets what is durable.
    pub(crate) fn prune(&mut self, durable: Seq) {
        self.runs.retain(|_, (_, seq)| *seq > durable);
    }

    /// Nothing was lowered after this record.
    pub(crate) fn none_after(&self, seq: Seq) -> bool {
        self.newest <= seq
    }

    pub(crate) fn len(&self) -> usize {
        self.runs.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b2_newest_lowering_counts() {
        let mut l = Lowerings::default();
        l.add(10, 10, 5);
        l.add(14, 2, 9);
        assert_eq!(l.settled(0, 100, 4), 10);
        assert_eq!(l.settled(10, 4, 5), 4);
        assert_eq!(l.settled(10, 10, 5), 4);
        assert_eq!(l.settled(14, 1, 8), 0);
        assert_eq!(l.settled(16, 4, 5), 4);
        l.prune(5);
        assert_eq!(l.settled(10, 10, 0), 4);
        assert_eq!(l.settled(16, 4, 0), 4);
    }
}
