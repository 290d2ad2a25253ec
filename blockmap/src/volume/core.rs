//! The one history: all that a change of the map decides on, under one lock.
//!
//! Every change is a [`Record`]. Doing it and replaying it are the same code
//! ([`Core::execute`] and [`Core::replay`] share [`Shelf::stage`]), so recovery
//! cannot differ from what ran. A change is staged first, on trees that nobody
//! sees and with space that can be put back, and shown only when nothing can fail
//! any more. It does no I/O: a node that is not in memory ends it with a fault.
//!
//! The lock is held for microseconds. Reads, and writes in place, never take it.
//! Why one lock: docs/decisions/0003-one-lock-for-the-map.md.

use super::cutting::Cutting;
use super::file::{FileState, Version};
use super::late::{Bytes, Late};
use super::logged::Logged;
use super::shelf::{Shelf, Staged};
use crate::format::Counts;
use crate::format::record::encode_record;
use crate::format::types::{Addr, FileId, Record, Seq};
use crate::journal::Journal;
use crate::lowering::Lowerings;
use crate::reuse::keep;
use crate::space::Space;
use crate::tree::{Fault, Tree};
use crate::txn::{Load, Txn};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Blocks that were freed and are not reusable yet (law B3).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deferred {
    pub(crate) start: Addr,
    pub(crate) len: u64,
}

/// Who asks, and so how much of the space is open to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Stops at the reserve.
    Normal,
    /// Removal, truncate, checkpoints: may use the reserve.
    Removal,
}

/// Nodes that one change may need at the most: a path in each tree, splits, and
/// a leaf's worth of counts in as many leaves of the count tree.
pub(crate) const OP_NODES: u64 = 224;

/// What a change leaves to be done by others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dues {
    pub(crate) checkpoint: bool,
    /// So much waits for a group that this record shall become durable.
    pub(crate) commit: Option<Seq>,
}

/// Bytes of records that wait for a group, at the most, until one is written unasked.
const UNASKED: usize = 256 << 10;

pub(crate) struct Core {
    pub(crate) shelf: Shelf,
    pub(crate) counts: Tree<Counts>,
    pub(crate) space: Space,
    pub(crate) journal: Journal,
    /// The checkpoint under construction.
    pub(crate) generation: u64,
    pub(crate) share_gen: u64,
    /// Files whose records the next checkpoint must write.
    pub(crate) dirty: BTreeSet<FileId>,
    /// Those whose records the checkpoint under way has yet to write.
    pub(crate) cutting: Cutting,
    pub(crate) lowerings: Lowerings,
    /// Lowerings up to this record are done with: it is durable, and no look-up from
    /// before it is in flight.
    pub(crate) settled: Seq,
    /// The same up to this record, as soon as no look-up from before this epoch is.
    pub(crate) settling: Option<(Seq, u64)>,
    /// Blocks that replay would write (law B7).
    pub(crate) logged: Logged,
    /// Those of them whose bytes are not at home.
    pub(crate) late: Arc<Late>,
    /// Replay: what it is to write there.
    pub(crate) homes: BTreeMap<Addr, Bytes>,
    /// Reusable when the checkpoint of that number is durable and marked.
    pub(crate) deferred: BTreeMap<u64, Vec<Deferred>>,
    /// Blocks in `deferred`.
    pub(crate) deferred_blocks: u64,
    /// Blocks that only removals and checkpoints may take.
    pub(crate) reserve: u64,
    /// Blocks that the checkpoint under way may still take.
    pub(crate) pledged: u64,
    /// What changed since the last cut, and what the checkpoint under way holds.
    pub(crate) load: (Load, Load),
    /// So that a change and a commit take no memory of their own.
    pub(crate) room: Room,
}

/// Memory that is used again and again.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// For the records of the next change.
    records: Vec<u8>,
    /// For the next group that goes into a window.
    pub(crate) group: Vec<u8>,
}

impl Core {
    /// Room for a change, in space and in the journal.
    pub(crate) fn admit(&self, class: Class, data: u64) -> Result<(), Fault> {
        if !self.journal.has_room(class == Class::Removal) || self.is_laden() {
            return Err(Fault::JournalFull);
        }
        if self.space.free_blocks() < data.saturating_add(self.floor(class)) {
            return Err(Fault::NoSpace);
        }
        Ok(())
    }

