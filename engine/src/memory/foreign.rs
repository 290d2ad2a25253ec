//! Memory of a program in another language, for the time of one call.
//!
//! A C program says where its bytes are and how many. What it promises with that is in its
//! header, and stands here as the contract of two functions.

use std::mem::MaybeUninit;

/// Bytes that a caller in another language lets us read. None may be at a null pointer.
///
/// # Safety
/// For `len` above 0 there are so many readable bytes at `at`, fewer than `isize::MAX`, which
/// nobody writes as long as the reference lives; they were written before.
pub unsafe fn bytes<'a>(at: *const u8, len: usize) -> &'a [u8] {
    match len {
        0 => &[],
        // SAFETY: as the caller promises.
        _ => unsafe { std::slice::from_raw_parts(at, len) },
    }
}

/// Bytes that a caller in another language lets us fill.
///
/// # Safety
/// For `len` above 0 there are so many writable bytes at `at`, fewer than `isize::MAX`, which
/// nobody else reads or writes as long as the reference lives. What they hold does not matter:
/// it is not read before it is written.
pub unsafe fn bytes_mut<'a>(at: *mut u8, len: usize) -> &'a mut [u8] {
    match len {
        0 => &mut [],
        // SAFETY: as the caller promises. A byte from C is never uninitialised to this
        // compiler: where it came from is behind a call that is not inlined.
        _ => unsafe { std::slice::from_raw_parts_mut(at, len) },
    }
}

/// Values of a caller in another language that are to be read.
///
/// # Safety
/// For `len` above 0 there are so many values at `at`, aligned and valid, which nobody writes
/// as long as the reference lives.
pub unsafe fn values<'a, T: Copy>(at: *const T, len: usize) -> &'a [T] {
    match len {
        0 => &[],
        // SAFETY: as the caller promises.
        _ => unsafe { std::slice::from_raw_parts(at, len) },
    }
}

/// Places for values of a caller in another language.
///
/// # Safety
/// For `len` above 0 there is room for so many values at `at`, aligned, which nobody else
/// reads or writes as long as the reference lives.
pub unsafe fn places<'a, T: Copy>(at: *mut T, len: usize) -> &'a mut [MaybeUninit<T>] {
    match len {
        0 => &mut [],
        // SAFETY: as the caller promises; what is there need not be a value yet.
        _ => unsafe { std::slice::from_raw_parts_mut(at.cast(), len) },
    }
}
