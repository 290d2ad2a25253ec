//! The queue over io_uring.
//!
//! The ring uses neither a single issuer nor deferred task work: law M2 lets
//! another thread ring and reap an idle queue, and completions must arrive
//! whatever the thread that submitted is doing. Which operation is where is
//! kept in `table`.

use super::errno::open_error;
use super::orphan;
use super::shared::Shared;
use super::signal::Signal;
use super::table::{Next, SYNC, Table};
use super::task::Step;
use crate::medium::check::{check, full, reject};
use crate::medium::{Completion, Error, ErrorKind, Op, Queue, Rejected, Result};
use crate::memory::{Buffer, MAX_REGIONS};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;
use std::cell::OnceCell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// The registered file.
const FILE: types::Fixed = types::Fixed(0);

/// An io_uring with its file and buffers.
pub(super) struct Ring {
    ring: IoUring,
    /// What each region of the pool is to this ring.
    regions: Vec<Registration>,
    /// Buffers can be registered at all.
    registers: bool,
    /// Kept open while the ring has it registered.
    _file: OwnedFd,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Registration {
    Unknown,
    Done,
    Refused,
}

impl Ring {
    /// Makes a ring with room for `depth` operations; none when the system
    /// does not let us have one.
    fn new(shared: &Shared, depth: u32) -> Result<Option<Self>> {
        let refused = |what: &str, error: &dyn fmt::Display| {
            tracing::warn!(uri = shared.uri, %error, "{what}: doing I/O by plain system calls");
            Ok(None)
        };
        // One more than the depth: the flush that many operations share.
        let ring = match IoUring::builder().dontfork().build((depth + 1).next_power_of_two()) {
            Ok(ring) => ring,
            Err(e) => match Errno::from_io_error(&e) {
                Some(errno @ (Errno::MFILE | Errno::NFILE)) => {
                    return Err(open_error(errno, "making a queue"));
                }
                _ => return refused("io_uring is refused", &e),
            },
        };
        if !ring.params().is_feature_ext_arg() {
            return refused("io_uring is too old", &"it has no waiting with a time-out");
        }
        let file = shared.queue_file()?;
        if let Err(e) = ring.submitter().register_files(&[file.as_raw_fd()]) {
            return refused("io_uring takes no file", &e);
        }
        let registers = ring.submitter().register_buffers_sparse(MAX_REGIONS as u32).is_ok();
        let regions = vec![Registration::Unknown; if registers { MAX_REGIONS } else { 0 }];
        Ok(Some(Self { ring, regions, registers, _file: file }))
    }

    /// The index under which the region of a buffer is registered, if it is.
    fn registered(&mut self, shared: &Shared, buffer: &Buffer) -> Option<u16> {
        if !self.registers || !shared.pool.owns(buffer) {
            return None;
        }
        let index = buffer.region();
        let known = self.regions.get_mut(index)?;
        if *known == Registration::Unknown {
            let (base, len) = shared.pool.region(index)?;
            let part = libc::iovec { iov_base: base.as_ptr().cast(), iov_len: len };
            // SAFETY: a region of the pool stays mapped while the pool lives.
            // Every owner of a `Ring` (a queue, an orphan) also owns the
            // `Arc<Shared>` whose pool this is and drops it after the ring.
            let done = unsafe {
                self.ring.submitter().register_buffers_update(index as u32, &[part], None)
            };
            *known = match done {
                Ok(()) => Registration::Done,
                Err(error) => {
                    if !shared.told_unregistered.swap(true, Ordering::Relaxed) {
                        tracing::warn!(
                            uri = shared.uri,
                            %error,
                            "buffers cannot be registered (the limit on locked memory may be \
                             small: ulimit -l): doing without"
                        );
                    }
                    Registration::Refused
                }
            };
        }
        (*known == Registration::Done).then_some(index as u16)
    }

