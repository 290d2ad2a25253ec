//! Registrations: leased blocks that foreign DMA may reach.

use freehold_blockmap::{LeaseCore, LeasePiece, not_forked};
use std::fmt;
use std::sync::Arc;

/// A lease's blocks as a device of somebody else's knows them, from
/// [`Lease::register`](crate::Lease::register). It holds its lease.
///
/// Dropping it without [`Registration::end`] runs nothing, and ends nothing: the lease
/// stays, without a holder, until somebody needs its range and the action has succeeded.
#[must_use = "a registration that is dropped stays until its action has run"]
pub struct Registration {
    lease: Arc<LeaseCore>,
    number: u64,
    extents: Vec<RegisteredExtent>,
}

/// A piece of a registered lease. Numbers in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegisteredExtent {
    /// Where in the file.
    pub offset: u64,
    /// How long.
    pub length: u64,
    /// Where on the medium; none where nothing is written: it reads as zeroes.
    pub address: Option<u64>,
}

impl Registration {
    pub(crate) fn new(lease: Arc<LeaseCore>, number: u64, pieces: Vec<LeasePiece>) -> Self {
        let extent = |p: LeasePiece| RegisteredExtent {
            offset: p.offset,
            length: p.len,
            address: p.address,
        };
        Registration { lease, number, extents: pieces.into_iter().map(extent).collect() }
    }

    /// Where the lease's bytes are, in order. Good until the registration ends, or its
    /// action is called.
    pub fn extents(&self) -> &[RegisteredExtent] {
        &self.extents
    }

    /// No device reaches the blocks any more: the caller has seen to that. The action is
    /// dropped without being called. False if it was called already.
    pub fn end(mut self) -> bool {
        let ended = not_forked().is_ok() && self.lease.deregister(self.number);
        // Nothing is left for drop to keep.
        self.number = 0;
        ended
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.number > 0 && not_forked().is_ok() {
            self.lease.leave_registered(self.number);
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "registration {} of {:?}", self.number, self.lease)
    }
}
