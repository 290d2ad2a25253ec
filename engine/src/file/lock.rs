//! One store, one owner: the lock on an open file, and who has it.
//!
//! The lock is an open-file-description lock over the whole file. It belongs
//! to the open file, not to the process, so that a second opening in the same
//! process is refused too, and it goes when the last descriptor of that
//! opening is closed, in whatever way the process ends.

use super::errno::open_error;
use crate::medium::{Error, ErrorKind, Result};
use rustix::io::Errno;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

/// What is asked of the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Among readers.
    Shared,
    /// Alone.
    Exclusive,
}

/// Takes the lock without waiting.
///
/// # Errors
/// `Busy` when somebody else has it, with the process if it can be told;
/// `Unsupported` when the file system has no locks.
pub(super) fn take(file: BorrowedFd<'_>, path: &Path, kind: Kind) -> Result<()> {
    let lock_type = match kind {
        Kind::Shared => libc::F_RDLCK,
        Kind::Exclusive => libc::F_WRLCK,
    };
    match set(file, lock_type) {
        Ok(()) => Ok(()),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(Error::new(
            ErrorKind::Busy,
            format!("{} is in use by {}", path.display(), holder(file)),
        )),
        Err(errno @ (Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS)) => Err(Error::new(
            ErrorKind::Unsupported,
            format!("{} cannot be locked on this file system: {errno}", path.display()),
        )),
        Err(errno) => Err(open_error(errno, &format!("locking {}", path.display()))),
    }
}

/// Gives the lock up, though other references to the open file may linger in
/// the kernel for a moment.
pub(super) fn release(file: BorrowedFd<'_>) {
    if let Err(errno) = set(file, libc::F_UNLCK) {
        tracing::debug!(%errno, "the lock was not given up explicitly");
    }
}

fn set(file: BorrowedFd<'_>, lock_type: libc::c_int) -> std::result::Result<(), Errno> {
    // SAFETY: `flock` is made of integers, for which zero is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    // Start and length zero: from the beginning to the end, however it grows.
    // The pid stays zero, as these locks demand.
    lock.l_type = lock_type as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the
    // command takes a pointer to a `flock`, which lives through the call.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if done == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

/// Who has a lock on the file, in words. The kernel does not tell whose an
/// open-file-description lock is, but shows in /proc which descriptor has one;
/// descriptors of other users' processes are hidden, so this is a hint.
fn holder(file: BorrowedFd<'_>) -> String {
    let unknown = || "another process".to_owned();
    let Ok(stat) = rustix::fs::fstat(file) else { return unknown() };
    let own = std::process::id();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else {
            continue;
        };
        if !locks(pid, stat.st_dev, stat.st_ino) {
            continue;
        }
        if pid == own {
            return "this process, which has it open already".to_owned();
        }
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        return format!("process {pid} ({})", name.trim_end());
    }
    unknown()
}

/// Whether a process has an open-file-description lock on an inode. Only /proc
/// is read: asking the file itself could hang where a server is gone.
fn locks(pid: u32, dev: u64, ino: u64) -> bool {
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    // As the kernel prints it: the numbers of the device in hexadecimal.
    let place = format!(" {major:02x}:{minor:02x}:{ino} ");
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let locked = |line: &str| line.contains("OFDLCK") && line.contains(&place);
        if text.lines().any(|line| line.starts_with("lock:") && locked(line)) {
            return true;
        }
    }
    false
}
