//! Copy-on-write B+trees, in memory and (through `format`) on the medium.
//!
//! # Shape
//!
//! A node is immutable. A [`Link`] names one: where its block is, when it was
//! born, and the node itself once it is in memory. Changing an entry makes a
//! new leaf, and a new node at every level above it; whoever holds an old root
//! goes on seeing the old tree. So a reader takes one root and needs no lock,
//! and a checkpoint is a set of roots.
//!
//! # Invariants
//!
//! 1. The key of a child equals the first key below it, exactly.
//! 2. All leaves are at the same height; no node but a root is empty.
//! 3. A node whose `generation` is the one under construction is on no
//!    checkpoint: its next version keeps its block. Any older one is left as it
//!    is and gets a new block.
//! 4. Where trees share nodes (file maps), a node with a count above one is
//!    copied before it is changed, and the copy and the original then both count
//!    as parents of every child (Rodeh). [`own`] is the only way to change a node.
//!
//! # Faults
//!
//! A node that is not in memory stops an operation with [`Fault::Missing`]. The
//! caller rolls back, reads the node without holding a lock, and begins again.
//!
//! Not here: what a file is, who may change it, when nodes are written.

mod diff;
mod drop;
mod join;
mod lookup;
mod node;
mod schema;
mod search;
mod share;
mod splice;
mod way;

pub(crate) use diff::{Diff, Walker};
pub(crate) use join::{join, shift, slice, split};
pub(crate) use lookup::{
    Cursor, Hit, TOGETHER, find, floor, floor_all, last_leaf_start, path_all, path_nodes,
};
pub(crate) use node::{Body, Filled, Kept, Link, Load, Node, Tree};
pub(crate) use schema::Schema;

use share::{build, own};
pub(crate) use share::{build_leaf, root_of};
pub(crate) use splice::{New, Splice, edited, splice};

use crate::format::FormatError;
use crate::format::types::Addr;
use std::sync::Arc;

/// Why an operation on trees or space stopped. Nothing of it took effect.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// This must be read first.
    Missing(Arc<dyn Load>),
    /// There is no block to take.
    NoSpace,
    /// The journal has no room until a checkpoint is done.
    JournalFull,
    /// A structure contradicts itself or another.
    Corrupt {
        /// Which structure.
        what: &'static str,
        /// Its block, or the block that it speaks of.
        at: Addr,
        /// What is wrong.
        why: String,
    },
    /// The request itself was refused.
    Refused(crate::error::Error),
}

impl Fault {
    /// A contradiction found while working.
    pub(crate) fn corrupt(what: &'static str, at: Addr, why: impl Into<String>) -> Self {
        Fault::Corrupt { what, at, why: why.into() }
    }

    /// A block that did not decode.
    pub(crate) fn format(what: &'static str, at: Addr, e: &FormatError) -> Self {
        Fault::Corrupt { what, at, why: e.to_string() }
    }
}
