//! Pins: what is in use right now, and how it is taken back.
//!
//! A [`PinState`] is one lease, as far as its uses are concerned. Each use pins
//! it, by a [`ShortPin`] (a few nanoseconds, one thread), a [`LongPin`] (sent,
//! cloned, kept), an [`IoPin`] (a command in flight) or an [`ExclusivePin`] (beside
//! which there is no other). Who wants the lease back calls [`recall`]: from then on
//! nothing is pinned anew, and [`PinState::is_quiet`] tells when the last use is over.
//!
//! ```
//! use freehold_engine::pin::{NotHeld, PinState, Waiter, recall};
//!
//! let lease = PinState::new(&Waiter::none()).shared();
//! let pin = lease.pin()?;
//! recall(&[&lease]).expect("membarrier");
//! assert!(!lease.is_quiet());
//! assert_eq!(lease.pin().unwrap_err(), NotHeld::Recalled);
//! drop(pin);
//! assert!(lease.is_quiet());
//! # Ok::<(), NotHeld>(())
//! ```
//!
//! # Why it is right
//!
//! A pin writes its count C, then reads the state S; a recall writes S, then reads
//! C. One of the two must see the other (Dekker). That takes a full barrier between
//! write and read on both sides, which is most of what a pin would cost. So the
//! pin's barrier is for the compiler only, and the recall executes it on the pin's
//! behalf: membarrier makes every running thread pass a full barrier, and a thread
//! that does not run has passed one when it was switched out.
//!
//! Let p be the point of a pinning thread's program where that barrier lies.
//! - It counted before p: the recall, which reads after the barrier, sees the count.
//! - It counted after p: then its second read of the state is after p too, sees that
//!   the lease is not held, and the count is undone.
//!
//! The same two cases with "released" for "counted" show that no wake-up is lost: a
//! release that the recall does not see is followed by a read of the state that
//! sees the recall, and wakes.
//!
//! Sums are read released first. Each counter only grows, and in each pair released
//! never exceeds acquired, so for each pair what was acquired at its later reading
//! is at least what was released at its earlier one. If the sums are equal each pair
//! is, and no pin that began before p is left. Pins that begin later undo
//! themselves, which can make the sums unequal for a moment but never equal.
//!
//! A short pin that becomes a long one is counted there first and the gate is read
//! last, so it is in one of the two. A long pin is only made from a short or long
//! one, or by `hold`, which reads the state after its count as `pin` does.
//!
//! An exclusive pin takes the gate's highest bit, which keeps away whoever comes
//! through the gate, and closes the fast path by a recall in small: it changes the
//! state word, passes the barrier, and finds the sums equal, or gives up. From then
//! on all pins come through the gate, until who has the bit says otherwise. Borrowing
//! the lease mutably would exclude short pins at no cost, but neither the long ones
//! nor commands in flight, nor another handle of the same lease.

pub(crate) mod barrier;
mod fork;
mod guard;
mod io;
#[cfg(all(loom, test))]
pub(crate) mod models;
mod revoke;
mod shared;
mod state;
#[cfg(all(test, not(loom)))]
mod stress;
pub(crate) mod sync;
mod table;
#[cfg(all(test, not(loom)))]
mod tests;
mod wake;
mod word;

pub(crate) use fork::{forked, mark};
pub use guard::{CommandPin, ExclusivePin, LongPin, ShortPin};
pub use io::{IoPin, IoPins, Known, Seat};
pub use revoke::{Counts, quiet, recall};
pub use shared::PinRef;
pub(crate) use shared::PinWeak;
pub use state::{NotHeld, PinState};
pub use wake::{Waiter, Wake};
pub use word::State;
