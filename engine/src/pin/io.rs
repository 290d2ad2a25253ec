//! Pins of I/O in flight, counted by the queue that it is in.
//!
//! A queue is used by one thread at a time, and moves between threads by means
//! that order what they do. So its counters have a single writer as a thread's
//! have, and a command is pinned and unpinned without any atomic read-modify-write.

use super::state::{COMMAND, NotHeld, PinState};
use super::table::{self, ACQUIRED, Chunk, Kind, NO_SLOT, Pair};
use super::word::{GATED, Word};
use super::{fork::forked, sync::CHUNKS};
use std::num::NonZeroU64;
use std::sync::atomic::AtomicU64 as Numbers;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// The pins of one queue's commands.
#[derive(Debug)]
pub struct IoPins {
    chunks: [Option<&'static Chunk>; CHUNKS],
    /// Which queue this is, above the bits of a slot; 0: it has not pinned anything.
    number: u64,
}

/// One command in flight. It goes to [`IoPins::complete`] of the same queue when
/// its completion was reaped; dropping it instead pins the lease for ever.
#[derive(Debug)]
#[must_use = "a lease stays pinned until its commands are completed"]
pub struct IoPin(Place);

/// Where a queue counts the pins of a lease that it has pinned.
#[derive(Clone, Copy, Debug)]
pub struct Seat(Place);

#[derive(Clone, Copy, Debug)]
struct Place {
    /// None: at the lease's gate.
    pair: Option<&'static Pair>,
    /// Queue and slot; at the gate the slot, or the address of a lease without one. Slots are
    /// not used again while a command of theirs has a pin.
    whose: NonZeroU64,
}

/// A queue's number stands above these.
const SLOT: u32 = 32;

/// The number of the last queue that has pinned anything.
static LAST: Numbers = Numbers::new(0);

/// A lease as it was when it was looked at: held, at one number, and pinned by counting.
/// While it is still the same it is pinned again by [`IoPins::again`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known(u64);

impl PinState {
    /// The lease as it is now, and its number. Nothing is known of one that is not held, or
    /// whose pins are not only counted.
    pub fn known(&self) -> (Known, u64) {
        let word = self.load();
        (Known(if word.plain() { word.0 } else { 0 }), word.seq())
    }

    /// Is it still so?
    #[inline(always)]
    pub fn is_still(&self, known: Known) -> bool {
        self.word.load(Acquire) == known.0
    }
}

impl Default for IoPins {
    fn default() -> Self {
        Self::new()
    }
}

impl IoPins {
    /// No pins. Takes memory when leases are first used.
    pub const fn new() -> Self {
        Self { chunks: [None; CHUNKS], number: 0 }
    }

    /// Pins a lease for one command, before it is submitted. The caller keeps
    /// `state` until it gives the pin to `complete`.
    ///
    /// # Errors
    /// [`NotHeld`] says why there is no pin; then the command must not be submitted.
    #[inline]
    pub fn submit(&mut self, state: &PinState) -> Result<IoPin, NotHeld> {
        let word = Word(state.word.load(Relaxed));
        if word.plain()
            && let Some(chunk) = self.chunks[table::place(state.slot)]
        {
            let pair = table::pair(chunk, state.slot);
            if table::published(pair) && state.enter(pair, word) {
                return Ok(self.counted(state, pair));
            }
        }
        self.submit_slowly(state)
    }

    /// As [`IoPins::submit`] of a lease that is still as it is known, and has a seat in this
    /// queue; none, with nothing done, of any other.
    #[inline(always)]
    pub fn again(&mut self, state: &PinState, seat: &Seat, known: Known) -> Option<IoPin> {
        if seat.0.whose.get() != self.whose(state) {
            return None;
        }
        let pair = seat.0.pair?;
        let acquired = pair[ACQUIRED].load(Relaxed);
        // As a forked child finds it.
        if acquired == 0 {
            return None;
        }
        pair[ACQUIRED].store(acquired + 1, Relaxed);
        // What is known is of no lease with fences.
        if state.still(pair, Word(known.0), false) { Some(IoPin(seat.0)) } else { None }
    }

    /// Where a pin of this queue is counted.
    pub fn seat(&self, pin: &IoPin) -> Seat {
        Seat(pin.0)
    }

    #[inline(always)]
    fn whose(&self, state: &PinState) -> u64 {
        self.number | u64::from(state.slot)
    }

    fn counted(&self, state: &PinState, pair: &'static Pair) -> IoPin {
        let whose = NonZeroU64::new(self.whose(state)).expect("a queue that pins has a number");
        IoPin(Place { pair: Some(pair), whose })
    }

    #[cold]
    fn submit_slowly(&mut self, state: &PinState) -> Result<IoPin, NotHeld> {
        if forked() {
            return Err(NotHeld::ForkedChild);
        }
        loop {
            let word = state.load();
            word.may_pin()?;
            let pair = if word.has(GATED) { None } else { self.published(state.slot) };
            match pair {
                None => {
                    state.enter_gate(COMMAND)?;
                    return Ok(IoPin(Place { pair: None, whose: at_gate(state) }));
                }
                Some(pair) if state.enter(pair, word) => {
                    return Ok(self.counted(state, pair));
                }
                Some(_) => {}
            }
        }
    }

    fn published(&mut self, slot: u32) -> Option<&'static Pair> {
        if slot == NO_SLOT {
            return None;
        }
        if self.number == 0 {
            self.number = (LAST.fetch_add(1, Relaxed) + 1) << SLOT;
        }
        let place = &mut self.chunks[table::place(slot)];
        if place.is_none() {
            *place = table::new_chunk(Kind::Queue, table::place(slot));
        }
        let chunk = (*place)?;
        let pair = table::pair(chunk, slot);
        if !table::published(pair) {
            table::publish(Kind::Queue, chunk, slot);
        }
        Some(pair)
    }

    /// Unpins a command of this queue whose completion was reaped. A pin of
    /// another queue, or of another lease than `state`, stays for ever.
    #[inline(always)]
    pub fn complete(&mut self, state: &PinState, pin: IoPin) {
        match pin.0.pair {
            Some(pair) if pin.0.whose.get() == self.whose(state) => state.leave(pair),
            None if pin.0.whose == at_gate(state) => state.leave_gate(COMMAND),
            _ => {}
        }
    }
}

#[cold]
fn at_gate(state: &PinState) -> NonZeroU64 {
    let address = std::ptr::from_ref(state).addr() as u64;
    let whose = if state.slot == NO_SLOT { address } else { u64::from(state.slot) + 1 };
    NonZeroU64::new(whose).expect("neither is zero")
}

impl Drop for IoPins {
    fn drop(&mut self) {
        for (place, chunk) in self.chunks.iter_mut().enumerate() {
            if let Some(chunk) = chunk.take() {
                table::hand_on(Kind::Queue, place, chunk);
            }
        }
    }
}
