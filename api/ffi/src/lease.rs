//! Leases: the right to use a range of a file directly.

use crate::args::{self, answer, options, sized};
use crate::fault::{Fault, Outcome, count, status};
use crate::file::FH_TO_END;
use crate::map::{FH_NOWHERE, fh_extent, kind};
use crate::object::{fh_file, fh_lease, fh_session, free, give, place, used};
use freehold::{Access, Lease, LeaseOptions, LeaseState};
use std::ffi::c_int;
use std::sync::Mutex;

/// Access: reads; others may write the same bytes in place.
pub const FH_READ: u32 = 1;
/// Access: reads and writes; others may do so, too.
pub const FH_WRITE: u32 = 2;
/// Access: reads of bytes that nobody changes.
pub const FH_STABLE: u32 = 3;
/// Access: reads and writes of bytes that nobody else reads or writes.
pub const FH_EXCLUSIVE: u32 = 4;

/// It can be used.
pub const FH_LEASE_HELD: u32 = 1;
/// Its own session has changed the map: the next pin, fill or flush looks it up again.
pub const FH_LEASE_STALE: u32 = 2;
/// It has delegates, and gives no pins until they have gone.
pub const FH_LEASE_SUSPENDED: u32 = 3;
/// It was asked for back.
pub const FH_LEASE_RECALLED: u32 = 4;
/// It was taken while nothing used it; nothing was lost.
pub const FH_LEASE_TAKEN: u32 = 5;
/// Its deadline has passed, and it is being taken.
pub const FH_LEASE_FENCING: u32 = 6;
/// It was taken in the middle of a use.
pub const FH_LEASE_REVOKED: u32 = 7;
/// It was given back.
pub const FH_LEASE_RETURNED: u32 = 8;

/// How a lease is asked for.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_lease_options {
    /// sizeof(struct fh_lease_options).
    pub size: u32,
    /// 0.
    pub flags: u32,
    /// Milliseconds that the longest use may take, beside the store's lease time; 0 for 100,
    /// 30000 at most.
    pub max_hold_ms: u64,
}

/// A lease, as it is now.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_lease_info {
    /// sizeof(struct fh_lease_info), set by the caller.
    pub size: u32,
    /// FH_READ and so on.
    pub access: u32,
    /// Its number in the store; never used again.
    pub id: u64,
    /// The first byte of the file that it is over.
    pub start: u64,
    /// And the one behind the last.
    pub end: u64,
    /// 1 at first, one more each time that it is held again after a recall or a refresh.
    pub seq: u64,
    /// FH_LEASE_HELD and so on. Another thread may change it at any time.
    pub state: u32,
    /// Zero.
    pub reserved: u32,
}

sized! {
    fh_lease_options: max_hold_ms,
    fh_lease_info: reserved,
}

/// What a lease's handle leads to.
pub struct Held(Mutex<Lease>);

impl Held {
    fn lock(&self) -> std::sync::MutexGuard<'_, Lease> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The lease, to be used without the lock.
    pub(crate) fn lease(&self) -> Lease {
        self.lock().clone()
    }
}

pub(crate) fn number(access: Access) -> u32 {
    match access {
        Access::Read => FH_READ,
        Access::Write => FH_WRITE,
        Access::Stable => FH_STABLE,
        Access::Exclusive => FH_EXCLUSIVE,
    }
}

fn access(number: u32) -> Outcome<Access> {
    match number {
        FH_READ => Ok(Access::Read),
        FH_WRITE => Ok(Access::Write),
        FH_STABLE => Ok(Access::Stable),
        FH_EXCLUSIVE => Ok(Access::Exclusive),
        _ => Err(Fault::invalid(format!("{number} is no access: FH_READ to FH_EXCLUSIVE are"))),
    }
}

