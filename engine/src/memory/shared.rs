//! Memory that several threads read and write at the same time.
//!
//! Bounds are checked here, and the window's ledger is asked, so that no copy
//! meets a reference; how bytes move without a data race is `copy`'s business.
//! References are made in `view` alone, under a booking in the ledger.

use super::copy;
use super::ledger::{Access, Ledger, MOST_BLOCKS, Touch};
use super::map::Mapping;
use super::persist::{Persistence, Volatile};
use super::stream;
use crate::bus::{InFile, Mmio};
use crate::medium::{BLOCK, Error, ErrorKind, Result, Window};
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

/// Bytes of the longest window.
const MOST: usize = isize::MAX as usize;

/// What the bytes are.
enum Bytes {
    /// Memory of this process.
    Own(Mapping),
    /// Memory of a device: where it lies is told once, and it stays.
    Device { base: NonNull<u8>, len: usize, memory: Arc<dyn Mmio> },
}

// SAFETY: an address and a length, and what keeps the bytes mapped, which may go away on any
// thread. Who may touch them is decided by the ledger.
unsafe impl Send for Bytes {}
// SAFETY: as above: `&Bytes` only tells where they are.
unsafe impl Sync for Bytes {}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bytes").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Bytes {
    fn base(&self) -> NonNull<u8> {
        match self {
            Bytes::Own(map) => map.base(),
            Bytes::Device { base, .. } => *base,
        }
    }

    fn len(&self) -> usize {
        match self {
            Bytes::Own(map) => map.len(),
            Bytes::Device { len, .. } => *len,
        }
    }

    /// As [`Mapping::discard`]; a device's memory is not given back.
    ///
    /// # Safety
    /// As there.
    unsafe fn discard(&self, offset: usize, len: usize) -> bool {
        match self {
            // SAFETY: the caller's promise is the same.
            Bytes::Own(map) => unsafe { map.discard(offset, len) },
            Bytes::Device { .. } => false,
        }
    }
}

/// A range of memory that is read and written by copies from any number of
/// threads at once, and through the views that have booked parts of it.
/// What overlapping copies leave is any mixture.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    map: Bytes,
    ledger: Ledger,
    persistence: Arc<dyn Persistence>,
    /// Whether large copies go past the caches.
    streams: bool,
    refused: Refused,
}

/// What a window does not give, and why.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Refused {
    /// Whatever writes.
    pub(crate) writes: Option<&'static str>,
    /// Views that give references on a window that others reach.
    pub(crate) references: Option<&'static str>,
}

impl SharedMemory {
    /// `len` bytes of zeroes, a multiple of 4096; taken from the system only
    /// as they are written.
    ///
    /// # Errors
    /// `Invalid` for a bad length, `Limit` when the system has no such range.
    pub(crate) fn new(len: u64) -> Result<Self> {
        match usize::try_from(len) {
            Ok(bytes) if bytes > 0 && bytes.is_multiple_of(BLOCK) && bytes <= MOST => {
                let map = Bytes::Own(Mapping::new(bytes)?);
                Ok(Self::with(map, Arc::new(Volatile)))
            }
            _ => Err(Error::new(
                ErrorKind::Invalid,
                format!("a size of {len} bytes is not a multiple of 4096 that fits in memory"),
            )),
        }
    }

    /// The first `len` bytes of a device's memory as a window, as far as they are whole
    /// blocks.
    ///
    /// # Safety
    /// Nobody of this process reaches these bytes but through the value: no other window is
    /// made over them, and no register is accessed there.
    ///
    /// # Errors
    /// `Invalid` for less than a block, and for more than there is.
    pub(crate) unsafe fn over(
        memory: Arc<dyn Mmio>,
        len: u64,
        persistence: Arc<dyn Persistence>,
    ) -> Result<Self> {
        let base = memory.base();
        let whole = usize::try_from(len).map(|len| len / BLOCK * BLOCK);
        let Ok(len) = whole.map_err(|_| ()).and_then(|len| match len {
            1..=MOST if len <= memory.len() => Ok(len),
            _ => Err(()),
        }) else {
            let text = format!("a window of {len} bytes over {} of a device", memory.len());
            return Err(Error::new(ErrorKind::Invalid, text));
        };
        let map = Bytes::Device { base, len, memory };
        Ok(Self::with(map, persistence))
    }

