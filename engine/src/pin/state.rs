//! One lease as its pins see it: the state word, the gate, and how a pin of each
//! kind is taken.

use super::barrier::{self, light};
use super::fork::{self, forked};
use super::guard::{ExclusivePin, ShortPin};
use super::shared::PinRef;
use super::sync::{self, AtomicU64, Fault, broken, step};
use super::table::{self, ACQUIRED, Pair, RELEASED};
use super::wake::Waiter;
use super::word::{DRAINED, FENCED, GATED, State, Word};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Why something was not pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotHeld {
    /// The lease was asked back; return it, or wait until it is held again.
    #[error("the lease was recalled: return it")]
    Recalled,
    /// The lease was taken; read and write by offset, or take a new one.
    #[error("the lease was revoked: take a new one")]
    Revoked,
    /// The lease was given back.
    #[error("the lease was returned: take a new one")]
    Returned,
    /// An exclusive pin is there, or is being taken; drop it first, or try again.
    #[error("an exclusive pin of the lease is in use: drop it first")]
    Excluded,
    /// An exclusive pin was asked for while others are there; drop them first.
    #[error("the lease has other pins: drop them first")]
    Pinned,
    /// This process was forked from the one that holds the lease; it owns nothing.
    #[error("a forked child holds no leases: open the store after an exec")]
    ForkedChild,
}

/// On the gate: an exclusive pin is there, or is being taken.
pub(super) const EXCLUSIVE: u64 = 1 << 63;

/// On the gate: one command. Its lower half counts pins of the CPU, its upper half these.
pub(super) const COMMAND: u64 = 1 << 32;

/// One lease, as far as pins are concerned. It knows its state and counts what
/// is in use; what is leased, and who must be told, others know.
#[derive(Debug)]
pub struct PinState {
    /// See [`Word`]. Who pins reads it; who takes the lease changes it.
    pub(super) word: AtomicU64,
    /// Long pins, and short ones that could not be counted otherwise; the highest
    /// bit is an exclusive pin.
    pub(super) gate: AtomicU64,
    waiter: Waiter,
    pub(super) slot: u32,
}

const _: () = assert!(cfg!(all(loom, test)) || size_of::<PinState>() <= 32);

impl PinState {
    /// A lease that is held, with sequence number 1. `waiter` is woken whenever a
    /// pin of it ends while it is not held.
    ///
    /// In a forked child it is there, but every pin answers `ForkedChild`.
    pub fn new(waiter: &Waiter) -> Self {
        Self::make(waiter, !sync::registered())
    }

    /// The same, with real fences in place of membarrier: as everywhere on a
    /// system that refuses it. For tests, and to measure what it costs.
    pub fn with_fences(waiter: &Waiter) -> Self {
        Self::make(waiter, true)
    }

    /// By itself, and not as a part of what is leased.
    pub fn shared(self) -> PinRef {
        PinRef::new(&Arc::new(self))
    }

    fn make(waiter: &Waiter, fenced: bool) -> Self {
        fork::mark();
        let slot = if forked() { table::NO_SLOT } else { table::take_slot() };
        let word = Word::first(if fenced { FENCED } else { 0 });
        let (word, gate) = (AtomicU64::new(word.0), AtomicU64::new(0));
        Self { word, gate, waiter: waiter.clone(), slot }
    }

    pub(super) fn load(&self) -> Word {
        let word = Word(self.word.load(Acquire));
        step();
        word
    }

    /// Its state. Another thread may change it at any time.
    pub fn state(&self) -> State {
        self.load().state()
    }

    /// Its sequence number: 1 at first, one more each time it is held again.
    pub fn seq(&self) -> u64 {
        self.load().seq()
    }

