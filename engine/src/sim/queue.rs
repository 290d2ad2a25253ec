//! The queue of a simulated medium: a name for a part of its state.

use super::state::State;
use super::{Inner, lock};
use crate::medium::check::{check, full, reject};
use crate::medium::{Completion, Op, Queue, Rejected, Result};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct SimQueue {
    inner: Arc<Inner>,
    id: u64,
    depth: usize,
}

impl SimQueue {
    pub(super) fn new(inner: &Arc<Inner>, depth: usize) -> Self {
        let mut state = lock(inner);
        let id = state.next_queue;
        state.next_queue += 1;
        Self { inner: Arc::clone(inner), id, depth }
    }
}

impl Queue for SimQueue {
    fn submit(&mut self, tag: u64, op: Op) -> std::result::Result<(), Rejected> {
        if let Err(error) = check(&op, &self.inner.geometry) {
            return Err(reject(op, error));
        }
        let mut state = lock(&self.inner);
        if let Some(error) = state.refusal(&op) {
            return Err(reject(op, error));
        }
        if state.in_flight(self.id) >= self.depth {
            return Err(full(op));
        }
        state.submit(self.id, tag, op);
        if state.dead {
            self.inner.changed.notify_all();
        }
        Ok(())
    }

    fn ring(&mut self) {}

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        lock(&self.inner).poll(self.id, done)
    }

    /// Takes no time unless all that is in flight is held: then it sleeps
    /// until something is released, or the time is over.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        let mut state = lock(&self.inner);
        while state.in_flight(self.id) > 0 && !state.skip_to_completion(self.id) {
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            state = match left {
                None => self.inner.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => return Ok(()),
                Some(left) => {
                    let woken = self.inner.changed.wait_timeout(state, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        Ok(())
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn in_flight(&self) -> usize {
        lock(&self.inner).in_flight(self.id)
    }

    fn depth(&self) -> usize {
        self.depth
    }
}

impl Drop for SimQueue {
    fn drop(&mut self) {
        let mut state: std::sync::MutexGuard<'_, State> = lock(&self.inner);
        state.abandon(self.id);
    }
}
