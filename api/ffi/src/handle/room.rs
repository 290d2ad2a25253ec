//! Where the slots of a table are.
//!
//! Addresses for as many as a table may ever have are taken at once, when the first handle is
//! made, and memory is put there as they are needed. So slots never move, and a number becomes
//! the address of a slot by a mask and an addition. Whatever number a program makes up, there is
//! something to read: behind the slots that were made lie pages of zeroes, which cost nothing.
//!
//! The first word of a slot is its *name*: the handle that is good there, or a number that is
//! looked for elsewhere.

use std::marker::PhantomData;
use std::mem::size_of;
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

/// Slots that are made at a time: whole pages, of whatever size, since no slot is under 64 bytes.
const MADE: usize = 1 << 10;
/// Addresses in front of the slots, of which so many are left out as the table's kind says: a
/// call looks into several tables, mostly at their first slots, and what lies equally far from
/// the boundary of a page competes for the same few places in a processor's first cache.
const MARGIN: usize = 1 << 16;
const SHIFT: usize = 5 * 64;
/// Logarithms of how many slots are tried to have room for: a program may have little of an
/// address space left.
const ROOMS: [u32; 4] = [20, 17, 14, 10];
/// The most that a slot takes.
const STRIDE: usize = 512;

/// Bits of a handle from here on are its generation.
pub(super) const GENERATION: u32 = 32;
/// Bits of a handle that say its kind, below those of its place.
const KIND: u32 = 6;

/// In place of slots while a table has none: of two there, each has a name that is looked for in
/// the other, wherever the second begins.
static NOBODY: [AtomicU64; STRIDE / 8 + 1] = {
    let mut names = [const { AtomicU64::new(0) }; STRIDE / 8 + 1];
    let mut i = 0;
    while i < names.len() {
        names[i] = AtomicU64::new(nobody(8 * i as u64));
        i += 1;
    }
    names
};

/// The name of a slot without an object, by its place or any handle of it: it differs in the
/// bits that are a place from each handle that is looked for there.
pub(super) const fn nobody(place: u64) -> u64 {
    !place
}

/// Something with a name in front.
///
/// # Safety
/// Its first word is an [`AtomicU64`], and it is good when all its bytes are zero.
pub(super) unsafe trait Named {}

/// The slots of a table.
pub(super) struct Room<S> {
    first: AtomicPtr<AtomicU64>,
    /// Of the handles' bits those that are a place: how far a slot is from the first one. Set
    /// after `first`: whoever knows of more slots knows where they are.
    mask: AtomicU64,
    /// Slots that were made, one after the other.
    made: AtomicUsize,
    growing: Mutex<()>,
    /// How far into the margin the slots begin.
    shift: usize,
    slots: PhantomData<S>,
}

impl<S: Named> Room<S> {
    /// From one slot to the next: a power of two.
    const STEP: usize = {
        let step = size_of::<S>().next_power_of_two();
        assert!(step >= 1 << KIND && step <= STRIDE);
        step
    };

    pub(super) const fn new(kind: u64) -> Self {
        Room {
            first: AtomicPtr::new((&raw const NOBODY).cast::<AtomicU64>().cast_mut()),
            mask: AtomicU64::new(Self::STEP as u64),
            made: AtomicUsize::new(0),
            growing: Mutex::new(()),
            shift: kind as usize * SHIFT,
            slots: PhantomData,
        }
    }

    /// The handle of a slot, of a kind below 16, in a generation.
    pub(super) fn handle(index: usize, kind: u64, generation: u64) -> u64 {
        generation << GENERATION | (index * Self::STEP) as u64 | kind << 2 | 3
    }

    /// The number of the slot that a handle of the kind would be of. None for what is none.
    pub(super) fn index(handle: u64, kind: u64) -> Option<usize> {
        let place = (handle & ((1 << GENERATION) - 1)) as usize;
        let (index, rest) = (place / Self::STEP, place % Self::STEP);
        (rest as u64 == kind << 2 | 3).then_some(index)
    }

    /// The slot whose name is that handle, or what is said where there is none. (Said here, and
    /// not by who looks, so that it is a branch: the address of the slot does not wait for its
    /// name.)
    #[inline(always)]
    pub(super) fn named<E>(&self, handle: u64, none: impl FnOnce() -> E) -> Result<&S, E> {
        let place = (handle & self.mask.load(Ordering::Acquire)) as usize;
        let name = self.first.load(Ordering::Acquire).wrapping_byte_add(place);
        // SAFETY: by the mask this is in `NOBODY`, or at the beginning of a slot that has
        // memory or whose page of zeroes can be read; by `Named` a word like this is there.
        if unsafe { &*name }.load(Ordering::Acquire) != handle {
            return Err(none());
        }
        // SAFETY: only a slot that was made gets a name that is looked for there: those of
        // `NOBODY` are not, and 0, the name of one that was not made, is looked for in the first
        // one alone, which is made before anyone finds it.
        Ok(unsafe { &*name.cast::<S>() })
    }

