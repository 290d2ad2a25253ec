//! Sessions: who owns what is held.
//!
//! A session is the process itself, or a process attached to a broker. When it
//! ends, all that it held is released. Seals and leases will belong to sessions;
//! files already do: a file's session never changes.

use crate::{File, Result, Store};

/// An owner of files. A store's own is [`Store::session`].
#[derive(Debug, Clone)]
pub struct Session {
    store: Store,
}

impl Session {
    pub(crate) fn of(store: &Store) -> Self {
        Session { store: store.clone() }
    }

    /// The store that the session is on.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// As [`Store::create`], for this session.
    ///
    /// # Errors
    /// As there.
    pub fn create(&self, name: &[u8]) -> Result<File> {
        self.store.create(name)
    }

    /// As [`Store::open_file`], for this session.
    ///
    /// # Errors
    /// As there.
    pub fn open_file(&self, name: &[u8]) -> Result<File> {
        self.store.open_file(name)
    }
}
