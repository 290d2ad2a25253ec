//! Driving lanes: the maintenance lane, other threads' idle lanes, and a
//! blocking call's own.

use super::core::Dues;
use super::{Duty, Volume};
use crate::arbiter::SessionId;
use crate::error::{Error, ErrorKind, Result};
use crate::format::types::Seq;
use crate::lane::{Inner, Io, Lane};
use freehold_engine::latch::Owner;
use std::future::Future;
use std::ops::DerefMut;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Commands that a blocking call's lane, or the maintenance lane, has in flight at most.
const BLOCKING_DEPTH: u32 = 64;

/// A waiter looks around this often even if nobody tells it anything.
pub(super) const NAP: Duration = Duration::from_micros(500);

impl Volume {
    /// A lane of its own device queue, known to all who wait.
    pub(super) fn new_lane(&self, depth: u32) -> Result<Arc<Lane>> {
        let lane = Lane::new(self.medium.queue(depth)?, self.health.clone());
        self.lanes.lock().expect("no holder panics").push(lane.clone());
        Ok(lane)
    }

    /// The same for a user.
    pub(super) fn new_owned_lane(&self, depth: u32) -> Result<(Arc<Lane>, Owner)> {
        let (lane, owner) = Lane::owned(self.medium.queue(depth)?, self.health.clone());
        self.lanes.lock().expect("no holder panics").push(lane.clone());
        Ok((lane, owner))
    }

    /// The lanes that there are, orphans that have ended left out.
    pub(super) fn all_lanes(&self) -> Vec<Arc<Lane>> {
        let mut all = self.live_lanes().clone();
        all.push(self.maint.clone());
        all
    }

