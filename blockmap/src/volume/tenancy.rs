//! What the leases of one session on one file have in common: the open file.
//!
//! It is open as long as one of them is in force. A handle of a lease that was taken or
//! returned knows whose it was, and keeps neither the file's blocks nor the store.

use super::Volume;
use super::file::{FileHandle, FileState};
use super::guards::Table;
use super::layout::Is;
use super::lease::LeaseCore;
use super::sessions::SessionCore;
use crate::error::{Error, ErrorKind, Result};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};

/// A session's leases on a file.
pub(crate) struct Tenancy {
    vol: Weak<Volume>,
    state: Arc<FileState>,
    who: Arc<SessionCore>,
    /// With the number of leases; changed under the lock of the file's guards.
    open: Mutex<(Option<FileHandle>, u32)>,
}

impl Tenancy {
    pub(super) fn state(&self) -> &Arc<FileState> {
        &self.state
    }

    pub(super) fn who(&self) -> &Arc<SessionCore> {
        &self.who
    }

    pub(super) fn volume(&self) -> Option<Arc<Volume>> {
        self.vol.upgrade()
    }

    /// It is of this store.
    pub(super) fn is_in(&self, vol: &Arc<Volume>) -> bool {
        // It keeps the place of the store's memory, if no more: no other store is there.
        std::ptr::eq(self.vol.as_ptr(), Arc::as_ptr(vol))
    }

    /// One lease more or less; the last gives the file up, not under a lock.
    fn count(&self, change: impl FnOnce(&mut u32)) -> Option<FileHandle> {
        let mut open = self.open.lock().unwrap_or_else(|e| e.into_inner());
        change(&mut open.1);
        if open.1 == 0 { open.0.take() } else { None }
    }

    fn leases(&self) -> u32 {
        self.open.lock().unwrap_or_else(|e| e.into_inner()).1
    }
}

impl Table {
    /// What a new lease of that session has in common with its others.
    pub(super) fn tenancy(&mut self, file: &FileHandle, who: &Arc<SessionCore>) -> Arc<Tenancy> {
        let found = self.tenancies.binary_search_by_key(&who.id(), |t| t.who.id());
        let at = found.unwrap_or_else(|at| {
            let tenancy = Tenancy {
                vol: Arc::downgrade(file.volume()),
                state: file.state().clone(),
                who: who.clone(),
                open: Mutex::new((Some(file.clone()), 0)),
            };
            self.tenancies.insert(at, Arc::new(tenancy));
            at
        });
        let tenancy = self.tenancies[at].clone();
        tenancy.count(|n| *n += 1);
        tenancy
    }

    /// A lease is not in force any more, and is not found by its number. What it kept open, if
    /// nothing else does, is to be dropped when the lock is free.
    #[must_use]
    pub(super) fn leave(&mut self, lease: &LeaseCore) -> Option<FileHandle> {
        {
            let mut l = lease.layout();
            if l.is.contains(Is::LEFT) {
                return None;
            }
            l.is |= Is::LEFT;
        }
        self.forget(lease.id());
        let open = lease.tenancy().count(|n| *n -= 1)?;
        self.tenancies.retain(|t| !Arc::ptr_eq(t, lease.tenancy()));
        Some(open)
    }

    /// How many leases are in force, or are just being dropped.
    pub(super) fn in_force(&self) -> usize {
        self.tenancies.iter().map(|t| t.leases() as usize).sum()
    }
}

impl Volume {
    /// The file of a lease, which may be in force no more.
    ///
    /// # Errors
    /// `NotFound` if the file was removed since.
    pub(super) fn open_again(self: &Arc<Self>, file: &Arc<FileState>) -> Result<FileHandle> {
        // Under this lock nobody begins to free its blocks.
        let _core = self.core();
        if file.load().condemned && file.opens.load(Ordering::Acquire) == 0 {
            return Err(Error::new(
                ErrorKind::NotFound,
                format!("file {} of the lease was removed, and nobody has it open", file.id),
            ));
        }
        Ok(FileHandle::new(self, file))
    }
}
