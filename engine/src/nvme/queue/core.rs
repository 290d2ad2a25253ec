//! A queue pair with all that is in flight on it: reaping, and what follows from a reset or
//! the loss of the controller.
//!
//! It belongs to one thread at a time and knows its controller only when it is called, so
//! that the controller can keep those that were dropped. Submitting is in `submit`, looking at
//! clocks in `watch`.

use super::super::controller::{Controller, End};
use super::super::namespace::Namespace;
use super::super::spec::PAGE;
use super::super::spec::status::Status;
use super::ops::Ops;
use super::piece::Lists;
use super::rings::{Rings, Word};
use super::slab::{Ended, Slab};
use super::wake::Wake;
use super::watch::Watch;
use crate::medium::{Completion, Error, ErrorKind, Result};
use crate::memory::Buffer;
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::sync::Arc;

/// What no news are: a queue that always finds some looks at everything.
const NEVER_CALM: u64 = u64::MAX;
/// Completions that one poll takes in. Whoever polls gives new commands for them and rings, and
/// the sooner the less does the controller wait for that: with all that it has answered, both
/// work by turns.
const BATCH: u32 = 8;

/// One queue pair.
#[derive(Debug)]
pub(in super::super) struct Core {
    /// What the controller's news are while there are none.
    pub(super) calm: u64,
    /// Completions that a poll takes in at the most.
    batch: u32,
    pub(super) rings: Rings,
    pub(super) slab: Slab,
    pub(super) ops: Ops,
    pub(super) lists: Lists,
    pub(super) space: Arc<Namespace>,
    pub(super) read_only: bool,
    /// Bytes of a transfer that is one command.
    pub(super) most: usize,
    /// Operations that have commands to be made yet, in order.
    pub(super) waiting: VecDeque<u16>,
    /// What ended outside of a poll.
    pub(super) finished: Vec<Completion>,
    pub(super) generation: u32,
    /// Nothing completed in this generation yet.
    fresh: bool,
    /// The controller does not have the queues.
    stale: bool,
    /// Something was wrong with a completion: no other one of this generation is believed.
    suspect: bool,
    /// Why nothing is taken any more.
    pub(super) ended: Option<Error>,
    pub(super) vector: Option<u16>,
    pub(super) wake: OnceCell<Wake>,
    pub(super) watch: Watch,
}

impl Core {
    /// A queue pair for `depth` operations, known to the controller.
    ///
    /// # Errors
    /// `Limit` when the controller has no more queues; what the pool or it says.
    pub(in super::super) fn new(
        controller: &Controller,
        space: &Arc<Namespace>,
        read_only: bool,
        depth: u32,
    ) -> Result<Self> {
        let qid = controller.take_qid()?;
        let made = Self::made(controller, (space, read_only), depth, qid);
        if made.is_err() {
            controller.give_qid(qid);
        }
        made
    }

    fn made(
        controller: &Controller,
        (space, read_only): (&Arc<Namespace>, bool),
        depth: u32,
        qid: u16,
    ) -> Result<Self> {
        let pool = &controller.pool;
        // One page more, of zeroes, for a controller that cannot write them by itself.
        let zeroes = !space.abilities.write_zeroes;
        let bytes = (depth as usize + usize::from(zeroes)) * PAGE;
        let there = controller.cmb.as_ref();
        let there = there
            .and_then(|cmb| cmb.queue_pages(Rings::sq_bytes(controller, depth), bytes))
            .unzip();
        let pages = there.1.flatten().map_or_else(|| pool.pages(bytes), Ok)?;
        let rings = Rings::new(controller, qid, depth, there.0)?;
        let zeroes = zeroes.then(|| pages.iova() + u64::from(depth) * PAGE as u64);
        let vectors = controller.link.function.vectors();
        let mut core = Self {
            calm: NEVER_CALM,
            // Where each doorbell is a register, few of them are better.
            batch: if controller.shadows.is_some() { BATCH } else { u32::MAX },
            rings,
            slab: Slab::new(depth),
            ops: Ops::new(depth),
            lists: Lists::new(pages, zeroes),
            space: Arc::clone(space),
            read_only,
            most: most(space),
            waiting: VecDeque::with_capacity(depth as usize),
            finished: Vec::with_capacity(depth as usize),
            generation: 0,
            fresh: true,
            stale: true,
            suspect: false,
            ended: None,
            vector: (u32::from(qid) < vectors).then_some(qid),
            wake: OnceCell::new(),
            watch: Watch::new(controller.timeouts.io),
        };
        core.create(controller)?;
        Ok(core)
    }