    /// All lanes but the maintenance lane. The numbers of those that have ended are
    /// in the counters when this returns, and of no other while the guard is held.
    pub(super) fn live_lanes(&self) -> MutexGuard<'_, Vec<Arc<Lane>>> {
        let mut lanes = self.lanes.lock().expect("no holder panics");
        lanes.retain(|lane| {
            let dead = lane.is_dead();
            if dead {
                self.counters.past.absorb(&lane.traffic);
            }
            !dead
        });
        lanes
    }

    /// Something changed that a blocking call may wait for.
    pub(super) fn announce(&self) {
        *self.progress.0.lock().expect("no holder panics") += 1;
        // Waking nobody is a system call all the same.
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.progress.1.notify_all();
        }
    }

    /// Writes that have completed and were not durable by themselves, on all
    /// queues that there ever were. Logged ones do not count. Never decreases.
    pub(super) fn landed(&self) -> u64 {
        let lanes = self.lanes.lock().expect("no holder panics");
        let past = &self.counters.past;
        lanes
            .iter()
            .map(|l| &l.traffic)
            .chain([&self.maint.traffic, past])
            .map(|t| t.landed.load(Ordering::Acquire))
            .sum()
    }

    /// After a change of the map: is there enough for a checkpoint, or too much in memory?
    pub(super) fn after_change(&self, dues: Dues) {
        if self.cache.is_over() {
            self.trim();
        }
        if dues.checkpoint && !self.duty.checkpointing.load(Ordering::Acquire) {
            self.ask_checkpoint();
        }
        if let Some(last) = dues.commit {
            self.want(last);
        }
    }

    /// This record shall become durable.
    pub(super) fn want(&self, seq: u64) {
        self.wanted.fetch_max(seq, Ordering::AcqRel);
        self.duty.any.store(true, Ordering::Release);
    }

    pub(super) fn ask_checkpoint(&self) {
        self.duty.checkpoint.store(true, Ordering::Release);
        self.duty.any.store(true, Ordering::Release);
    }

    /// A checkpoint that was under way when it was asked for does not count.
    pub(super) fn ask_checkpoint_again(&self, goal: u64) {
        let d = &self.duty;
        if !d.checkpointing.load(Ordering::Acquire)
            && !d.checkpoint.load(Ordering::Acquire)
            && self.marked.load(Ordering::Acquire) < goal
        {
            self.ask_checkpoint();
        }
    }

    /// Drives the maintenance lane if there is anything to do and nobody does it.
    pub(super) fn maintain(self: &Arc<Self>) -> bool {
        if !self.duty.any.load(Ordering::Relaxed) || self.health.is_read_only() {
            return false;
        }
        let Some(mut inner) = self.maint.try_lock() else { return false };
        let committed = self.begin_duties(&mut inner);
        let moved = inner.step(&self.maint) | committed;
        self.end_duties(&inner);
        if moved {
            self.tell_waiters();
        }
        moved
    }

    /// A commit may have ended: those who wait for it hear so.
    fn tell_waiters(&self) {
        // What failed, all hear.
        self.waiters.wake(self.health.sound().map_or(Seq::MAX, |()| self.durable()));
    }

    /// Drives the maintenance lane for a thread that waits for its commit, and sleeps
    /// on its device until it is `over`. False, at once, if somebody else drives it.
    pub(super) fn maintain_until(self: &Arc<Self>, over: impl Fn() -> bool) -> bool {
        let Some(mut inner) = self.maint.try_lock() else { return false };
        while !over() {
            let before = self.durable();
            let committed = self.begin_duties(&mut inner);
            let moved = committed && inner.idle() || inner.advance(&self.maint);
            if self.durable() > before && self.waiters.any() {
                // The device has its next group before anybody is woken.
                inner.dev.ring();
                self.tell_waiters();
            }
            if !over() && (inner.dev.in_flight() > 0 || !moved) {
                let _ = inner.wait(Some(NAP));
            }
        }
        // What others wait for goes on meanwhile.
        inner.dev.ring();
        self.end_duties(&inner);
        true
    }

    /// Begins what is due. True if a commit was, and is over already.
    fn begin_duties(self: &Arc<Self>, inner: &mut Inner) -> bool {
        let mut committed = false;
        let d = &self.duty;
        if d.kept.swap(false, Ordering::AcqRel) {
            self.release_quiet();
        }
        let unwell = self.health.sound().is_err();
        let due = self.wanted.load(Ordering::Acquire) > self.durable();
        if due && !unwell && begin(&d.committing) {
            committed = self.commit_at_once();
            if committed {
                d.committing.store(false, Ordering::Release);
                self.announce();
            } else {
                let vol = self.clone();
                inner.spawn(&self.maint, |io| vol.commit_task(io));
            }
        }
        if d.checkpoint.load(Ordering::Acquire) && !unwell && begin(&d.checkpointing) {
            d.checkpoint.store(false, Ordering::Release);
            let vol = self.clone();
            inner.spawn(&self.maint, |io| vol.checkpoint_task(io));
        }
        if d.home.load(Ordering::Acquire) && !unwell && begin(&d.homing) {
            let vol = self.clone();
            inner.spawn(&self.maint, |io| vol.home_task(io));
        }
        if d.reap.load(Ordering::Acquire) && !unwell && begin(&d.reaping) {
            d.reap.store(false, Ordering::Release);
            let vol = self.clone();
            inner.spawn(&self.maint, |io| vol.reap_task(io));
        }
        committed
    }

    fn end_duties(&self, inner: &Inner) {
        let d = &self.duty;
        let unwell = self.health.sound().is_err();
        let due = self.wanted.load(Ordering::Acquire) > self.durable() && !unwell;
        if inner.idle() && !due && !d.pending() {
            // A request may have come between the look and the store. Reading what
            // it wrote to `any`, not only overwriting it, shows the request itself.
            d.any.swap(false, Ordering::AcqRel);
            if d.pending() || self.wanted.load(Ordering::Acquire) > self.durable() && !unwell {
                d.any.store(true, Ordering::Release);
            }
        }
    }

    /// Drives the idle lanes of others, because something there may be what
    /// this thread waits for (law M2).
    pub(super) fn assist(self: &Arc<Self>, own: &Arc<Lane>) -> bool {
        let mut moved = false;
        for lane in self.all_lanes() {
            if !Arc::ptr_eq(&lane, own)
                && !Arc::ptr_eq(&lane, &self.maint)
                && lane.is_busy()
                && let Some(mut inner) = lane.try_lock()
                && !inner.idle()
            {
                moved |= inner.step(&lane);
            }
        }
        moved
    }

    /// Drives what is under way, without waiting: for a thread that was woken by a
    /// deadline and waits for nothing itself.
    pub fn attend(self: &Arc<Self>) {
        if self.not_in_action().is_err() {
            return;
        }
        for lane in self.all_lanes() {
            if !Arc::ptr_eq(&lane, &self.maint)
                && lane.is_busy()
                && let Some(mut inner) = lane.try_lock()
                && !inner.idle()
            {
                inner.step(&lane);
            }
        }
        while self.act() {}
        self.maintain();
    }

    /// Runs a task to its end on a lane of this thread's own.
    pub(super) fn run<T, F>(self: &Arc<Self>, make: impl FnOnce(Io) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.not_in_action()?;
        let lane = self.blocking_lane()?;
        let answer: Arc<Mutex<Option<Result<T>>>> = Arc::default();
        let put = Answer(answer.clone());
        let spawned = lane.lock().spawn(&lane, |io| {
            let work = make(io);
            async move {
                let done = work.await;
                put.give(done);
            }
        });
        if !spawned {
            return Err(Error::new(ErrorKind::Limit, "a queue has too many operations in flight"));
        }
        let done = self.drive(&lane, |_| answer.lock().expect("no holder panics").take());
        self.idle.lock().expect("no holder panics").push(lane);
        done
    }

    /// As [`Volume::run`], for the session of a handle.
    pub(super) fn run_as<T, F>(
        self: &Arc<Self>,
        who: SessionId,
        make: impl FnOnce(Io) -> F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        self.run(move |io| make(io.of(who)))
    }

    /// A lane for a blocking call of this thread.
    pub(super) fn blocking_lane(&self) -> Result<Arc<Lane>> {
        match self.idle.lock().expect("no holder panics").pop() {
            Some(lane) => Ok(lane),
            None => self.new_lane(BLOCKING_DEPTH),
        }
    }

    /// Drives the lane, and what else it can take, until there is an answer.
    pub(super) fn drive<T>(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        mut answer: impl FnMut(&mut Inner) -> Option<T>,
    ) -> T {
        let mut idle = Idle::default();
        loop {
            let moved = {
                let mut inner = lane.lock();
                let moved = inner.step(lane);
                if let Some(done) = answer(&mut inner) {
                    drop(inner);
                    self.hand_over();
                    break done;
                }
                moved
            };
            if moved | self.maintain() | self.act() || idle.helps() && self.assist(lane) {
                continue;
            }
            idle.over(self.nap(lane.lock(), NAP));
        }
    }

    /// This thread waits no more. If it drove the maintenance lane, somebody else must
    /// now, and may be asleep.
    pub(super) fn hand_over(&self) {
        // Who has the lane now will do the same.
        let left = self.duty.any.load(Ordering::Relaxed) && self.maint.try_lock().is_some();
        if left && !self.waiters.wake_one() && self.sleepers.load(Ordering::SeqCst) > 0 {
            *self.progress.0.lock().expect("no holder panics") += 1;
            self.progress.1.notify_one();
        }
    }

    /// The last handle is gone: nothing that waits will be driven again. What the store was
    /// writing on its own account cannot be taken up again (a group that was not written would
    /// be a hole in the journal, and what comes behind it be lost): then whoever has a lease
    /// or a seal still is told so, and waits for nothing. If there was nothing, they go on.
    pub fn abandon(&self) {
        {
            let mut inner = self.maint.lock();
            if self.duty.is_at_work() {
                self.health.give_up();
            }
            inner.forget_tasks(&self.maint);
            // A removal goes on from where its last record has left it.
            if self.duty.reaping.swap(false, Ordering::AcqRel) {
                self.ask_reap();
            }
        }
        self.tell_waiters();
        for lane in self.all_lanes() {
            if let Some(mut inner) = lane.seize() {
                inner.forget_tasks(&lane);
            }
        }
        self.forget_kept();
    }

    /// Sleeps until the device of this thread's lane, or the maintenance lane's, or another
    /// thread has something; never long. True if nobody had.
    pub(super) fn nap(&self, mut own: impl DerefMut<Target = Inner>, most: Duration) -> bool {
        let seen = *self.progress.0.lock().expect("no holder panics");
        if own.dev.in_flight() > 0 {
            let _ = own.wait(Some(most));
            return false;
        }
        drop(own);
        if let Some(mut maint) = self.maint.try_lock()
            && maint.dev.in_flight() > 0
        {
            let _ = maint.wait(Some(most));
            return false;
        }
        let guard = self.progress.0.lock().expect("no holder panics");
        if *guard != seen {
            return false;
        }
        // Counted while the lock is held, which an announcement takes first.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let woken = self.progress.1.wait_timeout(guard, most);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        woken.is_ok_and(|(_, time)| time.timed_out())
    }
}

