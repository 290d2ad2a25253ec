//! A buffer: bytes of a pool that one owner has, and that can be cut and joined.
//!
//! Where slots come from and go to is in `pool`.

use super::pool::{Inner, Slot};
use super::slab::Slabs;
use crate::medium::BLOCK;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// The device address of memory that no device knows.
pub(super) const UNMAPPED: u64 = u64::MAX;

/// Memory of a [`Pool`](super::Pool) that a device can read and write: aligned
/// to 4096, a multiple of 4096 long, uniquely owned. It can be cut into parts
/// that are owned apart; the memory returns to the pool when the last part is
/// dropped, on any thread, without waiting and without allocating.
///
/// Its bytes are private, so its owner has references to them at any time; a command
/// that names it owns it, from submission until its completion gives it back:
///
/// ```compile_fail,E0382
/// # use freehold_engine::{medium::{Op, Queue}, memory::Buffer};
/// fn touch(queue: &mut dyn Queue, buf: Buffer) {
///     queue.submit(1, Op::Read { at: 0, buf }).unwrap();
///     assert_eq!(buf[0], 0);
/// }
/// ```
pub struct Buffer {
    /// The slot that it is in, of a pool of which it has a share.
    slot: NonNull<Slot>,
    /// Where in the slot it begins, in blocks, in the upper half; how many, in the lower.
    /// With this a buffer is two words, which go from hand to hand in registers.
    blocks: u64,
}

const _: () = assert!(size_of::<Option<Buffer>>() == 16);

