//! Opening persistent memory: what it is, whether stores to it can be made durable, and its
//! size.

use super::badblocks::{BadBlocks, Source, number, place};
use super::lines::Lines;
use super::map::{How, Map, is_dax};
use super::{Pmem, PmemMedium, Spec};
use crate::file::{Opened, open_error, open_to_map};
use crate::medium::{BLOCK, Error, ErrorKind, Geometry, Result};
use crate::memory::{MAX_BUFFER, Pool, Refused, SharedMemory};
use crate::window::MAX_DEPTH;
use rustix::fs::{FallocateFlags, FileType};
use rustix::io::Errno;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// Bytes that a store changes all or nothing.
const WORD: u32 = 8;

const READ_ONLY: &str = "the persistent memory is open for reading only";

const SHARED_FILE: &str = "other programs could write the file under a reference: copy, or open \
                           it with ?exclusive=1 if you know that none does";

/// Opens and locks what a `pmem:` URI names.
///
/// # Errors
/// As [`super::open()`].
pub(crate) fn open_locked(path: &Path, read_only: bool) -> Result<Opened> {
    let opened = open_to_map(path, read_only)?;
    if kind(&opened)? == FileType::CharacterDevice && !is_devdax(&opened, Path::new("/sys"))? {
        let text = format!("{} is a device, and no devdax device", path.display());
        return Err(Error::new(ErrorKind::Invalid, text));
    }
    Ok(opened)
}

/// Refuses what could not be opened, before anything of it is changed.
///
/// # Errors
/// `Unsupported`, with what is missing.
pub(crate) fn usable(opened: &Opened, volatile: bool, writable: bool) -> Result<()> {
    way(opened, volatile, writable).map(drop)
}

fn kind(opened: &Opened) -> Result<FileType> {
    let stat = rustix::fs::fstat(&opened.file).map_err(|e| naming(opened, e))?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

fn naming(opened: &Opened, errno: Errno) -> Error {
    open_error(errno, &format!("opening {}", opened.path.display()))
}

fn is_devdax(opened: &Opened, sys: &Path) -> Result<bool> {
    let stat = rustix::fs::fstat(&opened.file).map_err(|e| naming(opened, e))?;
    let system = fs::canonicalize(place(sys, "char", stat.st_rdev).join("subsystem"));
    Ok(system.is_ok_and(|dir| dir.file_name().is_some_and(|name| name == "dax")))
}

/// How it is to be mapped.
fn way(opened: &Opened, volatile: bool, writable: bool) -> Result<(How, Lines)> {
    let path = opened.path.display();
    let refuse = |why: String| Err(Error::new(ErrorKind::Unsupported, why));
    let Some(lines) = Lines::of_this_processor() else {
        return refuse(format!(
            "{path}: this processor has no instruction that writes a line of its caches back \
             (CLFLUSH): persistent memory needs x86-64"
        ));
    };
    if kind(opened)? == FileType::CharacterDevice {
        return Ok((How::Device, lines));
    }
    match is_dax(opened.file.as_fd(), writable) {
        Ok(()) => Ok((How::Sync, lines)),
        Err(Errno::OPNOTSUPP | Errno::INVAL) if volatile => Ok((How::Plain, lines)),
        Err(Errno::OPNOTSUPP | Errno::INVAL) => refuse(format!(
            "{path} is not on DAX: a mapping of it is the page cache, and a store there is never \
             durable by itself. Mount its file system, on persistent memory, with -o dax; or use \
             file:{path}; or add ?volatile=1 if nothing needs to outlive the machine"
        )),
        Err(errno) => Err(naming(opened, errno)),
    }
}

/// Bytes of what is open.
fn size(opened: &Opened, sys: &Path) -> Result<u64> {
    let stat = rustix::fs::fstat(&opened.file).map_err(|e| naming(opened, e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
        return Ok(u64::try_from(stat.st_size).unwrap_or(0));
    }
    let size = place(sys, "char", stat.st_rdev).join("size");
    number(&size).ok_or_else(|| {
        let text = format!("{}: its size cannot be read", size.display());
        Error::new(ErrorKind::Io, text)
    })
}

/// Gives a file all its blocks, so that no store meets a hole that cannot be filled.
fn fill(opened: &Opened, len: u64) -> Result<()> {
    loop {
        match rustix::fs::fallocate(&opened.file, FallocateFlags::empty(), 0, len) {
            Err(Errno::INTR) => {}
            Ok(()) => return Ok(()),
            Err(Errno::OPNOTSUPP) => {
                let text = format!(
                    "the file system of {} cannot allocate a file beforehand (fallocate): a \
                     store to a hole could end the process",
                    opened.path.display()
                );
                return Err(Error::new(ErrorKind::Unsupported, text));
            }
            Err(errno) => {
                let what = format!("allocating all of {}", opened.path.display());
                return Err(open_error(errno, &what));
            }
        }
    }
}

/// A medium over what is open and locked. `sys` is where sysfs is.
pub(super) fn medium(opened: Opened, uri: &str, spec: Spec, sys: &Path) -> Result<PmemMedium> {
    let (how, lines) = way(&opened, spec.volatile, !spec.read_only)?;
    let blocks = size(&opened, sys)? / BLOCK as u64;
    let path = opened.path.display();
    let bytes = usize::try_from(blocks * BLOCK as u64).ok().filter(|&b| b <= isize::MAX as usize);
    let Some(bytes @ 1..) = bytes else {
        let text = format!("{path} has {blocks} blocks of 4096 bytes: one at the least");
        return Err(Error::new(ErrorKind::Invalid, text));
    };
    if how != How::Device && !spec.read_only {
        fill(&opened, bytes as u64)?;
    }
    if how == How::Plain {
        tracing::warn!(%path, "volatile=1: what is stored outlives this process and nothing else");
    }
    let opened = Arc::new(opened);
    let map = Map::new(Arc::clone(&opened), bytes, how, !spec.read_only).map_err(|errno| {
        let text = format!("mapping {bytes} bytes of {}: {errno}", opened.path.display());
        Error::new(ErrorKind::Limit, text)
    })?;
    let file = opened.file.as_fd();
    let bad = BadBlocks::new(Source::of(file, sys), file, bytes as u64);
    let (map, writes) = (Arc::new(map), spec.read_only.then_some(READ_ONLY));
    let pmem = Arc::new(Pmem { map: Arc::clone(&map), how, lines, bad });
    let alone = spec.exclusive || how == How::Device;
    let refused = Refused { writes, references: (!alone).then_some(SHARED_FILE) };
    // SAFETY: this is the only window over the mapping, which is reached through it alone.
    let memory = unsafe { SharedMemory::over(map, bytes as u64, Arc::<Pmem>::clone(&pmem)) };
    let geometry = Geometry {
        blocks,
        lba_bytes: BLOCK as u32,
        max_transfer: MAX_BUFFER as u32,
        max_depth: MAX_DEPTH,
        atomic_bytes: WORD,
        atomic_boundary: None,
        volatile_cache: false,
        copy: true,
        deallocate: false,
        compare: true,
        window: true,
    };
    tracing::info!(uri, write_back = lines.name(), "persistent memory is open");
    Ok(PmemMedium {
        uri: uri.to_owned(),
        geometry,
        exclusive: alone,
        memory: Arc::new(memory?.refusing(refused)),
        pmem,
        pool: Pool::new(),
    })
}
