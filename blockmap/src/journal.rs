//! The journal in memory: records that wait, groups that were sealed, and the
//! ring that they go to.
//!
//! A record gets its number when it is pushed, under the lock of all that it
//! decided on (law B11). Sealing closes the group that is being filled and fixes
//! its place in the ring, so a checkpoint can name the place where replay begins
//! before anything of it is written. Sealed groups are written in order, all that
//! there are at once; they are durable only together with all before them.
//!
//! Positions count blocks since the journal's beginning of time; the place in
//! the ring is the position modulo its length.
//!
//! Not here: flushes and writes (`commit`), reading it back (`recover`).

use crate::format::journal::{GROUP_MAX_PAYLOAD, group_blocks};
use crate::format::types::{GroupHead, Seq};
use crate::reuse::keep;
use smallvec::SmallVec;

/// A group whose place is fixed and whose records are closed.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    pub(crate) head: GroupHead,
    pub(crate) payload: Vec<u8>,
    pub(crate) last_seq: Seq,
}

/// Groups, in order; mostly one.
pub(crate) type Groups = SmallVec<[Sealed; 1]>;

/// Blocks kept for what frees others: marks and slices of removals.
const KEPT: u64 = 16;

/// Bytes that any one operation's records may take: a long map, or a logged write
/// of 16 KiB that touches five blocks.
pub(crate) const RECORD_ROOM: usize = 24 << 10;

/// Records between two checkpoints at the most: what replays in about half a second.
const MAX_RECORDS: u64 = 256 << 10;

pub(crate) struct Journal {
    blocks: u64,
    next_seq: Seq,
    next_group: u64,
    next_pos: u64,
    /// Nothing before this position is needed.
    tail: u64,
    /// The first record behind the tail.
    tail_seq: Seq,
    /// The highest durable group.
    confirmed: u64,
    pending: Vec<u8>,
    pending_first: Seq,
    pending_records: u32,
    sealed: Groups,
    /// Room for the next group's records.
    spare: Vec<u8>,
}

impl Journal {
    /// A journal that goes on after `next_seq - 1` at `pos` with group `group`.
    pub(crate) fn new(blocks: u64, next_seq: Seq, group: u64, pos: u64, tail: (u64, Seq)) -> Self {
        Journal {
            blocks,
            next_seq,
            next_group: group,
            next_pos: pos,
            tail: tail.0,
            tail_seq: tail.1,
            confirmed: group - 1,
            pending: Vec::new(),
            pending_first: next_seq,
            pending_records: 0,
            sealed: Groups::new(),
            spare: Vec::new(),
        }
    }

    /// Blocks that are needed or promised.
    pub(crate) fn used(&self) -> u64 {
        let pending = if self.pending.is_empty() { 0 } else { group_blocks(self.pending.len()) };
        self.next_pos + pending as u64 - self.tail
    }

    /// Has it come so far that a checkpoint should begin? It is limited in bytes
    /// and in records, because both bound the time that opening takes (law B8).
    pub(crate) fn is_half_full(&self) -> bool {
        self.used() * 2 > self.blocks || self.records() * 2 > MAX_RECORDS
    }

    /// Records that the next opening would replay.
    fn records(&self) -> u64 {
        self.next_seq - self.tail_seq
    }

    /// Is there room for any one operation? Removals may use what is kept.
    pub(crate) fn has_room(&self, removal: bool) -> bool {
        let kept = if removal { KEPT / 2 } else { KEPT };
        let most = if removal { MAX_RECORDS + 1024 } else { MAX_RECORDS };
        if self.records() >= most {
            return false;
        }
        // An operation may close the group being filled and begin another.
        self.used() + group_blocks(RECORD_ROOM) as u64 + 1 + kept <= self.blocks
    }

    /// Is there room for a mark?
    pub(crate) fn has_room_for_mark(&self) -> bool {
        self.used() + 2 <= self.blocks
    }

    /// The number that the next record gets.
    pub(crate) fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// Replay: the number of records so far, without writing them again.
    pub(crate) fn last_seq(&self) -> Seq {
        self.next_seq - 1
    }

    /// Appends encoded records, so many, and gives the number of the last. They go
    /// into one group: after a crash all of them are there, or none.
    pub(crate) fn push(&mut self, records: &[u8], count: u32) -> Seq {
        if self.pending.len() + records.len() > GROUP_MAX_PAYLOAD {
            self.seal();
        }
        self.pending.extend_from_slice(records);
        if self.pending_records == 0 {
            self.pending_first = self.next_seq;
        }
        self.pending_records += count;
        self.next_seq += Seq::from(count);
        self.next_seq - 1
    }

    /// Bytes that wait for a group.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// Closes the group that is being filled, if it has a record.
    pub(crate) fn seal(&mut self) {
        if self.pending_records == 0 {
            return;
        }
        let blocks = group_blocks(self.pending.len());
        let head = GroupHead {
            number: self.next_group,
            pos: self.next_pos,
            blocks: blocks as u32,
            first_seq: self.pending_first,
            records: self.pending_records,
            confirmed: self.confirmed,
        };
        let last_seq = self.pending_first + Seq::from(self.pending_records) - 1;
        let payload = std::mem::replace(&mut self.pending, std::mem::take(&mut self.spare));
        self.sealed.push(Sealed { head, payload, last_seq });
        self.pending_records = 0;
        self.next_group += 1;
        self.next_pos += blocks as u64;
    }

    /// All groups that are sealed and not yet written.
    pub(crate) fn take_sealed(&mut self) -> Groups {
        std::mem::take(&mut self.sealed)
    }

    /// Memory of a group's records that is needed no more.
    pub(crate) fn recycle(&mut self, payload: Vec<u8>) {
        keep(&mut self.spare, payload);
    }

    /// These groups are durable.
    pub(crate) fn confirm(&mut self, group: u64) {
        self.confirmed = self.confirmed.max(group);
    }

    /// Number and position of the next group to be sealed: where replay begins
    /// for a checkpoint that is cut now. Call [`Journal::seal`] first.
    pub(crate) fn cut(&self) -> (u64, u64) {
        debug_assert_eq!(self.pending_records, 0);
        (self.next_group, self.next_pos)
    }

    /// Nothing before `pos` is needed any more (law B9: the mark is durable).
    pub(crate) fn trim(&mut self, pos: u64, seq: Seq) {
        self.tail = self.tail.max(pos);
        self.tail_seq = self.tail_seq.max(seq);
    }
}

/// One run, or two where the ring's end is in between.
pub(crate) type Runs = SmallVec<[(u64, u64, u64); 2]>;

/// A run of positions as runs of blocks: (first block, offset in the run, blocks).
pub(crate) fn ring_runs(start: u64, ring: u64, pos: u64, len: u64) -> Runs {
    let at = pos % ring;
    let first = len.min(ring - at);
    let mut runs = Runs::from_slice(&[(start + at, 0, first)]);
    if first < len {
        runs.push((start, first, len - first));
    }
    runs
}
