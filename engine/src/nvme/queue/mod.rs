//! A queue of an NVMe medium, by the medium contract.
//!
//! `core` is the queue pair itself, `submit` how it takes operations, `rings` its memory, `slab` its command identifiers,
//! `ops` its operations and `piece` how they become commands. Here are waiting, the
//! descriptor, and dropping.

mod core;
mod ops;
mod piece;
mod rings;
mod slab;
mod submit;
mod wake;
mod watch;

pub(super) use core::Core;

use super::Claim;
use super::controller::Controller;
use super::orphans::Orphan;
use crate::medium::{Completion, Op, Queue, Rejected, Result};
use std::cell::OnceCell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wake::{Joined, Wake, Woken, link_of, sleep};

/// How long a waiter looks at the ring before it sleeps: most completions come sooner than
/// a thread falls asleep and wakes.
const SPIN: Duration = Duration::from_micros(20);
/// Looks at the ring between two at the clock.
const SPINS: u32 = 64;
/// Sleep between looks where no interrupt tells of completions.
const BLIND_NAP: Duration = Duration::from_micros(200);
/// How often somebody who sleeps on the descriptor is woken while commands are in flight.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// A queue of an NVMe medium.
pub(super) struct NvmeQueue {
    /// Handed on by `drop`.
    core: ManuallyDrop<Box<Core>>,
    controller: Arc<Controller>,
    claim: Arc<Claim>,
    /// Made when somebody asks for the descriptor.
    joined: OnceCell<Joined>,
}

impl NvmeQueue {
    pub(super) fn new(core: Box<Core>, controller: Arc<Controller>, claim: Arc<Claim>) -> Self {
        Self { core: ManuallyDrop::new(core), controller, claim, joined: OnceCell::new() }
    }

    /// Something can be polled.
    fn is_ready(&self) -> bool {
        !self.core.finished.is_empty() || self.core.rings.peek().is_some()
    }

    /// Looks at the ring for a moment. True when something is there.
    fn spin(&self, deadline: Option<Instant>) -> bool {
        let begun = Instant::now();
        loop {
            for _ in 0..SPINS {
                if self.is_ready() {
                    return true;
                }
                std::hint::spin_loop();
            }
            let now = Instant::now();
            if now - begun >= SPIN || deadline.is_some_and(|d| now >= d) {
                return self.is_ready();
            }
        }
    }

    /// Sleeps once, after a last look at the ring.
    fn sleep_once(&mut self, left: Option<Duration>) -> Woken {
        self.core.attach(&self.controller);
        if self.core.rings.tell().is_err() {
            return Woken::Link;
        }
        let wake = self.core.wake.get().filter(|wake| wake.attached.get());
        if let Some(wake) = wake {
            wake.clear();
        }
        if self.is_ready() {
            return Woken::Event;
        }
        let nap = self.core.nap();
        let wake = self.core.wake.get().filter(|wake| wake.attached.get());
        let nap = left.map_or(nap, |left| left.min(nap));
        let link = link_of(&*self.controller.link.function);
        match wake {
            Some(wake) => sleep(Some(wake.event()), link, nap),
            // Nothing tells of completions: look again soon.
            None => match sleep(None, link, nap.min(BLIND_NAP)) {
                Woken::Time => Woken::Event,
                other => other,
            },
        }
    }

    /// Keeps the descriptor as readable as it should be, after a poll or a wait.
    fn announce(&mut self) {
        let Some(joined) = self.joined.get() else { return };
        if self.is_ready()
            && let Some(wake) = self.core.wake.get()
        {
            wake.post();
        }
        let deadline = match self.core.slab.in_flight() {
            0 => None,
            _ => Some(crate::event::monotonic_ns() + LOOK_AGAIN.as_nanos() as u64),
        };
        if let Err(error) = joined.signal().arm(deadline) {
            tracing::debug!(%error, "a timer was not set");
        }
    }

