//! Bytes that are in the journal and not yet at home (law B7).
//!
//! A logged write ends when its group is durable; the write to its block's own place
//! comes later, together with many others ([`super::home`]). Until then the block is
//! *late*: its bytes are here, and what its own place holds is old.
//!
//! # How a reader finds late bytes
//!
//! *Writer*, under the core lock: puts the bytes here, then shows the map that leads to
//! the block. *Homing*: waits until the write home has completed, then takes them out.
//! *Reader*, without a lock: takes a version of the map, then asks here, then reads the
//! medium where there was nothing. Let a reader find a block in a version. The writer's
//! entry was made before that version was shown, so the reader's question comes after
//! the entry was made. If it finds nothing, the entry has been taken out, so the
//! write home had completed before the reader gave its command to the medium. A newer
//! entry that it does not see is of a write beside it, which did not end before.
//!
//! The question is one load for each run of [`RUN`] blocks: a counter, raised before the
//! map is shown (release) and read after the map was (acquire), and lowered after the
//! write home has completed (release). Only where it is not zero is the table asked.

use crate::format::types::Addr;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Neighbouring blocks that have one counter, and counters.
const RUN: u64 = 16;
const COUNTERS: u64 = 1024;

/// One block's bytes; zeroes follow up to the block's end.
pub(crate) type Bytes = Arc<[u8]>;

struct Entry {
    bytes: Bytes,
    /// The checkpoint that ends the journal which holds bytes that are not home: the
    /// first such, if the block was written again before it got home.
    generation: u64,
    /// On its way home.
    leaving: bool,
    /// Written again since it left, by a write of this generation.
    again: Option<u64>,
}

/// All late blocks of a store.
pub(crate) struct Late {
    counters: Box<[AtomicU32]>,
    blocks: AtomicUsize,
    table: Mutex<BTreeMap<Addr, Entry>>,
}

impl Default for Late {
    fn default() -> Self {
        Late {
            counters: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect(),
            blocks: AtomicUsize::new(0),
            table: Mutex::default(),
        }
    }
}

