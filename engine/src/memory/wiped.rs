//! Counters that a forked child finds wiped: zero, whatever its parent had there.
//!
//! They are never given back to the system, so they may be referred to for ever.

use crate::medium::{Error, ErrorKind, Result};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::sync::atomic::AtomicU64;

/// `N` pairs of counters, all zero, on pages of their own that are taken from
/// the system when they are first written. A forked child has them as zeroes.
///
/// # Errors
/// `Limit` when the system gives no memory, or cannot wipe it in a child.
pub(crate) fn wiped_pairs<const N: usize>() -> Result<&'static [[AtomicU64; 2]; N]> {
    let len = size_of::<[[AtomicU64; 2]; N]>();
    // SAFETY: no address is asked for, so no existing mapping is replaced, and
    // nothing refers to the new one yet.
    let base = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }
    .map_err(|e| Error::new(ErrorKind::Limit, format!("no memory for counters of pins: {e}")))?;
    // SAFETY: the range is exactly our new mapping; the advice changes only
    // what a forked child finds there.
    if let Err(e) = unsafe { rustix::mm::madvise(base, len, Advice::LinuxWipeOnFork) } {
        // SAFETY: nothing refers to the mapping, which goes away here.
        let _ = unsafe { rustix::mm::munmap(base, len) };
        let text = format!("cannot wipe counters of pins in a forked child: {e}");
        return Err(Error::new(ErrorKind::Limit, text));
    }
    // A huge page would take 2 MiB for the first counter. Where the system knows
    // no huge pages it refuses the advice, and nothing is lost.
    // SAFETY: as above; the advice changes only how pages are made.
    let _ = unsafe { rustix::mm::madvise(base, len, Advice::LinuxNoHugepage) };
    // SAFETY: the mapping has `len` bytes, is aligned to a page and so to the
    // pairs, reads as zeroes, which are valid atomics, is never unmapped, and is
    // reached through this shared reference to atomics alone. That the kernel
    // zeroes it in a child happens in the child's memory, where no thread runs
    // yet: there it is a store like any other to atomics.
    Ok(unsafe { &*base.cast::<[[AtomicU64; 2]; N]>().cast_const() })
}