    /// The submission entry for a step.
    fn entry(&mut self, shared: &Shared, table: &Table, next: &Next) -> Option<squeue::Entry> {
        let (slot, step) = match next {
            Next::Sync => {
                let flags = types::FsyncFlags::DATASYNC;
                return Some(opcode::Fsync::new(FILE).flags(flags).build().user_data(SYNC));
            }
            Next::Task(slot, step) => (*slot, *step),
        };
        let entry = match (step, &table.task(slot)?.op) {
            (Step::Read { at, from, len }, Op::Read { buf, .. }) => {
                let (to, len) = (place(buf, from, len)?, len as u32);
                match self.registered(shared, buf) {
                    Some(index) => opcode::ReadFixed::new(FILE, to, len, index).offset(at).build(),
                    None => opcode::Read::new(FILE, to, len).offset(at).build(),
                }
            }
            (Step::Write { at, from, len, sync }, Op::Write { buf, .. }) => {
                let (of, len) = (place(buf, from, len)?.cast_const(), len as u32);
                let flags = if sync { libc::RWF_DSYNC } else { 0 };
                match self.registered(shared, buf) {
                    Some(index) => {
                        let write = opcode::WriteFixed::new(FILE, of, len, index);
                        write.offset(at).rw_flags(flags).build()
                    }
                    None => opcode::Write::new(FILE, of, len).offset(at).rw_flags(flags).build(),
                }
            }
            (Step::WriteZeroes { at, len }, _) => {
                let of = place(shared.zeroes().ok()?, 0, len)?;
                opcode::Write::new(FILE, of.cast_const(), len as u32).offset(at).build()
            }
            (Step::Allocate { at, len, mode }, _) => {
                opcode::Fallocate::new(FILE, len).offset(at).mode(mode.bits() as i32).build()
            }
            // A step is always made from the operation itself; a flush is
            // never a task's own entry.
            _ => return None,
        };
        Some(entry.user_data(u64::from(slot)))
    }

    /// Fills the submission ring with what is ready.
    fn push_ready(&mut self, shared: &Shared, table: &mut Table) {
        while let Some(next) = table.next(shared) {
            let Some(entry) = self.entry(shared, table, &next) else {
                table.fail_waiting(&Error::new(ErrorKind::Limit, "no memory to make a request"));
                return;
            };
            // SAFETY: the entry's file is registered with this ring; its
            // memory is a buffer in `table` (or the zeroes in `shared`, which
            // nobody ever writes). A task leaves `table` only when its entry
            // was reaped, and table, ring and `shared` stay together: in the
            // queue, and after it in an orphan, which lasts until `in_ring` is
            // zero. So the memory is valid, and touched by nobody else, for as
            // long as the kernel may use it. A forked child cannot touch it
            // either: it does not inherit the ring.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                return;
            }
            table.started(&next);
        }
    }

    /// Takes completions out of the completion ring; how many there were.
    pub(super) fn reap(&mut self, shared: &Shared, table: &mut Table) -> usize {
        let mut count = 0;
        for entry in self.ring.completion() {
            table.reaped(shared, entry.user_data(), entry.result());
            count += 1;
        }
        count
    }

    /// Entries that the kernel has not taken from the submission ring.
    fn unsubmitted(&mut self) -> usize {
        self.ring.submission().len()
    }

    /// Gives the file and the memory back to the system now; closing the ring
    /// alone would do it some time later. Only without operations in flight.
    pub(super) fn retire(&self) {
        let _ = self.ring.submitter().unregister_files();
        if self.registers {
            let _ = self.ring.submitter().unregister_buffers();
        }
    }
}

/// Where a part of a buffer is, if it lies within.
fn place(buffer: &Buffer, from: usize, len: usize) -> Option<*mut u8> {
    (from + len <= buffer.len()).then(|| buffer.raw().wrapping_add(from))
}

/// A queue over io_uring.
pub(super) struct RingQueue {
    /// Handed to an orphan, or dropped, by `drop`.
    ring: ManuallyDrop<Ring>,
    table: ManuallyDrop<Table>,
    shared: Arc<Shared>,
    /// Made when somebody asks for the descriptor.
    signal: OnceCell<Signal>,
    /// Set when the ring itself fails.
    broken: Option<Error>,
}

impl RingQueue {
    /// A queue, or none when the system refuses io_uring.
    pub(super) fn new(shared: &Arc<Shared>, depth: u32) -> Result<Option<Self>> {
        let Some(ring) = Ring::new(shared, depth)? else { return Ok(None) };
        Ok(Some(Self {
            ring: ManuallyDrop::new(ring),
            table: ManuallyDrop::new(Table::new(depth as usize)),
            shared: Arc::clone(shared),
            signal: OnceCell::new(),
            broken: None,
        }))
    }

    /// Gives the kernel what is ready, as one batch.
    fn start(&mut self) {
        self.ring.push_ready(&self.shared, &mut self.table);
        while self.ring.unsubmitted() > 0 {
            match self.ring.ring.submit() {
                // The kernel takes no more at present: `poll` tries again.
                Ok(0) => return,
                Ok(_) => self.ring.push_ready(&self.shared, &mut self.table),
                Err(error) => return self.enter_failed(&error),
            }
        }
    }

