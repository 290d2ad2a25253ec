//! Where buffers come from: regions of mapped memory cut into slots.
//!
//! A slot has one of thirteen sizes, the powers of two from 4 KiB to 16 MiB.
//! Each size has a free list behind a short mutex; regions are added when the
//! list is empty and stay until the pool and its last buffer are gone, so that
//! a medium may register them once. With a device behind the pool they are pieces of
//! `slab`, which the device knows; without one they are memory of their own. How a
//! buffer is used is in `buffer`.

use super::adopt::Keeper;
use super::backing::{Backing, lost};
use super::buffer::{Buffer, UNMAPPED};
use super::map::Mapping;
use super::slab::{Piece, Slabs};
use crate::bus::Mmio;
use crate::medium::{BLOCK, Error, ErrorKind, Result};
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
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
    /// Held while a region is made, which may take long; giving back does without.
    growing: Mutex<()>,
    /// Bytes of buffers that never come back, in a pool without a device.
    withheld: AtomicUsize,
    /// Where regions come from when a device knows them. Dropped after the regions.
    slabs: Option<Arc<Slabs>>,
    /// The one region, where it is the caller's own memory.
    adopted: Option<Keeper>,
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
struct SlotId {
    region: u32,
    slot: u32,
}

/// One range of memory, cut into slots of one class.
struct Region {
    /// Keeps the bytes: memory of this process alone, or
    _map: Option<Mapping>,
    /// memory that the device knows. Neither for the caller's, which [`Keeper`] has.
    _piece: Option<Piece>,
    base: NonNull<u8>,
    len: usize,
    /// None for adopted memory, which is one slot whatever its size.
    class: Option<usize>,
    slots: Box<[Slot]>,
}

/// One slot. It stays where it is as long as the pool lives, so that a buffer finds all it
/// needs by one address.
pub(super) struct Slot {
    /// How many buffers share it; zero when it is free. As wide as an address, so that
    /// even buffers that are forgotten for ever cannot make it wrap.
    parts: AtomicUsize,
    /// The pool, of which each of its buffers has a share; set when it is handed out.
    pool: AtomicPtr<Inner>,
    base: NonNull<u8>,
    /// Where the device has its first byte, or [`UNMAPPED`].
    device: u64,
    id: SlotId,
}

impl Slot {
    /// Slots of `bytes` each, side by side in a region.
    ///
    /// # Safety
    /// `len` bytes from `base` on are one range of memory.
    unsafe fn row(
        index: usize,
        base: NonNull<u8>,
        device: u64,
        bytes: usize,
        len: usize,
    ) -> Box<[Slot]> {
        let slot = |slot: usize| Slot {
            parts: AtomicUsize::new(0),
            pool: AtomicPtr::new(std::ptr::null_mut()),
            // SAFETY: as many slots as have room lie inside the range.
            base: unsafe { base.add(slot * bytes) },
            device: match device {
                UNMAPPED => UNMAPPED,
                iova => iova + (slot * bytes) as u64,
            },
            id: SlotId { region: index as u32, slot: slot as u32 },
        };
        (0..len / bytes).map(slot).collect()
    }

