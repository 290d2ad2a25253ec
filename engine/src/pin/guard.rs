//! The guards: while one lives its lease is pinned.

use super::shared::PinRef;
use super::state::{COMMAND, EXCLUSIVE, PinState};
use super::sync::{Fault, broken};
use super::table::Pair;
use super::word::{DRAINED, GATED};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};

/// One short use of a lease by the thread that took it; it cannot leave that
/// thread. Forgetting it (`mem::forget`) pins the lease for ever.
///
/// ```compile_fail
/// fn sends<T: Send>() {}
/// sends::<freehold_engine::pin::ShortPin<'static>>();
/// ```
#[derive(Debug)]
#[must_use = "a pin that is dropped at once protects nothing"]
pub struct ShortPin<'a> {
    state: &'a PinState,
    /// The thread's own counters; none if it was counted at the gate.
    pair: Option<&'static Pair>,
    /// Neither `Send` nor `Sync`: the counters have one writer.
    _here: PhantomData<*const ()>,
}

impl<'a> ShortPin<'a> {
    #[inline(always)]
    pub(super) fn new(state: &'a PinState, pair: Option<&'static Pair>) -> Self {
        Self { state, pair, _here: PhantomData }
    }

    /// Makes it a long one, which may be sent and outlives the borrow. Also after
    /// a recall: it is still the same use.
    ///
    /// # Errors
    /// Gives itself back if `state` is not the lease that it pins.
    pub fn into_long(self, state: &PinRef) -> Result<LongPin, Self> {
        if !state.is_of(self.state) {
            return Err(self);
        }
        let this = ManuallyDrop::new(self);
        // What was counted at the gate is a long pin already. Else the long pin is
        // there before the short one goes: a revoker reads the gate last.
        if let Some(pair) = this.pair {
            if broken(Fault::ReleaseFirst) {
                state.leave(pair);
            }
            state.gate.fetch_add(1, Relaxed);
            if !broken(Fault::ReleaseFirst) {
                state.leave(pair);
            }
        }
        Ok(LongPin::new(state.clone()))
    }
}

impl Drop for ShortPin<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        match self.pair {
            Some(pair) => self.state.leave(pair),
            None => self.state.leave_gate(1),
        }
    }
}

/// A use of a lease that may last, move between threads and be cloned. It delays
/// the taking of its own lease only. Forgetting it pins the lease for ever.
#[derive(Debug)]
pub struct LongPin {
    state: PinRef,
}

impl LongPin {
    pub(super) fn new(state: PinRef) -> Self {
        Self { state }
    }

    /// The lease that it pins.
    pub fn state(&self) -> &PinRef {
        &self.state
    }
}

impl Clone for LongPin {
    /// One more pin, also after a recall: the use that is there goes on.
    fn clone(&self) -> Self {
        self.state.gate.fetch_add(1, Relaxed);
        Self { state: self.state.clone() }
    }
}

impl Drop for LongPin {
    fn drop(&mut self) {
        self.state.leave_gate(1);
    }
}

/// A use of a lease by commands on a device. It may be sent. Forgetting it pins the lease
/// for ever.
#[derive(Debug)]
#[must_use = "a pin that is dropped at once protects nothing"]
pub struct CommandPin {
    state: PinRef,
}

impl CommandPin {
    pub(super) fn new(state: PinRef) -> Self {
        Self { state }
    }
}

impl Drop for CommandPin {
    fn drop(&mut self) {
        self.state.leave_gate(COMMAND);
    }
}

/// A use of a lease beside which there is no other. It may be sent.
#[derive(Debug)]
#[must_use = "a pin that is dropped at once protects nothing"]
pub struct ExclusivePin<'a> {
    state: &'a PinState,
}

impl<'a> ExclusivePin<'a> {
    pub(super) fn new(state: &'a PinState) -> Self {
        Self { state }
    }

    /// Ends it, and opens the fast path to short pins again: they cost a few
    /// nanoseconds, and the next exclusive pin another membarrier. Worth it when
    /// many short pins, or pins by many threads, follow.
    pub fn reopen(self) {
        // Nobody else has a pin now, so nobody must be waited for; and only who
        // has the exclusive pin changes these two.
        self.state.word.fetch_and(!(GATED | DRAINED), AcqRel);
    }
}

impl Drop for ExclusivePin<'_> {
    fn drop(&mut self) {
        self.state.leave_gate(EXCLUSIVE);
    }
}
