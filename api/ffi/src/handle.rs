//! Handles: what a C program has in place of an object.
//!
//! A handle is a number in the clothes of a pointer: which table, which slot of it, and the
//! slot's generation. It is looked up, never followed, so that a null handle, one of another
//! kind, one that was freed, and a random number are all told. Slots stay where they are for
//! as long as the process lives (`room`); a slot that is used again has another generation.
//!
//! One word of each slot, its state, says whether it is live and how many *users* it has. A call
//! that may last counts itself there for its time; a handle that is freed meanwhile, by another
//! thread or by an action that runs inside of the call, is dead at once, and its object goes with
//! the last user. A pin is such a user, too.
//!
//! Another, its name, is the handle itself while that is good. Calls that are over in some
//! nanoseconds count no user and compare this word alone: kind, generation and whether there is
//! an object, all at once. It follows the state: it is set after the object is there, and gone
//! before the object goes.

mod room;

use room::{GENERATION, Named, Room, nobody};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// It was freed, and its object waits for its last user.
const DYING: u64 = 1 << 30;
const USERS: u64 = DYING - 1;
/// Generations are 31 bits: the highest bit of a handle is free for others.
const GENERATIONS: u64 = 1 << 31;

/// One place for an object.
#[repr(C, align(64))]
struct Slot<T> {
    /// The good handle; while there is none a number that leads elsewhere.
    name: AtomicU64,
    /// Generation in the upper half, odd while there is a good handle; DYING and the count of
    /// users in the lower.
    state: AtomicU64,
    /// The next free slot, and one; 0 for none.
    next: AtomicU32,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: what is in the slots is given out as `&T` and, by `Table::remove` and `Table::take`, as
// `T`, to whatever thread; all else is atomic.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

// SAFETY: the name is the first word, and zeroes are a slot without an object.
unsafe impl<T> Named for Slot<T> {}

/// All objects of a kind.
pub(crate) struct Table<T> {
    /// Four bits that all its handles have.
    kind: u64,
    room: Room<Slot<T>>,
    /// A stack: how often it was changed in the upper half, the first free slot and one in the
    /// lower.
    free: AtomicU64,
}

/// An object that is used by a call. It is not dropped before this is.
pub(crate) struct Used<T: 'static> {
    table: &'static Table<T>,
    slot: &'static Slot<T>,
    index: usize,
}

impl<T> Table<T> {
    /// An empty one. Kinds are from 1 to 15.
    pub(crate) const fn new(kind: u64) -> Self {
        Table { kind, room: Room::new(kind), free: AtomicU64::new(0) }
    }

    /// The slot that a handle names, if there is one, its number, and the generation in which it
    /// is good.
    fn slot(&self, handle: u64) -> Option<(&Slot<T>, usize, u64)> {
        let generation = handle >> GENERATION;
        // Generations of good handles are odd: an even one is that of a slot with nothing in it.
        if generation.is_multiple_of(2) {
            return None;
        }
        let index = Room::<Slot<T>>::index(handle, self.kind)?;
        Some((self.room.at(index)?, index, generation))
    }

    /// Puts an object, which is told its handle, into a slot. None when all are taken.
    pub(crate) fn insert(&self, value: impl FnOnce(u64) -> T) -> Option<u64> {
        let index = match self.pop() {
            Some(index) => index,
            None => self.grow()?,
        };
        let slot = self.room.at(index)?;
        // A late visitor may be counted there; the generation is that of whoever has the slot.
        let generation = (slot.state.load(Ordering::Relaxed) >> 32) + 1;
        let handle = Room::<Slot<T>>::handle(index, self.kind, generation);
        // SAFETY: whoever pops a slot has it alone: no handle to it is good.
        unsafe { (*slot.value.get()).write(value(handle)) };
        // Release: who finds it good finds the object.
        slot.state.fetch_add(1 << 32, Ordering::Release);
        slot.name.store(handle, Ordering::Release);
        Some(handle)
    }

    /// Looks at an object without counting its user: for what lasts so short a time that
    /// nobody frees the handle meanwhile, by the contract of the calls that do so. `none` says
    /// that there is none.
    ///
    /// # Safety
    /// The handle is not freed as long as the reference is used, or the object is counted as
    /// used in another way.
    #[inline(always)]
    pub(crate) unsafe fn peek<E>(&self, handle: u64, none: impl FnOnce() -> E) -> Result<&T, E> {
        let slot = self.room.named(handle, none)?;
        // SAFETY: the slot has this name, so there is an object; it stays, by the caller's
        // promise.
        Ok(unsafe { (*slot.value.get()).assume_init_ref() })
    }