    fn with(map: Bytes, persistence: Arc<dyn Persistence>) -> Self {
        let streams = persistence.streams();
        Self { map, ledger: Ledger::default(), persistence, streams, refused: Refused::default() }
    }

    /// The same, without writes or some sorts of views.
    pub(crate) fn refusing(self, refused: Refused) -> Self {
        Self { refused, ..self }
    }

    /// Whether it can be stored to.
    fn takes_stores(&self) -> Result<()> {
        match self.refused.writes {
            Some(why) => Err(Error::new(ErrorKind::Permission, why)),
            None => self.persistence.sound(true),
        }
    }

    /// What it does not give.
    pub(crate) fn refused(&self) -> Refused {
        self.refused
    }

    /// Copies private memory into the window, by the way that suits it.
    ///
    /// # Safety
    /// As [`copy::store`].
    pub(super) unsafe fn put(&self, to: *mut u8, from: *const u8, len: usize) {
        // SAFETY: the caller's promise is the same.
        unsafe { self.put_past(to, from, len, stream::FROM) };
    }

    /// The same; so many bytes or more go past the caches, if any do.
    ///
    /// # Safety
    /// As [`copy::store`].
    unsafe fn put_past(&self, to: *mut u8, from: *const u8, len: usize, least: usize) {
        // SAFETY: the caller's promise is the same.
        unsafe {
            if self.streams && len >= least {
                stream::copy(to, from, len);
            } else {
                copy::store(to, from, len);
            }
        }
    }

    /// How its stores become durable.
    pub(crate) fn persistence(&self) -> &dyn Persistence {
        &*self.persistence
    }

    /// Bytes in it.
    pub(crate) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// It is no memory of this process's own.
    pub(super) fn is_device(&self) -> bool {
        matches!(self.map, Bytes::Device { .. })
    }

