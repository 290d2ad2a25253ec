//! Opening a file or device, locking it, and finding out what it can do.

use super::errno::open_error;
use super::lock::{self, Kind};
use super::orphan;
use crate::medium::{BLOCK, Error, ErrorKind, Result};
use crate::memory::Pool;
use crate::open::OpenOptions;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long opening waits for operations that an earlier opening in this
/// process left in flight, before it calls the medium busy.
const SETTLE: Duration = Duration::from_secs(30);

/// How long it waits for a claim on a device that nobody is seen to have.
const LINGER: Duration = Duration::from_millis(500);

/// An open and locked file or device. Dropping it gives the lock up.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: OwnedFd,
    pub(crate) path: PathBuf,
    /// A block device, by its number; otherwise a regular file.
    pub(crate) device: Option<(u32, u32)>,
    /// Reads and writes bypass the page cache.
    pub(crate) direct: bool,
}

impl Drop for Opened {
    fn drop(&mut self) {
        // Explicitly, because the kernel may keep references to the open file
        // a moment longer than we do, and the next opening should succeed.
        lock::release(self.file.as_fd());
    }
}

/// Opens and locks an existing file or device.
pub(crate) fn open_locked(path: &Path, options: &OpenOptions) -> Result<Opened> {
    let naming = |errno| open_error(errno, &format!("opening {}", path.display()));
    let stat = rustix::fs::stat(path).map_err(naming)?;
    let device = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => None,
        FileType::BlockDevice => {
            Some((rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)))
        }
        FileType::Directory => return Err(naming(Errno::ISDIR)),
        _ => {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("{} is neither a file nor a block device", path.display()),
            ));
        }
    };
    // What this process itself left in flight there holds the lock; it ends
    // by itself.
    orphan::settle((stat.st_dev, stat.st_ino), SETTLE);
    let mut flags = OFlags::CLOEXEC | OFlags::NOCTTY;
    flags |= if options.read_only { OFlags::RDONLY } else { OFlags::RDWR };
    if device.is_some() && !options.read_only {
        // On a block device this refuses what is mounted or otherwise claimed.
        flags |= OFlags::EXCL;
    }
    let (file, direct) = claim(path, flags, options.direct, device)?;
    lock_opened(file.as_fd(), path, &stat, options.read_only)?;
    Ok(Opened { file, path: path.to_owned(), device, direct })
}

/// Opens and locks an existing file, or character device, that is going to be mapped. Which
/// of them it is is the caller's to ask.
pub(crate) fn open_to_map(path: &Path, read_only: bool) -> Result<Opened> {
    let naming = |errno| open_error(errno, &format!("opening {}", path.display()));
    let stat = rustix::fs::stat(path).map_err(naming)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::CharacterDevice) {
        let text = format!(
            "{} is neither a file on a DAX mount nor a devdax device: file:PATH is for others",
            path.display()
        );
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    orphan::settle((stat.st_dev, stat.st_ino), SETTLE);
    let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
    let flags = access | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(naming)?;
    lock_opened(file.as_fd(), path, &stat, read_only)?;
    Ok(Opened { file, path: path.to_owned(), device: None, direct: false })
}

/// Locks what was opened, and makes sure that it is what was looked at before.
fn lock_opened(file: BorrowedFd<'_>, path: &Path, stat: &Stat, read_only: bool) -> Result<()> {
    let naming = |errno| open_error(errno, &format!("opening {}", path.display()));
    let after = rustix::fs::fstat(file).map_err(naming)?;
    if (after.st_dev, after.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(Error::new(
            ErrorKind::Busy,
            format!("{} was replaced while it was being opened", path.display()),
        ));
    }
    lock::take(file, path, if read_only { Kind::Shared } else { Kind::Exclusive })?;
    // Whoever created it may have failed and removed it before we had the lock.
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if regular && rustix::fs::fstat(file).map_err(naming)?.st_nlink == 0 {
        return Err(naming(Errno::NOENT));
    }
    Ok(())
}

/// Opens, and on a block device waits a little for a claim that is about to
/// go: a process that this one is just starting has copies of all descriptors,
/// closed ones of a moment ago too, until its own program runs.
fn claim(
    path: &Path,
    flags: OFlags,
    direct: bool,
    device: Option<(u32, u32)>,
) -> Result<(OwnedFd, bool)> {
    let deadline = Instant::now() + LINGER;
    loop {
        let errno = match open_best(path, flags, direct) {
            Ok(opened) => return Ok(opened),
            Err(errno) => errno,
        };
        if errno != Errno::BUSY {
            return Err(open_error(errno, &format!("opening {}", path.display())));
        }
        let user = device.and_then(|number| crate::probe::System::live().device_user(number));
        if user.is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let why = user.as_deref().unwrap_or("it is open for writing already");
        return Err(Error::new(ErrorKind::Busy, format!("{} is in use: {why}", path.display())));
    }
}

/// Opens with `O_DIRECT` if that is wanted and works, else without.
fn open_best(path: &Path, flags: OFlags, direct: bool) -> rustix::io::Result<(OwnedFd, bool)> {
    if direct {
        match rustix::fs::open(path, flags | OFlags::DIRECT, Mode::empty()) {
            Ok(file) if direct_works(&file) => return Ok((file, true)),
            Ok(_) | Err(Errno::INVAL) => {
                tracing::warn!(
                    path = %path.display(),
                    "no direct I/O here: going through the page cache"
                );
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok((rustix::fs::open(path, flags, Mode::empty())?, false))
}

/// Some file systems take the flag and refuse the I/O, and some want more
/// alignment than a block has: ask, then try.
fn direct_works(file: &OwnedFd) -> bool {
    if let Some(align) = direct_alignment(file)
        && (align == 0 || align > BLOCK as u32)
    {
        return false;
    }
    let Ok(mut block) = Pool::new().take(BLOCK) else { return false };
    // An empty file reads nothing, which is fine.
    !matches!(rustix::io::pread(file, &mut block[..], 0), Err(Errno::INVAL | Errno::OPNOTSUPP))
}

/// The alignment of direct I/O that the kernel names (from Linux 6.1 on).
fn direct_alignment(file: &OwnedFd) -> Option<u32> {
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok()?;
    (stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0)
        .then_some(stat.stx_dio_offset_align.max(stat.stx_dio_mem_align))
}

/// Bytes that a device addresses, as the contract counts: 512 or 4096.
pub(super) fn lba_bytes(opened: &Opened) -> u32 {
    let size = match opened.device {
        Some(_) => rustix::fs::ioctl_blksszget(&opened.file).unwrap_or(512),
        None if opened.direct => direct_alignment(&opened.file).unwrap_or(512),
        None => 512,
    };
    if size <= 512 { 512 } else { BLOCK as u32 }
}

/// Size in bytes of an open file or device.
pub(crate) fn size_of(opened: &Opened) -> Result<u64> {
    let naming =
        |errno| open_error(errno, &format!("asking the size of {}", opened.path.display()));
    if opened.device.is_some() {
        // A device's inode has no size; its end has.
        return rustix::fs::seek(&opened.file, rustix::fs::SeekFrom::End(0)).map_err(naming);
    }
    let stat = rustix::fs::fstat(&opened.file).map_err(naming)?;
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}