    /// As [`Self::peek`], where nobody else uses the object: no pin is left.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    pub(crate) unsafe fn peek_unused<E>(
        &self,
        handle: u64,
        none: impl FnOnce() -> E,
        used: impl FnOnce() -> E,
    ) -> Result<&T, E> {
        let slot = self.room.named(handle, none)?;
        if slot.state.load(Ordering::Acquire) & USERS != 0 {
            return Err(used());
        }
        // SAFETY: as in `peek`.
        Ok(unsafe { (*slot.value.get()).assume_init_ref() })
    }

    /// Looks at an object for as long as it takes.
    pub(crate) fn enter(&'static self, handle: u64) -> Option<Used<T>> {
        let (slot, index, good) = self.slot(handle)?;
        let state = slot.state.fetch_add(1, Ordering::Acquire);
        let used = Used { table: self, slot, index };
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
        let Some((slot, index, good)) = self.slot(handle) else { return Taken::None };
        // Not DYING: a late visitor that goes has nothing to bury.
        let (was, dead) = (good << 32, after(good) << 32);
        match slot.state.compare_exchange(was, dead, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                slot.forget(handle);
                // SAFETY: the handle is dead, and nobody used the object; a late visitor finds
                // it dead and does not look at it.
                let value = unsafe { (*slot.value.get()).assume_init_read() };
                let (value, why) = match end(value) {
                    Ok(done) => {
                        self.push(index);
                        return Taken::Value(Ok(done));
                    }
                    Err(back) => back,
                };
                // SAFETY: the slot is dead still, and this has it alone.
                unsafe { (*slot.value.get()).write(value) };
                let again = |state| Some(was | state & USERS);
                // It always changes something.
                let _ = slot.state.fetch_update(Ordering::Release, Ordering::Relaxed, again);
                slot.name.store(handle, Ordering::Release);
                Taken::Value(Err(why))
            }
            Err(state) if state >> 32 == good => Taken::Used,
            Err(_) => Taken::None,
        }
    }

    fn end(&'static self, handle: u64) -> Option<Used<T>> {
        let (slot, index, good) = self.slot(handle)?;
        // It counts as a user until it has been dropped.
        let dead = |state: u64| {
            let users = state & USERS;
            (state >> 32 == good).then_some(after(good) << 32 | DYING | (users + 1))
        };
        slot.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, dead).ok()?;
        // The slot has no next object before this user is gone.
        slot.forget(handle);
        Some(Used { table: self, slot, index })
    }

    fn pop(&self) -> Option<usize> {
        let mut head = self.free.load(Ordering::Acquire);
        loop {
            let first = (head & 0xffff_ffff) as u32;
            let slot = self.room.at(first.checked_sub(1)? as usize)?;
            let next = slot.next.load(Ordering::Relaxed);
            let new = ((head >> 32) + 1) << 32 | u64::from(next);
            match self.free.compare_exchange_weak(head, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(first as usize - 1),
                Err(now) => head = now,
            }
        }
    }

    fn push(&self, index: usize) {
        let Some(slot) = self.room.at(index) else { return };
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

    /// Some more slots, and one of them.
    #[cold]
    fn grow(&self) -> Option<usize> {
        let (first, more) = self.room.grow(|| self.pop())?;
        (first + 1..=first + more).rev().for_each(|index| self.push(index));
        Some(first)
    }
}

impl<T> Slot<T> {
    /// The handle is good no more.
    fn forget(&self, handle: u64) {
        self.name.store(nobody(handle), Ordering::Relaxed);
    }
}

/// The generation after one: of a good handle the next is none.
fn after(generation: u64) -> u64 {
    (generation + 1) % GENERATIONS
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
        // SAFETY: `enter` found it live after it had counted this user, or `end` counted one
        // more: the object stays until the count is gone.
        unsafe { (*self.slot.value.get()).assume_init_ref() }
    }
}

impl<T> Drop for Used<T> {
    fn drop(&mut self) {
        let slot = self.slot;
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
