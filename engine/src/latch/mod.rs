//! A lock with an owner, who enters it without a locked instruction.
//!
//! Most locks of a queue are taken by the one thread that uses it; others come seldom, when
//! they wait for something that the owner does not do. A [`Latch`] is made for that: the
//! [`Owner`] enters by two plain stores and a load. Whoever else wants in closes the door,
//! has all threads of the process pass a barrier, and looks whether the owner is inside.
//!
//! ```
//! use freehold_engine::latch::Latch;
//!
//! let (latch, mut owner) = Latch::owned(1);
//! *latch.enter(&mut owner) += 1;
//! assert_eq!(*latch.try_lock().expect("the owner is outside"), 2);
//! ```
//!
//! # Why it is right
//!
//! The owner writes `inside`, then reads `door`; another one writes `door`, then reads
//! `inside`; one of them must see the other (Dekker). As with pins (see [`crate::pin`]) the
//! owner has no barrier between the two: membarrier executes it for the owner, at a point p
//! of its program between the other's write and look.
//! - The owner wrote `inside` before p: the look sees it, and the other goes away; or it
//!   sees that the owner has left since, and with it all that was done inside (Release).
//!   The owner's next entry is then after p.
//! - It wrote after p: then its look is after p too, finds the door closed, and it waits as
//!   anybody else does; or finds it opened again, and with it all that was done (Acquire).
//!
//! The owner may move between threads: whatever moves it orders what both do, and p is a
//! point of whichever thread has it then. Where membarrier is refused the owner passes a
//! fence of its own. An owner that ends leaves a plain lock behind. One that is forgotten is
//! asked for ever: that costs, and is right. In a forked child the owner is as it was; the
//! lock may be held by a thread that is not there, so who may be in a child asks first
//! ([`crate::fork::in_child`]) or uses what does not wait.

#[cfg(all(loom, test))]
mod models;
#[cfg(all(test, not(loom)))]
mod tests;

use crate::pin::barrier::{self, light, step};
use crate::pin::sync::{AtomicU64, Fault, Mutex, broken};
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{PoisonError, TryLockError};

#[cfg(not(all(loom, test)))]
type Held<'a> = std::sync::MutexGuard<'a, ()>;
#[cfg(all(loom, test))]
type Held<'a> = loom::sync::MutexGuard<'a, ()>;

/// The door is open, and the owner enters without a fence.
const OPEN: u64 = 0;
/// As `OPEN`, where membarrier is refused.
const FENCED: u64 = 1;
/// Somebody who has the lock is, or looks, inside.
const CLOSED: u64 = 2;
/// There is no owner: the lock is all there is.
const NOBODYS: u64 = 3;

/// The number of an owner that has ended, which no latch has.
const ENDED: u64 = u64::MAX;

/// A value that one thread at a time may reach.
pub struct Latch<T> {
    /// One of the above; written by who has the lock, but for the owner's end.
    door: AtomicU64,
    /// The owner is inside. Written by the owner alone.
    inside: AtomicU64,
    /// Which owner's it is; 0: nobody's.
    number: u64,
    fenced: bool,
    lock: Mutex<()>,
    value: UnsafeCell<T>,
}

// SAFETY: who reaches the value is alone there, and sees what was done there before (see the
// head of this file); so it may be reached from any thread if it may move between threads.
unsafe impl<T: Send> Sync for Latch<T> {}

/// The right to enter one latch without its lock. One thread has it at a time.
#[derive(Debug)]
pub struct Owner {
    number: u64,
}

/// The value, entered by its owner.
#[must_use = "the latch is left at once"]
pub struct Entered<'a, T> {
    latch: &'a Latch<T>,
    /// The owner came by the lock.
    held: Option<Held<'a>>,
    /// A guard stays where it was made, and is shared with no other thread.
    _here: PhantomData<*const ()>,
}

/// The value, locked by somebody else than the owner.
#[must_use = "the latch is left at once"]
pub struct Locked<'a, T> {
    latch: &'a Latch<T>,
    _held: Held<'a>,
    /// A guard stays where it was made, and is shared with no other thread.
    _here: PhantomData<*const ()>,
}

impl<T> Latch<T> {
    /// One that nobody owns: a lock.
    pub fn new(value: T) -> Self {
        Self::make(value, 0, false, NOBODYS)
    }

    /// One with its owner.
    pub fn owned(value: T) -> (Self, Owner) {
        Self::owned_as(value, barrier::fenced())
    }

    /// The same with fences in place of membarrier, as everywhere where that is refused.
    /// For tests, and to measure what it costs.
    pub fn owned_with_fences(value: T) -> (Self, Owner) {
        Self::owned_as(value, true)
    }

    fn owned_as(value: T, fenced: bool) -> (Self, Owner) {
        let number = numbers::next();
        let door = if fenced { FENCED } else { OPEN };
        (Self::make(value, number, fenced, door), Owner { number })
    }

    fn make(value: T, number: u64, fenced: bool, door: u64) -> Self {
        Latch {
            door: AtomicU64::new(door),
            inside: AtomicU64::new(0),
            number,
            fenced,
            lock: Mutex::new(()),
            value: UnsafeCell::new(value),
        }
    }

    /// Enters as the owner; waits while somebody else is inside.
    ///
    /// # Panics
    /// If it is the owner of another latch.
    #[inline(always)]
    pub fn enter<'a>(&'a self, owner: &'a mut Owner) -> Entered<'a, T> {
        match self.enter_if_open(owner) {
            Some(entered) => entered,
            None => self.enter_locked(),
        }
    }

