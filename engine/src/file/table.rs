//! The operations of one io_uring queue: which wait, which the kernel has,
//! which are done.
//!
//! A task stays in its slot, and keeps its buffer, from submission until its
//! last completion was reaped. Submission entries are made and completions
//! are read in `ring`.

use super::shared::Shared;
use super::task::{Step, Task};
use crate::medium::{Completion, Op};
use rustix::io::Errno;
use std::collections::VecDeque;

/// The completion that belongs to the flush that all of `syncing` share.
pub(super) const SYNC: u64 = u64::MAX;

/// A step that is to be given to the kernel.
pub(super) enum Next {
    /// Of the task in this slot.
    Task(u32, Step),
    /// The flush for all in `syncing`.
    Sync,
}

/// All lists have room for the whole depth: nothing allocates later.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Option<Task>>,
    /// The step that the kernel has, by slot.
    steps: Vec<Step>,
    free: Vec<u32>,
    ready: VecDeque<u32>,
    /// Wait for the next flush.
    unsynced: Vec<u32>,
    /// Wait for the flush that the kernel has.
    syncing: Vec<u32>,
    pub(super) done: VecDeque<Completion>,
    /// Entries handed to the ring and not yet reaped.
    pub(super) in_ring: usize,
}

impl Table {
    pub(super) fn new(depth: usize) -> Self {
        Self {
            slots: (0..depth).map(|_| None).collect(),
            steps: vec![Step::Sync; depth],
            free: (0..depth as u32).rev().collect(),
            ready: VecDeque::with_capacity(depth),
            unsynced: Vec::with_capacity(depth),
            syncing: Vec::with_capacity(depth),
            done: VecDeque::with_capacity(depth),
            in_ring: 0,
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.slots.len()
    }

    /// Taken and not yet polled.
    pub(super) fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len() + self.done.len()
    }

    /// Takes an operation; there must be room.
    pub(super) fn insert(&mut self, shared: &Shared, tag: u64, op: Op) {
        let Some(slot) = self.free.pop() else {
            debug_assert!(false, "a full queue refuses before this");
            return;
        };
        self.slots[slot as usize] = Some(Task::new(tag, op));
        self.enqueue(shared, slot);
    }

    /// Puts a task where its next step will be started from.
    fn enqueue(&mut self, shared: &Shared, slot: u32) {
        let Some(task) = &self.slots[slot as usize] else { return };
        if task.step(shared) == Step::Sync {
            self.unsynced.push(slot);
        } else {
            self.ready.push_back(slot);
        }
    }

    /// The next step to give to the kernel. Call [`Table::started`] when it
    /// has been given.
    pub(super) fn next(&mut self, shared: &Shared) -> Option<Next> {
        if self.syncing.is_empty() && !self.unsynced.is_empty() {
            return Some(Next::Sync);
        }
        let slot = *self.ready.front()?;
        let task = self.slots[slot as usize].as_ref()?;
        Some(Next::Task(slot, task.step(shared)))
    }

    /// The step that `next` gave is in the ring.
    pub(super) fn started(&mut self, next: &Next) {
        self.in_ring += 1;
        match next {
            // One flush serves all that asked for one before it began.
            Next::Sync => std::mem::swap(&mut self.syncing, &mut self.unsynced),
            Next::Task(slot, step) => {
                self.steps[*slot as usize] = *step;
                self.ready.pop_front();
            }
        }
    }

    /// The task in a slot.
    pub(super) fn task(&self, slot: u32) -> Option<&Task> {
        self.slots[slot as usize].as_ref()
    }

    /// Takes in a completion from the ring.
    pub(super) fn reaped(&mut self, shared: &Shared, data: u64, result: i32) {
        self.in_ring = self.in_ring.saturating_sub(1);
        let outcome = match usize::try_from(result) {
            Ok(bytes) => Ok(bytes),
            // Error numbers end at 4095; the conversion panics on others.
            Err(_) => Err(match result.saturating_neg() {
                number @ 1..=4095 => Errno::from_raw_os_error(number),
                _ => Errno::IO,
            }),
        };
        if data == SYNC {
            while let Some(slot) = self.syncing.pop() {
                self.advance(shared, slot, Step::Sync, outcome);
            }
            return;
        }
        // Our own numbers come back; anything else would be a kernel's mistake.
        if let Ok(slot) = u32::try_from(data)
            && let Some(&step) = self.steps.get(slot as usize)
        {
            self.advance(shared, slot, step, outcome);
        }
    }

    fn advance(
        &mut self,
        shared: &Shared,
        slot: u32,
        step: Step,
        outcome: std::result::Result<usize, Errno>,
    ) {
        let Some(task) = &mut self.slots[slot as usize] else { return };
        match task.advance(shared, step, outcome) {
            None => self.enqueue(shared, slot),
            Some(result) => {
                if let Some(task) = self.slots[slot as usize].take() {
                    self.done.push_back(task.complete(result));
                }
                self.free.push(slot);
            }
        }
    }

    /// Ends everything that the kernel does not have with one error.
    pub(super) fn fail_waiting(&mut self, error: &crate::medium::Error) {
        let waiting = self.ready.drain(..).chain(self.unsynced.drain(..));
        for slot in waiting {
            if let Some(task) = self.slots[slot as usize].take() {
                self.done.push_back(task.complete(Err(error.clone())));
            }
            self.free.push(slot);
        }
    }
}
