//! The medium contract: what a store may rely on, whatever the device is.
//!
//! A medium is an array of 4 KiB blocks. I/O goes through queues that are
//! polled; nothing here starts a thread, and nothing but [`Queue::wait`] and
//! opening or closing sleeps.
//!
//! # Durability (law M1)
//!
//! A write is durable once a flush that was **submitted after the write
//! completed** has completed, or once it completed itself if it was submitted
//! with `fua`. Until then, a crash may lose it, apply it before or after any
//! other write that was not durable, or tear it at 512 bytes (8 bytes for
//! stores through a window). A block that nobody wrote reads as anything, but
//! a medium never changes a block that nobody wrote since it became durable.
//!
//! Writes in flight at the same time to overlapping blocks land in any order
//! and may interleave at 512 bytes. A read in flight with a write to the same
//! block returns any mixture of the two at 512 bytes.
//!
//! # Completion
//!
//! Every accepted submission completes exactly once, by [`Queue::poll`] of the
//! same queue, in any order, with its buffer. When the medium is lost, all that
//! is in flight completes with [`ErrorKind::Gone`], and all later submissions are
//! refused with it. A buffer that comes back is reached by nothing in flight any more;
//! one that a lost device may still reach does not come back.
//!
//! # Memory
//!
//! Blocks of a window can be in use as memory ([`Medium::window_memory`]). Whoever
//! grants that has drained the commands on them before. Should one come nevertheless
//! that a view does not suffer, it completes with [`ErrorKind::Busy`] and did nothing
//! there.
//!
//! # Loss (law M3)
//!
//! [`Medium::losses`] counts the times at which completed writes that no flush
//! covered may have been lost without a crash of this process: a reconnection,
//! a function reset, a re-inserted device. A medium whose count rose fails
//! every later flush and write, of all its queues, until it is opened again.
//!
//! # Threads
//!
//! A [`Medium`] is shared; a [`Queue`] is used by one thread at a time but may
//! move between threads. Dropping a queue never waits: what is in flight is
//! left to the medium, and its memory is not reused until it has completed.

pub(crate) mod check;
mod describe;
mod error;

pub use describe::{Fact, Value};
pub use error::{Error, ErrorKind, Result};

use crate::memory::{Buffer, Pool, WindowMemory};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Bytes in a block: the unit of addresses and of allocation.
pub const BLOCK: usize = 4096;

/// What a medium is and can do. Fixed while it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    /// Size in blocks of 4 KiB.
    pub blocks: u64,
    /// Bytes that the device itself addresses: 512 or 4096.
    pub lba_bytes: u32,
    /// Most bytes that one read or write may carry; a multiple of 4096.
    pub max_transfer: u32,
    /// Most operations that one queue can have in flight.
    pub max_depth: u32,
    /// Bytes that the device writes all or nothing, across a crash too, where that does
    /// not cross [`Geometry::atomic_boundary`]. Less than [`Geometry::lba_bytes`] on windows
    /// alone.
    pub atomic_bytes: u32,
    /// Where writes are not atomic although they are small enough.
    pub atomic_boundary: Option<Boundary>,
    /// False when completed writes are durable without a flush.
    pub volatile_cache: bool,
    /// The device has [`Op::Copy`].
    pub copy: bool,
    /// The device has [`Op::Deallocate`].
    pub deallocate: bool,
    /// The device has [`Op::Compare`].
    pub compare: bool,
    /// Bytes are also reachable by load and store, see [`Medium::window`].
    pub window: bool,
}

/// Lines at regular distances that an atomic write may not cross, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Boundary {
    /// Where the first one is.
    pub first: u64,
    /// From one to the next; not zero.
    pub every: u64,
}

impl Geometry {
    /// Whether one [`Op::Write`] of so many blocks is all or nothing, across a crash too.
    ///
    /// ```
    /// # use freehold_engine::{OpenOptions, open};
    /// let medium = open("mem:1M", &OpenOptions::default())?;
    /// assert!(medium.geometry().writes_atomically(7, 1));
    /// assert!(!medium.geometry().writes_atomically(7, 2));
    /// # Ok::<(), freehold_engine::medium::Error>(())
    /// ```
    pub fn writes_atomically(&self, at: u64, count: u64) -> bool {
        let (Some(start), Some(len)) =
            (at.checked_mul(BLOCK as u64), count.checked_mul(BLOCK as u64))
        else {
            return false;
        };
        if len == 0 || len > u64::from(self.atomic_bytes) || start.checked_add(len).is_none() {
            return false;
        }
        // Before the first line, counted from it: all that lies there is one stretch.
        let stretch = |byte: u64, b: Boundary| byte.checked_sub(b.first).map(|d| d / b.every);
        self.atomic_boundary
            .is_none_or(|b| b.every > 0 && stretch(start, b) == stretch(start + len - 1, b))
    }
}

