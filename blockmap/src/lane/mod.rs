//! A lane: a device queue, what is in flight on it, and the work that goes on
//! when something completes.
//!
//! An operation that needs one command (a read or an in-place write of one
//! extent) is *plain*: a slot, a command, a completion; no allocation, no lock that
//! anybody else takes, no system call of ours. Everything else is a *task*: a
//! future that the lane polls when its commands complete, or, when it waits for
//! a condition, whenever the lane is driven.
//!
//! A lane is driven by whoever holds its latch. That is its user, who enters it for
//! nothing; or, when the user does not poll, a waiter that depends on it (law M2): it takes
//! the idle lane, for which it pays a membarrier, reaps, and drives the tasks to their end. What is finished then waits
//! in the lane's own ring until the user polls. Futures are woken by nobody: being
//! driven is the wake-up.

mod io;
mod joined;
mod plain;
mod share;
mod slots;
mod wish;

pub(crate) use io::{Io, RETRIES, Seen, all};
pub(crate) use joined::Joined;
pub(crate) use plain::{Kind, Plain};
pub use share::{LeaseShare, LeaseTag};
pub(crate) use slots::Slots;
pub(crate) use wish::Wish;

use crate::error::Error;
use crate::health::Health;
use crate::volume::{Together, forget, look_up};
use freehold_engine::latch::{Entered, Inside, Latch, Locked, Owner};
use freehold_engine::medium::{self, Op, Queue};
use freehold_engine::memory::Buffer;
use freehold_engine::pin::IoPins;
use io::Cell;
use plain::Ended;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

/// A finished operation, for the user of a queue.
#[derive(Debug)]
pub struct Finished {
    /// The tag that it was submitted with.
    pub tag: u64,
    /// Bytes read or written.
    pub result: Result<usize, Error>,
    /// The buffer, given back.
    pub buf: Option<Buffer>,
    /// For I/O through a lease: which, and where in it.
    pub lease: Option<LeaseTag>,
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task's command in flight.
struct Slow {
    cell: Arc<Cell>,
    task: u32,
    /// Its completion leaves something that only a flush makes durable.
    lands: bool,
}

/// A task's command on its way to the device.
struct Post {
    task: u32,
    op: Op,
    cell: Arc<Cell>,
    lands: bool,
}

struct Task {
    work: Work,
    /// Commands of its own that have not completed.
    commands: u32,
    /// One of them has, since it was last polled.
    woken: bool,
}

const SLOW: u64 = 1 << 63;

/// What a device did for this lane. One writer at a time: who holds the latch. Tasks'
/// commands count when they are submitted, plain ones when they complete.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) reads: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) flushes: AtomicU64,
    pub(crate) bytes_read: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    /// Writes that completed and were not durable by themselves.
    pub(crate) landed: AtomicU64,
    pub(crate) user_reads: AtomicU64,
    pub(crate) user_writes: AtomicU64,
}

impl Traffic {
    /// Adds the numbers of a lane that has ended. One thread at a time.
    pub(crate) fn absorb(&self, ended: &Traffic) {
        for (sum, counter) in [
            (&self.reads, &ended.reads),
            (&self.writes, &ended.writes),
            (&self.flushes, &ended.flushes),
            (&self.bytes_read, &ended.bytes_read),
            (&self.bytes_written, &ended.bytes_written),
            (&self.landed, &ended.landed),
            (&self.user_reads, &ended.user_reads),
            (&self.user_writes, &ended.user_writes),
        ] {
            bump(sum, counter.load(Ordering::Relaxed));
        }
    }
}

