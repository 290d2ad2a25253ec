//! One interface to all sides, so that each workload is written once.

mod ours;
mod raw;
mod rival;

pub(crate) use ours::Ours;
pub(crate) use raw::Raw;
pub(crate) use rival::Rival;

use crate::outcome::Outcome;
use crate::results::Side;
use crate::stage::{Counters, Stage};
use freehold_engine::memory::Buffer;

/// Bytes of a block, and of each small operation.
pub(crate) const BLOCK: u64 = 4096;

/// Bytes of one operation that reads or writes in sequence.
pub(crate) const PIECE: usize = 1 << 20;

/// Files on an empty device.
pub(crate) trait Bed {
    /// Operations in flight on a file.
    fn target(&self, name: &str, depth: u32) -> Outcome<Box<dyn Target>>;
    /// Writes a range in sequence; makes the file if need be.
    fn put(&self, name: &str, offset: u64, len: u64) -> Outcome;
    /// Reads a file's first bytes in sequence.
    fn get(&self, name: &str, len: u64) -> Outcome;
    /// A file of so many extents: written blocks and unwritten ones by turns.
    fn many(&self, name: &str, extents: u64) -> Outcome;
    /// A durable reflink.
    fn reflink(&self, from: &str, to: &str) -> Outcome;
    /// Takes the name away, durably.
    fn remove(&self, name: &str) -> Outcome;
    /// Cuts the file to nothing, durably.
    fn truncate(&self, name: &str) -> Outcome;
    /// Makes everything durable, and frees what waits for that.
    fn settle(&self) -> Outcome;
    /// Bytes that are free.
    fn free(&self) -> Outcome<u64>;
    /// A durable writer of its own file, which is full already unless it appends.
    fn writer(&self, number: u64, append: bool) -> Outcome<Box<dyn Writer>>;
    /// What the device was given, as far as anyone knows.
    fn counters(&self) -> Option<Counters>;
}

/// A file with operations in flight.
pub(crate) trait Target {
    /// Memory for an operation.
    fn buffer(&self, len: usize) -> Outcome<Buffer>;
    /// Begins an operation at a block; gives the buffer back when there is no room.
    fn submit(&mut self, write: bool, block: u64, buf: Buffer) -> Outcome<Option<Buffer>>;
    /// Waits until something has ended; gives the buffers back.
    fn reap(&mut self, idle: &mut Vec<Buffer>) -> Outcome<u64>;
}

/// Writes one block and returns when it is durable.
pub(crate) trait Writer: Send {
    /// At a block; one that appends is told the next one.
    fn write(&mut self, block: u64) -> Outcome;
}

/// Blocks of a file that a durable writer overwrites.
pub(crate) const WRITER_BLOCKS: u64 = 1024;

/// An empty bed of a side.
pub(crate) fn make(stage: &Stage, side: Side) -> Outcome<Box<dyn Bed + '_>> {
    Ok(match side {
        Side::Freehold => Box::new(Ours::new(stage)?),
        Side::Raw => Box::new(Raw::new(stage)?),
        Side::Xfs | Side::Btrfs => Box::new(Rival::new(stage, side)?),
    })
}