fn state(lease: &Lease) -> u32 {
    match lease.state() {
        LeaseState::Held => FH_LEASE_HELD,
        LeaseState::Stale => FH_LEASE_STALE,
        LeaseState::Suspended => FH_LEASE_SUSPENDED,
        LeaseState::Recalled => FH_LEASE_RECALLED,
        LeaseState::Taken => FH_LEASE_TAKEN,
        LeaseState::Fencing => FH_LEASE_FENCING,
        LeaseState::Revoked => FH_LEASE_REVOKED,
        _ => FH_LEASE_RETURNED,
    }
}

/// Takes a lease on a range of bytes, rounded out to whole blocks: while it is held, the blocks
/// under it stay where they are, and whoever needs them moved asks for it back first. For
/// writing, all blocks of the range are allocated, written and unshared first.
///
/// Parameters: `access` is FH_READ, FH_WRITE, FH_STABLE or FH_EXCLUSIVE. `offset` and `length` in
/// bytes; FH_TO_END for all of the file. `options` may be null. `lease` gets the handle.
/// Thread: any. Blocks while others are in the way.
/// Ownership: the caller ends the handle by fh_lease_free, which gives the lease back. It keeps
/// its file.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for a range that is empty or not inside the file, and for a session that
/// has ended; FH_ESEALED; FH_EBUSY where a holder that is overdue cannot be fenced;
/// FH_EWOULDDEADLOCK; for writing FH_ENOSPC and FH_EROFS; FH_EIO, FH_ECORRUPT, FH_EPOISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_lease(
    file: *mut fh_file,
    access: u32,
    offset: u64,
    length: u64,
    options: *const fh_lease_options,
    lease: *mut *mut fh_lease,
) -> c_int {
    status(|| {
        place(lease)?;
        // SAFETY: the caller gives null or options.
        let o = unsafe { self::options(options)? };
        args::flags(o.flags, 0)?;
        let file = used(file)?;
        let usual = LeaseOptions::default().max_hold;
        let spec = LeaseOptions { max_hold: args::millis(o.max_hold_ms, usual) };
        let access = self::access(access)?;
        let taken = match length {
            FH_TO_END => file.lease(offset.., access, &spec)?,
            _ => file.lease(offset..args::end(offset, length)?, access, &spec)?,
        };
        // SAFETY: the caller gives a place for a handle.
        unsafe { give(lease, Held(Mutex::new(taken))) }
    })
}

/// A lease, as it is now.
///
/// Parameters: `info` is filled; the caller sets its size before.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for a wrong size; FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_describe(
    lease: *mut fh_lease,
    info: *mut fh_lease_info,
) -> c_int {
    status(|| {
        let lease = used(lease)?.lease();
        let range = lease.range();
        let found = fh_lease_info {
            size: 0,
            access: number(lease.access()),
            id: lease.id(),
            start: range.start,
            end: range.end,
            seq: lease.seq(),
            state: state(&lease),
            reserved: 0,
        };
        // SAFETY: the caller gives such a struct.
        unsafe { answer(info, found) }
    })
}

/// Where a lease is in its life. Another thread may change it at any time.
///
/// Parameters: `lease`.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: FH_LEASE_HELD and so on, or a code.
/// Errors: FH_EBADF, FH_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_state(lease: *mut fh_lease) -> c_int {
    count(|| Ok(state(&used(lease)?.lease()).into())) as c_int
}

/// What stands behind a lease's range, in order, holes included. Where that lies on the medium
/// is told by a registration alone: their addresses are FH_NOWHERE here.
///
/// Parameters: `extents` has room for `room`.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: how many extents there are, also if that is more than `room`. Or a code.
/// Errors: FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_iomap(
    lease: *mut fh_lease,
    extents: *mut fh_extent,
    room: usize,
) -> i64 {
    count(|| {
        let map = used(lease)?.lease().iomap();
        let extent = |e: freehold::LeaseExtent| fh_extent {
            offset: e.offset,
            length: e.length,
            address: FH_NOWHERE,
            kind: kind(e.kind),
            shared: 0,
        };
        // SAFETY: the caller has so much room.
        unsafe { args::list(extents, room, map.into_iter().map(extent)) }
    })
}