    /// As [`Latch::enter`]; none where that would wait.
    ///
    /// # Panics
    /// As there.
    pub fn try_enter<'a>(&'a self, owner: &'a mut Owner) -> Option<Entered<'a, T>> {
        if let Some(entered) = self.enter_if_open(owner) {
            return Some(entered);
        }
        let held = Some(unpoisoned(self.lock.try_lock())?);
        Some(Entered { latch: self, held, _here: PhantomData })
    }

    /// Enters as the owner if nobody else is inside, or about to be; never waits, and takes
    /// no lock.
    ///
    /// # Panics
    /// If it is the owner of another latch.
    #[inline(always)]
    pub fn enter_if_open<'a>(&'a self, owner: &'a mut Owner) -> Option<Entered<'a, T>> {
        if owner.number != self.number {
            stranger();
        }
        self.inside.store(1, Relaxed);
        light(false);
        // Acquire: what was done by who had closed the door is seen.
        let door = self.door.load(Acquire);
        if door == OPEN || broken(Fault::NoSecondLoad) || door == FENCED && self.still_open() {
            return Some(Entered { latch: self, held: None, _here: PhantomData });
        }
        self.inside.store(0, Release);
        None
    }

    #[cold]
    fn still_open(&self) -> bool {
        light(true);
        self.door.load(Acquire) == FENCED
    }

    #[cold]
    fn enter_locked(&self) -> Entered<'_, T> {
        step();
        let held = barrier::blocked(|| self.lock.lock()).unwrap_or_else(PoisonError::into_inner);
        Entered { latch: self, held: Some(held), _here: PhantomData }
    }

    /// Locks it if nobody is inside. Where there is an owner that takes a membarrier (a
    /// few microseconds), unless the owner is seen inside before.
    pub fn try_lock(&self) -> Option<Locked<'_, T>> {
        let held = unpoisoned(barrier::blocked(|| self.lock.try_lock()))?;
        self.alone(held).ok()
    }

    /// Locks it; waits until nobody is inside. None if the system refuses the barrier that
    /// it had granted (a process that took the call from itself): then nobody but the owner
    /// can come in.
    pub fn lock(&self) -> Option<Locked<'_, T>> {
        loop {
            let held =
                barrier::blocked(|| self.lock.lock()).unwrap_or_else(PoisonError::into_inner);
            match self.alone(held) {
                Ok(locked) => return Some(locked),
                Err(Barred::Inside) => pause(),
                Err(Barred::NoBarrier) => return None,
            }
        }
    }

    /// Is the holder of the lock alone? If not the lock is given back.
    fn alone<'a>(&'a self, held: Held<'a>) -> Result<Locked<'a, T>, Barred> {
        step();
        // Acquire: what the owner did before it ended is seen.
        if self.door.load(Acquire) == NOBODYS {
            return Ok(Locked { latch: self, _held: held, _here: PhantomData });
        }
        if self.inside.load(Relaxed) != 0 {
            return Err(Barred::Inside);
        }
        step();
        // Not a plain store: the owner may end meanwhile, which stays.
        let open = if self.fenced { FENCED } else { OPEN };
        let _ = self.door.compare_exchange(open, CLOSED, Relaxed, Relaxed);
        let locked = Locked { latch: self, _held: held, _here: PhantomData };
        if barrier::everywhere().is_err() {
            return Err(Barred::NoBarrier);
        }
        // Acquire: what the owner did inside is seen.
        match self.inside.load(Acquire) {
            0 => Ok(locked),
            _ => Err(Barred::Inside),
        }
    }

    /// Ends the owner, who enters nothing any more: what is left is a lock.
    ///
    /// # Panics
    /// If it is the owner of another latch.
    pub fn disown(&self, owner: &mut Owner) {
        if std::mem::replace(&mut owner.number, ENDED) != self.number {
            stranger();
        }
        step();
        self.door.store(NOBODYS, Release);
    }
}

/// Why somebody else than the owner cannot come in.
enum Barred {
    Inside,
    NoBarrier,
}

#[cold]
#[inline(never)]
fn stranger() -> ! {
    panic!("the owner of another latch")
}

fn unpoisoned<G>(got: Result<G, TryLockError<G>>) -> Option<G> {
    match got {
        Ok(held) => Some(held),
        Err(TryLockError::Poisoned(e)) => Some(e.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Until the owner may have left.
fn pause() {
    #[cfg(not(all(loom, test)))]
    std::thread::sleep(std::time::Duration::from_micros(50));
    #[cfg(all(loom, test))]
    barrier::blocked(loom::thread::yield_now);
}

mod numbers {
    //! Numbers of latches, none given twice.

    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    static LAST: AtomicU64 = AtomicU64::new(0);

    pub(super) fn next() -> u64 {
        LAST.fetch_add(1, Relaxed) + 1
    }
}

impl<T> Deref for Entered<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: who has entered is alone, until this is dropped.
        unsafe { &*self.latch.value.get() }
    }
}

impl<T> DerefMut for Entered<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.latch.value.get() }
    }
}

impl<T> Drop for Entered<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        step();
        if self.held.is_none() {
            // Release: what was done inside is seen by who finds the owner outside.
            self.latch.inside.store(0, Release);
        }
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: who has locked it is alone, until this is dropped.
        unsafe { &*self.latch.value.get() }
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above.
        unsafe { &mut *self.latch.value.get() }
    }
}

impl<T> Drop for Locked<'_, T> {
    fn drop(&mut self) {
        step();
        let open = if self.latch.fenced { FENCED } else { OPEN };
        // Release: what was done is seen by the owner, who finds the door open. Where the
        // owner has ended, or there was none, it stays nobody's.
        let _ = self.latch.door.compare_exchange(CLOSED, open, Release, Relaxed);
    }
}

impl<T> fmt::Debug for Latch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Latch").field("number", &self.number).finish_non_exhaustive()
    }
}
