//! The queue without io_uring: plain system calls, made by `ring` and `poll`.

use super::shared::Shared;
use super::task::{Step, Task};
use crate::medium::check::{check, full, reject};
use crate::medium::{Completion, Op, Queue, Rejected, Result};
use rustix::io::{Errno, ReadWriteFlags};
use std::collections::VecDeque;
use std::fmt;
use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// A queue that does each operation itself. Unlike the contract asks, `ring`,
/// `poll` and `wait` block for as long as the I/O takes.
pub(super) struct SyncQueue {
    shared: Arc<Shared>,
    file: OwnedFd,
    depth: usize,
    waiting: VecDeque<Task>,
    done: VecDeque<Completion>,
}

impl SyncQueue {
    pub(super) fn new(shared: &Arc<Shared>, depth: usize) -> Result<Self> {
        Ok(Self {
            file: shared.queue_file()?,
            shared: Arc::clone(shared),
            depth,
            waiting: VecDeque::with_capacity(depth),
            done: VecDeque::with_capacity(depth),
        })
    }

    /// Does a task to its end.
    fn run(&self, mut task: Task) -> Completion {
        // A failed flush may lie between submission and now.
        if let Some(error) = self.shared.refusal(&task.op) {
            return task.complete(Err(error));
        }
        loop {
            let step = task.step(&self.shared);
            let outcome = self.execute(&mut task, step);
            if let Some(result) = task.advance(&self.shared, step, outcome) {
                return task.complete(result);
            }
        }
    }

    fn execute(&self, task: &mut Task, step: Step) -> std::result::Result<usize, Errno> {
        match (step, &mut task.op) {
            (Step::Read { at, from, len }, Op::Read { buf, .. }) => {
                rustix::io::pread(&self.file, &mut buf[from..from + len], at)
            }
            (Step::Write { at, from, len, sync }, Op::Write { buf, .. }) => {
                let bytes = &buf[from..from + len];
                if sync {
                    let flags = ReadWriteFlags::DSYNC;
                    rustix::io::pwritev2(&self.file, &[IoSlice::new(bytes)], at, flags)
                } else {
                    rustix::io::pwrite(&self.file, bytes, at)
                }
            }
            (Step::WriteZeroes { at, len }, _) => {
                let zeroes = self.shared.zeroes().map_err(|_| Errno::NOMEM)?;
                rustix::io::pwrite(&self.file, &zeroes[..len], at)
            }
            (Step::Allocate { at, len, mode }, _) => {
                rustix::fs::fallocate(self.shared.claimed_file(), mode, at, len).map(|()| 0)
            }
            (Step::Sync, _) => rustix::fs::fdatasync(&self.file).map(|()| 0),
            // A step is always made from the operation itself.
            (Step::Read { .. } | Step::Write { .. }, _) => Err(Errno::INVAL),
        }
    }
}

impl Queue for SyncQueue {
    fn submit(&mut self, tag: u64, op: Op) -> std::result::Result<(), Rejected> {
        if let Err(error) = check(&op, &self.shared.geometry) {
            return Err(reject(op, error));
        }
        if let Some(error) = self.shared.refusal(&op) {
            return Err(reject(op, error));
        }
        if self.in_flight() == self.depth {
            return Err(full(op));
        }
        self.waiting.push_back(Task::new(tag, op));
        Ok(())
    }

    fn ring(&mut self) {
        while let Some(task) = self.waiting.pop_front() {
            let completion = self.run(task);
            self.done.push_back(completion);
        }
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        self.ring();
        super::orphan::reap();
        let count = self.done.len();
        done.extend(self.done.drain(..));
        count
    }

    fn wait(&mut self, _timeout: Option<Duration>) -> Result<()> {
        self.ring();
        Ok(())
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn in_flight(&self) -> usize {
        self.waiting.len() + self.done.len()
    }

    fn depth(&self) -> usize {
        self.depth
    }
}

impl fmt::Debug for SyncQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyncQueue")
            .field("depth", &self.depth)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