/// Adds to a counter that only this thread writes now.
pub(crate) fn bump(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

/// A queue of the store.
pub(crate) struct Lane {
    pub(crate) slots: Slots,
    pub(crate) traffic: Traffic,
    depth: usize,
    latch: Latch<Inner>,
    mail: Mutex<Mail>,
    board: Mutex<Vec<Arc<Wish>>>,
    /// Its user is gone: it is driven by others until nothing is in flight.
    orphan: AtomicBool,
    /// Something may be in flight. Written by who holds the latch, and read by others before
    /// they take it: who has seen what was begun here sees this, at once or at a later look.
    busy: AtomicBool,
}

/// What tasks post while they run; the driver takes it afterwards.
#[derive(Default)]
struct Mail {
    ops: Vec<Post>,
    done: Vec<Finished>,
    /// A task gave others a turn and wants the next one: nobody shall sleep.
    yielded: bool,
}

pub(crate) struct Inner {
    pub(crate) dev: Box<dyn Queue>,
    /// Places of plain operations.
    pub(crate) plain: Box<[Plain]>,
    /// The first of them that is free, which names the next; behind the last: none.
    pub(crate) free_plain: u32,
    /// Plain reads that were taken and not looked up yet.
    pub(crate) together: Together,
    /// What this lane has pinned.
    pub(crate) pins: IoPins,
    pub(crate) health: Arc<Health>,
    slow: Vec<Option<Slow>>,
    free_slow: Vec<u32>,
    tasks: Vec<Option<Task>>,
    free_tasks: Vec<u32>,
    running: usize,
    backlog: VecDeque<Post>,
    reaped: Vec<medium::Completion>,
    pub(crate) done: Vec<Finished>,
}

impl Lane {
    /// A lane over a device queue, with room for as many plain operations and
    /// as many tasks.
    pub(crate) fn new(dev: Box<dyn Queue>, health: Arc<Health>) -> Arc<Self> {
        let depth = dev.depth();
        Arc::new(Self::over(depth, Latch::new(Inner::new(dev, health))))
    }

    /// The same for a user, who enters it for nothing.
    pub(crate) fn owned(dev: Box<dyn Queue>, health: Arc<Health>) -> (Arc<Self>, Owner) {
        let depth = dev.depth();
        let (latch, owner) = Latch::owned(Inner::new(dev, health));
        (Arc::new(Self::over(depth, latch)), owner)
    }

    fn over(depth: usize, latch: Latch<Inner>) -> Self {
        Lane {
            slots: Slots::new(2 * depth),
            traffic: Traffic::default(),
            depth,
            latch,
            mail: Mutex::default(),
            board: Mutex::default(),
            orphan: AtomicBool::new(false),
            busy: AtomicBool::new(false),
        }
    }

    /// Takes the lane as its user, waiting for whoever drives it.
    #[inline(always)]
    pub(crate) fn enter<'a>(&'a self, owner: &'a mut Owner) -> Entered<'a, Inner> {
        self.latch.enter(owner)
    }

    /// The same, if that waits for nobody and takes no lock.
    #[inline(always)]
    pub(crate) fn enter_if_open<'a>(&'a self, owner: &'a mut Owner) -> Option<Inside<'a, Inner>> {
        self.latch.enter_if_open(owner)
    }

    /// Takes a lane that has no user, waiting for whoever drives it.
    pub(crate) fn lock(&self) -> Locked<'_, Inner> {
        self.seize().expect("a lane without a user is locked without a barrier")
    }

    /// Takes the lane from its user, waiting for whoever drives it. None where the system
    /// refuses the barrier that this takes, which it had granted.
    pub(crate) fn seize(&self) -> Option<Locked<'_, Inner>> {
        self.latch.lock()
    }

    /// Takes the lane if nobody drives it.
    pub(crate) fn try_lock(&self) -> Option<Locked<'_, Inner>> {
        self.latch.try_lock()
    }

    /// May anything be in flight here? To be asked before the lane is taken from its user.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Something is begun.
    #[inline(always)]
    pub(crate) fn begin(&self) {
        self.busy.store(true, Ordering::Relaxed);
    }

    /// The user goes. Never waits (R3): what was not begun is forgotten now, or by who finds
    /// the lane dead; what is in flight is driven to its end by others, or by nobody.
    pub(crate) fn leave(&self, owner: &mut Owner) {
        if let Some(mut inner) = self.latch.try_enter(owner) {
            forget(&mut inner, self);
        }
        self.latch.disown(owner);
        self.orphan.store(true, Ordering::Release);
    }

    fn task_slot(&self, task: u32) -> usize {
        self.depth + task as usize
    }

    fn post(&self, post: Post) {
        self.mail.lock().expect("no holder panics").ops.push(post);
    }

    fn yielded(&self) {
        self.mail.lock().expect("no holder panics").yielded = true;
    }

    fn finish(&self, done: Finished) {
        self.mail.lock().expect("no holder panics").done.push(done);
    }

    /// May it be forgotten?
    pub(crate) fn is_dead(&self) -> bool {
        self.orphan.load(Ordering::Acquire)
            && self.try_lock().is_some_and(|mut inner| {
                forget(&mut inner, self);
                inner.idle()
            })
    }
}