    /// Whether it can be used again for another depth, and for whom.
    pub(in super::super) fn depth(&self) -> usize {
        self.slab.depth()
    }

    pub(in super::super) fn qid(&self) -> u16 {
        self.rings.qid
    }

    pub(in super::super) fn generation(&self) -> u32 {
        self.generation
    }

    /// Serves another medium of the same controller.
    pub(in super::super) fn serve(&mut self, space: &Arc<Namespace>, read_only: bool) {
        self.space = Arc::clone(space);
        self.most = most(space);
        self.read_only = read_only;
    }

    /// Nothing of it is in flight.
    pub(in super::super) fn is_idle(&self) -> bool {
        self.slab.in_flight() == 0
    }

    /// Taken and not yet polled.
    #[inline]
    pub(super) fn in_flight(&self) -> usize {
        self.slab.whole() as usize + self.ops.open() + self.finished.len()
    }

    /// Tells the controller of what was taken.
    #[inline]
    pub(super) fn ring(&mut self, controller: &Controller) {
        if controller.news() != self.calm && !self.is_well(controller) {
            return;
        }
        if self.hides_stray() {
            let mut last = std::mem::take(&mut self.finished);
            self.reap(controller, &mut last, u32::MAX);
            last.append(&mut self.finished);
            self.finished = last;
        }
        self.ring_apart(controller);
    }

    /// Whether the doorbell would hide a completion that is none: of a command that the
    /// controller was not told of yet, or of one that is still to be given the identifier.
    /// After the doorbell nobody could tell that the one came before the other. Each completion
    /// is looked at once.
    #[inline]
    fn hides_stray(&mut self) -> bool {
        if !self.rings.has_unrung() {
            return false;
        }
        while let Some(word) = self.rings.look_ahead() {
            if !self.slab.has(word.cid()) {
                return true;
            }
        }
        false
    }

    /// Acts on news; whether the queue can be used then.
    #[cold]
    fn is_well(&mut self, controller: &Controller) -> bool {
        self.heed(controller);
        !self.stale
    }

    /// Apart from [`Core::ring_now`], which is a part of each poll.
    #[inline(never)]
    fn ring_apart(&mut self, controller: &Controller) {
        self.ring_now(controller);
    }

    #[inline(always)]
    fn ring_now(&mut self, controller: &Controller) {
        if self.stale {
            return;
        }
        self.slab.rang();
        if let Err(error) = self.rings.ring() {
            self.lost_bell(controller, error);
        }
    }

    #[cold]
    fn lost_bell(&mut self, controller: &Controller, error: Error) {
        controller.give_up(error);
        self.heed(controller);
    }

    /// Rings, reaps, and sometimes looks at the clock. Where nothing happened this is four
    /// looks: at the news, at what is to be rung, at the ring, and at how long ago the clock
    /// was looked at.
    #[inline]
    pub(super) fn poll(&mut self, controller: &Controller, done: &mut Vec<Completion>) -> usize {
        let before = done.len();
        if controller.news() != self.calm && !self.is_well(controller) {
            done.append(&mut self.finished);
            return done.len() - before;
        }
        if self.rings.is_due() {
            if self.hides_stray() {
                self.reap(controller, done, u32::MAX);
            }
            self.ring_now(controller);
        }
        if self.rings.peek().is_some() {
            self.reap(controller, done, self.batch);
        }
        if self.watch.is_due() {
            self.look(controller);
        }
        if !self.finished.is_empty() {
            done.append(&mut self.finished);
        }
        done.len() - before
    }

    /// Takes in what has completed, at most so many. A queue with news is looked after before.
    #[inline(never)]
    fn reap(&mut self, controller: &Controller, done: &mut Vec<Completion>, most: u32) {
        let mut left = most;
        while left > 0
            && let Some(word) = self.rings.peek()
        {
            if !self.take_in(word, done) {
                if left < most {
                    self.reaped(controller);
                }
                return self.disbelieve(controller, word);
            }
            left -= 1;
        }
        if left < most {
            self.reaped(controller);
        }
    }

