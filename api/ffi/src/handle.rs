//! Handles: what a C program has in place of an object.
//!
//! A handle is a number in the clothes of a pointer: which table, which slot of it, and the
//! slot's generation. It is looked up, never followed, so that a null handle, one of another
//! kind, one that was freed, and a random number are all told. Slots stay where they are for
//! as long as the process lives; a slot that is used again has another generation.
//!
//! One word of each slot says whether it is live and how many *users* it has. A call that may
//! last counts itself there for its time; a handle that is freed meanwhile, by another thread or
//! by an action that runs inside of the call, is dead at once, and its object goes with the last
//! user. A pin is such a user, too.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::ptr::null_mut;
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Slots in a chunk, and chunks in a table.
const CHUNK: usize = 1 << 10;
const CHUNKS: usize = 1 << 12;

/// It was freed, and its object waits for its last user.
const DYING: u64 = 1 << 30;
const USERS: u64 = DYING - 1;
/// Generations are 31 bits, so that a handle's highest bit is free for others.
const GENERATIONS: u64 = 1 << 31;

/// One place for an object. Its size is a power of two for what is small: then an index becomes
/// an address by a shift.
#[repr(align(64))]
struct Slot<T> {
    /// Generation in the upper half, odd while there is a good handle; DYING and the count of
    /// users in the lower.
    state: AtomicU64,
    /// The next free slot, and one; 0 for none.
    next: AtomicU32,
    value: UnsafeCell<MaybeUninit<T>>,
}

/// All objects of a kind.
pub(crate) struct Table<T> {
    /// Four bits that all its handles have.
    kind: u64,
    chunks: [AtomicPtr<[Slot<T>; CHUNK]>; CHUNKS],
    /// A stack: how often it was changed in the upper half, the first free slot and one in the
    /// lower.
    free: AtomicU64,
    /// Chunks that were made.
    made: Mutex<usize>,
}

// SAFETY: what is in the slots is given out as `&T` and, by `Table::remove`, as `T`, to whatever
// thread; all else is atomic.
unsafe impl<T: Send + Sync> Sync for Table<T> {}

/// An object that is used by a call. It is not dropped before this is.
pub(crate) struct Used<T: 'static> {
    table: &'static Table<T>,
    index: usize,
}

impl<T> Table<T> {
    /// An empty one. Kinds are from 1 to 15.
    pub(crate) const fn new(kind: u64) -> Self {
        Table {
            kind,
            chunks: [const { AtomicPtr::new(null_mut()) }; CHUNKS],
            free: AtomicU64::new(0),
            made: Mutex::new(0),
        }
    }

    fn handle(&self, generation: u64, index: usize) -> u64 {
        generation << 32 | (index as u64) << 8 | self.kind << 4 | 0xf
    }

    /// The slot that a handle names, if there is one, and the generation in which it is good.
    fn slot(&self, handle: u64) -> Option<(&Slot<T>, u64)> {
        self.slot_of(handle, self.kind)
    }

    /// The same for who knows the table's kind without asking it.
    #[inline(always)]
    fn slot_of(&self, handle: u64, kind: u64) -> Option<(&Slot<T>, u64)> {
        // Generations of good handles are odd: an even one is that of a slot with nothing in it.
        if handle & (1 << 32 | 0xff) != 1 << 32 | kind << 4 | 0xf {
            return None;
        }
        Some((self.at(index(handle))?, handle >> 32))
    }

    #[inline(always)]
    fn at(&self, index: usize) -> Option<&Slot<T>> {
        let chunk = self.chunks[index / CHUNK % CHUNKS].load(Ordering::Acquire);
        // SAFETY: a chunk that is entered there is whole, and is never taken away.
        (!chunk.is_null()).then(|| unsafe { &(&*chunk)[index % CHUNK] })
    }

