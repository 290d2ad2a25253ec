//! Who is told when a pin of a lease that is not held any more ends.

use std::fmt;
use std::sync::Arc;

/// What a revoker that waits for pins gives to be woken.
pub trait Wake: Send + Sync {
    /// A pin has ended; look whether the lease is quiet. Called on the thread
    /// whose pin ended, which may be any, once or more often: it must not block,
    /// and must not pin.
    fn wake(&self);
}

/// A shared [`Wake`], eight bytes wide: one for many leases.
#[derive(Clone)]
pub struct Waiter(Option<Arc<Box<dyn Wake>>>);

impl Waiter {
    /// One that wakes `wake`.
    pub fn new(wake: impl Wake + 'static) -> Self {
        Self(Some(Arc::new(Box::new(wake))))
    }

    /// One that wakes nobody: the revoker polls.
    pub const fn none() -> Self {
        Self(None)
    }

    pub(super) fn wake(&self) {
        if let Some(wake) = &self.0 {
            wake.wake();
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Waiter" } else { "Waiter(none)" })
    }
}
