//! A file's seals and leases, where the block map meets them.
//!
//! What is allowed is the arbiter's to say ([`crate::arbiter`]); here is its lock, the
//! leases that it speaks of by number, and a word that the fast ways of plain reads and
//! writes look at. The word is changed under the lock, and before whoever gave the lease
//! looks for operations in flight: a plain operation shows itself first and reads the word
//! afterwards, so that one of the two sees the other.
//!
//! A file that has neither seals nor leases pays one load of that word.
//!
//! Not here: waiting ([`super::admit`]), taking ([`super::revoke`]), giving
//! ([`super::grant`]).

use super::lease::LeaseCore;
use super::tenancy::Tenancy;
use crate::arbiter::{FileArbiter, Flags, Id};
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// Seals and leases of one file.
#[derive(Debug, Default)]
pub(crate) struct Guards {
    /// [`Flags`]; 0 if there are none.
    flags: AtomicU32,
    table: Mutex<Option<Box<Table>>>,
}

/// What stands behind the lock.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) arbiter: FileArbiter,
    /// By the arbiter's slots.
    leases: Vec<Weak<LeaseCore>>,
    /// In the order of their sessions.
    pub(super) tenancies: SmallVec<[Arc<Tenancy>; 1]>,
    /// Taken leases whose blocks are in quarantine.
    pub(crate) kept: u32,
}

impl Guards {
    /// Nothing that changes the file has to ask.
    pub(crate) fn are_none(&self) -> bool {
        self.flags.load(Ordering::SeqCst) == 0
    }

    /// Is there no seal and no lease, not even one that no operation has to ask?
    pub(crate) fn is_empty(&self) -> bool {
        self.table.lock().unwrap_or_else(|e| e.into_inner()).is_none()
    }

    /// Must a plain operation of this kind ask? After its slot is published.
    pub(crate) fn hinder(&self, kind: Flags) -> bool {
        self.flags.load(Ordering::SeqCst) & kind.bits() != 0
    }

    /// Looks at or changes what there is. The lock is held for microseconds; it is the
    /// innermost one.
    pub(crate) fn with<R>(&self, change: impl FnOnce(&mut Table) -> R) -> R {
        let mut slot = self.table.lock().unwrap_or_else(|e| e.into_inner());
        let table = slot.get_or_insert_default();
        let done = change(table);
        self.flags.store(table.flags().bits(), Ordering::SeqCst);
        if table.arbiter.is_empty() && table.tenancies.is_empty() && table.kept == 0 {
            *slot = None;
        }
        done
    }

    /// Looks at what there is, if there is anything.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Table) -> R) -> Option<R> {
        let slot = self.table.lock().unwrap_or_else(|e| e.into_inner());
        slot.as_deref().map(look)
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.arbiter.fmt(f)
    }
}

impl Table {
    fn flags(&self) -> Flags {
        let kept = if self.kept > 0 { Flags::MAP | Flags::WRITES } else { Flags::empty() };
        self.arbiter.flags() | kept
    }

    /// The lease, if it was not returned meanwhile.
    pub(crate) fn lease(&self, id: Id) -> Option<Arc<LeaseCore>> {
        let slot = self.arbiter.slot(id)?;
        self.leases.get(slot as usize)?.upgrade().filter(|lease| lease.id() == id)
    }

    /// All leases that are in force and are not just being dropped.
    pub(crate) fn leases(&self) -> Vec<Arc<LeaseCore>> {
        self.leases.iter().filter_map(Weak::upgrade).collect()
    }

    /// A lease that was granted is found by its number.
    pub(super) fn enter(&mut self, lease: &Arc<LeaseCore>) {
        let Some(slot) = self.arbiter.slot(lease.id()) else { return };
        let slot = slot as usize;
        if slot >= self.leases.len() {
            if slot >= self.leases.capacity() {
                // As the arbiter's own: not to twice its size.
                self.leases.reserve_exact(slot + 1 + slot / 8 - self.leases.len());
            }
            self.leases.resize_with(slot + 1, Weak::new);
        }
        self.leases[slot] = Arc::downgrade(lease);
    }

    /// It is not found any more. Before the arbiter forgets it, whose slot is given again.
    pub(super) fn forget(&mut self, id: Id) {
        let slot = self.arbiter.slot(id).map(|slot| slot as usize);
        if let Some(place) = slot.and_then(|slot| self.leases.get_mut(slot)) {
            *place = Weak::new();
        }
    }
}
