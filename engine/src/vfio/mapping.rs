//! Registers, and memory of a device, mapped into this process.
//!
//! What the kernel maps of a PCI device stays mapped whatever the device does: one that was
//! pulled out reads as all ones. A touch is a signal (SIGBUS) only while decoding of memory is
//! switched off, or the device sleeps (drivers/vfio/pci, `vfio_pci_mmap_fault`); so nobody
//! here does that (`Device::would_hide`), and a reset, which does it for a moment, makes a
//! touch wait.
//!
//! A mapping keeps the device: the kernel cannot take it back before the last one is gone, and
//! whoever unbinds it waits for that. So a mapping can be revoked under those who have it:
//! then its addresses are memory of this process that reads as all ones, as the registers of a
//! device do that is not there. docs/decisions/0031 says why that is right.

use crate::bus::{Mapped, Mmio};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;

/// All ones: a file that is mapped as often as it takes.
const FILLER: usize = 2 << 20;
/// Beyond that a revoked mapping reads as zeroes: too many mappings else.
const MOST_FILLED: usize = 8 << 30;

/// Mapped device memory. A forked child does not have it.
#[derive(Debug)]
pub(super) struct Pages(Mapped);

// SAFETY: the mapping is page-aligned, for reading and writing; it lasts until the drop, and
// `revoke` puts another like it in its place. Why no access traps is said above. No
// reference is made to it here.
unsafe impl Mmio for Pages {
    fn base(&self) -> NonNull<u8> {
        self.0.base()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

impl Pages {
    /// Maps `len` bytes of a device at `offset` of its descriptor.
    ///
    /// # Errors
    /// What the kernel says; then the registers are reached by system calls.
    pub(super) fn map(device: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Self, Errno> {
        Mapped::new(device, offset, len).map(Self)
    }

    /// Puts memory that reads as all ones in place of the device's, for good. The device may
    /// be taken away then.
    ///
    /// # Errors
    /// What the kernel says; then some of the device's is still there.
    pub(super) fn revoke(&self) -> Result<(), Errno> {
        let both = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        let whole = self.0.len().next_multiple_of(rustix::param::page_size());
        let filler = ones().filter(|_| self.0.len() <= MOST_FILLED);
        let mut done = 0;
        while done < whole {
            let at = self.0.base().as_ptr().wrapping_add(done).cast();
            let len = match filler {
                Some(_) => (whole - done).min(FILLER),
                None => whole - done,
            };
            // SAFETY: the pages are this mapping's, which stays mapped: the kernel puts the new
            // pages there at once. Bytes that change under a volatile access are what device
            // memory is; why they may change under a window's is said in docs/decisions/0031.
            unsafe {
                match filler {
                    Some(file) => rustix::mm::mmap(at, len, both, flags, file, 0),
                    None => rustix::mm::mmap_anonymous(at, len, both, flags),
                }
            }?;
            done += len;
        }
        self.0.keep_from_children()
    }
}

/// A memory file of ones; none where the system gives none, and zeroes have to do.
fn ones() -> Option<BorrowedFd<'static>> {
    static FILE: OnceLock<Option<OwnedFd>> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let file = rustix::fs::memfd_create(c"freehold-gone", MemfdFlags::CLOEXEC).ok()?;
        let page = vec![0xff; 1 << 16];
        for at in (0..FILLER).step_by(page.len()) {
            let written = rustix::io::pwrite(&file, &page, at as u64).ok()?;
            (written == page.len()).then_some(())?;
        }
        Some(file)
    });
    file.as_ref().map(AsFd::as_fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(pages: &Pages, at: usize) -> u32 {
        assert!(at + 4 <= pages.len());
        // SAFETY: inside the mapping, aligned, volatile.
        unsafe { pages.base().as_ptr().add(at).cast::<u32>().read_volatile() }
    }

    #[test]
    fn what_is_revoked_reads_as_all_ones_and_lets_the_file_go() {
        let file = rustix::fs::memfd_create("device", MemfdFlags::CLOEXEC).unwrap();
        let len = 2 * FILLER + 4096;
        rustix::fs::ftruncate(&file, len as u64).unwrap();
        let pages = Pages::map(file.as_fd(), 0, len as u64).unwrap();
        assert_eq!((word(&pages, 0), word(&pages, len - 4)), (0, 0));
        pages.revoke().unwrap();
        for at in [0, 4096, FILLER - 4, FILLER, 2 * FILLER, len - 4] {
            assert_eq!(word(&pages, at), u32::MAX, "at {at}");
        }
        // SAFETY: as in `word`.
        unsafe { pages.base().as_ptr().cast::<u32>().write_volatile(5) };
        let (mut bytes, again) = ([9; 4], Pages::map(file.as_fd(), 0, 4096).unwrap());
        rustix::io::pread(&file, &mut bytes, 0).unwrap();
        assert_eq!((bytes, word(&again, 0)), ([0; 4], 0), "a store went to the device");
        again.revoke().unwrap();
        assert_eq!(word(&again, 0), u32::MAX, "a store went to the ones of others");
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert!(!maps.contains("memfd:device"), "it is still mapped");
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        let file = rustix::fs::memfd_create("short", MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(Pages::map(file.as_fd(), 0, 0).unwrap_err(), Errno::OVERFLOW);
        assert_eq!(Pages::map(file.as_fd(), 0, u64::MAX).unwrap_err(), Errno::OVERFLOW);
        assert_eq!(Pages::map(file.as_fd(), 7, 4096).unwrap_err(), Errno::INVAL);
    }
}