    /// Takes in a completion, if it can be one.
    #[inline(always)]
    fn take_in(&mut self, word: Word, done: &mut Vec<Completion>) -> bool {
        if self.suspect || !self.rings.is_possible(word, self.slab.in_flight()) {
            return false;
        }
        let Some(ended) = self.slab.end(word.cid()) else { return false };
        self.rings.advance();
        match ended {
            Ended::Whole { tag, buf } if word.status() == 0 => put(done, tag, buf),
            ended => self.take_in_other(ended, Status(word.status()), done),
        }
        true
    }

    /// What was not a whole operation, or did not end well.
    #[cold]
    fn take_in_other(&mut self, ended: Ended, status: Status, done: &mut Vec<Completion>) {
        let qid = self.rings.qid;
        let error = || {
            let kind = status.kind().unwrap_or(ErrorKind::Io);
            Error::new(kind, format!("the controller answered on queue {qid}: {status}"))
        };
        match ended {
            Ended::Whole { tag, buf } => done.push(Completion { tag, result: Err(error()), buf }),
            Ended::Part(op) => {
                if !status.is_success() {
                    self.waiting.retain(|&other| other != op);
                    self.ops.fail(op, error);
                }
                if self.ops.ended(op) {
                    done.push(self.ops.finish(op));
                }
            }
        }
    }

    /// What follows from completions.
    #[inline]
    fn reaped(&mut self, controller: &Controller) {
        self.watch.moved();
        if self.fresh {
            self.fresh = false;
            controller.progressed();
        }
        self.rings.advanced();
        if !self.waiting.is_empty() {
            self.feed();
            self.ring_apart(controller);
        }
    }

    /// A completion that cannot be one: the controller is reset, and no other completion of
    /// this queue is believed.
    #[cold]
    fn disbelieve(&mut self, controller: &Controller, word: Word) {
        if self.ended.is_some() || self.suspect || self.rings.peek() != Some(word) {
            return;
        }
        let stray = self.slab.judge(word.cid());
        let why = format!(
            "queue {} has a completion that is none: identifier {:04x}h ({}), queue {}, head {}",
            self.rings.qid,
            word.cid(),
            stray.map_or("in flight".into(), |stray| format!("{stray:?}")),
            word.sqid(),
            word.sq_head()
        );
        self.suspect = true;
        controller.reset(self.generation, &why);
        self.heed(controller);
    }

    /// Acts on news: looks after dropped queues, and ends what a reset or a loss cut off.
    #[cold]
    pub(in super::super) fn heed(&mut self, controller: &Controller) {
        if Controller::tells_of_orphans(controller.news()) {
            controller.orphans.tend(controller);
        }
        self.settle(controller);
        if self.stale && self.ended.is_none() {
            let made = self.create(controller);
            if let Err(error) = made {
                let error = match controller.end() {
                    Some(end) => end.error.clone(),
                    None => lost_queue(self.rings.qid, &error),
                };
                self.end_with(error, false);
            }
            self.feed();
        }
    }

    /// Ends what a reset or a loss cut off, if there was one.
    fn settle(&mut self, controller: &Controller) {
        let news = controller.news();
        if self.ended.is_some() || Controller::generation_of(news) == self.generation {
            return;
        }
        // The controller has stopped, or nothing is known of it: what it has reported is
        // final either way.
        let mut last = std::mem::take(&mut self.finished);
        while let Some(word) = self.rings.peek()
            && self.take_in(word, &mut last)
        {}
        self.finished = last;
        match controller.end() {
            Some(End { error, quiet }) => self.end_with(error.clone(), !quiet),
            None => {
                let text = "the controller was reset while the operation was in flight";
                self.cut_off(&Error::new(ErrorKind::Reset, text), false);
            }
        }
        self.generation = Controller::generation_of(news);
        (self.calm, self.stale) = (NEVER_CALM, true);
    }

