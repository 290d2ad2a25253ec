//! The kinds of handles, and the tables that they lead to.

use crate::buffer::{FreeBuffer, LeasedBuffer};
use crate::code::FH_EFORKED;
use crate::fault::{Fault, Outcome, quietly};
use crate::handle::{Table, Used};
use crate::lease::Held;
use crate::pin::Use;
use crate::queue::Polled;
use crate::registration::Registered;
use crate::session::Owner;
use freehold::{File, Seal, Store};
use freehold_engine::fork;

/// A kind of handle.
pub(crate) trait Object: 'static {
    /// What is behind it.
    type Inner;
    /// What messages call it.
    const NAME: &'static str;
    /// The number of its table.
    const KIND: u64;
    /// All of its kind.
    fn table() -> &'static Table<Self::Inner>;
}

/// An opened store. Any thread may use it; several at a time.
#[derive(Debug)]
pub struct fh_store(());

/// An owner of files, seals and leases. Any thread may use it; several at a time.
#[derive(Debug)]
pub struct fh_session(());

/// An open file. Any thread may use it; several at a time.
#[derive(Debug)]
pub struct fh_file(());

/// Operations in flight of one thread. Only the thread that made or adopted it may use it.
#[derive(Debug)]
pub struct fh_queue(());

/// Memory for I/O of a queue. One thread at a time.
#[derive(Debug)]
pub struct fh_buffer(());

/// The right to use a range of a file directly. Any thread may use it; several at a time.
#[derive(Debug)]
pub struct fh_lease(());

/// Memory through which a lease is used. Any thread may pin it, several at a time; whoever
/// submits, moves, discards or salvages it is alone with it.
#[derive(Debug)]
pub struct fh_lease_buffer(());

/// A use of a lease's buffer that is under way. Any thread may use and end it.
#[derive(Debug)]
pub struct fh_pin(());

/// A seal that is set. Any thread may use it.
#[derive(Debug)]
pub struct fh_seal(());

/// Leased blocks that foreign devices know. Any thread may use it.
#[derive(Debug)]
pub struct fh_registration(());

macro_rules! objects {
    ($($handle:ty, $inner:ty, $name:literal, $kind:literal;)*) => {$(
        impl Object for $handle {
            type Inner = $inner;
            const NAME: &'static str = $name;
            const KIND: u64 = $kind;

            #[inline(always)]
            fn table() -> &'static Table<$inner> {
                static ALL: Table<$inner> = Table::new($kind);
                &ALL
            }
        }
    )*};
}

objects! {
    fh_store, Store, "store", 1;
    fh_session, Owner, "session", 2;
    fh_file, File, "file", 3;
    fh_queue, Polled, "queue", 4;
    fh_buffer, FreeBuffer, "buffer", 5;
    fh_lease, Held, "lease", 6;
    fh_lease_buffer, LeasedBuffer, "buffer of a lease", 7;
    fh_pin, Use, "pin", 8;
    fh_seal, Seal, "seal", 9;
    fh_registration, Registered, "registration", 10;
}

/// The number that a handle is.
#[inline(always)]
pub(crate) fn number<O>(handle: *const O) -> u64 {
    handle.addr() as u64
}

/// The object behind a handle, for as long as a call takes.
pub(crate) fn used<O: Object>(handle: *const O) -> Outcome<Used<O::Inner>> {
    not_forked()?;
    O::table().enter(number(handle)).ok_or_else(not_one::<O>)
}

/// There is no object of that kind.
#[cold]
#[inline(never)]
pub(crate) fn not_one<O: Object>() -> Fault {
    Fault::handle(O::NAME)
}

/// The object behind a handle, without counting its user.
///
/// # Safety
/// As [`Table::peek`].
#[inline(always)]
pub(crate) unsafe fn peek<O: Object>(handle: u64) -> Outcome<&'static O::Inner> {
    // SAFETY: as the caller promises.
    unsafe { O::table().peek(handle, not_one::<O>) }
}

/// Makes a handle.
///
/// # Safety
/// At `to` is null or a place for one.
pub(crate) unsafe fn give<O: Object>(to: *mut *mut O, inner: O::Inner) -> Outcome {
    // SAFETY: as the caller promises.
    unsafe { give_with(to, |_| inner) }
}

/// Makes a handle of what is told its number.
///
/// # Safety
/// As [`give`].
pub(crate) unsafe fn give_with<O: Object>(
    to: *mut *mut O,
    inner: impl FnOnce(u64) -> O::Inner,
) -> Outcome {
    if to.is_null() {
        return Err(Fault::null("where the handle goes"));
    }
    let Some(handle) = O::table().insert(inner) else {
        let why = format!(
            "all handles of the kind {} are in use, or no memory is left: free some",
            O::NAME
        );
        return Err(Fault::new(crate::code::FH_ELIMIT, why));
    };
    // SAFETY: it is a place for one, by the caller's promise.
    unsafe { to.write(std::ptr::without_provenance_mut(handle as usize)) };
    Ok(())
}

/// Refuses before anything is done that a null place for the handle would undo.
pub(crate) fn place<O>(to: *mut *mut O) -> Outcome {
    match to.is_null() {
        true => Err(Fault::null("where the handle goes")),
        false => Ok(()),
    }
}

/// Ends a handle. A forked child owns nothing, and frees nothing.
pub(crate) fn free<O: Object>(handle: *mut O) {
    quietly(|| {
        O::table().remove(number(handle));
    });
}

/// A forked child owns nothing.
#[inline]
pub(crate) fn not_forked() -> Outcome {
    match fork::in_child() {
        false => Ok(()),
        true => Err(forked()),
    }
}

#[cold]
fn forked() -> Fault {
    let why = "a forked child owns nothing of its parent's store; open it there after an exec";
    Fault::new(FH_EFORKED, why)
}
