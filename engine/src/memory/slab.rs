//! The memory of a pool with a device behind it: few large sealed files, each known to
//! the device as one map, cut into pieces.
//!
//! Peers allow few maps (some 16), while a pool has many regions and each queue has
//! pages of its own; so maps are shared. A slab stays as it is until the pool, its last
//! buffer and its last pages are gone.

use super::backing::{Backing, RegionInfo, lost};
use super::ranges::Ranges;
use super::sealed::{HUGE, Sealed};
use crate::bus::Mmio;
use crate::medium::{Error, ErrorKind, Result};
use std::fmt;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The longest slab, but for a piece that is longer itself.
const LONGEST: usize = 64 << 20;

/// All slabs of one pool.
pub(super) struct Slabs {
    backing: Arc<dyn Backing>,
    list: Mutex<Vec<Slab>>,
    /// Held while a slab is made: the device is asked, and nobody who only gives
    /// back must wait for its answer.
    growing: Mutex<()>,
    lost: AtomicBool,
    withheld: AtomicUsize,
    /// Bytes of the one slab that there is, where there are no others to be had.
    fixed: Option<usize>,
}

struct Slab {
    memory: Memory,
    iova: u64,
    free: Ranges,
}

/// The bytes of a slab.
enum Memory {
    /// Of this process.
    Sealed(Sealed),
    /// A part of the device's own, and what keeps it mapped.
    Device { base: NonNull<u8>, len: usize, _memory: Arc<dyn Mmio> },
}

// SAFETY: an address and a length, and what owns the bytes there, which may go away on any
// thread.
unsafe impl Send for Memory {}

impl Memory {
    fn base(&self) -> NonNull<u8> {
        match self {
            Memory::Sealed(sealed) => sealed.map.base(),
            Memory::Device { base, .. } => *base,
        }
    }

    fn len(&self) -> usize {
        match self {
            Memory::Sealed(sealed) => sealed.map.len(),
            Memory::Device { len, .. } => *len,
        }
    }
}

/// Bytes of a slab that one owner has: page-aligned, of whole pages, zeroes at first.
pub(super) struct Piece {
    slabs: Arc<Slabs>,
    slab: usize,
    base: NonNull<u8>,
    offset: usize,
    len: usize,
    iova: u64,
}

// SAFETY: a piece is an address and a length; it gives no access by itself, and its
// range may be given back on any thread.
unsafe impl Send for Piece {}
// SAFETY: as above: `&Piece` only tells where it lies.
unsafe impl Sync for Piece {}

impl Slabs {
    pub(super) fn new(backing: Arc<dyn Backing>) -> Arc<Self> {
        Arc::new(Self {
            backing,
            list: Mutex::default(),
            growing: Mutex::default(),
            lost: AtomicBool::new(false),
            withheld: AtomicUsize::new(0),
            fixed: None,
        })
    }

    /// One slab in a device's own memory, which it has at `iova`. The backing is told when it
    /// is gone.
    ///
    /// # Safety
    /// `range` lies in the memory and is made of whole pages; nobody else of this process
    /// reaches these bytes.
    pub(super) unsafe fn over(
        memory: Arc<dyn Mmio>,
        range: Range<usize>,
        iova: u64,
        backing: Arc<dyn Backing>,
    ) -> Arc<Self> {
        let len = range.len();
        // SAFETY: by this function's contract the range is in the memory.
        let base = unsafe { memory.base().add(range.start) };
        let mut free = Ranges::default();
        free.insert(0, len as u64 - 1);
        let memory = Memory::Device { base, len, _memory: memory };
        Arc::new(Self {
            backing,
            list: Mutex::new(vec![Slab { memory, iova, free }]),
            growing: Mutex::default(),
            lost: AtomicBool::new(false),
            withheld: AtomicUsize::new(0),
            fixed: Some(len),
        })
    }

    /// All bytes that there ever are, where that is known.
    pub(super) fn fixed(&self) -> Option<usize> {
        self.fixed
    }

    pub(super) fn backing(&self) -> &Arc<dyn Backing> {
        &self.backing
    }

