//! Memory that another process gave to a device which this one serves.
//!
//! The peer may do with its file what it likes, also shrink it under our feet, where a
//! touch of the mapping would end this process by a signal. So a file is mapped and
//! touched only if it is sealed against shrinking; any other is reached by system calls
//! that answer such a touch with an error. There are never references to it: the peer
//! writes when it likes.
//!
//! One hole is left: a peer may punch holes into sealed huge pages, and a touch finds
//! none to fill them with when the system has run out of them. Serve such files to peers
//! of the same trust only.

use super::copy;
use super::limits::map_refused;
use super::map::Mapping;
use crate::medium::{BLOCK, Error, ErrorKind, Result};
use rustix::fs::SealFlags;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{Ordering, fence};

/// What hugetlbfs files say that they are.
const HUGETLBFS: i64 = 0x9584_58f6;

/// A range of a peer's memory file. Offsets are bytes from the start of the range; all
/// are checked. Accesses of 4 and 8 bytes are aligned, and happen at once where the
/// memory is mapped.
pub struct PeerMemory {
    map: Mapping,
    /// From the start of the mapping to the range.
    skip: usize,
    len: usize,
    writable: bool,
    /// The file cannot shrink: the mapping may be touched.
    sealed: bool,
}

impl PeerMemory {
    /// Maps `len` bytes from `offset` on, both multiples of 4096. The descriptor is not
    /// needed afterwards.
    ///
    /// # Errors
    /// `Invalid` for a range that is empty, not aligned, or not in the file; what the
    /// system says when it does not map it, with what to raise.
    pub fn new(fd: BorrowedFd<'_>, offset: u64, len: u64, writable: bool) -> Result<Self> {
        let aligned = |n: u64| n.is_multiple_of(BLOCK as u64);
        let end = offset.checked_add(len).filter(|&end| end <= i64::MAX as u64);
        let (Some(end), true, true) = (end, len > 0, aligned(offset) && aligned(len)) else {
            let text = format!("bytes {offset}..+{len} of a peer's memory are no whole pages");
            return Err(Error::new(ErrorKind::Invalid, text));
        };
        // The seals first: what the size is afterwards, it is for ever.
        let sealed =
            rustix::fs::fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        let refused = |errno| map_refused("mapping a peer's memory", len, errno);
        let stat = rustix::fs::fstat(fd).map_err(refused)?;
        if (stat.st_size as u64) < end {
            let text = format!("bytes {offset}..+{len} lie beyond the peer's file");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        // Huge pages are mapped and unmapped whole.
        let unit = match rustix::fs::fstatfs(fd).map_err(refused)?.f_type as i64 {
            HUGETLBFS => (stat.st_blksize as u64).max(BLOCK as u64),
            _ => rustix::param::page_size() as u64,
        };
        let start = offset / unit * unit;
        let whole =
            (end - start).checked_next_multiple_of(unit).and_then(|n| usize::try_from(n).ok());
        let Some(whole) = whole else { return Err(refused(rustix::io::Errno::NOMEM)) };
        let map = Mapping::shared(fd, start, whole, writable).map_err(refused)?;
        let skip = (offset - start) as usize;
        Ok(Self { map, skip, len: len as usize, writable, sealed })
    }

    /// Bytes in it.
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// Never: there is a page at least.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it may be written.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Whether it is touched without system calls.
    pub fn is_mapped(&self) -> bool {
        self.sealed
    }

    /// Checks a range and gives its first byte.
    #[inline]
    fn range(&self, offset: u64, len: usize, write: bool) -> Result<*mut u8> {
        let inside = offset.checked_add(len as u64).is_some_and(|end| end <= self.len as u64);
        if !inside || (write && !self.writable) {
            return Err(self.outside(offset, len, write));
        }
        // SAFETY: the offset is inside the range, which is inside the mapping.
        Ok(unsafe { self.map.base().as_ptr().add(self.skip + offset as usize) })
    }

    #[cold]
    fn outside(&self, offset: u64, len: usize, write: bool) -> Error {
        if write && !self.writable {
            return Error::new(ErrorKind::Permission, "the peer's memory is not to be written");
        }
        let text = format!("bytes {offset}..+{len} are not in {} of the peer's memory", self.len);
        Error::new(ErrorKind::Invalid, text)
    }

    /// The place of an aligned value.
    #[inline]
    fn place<T>(&self, offset: u64, write: bool) -> Result<*mut T> {
        if !offset.is_multiple_of(size_of::<T>() as u64) {
            return Err(self.outside(offset, size_of::<T>(), false));
        }
        self.range(offset, size_of::<T>(), write).map(|at| at.cast())
    }

    /// Copies bytes out. The peer may write them meanwhile: what comes out may be any
    /// mixture.
    ///
    /// # Errors
    /// `Invalid` outside the range; `Gone` when the peer has taken the pages away.
    #[inline]
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        let from = self.range(offset, to.len(), false)?;
        if !self.sealed {
            // SAFETY: `to` is ours to write.
            return unsafe { call(to.as_mut_ptr(), from, to.len(), false) };
        }
        // SAFETY: the range was checked and its pages exist while the file is sealed.
        // Nobody has a reference into the mapping, which is shared: so `to` is
        // elsewhere. The words around the range exist, as the mapping is whole pages.
        unsafe { copy::load(to.as_mut_ptr(), from, to.len()) };
        Ok(())
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// `Invalid` outside the range; `Permission` when it is not to be written; `Gone`
    /// when the peer has taken the pages away.
    #[inline]
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<()> {
        let to = self.range(offset, from.len(), true)?;
        if !self.sealed {
            // SAFETY: the call only reads `from`.
            return unsafe { call(from.as_ptr().cast_mut(), to, from.len(), true) };
        }
        // SAFETY: as in `read`, the other way round.
        unsafe { copy::store(to, from.as_ptr(), from.len()) };
        Ok(())
    }

    #[inline]
    fn load<T: Copy + Default>(&self, offset: u64) -> Result<T> {
        let from = self.place::<T>(offset, false)?;
        if self.sealed {
            // SAFETY: the place was checked, is aligned, and its page exists while the
            // file is sealed; `T` is an integer. All accesses of this process to it are
            // volatile ones like this; the peer's are outside of it.
            return Ok(unsafe { from.read_volatile() });
        }
        let mut value = T::default();
        // SAFETY: `value` is ours to write, and `T` is an integer.
        unsafe { call((&raw mut value).cast(), from.cast(), size_of::<T>(), false) }?;
        Ok(value)
    }

    #[inline]
    fn store<T: Copy>(&self, offset: u64, value: T) -> Result<()> {
        let to = self.place::<T>(offset, true)?;
        if self.sealed {
            // SAFETY: as in `load`.
            unsafe { to.write_volatile(value) };
            return Ok(());
        }
        let mut value = value;
        // SAFETY: the call only reads `value`.
        unsafe { call((&raw mut value).cast(), to.cast(), size_of::<T>(), true) }
    }

    /// Reads 4 bytes.
    ///
    /// # Errors
    /// As [`read`](Self::read), and `Invalid` when it is not aligned.
    #[inline]
    pub fn load32(&self, offset: u64) -> Result<u32> {
        self.load(offset)
    }

    /// Reads 8 bytes.
    ///
    /// # Errors
    /// As [`load32`](Self::load32).
    #[inline]
    pub fn load64(&self, offset: u64) -> Result<u64> {
        self.load(offset)
    }

    /// Reads 4 bytes; what this thread reads afterwards is at least as new (Acquire).
    ///
    /// # Errors
    /// As [`load32`](Self::load32).
    #[inline]
    pub fn load32_acquire(&self, offset: u64) -> Result<u32> {
        let value = self.load(offset)?;
        fence(Ordering::Acquire);
        Ok(value)
    }

    /// Writes 4 bytes.
    ///
    /// # Errors
    /// As [`write`](Self::write), and `Invalid` when it is not aligned.
    #[inline]
    pub fn store32(&self, offset: u64, value: u32) -> Result<()> {
        self.store(offset, value)
    }

    /// Writes 8 bytes.
    ///
    /// # Errors
    /// As [`store32`](Self::store32).
    #[inline]
    pub fn store64(&self, offset: u64, value: u64) -> Result<()> {
        self.store(offset, value)
    }

    /// Writes 4 bytes; whoever sees them sees all that this thread wrote before
    /// (Release).
    ///
    /// # Errors
    /// As [`store32`](Self::store32).
    #[inline]
    pub fn store32_release(&self, offset: u64, value: u32) -> Result<()> {
        fence(Ordering::Release);
        self.store(offset, value)
    }

    /// Writes 8 bytes; whoever sees them sees all that this thread wrote before
    /// (Release).
    ///
    /// # Errors
    /// As [`store32`](Self::store32).
    #[inline]
    pub fn store64_release(&self, offset: u64, value: u64) -> Result<()> {
        fence(Ordering::Release);
        self.store(offset, value)
    }
}

impl fmt::Debug for PeerMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerMemory")
            .field("len", &self.len)
            .field("writable", &self.writable)
            .field("mapped", &self.sealed)
            .finish()
    }
}

