//! Bytes of persistent memory that are known to be damaged: what the kernel says of the
//! device, in terms of what is mapped of it.
//!
//! A load of a damaged line ends the process, so nothing here touches one: operations on
//! such blocks are refused. A block that is written whole through the kernel is sound again.

use super::fiemap::{Piece, extents};
use crate::medium::{BLOCK, Error, ErrorKind, Result};
use rustix::fs::FileType;
use std::fs;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes of the unit of the kernel's lists.
const SECTOR: u64 = 512;

/// The damaged blocks of a mapping.
#[derive(Debug)]
pub(super) struct BadBlocks {
    /// Whether there are any, so that asking costs a load where there are none.
    any: AtomicBool,
    /// Ranges of bytes of the mapping, ordered, of whole blocks.
    bytes: Mutex<Vec<Range<u64>>>,
    source: Source,
}

/// Where the kernel's list is, and how its places become those of the mapping.
#[derive(Debug)]
pub(super) enum Source {
    /// There is no such list, or nobody knows whose.
    None,
    /// That of a disk on which the file lies: the list, and the first byte of the file system's
    /// partition of it.
    Disk { list: PathBuf, start: u64 },
    /// That of a region of which a devdax device is a part: the list, and the part's first byte.
    Region { list: PathBuf, start: u64 },
}

impl Source {
    /// Of what is open; `sys` is where sysfs is.
    pub(super) fn of(file: BorrowedFd<'_>, sys: &Path) -> Self {
        let Ok(stat) = rustix::fs::fstat(file) else { return Self::None };
        let found = match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => region(&place(sys, "char", stat.st_rdev)),
            _ => disk(&place(sys, "block", stat.st_dev)),
        };
        found.unwrap_or(Self::None)
    }
}

/// A device's place in sysfs.
pub(super) fn place(sys: &Path, kind: &str, number: u64) -> PathBuf {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    sys.join(format!("dev/{kind}/{major}:{minor}"))
}

/// The list of a disk, or of the disk of a partition.
fn disk(device: &Path) -> Option<Source> {
    let device = fs::canonicalize(device).ok()?;
    let own = device.join("badblocks");
    if own.exists() {
        return Some(Source::Disk { list: own, start: 0 });
    }
    let list = device.parent()?.join("badblocks");
    let start = number(&device.join("start"))?.checked_mul(SECTOR)?;
    list.exists().then_some(Source::Disk { list, start })
}

/// The list of the region above a devdax device. Where the device begins is told to root
/// alone.
fn region(device: &Path) -> Option<Source> {
    let device = fs::canonicalize(device).ok()?;
    let first = number(&device.join("resource"))?;
    let mut above = device.parent();
    while let Some(dir) = above {
        let list = dir.join("badblocks");
        if list.exists() {
            let start = first.checked_sub(number(&dir.join("resource"))?)?;
            return Some(Source::Region { list, start });
        }
        above = dir.parent();
    }
    None
}

