//! Seals: what may not happen to a file while they are set.

use crate::args::{self, options, sized};
use crate::fault::{Fault, count, status};
use crate::handle::Taken;
use crate::object::{Object, fh_file, fh_seal, free, give, not_forked, number, place, used};
use freehold::{Kinds, SealOptions};
use std::ffi::c_int;

/// No extent in the range is added, moved, unshared, punched or truncated.
pub const FH_SEAL_LAYOUT: u32 = 1;
/// The size of the file may not go down.
pub const FH_SEAL_SHRINK: u32 = 2;
/// The size may not go up; nothing is written or allocated past the end.
pub const FH_SEAL_GROW: u32 = 4;
/// No byte in the range changes; moving and unsharing stay allowed.
pub const FH_SEAL_WRITE: u32 = 8;
/// Like FH_SEAL_WRITE, but writable leases that exist go on.
pub const FH_SEAL_FUTURE_WRITE: u32 = 16;
/// Nobody else may add seals.
pub const FH_SEAL_SEAL: u32 = 32;

/// Seals: who needs the range may ask for the seal back, and it is cleared at the deadline.
pub const FH_SEAL_BREAKABLE: u32 = 1;

const _: () = assert!(
    FH_SEAL_LAYOUT == Kinds::LAYOUT.bits() as u32
        && FH_SEAL_SHRINK == Kinds::SHRINK.bits() as u32
        && FH_SEAL_GROW == Kinds::GROW.bits() as u32
        && FH_SEAL_WRITE == Kinds::WRITE.bits() as u32
        && FH_SEAL_FUTURE_WRITE == Kinds::FUTURE_WRITE.bits() as u32
        && FH_SEAL_SEAL == Kinds::SEAL.bits() as u32
);

/// How a seal is set.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_seal_options {
    /// sizeof(struct fh_seal_options).
    pub size: u32,
    /// FH_SEAL_BREAKABLE, or 0.
    pub flags: u32,
    /// Milliseconds that setting it may wait for others; 0 for 1000.
    pub timeout_ms: u64,
}

sized! {
    fh_seal_options: timeout_ms,
}

/// Sets a seal on a range of bytes, rounded out to whole blocks. FH_SEAL_SHRINK, FH_SEAL_GROW and
/// FH_SEAL_SEAL speak of the whole file. It is set wholly or not at all, in force when this
/// returns, and binds its own session, too. Nothing of it is on the medium.
///
/// Parameters: `kinds` are FH_SEAL_LAYOUT and so on, joined by |. `offset` and `length` in
/// bytes; FH_TO_END for all. `options` may be null. `seal` gets the handle.
/// Thread: any. Blocks while others are in the way.
/// Ownership: the caller ends the handle by fh_seal_clear or fh_seal_free. It keeps its file
/// and its session.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for no kinds or an empty range; FH_ESEALED where FH_SEAL_SEAL is set by
/// another session; FH_EBUSY when the time is over, with no seal set; FH_EWOULDDEADLOCK;
/// FH_EROFS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_seal(
    file: *mut fh_file,
    kinds: u32,
    offset: u64,
    length: u64,
    options: *const fh_seal_options,
    seal: *mut *mut fh_seal,
) -> c_int {
    status(|| {
        place(seal)?;
        // SAFETY: the caller gives null or options.
        let o = unsafe { self::options(options)? };
        args::flags(o.flags, FH_SEAL_BREAKABLE)?;
        let known = u8::try_from(kinds).ok().and_then(Kinds::from_bits);
        let Some(kinds) = known else {
            return Err(Fault::invalid(format!("{kinds:#x}: kinds of seals that there are not")));
        };
        let spec = SealOptions {
            breakable: o.flags & FH_SEAL_BREAKABLE != 0,
            timeout: args::millis(o.timeout_ms, SealOptions::default().timeout),
        };
        let set = used(file)?.seal(kinds, offset..args::end(offset, length)?, &spec)?;
        // SAFETY: the caller gives a place for a handle.
        unsafe { give(seal, set) }
    })
}

/// The number of a seal in its store, as messages, events and fh_store_leases tell it.
///
/// Parameters: `seal`.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: the number, or a code.
/// Errors: FH_EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_seal_id(seal: *mut fh_seal) -> i64 {
    count(|| Ok(used(seal)?.id() as i64))
}

/// What a seal forbids, if it is in force still: a breakable one may have been taken.
///
/// Parameters: `seal`.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: its kinds, joined by |, with those that they imply; 0 if it is not in force; or a
/// code.
/// Errors: FH_EBADF, FH_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_seal_kinds(seal: *mut fh_seal) -> c_int {
    count(|| {
        let seal = used(seal)?;
        Ok(if seal.is_set() { seal.kinds().bits().into() } else { 0 })
    }) as c_int
}

/// Clears a seal.
///
/// Parameters: `seal`.
/// Thread: any; no other one is in a call with it. Waits for nothing.
/// Ownership: the handle is not used again.
/// Returns: 1 if it was in force until now, 0 if it had been taken; or a code.
/// Errors: FH_EBADF, FH_EBUSY, FH_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_seal_clear(seal: *mut fh_seal) -> c_int {
    count(|| {
        not_forked()?;
        match fh_seal::table().take(number(seal)) {
            Taken::Value(seal) => Ok(seal.clear().into()),
            Taken::Used => {
                let why = "another thread is in a call with this seal";
                Err(Fault::new(crate::code::FH_EBUSY, why))
            }
            Taken::None => Err(Fault::handle(fh_seal::NAME)),
        }
    }) as c_int
}

/// Ends a handle of a seal, and so clears it.
///
/// Parameters: `seal` may be null.
/// Thread: any. Waits for nothing.
/// Ownership: the handle is not used again.
/// Returns: nothing.
/// Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_seal_free(seal: *mut fh_seal) {
    free(seal);
}