impl Inner {
    fn new(dev: Box<dyn Queue>, health: Arc<Health>) -> Self {
        let depth = dev.depth();
        let n = depth as u32;
        Inner {
            dev,
            plain: (0..n).map(Plain::before).collect(),
            free_plain: 0,
            together: Together::default(),
            pins: IoPins::new(),
            health,
            slow: Vec::new(),
            free_slow: Vec::new(),
            tasks: (0..depth).map(|_| None).collect(),
            free_tasks: (0..n).rev().collect(),
            running: 0,
            backlog: VecDeque::new(),
            reaped: Vec::with_capacity(depth),
            done: Vec::with_capacity(2 * depth),
        }
    }

    /// Is nothing in flight and nobody waiting?
    pub(crate) fn idle(&self) -> bool {
        self.running == 0
            && self.dev.in_flight() == 0
            && self.backlog.is_empty()
            && self.together.len() == 0
    }

    /// Does any task wait for something else than the device?
    pub(crate) fn has_tasks(&self) -> bool {
        self.running > 0
    }

    /// Is there room for a task, or for a read that may become one?
    pub(crate) fn has_room(&self) -> bool {
        self.free_tasks.len() > self.together.len()
    }

    /// Begins a task. False, with nothing done, when all places are taken.
    pub(crate) fn spawn<F>(&mut self, lane: &Arc<Lane>, make: impl FnOnce(Io) -> F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(task) = self.free_tasks.pop() else { return false };
        lane.begin();
        let work = Box::pin(make(Io { lane: lane.clone(), task, who: 0 }));
        self.tasks[task as usize] = Some(Task { work, commands: 0, woken: true });
        self.running += 1;
        true
    }

    /// Looks up, reaps, runs what can go on, submits. True if anything moved.
    pub(crate) fn step(&mut self, lane: &Arc<Lane>) -> bool {
        let moved = self.advance(lane);
        self.dev.ring();
        if self.idle() {
            lane.busy.store(false, Ordering::Relaxed);
        }
        moved
    }