// SAFETY: a buffer owns its bytes alone (`Buffer::new`), as a `Box<[u8]>`
// does; the pool behind it is made to be shared by threads.
unsafe impl Send for Buffer {}
// SAFETY: `&Buffer` gives `&[u8]` only.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A buffer over the first `len` bytes of a slot.
    ///
    /// # Safety
    /// The slot has so many, initialised, and they belong to no other buffer; its count has
    /// one share for this buffer, and that of the pool which it names another.
    pub(super) unsafe fn new(slot: &Slot, len: usize) -> Self {
        Self { slot: NonNull::from(slot), blocks: (len / BLOCK) as u64 }
    }

    #[inline]
    fn slot(&self) -> &Slot {
        // SAFETY: the slot is where it is as long as its pool lives, in which this has a
        // share.
        unsafe { self.slot.as_ref() }
    }

    #[inline]
    fn pool(&self) -> &Inner {
        // SAFETY: as in `slot`.
        unsafe { &*self.slot().pool() }
    }

    /// Where its first byte is, for code in another language: it stays there for as long as the
    /// buffer exists, whoever has it.
    #[inline]
    pub fn address(&self) -> *mut u8 {
        self.raw()
    }

    /// Bytes from the start of the slot.
    #[inline]
    fn start(&self) -> usize {
        (self.blocks >> 32) as usize * BLOCK
    }

    /// Bytes in it; a multiple of 4096.
    #[inline]
    pub fn len(&self) -> usize {
        self.blocks as u32 as usize * BLOCK
    }

    /// Its length in blocks of 4096 bytes.
    #[inline]
    pub fn blocks(&self) -> u32 {
        self.blocks as u32
    }

    /// True for what [`split_off`](Self::split_off) leaves when it takes all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cuts the buffer in two: `self` keeps the first `at` bytes, the result
    /// owns the rest. Moves no bytes and allocates nothing.
    ///
    /// # Panics
    /// When `at` is beyond the end or not a multiple of 4096, as slicing would.
    pub fn split_off(&mut self, at: usize) -> Buffer {
        assert!(
            at <= self.len() && at.is_multiple_of(BLOCK),
            "a buffer of {} bytes cannot be cut at {at}",
            self.len()
        );
        let slot = self.slot();
        slot.share();
        // SAFETY: this has a share of the pool, which is counted by this pointer.
        unsafe { Arc::increment_strong_count(slot.pool()) };
        let cut = (at / BLOCK) as u64;
        let rest = Self { slot: self.slot, blocks: self.blocks + (cut << 32) - cut };
        self.blocks = (self.blocks >> 32 << 32) | cut;
        rest
    }

    /// Joins `other` to the end of `self`. Moves no bytes and allocates nothing.
    ///
    /// # Errors
    /// Gives `other` back when it is not the part that directly follows.
    pub fn unsplit(&mut self, other: Buffer) -> Result<(), Buffer> {
        let adjacent = self.slot == other.slot && self.start() + self.len() == other.start();
        if !adjacent {
            return Err(other);
        }
        // Dropping `other` gives its share back, which is not the last one
        // because `self` has one; its bytes are ours from here.
        self.blocks += u64::from(other.blocks as u32);
        drop(other);
        Ok(())
    }

    /// Keeps the bytes from ever being used again in this process, because a device
    /// that was lost may still write to them (law M4): they go to nobody, and count in
    /// [`Pool::withheld`](super::Pool::withheld). Neither blocks nor allocates.
    pub fn withhold(self) {
        self.pool().withhold(self.len());
        let this = std::mem::ManuallyDrop::new(self);
        // The share of the slot stays counted, so the slot is never free again; the
        // pool itself may go, as the memory behind it lasts while a device has it.
        // SAFETY: `this` is not used after this and its destructor does not run, so
        // its share of the pool is given back once.
        unsafe { Arc::decrement_strong_count(this.slot().pool()) };
    }

    /// Where the bytes begin, for a device. Whoever lets a device write there
    /// keeps the buffer, and makes no reference to it, until that has ended.
    #[inline]
    pub(crate) fn raw(&self) -> *mut u8 {
        // SAFETY: the start is inside the slot, or at its end.
        unsafe { self.slot().base().as_ptr().add(self.start()) }
    }

    /// Which region of the pool it lies in.
    pub(crate) fn region(&self) -> usize {
        self.slot().region()
    }

    /// Bytes from the start of that region; with it, the address that a device
    /// uses follows from the region's.
    #[cfg_attr(not(test), allow(dead_code))]
    pub(crate) fn region_offset(&self) -> usize {
        self.raw().addr() - self.pool().region_base(self.slot()).as_ptr().addr()
    }

    /// Where the device has the first byte, if it has it.
    #[inline]
    pub(super) fn device(&self) -> Option<u64> {
        match self.slot().device() {
            UNMAPPED => None,
            first => Some(first + self.start() as u64),
        }
    }

    /// The device that may know it.
    pub(super) fn slabs(&self) -> Option<&Arc<Slabs>> {
        self.pool().slabs()
    }

    /// The identity of its pool.
    #[inline]
    pub(super) fn pool_ptr(&self) -> *const Inner {
        self.slot().pool()
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the bytes are mapped while the pool lives, initialised
        // since the region was mapped (anonymous memory is zeroed), and owned
        // by this buffer alone; a device that writes them owns the buffer.
        unsafe { std::slice::from_raw_parts(self.raw(), self.len()) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.raw(), self.len()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let pool = self.slot().pool();
        self.pool().release(self.slot());
        // SAFETY: this is the end of the buffer, whose share of the pool is given back
        // once. The slot is not touched after this: the pool may go.
        unsafe { Arc::decrement_strong_count(pool) };
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use crate::medium::{BLOCK, ErrorKind};
    use crate::memory::{MAX_BUFFER, Pool};
    use std::collections::HashSet;

    #[test]
    fn lengths_are_rounded_and_limited() {
        let pool = Pool::new();
        for (ask, get) in
            [(1, BLOCK), (BLOCK, BLOCK), (BLOCK + 1, 2 * BLOCK), (MAX_BUFFER, MAX_BUFFER)]
        {
            let buffer = pool.take(ask).unwrap();
            assert_eq!(buffer.len(), get);
            assert_eq!(buffer.raw().addr() % BLOCK, 0);
            assert!(buffer.iter().all(|&b| b == 0), "fresh memory is zeroed");
        }
        for bad in [0, MAX_BUFFER + 1, usize::MAX] {
            assert_eq!(pool.take(bad).unwrap_err().kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn parts_keep_the_slot_and_join_in_order_only() {
        let pool = Pool::new();
        let mut a = pool.take(4 * BLOCK).unwrap();
        for (i, byte) in a.iter_mut().enumerate() {
            *byte = (i / BLOCK) as u8;
        }
        let mut b = a.split_off(BLOCK);
        let c = b.split_off(BLOCK);
        assert_eq!((a.len(), b.len(), c.len()), (BLOCK, BLOCK, 2 * BLOCK));
        assert_eq!((a[0], b[0], c[0], c[BLOCK]), (0, 1, 2, 3));
        assert_eq!(pool.taken(), 1);
        let c = a.unsplit(c).unwrap_err();
        let a = b.unsplit(a).unwrap_err();
        let mut a = a;
        a.unsplit(b).unwrap();
        a.unsplit(c).unwrap();
        assert_eq!(a.len(), 4 * BLOCK);
        assert_eq!((a[BLOCK], a[3 * BLOCK]), (1, 3));
        let at = a.raw();
        let rest = a.split_off(2 * BLOCK);
        drop(a);
        let other = pool.take(4 * BLOCK).unwrap();
        assert_ne!(other.raw(), at, "a slot with a live part was handed out");
        drop(rest);
        assert_eq!(pool.take(4 * BLOCK).unwrap().raw(), at, "a free slot is reused");
        assert_eq!(pool.taken(), 1);
    }

    #[test]
    fn an_empty_part_is_harmless() {
        let pool = Pool::new();
        let mut a = pool.take(BLOCK).unwrap();
        let end = a.split_off(BLOCK);
        assert!(end.is_empty() && end.iter().next().is_none());
        let whole = a.split_off(0);
        assert!(a.is_empty());
        a.unsplit(whole).unwrap();
        a.unsplit(end).unwrap();
        assert_eq!(a.len(), BLOCK);
    }

    #[test]
    fn neighbouring_slots_do_not_join() {
        let pool = Pool::new();
        let mut a = pool.take(BLOCK).unwrap();
        let b = pool.take(BLOCK).unwrap();
        assert_eq!(a.raw().addr() + BLOCK, b.raw().addr());
        assert!(a.unsplit(b).is_err());
    }

    #[test]
    #[should_panic(expected = "cannot be cut at 100")]
    fn a_cut_inside_a_block_is_refused() {
        Pool::new().take(BLOCK).unwrap().split_off(100);
    }

    #[test]
    fn regions_tell_where_a_buffer_lies() {
        let pool = Pool::new();
        let mut a = pool.take(8 * BLOCK).unwrap();
        let b = a.split_off(3 * BLOCK);
        let (base, len) = pool.region(b.region()).unwrap();
        assert_eq!(base.as_ptr().addr() + b.region_offset(), b.raw().addr());
        assert!(b.region_offset() + b.len() <= len);
        assert!(pool.region(1).is_none() && pool.region(usize::MAX).is_none());
        assert!(pool.owns(&a) && !Pool::new().owns(&a));
    }

    #[test]
    fn buffers_outlive_their_pool() {
        let buffer = Pool::new().take(BLOCK).unwrap();
        assert_eq!(buffer[BLOCK - 1], 0);
    }

    #[test]
    fn a_pool_grows_without_handing_out_anything_twice() {
        let pool = Pool::new();
        let buffers: Vec<_> = (0..3000).map(|_| pool.take(BLOCK).unwrap()).collect();
        let places: HashSet<_> = buffers.iter().map(|b| b.raw().addr()).collect();
        assert_eq!(places.len(), 3000);
        assert_eq!(pool.taken(), 3000);
        let mapped = pool.mapped();
        drop(buffers);
        let _again: Vec<_> = (0..3000).map(|_| pool.take(BLOCK).unwrap()).collect();
        assert_eq!(pool.mapped(), mapped, "freed slots are reused");
    }

    #[test]
    fn threads_never_share_bytes() {
        let pool = Pool::new();
        std::thread::scope(|scope| {
            for id in 0..4u8 {
                let pool = &pool;
                scope.spawn(move || {
                    for round in 0..500usize {
                        let mut a = pool.take((1 + round % 5) * BLOCK).unwrap();
                        a.fill(id);
                        let b = a.split_off(a.len() / BLOCK / 2 * BLOCK);
                        std::thread::yield_now();
                        assert!(a.iter().chain(b.iter()).all(|&x| x == id));
                        let other = std::thread::scope(|s| s.spawn(move || drop(b)).join());
                        assert!(other.is_ok());
                    }
                });
            }
        });
        assert_eq!(pool.taken(), 0);
    }
}
