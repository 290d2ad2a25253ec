//! Whether the store can still keep its promises.
//!
//! *Poisoned*: a write or flush of the store's own was lost, or the medium may
//! have lost completed writes (law M3). No change and no sync succeeds any more;
//! reads go on. Opening the store again, through recovery, is the way back.
//!
//! *Spoiled*: a count, space, name or file structure is damaged. The store is
//! open for reading only.

use crate::error::{Error, ErrorKind};
use freehold_engine::medium;
use std::sync::OnceLock;

/// Set once, never cleared.
#[derive(Debug, Default)]
pub(crate) struct Health {
    poison: OnceLock<Error>,
    spoiled: OnceLock<Error>,
    read_only: bool,
}

impl Health {
    pub(crate) fn new(read_only: bool) -> Self {
        Health { read_only, ..Health::default() }
    }

    /// A write or flush of the store's own failed.
    pub(crate) fn poison(&self, what: &str, cause: &Error) {
        let message = format!(
            "the store is poisoned: {what} failed ({cause}); nothing after it is durable: \
             close the store and open it again to recover"
        );
        if self.poison.set(Error::new(ErrorKind::Poisoned, message)).is_ok() {
            tracing::error!(what, %cause, "store poisoned");
        }
    }

    /// The store's last handle went while it was writing on its own account.
    pub(crate) fn give_up(&self) {
        let why =
            "the store was given up while a commit or a checkpoint was under way: open it again";
        let _ = self.poison.set(Error::new(ErrorKind::Poisoned, why));
    }

    /// A structure that all changes depend on is damaged.
    pub(crate) fn spoil(&self, cause: &Error) {
        if self.spoiled.set(cause.clone()).is_ok() {
            tracing::error!(%cause, "store is read-only from now on");
        }
    }

    /// An error of the device: some poison the store, whoever met them.
    pub(crate) fn saw(&self, e: &medium::Error) {
        if e.kind() == medium::ErrorKind::Gone {
            self.poison("the medium", &e.clone().into());
        }
    }

    /// [`Health::writable`], in three loads.
    #[inline]
    pub(crate) fn is_writable(&self) -> bool {
        self.poison.get().is_none() && self.spoiled.get().is_none() && !self.read_only
    }

    /// May anything be changed?
    pub(crate) fn writable(&self) -> Result<(), Error> {
        self.sound()?;
        if let Some(e) = self.spoiled.get() {
            return Err(e.clone());
        }
        if self.read_only {
            return Err(Error::new(ErrorKind::ReadOnly, "the store was opened for reading only"));
        }
        Ok(())
    }

    /// Can anything be promised?
    pub(crate) fn sound(&self) -> Result<(), Error> {
        self.poison.get().map_or(Ok(()), |e| Err(e.clone()))
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }
}
