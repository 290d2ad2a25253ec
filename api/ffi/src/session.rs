//! Sessions: who owns what is held, and what they are told.

use crate::args;
use crate::fault::{Fault, Outcome, count, status};
use crate::object::{fh_file, fh_session, free, give, place, used};
use freehold::{Event, Session};
use std::ffi::{c_char, c_int};
use std::os::fd::AsRawFd;

/// A lease or breakable seal was asked for back. Finish, flush what is dirty, and return it.
pub const FH_EVENT_RECALL: u32 = 1;
/// A recall was taken back: nobody wants the range any more. The lease is held again.
pub const FH_EVENT_WITHDRAWN: u32 = 2;
/// A lease or breakable seal was taken: at its deadline, or because nothing used it.
pub const FH_EVENT_REVOKED: u32 = 3;

/// What a session is told.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_event {
    /// FH_EVENT_RECALL, FH_EVENT_WITHDRAWN or FH_EVENT_REVOKED; there may be others later.
    pub kind: u32,
    /// Of a recall: 1 if what was written to buffers and not flushed may still be flushed.
    pub may_flush: u32,
    /// The lease's or seal's number.
    pub id: u64,
    /// The file's number.
    pub file: u64,
    /// Of a recall: the first byte of what it covers.
    pub start: u64,
    /// And the one behind the last.
    pub end: u64,
    /// Of a recall: nanoseconds until it is taken.
    pub grace_ns: u64,
    /// Zeroes.
    pub reserved: [u64; 2],
}

/// What a session's handle leads to.
pub struct Owner {
    session: Session,
}

impl From<Session> for Owner {
    fn from(session: Session) -> Self {
        Owner { session }
    }
}

impl Owner {
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }
}

/// The number of a session, as messages and fh_store_leases tell it; 1 is the store's own.
///
/// Parameters: `session`.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: the number, or a code.
/// Errors: FH_EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_session_id(session: *mut fh_session) -> i64 {
    count(|| Ok(used(session)?.session.id() as i64))
}

/// As fh_store_create; the file, and what is held through it, belongs to this session.
///
/// Parameters: as fh_store_create.
/// Thread: any.
/// Ownership: as fh_store_create.
/// Returns: 0, or a code.
/// Errors: as fh_store_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_session_create(
    session: *mut fh_session,
    name: *const c_char,
    name_len: usize,
    file: *mut *mut fh_file,
) -> c_int {
    status(|| {
        place(file)?;
        let owner = used(session)?;
        // SAFETY: the caller gives so many bytes, and a place for a handle.
        unsafe { give(file, owner.session.create(args::bytes(name.cast(), name_len, "name")?)?) }
    })
}

/// As fh_store_open_file; the file, and what is held through it, belongs to this session.
///
/// Parameters: as fh_store_open_file.
/// Thread: any.
/// Ownership: as fh_store_open_file.
/// Returns: 0, or a code.
/// Errors: as fh_store_open_file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_session_open_file(
    session: *mut fh_session,
    name: *const c_char,
    name_len: usize,
    file: *mut *mut fh_file,
) -> c_int {
    status(|| {
        place(file)?;
        let owner = used(session)?;
        // SAFETY: the caller gives so many bytes, and a place for a handle.
        unsafe { give(file, owner.session.open_file(args::bytes(name.cast(), name_len, "name")?)?) }
    })
}

/// Takes what the session was told, in order. Also drives what is due in the store: other
/// sessions' deadlines, and actions.
///
/// Parameters: `events` has room for `room`.
/// Thread: any. Does not block, but for the actions that it runs.
/// Ownership: nothing changes hands.
/// Returns: how many were taken; while there are more, the descriptor stays readable. Or a code.
/// Errors: FH_EBADF, FH_EFAULT, FH_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_session_events(
    session: *mut fh_session,
    events: *mut fh_event,
    room: usize,
) -> i64 {
    count(|| {
        if events.is_null() && room > 0 {
            return Err(Fault::null("the array to be filled"));
        }
        let taken = used(session)?.session.some_events(room);
        // SAFETY: the caller has so much room.
        unsafe { args::list(events, room, taken.iter().map(event)) }
    })
}

fn event(told: &Event) -> fh_event {
    let mut to = fh_event {
        kind: 0,
        may_flush: 0,
        id: 0,
        file: 0,
        start: 0,
        end: 0,
        grace_ns: 0,
        reserved: [0; 2],
    };
    match *told {
        Event::Recall { id, file, range: (start, end), grace, may_flush } => {
            let grace = u64::try_from(grace.as_nanos()).unwrap_or(u64::MAX);
            (to.kind, to.may_flush) = (FH_EVENT_RECALL, may_flush.into());
            (to.id, to.file, to.start, to.end, to.grace_ns) = (id, file, start, end, grace);
        }
        Event::Withdrawn { id, file } => {
            (to.kind, to.id, to.file) = (FH_EVENT_WITHDRAWN, id, file);
        }
        Event::Revoked { id, file } => (to.kind, to.id, to.file) = (FH_EVENT_REVOKED, id, file),
        _ => {}
    }
    to
}

/// A descriptor that is readable while there are events, and when a recall's deadline has come:
/// for poll, epoll and the like. Read nothing from it: call fh_session_events.
///
/// Parameters: `session`.
/// Thread: any.
/// Ownership: the descriptor is the session's, and closed with it. Do not close it.
/// Returns: the descriptor, 0 or above; or a code.
/// Errors: FH_ELIMIT when the process has no descriptors left: it takes three.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_session_event_fd(session: *mut fh_session) -> c_int {
    count(|| {
        let owner = used(session)?;
        let fd = owner.session.event_fd()?.as_raw_fd();
        Ok(fd.into())
    }) as c_int
}

/// Ends a session for all its handles: its seals are cleared, its leases taken, those in use
/// fenced at once, and nothing is granted to it any more. Its files can be read and written.
///
/// Parameters: `session` keeps its handle, which is freed as ever.
/// Thread: any. Blocks for I/O in flight through its leases, and for actions.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code. A second time it does nothing.
/// Errors: FH_EBUSY where a fence did not come to its end; FH_EINVAL for the store's own
/// session; FH_EWOULDDEADLOCK in a registration's action.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_session_end(session: *mut fh_session) -> c_int {
    status(|| -> Outcome { Ok(used(session)?.session.end()?) })
}

/// Ends a handle of a session. With the last one of it, of its files, seals, leases and
/// buffers, the session ends.
///
/// Parameters: `session` may be null.
/// Thread: any.
/// Ownership: the handle is not used again.
/// Returns: nothing.
/// Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_session_free(session: *mut fh_session) {
    free(session);
}
