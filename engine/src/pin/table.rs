//! Where the counters lie: one pair for each (thread, lease), in pages that one
//! thread (or one device queue) writes alone.
//!
//! Each lease has a slot, a small number. A thread's counters for it stand at
//! that place of the thread's own chunk, so that a pin finds them without a search.
//! Chunks are address space; a page of 256 pairs takes memory when the thread
//! first pins one of these 256 leases. Then it is *published*: its pairs are set
//! to one, and it is put on the list of its page number, which is what a revoker
//! walks. A pair of zeroes is therefore "not published", and also what a forked
//! child finds: both are found by the load that counting begins with.
//!
//! Nothing is added up when a thread exits. Its chunks, counts and all, are handed
//! on to the next thread that wants one, and stay on the lists: counters go up for
//! ever, and whose they were does not matter to a sum. A chunk with a pin that was
//! forgotten, or that will end while the thread's last locals go, has a writer
//! left, so nobody else gets it (docs/decisions/0015).

use super::fork::forked;
use super::sync::{AtomicU64, CELLS, CHUNKS, Fault, PAGE, broken, counters, step};
use std::cell::Cell;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Acquired and released. One thread or queue writes them, the revokers read them.
pub(super) type Pair = [AtomicU64; 2];
pub(super) const ACQUIRED: usize = 0;
pub(super) const RELEASED: usize = 1;

/// The pairs of `CELLS` leases that one thread or queue writes.
pub(super) type Chunk = [Pair; CELLS];

/// The slot of a lease that got none. The last pair of the last chunk stands
/// there; it is never published.
pub(super) const NO_SLOT: u32 = (CELLS * CHUNKS - 1) as u32;

/// Who writes a chunk. It stays so when the chunk is handed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Thread,
    Queue,
}

/// What a lease's counters add up to at some moment: released was read first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    /// Short pins that were not released.
    pub(super) short: u64,
    /// Pins of device queues that were not released.
    pub(super) io: u64,
}

impl Sums {
    pub(super) fn quiet(&self) -> bool {
        self.short == 0 && self.io == 0
    }
}

/// The one list of all chunks, and of slots.
pub(super) struct Roll {
    /// For each page number, the chunks in which that page is published.
    pages: Vec<Vec<(Kind, &'static Chunk)>>,
    /// Chunks whose thread is gone, by their place.
    idle: Vec<(Kind, usize, &'static Chunk)>,
    /// Slots of leases that are gone and left no count behind.
    free: Vec<u32>,
    /// The lowest slot that was never given.
    next: u32,
}

impl Roll {
    pub(super) const fn new() -> Self {
        Self { pages: Vec::new(), idle: Vec::new(), free: Vec::new(), next: 0 }
    }

    fn sums(&self, slot: u32) -> Sums {
        let (page, cell) = (slot as usize / PAGE, slot as usize % CELLS);
        let Some(list) = self.pages.get(page) else { return Sums::default() };
        let mut sums = [0u64; 2];
        // All released first: then what was acquired before any of these releases
        // is in the second sum, and a difference of zero is a zero for each pair.
        let (first, second) =
            if broken(Fault::AcquiredFirst) { (ACQUIRED, RELEASED) } else { (RELEASED, ACQUIRED) };
        for (which, sign) in [(first, u64::MAX), (second, 1)] {
            for (kind, chunk) in list {
                // Acquire: what was done under the pins that are counted as
                // released is done. And the second sum is not read before the first.
                let count = chunk[cell][which].load(Acquire).wrapping_mul(sign);
                let sum = &mut sums[(*kind == Kind::Queue) as usize];
                *sum = sum.wrapping_add(count);
            }
            step();
        }
        if broken(Fault::AcquiredFirst) {
            sums = sums.map(u64::wrapping_neg);
        }
        Sums { short: sums[0], io: sums[1] }
    }

    fn chunk(&mut self, kind: Kind, place: usize) -> Option<&'static Chunk> {
        match self.idle.iter().position(|(k, p, _)| (*k, *p) == (kind, place)) {
            Some(found) => Some(self.idle.swap_remove(found).2),
            None => counters(),
        }
    }

    fn publish(&mut self, kind: Kind, chunk: &'static Chunk, slot: u32) {
        let page = slot as usize / PAGE;
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, Vec::new);
        }
        if self.pages[page].iter().any(|(_, other)| std::ptr::eq(*other, chunk)) {
            return;
        }
        let first = slot as usize % CELLS / PAGE * PAGE;
        for pair in &chunk[first..first + PAGE] {
            pair[RELEASED].store(1, Relaxed);
            pair[ACQUIRED].store(1, Relaxed);
        }
        self.pages[page].push((kind, chunk));
    }

    fn hand_on(&mut self, kind: Kind, place: usize, chunk: &'static Chunk) {
        let first = place * (CELLS / PAGE);
        if broken(Fault::Forget) {
            self.pages.iter_mut().for_each(|list| list.retain(|(_, c)| !std::ptr::eq(*c, chunk)));
        }
        let last = self.pages.len().min(first + CELLS / PAGE);
        let even = (first..last).all(|page| {
            let cells = (page - first) * PAGE..(page - first + 1) * PAGE;
            !self.pages[page].iter().any(|(_, c)| std::ptr::eq(*c, chunk))
                || chunk[cells].iter().all(|p| p[0].load(Relaxed) == p[1].load(Relaxed))
        });
        if even {
            self.idle.push((kind, place, chunk));
        }
    }
}