    /// Free blocks below which a change does not begin: what checkpoints need,
    /// and what the change itself may take, stay free of data.
    fn floor(&self, class: Class) -> u64 {
        let need = self.pledged + self.checkpoint_needs() + OP_NODES.min(self.reserve);
        match class {
            Class::Normal => self.reserve + need,
            // No checkpoint could give it more: it takes what there is.
            Class::Removal if self.dirty.is_empty() && self.deferred_blocks == 0 => 0,
            Class::Removal => need,
        }
    }

    /// Blocks that a checkpoint which was cut now would take at the most: nodes for
    /// the records of the changed files, and the changed bitmaps.
    pub(super) fn checkpoint_needs(&self) -> u64 {
        let files = self.dirty.len() as u64;
        files + files / 4 + self.space.dirty_groups() + 32
    }

    /// What could be taken by the next change; for telling whether it grew.
    pub(super) fn headroom(&self) -> i64 {
        self.space.free_blocks() as i64 - self.floor(Class::Removal) as i64
    }

    /// More waits for a checkpoint than half of what is free: before the last
    /// scraps are taken, one gives it back, and free space stays in long runs.
    pub(super) fn wants_room(&self, blocks: u64) -> bool {
        let waiting = self.deferred_blocks;
        waiting >= (blocks / 64).max(1024) && waiting > self.space.free_blocks() / 2
    }

    /// Is there enough for a checkpoint or a group? The store has so many blocks.
    pub(super) fn dues(&self, blocks: u64) -> Dues {
        let j = &self.journal;
        Dues {
            checkpoint: j.is_half_full() || self.wants_room(blocks) || self.wants_checkpoint(),
            commit: (j.pending_bytes() > UNASKED).then(|| j.last_seq()),
        }
    }

    /// Does a change and writes it into the journal's buffer.
    pub(crate) fn execute(&mut self, class: Class, record: &Record) -> Result<Seq, Fault> {
        self.execute_all(class, std::slice::from_ref(record))
    }

    /// Does several changes as one: a crash keeps all of them or none.
    pub(crate) fn execute_all(&mut self, class: Class, records: &[Record]) -> Result<Seq, Fault> {
        self.execute_each(class, &[records])
    }

    /// Does several changes together, or, with a fault, none. A crash keeps all that
    /// came before one that it keeps. They have room as if they were one: the caller
    /// sees to it that their records take no more than [`RECORD_ROOM`].
    ///
    /// [`RECORD_ROOM`]: crate::journal::RECORD_ROOM
    pub(crate) fn execute_each(&mut self, class: Class, units: &[&[Record]]) -> Result<Seq, Fault> {
        self.admit(class, OP_NODES * units.len().saturating_sub(1) as u64)?;
        let mut bytes = std::mem::take(&mut self.room.records);
        let done = self.execute_in(&mut bytes, units);
        keep(&mut self.room.records, bytes);
        done
    }

    /// With this memory, which is empty, for the records' bytes.
    fn execute_in(&mut self, bytes: &mut Vec<u8>, units: &[&[Record]]) -> Result<Seq, Fault> {
        let mut ends: SmallVec<[usize; 4]> = SmallVec::new();
        for unit in units {
            for record in *unit {
                encode_record(bytes, record).map_err(|e| Fault::format("record", 0, &e))?;
            }
            ends.push(bytes.len());
        }
        let count: usize = units.iter().map(|u| u.len()).sum();
        let last = self.journal.last_seq() + count as Seq;
        self.apply(units.iter().copied().flatten(), last, true)?;
        let mut begin = 0;
        for (unit, end) in units.iter().zip(ends) {
            self.journal.push(&bytes[begin..end], unit.len() as u32);
            begin = end;
        }
        Ok(last)
    }

    /// Does changes that the journal holds already; `last` is the last one's number.
    pub(crate) fn replay(&mut self, records: &[Record], last: Seq) -> Result<(), Fault> {
        self.apply(records, last, false)
    }

