//! Registrations: leased blocks that foreign DMA may reach.

use crate::args;
use crate::fault::{Fault, count, status};
use crate::handle::Taken;
use crate::map::{FH_HOLE, FH_NOWHERE, FH_WRITTEN, fh_extent};
use crate::object::{
    Object, fh_lease, fh_registration, free, give, not_forked, number, place, used,
};
use freehold::{RegisteredExtent, Registration};
use std::ffi::{c_int, c_void};

/// Takes back what was registered: when it returns 0, no device reaches the blocks any more.
/// Otherwise some still may; then it is called again when somebody next needs them.
pub type fh_action = Option<unsafe extern "C" fn(context: *mut c_void) -> c_int>;

/// What a registration's handle leads to.
pub type Registered = Registration;

/// An action with what it is given.
struct Action {
    action: unsafe extern "C" fn(*mut c_void) -> c_int,
    context: *mut c_void,
}

// SAFETY: by the contract of `fh_lease_register` the action may be called on any thread, one at a
// time, with this context.
unsafe impl Send for Action {}

impl Action {
    fn run(&mut self) -> Result<(), String> {
        // SAFETY: the caller has given a function that takes this context, on any thread.
        match unsafe { (self.action)(self.context) } {
            0 => Ok(()),
            code => Err(format!("the action of the registration answered {code}")),
        }
    }
}

/// Makes a lease's blocks known to foreign DMA (an RDMA card, a GPU, another driver): gives out
/// where they are on the medium, against an action that takes that back.
///
/// While the registration is there the lease counts as used. If it is recalled and not returned
/// in time, the action is called: on whichever thread drives the deadline, without any lock, once
/// at a time. Calls into the same store from it answer FH_EWOULDDEADLOCK, but for those that end
/// handles. It must not throw, nor leave by longjmp.
///
/// Parameters: `action` is not null. `context` is given to it, and may be null. `registration` gets
/// the handle.
/// Thread: any. Blocks as fh_lease_refresh does.
/// Ownership: the context belongs to the caller, and is good until fh_registration_end has
/// returned 1, or the action has returned 0. The caller ends the handle by fh_registration_end or
/// fh_registration_free.
/// Returns: 0, or a code.
/// Errors: FH_EFAULT without an action; FH_ERECALLED, FH_EREVOKED; as fh_lease_refresh.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_register(
    lease: *mut fh_lease,
    action: fh_action,
    context: *mut c_void,
    registration: *mut *mut fh_registration,
) -> c_int {
    status(|| {
        place(registration)?;
        let action = action.ok_or_else(|| Fault::null("action"))?;
        let mut call = Action { action, context };
        let made = used(lease)?.lease().register(move || call.run())?;
        // SAFETY: the caller gives a place for a handle.
        unsafe { give(registration, made) }
    })
}

fn extent(e: &RegisteredExtent) -> fh_extent {
    fh_extent {
        offset: e.offset,
        length: e.length,
        address: e.address.unwrap_or(FH_NOWHERE),
        kind: if e.address.is_some() { FH_WRITTEN } else { FH_HOLE },
        shared: 0,
    }
}

/// Where a registered lease's bytes are, in order. Good until the registration ends, or its
/// action is called.
///
/// Parameters: `extents` has room for `room`.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: how many extents there are, also if that is more than `room`. Or a code.
/// Errors: FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_registration_extents(
    registration: *mut fh_registration,
    extents: *mut fh_extent,
    room: usize,
) -> i64 {
    count(|| {
        let r = used(registration)?;
        // SAFETY: the caller has so much room.
        unsafe { args::list(extents, room, r.extents().iter().map(extent)) }
    })
}

/// Ends a registration: no device reaches the blocks any more, the caller has seen to that.
///
/// Parameters: `registration`.
/// Thread: any; no other one is in a call with it. Waits for nothing.
/// Ownership: the handle is not used again.
/// Returns: 1 if the action was not called, and will not be; 0 if it was called already; or a
/// code.
/// Errors: FH_EBADF, FH_EBUSY, FH_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_registration_end(registration: *mut fh_registration) -> c_int {
    count(|| {
        not_forked()?;
        match fh_registration::table().take(number(registration)) {
            Taken::Value(registration) => Ok(registration.end().into()),
            Taken::Used => {
                let why = "another thread is in a call with this registration";
                Err(Fault::new(crate::code::FH_EBUSY, why))
            }
            Taken::None => Err(Fault::handle(fh_registration::NAME)),
        }
    }) as c_int
}

/// Ends a handle of a registration without ending the registration: the lease stays, without a
/// holder, until somebody needs its range and the action has returned 0.
///
/// Parameters: `registration` may be null.
/// Thread: any.
/// Ownership: the handle is not used again; the context is, by the action.
/// Returns: nothing.
/// Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_registration_free(registration: *mut fh_registration) {
    free(registration);
}