    /// The pool that it was handed out by, as [`Arc::into_raw`] gave it.
    #[inline]
    pub(super) fn pool(&self) -> *const Inner {
        self.pool.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    #[inline]
    pub(super) fn device(&self) -> u64 {
        self.device
    }

    pub(super) fn region(&self) -> usize {
        self.id.region as usize
    }

    /// Counts one more buffer; there is one.
    pub(super) fn share(&self) {
        // Relaxed: the caller has a part, so the slot cannot be freed meanwhile.
        self.parts.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: a region is an address and a length, and what owns the bytes there, which
// may go away on any thread; who may touch the bytes is decided by `Slot::parts`.
unsafe impl Send for Region {}
// SAFETY: as above: `&Region` only tells where it lies.
unsafe impl Sync for Region {}

impl Pool {
    /// An empty pool; it maps memory when the first buffer is taken.
    pub fn new() -> Self {
        Self::with(None)
    }

    /// An empty pool whose memory the device behind `backing` is told of, region by
    /// region, before a buffer of it is handed out: sealed memory files, of huge pages
    /// where the system gives them. The device reaches all of it at any time: what is
    /// in its buffers is told to it, and a device that writes where no command lets it
    /// spoils what it finds.
    ///
    /// # Examples
    /// ```
    /// use freehold_engine::medium::Result;
    /// use freehold_engine::memory::{Backing, Pool, RegionInfo};
    /// use std::sync::Arc;
    ///
    /// /// A device that uses the addresses of this process.
    /// struct Same;
    /// impl Backing for Same {
    ///     fn added(&self, region: &RegionInfo<'_>) -> Result<u64> {
    ///         Ok(region.address as u64)
    ///     }
    ///     fn removed(&self, _iova: u64, _len: usize) -> Result<()> {
    ///         Ok(())
    ///     }
    /// }
    /// let pool = Pool::backed(Arc::new(Same));
    /// let buffer = pool.take(8192)?;
    /// assert_eq!(pool.device_address(&buffer), Some(buffer.as_ptr() as u64));
    /// # Ok::<(), freehold_engine::medium::Error>(())
    /// ```
    pub fn backed(backing: Arc<dyn Backing>) -> Self {
        Self::with(Some(Slabs::new(backing)))
    }

    /// A pool in a device's own memory, of which the device has `range` at `iova`; it never
    /// grows. The backing is told when the last of it is gone. What lies there is not this
    /// process's memory: its accesses are slow, and it says anything once the device is gone.
    ///
    /// # Safety
    /// `range` lies in the memory and is made of whole pages, at least one; nobody else of
    /// this process reaches these bytes.
    pub(crate) unsafe fn over_device(
        memory: Arc<dyn Mmio>,
        range: Range<usize>,
        iova: u64,
        backing: Arc<dyn Backing>,
    ) -> Self {
        // SAFETY: by this function's contract.
        Self::with(Some(unsafe { Slabs::over(memory, range, iova, backing) }))
    }

    fn with(slabs: Option<Arc<Slabs>>) -> Self {
        Self { inner: Arc::new(Inner::new(MAX_REGIONS, slabs, None)) }
    }

    /// A buffer of at least `len` bytes: `len` rounded up to a multiple of
    /// 4096, which is also its alignment. Its bytes are whatever they last
    /// were, zeroes at first. Does not sleep, but for a short mutex and, when
    /// the pool grows, the system call that maps memory, or the device's answer.
    ///
    /// # Errors
    /// `Invalid` when `len` is zero or above [`MAX_BUFFER`]; `Limit` when the
    /// system has no more memory, the device takes no more, or the pool has no more
    /// room, with what to raise; `Gone` when the device is lost.
    pub fn take(&self, len: usize) -> Result<Buffer> {
        if len == 0 || len > MAX_BUFFER {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("a buffer of {len} bytes: from 1 to {MAX_BUFFER} are possible"),
            ));
        }
        let len = len.next_multiple_of(BLOCK);
        let class = (len.next_power_of_two() / BLOCK).trailing_zeros() as usize;
        let id = self.inner.take(class)?;
        let slot = &self.inner.region(id.region).slots[id.slot as usize];
        slot.parts.store(1, Ordering::Relaxed);
        // SAFETY: the slot was free and is ours alone now; its count is one. It has
        // room for `len` bytes.
        Ok(unsafe { Inner::buffer(&self.inner, slot, len) })
    }

    /// The address by which this pool's device reaches the buffer; none when it does
    /// not, as for a buffer of another device, of none, or of memory that was
    /// [adopted](Self::adopt) and may not be mapped: such bytes are copied. Takes no
    /// lock; for a buffer of the pool itself it is two loads.
    #[inline]
    pub fn device_address(&self, buffer: &Buffer) -> Option<u64> {
        if !self.owns(buffer) && !self.shares_device(buffer) {
            return None;
        }
        buffer.device()
    }

    /// Whether a buffer of another pool is known to the same device.
    #[cold]
    fn shares_device(&self, buffer: &Buffer) -> bool {
        match (&self.inner.slabs, buffer.slabs()) {
            (Some(slabs), Some(other)) => Arc::ptr_eq(slabs, other),
            _ => false,
        }
    }

    /// The device is lost, and may still write to all that it was given (law M4): from
    /// now on nothing is taken from the pool, and what comes back is not reused but
    /// counts as [withheld](Self::withheld). Its last buffer gone, the memory goes as
    /// it always does: a peer that has it mapped has pages that are no one else's.
    pub fn lose(&self) {
        if let Some(slabs) = &self.inner.slabs {
            slabs.lose();
        }
    }

    /// Bytes that are not used again in this process, because a device may still write
    /// to them: of buffers and pages that were withheld, and of all that came back
    /// after [`lose`](Self::lose).
    pub fn withheld(&self) -> usize {
        match &self.inner.slabs {
            Some(slabs) => slabs.withheld(),
            None => self.inner.withheld.load(Ordering::Relaxed),
        }
    }

    /// The memory of the device behind the pool.
    pub(super) fn slabs(&self) -> Option<&Arc<Slabs>> {
        self.inner.slabs.as_ref()
    }

    /// How many slots some buffer still has. A buffer that was split counts
    /// once until its last part is dropped.
    pub fn taken(&self) -> usize {
        self.inner.taken.load(Ordering::Relaxed)
    }

    /// Bytes of address space that the pool has mapped.
    pub fn mapped(&self) -> usize {
        self.inner.regions.iter().filter_map(OnceLock::get).map(|r| r.len).sum()
    }

    /// First byte and length of a region; a medium may register it, and it
    /// stays where it is as long as the pool or a buffer of it lives.
    pub(crate) fn region(&self, index: usize) -> Option<(NonNull<u8>, usize)> {
        let region = self.inner.regions.get(index)?.get()?;
        Some((region.base, region.len))
    }

    /// Whether the buffer came from this pool.
    #[inline]
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
    fn new(regions: usize, slabs: Option<Arc<Slabs>>, adopted: Option<Keeper>) -> Self {
        Self {
            classes: Default::default(),
            regions: (0..regions).map(|_| OnceLock::new()).collect(),
            used_regions: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            growing: Mutex::default(),
            withheld: AtomicUsize::new(0),
            slabs,
            adopted,
        }
    }

    /// A pool of one region, which is the caller's memory.
    pub(super) fn over(keeper: Keeper, slabs: Option<Arc<Slabs>>) -> Arc<Self> {
        let (base, len) = keeper.place();
        let device = keeper.iova().unwrap_or(UNMAPPED);
        // SAFETY: the caller's memory is kept by its keeper.
        let slots = unsafe { Slot::row(0, base, device, len, len) };
        let (_map, _piece, class) = (None, None, None);
        let region = Region { _map, _piece, base, len, class, slots };
        let inner = Self::new(1, slabs, Some(keeper));
        let _ = inner.regions[0].set(region);
        Arc::new(inner)
    }

    /// The whole of the caller's memory as one buffer, unless some of it is out.
    pub(super) fn whole(self: &Arc<Self>) -> Option<Buffer> {
        let region = self.region(0);
        let slot = &region.slots[0];
        // Acquire: what earlier buffers did to the bytes comes before this.
        let free = slot.parts.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok();
        // SAFETY: nobody had the slot, and now this has it; it is as long as the region.
        free.then(|| unsafe { Self::buffer(self, slot, region.len) })
    }

    /// What keeps the caller's memory.
    pub(super) fn keeper(&mut self) -> Option<&mut Keeper> {
        self.adopted.as_mut()
    }

    /// The buffer of a slot.
    ///
    /// # Safety
    /// The slot's count is one, for this buffer alone, and it has `len` bytes.
    unsafe fn buffer(this: &Arc<Self>, slot: &Slot, len: usize) -> Buffer {
        this.taken.fetch_add(1, Ordering::Relaxed);
        // Relaxed: whoever reads it has the buffer from whoever has it from here.
        slot.pool.store(Arc::into_raw(Arc::clone(this)).cast_mut(), Ordering::Relaxed);
        // SAFETY: by this function's contract; the share of the pool was just counted.
        unsafe { Buffer::new(slot, len) }
    }

    fn class(&self, class: usize) -> MutexGuard<'_, Class> {
        // Nothing under this lock can panic half-way, so poison means nothing.
        self.classes[class].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The region that a slot id names. Ids are made when their region is set.
    fn region(&self, index: u32) -> &Region {
        self.regions[index as usize].get().expect("a slot's region exists before the slot")
    }

    /// A free slot of a class; the pool grows when there is none.
    fn take(&self, class: usize) -> Result<SlotId> {
        if let Some(slabs) = &self.slabs
            && slabs.is_lost()
        {
            return Err(lost());
        }
        if let Some(id) = self.class(class).free.pop() {
            return Ok(id);
        }
        // The list stays open meanwhile: whoever drops a buffer does not wait for a
        // device's answer.
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(id) = self.class(class).free.pop() {
                return Ok(id);
            }
            // Others may take the new slots before this does; then there are more.
            self.grow(class)?;
        }
    }