/// A number in a file, decimal or hexadecimal.
pub(super) fn number(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A list of the kernel: first sector and number of them, in lines. What is no such line is
/// left out.
fn parse(text: &str) -> Vec<Range<u64>> {
    let range = |line: &str| {
        let mut words = line.split_ascii_whitespace().map(str::parse::<u64>);
        let (first, count) = (words.next()?.ok()?, words.next()?.ok()?);
        let start = first.checked_mul(SECTOR)?;
        Some(start..start.checked_add(count.checked_mul(SECTOR)?)?)
    };
    text.lines().filter_map(range).collect()
}

/// Damaged bytes of a device as whole blocks of a file that lies there in pieces.
fn in_file(bad: &[Range<u64>], pieces: &[Piece], len: u64) -> Vec<Range<u64>> {
    let block = BLOCK as u64;
    let mut out = Vec::new();
    for &(at, on_device, count) in pieces {
        for range in bad {
            let from = range.start.max(on_device);
            let to = range.end.min(on_device.saturating_add(count));
            if from < to {
                let first = (at + (from - on_device)) / block * block;
                let end = (at + (to - on_device)).div_ceil(block).saturating_mul(block);
                out.push(first..end.min(len));
            }
        }
    }
    out.retain(|range: &Range<u64>| range.start < range.end);
    out.sort_by_key(|range| range.start);
    out
}

impl BadBlocks {
    /// What the source says now.
    pub(super) fn new(source: Source, file: BorrowedFd<'_>, len: u64) -> Self {
        let bad = Self { any: AtomicBool::new(false), bytes: Mutex::default(), source };
        bad.look(file, len);
        bad
    }

    /// Asks the kernel anew.
    pub(super) fn look(&self, file: BorrowedFd<'_>, len: u64) {
        let (list, pieces) = match &self.source {
            Source::None => return,
            Source::Disk { list, start } => match read(list) {
                bad if bad.is_empty() => (bad, Vec::new()),
                bad => (bad, pieces(file, len, *start)),
            },
            Source::Region { list, start } => (read(list), vec![(0, *start, len)]),
        };
        self.set(in_file(&list, &pieces, len));
    }

    fn set(&self, bytes: Vec<Range<u64>>) {
        let mut old = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        if *old != bytes && !bytes.is_empty() {
            tracing::error!(?bytes, "persistent memory is damaged: these bytes are not touched");
        }
        self.any.store(!bytes.is_empty(), Ordering::Release);
        *old = bytes;
    }

    /// Those that have bytes of a range.
    fn among(&self, offset: u64, len: u64) -> Vec<Range<u64>> {
        if !self.any.load(Ordering::Acquire) || len == 0 {
            return Vec::new();
        }
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let end = offset.saturating_add(len);
        bytes.iter().filter(|bad| bad.start < end && offset < bad.end).cloned().collect()
    }

    /// How many bytes.
    pub(super) fn count(&self) -> u64 {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.iter().map(|range| range.end - range.start).sum()
    }

    /// Whether none of these bytes is damaged.
    ///
    /// # Errors
    /// `Io`, with the place.
    pub(super) fn intact(&self, offset: u64, len: u64) -> Result<()> {
        match self.among(offset, len).first() {
            None => Ok(()),
            Some(bad) => Err(damaged(bad)),
        }
    }

    /// Makes blocks sound that are about to be written whole, by writing zeroes to them
    /// through the kernel.
    ///
    /// # Errors
    /// `Io` where a damaged block would be written in part, or the kernel does not mend it.
    pub(super) fn mend(&self, file: BorrowedFd<'_>, offset: u64, len: u64) -> Result<()> {
        for bad in self.among(offset, len) {
            let end = offset + len;
            let (from, to) = (bad.start.max(offset), bad.end.min(end));
            let block = BLOCK as u64;
            if !from.is_multiple_of(block) || !to.is_multiple_of(block) {
                return Err(damaged(&bad));
            }
            for at in (from..to).step_by(BLOCK) {
                zero(file, at).map_err(|why| {
                    let text = format!("{} {why}", damaged(&bad).message());
                    Error::new(ErrorKind::Io, text)
                })?;
            }
            self.forget(from..to);
        }
        Ok(())
    }

    /// Takes a range off the list.
    fn forget(&self, gone: Range<u64>) {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = |bad: &Range<u64>| {
            let before = bad.start..bad.end.min(gone.start);
            let behind = bad.start.max(gone.end)..bad.end;
            [before, behind].into_iter().filter(|range| range.start < range.end)
        };
        *bytes = bytes.iter().flat_map(cut).collect();
        self.any.store(!bytes.is_empty(), Ordering::Release);
    }
}

fn damaged(bad: &Range<u64>) -> Error {
    let (first, end) = (bad.start / BLOCK as u64, bad.end / BLOCK as u64);
    let text = format!(
        "blocks {first}..{end} of the persistent memory are damaged (badblocks): whoever writes \
         them whole makes them sound, and their bytes are lost"
    );
    Error::new(ErrorKind::Io, text)
}

/// Writes a block of zeroes through the kernel, to the device.
fn zero(file: BorrowedFd<'_>, at: u64) -> rustix::io::Result<()> {
    let written = rustix::io::pwrite(file, &[0; BLOCK], at)?;
    if written != BLOCK {
        return Err(rustix::io::Errno::IO);
    }
    rustix::fs::fdatasync(file)
}

/// Where a file lies on its disk, as far as the kernel tells.
fn pieces(file: BorrowedFd<'_>, len: u64, start: u64) -> Vec<Piece> {
    let (mut pieces, error) = extents(file, len);
    if let Some(error) = error {
        tracing::warn!(%error, "which blocks of the file are damaged cannot be told");
    }
    for (_, on_device, _) in &mut pieces {
        *on_device = on_device.saturating_add(start);
    }
    pieces
}

fn read(list: &Path) -> Vec<Range<u64>> {
    parse(&fs::read_to_string(list).unwrap_or_default())
}

#[cfg(test)]
mod tests;
