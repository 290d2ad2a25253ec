//! The mapping of a file or device that is memory.

use crate::bus::{InFile, Mmio};
use crate::file::Opened;
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

/// How the bytes are mapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// A file on DAX: the file system has recorded where a page is before it can be stored
    /// to (MAP_SYNC).
    Sync,
    /// A device that is memory by its nature.
    Device,
    /// A file of which the page cache is mapped.
    Plain,
}

/// The bytes, from the first on. Not inherited by a child.
#[derive(Debug)]
pub(super) struct Map {
    base: NonNull<u8>,
    len: usize,
    how: How,
    opened: Arc<Opened>,
}

// SAFETY: an address and a length; what is done there is `SharedMemory`'s business.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

// SAFETY: `new` made the mapping, page-aligned; it lasts until the drop, and no reference to it
// was made. The file is allocated, and locked for as long as this lives, by `opened`; whoever
// shortens it all the same breaks what the opener promised. A page that the memory has lost
// traps: docs/windows.md says that nothing can be done about it.
unsafe impl Mmio for Map {
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    fn len(&self) -> usize {
        self.len
    }

    fn file(&self) -> Option<InFile<'_>> {
        let file = self.opened.file.as_fd();
        Some(InFile { file, offset: 0, sync: self.how == How::Sync })
    }
}

impl Map {
    /// Maps the first `len` bytes.
    pub(super) fn new(
        opened: Arc<Opened>,
        len: usize,
        how: How,
        writable: bool,
    ) -> rustix::io::Result<Self> {
        let base = map(opened.file.as_fd(), len, how, writable)?;
        let map = Self { base, len, how, opened };
        // SAFETY: exactly the new mapping; the advice changes only what a child inherits.
        unsafe { rustix::mm::madvise(base.as_ptr().cast(), len, Advice::LinuxDontFork) }?;
        Ok(map)
    }

    /// What is mapped.
    pub(super) fn opened(&self) -> &Opened {
        &self.opened
    }
}

/// Whether a file's memory itself can be mapped: tries it with a page, and touches nothing.
///
/// # Errors
/// `OPNOTSUPP` where it is not on DAX; what else the system says.
pub(super) fn is_dax(file: BorrowedFd<'_>, writable: bool) -> rustix::io::Result<()> {
    let len = rustix::param::page_size();
    let base = map(file, len, How::Sync, writable)?;
    // SAFETY: the mapping was just made, and nobody knows it.
    unsafe { rustix::mm::munmap(base.as_ptr().cast(), len) }
}

fn map(
    file: BorrowedFd<'_>,
    len: usize,
    how: How,
    writable: bool,
) -> rustix::io::Result<NonNull<u8>> {
    let prot = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
    let flags = match how {
        // Only so is a flag that the file does not have an error.
        How::Sync => MapFlags::SHARED_VALIDATE | MapFlags::SYNC,
        How::Device | How::Plain => MapFlags::SHARED,
    };
    // SAFETY: no address is asked for, so no existing mapping is replaced, and nothing refers
    // to the new one yet.
    let base = unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, prot, flags, file, 0) }?;
    NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and goes with its owner, whom everybody keeps who
        // reaches it.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