    /// Adds a region: as large as all before it, so that a pool of any size
    /// has few regions.
    fn grow(&self, class: usize) -> Result<()> {
        let slot = slot_bytes(class);
        let have = self.class(class).slots * slot;
        let bytes = match self.slabs.as_ref().and_then(|slabs| slabs.fixed()) {
            // No size of slots takes more than a quarter from all others, but for one slot.
            Some(all) if have + slot > all / 4 && have > 0 => {
                let text = format!("buffers of {slot} bytes have their part of {all}");
                return Err(Error::new(ErrorKind::Limit, text));
            }
            Some(all) => have.min(all / 4 - have.min(all / 4)).max(slot) / slot * slot,
            None if slot > LARGEST_SHARED => slot,
            None => have.clamp(FIRST_REGION.max(slot), LARGEST_REGION),
        };
        // Only the thread that grows the pool changes this.
        let index = self.used_regions.load(Ordering::Relaxed);
        if index >= self.regions.len() {
            return Err(Error::new(
                ErrorKind::Limit,
                format!("the buffer pool has all its {MAX_REGIONS} regions in use"),
            ));
        }
        let (base, device, _map, _piece) = match &self.slabs {
            None => {
                let map = Mapping::new(bytes)?;
                (map.base(), UNMAPPED, Some(map), None)
            }
            Some(slabs) => {
                let piece = slabs.take(bytes)?;
                (piece.base(), piece.iova(), None, Some(piece))
            }
        };
        // SAFETY: the mapping, or the piece, has so many bytes.
        let slots = unsafe { Slot::row(index, base, device, slot, bytes) };
        let count = slots.len();
        let region = Region { _map, _piece, base, len: bytes, class: Some(class), slots };
        let _ = self.regions[index].set(region);
        self.used_regions.store(index + 1, Ordering::Relaxed);
        let mut list = self.class(class);
        list.slots += count;
        let room = list.slots - list.free.len();
        list.free.reserve(room);
        // The lowest addresses are handed out first.
        list.free.extend((0..count as u32).rev().map(|slot| SlotId { region: index as u32, slot }));
        Ok(())
    }