    /// Pins it for a short use by this thread: while the guard lives no revoker
    /// finds the lease quiet. Takes a few nanoseconds and writes nothing that
    /// another thread writes. Never blocks but for a thread's first pin, which
    /// takes a lock for a moment.
    ///
    /// # Errors
    /// [`NotHeld`] says why there is no pin.
    #[inline]
    pub fn pin(&self) -> Result<ShortPin<'_>, NotHeld> {
        let word = Word(self.word.load(Relaxed));
        step();
        if word.plain()
            && let Some(pair) = table::own(self.slot)
            && self.enter(pair, word)
        {
            return Ok(ShortPin::new(self, Some(pair)));
        }
        self.pin_slowly()
    }

    /// Counts a pin and reads the state again. If it changed the count is undone.
    #[inline(always)]
    pub(super) fn enter(&self, pair: &Pair, word: Word) -> bool {
        table::add(pair, ACQUIRED);
        self.still(pair, word, word.has(FENCED))
    }

    /// After a pin was counted: reads the state again. If it changed the count is undone.
    #[inline(always)]
    pub(super) fn still(&self, pair: &Pair, word: Word, fenced: bool) -> bool {
        light(fenced);
        // Acquire: what the last revoker did before it was held is seen.
        if self.word.load(Acquire) == word.0 || broken(Fault::NoSecondLoad) {
            return true;
        }
        self.undo(pair);
        false
    }

    #[cold]
    fn undo(&self, pair: &Pair) {
        self.leave(pair);
    }

    /// Counts the end of a pin; wakes who waits for it.
    #[inline(always)]
    pub(super) fn leave(&self, pair: &Pair) {
        step();
        table::add(pair, RELEASED);
        self.left();
    }

    /// After the end of a pin was counted.
    #[inline(always)]
    fn left(&self) {
        light(false);
        if !Word(self.word.load(Relaxed)).plain() {
            self.left_slowly();
        }
    }

    #[cold]
    fn left_slowly(&self) {
        if Word(self.word.load(Relaxed)).has(FENCED) {
            light(true);
        }
        // Who waits is the parent's of a forked child.
        if !self.load().held() && !forked() {
            self.waiter.wake();
        }
    }

    #[cold]
    fn pin_slowly(&self) -> Result<ShortPin<'_>, NotHeld> {
        if forked() {
            return Err(NotHeld::ForkedChild);
        }
        loop {
            let word = self.load();
            word.may_pin()?;
            let pair = if word.has(GATED) { None } else { table::own_published(self.slot) };
            match pair {
                None => {
                    self.enter_gate(1)?;
                    return Ok(ShortPin::new(self, None));
                }
                Some(pair) if self.enter(pair, word) => {
                    return Ok(ShortPin::new(self, Some(pair)));
                }
                Some(_) => {}
            }
        }
    }

    /// Counts one more of something on the gate, unless an exclusive pin is there or the lease
    /// is not held afterwards.
    pub(super) fn enter_gate(&self, what: u64) -> Result<(), NotHeld> {
        if forked() {
            return Err(NotHeld::ForkedChild);
        }
        self.load().may_pin()?;
        let mut gate = self.gate.load(Relaxed);
        step();
        loop {
            if gate & EXCLUSIVE != 0 {
                return Err(NotHeld::Excluded);
            }
            // Acquire: what was done under an exclusive pin is seen.
            match self.gate.compare_exchange(gate, gate + what, Acquire, Relaxed) {
                Ok(_) => break,
                Err(now) => gate = now,
            }
        }
        light(self.load().has(FENCED));
        let again = self.load().may_pin();
        if again.is_err() && !broken(Fault::NoSecondLoad) {
            self.leave_gate(what);
            return again;
        }
        Ok(())
    }

    /// Takes a count, or the exclusive pin, off the gate; wakes who waits for it.
    pub(super) fn leave_gate(&self, what: u64) {
        step();
        self.gate.fetch_sub(what, Release);
        self.left();
    }

    /// Pins it so that there is no other pin of it, of any kind, until the guard
    /// is gone. The first one closes the fast path to short pins of this lease:
    /// one membarrier (up to 5 us). From then on short pins are counted on one
    /// atomic, and an exclusive one takes some 20 ns, until
    /// [`ExclusivePin::reopen`].
    ///
    /// # Errors
    /// `Pinned` or `Excluded` while there are other pins: it does not wait for
    /// them. Else [`NotHeld`] says why there is no pin.
    pub fn pin_exclusive(&self) -> Result<ExclusivePin<'_>, NotHeld> {
        if forked() {
            return Err(NotHeld::ForkedChild);
        }
        self.load().may_pin()?;
        self.gate.compare_exchange(0, EXCLUSIVE, Acquire, Relaxed).map_err(|gate| {
            if gate & EXCLUSIVE != 0 { NotHeld::Excluded } else { NotHeld::Pinned }
        })?;
        light(self.load().has(FENCED));
        let again = || if broken(Fault::NoSecondLoad) { Ok(()) } else { self.load().may_pin() };
        let done = self.drained().and_then(|()| again());
        match done {
            Ok(()) => Ok(ExclusivePin::new(self)),
            Err(why) => {
                self.leave_gate(EXCLUSIVE);
                Err(why)
            }
        }
    }

    /// With the gate's exclusive bit ours: no short pin is there and none comes
    /// but through the gate.
    ///
    /// Only who has that bit sets or clears GATED and DRAINED, so they cannot
    /// change and change back under us.
    fn drained(&self) -> Result<(), NotHeld> {
        if self.load().has(DRAINED) || broken(Fault::NoDrain) {
            return Ok(());
        }
        self.word.fetch_or(GATED, AcqRel);
        barrier::everywhere().map_err(|_| NotHeld::Pinned)?;
        // A short pin may have become a long one before we read the sums: it was
        // counted on the gate before it was counted as released.
        if !table::sums(self.slot).quiet() || self.gate.load(Acquire) != EXCLUSIVE {
            return Err(NotHeld::Pinned);
        }
        self.word.fetch_or(DRAINED, AcqRel);
        Ok(())
    }

    /// Changes the word by `change` until that is done, or `change` refuses.
    pub(super) fn shift(&self, change: impl Fn(Word) -> Option<Word>) -> Option<Word> {
        let mut word = self.load();
        loop {
            let next = change(word)?;
            match self.word.compare_exchange(word.0, next.0, AcqRel, Acquire) {
                Ok(_) => return Some(next),
                Err(now) => word = Word(now),
            }
        }
    }
}

impl Drop for PinState {
    fn drop(&mut self) {
        // Nobody can pin it now, and whoever did has ended before the last
        // reference went, so the sums are exact. What is left was forgotten, or is a
        // command whose pin must not be taken for one of another lease.
        if !forked() && self.gate.load(Relaxed) == 0 {
            table::give_slot(self.slot);
        }
    }
}
