//! What an operation takes: its steps, one system call each.
//!
//! Both queues, over io_uring and without, ask a task for its next step, do
//! it, and tell the task how it went, until it is finished. Continuing after a
//! short transfer, repeating what was cut off, and finding another way to zero
//! are decided here.

use super::errno::{io_error, is_transient, is_unsupported};
use super::shared::{Shared, ZEROES};
use crate::medium::{BLOCK, Completion, Error, ErrorKind, Op, Result};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::sync::atomic::Ordering;

/// How often a step is repeated before the kernel's answer is believed.
const TRIES: u32 = 10_000;

/// An operation that was taken.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) tag: u64,
    pub(super) op: Op,
    /// Bytes transferred.
    done: usize,
    /// The data was written and only a flush is missing.
    written: bool,
    tries: u32,
}

/// One system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Into the task's buffer from `from` on, `len` bytes at offset `at`.
    Read { at: u64, from: usize, len: usize },
    /// Out of the task's buffer; `sync` asks for durability at once.
    Write { at: u64, from: usize, len: usize, sync: bool },
    /// Out of [`Shared::zeroes`].
    WriteZeroes { at: u64, len: usize },
    /// Allocation calls with their mode.
    Allocate { at: u64, len: u64, mode: FallocateFlags },
    /// Flush the file's data. Never two at once in a queue.
    Sync,
}

/// Ways to zero a range, in the order in which they are tried; the numbers
/// are stored in [`Shared::zeroing`].
mod zeroing {
    pub(super) const RANGE: u8 = 0;
    pub(super) const PUNCH: u8 = 1;
    pub(super) const WRITE: u8 = 2;
}

impl Task {
    pub(super) fn new(tag: u64, op: Op) -> Self {
        Self { tag, op, done: 0, written: false, tries: 0 }
    }

    /// What has to be done next.
    pub(super) fn step(&self, shared: &Shared) -> Step {
        let start = |at: u64| at * BLOCK as u64;
        match &self.op {
            _ if self.written => Step::Sync,
            // Compare is refused at submission, as copy is: this medium has neither.
            Op::Read { at, buf } | Op::Compare { at, buf } => Step::Read {
                at: start(*at) + self.done as u64,
                from: self.done,
                len: buf.len() - self.done,
            },
            Op::Write { at, buf, fua } => Step::Write {
                at: start(*at) + self.done as u64,
                from: self.done,
                len: buf.len() - self.done,
                // Through the page cache a flush of its own follows instead,
                // so that no two of a queue's flushes share one error report.
                sync: *fua && shared.direct,
            },
            Op::Flush => Step::Sync,
            Op::WriteZeroes { at, count } => {
                let (at, len) = (start(*at), start(*count));
                let keep = FallocateFlags::KEEP_SIZE;
                match shared.zeroing.load(Ordering::Relaxed) {
                    // What was begun by writing goes on by writing.
                    _ if self.done > 0 => self.write_zeroes(at, len),
                    zeroing::RANGE => {
                        Step::Allocate { at, len, mode: FallocateFlags::ZERO_RANGE | keep }
                    }
                    zeroing::PUNCH => {
                        Step::Allocate { at, len, mode: FallocateFlags::PUNCH_HOLE | keep }
                    }
                    _ => self.write_zeroes(at, len),
                }
            }
            // Copy is refused at submission: this medium has none.
            Op::Deallocate { at, count } | Op::Copy { to: at, count, .. } => Step::Allocate {
                at: start(*at),
                len: start(*count),
                mode: FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            },
        }
    }

    fn write_zeroes(&self, at: u64, len: u64) -> Step {
        let left = len - self.done as u64;
        Step::WriteZeroes { at: at + self.done as u64, len: left.min(ZEROES as u64) as usize }
    }

