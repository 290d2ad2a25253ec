//! A shared handle of a lease's pins: what a pin holds that outlives a borrow.
//!
//! The [`PinState`] lies inside whatever is leased, so that a lease is one piece of
//! memory; the handle keeps all of that, and knows where in it the state is.

use super::guard::{CommandPin, LongPin};
use super::state::{COMMAND, NotHeld, PinState};
use std::any::Any;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

/// What is leased, as its long pins hold it: with it goes the state.
type Owner = dyn Any + Send + Sync;

/// A counted handle of a [`PinState`] and of what it is a part of.
///
/// ```
/// use freehold_engine::pin::{PinRef, PinState, Waiter};
/// use std::sync::Arc;
///
/// struct Lease {
///     pins: PinState,
///     what: &'static str,
/// }
///
/// impl AsRef<PinState> for Lease {
///     fn as_ref(&self) -> &PinState {
///         &self.pins
///     }
/// }
///
/// let lease = Arc::new(Lease { pins: PinState::new(&Waiter::none()), what: "bytes" });
/// let pin = PinRef::new(&lease).hold()?; // keeps the lease
/// assert_eq!(lease.what, "bytes");
/// drop((lease, pin));
/// # Ok::<(), freehold_engine::pin::NotHeld>(())
/// ```
pub struct PinRef {
    owner: Arc<Owner>,
    state: NonNull<PinState>,
}

/// The same handle, which keeps nothing.
#[derive(Clone)]
pub(crate) struct PinWeak {
    owner: Weak<Owner>,
    state: NonNull<PinState>,
}

const fn shared_by_threads<T: Send + Sync>() {}
const _: () = shared_by_threads::<PinState>();

// SAFETY: what is reached through `state` is a `PinState`, which is both; the rest is by itself.
unsafe impl Send for PinRef {}
// SAFETY: as above.
unsafe impl Sync for PinRef {}
// SAFETY: as above; `state` is not read before `owner` was found alive.
unsafe impl Send for PinWeak {}
// SAFETY: as above.
unsafe impl Sync for PinWeak {}

impl PinRef {
    /// A handle of something that has a state: always the same one, for as long as it lives.
    pub fn new<T: AsRef<PinState> + Send + Sync + 'static>(owner: &Arc<T>) -> Self {
        let state = NonNull::from((**owner).as_ref());
        Self { owner: owner.clone(), state }
    }

    /// Pins it for a long use, or one that moves between threads or outlives the
    /// borrow: one atomic count of this lease, some 10 ns.
    ///
    /// # Errors
    /// [`NotHeld`] says why there is no pin.
    pub fn hold(&self) -> Result<LongPin, NotHeld> {
        self.enter_gate(1)?;
        Ok(LongPin::new(self.clone()))
    }

    /// Pins it for commands that no queue of the lease's own counts, as long as the guard
    /// lives: as [`Self::hold`], and found with the commands in flight.
    ///
    /// # Errors
    /// [`NotHeld`] says why there is no pin.
    pub fn hold_for_io(&self) -> Result<CommandPin, NotHeld> {
        self.enter_gate(COMMAND)?;
        Ok(CommandPin::new(self.clone()))
    }

    pub(crate) fn downgrade(&self) -> PinWeak {
        PinWeak { owner: Arc::downgrade(&self.owner), state: self.state }
    }

    /// The two are of the same lease.
    pub fn is_of(&self, state: &PinState) -> bool {
        std::ptr::eq(self.state.as_ptr(), state)
    }
}

impl PinWeak {
    /// None when the lease is gone, and with it every pin.
    pub(crate) fn upgrade(&self) -> Option<PinRef> {
        Some(PinRef { owner: self.owner.upgrade()?, state: self.state })
    }
}

impl Deref for PinRef {
    type Target = PinState;

    #[inline(always)]
    fn deref(&self) -> &PinState {
        // SAFETY: `new` got the reference from a borrow of what `owner` keeps. It stays where
        // it is, and nobody has it mutably, as long as `owner` lives: so that borrow could
        // have lasted until now, whatever `as_ref` did to get the reference from it.
        unsafe { self.state.as_ref() }
    }
}

impl AsRef<PinState> for PinRef {
    fn as_ref(&self) -> &PinState {
        self
    }
}

impl Clone for PinRef {
    fn clone(&self) -> Self {
        Self { owner: self.owner.clone(), state: self.state }
    }
}

impl std::fmt::Debug for PinRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

impl std::fmt::Debug for PinWeak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PinWeak")
    }
}