    /// What a poll of somebody who sleeps on the descriptor does besides.
    #[cold]
    fn poll_joined(&mut self, done: &mut Vec<Completion>) -> usize {
        if let Some(wake) = self.core.wake.get() {
            wake.clear();
        }
        if let Some(joined) = self.joined.get() {
            joined.signal().clear();
        }
        let mut count = self.core.poll(&self.controller, done);
        if count == 0 {
            // It may be the link that woke somebody, with nothing in flight.
            self.core.look(&self.controller);
            count = self.core.poll(&self.controller, done);
        }
        if self.core.ended.is_some()
            && let Some(joined) = self.joined.get()
        {
            joined.forget(self.controller.link.function.link_fd());
        }
        self.announce();
        count
    }
}

impl Queue for NvmeQueue {
    fn submit(&mut self, tag: u64, op: Op) -> std::result::Result<(), Rejected> {
        self.core.submit(&self.controller, tag, op)
    }

    fn ring(&mut self) {
        self.core.ring(&self.controller);
        if self.joined.get().is_some() {
            self.announce();
        }
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        if self.joined.get().is_some() {
            return self.poll_joined(done);
        }
        self.core.poll(&self.controller, done)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        self.core.watch.used();
        self.core.ring(&self.controller);
        loop {
            if self.core.in_flight() == 0 {
                return match &self.core.ended {
                    Some(error) => Err(error.clone()),
                    None => Ok(()),
                };
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if self.spin(deadline) || left == Some(Duration::ZERO) {
                break;
            }
            let woken = self.sleep_once(left);
            self.core.heed(&self.controller);
            if woken == Woken::Signal {
                break;
            }
            if !self.is_ready() {
                self.core.look(&self.controller);
            }
        }
        self.announce();
        Ok(())
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        if self.joined.get().is_none() {
            self.core.attach(&self.controller);
            let wake = self.core.wake.get().filter(|wake| wake.attached.get())?;
            match Joined::new(wake, link_of(&*self.controller.link.function)) {
                Ok(joined) => {
                    // What came before the vector was attached is told now.
                    wake.kept.set(true);
                    if self.is_ready() {
                        wake.post();
                    }
                    let _ = self.joined.set(joined);
                }
                Err(error) => {
                    tracing::warn!(%error, "no descriptor for a queue's events");
                    return None;
                }
            }
        }
        self.joined.get().map(AsFd::as_fd)
    }

    fn in_flight(&self) -> usize {
        self.core.in_flight()
    }

    fn depth(&self) -> usize {
        self.core.depth()
    }
}

impl Core {
    /// Has the vector told to an eventfd, if there is a vector and it is not so already.
    fn attach(&self, controller: &Controller) {
        let Some(vector) = self.vector else { return };
        if self.wake.get().is_none() {
            match Wake::new() {
                Ok(wake) => drop(self.wake.set(wake)),
                Err(error) => return tracing::warn!(%error, "waiting without interrupts"),
            }
        }
        let Some(wake) = self.wake.get().filter(|wake| !wake.attached.get()) else { return };
        match controller.link.function.attach(vector.into(), Some(wake.event())) {
            Ok(()) => wake.attached.set(true),
            Err(error) => tracing::warn!(%error, "waiting without interrupts"),
        }
    }

    /// Switches the vector off, for nobody waits.
    fn detach(&self, controller: &Controller) {
        let Some(wake) = self.wake.get().filter(|wake| wake.attached.get() && !wake.kept.get())
        else {
            return;
        };
        if let Some(vector) = self.vector
            && controller.link.function.attach(vector.into(), None).is_ok()
        {
            wake.attached.set(false);
        }
    }
}

impl Drop for NvmeQueue {
    fn drop(&mut self) {
        // SAFETY: `drop` runs once, and nothing uses the field after it.
        let mut core = unsafe { ManuallyDrop::take(&mut self.core) };
        if crate::fork::in_child() {
            // It is the parent's: its memory is not even there.
            std::mem::forget(core);
            return;
        }
        core.leave(&self.controller);
        let orphan = Orphan { core, claim: Arc::clone(&self.claim) };
        self.controller.orphans.adopt(orphan, &self.controller);
    }
}

impl fmt::Debug for NvmeQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NvmeQueue")
            .field("qid", &self.core.qid())
            .field("depth", &self.depth())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
