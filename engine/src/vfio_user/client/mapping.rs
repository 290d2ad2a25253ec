//! Register pages that a server shares, mapped into this process.
//!
//! Touching a mapping past the end of its file is a signal (SIGBUS) that ends the
//! process, and a server can shorten a file that it has shared. So a file is mapped only
//! where it cannot shrink, or where its owner could end this process anyhow; see
//! docs/decisions/0018. Everything else goes by messages.

use super::Mapping;
use crate::bus::{InFile, Mapped, Mmio};
use crate::medium::{Error, ErrorKind, Result};
use crate::vfio_user::socket::Peer;
use rustix::fs::{FileType, SealFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

/// The file system of sealed memory (linux/magic.h, `TMPFS_MAGIC`). Files of huge pages
/// are on another one: touching a hole of those can fail, and be a signal, though they be
/// sealed.
const TMPFS: i64 = 0x0102_1994;

/// The user that stands for all whom this process's name space does not know
/// (user_namespaces(7)).
const OVERFLOW_UID: u32 = 65534;

/// Whether a peer could end this process at any time.
pub(super) fn can_kill_us(peer: Option<Peer>) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    peer.is_some_and(|peer| peer.uid != OVERFLOW_UID && (peer.uid == 0 || peer.uid == ours))
}

/// Whether a file may be mapped, by what was asked for and what the file is.
pub(super) fn may_map(file: BorrowedFd<'_>, wanted: Mapping, peer: Option<Peer>) -> bool {
    match wanted {
        Mapping::Never => false,
        Mapping::Sealed => cannot_shrink(file),
        Mapping::Careful => cannot_shrink(file) || can_kill_us(peer),
        Mapping::Trusting => true,
    }
}

fn cannot_shrink(file: BorrowedFd<'_>) -> bool {
    let sealed = rustix::fs::fcntl_get_seals(file).is_ok_and(|s| s.contains(SealFlags::SHRINK));
    sealed && rustix::fs::fstatfs(file).is_ok_and(|fs| fs.f_type == TMPFS)
}

/// Pages of a server's file.
#[derive(Debug)]
pub(super) struct Pages {
    mapped: Mapped,
    /// A descriptor of our own, if there was one to be had, and where the pages are in it.
    file: Option<(OwnedFd, u64)>,
}

// SAFETY: `map` made the mapping page-aligned, for reading and writing, with all its bytes
// inside the file, and only of a file that `may_map`; it lasts until the drop. No
// reference is ever made to it.
unsafe impl Mmio for Pages {
    fn base(&self) -> NonNull<u8> {
        self.mapped.base()
    }

    fn len(&self) -> usize {
        self.mapped.len()
    }

    fn file(&self) -> Option<InFile<'_>> {
        let (file, offset) = self.file.as_ref()?;
        Some(InFile { file: file.as_fd(), offset: *offset, sync: false })
    }
}

impl Pages {
    /// Maps `len` bytes at `offset` of a file.
    ///
    /// # Errors
    /// `Invalid` when the file has no such bytes or is no file; `Limit` when the system
    /// refuses. The caller then uses messages.
    pub(super) fn map(file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<Self> {
        let invalid = |text: String| Error::new(ErrorKind::Invalid, text);
        let page = rustix::param::page_size() as u64;
        let stat = rustix::fs::fstat(file).map_err(|e| invalid(format!("not a file: {e}")))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(invalid("what a region is in is no regular file".into()));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let inside = offset.checked_add(len).is_some_and(|end| end <= size);
        if !inside || len == 0 || !offset.is_multiple_of(page) {
            return Err(invalid(format!("no bytes {offset}..+{len} in a file of {size} bytes")));
        }
        let limit = |e| Error::new(ErrorKind::Limit, format!("cannot map registers: {e}"));
        let mapped = Mapped::new(file, offset, len).map_err(limit)?;
        let file = file.try_clone_to_owned().ok().map(|file| (file, offset));
        Ok(Self { mapped, file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_could_end_this_process() {
        let ours = rustix::process::geteuid().as_raw();
        let by = |uid| can_kill_us(Some(Peer { pid: 1, uid }));
        assert!(by(0));
        assert_eq!(by(ours), ours != OVERFLOW_UID);
        assert!(!by(OVERFLOW_UID) && !by(ours.wrapping_add(77_001)) && !can_kill_us(None));
    }
}
