//! What a buffer knows of the lease that it belongs to.

use crate::volume::{LeaseAt, LeaseCore};
use freehold_engine::pin::{IoPin, Seat};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A buffer's share in a lease. It goes with the command that the buffer goes with, and
/// comes back with it; so it is as small as a pointer.
#[derive(Debug)]
pub struct LeaseTag(Box<LeaseShare>);

/// Which lease a buffer belongs to, where in it, and whether the buffer has bytes that are
/// nowhere else.
#[derive(Debug)]
pub struct LeaseShare {
    lease: Arc<LeaseCore>,
    /// What is known there is of this lease.
    pub(crate) at: LeaseAt,
    /// Of the plain command that it goes with.
    pub(crate) pin: Option<IoPin>,
    /// Where the queue that it last went through counts it. That queue's store is the
    /// lease's.
    pub(crate) seat: Option<Seat>,
    /// The last command was a flush.
    pub(crate) write: bool,
    dirty: AtomicBool,
}

impl LeaseTag {
    /// A clean buffer's share, from a byte of the file on.
    pub fn new(lease: Arc<LeaseCore>, offset: u64) -> Self {
        Self::new_at(lease, LeaseAt::new(offset))
    }

    pub(crate) fn new_at(lease: Arc<LeaseCore>, mut at: LeaseAt) -> Self {
        // It may be known from another lease.
        at.forget();
        let dirty = AtomicBool::new(false);
        LeaseTag(Box::new(LeaseShare { lease, at, pin: None, seat: None, write: false, dirty }))
    }
}

impl Deref for LeaseTag {
    type Target = LeaseShare;

    fn deref(&self) -> &LeaseShare {
        &self.0
    }
}

impl DerefMut for LeaseTag {
    fn deref_mut(&mut self) -> &mut LeaseShare {
        &mut self.0
    }
}

impl LeaseShare {
    /// The lease.
    #[inline(always)]
    pub fn lease(&self) -> &Arc<LeaseCore> {
        &self.lease
    }

    /// Where in it.
    #[inline(always)]
    pub fn at(&self) -> &LeaseAt {
        &self.at
    }

    /// Was the last command a flush?
    pub fn is_flush(&self) -> bool {
        self.write
    }

    /// So many of the buffer's bytes are the file's; what may come behind them is not in it.
    pub fn has_only(&mut self, valid: usize, bytes: usize) {
        self.at.has_only(valid, bytes);
    }

    /// The lease, and the place in it.
    pub(crate) fn parts(&mut self) -> (&Arc<LeaseCore>, &mut LeaseAt) {
        (&self.lease, &mut self.at)
    }

    /// The buffer is about to have bytes that are nowhere else. Under a pin, so that whoever
    /// finds no pin finds this.
    pub fn soil(&self) {
        if !self.is_dirty() && !self.dirty.swap(true, Ordering::AcqRel) {
            self.lease.soil();
        }
    }

    /// They were flushed, or are given up.
    pub fn wash(&mut self) {
        if std::mem::take(self.dirty.get_mut()) {
            self.lease.clean();
        }
    }

    /// It has such bytes.
    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }

    /// The command that it went with has succeeded.
    #[inline(always)]
    pub(crate) fn done(&mut self) {
        if self.write {
            self.wash();
        }
    }
}

impl Drop for LeaseShare {
    fn drop(&mut self) {
        self.wash();
    }
}