    /// A slot that was made.
    pub(super) fn at(&self, index: usize) -> Option<&S> {
        if index >= self.made.load(Ordering::Acquire) {
            return None;
        }
        let slot = self.first.load(Ordering::Acquire).wrapping_byte_add(index * Self::STEP);
        // SAFETY: so many were made, and stay there.
        Some(unsafe { &*slot.cast::<S>() })
    }

    /// Makes some more slots, zeroed but for the first word of each, which `name` gets, unless
    /// `found` finds one meanwhile: its number, and how many more follow it.
    #[cold]
    pub(super) fn grow(&self, found: impl FnOnce() -> Option<usize>) -> Option<(usize, usize)> {
        let _growing = self.growing.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(index) = found() {
            return Some((index, 0));
        }
        let made = self.made.load(Ordering::Relaxed);
        if made == 0 {
            return self.begin(Self::take).then_some((0, MADE - 1));
        }
        let places = self.mask.load(Ordering::Relaxed) as usize / Self::STEP + 1;
        let first = self.first.load(Ordering::Relaxed);
        if made + MADE > places || !self.make(first, made) {
            return None;
        }
        self.made.store(made + MADE, Ordering::Release);
        Some((made, MADE - 1))
    }

    /// Takes the addresses, and makes the first slots. False where the system gives none.
    fn begin(&self, take: impl Fn(usize) -> Option<*mut AtomicU64>) -> bool {
        let taken = ROOMS.iter().find_map(|log| Some((take(MARGIN + (Self::STEP << log))?, log)));
        let Some((margin, log)) = taken else { return false };
        let first = margin.wrapping_byte_add(self.shift);
        if !self.make(first, 0) {
            // SAFETY: it was just taken, and nobody knows of it.
            unsafe { libc::munmap(margin.cast(), MARGIN + (Self::STEP << log)) };
            return false;
        }
        self.first.store(first, Ordering::Release);
        self.made.store(MADE, Ordering::Release);
        let places = (1 << log) - 1;
        self.mask.store((places * Self::STEP) as u64, Ordering::Release);
        true
    }

    /// So many bytes of addresses, which read as zeroes.
    fn take(bytes: usize) -> Option<*mut AtomicU64> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: no address is asked for, so nothing is replaced.
        let first = unsafe { libc::mmap(null_mut(), bytes, libc::PROT_READ, flags, -1, 0) };
        (first != libc::MAP_FAILED).then_some(first.cast())
    }

    /// Puts memory where slots are to be, up to the end of the last one's pages, and names them.
    fn make(&self, first: *mut AtomicU64, made: usize) -> bool {
        let margin = first.wrapping_byte_sub(self.shift);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let bytes = MARGIN + (made + MADE) * Self::STEP;
        // SAFETY: these are pages of ours, which the first slots have already.
        if unsafe { libc::mprotect(margin.cast(), bytes, access) } != 0 {
            return false;
        }
        for index in made..made + MADE {
            // SAFETY: it lies there, and by `Named` a word like this is in front of a slot.
            let name = unsafe { &*first.wrapping_byte_add(index * Self::STEP) };
            name.store(nobody((index * Self::STEP) as u64), Ordering::Relaxed);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(C, align(64))]
    struct Name(AtomicU64);

    // SAFETY: its first word is one, and zeroes are a name.
    unsafe impl Named for Name {}

    /// Where the system gives few addresses there are fewer slots, and numbers of others lead to
    /// none of them.
    #[test]
    fn few_addresses_are_enough_for_some() {
        static ROOM: Room<Name> = Room::new(9);
        assert!(!ROOM.begin(|_| None), "none at all");
        let asked = Mutex::new(Vec::new());
        let few = |bytes: usize| {
            asked.lock().unwrap().push(bytes);
            (bytes < 2 << 20).then(|| Room::<Name>::take(bytes)).flatten()
        };
        assert!(ROOM.begin(few));
        assert_eq!(asked.lock().unwrap().len(), 3, "fewer each time: {asked:?}");
        let mut slots = 1 << 10;
        while let Some((first, more)) = ROOM.grow(|| None) {
            assert_eq!((first, more), (slots, MADE - 1));
            slots += MADE;
        }
        assert_eq!(slots, 1 << 14);
        let handle = Room::<Name>::handle;
        for index in 0..slots {
            ROOM.at(index).unwrap().0.store(handle(index, 9, 1), Ordering::Relaxed);
        }
        assert!((0..slots).all(|i| ROOM.named(handle(i, 9, 1), || ()).is_ok()));
        for other in (0..slots).flat_map(|i| [handle(i + slots, 9, 1), handle(i, 9, 3)]) {
            assert!(ROOM.named(other, || ()).is_err());
        }
        assert!(ROOM.at(slots).is_none());
    }
}
