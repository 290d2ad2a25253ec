//! What the queues of one file medium share: the open file and its state.

use super::errno::open_error;
use super::open::{Opened, lba_bytes, size_of};
use crate::medium::{BLOCK, Error, ErrorKind, Geometry, Op, Result};
use crate::memory::{Buffer, MAX_BUFFER, Pool};
use crate::open::OpenOptions;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8};

/// Most operations in one queue.
const MAX_DEPTH: u32 = 4096;
/// Bytes of zeroes that one write carries where the file system cannot zero.
pub(super) const ZEROES: usize = 256 << 10;

/// The open file, shared by the medium, its queues and their orphans.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) uri: String,
    pub(super) geometry: Geometry,
    pub(super) pool: Pool,
    pub(super) direct: bool,
    pub(super) read_only: bool,
    /// Cleared when the system refuses io_uring.
    pub(super) use_ring: AtomicBool,
    /// Told already that buffers cannot be registered.
    pub(super) told_unregistered: AtomicBool,
    /// Which way of zeroing is known to work; see `task::Zeroing`.
    pub(super) zeroing: AtomicU8,
    /// Device and inode, to know the file again.
    pub(super) identity: (u64, u64),
    opened: Opened,
    zeroes: OnceLock<Buffer>,
    gone: OnceLock<Error>,
    lost: OnceLock<Error>,
}

impl Shared {
    pub(super) fn new(opened: Opened, uri: &str, options: &OpenOptions) -> Result<Self> {
        let blocks = size_of(&opened)? / BLOCK as u64;
        if blocks == 0 {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{} is smaller than one block of 4 KiB", opened.path.display()),
            ));
        }
        let stat = rustix::fs::fstat(&opened.file)
            .map_err(|e| open_error(e, &format!("looking at {}", opened.path.display())))?;
        let lba_bytes = lba_bytes(&opened);
        let geometry = Geometry {
            blocks,
            lba_bytes,
            max_transfer: MAX_BUFFER as u32,
            max_depth: MAX_DEPTH,
            // What lies under a file is not known: the least that any device does.
            atomic_bytes: if opened.device.is_some() { lba_bytes } else { 512 },
            atomic_boundary: None,
            volatile_cache: true,
            copy: false,
            deallocate: true,
            compare: false,
            window: false,
        };
        Ok(Self {
            uri: uri.to_owned(),
            geometry,
            pool: Pool::new(),
            direct: opened.direct,
            read_only: options.read_only,
            use_ring: AtomicBool::new(options.io_uring),
            told_unregistered: AtomicBool::new(false),
            zeroing: AtomicU8::new(0),
            identity: (stat.st_dev, stat.st_ino),
            opened,
            zeroes: OnceLock::new(),
            gone: OnceLock::new(),
            lost: OnceLock::new(),
        })
    }

    /// The descriptor that a queue uses.
    ///
    /// Through the page cache each queue has an open file of its own: the
    /// kernel reports a failed write-back to each open file once, so on a
    /// shared one the flush of one queue could swallow the error of another's.
    pub(super) fn queue_file(&self) -> Result<OwnedFd> {
        let naming = |e| open_error(e, &format!("opening {} for a queue", self.uri));
        if self.direct {
            return rustix::io::fcntl_dupfd_cloexec(&self.opened.file, 3).map_err(naming);
        }
        let access = if self.read_only { OFlags::RDONLY } else { OFlags::RDWR };
        let path = format!("/proc/self/fd/{}", self.opened.file.as_raw_fd());
        rustix::fs::open(path, access | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
            .map_err(naming)
    }

    /// The descriptor by which the medium was opened. On a block device it has
    /// the exclusive claim, and the kernel lets nobody else zero or discard.
    pub(super) fn claimed_file(&self) -> BorrowedFd<'_> {
        self.opened.file.as_fd()
    }

    /// `ZEROES` bytes of zeroes that nobody ever writes.
    pub(super) fn zeroes(&self) -> Result<&Buffer> {
        if let Some(buffer) = self.zeroes.get() {
            return Ok(buffer);
        }
        let mut buffer = self.pool.take(ZEROES)?;
        buffer.fill(0);
        Ok(self.zeroes.get_or_init(|| buffer))
    }

    /// Why an operation is not taken, beyond its own form.
    pub(super) fn refusal(&self, op: &Op) -> Option<Error> {
        if let Some(error) = self.gone.get() {
            return Some(error.clone());
        }
        let changes = !matches!(op, Op::Read { .. });
        if changes && let Some(error) = self.lost.get() {
            return Some(error.clone());
        }
        if self.read_only && changes && !matches!(op, Op::Flush) {
            return Some(Error::new(
                ErrorKind::Permission,
                format!("{} is open for reading only", self.uri),
            ));
        }
        None
    }

    /// The device is not there any more.
    pub(super) fn mark_gone(&self, error: &Error) {
        if self.gone.set(error.clone()).is_ok() {
            tracing::error!(uri = self.uri, %error, "the medium is gone");
        }
    }

    /// A flush failed: the kernel may have dropped what it was to write, and
    /// will not say so again. Law M3: no later flush may succeed.
    pub(super) fn mark_lost(&self, error: &Error) {
        let lost = Error::new(
            ErrorKind::Gone,
            format!(
                "an earlier flush of {} failed ({error}), so completed writes may be lost: \
                 open it again",
                self.uri
            ),
        );
        if self.lost.set(lost).is_ok() {
            tracing::error!(uri = self.uri, %error, "a flush failed; the medium takes no more writes");
        }
    }

    /// The error for everything that changes the medium after a failed flush.
    pub(super) fn lost(&self) -> Option<&Error> {
        self.lost.get()
    }
}
