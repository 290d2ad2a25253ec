//! Pages of a device, or of a file that stands for one, mapped into this process. What makes an
//! access to them sound is said by who maps them.

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

/// A shared mapping, for reading and writing, until it is dropped. A forked child does not have
/// it.
#[derive(Debug)]
pub(crate) struct Mapped {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: an address and a length; what is done there are volatile accesses, which any
// thread may make (`Mmio`).
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Maps `len` bytes at `offset` of a descriptor.
    ///
    /// # Errors
    /// `OVERFLOW` for no bytes, or more than an address space has; what the kernel says.
    pub(crate) fn new(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Self, Errno> {
        let len = usize::try_from(len).ok().filter(|&len| len > 0 && len <= isize::MAX as usize);
        let len = len.ok_or(Errno::OVERFLOW)?;
        // SAFETY: no address is asked for, so no existing mapping is replaced, and nothing
        // refers to the new one yet.
        let base = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                offset,
            )
        }?;
        let base = NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)?;
        let mapped = Self { base, len };
        mapped.keep_from_children()?;
        Ok(mapped)
    }

    /// Where it begins.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A child of a fork does not inherit it: also where other pages have been put there since.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn keep_from_children(&self) -> Result<(), Errno> {
        // SAFETY: exactly our mapping; the advice changes only what a child inherits.
        unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, Advice::LinuxDontFork) }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // A child does not have it, and may have something else there.
        if crate::fork::in_child() {
            return;
        }
        // SAFETY: the mapping is ours and goes with its owner; whoever accesses it keeps the
        // owner (`Mmio` is shared by `Arc`).
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// What a child has at these addresses is its own.
    #[test]
    fn a_child_that_drops_a_mapping_unmaps_nothing() {
        crate::fork::remember();
        let file = rustix::fs::memfd_create(c"device", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 8192).unwrap();
        let mapped = Mapped::new(file.as_fd(), 0, 8192).unwrap();
        let (at, len) = (mapped.base(), mapped.len());
        let held = crate::fork::holds_in_child(move || {
            let both = ProtFlags::READ | ProtFlags::WRITE;
            let flags = MapFlags::PRIVATE | MapFlags::FIXED_NOREPLACE;
            // SAFETY: nothing that is there is replaced: it would be refused.
            let own = unsafe { rustix::mm::mmap_anonymous(at.as_ptr().cast(), len, both, flags) };
            drop(mapped);
            // SAFETY: the child's own memory, if there was nothing; it ends by a signal if it was
            // taken away, which is what this looks for.
            own.is_ok() && unsafe { at.as_ptr().read_volatile() } == 0
        });
        assert!(held.unwrap(), "a child lost memory of its own, or inherited the mapping");
    }
}
