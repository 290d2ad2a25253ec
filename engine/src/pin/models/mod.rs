//! The protocol of pins under loom: the code itself, on loom's atomics.
//!
//! Each model is run in both forms, with membarrier and with fences, and must hold;
//! then once for each part of the protocol that it is there for, with that part left
//! out, and must not. How membarrier is modelled stands at the head of `world`.
//!
//! The window's ledger, which stands on the same barrier, has its model beside it,
//! and so have the readings of `rcu` and the latches of `latch`.
//!
//! Run by `RUSTFLAGS="--cfg loom" cargo test -p freehold-engine --lib models`.

mod exclusive;
mod revoke;
mod scene;
pub(crate) mod world;
