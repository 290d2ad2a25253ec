//! Pins of I/O in flight, counted by the queue that it is in.
//!
//! A queue is used by one thread at a time, and moves between threads by means
//! that order what they do. So its counters have a single writer as a thread's
//! have, and a command is pinned and unpinned without any atomic read-modify-write.

use super::state::{COMMAND, NotHeld, PinState};
use super::table::{self, Chunk, Kind, NO_SLOT, Pair};
use super::word::{GATED, Word};
use super::{fork::forked, sync::CHUNKS};
use std::sync::atomic::Ordering::Relaxed;

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
    /// Address and slot of the lease: slots are not used again while a command of
    /// theirs has a pin.
    lease: usize,
    slot: u32,
    pair: Option<&'static Pair>,
}

impl IoPin {
    fn new(state: &PinState, pair: Option<&'static Pair>) -> Self {
        Self { lease: std::ptr::from_ref(state).addr(), slot: state.slot, pair }
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn lease(&self) -> usize {
        self.lease
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
                return Ok(IoPin::new(state, Some(pair)));
            }
        }
        self.submit_slowly(state)
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
                    return Ok(IoPin::new(state, None));
                }
                Some(pair) if state.enter(pair, word) => {
                    return Ok(IoPin::new(state, Some(pair)));
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
    #[inline]
    pub fn complete(&mut self, state: &PinState, pin: IoPin) {
        if pin.slot != state.slot || pin.lease != std::ptr::from_ref(state).addr() {
            return;
        }
        let Some(pair) = pin.pair else { return state.leave_gate(COMMAND) };
        let chunk = self.chunks[table::place(pin.slot)];
        if chunk.is_some_and(|own| std::ptr::eq(table::pair(own, pin.slot), pair)) {
            state.leave(pair);
        }
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