    /// Counts one buffer less; the last one gives the slot back.
    pub(super) fn release(&self, slot: &Slot) {
        // AcqRel: what every part did to its bytes comes before the slot is
        // handed to the next owner.
        if slot.parts.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.taken.fetch_sub(1, Ordering::Relaxed);
            let Some(class) = self.region(slot.id.region).class else { return };
            if let Some(slabs) = &self.slabs
                && slabs.is_lost()
            {
                slabs.withhold(slot_bytes(class));
                return;
            }
            self.class(class).free.push(slot.id);
        }
    }

    /// Counts bytes of a buffer whose part of its slot is never given back.
    pub(super) fn withhold(&self, bytes: usize) {
        match &self.slabs {
            Some(slabs) => slabs.withhold(bytes),
            None => _ = self.withheld.fetch_add(bytes, Ordering::Relaxed),
        }
    }

    /// The device that may know the memory.
    pub(super) fn slabs(&self) -> Option<&Arc<Slabs>> {
        self.slabs.as_ref()
    }

    /// First byte of the region that a slot lies in.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(super) fn region_base(&self, slot: &Slot) -> NonNull<u8> {
        self.region(slot.id.region).base
    }
}

/// Bytes in a slot of a class.
const fn slot_bytes(class: usize) -> usize {
    BLOCK << class
}
