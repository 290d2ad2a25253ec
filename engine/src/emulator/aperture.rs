//! Memory of the device that clients map: a file, and the controller's own way to its bytes.

use crate::medium::{Error, ErrorKind, Result};
use crate::memory::{PeerMemory, sealed_file};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Bytes that are in a client's address space, too. Anybody writes them at any time.
#[derive(Debug)]
pub(super) struct Aperture {
    file: Arc<OwnedFd>,
    memory: PeerMemory,
}

impl Aperture {
    /// Memory of this process and its clients, zeroed; a multiple of a page.
    ///
    /// # Errors
    /// `Limit` with what to raise.
    pub(super) fn new(len: u64) -> Result<Self> {
        let bytes = usize::try_from(len).map_err(|_| {
            let text = format!("{len} bytes of device memory do not fit in this system's");
            Error::new(ErrorKind::Limit, text)
        })?;
        Self::of(sealed_file(bytes)?, len)
    }

    /// The first `len` bytes of a file, which all exist.
    ///
    /// # Errors
    /// What the system says when it does not map it.
    pub(super) fn of(file: OwnedFd, len: u64) -> Result<Self> {
        let memory = PeerMemory::new(file.as_fd(), 0, len, true)?;
        Ok(Self { file: Arc::new(file), memory })
    }

    /// The file, to be given to clients.
    pub(super) fn file(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.file)
    }

    /// Bytes in it.
    pub(super) fn len(&self) -> u64 {
        self.memory.len()
    }

    /// The bytes.
    pub(super) fn memory(&self) -> &PeerMemory {
        &self.memory
    }
}
