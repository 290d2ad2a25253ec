//! Where buffers come from: regions of mapped memory cut into slots.
//!
//! A slot has one of thirteen sizes, the powers of two from 4 KiB to 16 MiB.
//! Each size has a free list behind a short mutex; regions are added when the
//! list is empty and stay until the pool and its last buffer are gone, so that
//! a medium may register them once. How a buffer is used is in `buffer`.

use super::buffer::Buffer;
use super::map::Mapping;
use crate::medium::{BLOCK, Error, ErrorKind, Result};
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The largest buffer, in bytes.
pub const MAX_BUFFER: usize = 16 << 20;

/// Slot sizes: 4 KiB << 0 ..= 4 KiB << 12.
const CLASSES: usize = 13;
/// Slots above this have a region each.
const LARGEST_SHARED: usize = 1 << 20;
/// The first region of a class, at least.
const FIRST_REGION: usize = 256 << 10;
/// The last region of a class, at most.
const LARGEST_REGION: usize = 32 << 20;
/// Regions in a pool, at most.
pub(crate) const MAX_REGIONS: usize = 1024;

/// A source of buffers. Cheap to clone; all clones are the same pool. Any
/// thread may take from it, and buffers may be dropped on any thread.
#[derive(Clone)]
pub struct Pool {
    inner: Arc<Inner>,
}

/// The state of a pool; buffers keep it alive.
pub(super) struct Inner {
    classes: [Mutex<Class>; CLASSES],
    /// Filled in order and never changed: an index stays good.
    regions: Box<[OnceLock<Region>]>,
    used_regions: AtomicUsize,
    /// Slots that some buffer has.
    taken: AtomicUsize,
}

/// The slots of one size.
#[derive(Default)]
struct Class {
    /// Always has room for every slot of the class: giving back never allocates.
    free: Vec<SlotId>,
    slots: usize,
}

/// Where a slot lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotId {
    pub(super) region: u32,
    slot: u32,
}

/// One mapping, cut into slots of one class.
struct Region {
    map: Mapping,
    class: usize,
    /// For each slot, how many buffers share it; zero when it is free. As wide
    /// as an address, so that even buffers that are forgotten for ever cannot
    /// make it wrap.
    parts: Box<[AtomicUsize]>,
}

impl Pool {
    /// An empty pool; it maps memory when the first buffer is taken.
    pub fn new() -> Self {
        let inner = Inner {
            classes: Default::default(),
            regions: (0..MAX_REGIONS).map(|_| OnceLock::new()).collect(),
            used_regions: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// A buffer of at least `len` bytes: `len` rounded up to a multiple of
    /// 4096, which is also its alignment. Its bytes are whatever they last
    /// were, zeroes at first. Does not sleep, but for a short mutex and, when
    /// the pool grows, the system call that maps memory.
    ///
    /// # Errors
    /// `Invalid` when `len` is zero or above [`MAX_BUFFER`]; `Limit` when the
    /// system has no more memory or the pool no more room.
    pub fn take(&self, len: usize) -> Result<Buffer> {
        if len == 0 || len > MAX_BUFFER {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("a buffer of {len} bytes: from 1 to {MAX_BUFFER} are possible"),
            ));
        }
        let len = len.next_multiple_of(BLOCK);
        let class = (len.next_power_of_two() / BLOCK).trailing_zeros() as usize;
        let id = {
            let mut list = self.inner.class(class);
            if list.free.is_empty() {
                self.inner.grow(class, &mut list)?;
            }
            list.free.pop().ok_or_else(|| Error::new(ErrorKind::Limit, "the pool did not grow"))?
        };
        let region = self.inner.region(id.region);
        region.parts[id.slot as usize].store(1, Ordering::Relaxed);
        self.inner.taken.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the slot lies inside its region, so its start does too.
        let ptr = unsafe { region.map.base().add(id.slot as usize * slot_bytes(class)) };
        // SAFETY: the slot was free and is ours alone now; its count is one.
        Ok(unsafe { Buffer::new(Arc::clone(&self.inner), id, ptr, len) })
    }

    /// How many slots some buffer still has. A buffer that was split counts
    /// once until its last part is dropped.
    pub fn taken(&self) -> usize {
        self.inner.taken.load(Ordering::Relaxed)
    }

    /// Bytes of address space that the pool has mapped.
    pub fn mapped(&self) -> usize {
        self.inner.regions.iter().filter_map(OnceLock::get).map(|r| r.map.len()).sum()
    }

    /// First byte and length of a region; a medium may register it, and it
    /// stays where it is as long as the pool or a buffer of it lives.
    pub(crate) fn region(&self, index: usize) -> Option<(NonNull<u8>, usize)> {
        let region = self.inner.regions.get(index)?.get()?;
        Some((region.map.base(), region.map.len()))
    }

    /// Whether the buffer came from this pool.
    pub(crate) fn owns(&self, buffer: &Buffer) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.inner), buffer.pool_ptr())
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("mapped", &self.mapped())
            .field("taken", &self.taken())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn class(&self, class: usize) -> MutexGuard<'_, Class> {
        // Nothing under this lock can panic half-way, so poison means nothing.
        self.classes[class].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The region that a slot id names. Ids are made when their region is set.
    fn region(&self, index: u32) -> &Region {
        self.regions[index as usize].get().expect("a slot's region exists before the slot")
    }

    /// Adds a region: as large as all before it, so that a pool of any size
    /// has few regions.
    fn grow(&self, class: usize, list: &mut Class) -> Result<()> {
        let slot = slot_bytes(class);
        let bytes = if slot > LARGEST_SHARED {
            slot
        } else {
            (list.slots * slot).clamp(FIRST_REGION.max(slot), LARGEST_REGION)
        };
        let map = Mapping::new(bytes)?;
        let slots = bytes / slot;
        let parts = (0..slots).map(|_| AtomicUsize::new(0)).collect();
        let index = self
            .used_regions
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < MAX_REGIONS).then_some(n + 1)
            })
            .map_err(|_| {
                Error::new(
                    ErrorKind::Limit,
                    format!("the buffer pool has all its {MAX_REGIONS} regions in use"),
                )
            })?;
        // The index is ours alone, so the cell is empty.
        let _ = self.regions[index].set(Region { map, class, parts });
        list.slots += slots;
        list.free.reserve(list.slots - list.free.len());
        // The lowest addresses are handed out first.
        list.free.extend((0..slots as u32).rev().map(|slot| SlotId { region: index as u32, slot }));
        Ok(())
    }

    /// Counts one more buffer on a slot that has one.
    pub(super) fn share(&self, id: SlotId) {
        // Relaxed: the caller has a part, so the slot cannot be freed meanwhile.
        self.region(id.region).parts[id.slot as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one buffer less; the last one gives the slot back.
    pub(super) fn release(&self, id: SlotId) {
        let region = self.region(id.region);
        // AcqRel: what every part did to its bytes comes before the slot is
        // handed to the next owner.
        if region.parts[id.slot as usize].fetch_sub(1, Ordering::AcqRel) == 1 {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            self.class(region.class).free.push(id);
        }
    }

    /// First byte of the region that a slot lies in.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(super) fn region_base(&self, id: SlotId) -> NonNull<u8> {
        self.region(id.region).map.base()
    }
}

/// Bytes in a slot of a class.
const fn slot_bytes(class: usize) -> usize {
    BLOCK << class
}