    /// Sorts out a failed `io_uring_enter`.
    fn enter_failed(&mut self, error: &std::io::Error) {
        match Errno::from_io_error(error) {
            // Out of resources, a full completion ring, a signal, the end of
            // the time: all pass.
            Some(Errno::AGAIN | Errno::BUSY | Errno::INTR | Errno::TIME | Errno::NOMEM) => {}
            _ => {
                let error = Error::new(
                    ErrorKind::Gone,
                    format!("the I/O ring of {} does not work any more: {error}", self.shared.uri),
                );
                self.table.fail_waiting(&error);
                self.broken = Some(error);
            }
        }
    }

    fn update_signal(&self) {
        if let Some(signal) = self.signal.get() {
            signal.set(!self.table.done.is_empty());
        }
    }

    /// Sleeps in the kernel until a completion, a signal or the deadline.
    fn sleep(&mut self, left: Option<Duration>) {
        let span =
            left.map(|left| types::Timespec::new().sec(left.as_secs()).nsec(left.subsec_nanos()));
        let mut arguments = types::SubmitArgs::new();
        if let Some(span) = &span {
            arguments = arguments.timespec(span);
        }
        if let Err(error) = self.ring.ring.submitter().submit_with_args(1, &arguments) {
            self.enter_failed(&error);
        }
    }
}

impl Queue for RingQueue {
    fn submit(&mut self, tag: u64, op: Op) -> std::result::Result<(), Rejected> {
        if let Err(error) = check(&op, &self.shared.geometry) {
            return Err(reject(op, error));
        }
        if let Some(error) = self.broken.clone().or_else(|| self.shared.refusal(&op)) {
            return Err(reject(op, error));
        }
        if self.in_flight() >= self.depth() {
            return Err(full(op));
        }
        self.table.insert(&self.shared, tag, op);
        Ok(())
    }

    fn ring(&mut self) {
        self.start();
        self.update_signal();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        self.start();
        if self.ring.reap(&self.shared, &mut self.table) > 0 {
            // Continuations of what was just reaped.
            self.start();
        }
        orphan::reap();
        let count = self.table.done.len();
        done.extend(self.table.done.drain(..));
        self.update_signal();
        count
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
        loop {
            self.ring.push_ready(&self.shared, &mut self.table);
            let mut reaped = self.ring.reap(&self.shared, &mut self.table);
            let idle = self.in_flight() == 0 || self.broken.is_some();
            if self.table.done.is_empty() && reaped == 0 && !idle {
                let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
                self.sleep(left);
                reaped = self.ring.reap(&self.shared, &mut self.table);
            }
            if !self.table.done.is_empty() || reaped == 0 {
                // Something to poll, or a signal or the time ended the sleep.
                self.start();
                self.update_signal();
                return match (&self.broken, self.table.done.is_empty()) {
                    (Some(error), true) => Err(error.clone()),
                    _ => Ok(()),
                };
            }
        }
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the ring has its descriptor open for as long as it lives,
        // which is longer than this borrow of the queue.
        let ring = unsafe { BorrowedFd::borrow_raw(self.ring.ring.as_raw_fd()) };
        if self.signal.get().is_none() {
            match Signal::new(ring) {
                Ok(signal) => {
                    signal.set(!self.table.done.is_empty());
                    let _ = self.signal.set(signal);
                }
                Err(error) => {
                    tracing::warn!(%error, "no descriptor to join a queue's events");
                    return Some(ring);
                }
            }
        }
        self.signal.get().map(std::os::fd::AsFd::as_fd)
    }

    fn in_flight(&self) -> usize {
        self.table.in_flight()
    }

    fn depth(&self) -> usize {
        self.table.depth()
    }
}

impl Drop for RingQueue {
    fn drop(&mut self) {
        // SAFETY: `drop` runs once, and nothing uses the two fields after it.
        let (mut ring, mut table) =
            unsafe { (ManuallyDrop::take(&mut self.ring), ManuallyDrop::take(&mut self.table)) };
        ring.reap(&self.shared, &mut table);
        // What the kernel never took from the submission ring it never will:
        // it looks there only when it is told to.
        table.in_ring = table.in_ring.saturating_sub(ring.unsubmitted());
        if table.in_ring == 0 {
            ring.retire();
        } else {
            orphan::adopt(ring, table, Arc::clone(&self.shared));
        }
        orphan::reap();
    }
}

impl fmt::Debug for RingQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RingQueue")
            .field("depth", &self.depth())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
