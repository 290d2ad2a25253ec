//! A submission ring and a completion ring with their doorbells (Base 1.4, 4.1).
//!
//! Both have a power of two of entries. The completion ring has twice as many as the
//! submission ring, so that its doorbell is rung for many completions at once: a
//! controller needs room for what is in flight, and that is less than half.

use super::super::controller::Controller;
use super::super::shadow::Bell;
use super::super::spec::command::{Command, Cqe};
use super::super::spec::registers as reg;
use crate::medium::Result;
use crate::memory::{DmaPages, Pool, store_fence};

/// Bit of the phase tag in the upper word of a completion.
const PHASE: u64 = 1 << 48;

/// Entries of a completion ring at least, where the controller allows.
const LEAST_CQ: u32 = 64;

/// The rings of one queue pair.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) qid: u16,
    sq: DmaPages,
    /// The submission ring is in the controller's own memory.
    sq_is_there: bool,
    cq: DmaPages,
    sq_mask: u32,
    cq_mask: u32,
    /// Where the next command goes, and up to where the controller was told.
    tail: u32,
    rung: u32,
    /// Where the next completion comes, and up to where the controller was told.
    head: u32,
    told: u32,
    /// What the phase bit is in entries of this pass: 0 or [`PHASE`].
    phase: u64,
    /// Completions that are taken in before the controller is told.
    gather: u32,
    sq_bell: Bell,
    cq_bell: Bell,
}

/// What the upper word of a completion says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    #[inline]
    pub(super) fn cid(self) -> u16 {
        (self.0 >> 32) as u16
    }

    #[inline]
    pub(super) fn sqid(self) -> u16 {
        (self.0 >> 16) as u16
    }

    #[inline]
    pub(super) fn sq_head(self) -> u16 {
        self.0 as u16
    }

    /// The status field without the phase.
    #[inline]
    pub(super) fn status(self) -> u16 {
        (self.0 >> 49) as u16
    }
}

impl Rings {
    /// Rings for `depth` commands in flight, which the controller does not know yet. The
    /// submission ring may be `there`: in the controller's own memory.
    ///
    /// # Errors
    /// What the pool and the bus say.
    pub(super) fn new(
        controller: &Controller,
        qid: u16,
        depth: u32,
        there: Option<DmaPages>,
    ) -> Result<Self> {
        let entries = Self::entries(depth);
        // The controller's largest ring bounds both; a power of two at least this long.
        let most = (controller.max_depth() + 1).max(entries);
        let cq_entries = (2 * entries).max(LEAST_CQ).min(most);
        let pool: &Pool = &controller.pool;
        let dstrd = controller.link.cap.dstrd() as u32;
        let bell = |offset, shadow| -> Result<Bell> {
            let register = controller.link.doorbell(offset)?;
            Ok(Bell::new(register, controller.shadows.as_ref(), shadow))
        };
        Ok(Self {
            qid,
            sq_is_there: there.is_some(),
            sq: there.map_or_else(|| pool.pages(Self::sq_bytes(depth)), Ok)?,
            cq: pool.pages(cq_entries as usize * Cqe::BYTES)?,
            sq_mask: entries - 1,
            cq_mask: cq_entries - 1,
            tail: 0,
            rung: 0,
            head: 0,
            told: 0,
            phase: PHASE,
            // In flight and not yet told must fit together.
            gather: (cq_entries - depth).min(cq_entries / 4).max(1),
            sq_bell: bell(reg::sq_doorbell(qid, dstrd), reg::shadow_sq(qid, dstrd))?,
            cq_bell: bell(reg::cq_doorbell(qid, dstrd), reg::shadow_cq(qid, dstrd))?,
        })
    }

    /// Entries of the submission ring for so many commands in flight.
    fn entries(depth: u32) -> u32 {
        (depth + 1).next_power_of_two().max(2)
    }

    /// Bytes of that ring.
    pub(super) fn sq_bytes(depth: u32) -> usize {
        Self::entries(depth) as usize * Command::BYTES
    }

    /// Forgets everything, as it is before the controller has the queues.
    pub(super) fn clear(&mut self) {
        self.sq.zero(0, self.sq.len());
        self.cq.zero(0, self.cq.len());
        (self.tail, self.rung, self.head, self.told) = (0, 0, 0, 0);
        self.phase = PHASE;
        self.sq_bell.clear();
        self.cq_bell.clear();
    }

    /// Address and entries of the submission ring.
    pub(super) fn sq(&self) -> (u64, u32) {
        (self.sq.iova(), self.sq_mask + 1)
    }

    /// Address and entries of the completion ring.
    pub(super) fn cq(&self) -> (u64, u32) {
        (self.cq.iova(), self.cq_mask + 1)
    }

    /// Puts a command into the ring. There is room: fewer are in flight than it has.
    #[inline]
    pub(super) fn push(&mut self, command: &Command) {
        self.sq.store_words(self.tail as usize * Command::BYTES, &command.0);
        self.tail = (self.tail + 1) & self.sq_mask;
    }

    /// Whether there is a completion and a command that was not rung: after the doorbell
    /// nobody could tell that the one came before the other.
    #[inline]
    pub(super) fn would_hide_early(&self) -> bool {
        self.tail != self.rung && self.peek().is_some()
    }

    /// Tells the controller of all commands that were put in since, if any.
    ///
    /// # Errors
    /// What the bus says.
    #[inline]
    pub(super) fn ring(&mut self) -> Result<()> {
        if self.tail == self.rung {
            return Ok(());
        }
        let old = self.rung;
        self.rung = self.tail;
        if self.sq_is_there {
            // The entries before the doorbell, however the memory is mapped.
            store_fence();
        }
        self.sq_bell.write(self.tail, old)
    }

    /// The next completion, if it is there.
    #[inline]
    pub(super) fn peek(&self) -> Option<Word> {
        let at = self.head as usize * Cqe::BYTES + 8;
        // One load has the phase and all that is looked at.
        let word = self.cq.load64_acquire(at);
        (word & PHASE == self.phase).then_some(Word(word))
    }

    /// That completion was taken in.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.head = (self.head + 1) & self.cq_mask;
        if self.head == 0 {
            self.phase ^= PHASE;
        }
    }

    /// Whether a completion's queue is this one, and what it says of the submission ring
    /// possible with so many commands in flight.
    #[inline]
    pub(super) fn is_possible(&self, word: Word, in_flight: u32) -> bool {
        let head = u32::from(word.sq_head());
        // What the controller has not fetched is in flight.
        let unfetched = self.rung.wrapping_sub(head) & self.sq_mask;
        word.sqid() == self.qid && head <= self.sq_mask && unfetched <= in_flight
    }

    /// Tells the controller which completions were taken in, if they are many, or any
    /// with `all`.
    ///
    /// # Errors
    /// What the bus says.
    #[inline]
    pub(super) fn tell(&mut self, all: bool) -> Result<()> {
        let since = self.head.wrapping_sub(self.told) & self.cq_mask;
        if since == 0 || (since < self.gather && !all) {
            return Ok(());
        }
        let old = self.told;
        self.told = self.head;
        self.cq_bell.write(self.head, old)
    }
}
