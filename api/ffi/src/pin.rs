//! Pins: one use of a lease's buffer, by the CPU.

use crate::args;
use crate::buffer::LeasedBuffer;
use crate::code::FH_EBUSY;
use crate::fault::{Fault, Outcome, status};
use crate::handle::Used;
use crate::object::{Object, fh_lease_buffer, fh_pin, free, give, place, used};
use freehold::Hold;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};

/// Pins: it may write. DMA memory counts as written from then on, until it is flushed; a window
/// each time that such a pin ends.
pub const FH_PIN_WRITE: u32 = 1;

/// Of a buffer under Exclusive access: how many pins there are, or one that writes.
#[derive(Debug, Default)]
pub(crate) struct Excluded(AtomicU64);

const WRITER: u64 = u64::MAX;

impl Excluded {
    fn enter(&self, writes: bool) -> bool {
        let next = |pins| match (writes, pins) {
            (true, 0) => Some(WRITER),
            (true, _) | (false, WRITER) => None,
            (false, pins) => Some(pins + 1),
        };
        self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, next).is_ok()
    }

    fn leave(&self) {
        let next = |pins| Some(if pins == WRITER { 0 } else { pins - 1 });
        // It always changes something.
        let _ = self.0.fetch_update(Ordering::Release, Ordering::Relaxed, next);
    }
}

/// What a pin's handle leads to.
pub struct Use {
    /// None when it has ended.
    hold: Option<Hold>,
    writes: bool,
    /// A user of the buffer, which so is neither submitted nor dropped.
    buffer: Used<LeasedBuffer>,
}

impl Use {
    fn hold(&self) -> Outcome<&Hold> {
        self.hold.as_ref().ok_or_else(|| Fault::handle(fh_pin::NAME))
    }

    /// Where a byte is, and how many lie there side by side.
    fn part(&self, at: u64) -> Outcome<(*mut u8, usize)> {
        let hold = self.hold()?;
        if self.writes {
            return Ok(hold.as_mut_ptr(at)?);
        }
        let (first, len) = hold.as_ptr(at)?;
        Ok((first.cast_mut(), len))
    }

    fn check(&self, at: u64, length: usize) -> Outcome {
        let bytes = self.hold()?.len();
        match at.checked_add(length as u64) {
            Some(end) if end <= bytes => Ok(()),
            _ => Err(Fault::invalid(format!(
                "bytes {at}..+{length} are not in a buffer of {bytes} bytes"
            ))),
        }
    }

    /// Goes over a range, part by part: where in the window, how much, how far in the range.
    fn each(&self, at: u64, length: usize, copy: impl Fn(*mut u8, usize, usize)) -> Outcome {
        self.check(at, length)?;
        let mut done = 0;
        while done < length {
            let (here, side_by_side) = self.part(at + done as u64)?;
            let count = side_by_side.min(length - done);
            copy(here, count, done);
            done += count;
        }
        Ok(())
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        // The pin ends first, then another may exclude it, then the buffer may go.
        drop(self.hold.take());
        if let Some(excluded) = &self.buffer.excluded {
            excluded.leave();
        }
    }
}

/// Pins a lease's buffer for a use by the CPU: while the pin is there, nobody who needs the range
/// gets on, up to the deadline of a recall. Some 150 ns; nothing is allocated. Where
/// the lease's own session has changed the map it is looked up again first, which blocks as
/// fh_file_lease does.
///
/// Under FH_READ and FH_WRITE access others may write a window's bytes meanwhile: read and write
/// them by atomic or volatile accesses, or by fh_pin_load and fh_pin_store. Under FH_EXCLUSIVE a
/// pin that writes has no other beside it.
///
/// Parameters: `flags` is FH_PIN_WRITE or 0. `address`, if it is not null, gets where the first
/// byte is; fh_pin_part says how many lie there side by side: all of them, but for windows in
/// segments. `pin` gets the handle.
/// Thread: any.
/// Ownership: the caller ends the pin by fh_unpin, on any thread. The address is good until then,
/// and is not the pin's any more when the lease was revoked: then the memory is stale, or, with
/// FH_BUFFER_CLOSES, cannot be touched.
/// Returns: 0, or a code.
/// Errors: FH_ERECALLED, FH_EREVOKED; FH_EBUSY while it is in flight, while the lease has
/// delegates, or where an Exclusive pin excludes it; FH_EINVAL for FH_PIN_WRITE where the access
/// only reads; as fh_lease_refresh.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_buffer_pin(
    buffer: *mut fh_lease_buffer,
    flags: u32,
    address: *mut *mut c_void,
    pin: *mut *mut fh_pin,
) -> c_int {
    status(|| {
        place(pin)?;
        args::flags(flags, FH_PIN_WRITE)?;
        let made = make(used(buffer)?, flags & FH_PIN_WRITE != 0)?;
        if !address.is_null() {
            let first = made.part(0)?.0;
            // SAFETY: the caller gives null or a place for a pointer.
            unsafe { address.write(first.cast()) };
        }
        // SAFETY: the caller gives a place for a handle.
        unsafe { give(pin, made) }
    })
}