/// Where the caller of a task finds what it came to. A task that is given up, because the
/// store's last handle went, came to an error.
struct Answer<T>(Arc<Mutex<Option<Result<T>>>>);

impl<T> Answer<T> {
    fn give(&self, done: Result<T>) {
        self.0.lock().expect("no holder panics").get_or_insert(done);
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        let why = "the store's last handle went during the call; keep one while it is used";
        self.give(Err(Error::new(ErrorKind::Invalid, why)));
    }
}

/// When a waiter looks after the lanes of others. Not each time that it finds
/// nothing to do: with many waiters all would look at all.
#[derive(Debug, Default)]
pub(super) struct Idle {
    naps: u32,
    long: bool,
}

impl Idle {
    /// Has it waited for so long that what it waits for may be on an idle lane?
    pub(super) fn helps(&mut self) -> bool {
        std::mem::take(&mut self.long) || self.naps.is_multiple_of(16)
    }

    /// A nap is over; it was `long` if nothing ended it.
    pub(super) fn over(&mut self, long: bool) {
        self.naps += 1;
        self.long = long;
    }
}

/// Takes a duty if nobody has it.
fn begin(flag: &std::sync::atomic::AtomicBool) -> bool {
    !flag.swap(true, Ordering::AcqRel)
}

impl Duty {
    /// Something is being written that cannot be begun anew from its middle. Exact while the
    /// maintenance lane is held.
    fn is_at_work(&self) -> bool {
        [&self.committing, &self.checkpointing, &self.homing]
            .iter()
            .any(|d| d.load(Ordering::Acquire))
    }

    fn pending(&self) -> bool {
        [&self.checkpoint, &self.home, &self.reap, &self.kept]
            .iter()
            .any(|d| d.load(Ordering::Acquire))
    }
}
