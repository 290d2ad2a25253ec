//! What the namespaces lie on: one range of bytes, with or without a volatile
//! cache over it.
//!
//! Without a cache a write is in the base when it returns: in memory, or in the
//! system's page cache, where a kill of this process does not reach it; a flush
//! makes a file durable. With a cache, what was not flushed is in this process
//! alone, and ends with it.

mod cache;
mod chunks;
mod file;
mod syncer;
#[cfg(test)]
mod tests;

use super::random::Random;
use crate::medium::Result;
use cache::Cache;
use chunks::Chunks;
use file::BackingFile;
use std::path::PathBuf;
pub(super) use syncer::Ticket;

/// The smallest piece that a crash keeps or loses, bytes.
pub(super) const SECTOR: usize = 512;

/// Where the bytes of the namespaces are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Backing {
    /// In memory: gone when the emulator ends.
    #[default]
    Memory,
    /// In a file, made if it is not there. Sparse; space is taken as it is written.
    File(PathBuf),
    /// Nowhere: commands complete at once and move no data. For measuring.
    Null,
}

/// What can go wrong below a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The file system or the memory is full.
    NoSpace,
    /// The bytes cannot be read.
    Unreadable,
    /// The bytes were not written, or not all.
    Unwritten,
    /// What was written is not known to be durable, now and for ever.
    NotDurable,
}

/// What an access to the disk gives.
pub(super) type Done<T = ()> = std::result::Result<T, Trouble>;

#[derive(Debug)]
enum Base {
    Memory(Chunks),
    File(BackingFile),
    Null,
}

impl Base {
    fn read(&self, at: u64, to: &mut [u8]) -> Done {
        match self {
            Base::Memory(chunks) => {
                chunks.read(at, to);
                Ok(())
            }
            Base::File(file) => file.read(at, to),
            Base::Null => {
                to.fill(0);
                Ok(())
            }
        }
    }

    fn write(&mut self, at: u64, from: &[u8]) -> Done {
        match self {
            Base::Memory(chunks) => chunks.write(at, from),
            Base::File(file) => file.write(at, from),
            Base::Null => Ok(()),
        }
    }

    fn zero(&mut self, at: u64, len: u64, deallocate: bool) -> Done {
        match self {
            Base::Memory(chunks) => {
                chunks.zero(at, len);
                Ok(())
            }
            Base::File(file) => file.zero(at, len, deallocate),
            Base::Null => Ok(()),
        }
    }

    fn sync(&self) -> Done {
        match self {
            Base::File(file) => file.sync(),
            Base::Memory(_) | Base::Null => Ok(()),
        }
    }

    fn is_broken(&self) -> bool {
        matches!(self, Base::File(file) if file.is_broken())
    }
}

/// How a disk is made.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) backing: &'a Backing,
    /// Bytes, a multiple of 4096.
    pub(super) len: u64,
    /// Unflushed writes live in a cache of this process, destaged in pieces of so
    /// many bytes: a power of two from [`SECTOR`] to 4096.
    pub(super) cache: Option<usize>,
    pub(super) seed: u64,
}

/// Bytes of zeroes that a cache takes; longer runs go to the base at once.
const CACHED_ZEROES: u64 = 64 << 10;

/// The bytes of all namespaces.
#[derive(Debug)]
pub(super) struct Disk {
    base: Base,
    cache: Option<Cache>,
}

impl Disk {
    /// Opens or makes what the plan says.
    ///
    /// # Errors
    /// A file that cannot be made, is in use, or has another size.
    pub(super) fn open(plan: &Plan<'_>) -> Result<Self> {
        let base = match plan.backing {
            Backing::Memory => Base::Memory(Chunks::new(plan.len)),
            Backing::File(path) => Base::File(BackingFile::open(path, plan.len)?),
            Backing::Null => Base::Null,
        };
        let cache = plan.cache.map(|unit| Cache::new(unit, Random::new(plan.seed)));
        Ok(Self { base, cache })
    }

