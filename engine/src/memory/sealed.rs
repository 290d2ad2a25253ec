//! Memory that another process can map: a memfd of fixed size.
//!
//! It is sealed against shrinking, growing and further seals, so that neither side
//! can take pages away under the other. All its pages exist from the start: a touch
//! never fails for want of memory. Huge pages are used where the system gives them,
//! which is found out once per process.

use super::limits;
use super::map::Mapping;
use crate::medium::{Error, ErrorKind, Result};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

/// The huge page that is tried, and what sizes are rounded up to with or without it:
/// peers and IOMMUs map such ranges best.
pub(super) const HUGE: usize = 2 << 20;

/// A memfd and our mapping of it.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(super) map: Mapping,
    pub(super) fd: OwnedFd,
}

impl Sealed {
    /// `len` bytes of zeroes, a multiple of [`HUGE`].
    ///
    /// # Errors
    /// `Limit` with what to raise.
    pub(super) fn new(len: usize) -> Result<Self> {
        debug_assert!(len > 0 && len.is_multiple_of(HUGE));
        if huge_pages() {
            match Self::with(len, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB) {
                Ok(sealed) => return Ok(sealed),
                Err(error) => tracing::debug!(len, %error, "no huge pages left: using small ones"),
            }
        }
        Self::with(len, MemfdFlags::empty())
    }

    /// The same of small pages, of any whole number of them.
    ///
    /// # Errors
    /// As [`Self::new`].
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn small(len: usize) -> Result<Self> {
        Self::with(len, MemfdFlags::empty())
    }

    fn with(len: usize, kind: MemfdFlags) -> Result<Self> {
        let fd = file(len, kind)?;
        let map = Mapping::shared(fd.as_fd(), 0, len, true).map_err(|errno| refused(len, errno))?;
        Ok(Self { map, fd })
    }
}

// SAFETY: the mapping is made of pages, for reading and writing, of a file that nobody shortens,
// and lasts as long as the value. Who uses it so makes no buffer of it.
#[cfg(any(test, feature = "sim"))]
unsafe impl crate::bus::Mmio for Sealed {
    fn base(&self) -> std::ptr::NonNull<u8> {
        self.map.base()
    }

    fn len(&self) -> usize {
        self.map.len()
    }

    fn file(&self) -> Option<crate::bus::InFile<'_>> {
        Some(crate::bus::InFile { file: self.fd.as_fd(), offset: 0, sync: false })
    }
}

/// A memory file of so many bytes of zeroes, a multiple of a page, that cannot be resized and
/// whose pages all exist.
///
/// # Errors
/// `Limit` with what to raise.
pub(crate) fn sealed_file(len: usize) -> Result<OwnedFd> {
    file(len, MemfdFlags::empty())
}

fn file(len: usize, kind: MemfdFlags) -> Result<OwnedFd> {
    // A file beyond this limit would bring a signal that ends the process.
    if getrlimit(Resource::Fsize).current.is_some_and(|most| most < len as u64) {
        let text = format!(
            "memory of {len} bytes for a device is a file of that size, and RLIMIT_FSIZE \
                 allows no such file: `ulimit -f unlimited` lifts it"
        );
        return Err(Error::new(ErrorKind::Limit, text));
    }
    let fd = create(kind).map_err(|errno| refused(len, errno))?;
    rustix::fs::ftruncate(&fd, len as u64).map_err(|errno| refused(len, errno))?;
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&fd, seals).map_err(|errno| refused(len, errno))?;
    fill(&fd, len as u64).map_err(|errno| refused(len, errno))?;
    Ok(fd)
}

/// Makes all pages, so that none is missing when it is touched.
fn fill(fd: &OwnedFd, len: u64) -> std::result::Result<(), Errno> {
    loop {
        match rustix::fs::fallocate(fd, FallocateFlags::empty(), 0, len) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// A memfd that can be sealed and, where the system knows that, never run.
fn create(kind: MemfdFlags) -> std::result::Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | kind;
    match rustix::fs::memfd_create(c"freehold-dma", flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(c"freehold-dma", flags),
        other => other,
    }
}

fn refused(len: usize, errno: Errno) -> Error {
    let advice = match errno {
        Errno::MFILE => limits::descriptors(),
        Errno::NOMEM | Errno::NOSPC => {
            "the system, or the memory limit of this process's group, has no more: free some, or \
             use fewer buffers"
                .to_owned()
        }
        _ => "sealed memory files (memfd_create) are needed for it".to_owned(),
    };
    Error::new(ErrorKind::Limit, format!("memory of {len} bytes for a device: {errno}; {advice}"))
}

/// Whether this process gets memory that another can map: tries it, with small pages.
///
/// # Errors
/// `Limit` with what to raise.
pub(crate) fn sealed_memory() -> Result<()> {
    Sealed::with(HUGE, MemfdFlags::empty()).map(drop)
}

/// Whether this process gets huge pages that another can map: tried once, and told.
pub fn huge_pages() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let tried = Sealed::with(HUGE, MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB);
        match &tried {
            Ok(_) => tracing::info!("memory for devices is made of huge pages of 2 MiB"),
            Err(error) => {
                tracing::info!(%error, "memory for devices is made of small pages");
            }
        }
        tried.is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_cannot_be_resized_and_its_pages_exist() {
        let sealed = Sealed::new(HUGE).unwrap();
        for size in [0, 2 * HUGE as u64, 4 * HUGE as u64] {
            assert_eq!(rustix::fs::ftruncate(&sealed.fd, size), Err(Errno::PERM));
        }
        let seals = rustix::fs::fcntl_get_seals(&sealed.fd).unwrap();
        assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL));
        let stat = rustix::fs::fstat(&sealed.fd).unwrap();
        assert_eq!(stat.st_size, HUGE as i64);
        assert_eq!(stat.st_blocks as u64 * 512, HUGE as u64, "pages are missing");
        assert_eq!(huge_pages(), huge_pages());
    }
}