impl Late {
    fn table(&self) -> MutexGuard<'_, BTreeMap<Addr, Entry>> {
        self.table.lock().expect("no holder panics")
    }

    fn counter(&self, at: Addr) -> &AtomicU32 {
        &self.counters[(at / RUN % COUNTERS) as usize]
    }

    /// The block's bytes are these from now on. Before the map shows them; under the
    /// core lock, which makes generations come in order.
    pub(crate) fn put(&self, at: Addr, bytes: Bytes, generation: u64) {
        let mut table = self.table();
        if let Some(e) = table.get_mut(&at) {
            e.bytes = bytes;
            if e.leaving {
                e.again = e.again.or(Some(generation));
            }
            return;
        }
        table.insert(at, Entry { bytes, generation, leaving: false, again: None });
        self.counter(at).fetch_add(1, Ordering::Release);
        self.blocks.fetch_add(1, Ordering::Release);
    }

    /// May any of these blocks be late? After the look-up that found them.
    pub(crate) fn may_have(&self, at: Addr, len: u64) -> bool {
        if len == 0 || crate::sabotage::breaks("forget-late") {
            return false;
        }
        let (first, last) = (at / RUN, (at + len - 1) / RUN);
        let mut runs = first..=last.min(first + COUNTERS - 1);
        runs.any(|run| self.counter(run * RUN).load(Ordering::Acquire) > 0)
    }

    /// The late ones among these blocks, in order. After the look-up that found them.
    pub(crate) fn among(&self, at: Addr, len: u64) -> Vec<(Addr, Bytes)> {
        if !self.may_have(at, len) {
            return Vec::new();
        }
        self.table().range(at..at + len).map(|(k, e)| (*k, e.bytes.clone())).collect()
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.blocks.load(Ordering::Acquire)
    }

    /// Are all bytes home that only a journal before this checkpoint's cut holds?
    pub(crate) fn none_until(&self, generation: u64) -> bool {
        self.len() == 0 || self.table().values().all(|e| e.generation > generation)
    }

    /// Takes neighbouring blocks at or behind `from`, `most` at the most, to bring
    /// them home. Nobody else gets them until [`Late::landed`].
    pub(super) fn leave(&self, from: Addr, most: usize) -> Option<(Addr, Vec<Bytes>)> {
        let mut table = self.table();
        let mut found = table.range_mut(from..).skip_while(|(_, e)| e.leaving);
        let (first, e) = found.next()?;
        e.leaving = true;
        let mut run = vec![e.bytes.clone()];
        for (at, e) in found {
            if e.leaving || *at != first + run.len() as u64 || run.len() == most {
                break;
            }
            e.leaving = true;
            run.push(e.bytes.clone());
        }
        Some((*first, run))
    }

    /// What left is home.
    pub(super) fn landed(&self, at: Addr, len: u64) {
        let mut table = self.table();
        for block in at..at + len {
            match table.get_mut(&block) {
                Some(e) if e.again.is_some() && !crate::sabotage::breaks("keep-older-late") => {
                    e.leaving = false;
                    e.generation = e.again.take().unwrap_or(e.generation);
                }
                _ => {
                    table.remove(&block);
                    self.counter(block).fetch_sub(1, Ordering::Release);
                    self.blocks.fetch_sub(1, Ordering::Release);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(n: u8) -> Bytes {
        Arc::from(&[n][..])
    }

    fn found(late: &Late, at: Addr, len: u64) -> Vec<(Addr, u8)> {
        late.among(at, len).into_iter().map(|(at, b)| (at, b[0])).collect()
    }

    #[test]
    fn b7_late_bytes_are_found_until_they_are_home() {
        let late = Late::default();
        assert!(!late.may_have(0, 1 << 40));
        late.put(100, bytes(1), 5);
        late.put(101, bytes(2), 5);
        late.put(900, bytes(3), 6);
        assert_eq!(found(&late, 0, 1000), [(100, 1), (101, 2), (900, 3)]);
        assert_eq!(found(&late, 101, 1), [(101, 2)]);
        assert!(!late.may_have(RUN * 20, 1));
        let (at, run) = late.leave(0, 8).expect("two neighbours");
        assert_eq!((at, run.len()), (100, 2));
        assert_eq!(found(&late, 100, 2).len(), 2, "on their way, and to be found");
        late.landed(at, 2);
        assert_eq!(found(&late, 0, 1000), [(900, 3)]);
        assert!(late.none_until(5) && !late.none_until(6));
    }

    #[test]
    fn b7_bytes_written_again_leave_again() {
        let late = Late::default();
        late.put(7, bytes(1), 5);
        late.put(7, bytes(2), 6);
        assert!(!late.none_until(5), "what checkpoint 5 needs at home is not there");
        let (at, run) = late.leave(0, 8).expect("one");
        assert_eq!((at, run[0][0], late.leave(0, 8).is_none()), (7, 2, true));
        late.put(7, bytes(3), 6);
        late.put(7, bytes(4), 7);
        late.landed(7, 1);
        assert_eq!(found(&late, 7, 1), [(7, 4)]);
        assert!(late.none_until(5) && !late.none_until(6));
        late.leave(0, 8).expect("the newer bytes");
        late.landed(7, 1);
        assert_eq!((late.len(), late.may_have(7, 1)), (0, false));
    }

    #[test]
    fn runs_end_where_they_must() {
        let late = Late::default();
        (10..20).chain(30..33).for_each(|at| late.put(at, bytes(0), 1));
        let run = |from, most| late.leave(from, most).map(|(at, run)| (at, run.len()));
        assert_eq!(run(12, 4), Some((12, 4)));
        assert_eq!(run(0, 8), Some((10, 2)));
        assert_eq!((run(0, 8), run(0, 8), run(0, 8)), (Some((16, 4)), Some((30, 3)), None));
    }
}