    /// Whether no data moves at all.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.base, Base::Null)
    }

    /// Whether a completed write may be lost before a flush: with a cache of our
    /// own, and in the system's page cache of a file.
    pub(super) fn is_volatile(&self) -> bool {
        self.cache.is_some() || matches!(self.base, Base::File(_))
    }

    /// Whether each access is a call of the system.
    pub(super) fn is_slow(&self) -> bool {
        matches!(self.base, Base::File(_))
    }

    /// Whether space is taken as it is written.
    pub(super) fn is_thin(&self) -> bool {
        !self.is_null()
    }

    /// Two numbers that name a file for as long as it lives: device and inode.
    pub(super) fn identity(&self) -> Option<(u64, u64)> {
        match &self.base {
            Base::File(file) => Some(file.identity()),
            Base::Memory(_) | Base::Null => None,
        }
    }

    /// Bytes of a range that take space; never more than `len`.
    pub(super) fn allocated(&self, at: u64, len: u64) -> u64 {
        match &self.base {
            Base::Memory(chunks) => chunks.allocated(at, len),
            Base::File(file) => file.allocated(at, len),
            Base::Null => len,
        }
    }

    /// Whether a flush has failed: the system may have dropped what it could not write, so that
    /// no later flush can promise anything.
    pub(super) fn is_broken(&self) -> bool {
        self.base.is_broken()
    }

    /// The bytes themselves, where they lie in memory in one piece.
    pub(super) fn bytes(&self, at: u64, len: usize) -> Option<&[u8]> {
        match (&self.base, &self.cache) {
            (Base::Memory(chunks), None) => chunks.slice(at, len),
            _ => None,
        }
    }

    /// The bytes themselves, to be written.
    pub(super) fn bytes_mut(&mut self, at: u64, len: usize) -> Option<&mut [u8]> {
        match (&mut self.base, &self.cache) {
            (Base::Memory(chunks), None) => chunks.slice_mut(at, len),
            _ => None,
        }
    }

    /// Reads what was written last.
    pub(super) fn read(&self, at: u64, to: &mut [u8]) -> Done {
        self.base.read(at, to)?;
        if let Some(cache) = &self.cache {
            cache.overlay(at, to);
        }
        Ok(())
    }

    /// Writes; durable on return if `through`, otherwise after a flush.
    pub(super) fn write(&mut self, at: u64, from: &[u8], through: bool) -> Done {
        if through && self.is_broken() {
            return Err(Trouble::NotDurable);
        }
        match &mut self.cache {
            Some(cache) if !through => {
                cache.make_room(&mut self.base)?;
                cache.write(at, from);
                cache.destage_some(&mut self.base);
                Ok(())
            }
            cache => {
                self.base.write(at, from)?;
                if let Some(cache) = cache {
                    cache.forget(at, from.len() as u64);
                }
                if through { self.base.sync() } else { Ok(()) }
            }
        }
    }

    /// Writes through any cache, and begins to make it durable: a flush to wait for, or none.
    pub(super) fn write_through(&mut self, at: u64, from: &[u8]) -> Done<Option<Ticket>> {
        if self.is_broken() {
            return Err(Trouble::NotDurable);
        }
        self.base.write(at, from)?;
        if let Some(cache) = &mut self.cache {
            cache.forget(at, from.len() as u64);
        }
        self.begin_sync()
    }

    /// Zeroes a range; `deallocate` gives its space back where that is possible.
    pub(super) fn zero(&mut self, at: u64, len: u64, deallocate: bool, through: bool) -> Done {
        if through && self.is_broken() {
            return Err(Trouble::NotDurable);
        }
        match &mut self.cache {
            Some(cache) if !through && len <= CACHED_ZEROES => {
                cache.make_room(&mut self.base)?;
                cache.zero(at, len);
                cache.destage_some(&mut self.base);
                return Ok(());
            }
            _ => self.base.zero(at, len, deallocate)?,
        }
        // What the cache has of it is older than the zeroes.
        if let Some(cache) = &mut self.cache {
            cache.forget(at, len);
        }
        if through { self.base.sync() } else { Ok(()) }
    }

    /// Makes everything that was written before durable.
    pub(super) fn flush(&mut self) -> Done {
        self.destage()?;
        self.base.sync()
    }

    /// Begins that: a flush to wait for, or none where it is over.
    pub(super) fn begin_flush(&mut self) -> Done<Option<Ticket>> {
        self.destage()?;
        self.begin_sync()
    }

    fn destage(&mut self) -> Done {
        if self.is_broken() {
            return Err(Trouble::NotDurable);
        }
        match &mut self.cache {
            Some(cache) => cache.destage_all(&mut self.base),
            None => Ok(()),
        }
    }

    fn begin_sync(&mut self) -> Done<Option<Ticket>> {
        if let Base::File(file) = &mut self.base
            && let Some(flush) = file.begin_sync()
        {
            return Ok(Some(flush));
        }
        self.base.sync().map(|()| None)
    }

    /// What came of a flush that was begun, once it has ended.
    pub(super) fn synced(&self, flush: Ticket) -> Option<Done> {
        match &self.base {
            Base::File(file) => file.synced(flush),
            Base::Memory(_) | Base::Null => Some(Ok(())),
        }
    }
}