/// Makes a stale lease good again, where its blocks are now. Pins, fills and flushes do so by
/// themselves.
///
/// Parameters: `lease`.
/// Thread: any. Blocks as fh_file_lease does.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_ERECALLED while it is asked for back, FH_EREVOKED when it is gone, FH_EBUSY while
/// it has delegates; as fh_file_lease.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_refresh(lease: *mut fh_lease) -> c_int {
    status(|| Ok(used(lease)?.lease().refresh()?))
}

/// Takes the same range again with the same access, in place of this lease, which is given back
/// first: what to do after FH_ERECALLED and FH_EREVOKED, when it is wanted again. Buffers of the
/// old one stay with the old one: make new ones, and write what they have unflushed by
/// fh_lease_buffer_salvage.
///
/// Parameters: `lease` keeps its handle, and has a new number.
/// Thread: any; no other one is in a call with it. Blocks as fh_file_lease does.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code; then it is the old lease still.
/// Errors: FH_ENOENT if the file was removed since; FH_EREVOKED if the store was closed;
/// FH_EBUSY while it is pinned, registered or in flight; as fh_file_lease.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_reacquire(lease: *mut fh_lease) -> c_int {
    status(|| {
        let held = used(lease)?;
        let mut again = held.lease();
        again.reacquire()?;
        // The old one goes when the lock is free.
        let old = std::mem::replace(&mut *held.lock(), again);
        drop(old);
        Ok(())
    })
}

/// Gives a lease back before its handle goes. Waits for nothing, and flushes nothing. If it is
/// gone already, nothing happens.
///
/// Parameters: `lease` keeps its handle, which is freed as ever.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EBUSY while it is pinned, registered, or has I/O in flight: then it stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_return(lease: *mut fh_lease) -> c_int {
    status(|| Ok(used(lease)?.lease().return_()?))
}

/// Gives a beginning or an end of a lease back. If it was asked for back, and that was all that
/// was wanted, it is held again; otherwise there is more time.
///
/// Parameters: `length` bytes from `offset` on are kept: whole blocks of its range.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EBUSY while it is pinned, registered or has I/O in flight; FH_EINVAL for what is
/// not whole blocks inside; FH_EREVOKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_return_part(
    lease: *mut fh_lease,
    offset: u64,
    length: u64,
) -> c_int {
    status(|| Ok(used(lease)?.lease().return_part(offset..args::end(offset, length)?)?))
}

/// Gives another session a lease on a part of this one. An Exclusive lease gives no pins while it
/// has delegates; others go on beside theirs. A recall of this lease recalls its delegates.
///
/// Parameters: `to` is a session of the store. `offset` and `length` are whole blocks inside the
/// lease's range; `access` as for fh_file_lease. `delegate` gets the handle.
/// Thread: any.
/// Ownership: the caller frees the handle by fh_lease_free.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for what is not whole blocks inside, an access that this one cannot give
/// on, or a session that has ended or is another store's; FH_EBUSY while an Exclusive lease is
/// pinned, registered or has unflushed bytes; FH_ERECALLED, FH_EREVOKED, FH_ESEALED,
/// FH_EWOULDDEADLOCK.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_delegate(
    lease: *mut fh_lease,
    to: *mut fh_session,
    access: u32,
    offset: u64,
    length: u64,
    delegate: *mut *mut fh_lease,
) -> c_int {
    status(|| {
        place(delegate)?;
        let (lease, to) = (used(lease)?.lease(), used(to)?);
        let range = offset..args::end(offset, length)?;
        let part = lease.delegate(to.session(), range, self::access(access)?)?;
        // SAFETY: the caller gives a place for a handle.
        unsafe { give(delegate, Held(Mutex::new(part))) }
    })
}

/// Ends a handle of a lease. The lease is given back when its buffers and pins are gone, too.
///
/// Parameters: `lease` may be null.
/// Thread: any. Waits for nothing.
/// Ownership: the handle is not used again.
/// Returns: nothing.
/// Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_free(lease: *mut fh_lease) {
    free(lease);
}
