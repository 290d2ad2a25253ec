//! A ring of entries in device pages: any index, cut down to the ring, is a place of it, so
//! no access has to be checked.

use super::dma::DmaPages;
use std::sync::atomic::{Ordering, fence};

/// Entries of `BYTES` each, a power of two of them, from the start of pages on. Each access
/// is volatile, as those of [`DmaPages`] are.
#[derive(Debug)]
pub struct DmaRing<const BYTES: usize> {
    pages: DmaPages,
    mask: u32,
}

impl<const BYTES: usize> DmaRing<BYTES> {
    const WORDS: usize = BYTES / 8;

    /// A ring of the pages' first `entries`.
    ///
    /// # Panics
    /// When they are no power of two, or more than there is room for.
    pub fn new(pages: DmaPages, entries: u32) -> Self {
        const { assert!(BYTES > 0 && BYTES.is_multiple_of(8), "entries are made of words") }
        let fits = (entries as usize).checked_mul(BYTES).is_some_and(|len| len <= pages.len());
        assert!(entries.is_power_of_two() && fits, "a ring of {entries} entries");
        Self { pages, mask: entries - 1 }
    }

    /// The pages that it lies in.
    pub fn pages(&self) -> &DmaPages {
        &self.pages
    }

    /// The last index: one less than there are entries.
    #[inline]
    pub fn mask(&self) -> u32 {
        self.mask
    }

    /// The place of an index, which wraps.
    #[inline(always)]
    fn place(&self, index: u32) -> *mut u64 {
        // SAFETY: what is left of the index by the mask is below the number of entries, all
        // of which lie in the pages (`new`), which begin on a page; so the place is in them,
        // and aligned.
        unsafe { self.pages.base().add((index & self.mask) as usize * BYTES).cast::<u64>() }
    }

    /// Writes the words of an entry, lowest address first.
    #[inline]
    pub fn store<const N: usize>(&self, index: u32, words: &[u64; N]) {
        const { assert!(N == Self::WORDS, "as many words as an entry has") }
        let at = self.place(index);
        for (i, &word) in words.iter().enumerate() {
            // SAFETY: the entry has so many words, which are mapped while the pages live.
            // Nobody has a reference into device pages (see there).
            unsafe { at.add(i).write_volatile(word) };
        }
    }

    /// Writes one word of an entry.
    #[inline]
    pub fn store_word<const WORD: usize>(&self, index: u32, value: u64) {
        const { assert!(WORD < Self::WORDS, "a word of an entry") }
        // SAFETY: as in `store`.
        unsafe { self.place(index).add(WORD).write_volatile(value) }
    }

    /// Reads one word of an entry; what this thread reads afterwards is at least as new
    /// (Acquire).
    #[inline]
    pub fn load_acquire<const WORD: usize>(&self, index: u32) -> u64 {
        const { assert!(WORD < Self::WORDS, "a word of an entry") }
        // SAFETY: as in `store`; every value is valid.
        let value = unsafe { self.place(index).add(WORD).read_volatile() };
        fence(Ordering::Acquire);
        value
    }
}