    /// Puts an object into a slot. None when all are taken.
    pub(crate) fn insert(&self, value: T) -> Option<u64> {
        let index = match self.pop() {
            Some(index) => index,
            None => self.grow()?,
        };
        let slot = self.at(index)?;
        // SAFETY: whoever pops a slot has it alone: no handle to it is good.
        unsafe { (*slot.value.get()).write(value) };
        // Release: who finds it good finds the object. A late visitor may be counted there.
        let state = slot.state.fetch_add(1 << 32, Ordering::Release);
        Some(self.handle((state >> 32) + 1, index))
    }

    /// Looks at an object without counting its user: for what lasts so short a time that
    /// nobody frees the handle meanwhile, by the contract of the calls that do so.
    ///
    /// # Safety
    /// The handle is not freed as long as the reference is used, or the object is counted as
    /// used in another way.
    #[inline(always)]
    pub(crate) unsafe fn peek(&self, handle: u64, kind: u64) -> Option<&T> {
        let (slot, good) = self.slot_of(handle, kind)?;
        let state = slot.state.load(Ordering::Acquire);
        // SAFETY: the handle is good, so there is an object; it stays, by the caller's promise.
        (state >> 32 == good).then(|| unsafe { (*slot.value.get()).assume_init_ref() })
    }