    /// The file that has it, if it can be mapped from it once more.
    pub(super) fn file(&self) -> Option<InFile<'_>> {
        match &self.map {
            Bytes::Own(_) => None,
            Bytes::Device { memory, .. } => memory.file(),
        }
    }

    /// Who uses which blocks.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Checks a range and gives its first byte.
    pub(super) fn range(&self, offset: u64, len: u64) -> Result<*mut u8> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len() => {
                // SAFETY: `offset` is at most the length of the mapping.
                Ok(unsafe { self.map.base().as_ptr().add(offset as usize) })
            }
            _ => Err(Error::new(
                ErrorKind::Invalid,
                format!("bytes {offset}..+{len} lie outside the {} of the medium", self.len()),
            )),
        }
    }

    /// The byte at an offset.
    ///
    /// # Safety
    /// The offset is at most the length.
    #[inline]
    pub(super) unsafe fn place(&self, offset: u64) -> *mut u8 {
        // SAFETY: by the caller's promise it is in the mapping or at its end.
        unsafe { self.map.base().as_ptr().add(offset as usize) }
    }

    /// Checks that a range lies inside and can be read.
    ///
    /// # Errors
    /// `Invalid` outside the memory, `Io` where it is damaged.
    pub(super) fn check(&self, offset: u64, len: u64) -> Result<()> {
        self.range(offset, len)?;
        self.persistence.intact(offset, len)
    }

    /// Begins to make earlier stores to a range durable; a fence ends it.
    ///
    /// # Errors
    /// `Invalid` outside the memory.
    pub(crate) fn write_back(&self, offset: u64, len: u64) -> Result<()> {
        let at = self.range(offset, len)?;
        self.persistence.write_back(at, len as usize);
        Ok(())
    }

    /// As [`Self::write_back`], of bytes that were just [put](Self::put) there in one piece:
    /// what went past the caches needs none.
    ///
    /// # Errors
    /// As there.
    pub(super) fn write_back_put(&self, offset: u64, len: u64) -> Result<()> {
        self.write_back_past(offset, len, stream::FROM)
    }

    fn write_back_past(&self, offset: u64, len: u64, least: usize) -> Result<()> {
        if !self.streams || len < least as u64 {
            return self.write_back(offset, len);
        }
        let at = self.range(offset, len)?;
        for (skip, len) in stream::edges(at.addr(), len as usize) {
            self.persistence.write_back(at.wrapping_add(skip), len);
        }
        Ok(())
    }

    /// Makes earlier stores of this thread to a range durable.
    ///
    /// # Errors
    /// `Invalid` outside the memory; what the device says.
    pub(crate) fn persist(&self, offset: u64, len: u64) -> Result<()> {
        self.write_back(offset, len)?;
        self.persistence.fence()
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// `Invalid` outside the memory; `Busy` where somebody has it exclusively.
    pub(crate) fn load(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        let from = self.range(offset, to.len() as u64)?;
        self.persistence.intact(offset, to.len() as u64)?;
        self.ledger.copy(&blocks(offset, to.len() as u64), Access::Read, || {
            // SAFETY: the range was checked; while the ledger runs this, nobody
            // has a `&mut` into it. `to` is a reference, so it is private and
            // outside this mapping, or in blocks that a view has exclusively,
            // which are others. The words around the range exist because the
            // mapping is made of whole pages.
            unsafe { copy::load(to.as_mut_ptr(), from, to.len()) };
        })
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// `Invalid` outside the memory; `Busy` where somebody has a reference.
    pub(crate) fn store(&self, offset: u64, from: &[u8]) -> Result<()> {
        self.store_past(offset, from, stream::FROM)
    }

    fn store_past(&self, offset: u64, from: &[u8], least: usize) -> Result<()> {
        let (to, len) = (self.range(offset, from.len() as u64)?, from.len() as u64);
        let stored = self.ledger.copy(&blocks(offset, len), Access::Write, || {
            self.persistence.mend(offset, len)?;
            // SAFETY: as in `load`, and nobody has a `&` into it either.
            unsafe { self.put_past(to, from.as_ptr(), from.len(), least) };
            Ok(())
        });
        stored?
    }
}

impl Window for SharedMemory {
    fn load(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        self.persistence.sound(false)?;
        SharedMemory::load(self, offset, to)
    }

    fn store(&self, offset: u64, from: &[u8]) -> Result<()> {
        self.takes_stores()?;
        SharedMemory::store(self, offset, from)
    }

    fn persist(&self, offset: u64, len: u64) -> Result<()> {
        self.persistence.sound(false)?;
        SharedMemory::persist(self, offset, len)
    }

    fn store_nodrain(&self, offset: u64, from: &[u8]) -> Result<()> {
        self.takes_stores()?;
        self.store_past(offset, from, stream::FROM_UNREAD)?;
        self.write_back_past(offset, from.len() as u64, stream::FROM_UNREAD)
    }

    fn drain(&self, _ranges: &[(u64, u64)]) -> Result<()> {
        // Their lines are on the way already.
        self.persistence.sound(false)?;
        self.persistence.fence()
    }
}

/// The blocks that have bytes of a range.
pub(super) fn blocks(offset: u64, len: u64) -> Range<u64> {
    let block = BLOCK as u64;
    offset / block..(offset + len).div_ceil(block)
}

/// How one queue reaches the memory: by copies that the ledger lets pass.
#[derive(Debug)]
pub(crate) struct Port {
    memory: Arc<SharedMemory>,
    touch: Arc<Touch>,
}

impl Port {
    /// A port for a queue, which one thread at a time uses.
    pub(crate) fn new(memory: Arc<SharedMemory>) -> Self {
        let touch = memory.ledger.enlist();
        Self { memory, touch }
    }

    /// Runs what touches one or two ranges of whole blocks, if the ledger lets it.
    fn pass(
        &mut self,
        first: (Range<u64>, Access),
        second: Option<(Range<u64>, Access)>,
        run: impl FnOnce(&SharedMemory) -> Result<()>,
    ) -> Result<()> {
        if first.0.is_empty() {
            return Ok(());
        }
        let memory = &*self.memory;
        memory.ledger.touch(&self.touch, first, second, || run(memory))?
    }

    /// Copies whole blocks out.
    ///
    /// # Errors
    /// `Invalid` outside the memory or for parts of blocks; `Busy` where somebody
    /// has the blocks exclusively.
    pub(crate) fn load(&mut self, offset: u64, to: &mut [u8]) -> Result<()> {
        let (from, range) = self.whole(offset, to.len() as u64)?;
        self.pass((range, Access::Read), None, |memory| {
            memory.persistence.intact(offset, to.len() as u64)?;
            // SAFETY: as in `SharedMemory::load`.
            unsafe { copy::load(to.as_mut_ptr(), from, to.len()) };
            Ok(())
        })
    }

    /// Copies whole blocks in.
    ///
    /// # Errors
    /// `Invalid` outside the memory or for parts of blocks; `Busy` where somebody
    /// has a reference.
    pub(crate) fn store(&mut self, offset: u64, from: &[u8]) -> Result<()> {
        let (to, range) = self.whole(offset, from.len() as u64)?;
        self.pass((range, Access::Write), None, |memory| {
            memory.persistence.mend(offset, from.len() as u64)?;
            // SAFETY: as in `SharedMemory::store`.
            unsafe { memory.put(to, from.as_ptr(), from.len()) };
            Ok(())
        })
    }

    /// Copies whole blocks to other blocks.
    ///
    /// # Errors
    /// `Invalid` outside the memory, for parts of blocks, for an overlap; `Busy`
    /// where somebody has a reference.
    pub(crate) fn transfer(&mut self, from: u64, to: u64, len: u64) -> Result<()> {
        let _ = (self.whole(from, len)?, self.whole(to, len)?);
        if from.abs_diff(to) < len {
            return Err(Error::new(ErrorKind::Invalid, "a copy onto its own source"));
        }
        for (at, count) in steps(len) {
            let (source, sources) = self.whole(from + at, count)?;
            let (target, targets) = self.whole(to + at, count)?;
            let second = Some((sources, Access::Read));
            self.pass((targets, Access::Write), second, |memory| {
                memory.persistence.intact(from + at, count)?;
                memory.persistence.mend(to + at, count)?;
                // SAFETY: both ranges were checked, are made of blocks and do
                // not overlap; the ledger keeps references away.
                unsafe {
                    match memory.streams {
                        true => stream::copy(target, source, count as usize),
                        false => copy::transfer(target, source, count as usize),
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Zeroes whole blocks.
    ///
    /// # Errors
    /// `Invalid` outside the memory or for parts of blocks; `Busy` where somebody
    /// has a reference.
    pub(crate) fn zero(&mut self, offset: u64, len: u64) -> Result<()> {
        self.clear(offset, len, false)
    }

    /// Zeroes whole blocks and gives their pages back to the system.
    ///
    /// # Errors
    /// As [`Self::zero`].
    pub(crate) fn discard(&mut self, offset: u64, len: u64) -> Result<()> {
        self.clear(offset, len, true)
    }

    fn clear(&mut self, offset: u64, len: u64, discard: bool) -> Result<()> {
        self.whole(offset, len)?;
        for (at, count) in steps(len) {
            let (to, range) = self.whole(offset + at, count)?;
            self.pass((range, Access::Write), None, |memory| {
                memory.persistence.mend(offset + at, count)?;
                // SAFETY: the range was checked, is made of blocks, and the
                // ledger keeps references away.
                unsafe {
                    if discard && memory.map.discard((offset + at) as usize, count as usize) {
                    } else if memory.streams {
                        stream::zero(to, count as usize);
                    } else {
                        copy::zero(to, count as usize);
                    }
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Checks a range of whole blocks; its first byte, and the blocks.
    fn whole(&self, offset: u64, len: u64) -> Result<(*mut u8, Range<u64>)> {
        if !offset.is_multiple_of(BLOCK as u64) || !len.is_multiple_of(BLOCK as u64) {
            return Err(Error::new(ErrorKind::Invalid, "the range is not made of whole blocks"));
        }
        Ok((self.memory.range(offset, len)?, blocks(offset, len)))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.memory.ledger.dismiss(&self.touch);
    }
}

/// Cuts a length into parts that the ledger can name: start and length.
fn steps(len: u64) -> impl Iterator<Item = (u64, u64)> {
    let step = MOST_BLOCKS * BLOCK as u64;
    (0..len.div_ceil(step)).map(move |i| (i * step, step.min(len - i * step)))
}

#[cfg(test)]
mod tests;