    /// Looks after a queue that was dropped: what ends goes to nobody.
    pub(in super::super) fn tend(&mut self, controller: &Controller, done: &mut Vec<Completion>) {
        self.settle(controller);
        if !self.stale && self.ended.is_none() {
            self.reap(controller, done, u32::MAX);
            if self.rings.is_due() {
                self.ring_apart(controller);
            }
            if self.watch.is_due() {
                self.look(controller);
            }
        }
        self.finished.clear();
    }

    /// Its user goes: what was taken is begun as far as that needs no completions, the rest
    /// is dropped. Neither waits nor reaps.
    pub(super) fn leave(&mut self, controller: &Controller) {
        if controller.news() == self.calm && self.ended.is_none() {
            self.slab.rang();
            if let Err(error) = self.rings.ring() {
                tracing::debug!(%error, "a dropped queue could not ring");
            }
        }
        self.drop_waiting(&Error::new(ErrorKind::Io, "its queue was dropped"));
        self.finished.clear();
        if let Some(wake) = self.wake.get() {
            wake.kept.set(false);
        }
    }

    /// Whether nothing is taken any more.
    pub(in super::super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Ends all operations that have commands in flight.
    fn cut_off(&mut self, error: &Error, withhold: bool) {
        let mut cut = Vec::with_capacity(self.slab.depth());
        self.slab.end_all(|ended| cut.push(ended));
        for ended in cut {
            let done = match ended {
                Ended::Whole { tag, mut buf } => {
                    if withhold && let Some(buf) = buf.take() {
                        buf.withhold();
                    }
                    Completion { tag, result: Err(error.clone()), buf }
                }
                // One with several commands is met several times.
                Ended::Part(op) if self.ops.commands(op) == 0 => continue,
                Ended::Part(op) => {
                    self.waiting.retain(|&other| other != op);
                    self.cut_off_long(op, error, withhold)
                }
            };
            self.finished.push(done);
        }
    }

    fn cut_off_long(&mut self, op: u16, error: &Error, withhold: bool) -> Completion {
        if withhold {
            return self.ops.abandon(op, error.clone());
        }
        self.ops.forget_commands(op);
        self.ops.fail(op, || error.clone());
        self.ops.finish(op)
    }

    /// The end: nothing is taken any more.
    fn end_with(&mut self, error: Error, withhold: bool) {
        self.cut_off(&error, withhold);
        self.drop_waiting(&error);
        self.ended = Some(error);
        (self.calm, self.stale) = (NEVER_CALM, true);
    }

    /// Ends operations of which no command is in flight.
    fn drop_waiting(&mut self, error: &Error) {
        while let Some(op) = self.waiting.pop_front() {
            self.ops.fail(op, || error.clone());
            if self.ops.commands(op) == 0 {
                self.finished.push(self.ops.finish(op));
            }
        }
    }

    /// Makes the queues known to the controller, empty.
    fn create(&mut self, controller: &Controller) -> Result<()> {
        let (qid, sq, cq) = (self.rings.qid, self.rings.sq(), self.rings.cq());
        let rings = &mut self.rings;
        self.generation = controller.create_queues(qid, sq, cq, self.vector, || rings.clear())?;
        self.calm = Controller::calm(self.generation);
        (self.fresh, self.stale, self.suspect) = (true, false, false);
        self.watch.moved();
        Ok(())
    }
}

/// Bytes of a transfer that is not refused and is one command.
fn most(space: &Namespace) -> usize {
    space.abilities.max_command.min(space.geometry.max_transfer.into()) as usize
}

/// Appends the good end of an operation. Where the list has room, as nearly always, it goes
/// there without another stop on the way.
#[inline(always)]
fn put(done: &mut Vec<Completion>, tag: u64, buf: Option<Buffer>) {
    match done.spare_capacity_mut().first_mut() {
        Some(place) => {
            place.write(Completion { tag, result: Ok(()), buf });
            // SAFETY: the place behind the last one was just written.
            unsafe { done.set_len(done.len() + 1) };
        }
        None => put_more(done, tag, buf),
    }
}

#[cold]
#[inline(never)]
fn put_more(done: &mut Vec<Completion>, tag: u64, buf: Option<Buffer>) {
    done.push(Completion { tag, result: Ok(()), buf });
}

fn lost_queue(qid: u16, error: &Error) -> Error {
    let text = format!("queue {qid} could not be made again after a reset: {}", error.message());
    Error::new(ErrorKind::Gone, text)
}