    /// Takes in how a step ended (bytes transferred for reads and writes);
    /// the result of the whole operation when it is over.
    pub(super) fn advance(
        &mut self,
        shared: &Shared,
        step: Step,
        outcome: std::result::Result<usize, Errno>,
    ) -> Option<Result<()>> {
        match outcome {
            Ok(bytes) => self.progress(shared, step, bytes),
            Err(errno) if is_transient(errno) && self.again() => None,
            Err(errno) => self.failure(shared, step, errno),
        }
    }

    /// Counts a repetition; false when there were too many.
    fn again(&mut self) -> bool {
        self.tries += 1;
        self.tries < TRIES
    }

    fn progress(&mut self, shared: &Shared, step: Step, bytes: usize) -> Option<Result<()>> {
        let total = match (&self.op, step) {
            (_, Step::Sync) => {
                // A flush that ran beside the one that failed proves nothing.
                return Some(shared.lost().map_or(Ok(()), |error| Err(error.clone())));
            }
            (_, Step::Allocate { .. }) => return Some(Ok(())),
            (Op::Read { buf, .. } | Op::Write { buf, .. }, _) => buf.len(),
            (Op::WriteZeroes { count, .. }, _) => *count as usize * BLOCK,
            _ => return Some(Ok(())),
        };
        // Direct I/O continues at a whole sector.
        let whole = (self.done + bytes) / shared.geometry.lba_bytes as usize
            * shared.geometry.lba_bytes as usize;
        if self.done + bytes < total && whole <= self.done && (bytes == 0 || !self.again()) {
            return Some(Err(Error::new(
                ErrorKind::Io,
                format!("{}: nothing more could be transferred", self.what(shared)),
            )));
        }
        self.done = if self.done + bytes >= total { total } else { whole };
        if self.done < total {
            return None;
        }
        match &self.op {
            Op::Write { fua: true, .. } if !shared.direct => {
                self.written = true;
                None
            }
            Op::Write { fua: true, .. } => {
                Some(shared.lost().map_or(Ok(()), |error| Err(error.clone())))
            }
            _ => Some(Ok(())),
        }
    }

    fn failure(&mut self, shared: &Shared, step: Step, errno: Errno) -> Option<Result<()>> {
        if let Step::Allocate { mode, .. } = step
            && is_unsupported(errno)
        {
            if matches!(self.op, Op::Deallocate { .. }) {
                // A hint that nobody takes.
                return Some(Ok(()));
            }
            let next = if mode.contains(FallocateFlags::ZERO_RANGE) {
                zeroing::PUNCH
            } else {
                zeroing::WRITE
            };
            shared.zeroing.fetch_max(next, Ordering::Relaxed);
            return None;
        }
        let error = io_error(errno, &self.what(shared));
        if error.kind() == ErrorKind::Gone {
            shared.mark_gone(&error);
        }
        let loses = match step {
            // Whatever the reason, the kernel may have dropped dirty pages.
            Step::Sync => true,
            // It may have failed in its flush, which then reported, and so used
            // up, an error of earlier writes too; a lack of space is its own.
            Step::Write { sync: true, .. } => error.kind() != ErrorKind::NoSpace,
            _ => false,
        };
        if loses {
            shared.mark_lost(&error);
        }
        Some(Err(error))
    }

    fn what(&self, shared: &Shared) -> String {
        let uri = &shared.uri;
        match &self.op {
            Op::Read { at, buf } | Op::Compare { at, buf } => {
                format!("reading {} bytes at block {at} of {uri}", buf.len())
            }
            Op::Write { at, buf, .. } => {
                format!("writing {} bytes at block {at} of {uri}", buf.len())
            }
            Op::Flush => format!("flushing {uri}"),
            Op::WriteZeroes { at, count } => format!("zeroing {count} blocks at {at} of {uri}"),
            Op::Deallocate { at, count } | Op::Copy { to: at, count, .. } => {
                format!("deallocating {count} blocks at {at} of {uri}")
            }
        }
    }

    /// The end of the task.
    pub(super) fn complete(self, result: Result<()>) -> Completion {
        Completion { tag: self.tag, result, buf: self.op.into_buffer() }
    }
}
