//! What a simulated medium is like, what is made to go wrong, what is counted.

use crate::medium::{BLOCK, ErrorKind, Geometry, Op};
use std::ops::Range;

/// The properties of a simulated medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimOptions {
    /// Size in blocks.
    pub blocks: u64,
    /// Decides the order and delay of completions, and all that is left open.
    pub seed: u64,
    /// As in [`Geometry`].
    pub lba_bytes: u32,
    /// As in [`Geometry`].
    pub max_transfer: u32,
    /// As in [`Geometry`].
    pub max_depth: u32,
    /// As in [`Geometry`]: one write of up to so many bytes is never torn.
    pub atomic_bytes: u32,
    /// As in [`Geometry`].
    pub volatile_cache: bool,
    /// As in [`Geometry`].
    pub copy: bool,
    /// As in [`Geometry`].
    pub deallocate: bool,
    /// As in [`Geometry`]: window mode, in which everything tears at 8 bytes.
    pub window: bool,
    /// Complete operations in the order of submission, at the first poll.
    pub in_order: bool,
    /// How many polls (of any queue) an operation is held back, at most.
    pub max_delay: u32,
}

impl Default for SimOptions {
    /// 16 MiB, a volatile cache, no copy command, shuffled and delayed.
    fn default() -> Self {
        Self {
            blocks: 4096,
            seed: 1,
            lba_bytes: 512,
            max_transfer: 1 << 20,
            max_depth: 256,
            atomic_bytes: 512,
            volatile_cache: true,
            copy: false,
            deallocate: true,
            window: false,
            in_order: false,
            max_delay: 3,
        }
    }
}

impl SimOptions {
    pub(super) fn geometry(&self) -> Geometry {
        Geometry {
            blocks: self.blocks,
            lba_bytes: self.lba_bytes,
            max_transfer: self.max_transfer / BLOCK as u32 * BLOCK as u32,
            max_depth: self.max_depth,
            atomic_bytes: self.atomic_bytes,
            atomic_boundary: None,
            volatile_cache: self.volatile_cache,
            copy: self.copy,
            deallocate: self.deallocate,
            compare: true,
            window: self.window,
        }
    }

    /// Bytes that a crash keeps or loses together.
    pub(super) fn grain(&self) -> usize {
        if self.window { 8 } else { 512 }
    }
}

/// Kinds of operations, to choose some of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpKind {
    /// [`Op::Read`].
    Read,
    /// [`Op::Write`].
    Write,
    /// [`Op::Flush`].
    Flush,
    /// [`Op::WriteZeroes`].
    WriteZeroes,
    /// [`Op::Deallocate`].
    Deallocate,
    /// [`Op::Copy`].
    Copy,
    /// [`Op::Compare`].
    Compare,
    /// [`Window::persist`](crate::medium::Window::persist), which is no operation of a queue.
    Persist,
}

impl OpKind {
    /// The kind of an operation.
    pub fn of(op: &Op) -> Self {
        match op {
            Op::Read { .. } => Self::Read,
            Op::Write { .. } => Self::Write,
            Op::Flush => Self::Flush,
            Op::WriteZeroes { .. } => Self::WriteZeroes,
            Op::Deallocate { .. } => Self::Deallocate,
            Op::Copy { .. } => Self::Copy,
            Op::Compare { .. } => Self::Compare,
        }
    }
}

/// An error to inject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailPlan {
    /// Which operations.
    pub kind: OpKind,
    /// How many of them, submitted from now on, succeed first.
    pub after: u64,
    /// Every later one fails too, not just one.
    pub sticky: bool,
    /// With what. `Reset` says that it may have happened; `Gone` also kills
    /// the medium, as [`SimMedium::crash_now`](super::SimMedium::crash_now).
    pub error: ErrorKind,
}

impl FailPlan {
    /// One operation fails with [`ErrorKind::Io`], after `after` good ones.
    pub fn once(kind: OpKind, after: u64) -> Self {
        Self { kind, after, sticky: false, error: ErrorKind::Io }
    }

    /// All operations fail with [`ErrorKind::Io`], after `after` good ones.
    pub fn sticky(kind: OpKind, after: u64) -> Self {
        Self { sticky: true, ..Self::once(kind, after) }
    }
}

/// Operations to keep in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Only these; all kinds when none is given.
    pub kind: Option<OpKind>,
    /// Only with such a tag.
    pub tags: Range<u64>,
}

/// What a crash leaves of what was not durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survival {
    /// Anything: kept, lost, torn, in any order.
    Random,
    /// Nothing.
    Nothing,
    /// Everything, in order, what was in flight last.
    Everything,
}

/// What was submitted since the medium was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimStats {
    /// Read operations.
    pub reads: u64,
    /// Bytes in them.
    pub read_bytes: u64,
    /// Write operations, forced ones included.
    pub writes: u64,
    /// Bytes in them.
    pub write_bytes: u64,
    /// Writes that were forced (`fua`).
    pub forced: u64,
    /// Flushes.
    pub flushes: u64,
    /// Write-zeroes operations.
    pub zeroes: u64,
    /// Deallocations.
    pub deallocates: u64,
    /// Copies.
    pub copies: u64,
    /// Comparisons; their bytes count as read.
    pub compares: u64,
    /// Stores through the window.
    pub stores: u64,
    /// Bytes in them.
    pub store_bytes: u64,
    /// Calls that made stores durable.
    pub persists: u64,
}

impl SimStats {
    pub(super) fn count(&mut self, op: &Op) {
        match op {
            Op::Read { buf, .. } => {
                self.reads += 1;
                self.read_bytes += buf.len() as u64;
            }
            Op::Write { buf, fua, .. } => {
                self.writes += 1;
                self.write_bytes += buf.len() as u64;
                self.forced += u64::from(*fua);
            }
            Op::Flush => self.flushes += 1,
            Op::WriteZeroes { .. } => self.zeroes += 1,
            Op::Deallocate { .. } => self.deallocates += 1,
            Op::Copy { .. } => self.copies += 1,
            Op::Compare { buf, .. } => {
                self.compares += 1;
                self.read_bytes += buf.len() as u64;
            }
        }
    }
}