    fn apply<'r>(
        &mut self,
        records: impl IntoIterator<Item = &'r Record>,
        seq: Seq,
        live: bool,
    ) -> Result<(), Fault> {
        let pending = (&self.lowerings, self.settled);
        let mut txn =
            Txn::new(&mut self.space, &self.counts, self.generation, self.share_gen, pending);
        if !live {
            txn.replays();
        }
        let mut staged = Staged::default();
        for record in records {
            if let Err(fault) = self.shelf.stage(&mut txn, record, &mut staged) {
                txn.rollback();
                return Err(fault);
            }
        }
        let done = txn.finish();
        self.load.0 += done.load;
        self.counts = done.counts;
        self.share_gen = done.share_gen;
        for (start, len) in done.lowered {
            if live {
                self.lowerings.add(start, len, seq);
            }
        }
        self.defer(&done.freed);
        for (file, _) in &staged.versions {
            self.cutting.keep(file);
            self.dirty.insert(file.id);
            file.named_by(seq);
            if staged.shrinks && live {
                file.shrink_seq.fetch_max(seq, Ordering::AcqRel);
            }
        }
        if let Some(file) = staged.moved.take() {
            file.logged.spread();
        }
        for l in staged.logged.drain(..) {
            self.logged.add(l.at, self.generation);
            l.file.logged.add(l.block, l.block + 1, self.generation);
            // Before the map shows them.
            match live {
                true => self.late.put(l.at, l.bytes, self.generation),
                false => drop(self.homes.insert(l.at, l.bytes)),
            }
        }
        self.dirty.extend(staged.gone);
        self.shelf.show(staged);
        Ok(())
    }

    /// Changes a file's map in a way that no record needs: the same bytes.
    pub(crate) fn restate(
        &mut self,
        file: &Arc<FileState>,
        change: impl FnOnce(&mut Txn<'_>, &Version) -> Result<Version, Fault>,
    ) -> Result<(), Fault> {
        if self.space.free_blocks() < self.floor(Class::Normal) {
            return Err(Fault::NoSpace);
        }
        let pending = (&self.lowerings, self.settled);
        let mut txn =
            Txn::new(&mut self.space, &self.counts, self.generation, self.share_gen, pending);
        match change(&mut txn, &file.load()) {
            Err(fault) => {
                txn.rollback();
                Err(fault)
            }
            Ok(version) => {
                let done = txn.finish();
                self.load.0 += done.load;
                self.counts = done.counts;
                // No record stands for these lowerings: the next checkpoint does,
                // and until then a crash brings back the very same owners.
                let seq = self.journal.next_seq();
                done.lowered.iter().for_each(|(s, n)| self.lowerings.add(*s, *n, seq));
                self.defer(&done.freed);
                self.cutting.keep(file);
                file.version.store(Arc::new(version));
                self.dirty.insert(file.id);
                Ok(())
            }
        }
    }

    /// A transaction to look with: counts, and what is settled.
    pub(crate) fn view(&mut self) -> Txn<'_> {
        let pending = (&self.lowerings, self.settled);
        Txn::new(&mut self.space, &self.counts, self.generation, self.share_gen, pending)
    }

    fn defer(&mut self, freed: &[(Addr, u64)]) {
        if crate::sabotage::breaks("early-reuse") {
            freed.iter().for_each(|(start, len)| self.space.reclaim(*start, *len));
            return;
        }
        self.defer_at(self.generation, freed);
    }

    pub(super) fn defer_at(&mut self, generation: u64, freed: &[(Addr, u64)]) {
        for &(start, len) in freed {
            self.deferred_blocks += len;
            let waiting = self.deferred.entry(generation).or_default();
            match waiting.last_mut() {
                Some(d) if d.start + d.len == start => d.len += len,
                _ => waiting.push(Deferred { start, len }),
            }
        }
    }

    /// The freed blocks that checkpoint `generation` no longer names.
    pub(crate) fn take_deferred(&mut self, generation: u64) -> Vec<Deferred> {
        let rest = self.deferred.split_off(&(generation + 1));
        let ready = std::mem::replace(&mut self.deferred, rest);
        ready.into_values().flatten().collect()
    }

    /// They are reusable now.
    pub(crate) fn reclaim(&mut self, ready: &[Deferred]) {
        for d in ready {
            // What a pin reaches still is kept until it does not.
            let free = match crate::sabotage::breaks("reuse-pinned") {
                true => vec![(d.start, d.len)],
                false => self.lowerings.quarantine.sift(d.start, d.len),
            };
            for (start, len) in free {
                self.space.reclaim(start, len);
            }
            self.deferred_blocks -= d.len;
        }
    }
}