/// Has the kernel copy between `ours` and a mapping that may have lost its pages, where
/// it answers with an error and not with a signal.
///
/// # Safety
/// `ours` is private, and readable or, for a read of `theirs`, writable for `len` bytes.
unsafe fn call(ours: *mut u8, theirs: *mut u8, len: usize, write: bool) -> Result<()> {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let mut done = 0;
    while done < len {
        let vector = |at: *mut u8| libc::iovec {
            iov_base: at.wrapping_add(done).cast(),
            iov_len: len - done,
        };
        let (local, remote) = (vector(ours), vector(theirs));
        // SAFETY: both vectors have one entry. The kernel checks the addresses of
        // `remote` itself; `local` is as the caller vouches for.
        let moved = unsafe {
            if write {
                libc::process_vm_writev(pid, &local, 1, &remote, 1, 0)
            } else {
                libc::process_vm_readv(pid, &local, 1, &remote, 1, 0)
            }
        };
        match usize::try_from(moved) {
            Ok(moved) if moved > 0 => done += moved,
            _ => match std::io::Error::last_os_error() {
                e if moved < 0 && e.kind() == std::io::ErrorKind::Interrupted => {}
                e if moved < 0 && e.raw_os_error() != Some(libc::EFAULT) => {
                    let text = format!("the system does not copy a peer's memory: {e}");
                    return Err(Error::new(ErrorKind::Unsupported, text));
                }
                _ => {
                    let text = "the peer took back pages of memory that it had given";
                    return Err(Error::new(ErrorKind::Gone, text));
                }
            },
        }
    }
    Ok(())
}