fn make(buffer: Used<LeasedBuffer>, writes: bool) -> Outcome<Use> {
    if let Some(excluded) = &buffer.excluded
        && !excluded.enter(writes)
    {
        let why = "an Exclusive buffer is pinned, and a pin that writes has no other beside it";
        return Err(Fault::new(FH_EBUSY, why));
    }
    // It is a user from here on, whatever comes; what is counted above goes with it.
    let mut made = Use { hold: None, writes, buffer };
    let (kept, known) = (made.buffer.kept(), &made.buffer.known);
    // SAFETY: this user keeps the buffer from being submitted, moved or changed; who did so
    // before, or does so at the same time, breaks the contract of those calls.
    let Some(lent) = (unsafe { kept.look() }) else {
        return Err(kept.away(fh_lease_buffer::NAME));
    };
    let hold = lent.hold(writes)?;
    if let (Some(known), Ok((first, _))) = (known, hold.as_ptr(0)) {
        known.is_at(first.addr(), hold.len());
    }
    made.hold = Some(hold);
    Ok(made)
}

/// Where a byte of a pinned buffer is, and how many lie there side by side: all from there on,
/// but for windows in segments.
///
/// Parameters: `at` counts from the buffer's first byte. `address` gets the place, `length`, if it
/// is not null, the bytes.
/// Thread: any.
/// Ownership: as fh_lease_buffer_pin.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL at the end of the buffer or beyond it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_pin_part(
    pin: *mut fh_pin,
    at: u64,
    address: *mut *mut c_void,
    length: *mut usize,
) -> c_int {
    status(|| {
        let (first, len) = used(pin)?.part(at)?;
        // SAFETY: the caller gives places for both, or null for the length.
        unsafe {
            if !length.is_null() {
                length.write(len);
            }
            args::put(address, first.cast(), "address")
        }
    })
}

/// Copies bytes out of a pinned buffer. What others write there meanwhile may be torn.
///
/// Parameters: `at` counts from the buffer's first byte; `data` has room for `length`.
/// Thread: any.
/// Ownership: the memory is the caller's.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL outside the buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_pin_load(
    pin: *mut fh_pin,
    at: u64,
    data: *mut c_void,
    length: usize,
) -> c_int {
    status(|| {
        let pin = used(pin)?;
        if pin.hold()?.is_shared() {
            // SAFETY: the caller gives so many bytes.
            let to = unsafe { args::bytes_mut(data.cast(), length, "data")? };
            return Ok(pin.hold()?.load(at, to)?);
        }
        if data.is_null() && length > 0 {
            return Err(Fault::null("data"));
        }
        pin.each(at, length, |here, count, done| {
            // SAFETY: so many bytes are there while the pin is, and the caller has room for
            // them; who writes them meanwhile breaks the contract of its own pin.
            unsafe { here.copy_to(data.cast::<u8>().add(done), count) };
        })
    })
}

/// # Safety
/// At `data` are `length` bytes.
unsafe fn store(
    pin: *mut fh_pin,
    at: u64,
    data: *const c_void,
    length: usize,
    durably: bool,
) -> Outcome {
    let pin = used(pin)?;
    if !pin.writes {
        return Err(Fault::invalid("this pin only reads: pin with FH_PIN_WRITE"));
    }
    if pin.hold()?.is_shared() {
        // SAFETY: the caller gives so many bytes.
        let from = unsafe { args::bytes(data.cast(), length, "data")? };
        return Ok(pin.hold()?.store(at, from, durably)?);
    }
    if durably {
        let why = "only stores into a window under FH_WRITE access are durable by themselves: \
                   flush or persist the buffer";
        return Err(Fault::invalid(why));
    }
    if data.is_null() && length > 0 {
        return Err(Fault::null("data"));
    }
    pin.each(at, length, |here, count, done| {
        // SAFETY: as in `fh_pin_load`, the other way.
        unsafe { here.copy_from(data.cast::<u8>().add(done), count) };
    })
}

/// Copies bytes into a pinned buffer.
///
/// Parameters: `at` counts from the buffer's first byte; `data` has `length` bytes.
/// Thread: any.
/// Ownership: the memory is the caller's.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL outside the buffer, and for a pin without FH_PIN_WRITE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_pin_store(
    pin: *mut fh_pin,
    at: u64,
    data: *const c_void,
    length: usize,
) -> c_int {
    // SAFETY: the caller gives so many bytes.
    status(|| unsafe { store(pin, at, data, length, false) })
}

/// As fh_pin_store, and durable when it returns: on persistent memory the copy and the
/// instructions that flush it, on a Persistent Memory Region one barrier. For windows under
/// FH_WRITE access.
///
/// Parameters: as fh_pin_store.
/// Thread: any.
/// Ownership: as fh_pin_store.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for other buffers; as fh_pin_store; what the medium reports: then nothing is
/// known of these bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_pin_store_durably(
    pin: *mut fh_pin,
    at: u64,
    data: *const c_void,
    length: usize,
) -> c_int {
    // SAFETY: the caller gives so many bytes.
    status(|| unsafe { store(pin, at, data, length, true) })
}

/// Ends a pin. Whoever waits for the range goes on. It cannot fail, and waits for nothing.
///
/// Parameters: `pin` may be null.
/// Thread: any.
/// Ownership: the handle, and addresses that it gave, are not used again.
/// Returns: nothing.
/// Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_unpin(pin: *mut fh_pin) {
    free(pin);
}
