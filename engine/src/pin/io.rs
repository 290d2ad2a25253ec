//! Pins of I/O in flight, counted by the queue that it is in.
//!
//! A queue is used by one thread at a time, and moves between threads by means
//! that order what they do. So its counters have a single writer as a thread's
//! have, and a command is pinned and unpinned without any atomic read-modify-write.

use super::state::{COMMAND, NotHeld, PinState};
use super::table::{self, ACQUIRED, Chunk, Kind, NO_SLOT, Pair};
use super::word::{GATED, Word};
use super::{fork::forked, sync::CHUNKS};
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// The pins of one queue's commands.
#[derive(Debug)]
pub struct IoPins {
    chunks: [Option<&'static Chunk>; CHUNKS],
}

/// One command in flight. It goes to [`IoPins::complete`] of the same queue when
/// its completion was reaped; dropping it instead pins the lease for ever.
#[derive(Debug)]
#[must_use = "a lease stays pinned until its commands are completed"]
pub struct IoPin {
    /// Where it is counted: the address of the pair, or that of the lease, whose gate it is
    /// then, and [`GATE`].
    place: usize,
    /// Of the lease: not used again while a command of its has a pin.
    slot: u32,
}

/// A pair and a lease are at even addresses.
const GATE: usize = 1;

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

impl IoPin {
    #[inline(always)]
    fn counted(state: &PinState, pair: &'static Pair) -> Self {
        Self { place: std::ptr::from_ref(pair).addr(), slot: state.slot }
    }

    fn at_gate(state: &PinState) -> Self {
        Self { place: std::ptr::from_ref(state).addr() | GATE, slot: state.slot }
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
        Self { chunks: [None; CHUNKS] }
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
                return Ok(IoPin::counted(state, pair));
            }
        }
        self.submit_slowly(state)
    }

    /// As [`IoPins::submit`] of a lease that is still as it is known and was pinned by this
    /// queue before; none, with nothing done, of any other. `known` is of this lease.
    #[inline(always)]
    pub fn again(&mut self, state: &PinState, known: Known) -> Option<IoPin> {
        let pair = table::pair(self.chunks[table::place(state.slot)]?, state.slot);
        let acquired = pair[ACQUIRED].load(Relaxed);
        // Not published, or nothing is known, which may be of a lease with fences.
        if acquired == 0 || known == Known::default() {
            return None;
        }
        pair[ACQUIRED].store(acquired + 1, Relaxed);
        if state.still(pair, Word(known.0)) { Some(IoPin::counted(state, pair)) } else { None }
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
                    return Ok(IoPin::at_gate(state));
                }
                Some(pair) if state.enter(pair, word) => {
                    return Ok(IoPin::counted(state, pair));
                }
                Some(_) => {}
            }
        }
    }

    fn published(&mut self, slot: u32) -> Option<&'static Pair> {
        if slot == NO_SLOT {
            return None;
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
        // That the pair is this queue's and of this slot says whose pin it is.
        let own = self.chunks[table::place(state.slot)].map(|own| table::pair(own, state.slot));
        match own.filter(|pair| std::ptr::from_ref::<Pair>(pair).addr() == pin.place) {
            Some(pair) => state.leave(pair),
            None => complete_at_gate(state, &pin),
        }
    }
}

#[cold]
fn complete_at_gate(state: &PinState, pin: &IoPin) {
    if pin.slot == state.slot && pin.place == std::ptr::from_ref(state).addr() | GATE {
        state.leave_gate(COMMAND);
    }
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
