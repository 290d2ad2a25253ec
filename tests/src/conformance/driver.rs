//! A queue with the steps that rules repeat.

use freehold_engine::medium::{BLOCK, Completion, Medium, Op, Queue};
use freehold_engine::memory::{Buffer, Pool};
use std::sync::Arc;
use std::time::Duration;

/// Polls without any progress after which a medium is taken to be stuck. Each
/// of them waits in the queue first, for at most [`PATIENCE`].
const IDLE_POLLS: u32 = 120;
const PATIENCE: Duration = Duration::from_secs(1);

/// A medium, one queue of it, and helpers that panic on what a rule takes for
/// granted.
pub struct Driver {
    /// The queue.
    pub queue: Box<dyn Queue>,
    /// Where buffers come from.
    pub pool: Pool,
    /// Blocks of the medium.
    pub blocks: u64,
}

impl Driver {
    /// A driver with a queue of a depth.
    pub fn new(medium: &Arc<dyn Medium>, depth: u32) -> Self {
        Self {
            queue: medium.queue(depth).expect("a queue"),
            pool: medium.pool().clone(),
            blocks: medium.geometry().blocks,
        }
    }

    /// A buffer of so many blocks, each byte of which depends on its place
    /// and a salt.
    pub fn pattern(&self, blocks: usize, salt: u64) -> Buffer {
        let mut buf = self.pool.take(blocks * BLOCK).expect("a buffer");
        for (index, word) in buf.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *word = spread(salt, index as u64).to_le_bytes();
        }
        buf
    }

    /// Submits; the queue must have room.
    pub fn submit(&mut self, tag: u64, op: Op) {
        if let Err(rejected) = self.queue.submit(tag, op) {
            panic!("refused: {rejected:?}");
        }
    }

    /// Polls until nothing is in flight.
    pub fn drain(&mut self) -> Vec<Completion> {
        let mut done = Vec::new();
        let mut idle = 0;
        while self.queue.in_flight() > 0 {
            self.queue.wait(Some(PATIENCE)).expect("a queue that works");
            idle = if self.queue.poll(&mut done) == 0 { idle + 1 } else { 0 };
            assert!(idle < IDLE_POLLS, "{} operations never complete", self.queue.in_flight());
        }
        done
    }

    /// Does one operation to its end, which must be good.
    pub fn run(&mut self, op: Op) -> Completion {
        assert_eq!(self.queue.in_flight(), 0, "the driver runs one thing at a time");
        self.submit(99, op);
        let mut done = self.drain();
        assert_eq!(done.len(), 1, "one operation, one completion");
        let only = done.remove(0);
        assert_eq!(only.tag, 99);
        if let Err(error) = &only.result {
            panic!("failed: {error:?}");
        }
        only
    }

    /// Writes a pattern.
    pub fn write(&mut self, at: u64, blocks: usize, salt: u64) {
        let buf = self.pattern(blocks, salt);
        let done = self.run(Op::Write { at, buf, fua: false });
        assert_eq!(done.buf.expect("the buffer comes back").len(), blocks * BLOCK);
    }

    /// Reads blocks.
    pub fn read(&mut self, at: u64, blocks: usize) -> Vec<u8> {
        let mut buf = self.pool.take(blocks * BLOCK).expect("a buffer");
        // Whatever is not filled shows.
        buf.fill(0xee);
        let done = self.run(Op::Read { at, buf });
        let buf = done.buf.expect("the buffer comes back");
        assert_eq!(buf.len(), blocks * BLOCK);
        buf.to_vec()
    }

    /// Checks that blocks hold a pattern.
    pub fn expect(&mut self, at: u64, blocks: usize, salt: u64) {
        let found = self.read(at, blocks);
        assert!(found == self.pattern(blocks, salt)[..], "blocks {at}..+{blocks} changed");
    }
}

/// A number that depends on two others, and on every bit of them.
pub(super) fn spread(salt: u64, index: u64) -> u64 {
    let mut z = salt.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index.wrapping_add(0x1234_5678);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
