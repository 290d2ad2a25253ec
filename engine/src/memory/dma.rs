//! Pages of memory that this process and a device use at the same time: rings, lists
//! of addresses, tables.
//!
//! There are no references to them: each access is volatile, of the width that is
//! asked for, and names its ordering. An access outside the pages is a mistake of the
//! caller's code and panics, as indexing does.

use super::copy;
use super::pool::Pool;
use super::slab::Piece;
use crate::medium::{BLOCK, Error, ErrorKind, Result};
use std::sync::atomic::{Ordering, fence};

/// Page-aligned memory of a pool's device, zeroes at first, given back on drop. Whoever
/// told the device of it sees to it that the device is done with it first, or
/// [withholds](Self::withhold) it.
///
/// Addresses are bytes from its start. Accesses of 4 and 8 bytes are aligned.
#[derive(Debug)]
pub struct DmaPages {
    piece: Piece,
}

impl Pool {
    /// At least `len` bytes of whole pages for rings and tables, zeroed. May wait for
    /// the device when the pool grows.
    ///
    /// # Errors
    /// `Unsupported` for a pool without a device, `Invalid` for no bytes, `Gone` when
    /// the device is lost, `Limit` with what to raise.
    pub fn pages(&self, len: usize) -> Result<DmaPages> {
        let Some(slabs) = self.slabs() else {
            let text = "this memory has no device: its pages have no device address";
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        match len.checked_next_multiple_of(BLOCK) {
            Some(len) if len > 0 && len <= isize::MAX as usize / 2 => {
                let pages = DmaPages { piece: slabs.take(len)? };
                // Somebody else may have had them.
                pages.zero(0, len);
                Ok(pages)
            }
            _ => Err(Error::new(ErrorKind::Invalid, format!("{len} bytes of device pages"))),
        }
    }
}

impl DmaPages {
    /// Bytes in it: whole pages of 4096.
    pub fn len(&self) -> usize {
        self.piece.len()
    }

    /// Never: there is a page at least.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The address that the device uses for the first byte; aligned to 4096.
    pub fn iova(&self) -> u64 {
        self.piece.iova()
    }

    /// Keeps the pages from ever being used again: the device may still write to
    /// them (law M4). They count in [`Pool::withheld`].
    pub fn withhold(self) {
        self.piece.withhold();
    }

    /// The first byte.
    #[inline(always)]
    pub(super) fn base(&self) -> *mut u8 {
        self.piece.base().as_ptr()
    }

    /// Where an aligned value of `T` lies.
    #[inline(always)]
    fn place<T>(&self, offset: usize) -> *mut T {
        assert!(
            offset < self.len() && offset.is_multiple_of(size_of::<T>()),
            "{offset} is no place in {} bytes of device pages",
            self.len()
        );
        // SAFETY: the offset is inside the piece; as it is aligned and the piece is
        // made of whole pages, so is the whole value.
        unsafe { self.piece.base().as_ptr().add(offset).cast::<T>() }
    }

    /// Checks a range and gives its first byte.
    #[inline]
    fn range(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset <= self.len() && len <= self.len() - offset,
            "{offset}..+{len} is not in {} bytes of device pages",
            self.len()
        );
        // SAFETY: the offset is inside the piece or at its end.
        unsafe { self.piece.base().as_ptr().add(offset) }
    }

    /// Reads 2 bytes.
    #[inline]
    pub fn load16(&self, offset: usize) -> u16 {
        // SAFETY: the place is mapped while the piece lives, aligned, and every value
        // is valid. Nobody has a reference into device pages: all accesses of this
        // process are volatile ones like this; the device's are outside of it.
        unsafe { self.place::<u16>(offset).read_volatile() }
    }

    /// Reads 4 bytes.
    #[inline]
    pub fn load32(&self, offset: usize) -> u32 {
        // SAFETY: as in `load16`.
        unsafe { self.place::<u32>(offset).read_volatile() }
    }

    /// Reads 8 bytes.
    #[inline]
    pub fn load64(&self, offset: usize) -> u64 {
        // SAFETY: as in `load16`.
        unsafe { self.place::<u64>(offset).read_volatile() }
    }

    /// Reads 4 bytes; what this thread reads afterwards is at least as new (Acquire).
    #[inline]
    pub fn load32_acquire(&self, offset: usize) -> u32 {
        let value = self.load32(offset);
        fence(Ordering::Acquire);
        value
    }

    /// Reads 8 bytes; what this thread reads afterwards is at least as new (Acquire).
    #[inline]
    pub fn load64_acquire(&self, offset: usize) -> u64 {
        let value = self.load64(offset);
        fence(Ordering::Acquire);
        value
    }

    /// Writes 4 bytes.
    #[inline]
    pub fn store32(&self, offset: usize, value: u32) {
        // SAFETY: as in `load16`.
        unsafe { self.place::<u32>(offset).write_volatile(value) }
    }

    /// Writes 8 bytes.
    #[inline]
    pub fn store64(&self, offset: usize, value: u64) {
        // SAFETY: as in `load16`.
        unsafe { self.place::<u64>(offset).write_volatile(value) }
    }

    /// Writes 4 bytes; whoever sees them sees all that this thread wrote before
    /// (Release).
    #[inline]
    pub fn store32_release(&self, offset: usize, value: u32) {
        fence(Ordering::Release);
        self.store32(offset, value);
    }

    /// Writes 8 bytes; whoever sees them sees all that this thread wrote before
    /// (Release).
    #[inline]
    pub fn store64_release(&self, offset: usize, value: u64) {
        fence(Ordering::Release);
        self.store64(offset, value);
    }

    /// Writes words side by side, lowest address first: a ring's entry.
    #[inline]
    pub fn store_words<const N: usize>(&self, offset: usize, words: &[u64; N]) {
        assert!(offset.is_multiple_of(8), "{offset} is no place for words");
        let at = self.range(offset, N * 8).cast::<u64>();
        for (i, &word) in words.iter().enumerate() {
            // SAFETY: the range was checked and is aligned; otherwise as in `load16`.
            unsafe { at.add(i).write_volatile(word) };
        }
    }

    /// Reads words side by side: a ring's entry.
    #[inline]
    pub fn load_words<const N: usize>(&self, offset: usize) -> [u64; N] {
        assert!(offset.is_multiple_of(8), "{offset} is no place for words");
        let at = self.range(offset, N * 8).cast::<u64>();
        // SAFETY: the range was checked and is aligned; otherwise as in `load16`.
        std::array::from_fn(|i| unsafe { at.add(i).read_volatile() })
    }

    /// Copies bytes out. The device may write them meanwhile: what comes out may be
    /// any mixture.
    pub fn read(&self, offset: usize, to: &mut [u8]) {
        let from = self.range(offset, to.len());
        // SAFETY: the range was checked; the words around it exist, as the piece is
        // made of whole pages. `to` is a reference, and nobody has one into device
        // pages, so it is elsewhere.
        unsafe { copy::load(to.as_mut_ptr(), from, to.len()) }
    }

    /// Copies bytes in.
    pub fn write(&self, offset: usize, from: &[u8]) {
        let to = self.range(offset, from.len());
        // SAFETY: as in `read`, the other way round.
        unsafe { copy::store(to, from.as_ptr(), from.len()) }
    }

    /// Zeroes bytes; offset and length are multiples of 8.
    pub fn zero(&self, offset: usize, len: usize) {
        assert!(offset.is_multiple_of(8) && len.is_multiple_of(8), "{offset}..+{len} in words");
        // SAFETY: the range was checked, and is aligned to words of 8 bytes.
        unsafe { copy::zero(self.range(offset, len), len) }
    }
}
