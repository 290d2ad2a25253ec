//! The arbiter: whether a change of a file's map may go on now, must wait, or is refused.
//!
//! It is pure. It does no I/O, reads no clock (time is an argument, in nanoseconds of
//! any clock that does not go back), takes no lock (whoever owns it puts it behind one)
//! and knows nothing of pins: it says which leases are in the way, and the caller looks
//! whether they are in use. The rules are those of docs/leases.md.
//!
//! | room | what lives there |
//! | --- | --- |
//! | `kinds` | spans, accesses, kinds of seals, changes, answers |
//! | `table` | the conflict table, as data |
//! | `intervals`, `treap` | what is held, by range and by id |
//! | `held` | the state of one lease or seal, and how it is packed |
//! | `file` | a file's arbiter: what is granted and sealed |
//! | `admit` | the question and its answer |
//! | `claims` | operations that wait or are under way |
//! | `recall` | recall, return, fence; deadlines |
//! | `family` | delegates |
//! | `waits` | which session waits for which, over all files |
//!
//! # States
//!
//! ```text
//! none -grant-> Held <-refresh- Stale        Held, Stale -recall-> Recalled
//! Held -stale-> Stale                        Recalled -withdraw, partial-> Held
//! Held, Stale, Recalled, Fencing -take-> Taken -returned-> none
//! Held, Stale, Recalled -fencing-> Fencing -revoked-> Revoked -returned-> none
//! ```
//!
//! The sequence number grows by one with each transition. Held, Stale, Recalled and
//! Fencing stand in the way of others; Taken and Revoked are notes for the holder.
//! A lease that is returned while it is Fencing stays until the fence is done.
//!
//! # Invariants
//!
//! - What stands in the way of a change is exactly what overlaps it and is not `On` in
//!   the table; the answer to one question is the same until something is called that
//!   changes the state.
//! - A lease or seal is Recalled if and only if it has a deadline, and then `overdue`
//!   names it from the deadline on. A delegate's deadline is never later than that of the
//!   lease that it comes from.
//! - A claim that is older than a grant or seal and conflicts with it goes first, so that
//!   new grants cannot starve it.
//! - Nothing panics: calls with ids that are not known, twice over, or with empty spans
//!   change nothing and say so.

mod admit;
mod claims;
mod family;
mod file;
mod held;
mod intervals;
mod kinds;
mod recall;
mod table;
mod treap;
mod waits;

#[cfg(test)]
mod tests;

pub use claims::Claimant;
pub use file::{FileArbiter, Flags, LeaseEntry, NotCleared, SealEntry};
pub use held::{Entry, State};
pub use kinds::{
    Access, Answer, Change, Held, Holder, Id, Ids, Kinds, Refusal, Request, SessionId, Span,
};
pub use recall::{End, Fence, Partial, Recall};
pub use table::{Cell, verdict};
pub use waits::{Cause, Edge, Waits, WouldDeadlock};