    /// As [`Inner::step`], for the user, who gets at once what has finished.
    #[inline]
    pub(crate) fn step_into<T: From<Finished>>(&mut self, lane: &Arc<Lane>, out: &mut Vec<T>) {
        if self.together.len() > 0 {
            look_up(self, lane);
        }
        self.give(out);
        self.reap(lane, out);
        if self.running > 0 || !self.backlog.is_empty() {
            self.go_on(lane);
            self.give(out);
        }
        self.dev.ring();
        if self.idle() {
            lane.busy.store(false, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    fn give<T: From<Finished>>(&mut self, out: &mut Vec<T>) {
        if !self.done.is_empty() {
            give_all(&mut self.done, out);
        }
    }

    /// As [`Inner::step`], for a driver that sleeps next: the device need not begin
    /// before [`Inner::wait`], which tells it, in the same system call.
    pub(crate) fn advance(&mut self, lane: &Arc<Lane>) -> bool {
        let mut moved = self.together.len() > 0 && look_up(self, lane);
        let mut done = std::mem::take(&mut self.done);
        moved |= self.reap(lane, &mut done);
        self.done = done;
        moved | self.go_on(lane)
    }

    /// Runs what can go on, and submits what that posts.
    fn go_on(&mut self, lane: &Arc<Lane>) -> bool {
        let mut moved = false;
        // A task's end may be what another one waits for, so look twice.
        for _ in 0..2 {
            if self.running == 0 || !self.run(lane) {
                break;
            }
            moved = true;
        }
        moved | self.submit(lane)
    }

    /// Takes what the device has completed; what that finishes for the user goes `out`.
    #[inline]
    fn reap<T: From<Finished>>(&mut self, lane: &Lane, out: &mut Vec<T>) -> bool {
        let mut reaped = std::mem::take(&mut self.reaped);
        let n = self.dev.poll(&mut reaped);
        let mut ended = Ended::default();
        for c in reaped.drain(..) {
            // Out of the bounds for a task's command.
            let i = c.tag as usize;
            if c.result.is_ok() && i < self.plain.len() {
                self.end_plain(lane, i, c.buf, &mut ended, out);
            } else if let Some(finished) = self.end_other(lane, c, &mut ended) {
                out.push(T::from(finished));
            }
        }
        self.reaped = reaped;
        ended.publish(&lane.traffic);
        n > 0
    }

    /// What is no plain success.
    #[inline(never)]
    fn end_other(
        &mut self,
        lane: &Lane,
        c: medium::Completion,
        ended: &mut Ended,
    ) -> Option<Finished> {
        if c.tag & SLOW == 0 {
            let e = c.result.err()?;
            return self.fail_plain(lane, c.tag as usize, (e, c.buf), ended);
        }
        let at = (c.tag & !SLOW) as usize;
        if let Some(Slow { cell, task, lands }) = self.slow.get_mut(at).and_then(Option::take) {
            self.free_slow.push(at as u32);
            if lands {
                landed(&lane.traffic);
            }
            self.deliver(&cell, task, c);
        }
        None
    }

    fn deliver(&mut self, cell: &Cell, task: u32, c: medium::Completion) {
        if let Err(e) = &c.result {
            self.health.saw(e);
        }
        cell.put(c);
        if let Some(t) = &mut self.tasks[task as usize] {
            t.commands = t.commands.saturating_sub(1);
            t.woken = true;
        }
    }

    fn run(&mut self, lane: &Lane) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut moved = false;
        for i in 0..self.tasks.len() {
            let Some(t) = &mut self.tasks[i] else { continue };
            if !t.woken && t.commands > 0 {
                continue;
            }
            moved |= std::mem::take(&mut t.woken);
            if t.work.as_mut().poll(&mut cx).is_ready() {
                self.tasks[i] = None;
                self.free_tasks.push(i as u32);
                self.running -= 1;
                moved = true;
            }
            let mut mail = lane.mail.lock().expect("no holder panics");
            for post in mail.ops.drain(..) {
                if let Some(t) = self.tasks.get_mut(post.task as usize).and_then(Option::as_mut) {
                    t.commands += 1;
                }
                self.backlog.push_back(post);
                moved = true;
            }
            moved |= std::mem::take(&mut mail.yielded);
            self.done.append(&mut mail.done);
        }
        moved
    }

    fn submit(&mut self, lane: &Lane) -> bool {
        let mut moved = false;
        while let Some(Post { task, op, cell, lands }) = self.backlog.pop_front() {
            let at = self.free_slow.pop().unwrap_or_else(|| {
                self.slow.push(None);
                (self.slow.len() - 1) as u32
            });
            count(&lane.traffic, &op);
            match self.dev.submit(SLOW | u64::from(at), op) {
                Ok(()) => {
                    self.slow[at as usize] = Some(Slow { cell, task, lands });
                    moved = true;
                }
                Err(r) => {
                    self.free_slow.push(at);
                    let Some(error) = r.error else {
                        uncount(&lane.traffic, &r.op);
                        self.backlog.push_front(Post { task, op: r.op, cell, lands });
                        break;
                    };
                    let buf = match r.op {
                        Op::Read { buf, .. } | Op::Write { buf, .. } => Some(buf),
                        _ => None,
                    };
                    let c = medium::Completion { tag: 0, result: Err(error), buf };
                    self.deliver(&cell, task, c);
                    moved = true;
                }
            }
        }
        moved
    }

    /// Drops all tasks; what they had in flight completes to nobody.
    pub(crate) fn forget_tasks(&mut self, lane: &Lane) {
        forget(self, lane);
        for (i, t) in self.tasks.iter_mut().enumerate() {
            if t.take().is_some() {
                self.running -= 1;
                self.free_tasks.push(i as u32);
            }
        }
        self.backlog.clear();
    }

    /// Sleeps until the device has something, at most so long.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        self.dev.wait(timeout).map_err(Error::from)
    }
}

/// What has finished, to the user.
#[cold]
fn give_all<T: From<Finished>>(done: &mut Vec<Finished>, out: &mut Vec<T>) {
    out.extend(done.drain(..).map(T::from));
}

/// A write completed; published before anybody can learn of it.
#[inline(always)]
fn landed(t: &Traffic) {
    t.landed.store(t.landed.load(Ordering::Relaxed) + 1, Ordering::Release);
}

fn count(t: &Traffic, op: &Op) {
    tally(t, op, 1);
}

fn uncount(t: &Traffic, op: &Op) {
    tally(t, op, u64::MAX);
}

/// Adds `n` (or, with `u64::MAX`, takes one away) of what `op` is.
fn tally(t: &Traffic, op: &Op, n: u64) {
    let add = |c: &AtomicU64, by: u64| {
        c.store(c.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    };
    match op {
        Op::Read { buf, .. } => {
            add(&t.reads, n);
            add(&t.bytes_read, n.wrapping_mul(buf.len() as u64));
        }
        Op::Write { buf, .. } => {
            add(&t.writes, n);
            add(&t.bytes_written, n.wrapping_mul(buf.len() as u64));
        }
        Op::Flush => add(&t.flushes, n),
        _ => add(&t.writes, n),
    }
}
