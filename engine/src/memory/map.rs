//! A range of memory of our own: mapped, advised, unmapped.
//!
//! What lies in it, and who may touch it when, is decided by the types above.

use crate::medium::{Error, ErrorKind, Result};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

/// A mapping that a forked child does not inherit: page-aligned, unmapped on drop.
#[derive(Debug)]
pub(super) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a `Mapping` is an address and a length; it gives no access by itself
// and may be unmapped on any thread.
unsafe impl Send for Mapping {}
// SAFETY: as above: `&Mapping` only tells the address and the length.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes (a multiple of the page size, not zero) of anonymous private
    /// memory, zeroed. Pages are taken from the system when they are first touched.
    ///
    /// # Errors
    /// `Limit` when the system gives no such range.
    pub(super) fn new(len: usize) -> Result<Self> {
        // SAFETY: no address is asked for, so no existing mapping is replaced,
        // and nothing refers to the new one yet.
        let base = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        }
        .map_err(|e| {
            Error::new(ErrorKind::Limit, format!("no address space for {len} bytes of memory: {e}"))
        })?;
        let base = NonNull::new(base.cast::<u8>())
            .ok_or_else(|| Error::new(ErrorKind::Limit, "the system mapped memory at address 0"))?;
        let mapping = Self { base, len };
        mapping.keep_from_children().map_err(|e| {
            Error::new(ErrorKind::Limit, format!("cannot keep memory from a forked child: {e}"))
        })?;
        Ok(mapping)
    }

    /// Maps `len` bytes of a file from `offset` on, shared with whoever else maps it.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn shared(
        fd: BorrowedFd<'_>,
        offset: u64,
        len: usize,
        writable: bool,
    ) -> std::result::Result<Self, Errno> {
        let prot = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: no address is asked for, so no existing mapping is replaced,
        // and nothing refers to the new one yet.
        let base = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), len, prot, MapFlags::SHARED, fd, offset)
        }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)?;
        let mapping = Self { base, len };
        mapping.keep_from_children()?;
        Ok(mapping)
    }

    fn keep_from_children(&self) -> std::result::Result<(), Errno> {
        let at = self.base.as_ptr().cast();
        // SAFETY: the range is exactly our mapping. The advice changes only what a
        // forked child inherits.
        unsafe { rustix::mm::madvise(at, self.len, Advice::LinuxDontFork) }
    }

    /// Its first byte.
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Gives whole pages back: they read as zeroes afterwards. False when the
    /// range is not made of whole pages or the system refused.
    ///
    /// # Safety
    /// `offset + len` lies within the mapping, and no reference to a byte of
    /// the range exists.
    pub(super) unsafe fn discard(&self, offset: usize, len: usize) -> bool {
        let page = rustix::param::page_size();
        if !offset.is_multiple_of(page) || !len.is_multiple_of(page) {
            return false;
        }
        // SAFETY: the range is inside our mapping and, by this function's
        // contract, nobody holds a reference into it. For private anonymous
        // memory MADV_DONTNEED makes it read as zeroes (madvise(2)).
        unsafe {
            let at = self.base.as_ptr().add(offset);
            rustix::mm::madvise(at.cast(), len, Advice::LinuxDontNeed).is_ok()
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and goes away with its owner, so nothing
        // refers to it any more. The call fails only for bad arguments.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