/// One operation. Addresses and counts are in blocks.
///
/// A buffer is owned by the operation until it completes; its length is a
/// multiple of [`BLOCK`] and says how much is transferred.
#[derive(Debug)]
pub enum Op {
    /// Fills the buffer from the blocks at `at`.
    Read {
        /// First block.
        at: u64,
        /// Where the bytes go.
        buf: Buffer,
    },
    /// Writes the buffer to the blocks at `at`.
    Write {
        /// First block.
        at: u64,
        /// The bytes.
        buf: Buffer,
        /// Durable when it completes (forced unit access).
        fua: bool,
    },
    /// Makes durable all writes that had *completed*, on any queue, before
    /// this was submitted.
    Flush,
    /// Makes the blocks read as zeroes, as a write would (law M1 holds).
    WriteZeroes {
        /// First block.
        at: u64,
        /// How many.
        count: u64,
    },
    /// Tells the device that the bytes are not needed: they read as anything
    /// until written. A hint; may do nothing.
    Deallocate {
        /// First block.
        at: u64,
        /// How many.
        count: u64,
    },
    /// Copies blocks inside the device, as a write of `to` would.
    Copy {
        /// First block read.
        from: u64,
        /// First block written; does not overlap the source.
        to: u64,
        /// How many.
        count: u64,
    },
    /// Compares the blocks at `at` with the buffer, which stays as it is: ends well when
    /// they are equal, with [`ErrorKind::Mismatch`] when they are not.
    Compare {
        /// First block.
        at: u64,
        /// What is expected there.
        buf: Buffer,
    },
}

impl Op {
    /// The buffer of an operation that came back, if it has one.
    #[inline]
    pub fn into_buffer(self) -> Option<Buffer> {
        match self {
            Op::Read { buf, .. } | Op::Write { buf, .. } | Op::Compare { buf, .. } => Some(buf),
            Op::Flush | Op::WriteZeroes { .. } | Op::Deallocate { .. } | Op::Copy { .. } => None,
        }
    }
}

/// How an operation ended.
#[derive(Debug)]
pub struct Completion {
    /// The caller's tag.
    pub tag: u64,
    /// What happened. After an error, a read's buffer holds anything and a
    /// write's blocks hold old, new or torn bytes.
    pub result: Result<()>,
    /// The buffer, given back. Missing only after [`ErrorKind::Gone`], when the device may
    /// still reach it: then it is nobody's any more (law M4).
    pub buf: Option<Buffer>,
}

/// A submission that was not taken: nothing happened, the operation comes back.
#[derive(Debug)]
pub struct Rejected {
    /// The operation as it was given.
    pub op: Op,
    /// `None` when the queue is full: poll and try again. Otherwise why it
    /// never will be taken.
    pub error: Option<Error>,
}

/// Where operations are submitted and reaped. One thread at a time.
pub trait Queue: Send + fmt::Debug {
    /// Takes an operation. It need not start before [`Queue::ring`] or
    /// [`Queue::poll`] is called. Never blocks.
    ///
    /// # Errors
    /// [`Rejected`], with the operation, when the queue is full (no error
    /// inside), when the range lies outside the medium or the buffer's length
    /// is wrong (`Invalid`), when the operation is not supported, or when the
    /// medium is gone.
    fn submit(&mut self, tag: u64, op: Op) -> std::result::Result<(), Rejected>;

    /// As [`Queue::submit`], of a read or write that the caller has checked: its blocks are
    /// the medium's, one or more and at most [`Geometry::max_transfer`]. A queue need not look
    /// again; if it was not so, the operation is refused, or completes with an error, and
    /// reaches nothing outside the medium.
    ///
    /// # Errors
    /// As there.
    fn submit_checked(&mut self, tag: u64, op: Op) -> std::result::Result<(), Rejected> {
        self.submit(tag, op)
    }

    /// Gives all that was submitted to the device, as one batch. Never blocks.
    fn ring(&mut self);

