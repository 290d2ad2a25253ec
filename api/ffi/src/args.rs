//! What C hands in, and what is handed back: texts, structs that know their size, lists.

use crate::fault::{Fault, Outcome};
use freehold_engine::memory::foreign;
use std::ffi::{CStr, c_char};
use std::mem::{MaybeUninit, size_of};
use std::time::Duration;

/// A struct of the header that begins with its own size, so that it may grow: a program that
/// was built with an older header gives a smaller one.
///
/// # Safety
/// Its first field is `size: u32`; it is `repr(C)`, and all zeroes, and any bytes at all, are a
/// value of it.
pub(crate) unsafe trait Sized32: Copy {
    /// The least size that a caller may have: that of the first version. One that is smaller is a
    /// mistake, such as the size of a pointer to it.
    const LEAST: usize;
}

/// Where a field ends that begins at `offset`.
pub(crate) const fn end_of<T, F>(offset: usize, _field: fn(&T) -> &F) -> usize {
    offset + size_of::<F>()
}

macro_rules! sized {
    ($($name:ty: $last:ident,)*) => {$(
        const _: () = assert!(std::mem::offset_of!($name, size) == 0);
        // SAFETY: the struct is repr(C), of integers and pointers, and begins with its size.
        unsafe impl $crate::args::Sized32 for $name {
            const LEAST: usize =
                $crate::args::end_of::<$name, _>(std::mem::offset_of!($name, $last), |s| &s.$last);
        }
    )*};
}
pub(crate) use sized;

/// Reads a struct of options; all zeroes for a null pointer.
///
/// # Safety
/// At `at` is null or a struct as long as its first field says.
pub(crate) unsafe fn options<T: Sized32>(at: *const T) -> Outcome<T> {
    let mut here = MaybeUninit::<T>::zeroed();
    if at.is_null() {
        // SAFETY: all zeroes are a value of it.
        return Ok(unsafe { here.assume_init() });
    }
    // SAFETY: the struct begins with its size, by the caller's promise.
    let size = unsafe { at.cast::<u32>().read_unaligned() } as usize;
    check_size::<T>(size)?;
    let known = size.min(size_of::<T>());
    // SAFETY: so many bytes are there, by the caller's promise.
    let all = unsafe { foreign::bytes(at.cast(), size) };
    if all[known..].iter().any(|b| *b != 0) {
        let why = "the options say something that this library is too old to know";
        return Err(Fault::invalid(why));
    }
    // SAFETY: `here` has room for `known` bytes, any of which are a value of it.
    unsafe {
        here.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(all.as_ptr(), known);
        Ok(here.assume_init())
    }
}

/// Hands a struct back, as much of it as the caller's has room for.
///
/// # Safety
/// At `at` is null or a struct as long as its first field says.
pub(crate) unsafe fn answer<T: Sized32>(at: *mut T, answer: T) -> Outcome {
    if at.is_null() {
        return Err(Fault::null("the struct to be filled"));
    }
    // SAFETY: the struct begins with its size, by the caller's promise.
    let size = unsafe { at.cast::<u32>().read_unaligned() };
    check_size::<T>(size as usize)?;
    let known = (size as usize).min(size_of::<T>());
    // SAFETY: so many bytes are there, by the caller's promise; the size stays the caller's.
    unsafe {
        at.cast::<u8>().copy_from_nonoverlapping((&raw const answer).cast(), known);
        at.cast::<u32>().write_unaligned(size);
    }
    Ok(())
}

fn check_size<T: Sized32>(size: usize) -> Outcome {
    if (T::LEAST..=4096).contains(&size) {
        return Ok(());
    }
    let (name, most) = (std::any::type_name::<T>(), size_of::<T>());
    let name = name.rsplit("::").next().unwrap_or(name);
    Err(Fault::invalid(format!(
        "the field `size` of {name} is {size}: set it to sizeof(struct {name}), {most} here"
    )))
}

/// Hands a value back.
///
/// # Safety
/// At `at` is null or a place for one.
pub(crate) unsafe fn put<T>(at: *mut T, value: T, what: &str) -> Outcome {
    if at.is_null() {
        return Err(Fault::null(what));
    }
    // SAFETY: it is a place for one, by the caller's promise.
    unsafe { at.write(value) };
    Ok(())
}

