//! The page of doorbells: a sealed memfd that clients map, and that the controller
//! looks at.
//!
//! Doorbell `2 * q` is the tail of submission queue `q`, `2 * q + 1` the head of
//! completion queue `q` (Base 1.4, 3.1, with CAP.DSTRD = 0). Any value may stand in
//! any of them at any time: what it means is judged by the queue.

use crate::medium::{Error, ErrorKind, Result};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of the page.
pub(super) const PAGE: usize = 4096;
/// Where it lies in its file: where it lies in BAR0, because clients find the one by the
/// other.
pub(super) const FILE_OFFSET: u64 = 0x1000;
/// Doorbells in it.
pub(super) const DOORBELLS: usize = PAGE / 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Doorbells {
    base: NonNull<AtomicU32>,
    file: Arc<OwnedFd>,
}

// SAFETY: the pointer is to a mapping of this value's own, which lives as long as the
// value; it is used for atomic accesses alone.
unsafe impl Send for Doorbells {}

impl Doorbells {
    /// A page of zeroes.
    ///
    /// # Errors
    /// `Limit` when the system has no descriptor or memory for it.
    pub(super) fn new() -> Result<Self> {
        Self::make().map_err(|errno| {
            Error::new(
                ErrorKind::Limit,
                format!(
                    "no memory file for the doorbells: {errno}; raise RLIMIT_NOFILE (ulimit -n)"
                ),
            )
        })
    }

    fn make() -> rustix::io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create(c"freehold-doorbells", flags)?;
        rustix::fs::ftruncate(&fd, FILE_OFFSET + PAGE as u64)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&fd, seals)?;
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: no address is asked for, so nothing is replaced; the file has the
        // bytes, and by its seals keeps them.
        let base = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), PAGE, prot, MapFlags::SHARED, &fd, FILE_OFFSET)
        }?;
        let base = NonNull::new(base.cast::<AtomicU32>()).ok_or(rustix::io::Errno::NOMEM)?;
        let page = Self { base, file: Arc::new(fd) };
        // SAFETY: the range is exactly our mapping; the advice changes only what a
        // forked child inherits.
        unsafe { rustix::mm::madvise(base.as_ptr().cast(), PAGE, Advice::LinuxDontFork) }?;
        Ok(page)
    }

    /// The file, to be given to clients.
    pub(super) fn file(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.file)
    }

    #[inline]
    fn at(&self, index: usize) -> &AtomicU32 {
        assert!(index < DOORBELLS);
        // SAFETY: the index was checked, the page is aligned and mapped while `self`
        // lives, and every access to it, here or there, is one of 32 bits.
        unsafe { self.base.add(index).as_ref() }
    }

    /// What stands in a doorbell; what was stored before it was written is seen
    /// after this.
    #[inline]
    pub(super) fn load(&self, index: usize) -> u32 {
        u32::from_le(self.at(index).load(Ordering::Acquire))
    }

    /// Sets a doorbell.
    pub(super) fn store(&self, index: usize, value: u32) {
        self.at(index).store(value.to_le(), Ordering::Release);
    }

    /// Sets all to zero.
    pub(super) fn clear(&self) {
        (0..DOORBELLS).for_each(|index| self.store(index, 0));
    }
}

impl Drop for Doorbells {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and goes with its owner.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), PAGE) };
    }
}
