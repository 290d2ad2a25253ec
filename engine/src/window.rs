//! The queue of media whose blocks are memory: operations wait until they are rung, and
//! are copies made then and there, by the thread that rings.
//!
//! What is rung together is made durable together, by one fence behind the copies (law
//! M1): flushes, writes with forced unit access, and all writes where a completed write
//! is durable. What a fence costs and says is `memory::persist`'s. An operation that needs
//! no fence does not fail with one.

use crate::medium::check::{check, full, reject};
use crate::medium::{BLOCK, Completion, Error, ErrorKind, Geometry, Op, Queue, Rejected, Result};
use crate::memory::{Port, SharedMemory};
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

/// Zeroing this much or more gives pages back instead of writing them, where they can be.
const DISCARD_FROM: u64 = 64 * BLOCK as u64;

/// Most operations that one queue holds.
pub(crate) const MAX_DEPTH: u32 = 4096;

/// Operations on the memory, in order. All lists have room for the whole depth from the
/// start, so that nothing allocates later.
pub(crate) struct WindowQueue {
    memory: Arc<SharedMemory>,
    port: Port,
    geometry: Geometry,
    /// Why nothing is written, where that is so.
    read_only: Option<&'static str>,
    depth: usize,
    waiting: VecDeque<(u64, Op)>,
    /// One block, for comparisons.
    scratch: Box<[u8; BLOCK]>,
    done: Vec<Completion>,
    /// Places in `done` of what the fence has yet to make durable.
    unfenced: Vec<usize>,
}

fn bytes(blocks: u64) -> u64 {
    blocks * BLOCK as u64
}

fn writes(op: &Op) -> bool {
    !matches!(op, Op::Read { .. } | Op::Compare { .. } | Op::Flush)
}

impl WindowQueue {
    /// A queue over memory of which the geometry was made.
    pub(crate) fn new(memory: Arc<SharedMemory>, geometry: Geometry, depth: u32) -> Self {
        let depth = depth.clamp(1, geometry.max_depth.max(1)) as usize;
        Self {
            port: Port::new(Arc::clone(&memory)),
            read_only: memory.refused().writes,
            memory,
            geometry,
            depth,
            waiting: VecDeque::with_capacity(depth),
            scratch: Box::new([0; BLOCK]),
            done: Vec::with_capacity(depth),
            unfenced: Vec::with_capacity(depth),
        }
    }

    fn run(&mut self, tag: u64, op: Op) -> Completion {
        let memory = &mut self.port;
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

    /// What a fence has to make durable before the operation completes: nothing, or some
    /// bytes, perhaps none.
    fn fenced(&self, op: &Op) -> Option<(u64, u64)> {
        let always = !self.geometry.volatile_cache;
        match op {
            Op::Flush => Some((0, 0)),
            Op::Write { at, buf, fua } if *fua || always => Some((bytes(*at), buf.len() as u64)),
            Op::WriteZeroes { at, count } | Op::Deallocate { at, count } if always => {
                Some((bytes(*at), bytes(*count)))
            }
            Op::Copy { to, count, .. } if always => Some((bytes(*to), bytes(*count))),
            _ => None,
        }
    }

    /// Ends what was run: durable, or at least gone from this thread.
    fn fence(&mut self) {
        if self.unfenced.is_empty() {
            self.memory.persistence().settle();
            return;
        }
        let fenced = self.memory.persistence().fence();
        for place in self.unfenced.drain(..) {
            if let (Err(error), Some(done)) = (&fenced, self.done.get_mut(place))
                && done.result.is_ok()
            {
                done.result = Err(error.clone());
            }
        }
    }

    /// Takes what was checked.
    #[inline(always)]
    fn take(&mut self, tag: u64, op: Op) -> std::result::Result<(), Rejected> {
        let writes = writes(&op);
        if let (true, Some(why)) = (writes, self.read_only) {
            return Err(reject(op, Error::new(ErrorKind::Permission, why)));
        }
        let changes = writes || matches!(op, Op::Flush);
        if let Err(error) = self.memory.persistence().sound(changes) {
            return Err(reject(op, error));
        }
        if self.in_flight() == self.depth {
            return Err(full(op));
        }
        self.waiting.push_back((tag, op));
        Ok(())
    }
}

impl Queue for WindowQueue {
    fn submit(&mut self, tag: u64, op: Op) -> std::result::Result<(), Rejected> {
        if let Err(error) = check(&op, &self.geometry) {
            return Err(reject(op, error));
        }
        self.take(tag, op)
    }

    /// Where the bytes are moved the range is looked at in any case.
    fn submit_checked(&mut self, tag: u64, op: Op) -> std::result::Result<(), Rejected> {
        self.take(tag, op)
    }

    fn ring(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        while let Some((tag, op)) = self.waiting.pop_front() {
            if let Err(error) = self.memory.persistence().sound(writes(&op)) {
                // No device reaches a buffer whose bytes the CPU copies.
                let (result, buf) = (Err(error), op.into_buffer());
                self.done.push(Completion { tag, result, buf });
                continue;
            }
            let fenced = self.fenced(&op);
            let completion = self.run(tag, op);
            if let Some((at, len)) = fenced {
                if !self.memory.persistence().streams() {
                    // What lies outside was not written.
                    let _ = self.memory.write_back(at, len);
                }
                self.unfenced.push(self.done.len());
            }
            self.done.push(completion);
        }
        self.fence();
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

impl fmt::Debug for WindowQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowQueue")
            .field("depth", &self.depth)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