/// Hands the beginning of a list back, and says how long it is.
///
/// # Safety
/// At `at` is room for `room` values.
pub(crate) unsafe fn list<T: Copy>(
    at: *mut T,
    room: usize,
    all: impl ExactSizeIterator<Item = T>,
) -> Outcome<i64> {
    if at.is_null() && room > 0 {
        return Err(Fault::null("the array to be filled"));
    }
    let len = all.len() as i64;
    // SAFETY: there is so much room, by the caller's promise.
    let places = unsafe { foreign::places(at, room) };
    for (place, value) in places.iter_mut().zip(all) {
        place.write(value);
    }
    Ok(len)
}

/// Hands a text back, cut to the room there is and ended by NUL; how long all of it is.
///
/// # Safety
/// At `at` are `room` bytes.
pub(crate) unsafe fn text(at: *mut c_char, room: usize, text: &str) -> Outcome<i64> {
    if at.is_null() && room > 0 {
        return Err(Fault::null("the room for the text"));
    }
    // SAFETY: so many bytes are there, by the caller's promise.
    let to = unsafe { foreign::bytes_mut(at.cast::<u8>(), room) };
    if let Some(most) = room.checked_sub(1) {
        let cut = most.min(text.len());
        to[..cut].copy_from_slice(&text.as_bytes()[..cut]);
        to[cut] = 0;
    }
    Ok(text.len() as i64)
}

/// A text of the caller's.
///
/// # Safety
/// At `at` is null or a text that ends in NUL and stays for as long as the reference is used.
pub(crate) unsafe fn string<'a>(at: *const c_char, what: &str) -> Outcome<&'a str> {
    // SAFETY: as the caller promises.
    let text = unsafe { maybe_string(at, what)? };
    text.ok_or_else(|| Fault::null(what))
}

/// The same where there may be none.
///
/// # Safety
/// As there.
pub(crate) unsafe fn maybe_string<'a>(at: *const c_char, what: &str) -> Outcome<Option<&'a str>> {
    if at.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    let text = unsafe { CStr::from_ptr(at) };
    let text = text.to_str().map_err(|_| Fault::invalid(format!("{what} is not UTF-8")))?;
    Ok(Some(text))
}

/// Bytes of the caller's that are read.
///
/// # Safety
/// At `at` are so many bytes, which nobody writes while the reference is used.
pub(crate) unsafe fn bytes<'a>(at: *const u8, len: usize, what: &str) -> Outcome<&'a [u8]> {
    if at.is_null() && len > 0 {
        return Err(Fault::null(what));
    }
    in_bounds(len)?;
    // SAFETY: as the caller promises.
    Ok(unsafe { foreign::bytes(at, len) })
}

/// Bytes of the caller's that are filled.
///
/// # Safety
/// At `at` are so many bytes, which nobody else uses while the reference is used.
pub(crate) unsafe fn bytes_mut<'a>(at: *mut u8, len: usize, what: &str) -> Outcome<&'a mut [u8]> {
    if at.is_null() && len > 0 {
        return Err(Fault::null(what));
    }
    in_bounds(len)?;
    // SAFETY: as the caller promises.
    Ok(unsafe { foreign::bytes_mut(at, len) })
}

fn in_bounds(len: usize) -> Outcome {
    match len <= isize::MAX as usize {
        true => Ok(()),
        false => Err(Fault::invalid(format!("{len} bytes are more than memory has"))),
    }
}

/// The end of a range.
pub(crate) fn end(offset: u64, length: u64) -> Outcome<u64> {
    match (length, offset.checked_add(length)) {
        (u64::MAX, _) => Ok(u64::MAX),
        (_, Some(end)) => Ok(end),
        _ => Err(Fault::invalid(format!("{length} bytes from {offset} end nowhere"))),
    }
}

/// No other flags than these.
pub(crate) fn flags(given: u32, known: u32) -> Outcome {
    match given & !known {
        0 => Ok(()),
        other => Err(Fault::invalid(format!("{other:#x}: flags that this library does not know"))),
    }
}

/// Milliseconds; 0 for what is usual.
pub(crate) fn millis(given: u64, usual: Duration) -> Duration {
    match given {
        0 => usual,
        ms => Duration::from_millis(ms),
    }
}
