//! A submission ring and a completion ring with their doorbells (Base 1.4, 4.1).
//!
//! Both have a power of two of entries. The completion ring has twice as many as can be in
//! flight, so that its doorbell is rung for many completions at once: a controller needs
//! room for what is in flight, and that is less than half.

use super::super::controller::Controller;
use super::super::shadow::{Bell, full_fence};
use super::super::spec::command::{Command, Cqe};
use super::super::spec::registers as reg;
use crate::medium::Result;
use crate::memory::{DmaPages, DmaRing, Pool, store_fence};

/// Place of the phase tag in the upper word of a completion.
const PHASE: u32 = 48;

/// Entries of a ring at least, where the controller allows. A controller with shadow
/// doorbells tells of itself each time half of a ring went by, in a line that is taken from
/// this side, which waits for it then; and it looks at a completion ring's head when that
/// many were posted.
const LEAST: u32 = 256;

/// The rings of one queue pair.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) qid: u16,
    sq: DmaRing<{ Command::BYTES }>,
    /// The submission ring is in the controller's own memory.
    sq_is_there: bool,
    cq: DmaRing<{ Cqe::BYTES }>,
    /// Where the next command goes, and up to where the controller was told.
    tail: u32,
    rung: u32,
    /// Completions that were taken in, that were looked at, and that the controller was told
    /// of. They count on: what is above an index is the number of the pass over the ring.
    head: u32,
    seen: u32,
    told: u32,
    /// Bits of an index.
    cq_bits: u32,
    /// Completions that are taken in before the controller is told.
    gather: u32,
    /// There is something to tell.
    due: bool,
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
        let (entries, cq_entries) = Self::entries(controller, depth);
        let pool: &Pool = &controller.pool;
        let dstrd = controller.link.cap.dstrd() as u32;
        let bell = |offset, shadow| -> Result<Bell> {
            let register = controller.link.doorbell(offset)?;
            Ok(Bell::new(register, controller.shadows.as_ref(), shadow))
        };
        Ok(Self {
            qid,
            sq_is_there: there.is_some(),
            sq: DmaRing::new(
                there.map_or_else(|| pool.pages(entries as usize * Command::BYTES), Ok)?,
                entries,
            ),
            cq: DmaRing::new(pool.pages(cq_entries as usize * Cqe::BYTES)?, cq_entries),
            tail: 0,
            rung: 0,
            head: 0,
            seen: 0,
            told: 0,
            cq_bits: cq_entries.ilog2(),
            // In flight and not yet told must fit together.
            gather: (cq_entries - depth).min(cq_entries / 4).max(1),
            due: false,
            sq_bell: bell(reg::sq_doorbell(qid, dstrd), reg::shadow_sq(qid, dstrd))?,
            cq_bell: bell(reg::cq_doorbell(qid, dstrd), reg::shadow_cq(qid, dstrd))?,
        })
    }

    /// Entries of both rings for so many commands in flight. The controller's largest ring
    /// bounds both; each is a power of two.
    fn entries(controller: &Controller, depth: u32) -> (u32, u32) {
        let least = (depth + 1).next_power_of_two().max(2);
        let most = (controller.max_depth() + 1).max(least);
        (least.max(LEAST).min(most), (2 * least).max(LEAST).min(most))
    }

    /// Bytes of the submission ring for so many commands in flight.
    pub(super) fn sq_bytes(controller: &Controller, depth: u32) -> usize {
        Self::entries(controller, depth).0 as usize * Command::BYTES
    }

    /// Forgets everything, as it is before the controller has the queues.
    pub(super) fn clear(&mut self) {
        for pages in [self.sq.pages(), self.cq.pages()] {
            pages.zero(0, pages.len());
        }
        (self.tail, self.rung, self.due) = (0, 0, false);
        (self.head, self.seen, self.told) = (0, 0, 0);
        self.sq_bell.clear();
        self.cq_bell.clear();
    }

    /// Address and entries of the submission ring.
    pub(super) fn sq(&self) -> (u64, u32) {
        (self.sq.pages().iova(), self.sq.mask() + 1)
    }

    /// Address and entries of the completion ring.
    pub(super) fn cq(&self) -> (u64, u32) {
        (self.cq.pages().iova(), self.cq.mask() + 1)
    }

    /// Puts a command into the ring. There is room: fewer are in flight than it has.
    #[inline]
    pub(super) fn push(&mut self, command: &Command) {
        self.sq.store(self.tail, &command.0);
        self.tail = (self.tail + 1) & self.sq.mask();
        self.due = true;
    }

    /// Whether the controller has to be told of anything: [`Rings::ring`] does.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    /// Whether there are commands that the controller was not told of.
    #[inline]
    pub(super) fn has_unrung(&self) -> bool {
        self.tail != self.rung
    }

    /// Tells the controller of all commands that were put in since, and which completions
    /// were taken in, if they are many; the latter first, so that there is room for those
    /// of the former. One fence does for both.
    ///
    /// # Errors
    /// What the bus says.
    #[inline(always)]
    pub(super) fn ring(&mut self) -> Result<()> {
        let (tail, rung, told) = (self.tail, self.rung, self.told);
        let head = if self.untold() >= self.gather { self.head } else { told };
        (self.rung, self.told, self.due) = (tail, head, false);
        let mut shadowed = false;
        if head != told {
            shadowed |= self.cq_bell.put(head & self.cq.mask())?;
        }
        if self.sq_is_there && tail != rung {
            // The entries before the doorbell, however the memory is mapped.
            store_fence();
        }
        if tail != rung {
            shadowed |= self.sq_bell.put(tail)?;
        }
        if shadowed {
            full_fence();
            if head != told {
                self.cq_bell.wake(head & self.cq.mask(), told & self.cq.mask())?;
            }
            if tail != rung {
                self.sq_bell.wake(tail, rung)?;
            }
        }
        if !self.sq_is_there {
            // The line of the entry behind the last one is taken from the controller now, not
            // when it is needed. It is nobody's, and the word is zero in every command.
            self.sq.store_word::<1>(tail, 0);
        }
        Ok(())
    }

    /// Tells the controller which completions were taken in, though they be few.
    ///
    /// # Errors
    /// What the bus says.
    pub(super) fn tell(&mut self) -> Result<()> {
        let told = std::mem::replace(&mut self.told, self.head);
        match told == self.head {
            true => Ok(()),
            false => self.cq_bell.write(self.head & self.cq.mask(), told & self.cq.mask()),
        }
    }

    /// Completions that were taken in and that the controller was not told of.
    #[inline]
    fn untold(&self) -> u32 {
        self.head.wrapping_sub(self.told)
    }

    /// The next completion, if it is there.
    #[inline]
    pub(super) fn peek(&self) -> Option<Word> {
        self.at(self.head)
    }

    /// The completion with a number, if it is there: not more than a ring from the head.
    #[inline]
    fn at(&self, number: u32) -> Option<Word> {
        // One load has the phase and all that is looked at.
        let word = self.cq.load_acquire::<1>(number);
        // Set in the first pass, then by turns.
        let pass = number >> self.cq_bits;
        (((word >> PHASE) as u32 ^ pass) & 1 == 1).then_some(Word(word))
    }

    /// The next completion that was neither taken in nor given by this, if it is there.
    #[inline]
    pub(super) fn look_ahead(&mut self) -> Option<Word> {
        // As many as there are entries, at most: then the next one is of the pass before.
        let number = if self.seen.wrapping_sub(self.head) > self.cq.mask() + 1 {
            self.head
        } else {
            self.seen
        };
        self.seen = number;
        let word = self.at(number)?;
        self.seen = number.wrapping_add(1);
        Some(word)
    }

    /// That completion was taken in.
    #[inline]
    pub(super) fn advance(&mut self) {
        self.head = self.head.wrapping_add(1);
    }

    /// Several were: the controller is told by the next [`Rings::ring`] if they are many.
    #[inline]
    pub(super) fn advanced(&mut self) {
        self.due |= self.untold() >= self.gather;
    }

    /// Whether a completion's queue is this one, and what it says of the submission ring
    /// possible with so many commands in flight.
    #[inline]
    pub(super) fn is_possible(&self, word: Word, in_flight: u32) -> bool {
        // Queue and head in one: of another queue it is beyond any ring.
        let head = (word.0 as u32).wrapping_sub(u32::from(self.qid) << 16);
        // What the controller has not fetched is in flight.
        let unfetched = self.rung.wrapping_sub(head) & self.sq.mask();
        head <= self.sq.mask() && unfetched <= in_flight
    }
}