    /// The device is lost: nothing is taken any more, nothing is reused.
    pub(super) fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Counts bytes that will not be used again.
    pub(super) fn withhold(&self, bytes: usize) {
        self.withheld.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn withheld(&self) -> usize {
        self.withheld.load(Ordering::Relaxed)
    }

    fn list(&self) -> MutexGuard<'_, Vec<Slab>> {
        // Nothing under this lock can panic half-way, so poison means nothing.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `len` bytes, a multiple of 4096. May wait for the device.
    ///
    /// # Errors
    /// `Gone` when the device is lost; what the system or the device refuses.
    pub(super) fn take(self: &Arc<Self>, len: usize) -> Result<Piece> {
        if let Some(piece) = self.take_free(len)? {
            return Ok(piece);
        }
        if let Some(all) = self.fixed {
            let text = format!("the device's own memory of {all} bytes has no {len} together free");
            return Err(Error::new(ErrorKind::Limit, text));
        }
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have made the slab meanwhile.
        if let Some(piece) = self.take_free(len)? {
            return Ok(piece);
        }
        self.grow(len)?;
        let piece = self.take_free(len)?;
        piece.ok_or_else(|| Error::new(ErrorKind::Limit, "a new slab had no room"))
    }

    fn take_free(self: &Arc<Self>, len: usize) -> Result<Option<Piece>> {
        if self.is_lost() {
            return Err(lost());
        }
        // The larger a piece is, the larger the pages that may serve it.
        let align = if len.is_multiple_of(HUGE) { HUGE } else { crate::medium::BLOCK } as u64;
        let mut list = self.list();
        for (index, slab) in list.iter_mut().enumerate() {
            if let Some(at) = slab.free.find(len as u64, align, 0) {
                slab.free.remove(at, at + len as u64 - 1);
                // SAFETY: the range was free in this slab, so it lies inside it.
                let base = unsafe { slab.memory.base().add(at as usize) };
                let (offset, iova) = (at as usize, slab.iova + at);
                let slabs = Arc::clone(self);
                return Ok(Some(Piece { slabs, slab: index, base, offset, len, iova }));
            }
        }
        Ok(None)
    }

    /// Adds a slab, as large as all before it together.
    fn grow(&self, len: usize) -> Result<()> {
        let have: usize = self.list().iter().map(|slab| slab.memory.len()).sum();
        let bytes = have.clamp(HUGE, LONGEST).max(len).next_multiple_of(HUGE);
        let memory = match Sealed::new(bytes) {
            // Less may still be had.
            Err(_) if len.next_multiple_of(HUGE) < bytes => {
                Sealed::new(len.next_multiple_of(HUGE))?
            }
            other => other?,
        };
        let (bytes, address) = (memory.map.len(), memory.map.base().as_ptr().addr());
        let region = RegionInfo { fd: memory.fd.as_fd(), offset: 0, len: bytes, address };
        // On an error the file and its mapping go away here. A device that knows it
        // nevertheless keeps pages that nobody else has.
        let iova = self.backing.added(&region)?;
        if !iova.is_multiple_of(crate::medium::BLOCK as u64)
            || iova.checked_add(bytes as u64).is_none()
        {
            let _ = self.backing.removed(iova, bytes);
            let text = format!("the transport gave {bytes} bytes the device address {iova:#x}");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let mut free = Ranges::default();
        free.insert(0, bytes as u64 - 1);
        self.list().push(Slab { memory: Memory::Sealed(memory), iova, free });
        Ok(())
    }
}

impl Drop for Slabs {
    fn drop(&mut self) {
        let list = self.list.get_mut().unwrap_or_else(PoisonError::into_inner);
        for slab in list.drain(..) {
            let len = slab.memory.len();
            if let Err(error) = self.backing.removed(slab.iova, len) {
                // Our pages go nevertheless: they are no one else's while the peer
                // has them.
                tracing::debug!(iova = slab.iova, len, %error, "the device keeps a range");
            }
        }
    }
}

impl fmt::Debug for Slabs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slabs")
            .field("lost", &self.is_lost())
            .field("withheld", &self.withheld())
            .finish_non_exhaustive()
    }
}

impl Piece {
    #[inline]
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The address that the device uses for its first byte.
    pub(super) fn iova(&self) -> u64 {
        self.iova
    }

    /// Never gives the bytes back: the device may still write to them.
    pub(super) fn withhold(self) {
        self.slabs.withhold(self.len);
        // What is left of the piece is a count of the slabs, which goes as it should.
        let this = std::mem::ManuallyDrop::new(self);
        // SAFETY: `this` is not used after this and its destructor does not run, so
        // the count is taken out once.
        drop(unsafe { std::ptr::read(&raw const this.slabs) });
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.slabs.is_lost() {
            self.slabs.withhold(self.len);
            return;
        }
        let (first, last) = (self.offset as u64, (self.offset + self.len) as u64 - 1);
        if let Some(slab) = self.slabs.list().get_mut(self.slab) {
            slab.free.insert(first, last);
        }
    }
}

impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Piece").field("len", &self.len).field("iova", &self.iova).finish()
    }
}
