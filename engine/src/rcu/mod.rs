//! Reading without a lock what may be taken away (read-copy-update).
//!
//! A [`Slot`] holds a value, or none. Who reads it holds a [`Reading`], taken once for as
//! many slots as are read under it: entering costs a few plain stores, and each read of
//! a slot is one plain load, so the processor may have the loads of several look-ups
//! under way at once. Who takes a value out ([`Slot::evict`]) leaves it to be freed by
//! [`sweep`] when every reading that could have found it is over.
//!
//! ```
//! use freehold_engine::rcu::{self, Slot};
//! use std::sync::Arc;
//!
//! let slot = Slot::new(Arc::new(7));
//! let reading = rcu::reading();
//! assert_eq!(slot.get(&reading), Some(&7));
//! slot.evict();
//! assert_eq!(slot.get(&reading), None);
//! drop(reading);
//! rcu::sweep();
//! ```
//!
//! # Why it is right
//!
//! A reader marks its record, then loads the slot. Who evicts empties the slot, passes a
//! barrier, then looks at the records. As with pins (see [`crate::pin`]) the reader has no
//! barrier of its own: membarrier executes it for the reader, at a point p of its program
//! between the evictor's store and look.
//! - The reader marked before p: the look sees the mark, or sees that the reading is over;
//!   then it also sees all that was done under it.
//! - It marked after p: then its load is after p too, and finds the slot empty.
//!
//! What waits is freed when each record that was marked at that look has ended the reading
//! that it was in. One that a thread began later found the slot empty already.
//!
//! A slot that is dropped, or from which [`Slot::into_inner`] takes the value, is borrowed
//! by nobody, so nobody has what [`Slot::get`] gave; there is nothing to wait for.

mod grave;
#[cfg(all(loom, test))]
mod models;
mod near;
mod record;
mod slot;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(not(all(loom, test)))]
pub use grave::sweep;
pub use near::prefetch;
#[cfg(not(all(loom, test)))]
pub use record::{Reading, reading};
#[cfg(not(all(loom, test)))]
pub use slot::Slot;