#[cfg(not(all(loom, test)))]
static ROLL: super::sync::Mutex<Roll> = super::sync::Mutex::new(Roll::new());

#[cfg(all(loom, test))]
use super::models::world::ROLL;

/// Held while sums are read, pages published and chunks handed on; never while a
/// pin is counted. Not to be called in a forked child.
fn roll() -> impl std::ops::DerefMut<Target = Roll> {
    ROLL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A slot for a new lease. None when all are given: then its pins are counted at
/// the gate.
pub(super) fn take_slot() -> u32 {
    let mut roll = roll();
    if let Some(slot) = roll.free.pop() {
        return slot;
    }
    let slot = roll.next;
    if slot < NO_SLOT {
        roll.next += 1;
    }
    slot
}

/// Gives the slot of a lease back that nobody can pin any more. If a pin of it
/// was forgotten the slot is never used again.
pub(super) fn give_slot(slot: u32) {
    if slot != NO_SLOT {
        let mut roll = roll();
        if roll.sums(slot).quiet() {
            roll.free.push(slot);
        }
    }
}

/// Adds up the counters of some leases, under one hold of the lock. In a forked
/// child there is nothing to add up.
pub(super) fn sums_of(slots: impl Iterator<Item = u32>, mut each: impl FnMut(Sums)) {
    if !forked() {
        let roll = roll();
        slots.for_each(|slot| each(roll.sums(slot)));
    }
}

/// Adds up the counters of one lease.
pub(super) fn sums(slot: u32) -> Sums {
    let mut sums = Sums::default();
    sums_of(std::iter::once(slot), |found| sums = found);
    sums
}

/// A chunk for a new writer.
pub(super) fn new_chunk(kind: Kind, place: usize) -> Option<&'static Chunk> {
    roll().chunk(kind, place)
}

/// Makes a slot's pair in a writer's chunk known to all revokers.
pub(super) fn publish(kind: Kind, chunk: &'static Chunk, slot: u32) {
    roll().publish(kind, chunk, slot);
}

/// What a writer that ends leaves behind.
pub(super) fn hand_on(kind: Kind, place: usize, chunk: &'static Chunk) {
    if !forked() {
        roll().hand_on(kind, place, chunk);
    }
}

/// One more, by the only thread that writes this counter.
#[inline(always)]
pub(super) fn add(pair: &Pair, which: usize) {
    let count = pair[which].load(Relaxed) + 1;
    // Release: what was done under a pin is done before it counts as released.
    pair[which].store(count, if which == RELEASED { Release } else { Relaxed });
}

/// The pair of a slot in a chunk, whether published or not.
#[inline(always)]
pub(super) fn pair(chunk: &'static Chunk, slot: u32) -> &'static Pair {
    &chunk[slot as usize % CELLS]
}

/// True if a writer may count there.
#[inline(always)]
pub(super) fn published(pair: &Pair) -> bool {
    pair[ACQUIRED].load(Relaxed) != 0
}

/// The place among a writer's chunks where a slot's pair stands.
#[inline(always)]
pub(super) fn place(slot: u32) -> usize {
    slot as usize / CELLS % CHUNKS
}

/// The chunks of the running thread.
pub(super) struct Own([Cell<Option<&'static Chunk>>; CHUNKS]);

impl Own {
    pub(super) const fn new() -> Self {
        Self([const { Cell::new(None) }; CHUNKS])
    }
}

/// Hands the thread's chunks on when it ends.
pub(super) struct Exit;

impl Drop for Exit {
    fn drop(&mut self) {
        step();
        OWN.with(|own| {
            for (place, chunk) in own.0.iter().enumerate() {
                if let Some(chunk) = chunk.take() {
                    hand_on(Kind::Thread, place, chunk);
                }
            }
        });
    }
}

// Two of them, because one that has a destructor would be checked at every pin.
#[cfg(not(all(loom, test)))]
super::sync::thread_local! {
    static OWN: Own = const { Own::new() };
    static EXIT: Exit = const { Exit };
}

#[cfg(all(loom, test))]
use super::models::world::{EXIT, OWN};

/// The running thread's pair for a slot, if it is published.
#[inline(always)]
pub(super) fn own(slot: u32) -> Option<&'static Pair> {
    let chunk = OWN.with(|own| own.0[place(slot)].get())?;
    let pair = pair(chunk, slot);
    published(pair).then_some(pair)
}

/// The same, which publishes it first if need be. None when there is no memory,
/// or while the thread's last locals go: then pins are counted at the gate.
pub(super) fn own_published(slot: u32) -> Option<&'static Pair> {
    if let Some(pair) = own(slot) {
        return Some(pair);
    }
    if slot == NO_SLOT {
        return None;
    }
    let chunk = match OWN.with(|own| own.0[place(slot)].get()) {
        Some(chunk) => chunk,
        None => {
            EXIT.try_with(|_| ()).ok()?;
            let chunk = new_chunk(Kind::Thread, place(slot))?;
            OWN.with(|own| own.0[place(slot)].set(Some(chunk)));
            chunk
        }
    };
    publish(Kind::Thread, chunk, slot);
    step();
    Some(pair(chunk, slot))
}