    /// Rings, then appends what has completed and returns how many: where that is much,
    /// perhaps some of it only, and the rest next time. Never sleeps; allocates nothing
    /// while `done` has room.
    fn poll(&mut self, done: &mut Vec<Completion>) -> usize;

    /// Rings, then sleeps until something can be polled, the time is over
    /// or a signal came. Returns at once when nothing is in flight.
    ///
    /// # Errors
    /// Only what makes the queue useless (`Gone`).
    fn wait(&mut self, timeout: Option<Duration>) -> Result<()>;

    /// A descriptor that is readable when something can be polled, and perhaps once more
    /// (the word of a completion may come after it was polled); `None` when
    /// no event ever announces it, because completions are made by
    /// [`Queue::ring`], [`Queue::poll`] and [`Queue::wait`] themselves.
    fn event_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Operations taken and not yet polled.
    fn in_flight(&self) -> usize;

    /// The most that can be in flight.
    fn depth(&self) -> usize;
}

/// Bytes of the medium that the CPU reaches by itself. All accesses are
/// volatile copies: other threads and devices may write the same bytes.
pub trait Window: Send + Sync {
    /// Copies bytes out of the window.
    ///
    /// # Errors
    /// `Invalid` outside the medium; `Gone`.
    fn load(&self, offset: u64, to: &mut [u8]) -> Result<()>;

    /// Copies bytes into the window. Not durable before [`Window::persist`];
    /// a crash may keep or lose each aligned 8 bytes apart.
    ///
    /// # Errors
    /// `Invalid` outside the medium; `Gone`.
    fn store(&self, offset: u64, from: &[u8]) -> Result<()>;

    /// Makes all earlier stores of this thread to the range durable.
    ///
    /// # Errors
    /// `Invalid` outside the medium; `Gone`.
    fn persist(&self, offset: u64, len: u64) -> Result<()>;

    /// As [`Window::store`], and begins to make the bytes durable where that can be begun:
    /// what goes past the caches need not be written back afterwards. [`Window::drain`] of
    /// the same range, by the same thread, ends it.
    ///
    /// # Errors
    /// As [`Window::store`].
    fn store_nodrain(&self, offset: u64, from: &[u8]) -> Result<()> {
        self.store(offset, from)
    }

    /// Makes durable what this thread stored by [`Window::store_nodrain`] to just these ranges,
    /// offset and length: one barrier for all of them.
    ///
    /// # Errors
    /// As [`Window::persist`].
    fn drain(&self, ranges: &[(u64, u64)]) -> Result<()> {
        ranges.iter().try_for_each(|(offset, len)| self.persist(*offset, *len))
    }
}

/// A device or file that a store can live on.
pub trait Medium: Send + Sync + fmt::Debug {
    /// The name it was opened by.
    fn uri(&self) -> &str;

    /// What it is and can do.
    fn geometry(&self) -> &Geometry;

    /// A new queue with room for `depth` operations (at most
    /// [`Geometry::max_depth`], which it is cut down to).
    ///
    /// # Errors
    /// What the device or the system refuses, with what to raise.
    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>>;

    /// The memory that this medium reads and writes best. Buffers of another
    /// medium's pool may be refused (`Invalid`).
    fn pool(&self) -> &Pool;

    /// Memory of the device's own, through which bytes can be copied from place to place
    /// without passing through this process's: its buffers are read into and written from as
    /// any other. It is small and never grows (`Limit`), and slow to touch.
    fn staging(&self) -> Option<&Pool> {
        None
    }

    /// The byte-addressable side, on window media.
    fn window(&self) -> Option<&dyn Window> {
        None
    }

    /// The byte-addressable side as memory, for leases: on window media whose bytes
    /// are memory of this process (the simulated medium's are not). While a
    /// [`View`](crate::memory::View) of it has booked blocks, operations on them that
    /// its access does not suffer complete with [`ErrorKind::Busy`].
    fn window_memory(&self) -> Option<WindowMemory> {
        None
    }

    /// How often completed writes may have been lost (law M3).
    fn losses(&self) -> u64 {
        0
    }

    /// What the device says of itself: model, limits, health. Nothing where there is no
    /// device to ask. Blocks for as long as the device takes to answer.
    ///
    /// # Errors
    /// What the device or the link to it reports.
    fn describe(&self) -> Result<Vec<Fact>> {
        Ok(Vec::new())
    }
}
