//! The queue of the memory medium: operations wait until they are rung, and
//! are copies made then and there.

use crate::medium::check::{check, full, reject};
use crate::medium::{BLOCK, Completion, Error, ErrorKind, Geometry, Op, Queue, Rejected, Result};
use crate::memory::{Port, SharedMemory};
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// Zeroing this much or more gives pages back instead of writing them.
const DISCARD_FROM: u64 = 64 * BLOCK as u64;

/// Operations on the memory, in order. Both lists have room for the whole
/// depth from the start, so that nothing allocates later.
pub(super) struct MemQueue {
    port: Port,
    geometry: Geometry,
    depth: usize,
    waiting: VecDeque<(u64, Op)>,
    /// One block, for comparisons.
    scratch: Box<[u8; BLOCK]>,
    done: Vec<Completion>,
}

impl MemQueue {
    pub(super) fn new(memory: Arc<SharedMemory>, geometry: Geometry, depth: usize) -> Self {
        let (waiting, done) = (VecDeque::with_capacity(depth), Vec::with_capacity(depth));
        let scratch = Box::new([0; BLOCK]);
        Self { port: Port::new(memory), geometry, depth, waiting, scratch, done }
    }

    fn run(&mut self, tag: u64, op: Op) -> Completion {
        let memory = &mut self.port;
        let bytes = |blocks: u64| blocks * BLOCK as u64;
        let (result, buf) = match op {
            Op::Read { at, mut buf } => (memory.load(bytes(at), &mut buf), Some(buf)),
            Op::Write { at, buf, .. } => (memory.store(bytes(at), &buf), Some(buf)),
            Op::Flush => (Ok(()), None),
            Op::WriteZeroes { at, count } if bytes(count) < DISCARD_FROM => {
                (memory.zero(bytes(at), bytes(count)), None)
            }
            Op::WriteZeroes { at, count } | Op::Deallocate { at, count } => {
                (memory.discard(bytes(at), bytes(count)), None)
            }
            Op::Copy { from, to, count } => {
                (memory.transfer(bytes(from), bytes(to), bytes(count)), None)
            }
            Op::Compare { at, buf } => (self.compare(at, &buf), Some(buf)),
        };
        Completion { tag, result, buf }
    }
}

impl MemQueue {
    /// Compares blocks with bytes, a block at a time.
    fn compare(&mut self, at: u64, with: &[u8]) -> Result<()> {
        for (block, bytes) in (at..).zip(with.chunks_exact(BLOCK)) {
            self.port.load(block * BLOCK as u64, &mut self.scratch[..])?;
            if self.scratch[..] != *bytes {
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!("block {block} is not what it was compared with"),
                ));
            }
        }
        Ok(())
    }
}

impl Queue for MemQueue {
    fn submit(&mut self, tag: u64, op: Op) -> std::result::Result<(), Rejected> {
        if let Err(error) = check(&op, &self.geometry) {
            return Err(reject(op, error));
        }
        self.submit_checked(tag, op)
    }

    /// Where the bytes are moved the range is looked at in any case.
    fn submit_checked(&mut self, tag: u64, op: Op) -> std::result::Result<(), Rejected> {
        if self.in_flight() == self.depth {
            return Err(full(op));
        }
        self.waiting.push_back((tag, op));
        Ok(())
    }

    fn ring(&mut self) {
        while let Some((tag, op)) = self.waiting.pop_front() {
            let completion = self.run(tag, op);
            self.done.push(completion);
        }
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        self.ring();
        let count = self.done.len();
        done.append(&mut self.done);
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

impl fmt::Debug for MemQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemQueue")
            .field("depth", &self.depth)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