    /// As [`Self::peek`], where nobody else uses the object: no pin is left.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(crate) unsafe fn peek_unused(&self, handle: u64, kind: u64) -> Peeked<'_, T> {
        let Some((slot, good)) = self.slot_of(handle, kind) else { return Peeked::None };
        let state = slot.state.load(Ordering::Acquire);
        if state >> 32 != good {
            return Peeked::None;
        }
        // SAFETY: as in `peek`.
        let value = unsafe { (*slot.value.get()).assume_init_ref() };
        if state & USERS == 0 { Peeked::Unused(value) } else { Peeked::Used }
    }

    /// Looks at an object for as long as it takes.
    pub(crate) fn enter(&'static self, handle: u64) -> Option<Used<T>> {
        let (slot, good) = self.slot(handle)?;
        let state = slot.state.fetch_add(1, Ordering::Acquire);
        let used = Used { table: self, index: index(handle) };
        // Dropping it takes the count back, also from a slot that was not meant.
        (state >> 32 == good).then_some(used)
    }

    /// Ends a handle. The object goes now, or with its last user. False if it was not good.
    pub(crate) fn remove(&'static self, handle: u64) -> bool {
        self.end(handle).is_some()
    }

    /// Takes an object out, if nothing uses it.
    pub(crate) fn take(&'static self, handle: u64) -> Taken<T> {
        match self.take_to(handle, Ok::<T, (T, ())>) {
            Taken::None => Taken::None,
            Taken::Used => Taken::Used,
            Taken::Value(Ok(value)) => Taken::Value(value),
            Taken::Value(Err(())) => Taken::None,
        }
    }

    /// Takes an object out, if nothing uses it, for an end that may give it back: then the
    /// handle is good again. Meanwhile it is not.
    pub(crate) fn take_to<R, E>(
        &'static self,
        handle: u64,
        end: impl FnOnce(T) -> Result<R, (T, E)>,
    ) -> Taken<Result<R, E>> {
        let Some((slot, good)) = self.slot(handle) else { return Taken::None };
        // Not DYING: a late visitor that goes has nothing to bury.
        let (was, dead) = (good << 32, after(good) << 32);
        match slot.state.compare_exchange(was, dead, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                // SAFETY: the handle is dead, and nobody used the object; a late visitor finds
                // it dead and does not look at it.
                let value = unsafe { (*slot.value.get()).assume_init_read() };
                let (value, why) = match end(value) {
                    Ok(done) => {
                        self.push(index(handle));
                        return Taken::Value(Ok(done));
                    }
                    Err(back) => back,
                };
                // SAFETY: the slot is dead still, and this has it alone.
                unsafe { (*slot.value.get()).write(value) };
                let again = |state| Some(was | state & USERS);
                // It always changes something.
                let _ = slot.state.fetch_update(Ordering::Release, Ordering::Relaxed, again);
                Taken::Value(Err(why))
            }
            Err(state) if state >> 32 == good => Taken::Used,
            Err(_) => Taken::None,
        }
    }

    fn end(&'static self, handle: u64) -> Option<Used<T>> {
        let (slot, good) = self.slot(handle)?;
        // It counts as a user until it has been dropped.
        let dead = |state: u64| {
            let users = state & USERS;
            (state >> 32 == good).then_some(after(good) << 32 | DYING | (users + 1))
        };
        let ended = slot.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, dead);
        ended.is_ok().then(|| Used { table: self, index: index(handle) })
    }

    fn pop(&self) -> Option<usize> {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let first = (head & 0xffff_ffff) as u32;
            let slot = self.at(first.checked_sub(1)? as usize)?;
            let next = slot.next.load(Ordering::Relaxed);
            let new = ((head >> 32) + 1) << 32 | u64::from(next);
            match self.free.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(first as usize - 1),
                Err(now) => head = now,
            }
        }
    }

    fn push(&self, index: usize) {
        let Some(slot) = self.at(index) else { return };
        let mut head = self.free.load(Ordering::Relaxed);
        loop {
            slot.next.store(head as u32, Ordering::Relaxed);
            let new = ((head >> 32) + 1) << 32 | (index as u64 + 1);
            match self.free.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// One more chunk, and a slot of it.
    #[cold]
    fn grow(&self) -> Option<usize> {
        let mut made = self.made.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(index) = self.pop() {
            return Some(index);
        }
        let place = self.chunks.get(*made)?;
        let slots: Vec<Slot<T>> = (0..CHUNK)
            .map(|_| Slot {
                state: AtomicU64::new(0),
                next: AtomicU32::new(0),
                value: UnsafeCell::new(MaybeUninit::uninit()),
            })
            .collect();
        let chunk: Box<[Slot<T>; CHUNK]> = slots.into_boxed_slice().try_into().ok()?;
        // Release: who finds the chunk finds its slots.
        place.store(Box::into_raw(chunk), Ordering::Release);
        let first = *made * CHUNK;
        *made += 1;
        (first + 1..first + CHUNK).rev().for_each(|index| self.push(index));
        Some(first)
    }
}

/// The number of the slot that a handle names.
#[inline(always)]
fn index(handle: u64) -> usize {
    (handle >> 8 & 0x3f_ffff) as usize
}

/// The generation after one: of a good handle the next is none.
fn after(generation: u64) -> u64 {
    (generation + 1) % GENERATIONS
}

/// What a look found.
pub(crate) enum Peeked<'a, T> {
    /// No good handle.
    None,
    /// The object is in use.
    Used,
    /// It is not.
    Unused(&'a T),
}

/// What came of taking an object out.
pub(crate) enum Taken<T> {
    /// No good handle.
    None,
    /// The object is in use.
    Used,
    /// The object; the handle is dead.
    Value(T),
}

impl<T> Deref for Used<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        match self.table.at(self.index) {
            // SAFETY: `enter` found it live after it had counted this user, or `end` counted
            // one more: the object stays until the count is gone.
            Some(slot) => unsafe { (*slot.value.get()).assume_init_ref() },
            None => unreachable!("slots stay where they are"),
        }
    }
}

impl<T> Drop for Used<T> {
    fn drop(&mut self) {
        let Some(slot) = self.table.at(self.index) else { return };
        let state = slot.state.fetch_sub(1, Ordering::AcqRel) - 1;
        if state & (DYING | USERS) != DYING {
            return;
        }
        // The last user of a dead object. A late visitor that counts itself meanwhile finds
        // the same when it goes: of both one takes DYING away.
        let buried = state & !DYING;
        let last = slot.state.compare_exchange(state, buried, Ordering::AcqRel, Ordering::Relaxed);
        if last.is_ok() {
            // SAFETY: no handle and no user is left, and DYING was taken away here.
            unsafe { (*slot.value.get()).assume_init_drop() };
            self.table.push(self.index);
        }
    }
}

#[cfg(test)]
mod tests;
