//! The queue over io_uring: when to enter the kernel, and what dropping does.
//!
//! Entries are made in `ring`; which operation is where is kept in `table`.

use super::orphan;
use super::ring::Ring;
use super::shared::Shared;
use super::signal::Signal;
use super::table::Table;
use crate::medium::check::{check, full, reject};
use crate::medium::{Completion, Error, ErrorKind, Op, Queue, Rejected, Result};
use rustix::io::Errno;
use std::cell::OnceCell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A queue over io_uring.
pub(super) struct RingQueue {
    /// Handed to an orphan, or dropped, by `drop`.
    ring: ManuallyDrop<Ring>,
    table: ManuallyDrop<Table>,
    shared: Arc<Shared>,
    /// Made when somebody asks for the descriptor.
    signal: OnceCell<Signal>,
    /// Set when the ring itself fails.
    broken: Option<Error>,
}

impl RingQueue {
    /// A queue, or none when the system refuses io_uring.
    pub(super) fn new(shared: &Arc<Shared>, depth: u32) -> Result<Option<Self>> {
        let Some(ring) = Ring::new(shared, depth)? else { return Ok(None) };
        Ok(Some(Self {
            ring: ManuallyDrop::new(ring),
            table: ManuallyDrop::new(Table::new(depth as usize)),
            shared: Arc::clone(shared),
            signal: OnceCell::new(),
            broken: None,
        }))
    }

    /// Gives the kernel what is ready, as one batch.
    fn start(&mut self) {
        self.ring.push_ready(&self.shared, &mut self.table);
        while self.ring.unsubmitted() > 0 {
            match self.ring.enter() {
                // The kernel takes no more at present: `poll` tries again.
                Ok(0) => return,
                Ok(_) => self.ring.push_ready(&self.shared, &mut self.table),
                Err(error) => return self.enter_failed(&error),
            }
        }
    }

    /// Sorts out a failed `io_uring_enter`.
    fn enter_failed(&mut self, error: &std::io::Error) {
        match Errno::from_io_error(error) {
            // Out of resources, a full completion ring, a signal, the end of
            // the time: all pass.
            Some(Errno::AGAIN | Errno::BUSY | Errno::INTR | Errno::TIME | Errno::NOMEM) => {}
            _ => {
                let error = Error::new(
                    ErrorKind::Gone,
                    format!("the I/O ring of {} does not work any more: {error}", self.shared.uri),
                );
                self.table.fail_waiting(&error);
                self.broken = Some(error);
            }
        }
    }

    fn update_signal(&self) {
        if let Some(signal) = self.signal.get() {
            signal.set(!self.table.done.is_empty());
        }
    }
}

impl Queue for RingQueue {
    fn submit(&mut self, tag: u64, op: Op) -> std::result::Result<(), Rejected> {
        if let Err(error) = check(&op, &self.shared.geometry) {
            return Err(reject(op, error));
        }
        if let Some(error) = self.broken.clone().or_else(|| self.shared.refusal(&op)) {
            return Err(reject(op, error));
        }
        if self.in_flight() >= self.depth() {
            return Err(full(op));
        }
        self.table.insert(&self.shared, tag, op);
        Ok(())
    }

    fn ring(&mut self) {
        self.start();
        self.update_signal();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        self.start();
        if self.ring.reap(&self.shared, &mut self.table) > 0 {
            // Continuations of what was just reaped.
            self.start();
        }
        orphan::reap();
        let count = self.table.done.len();
        done.extend(self.table.done.drain(..));
        self.update_signal();
        count
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        loop {
            self.ring.push_ready(&self.shared, &mut self.table);
            let mut reaped = self.ring.reap(&self.shared, &mut self.table);
            let idle = self.in_flight() == 0 || self.broken.is_some();
            if self.table.done.is_empty() && reaped == 0 && !idle {
                let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
                if let Err(error) = self.ring.enter_and_sleep(left) {
                    self.enter_failed(&error);
                }
                reaped = self.ring.reap(&self.shared, &mut self.table);
            }
            if !self.table.done.is_empty() || reaped == 0 {
                // Something to poll, or a signal or the time ended the sleep.
                self.start();
                self.update_signal();
                return match (&self.broken, self.table.done.is_empty()) {
                    (Some(error), true) => Err(error.clone()),
                    _ => Ok(()),
                };
            }
        }
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        let ring = self.ring.descriptor();
        if self.signal.get().is_none() {
            match Signal::new(ring) {
                Ok(signal) => {
                    signal.set(!self.table.done.is_empty());
                    let _ = self.signal.set(signal);
                }
                Err(error) => {
                    tracing::warn!(%error, "no descriptor to join a queue's events");
                    return Some(ring);
                }
            }
        }
        self.signal.get().map(std::os::fd::AsFd::as_fd)
    }

    fn in_flight(&self) -> usize {
        self.table.in_flight()
    }

    fn depth(&self) -> usize {
        self.table.depth()
    }
}

impl Drop for RingQueue {
    fn drop(&mut self) {
        // SAFETY: `drop` runs once, and nothing uses the two fields after it.
        let (mut ring, mut table) =
            unsafe { (ManuallyDrop::take(&mut self.ring), ManuallyDrop::take(&mut self.table)) };
        ring.reap(&self.shared, &mut table);
        // What the kernel never took from the submission ring it never will:
        // it looks there only when it is told to.
        table.in_ring = table.in_ring.saturating_sub(ring.unsubmitted());
        if table.in_ring == 0 {
            ring.retire();
        } else {
            orphan::adopt(ring, table, Arc::clone(&self.shared));
        }
        orphan::reap();
    }
}

impl fmt::Debug for RingQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingQueue")
            .field("depth", &self.depth())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
