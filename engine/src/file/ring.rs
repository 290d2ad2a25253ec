//! An io_uring: its files, its registered buffers, and its entries.
//!
//! It uses neither a single issuer nor deferred task work: law M2 lets another
//! thread ring and reap an idle queue, and completions must arrive whatever
//! the thread that submitted is doing. Which operation is where is kept in
//! `table`; the queue over both is in `queue`.

use super::errno::open_error;
use super::shared::Shared;
use super::table::{Next, SYNC, Table};
use super::task::Step;
use crate::medium::{Error, ErrorKind, Op, Result};
use crate::memory::{Buffer, MAX_REGIONS};
use io_uring::{IoUring, opcode, squeue, types};
use rustix::io::Errno;
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The registered files: what data goes through, and what allocation does
/// (see [`Shared::claimed_file`]).
const FILE: types::Fixed = types::Fixed(0);
const CLAIMED: types::Fixed = types::Fixed(1);

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
    pub(super) fn new(shared: &Shared, depth: u32) -> Result<Option<Self>> {
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
        let files = [file.as_raw_fd(), shared.claimed_file().as_raw_fd()];
        if let Err(e) = ring.submitter().register_files(&files) {
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
                opcode::Fallocate::new(CLAIMED, len).offset(at).mode(mode.bits() as i32).build()
            }
            // A step is always made from the operation itself; a flush is
            // never a task's own entry.
            _ => return None,
        };
        Some(entry.user_data(u64::from(slot)))
    }

    /// Fills the submission ring with what is ready.
    pub(super) fn push_ready(&mut self, shared: &Shared, table: &mut Table) {
        while let Some(next) = table.next(shared) {
            let Some(entry) = self.entry(shared, table, &next) else {
                table.fail_waiting(&Error::new(ErrorKind::Limit, "no memory to make a request"));
                return;
            };
            // SAFETY: the entry's files are registered with this ring; its
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
    pub(super) fn unsubmitted(&mut self) -> usize {
        self.ring.submission().len()
    }

    /// Gives the kernel what is in the submission ring; how much it took.
    pub(super) fn enter(&self) -> std::io::Result<usize> {
        self.ring.submit()
    }

    /// As [`Ring::enter`], then sleeps until a completion, a signal or the end
    /// of the time.
    pub(super) fn enter_and_sleep(&self, limit: Option<Duration>) -> std::io::Result<usize> {
        let limit = limit.map(|t| types::Timespec::new().sec(t.as_secs()).nsec(t.subsec_nanos()));
        let mut arguments = types::SubmitArgs::new();
        if let Some(limit) = &limit {
            arguments = arguments.timespec(limit);
        }
        self.ring.submitter().submit_with_args(1, &arguments)
    }

    /// Readable while there are completions to reap.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring has its descriptor open for as long as it lives,
        // which is longer than this borrow of it.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
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
