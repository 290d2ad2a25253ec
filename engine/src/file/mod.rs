//! A regular file or a block device as a medium.
//!
//! `open` opens and looks at it, `lock` keeps others out, `queue` is the queue
//! over io_uring (`ring`) and `sync` the one without, `task` is what both have to do
//! for an operation, `orphan` keeps what a dropped queue left in flight.
//! Making a file into a store's target (size, safety checks) is in the
//! crate's `open`.

mod errno;
mod lock;
mod open;
mod orphan;
mod queue;
mod ring;
mod shared;
mod signal;
mod sync;
mod table;
mod task;

#[cfg(test)]
mod tests;

pub(crate) use errno::open_error;
pub(crate) use open::{Opened, open_locked, open_to_map, size_of};

use crate::medium::{Geometry, Medium, Queue, Result};
use crate::memory::Pool;
use crate::open::OpenOptions;
use queue::RingQueue;
use shared::Shared;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use sync::SyncQueue;

/// A regular file or block device.
///
/// I/O goes through io_uring with `O_DIRECT`; where the system refuses one of
/// them it does without and says so once through `tracing`. Without io_uring,
/// [`Queue::ring`] and [`Queue::poll`] do the I/O themselves and block for as
/// long as it takes: the one deviation from the contract.
///
/// The medium is locked while it, a queue of it, or an operation of a dropped
/// queue is there: exclusively for writing, shared for reading only.
pub struct FileMedium {
    shared: Arc<Shared>,
}

impl FileMedium {
    /// Opens an existing file or device at `path`. `uri` is the name that
    /// [`Medium::uri`] gives. Blocks as opening does.
    ///
    /// # Errors
    /// `NotFound`, `Permission`, `Busy` when it is locked (with the holder if
    /// it can be told), `Invalid` when it is no file or device or smaller than
    /// one block, `Io`.
    pub fn open(path: &Path, uri: &str, options: &OpenOptions) -> Result<Self> {
        let opened = open_locked(path, options)?;
        Self::from_opened(opened, uri, options)
    }

    /// A medium over what was opened and locked.
    pub(crate) fn from_opened(opened: Opened, uri: &str, options: &OpenOptions) -> Result<Self> {
        Ok(Self { shared: Arc::new(Shared::new(opened, uri, options)?) })
    }
}

impl Medium for FileMedium {
    fn uri(&self) -> &str {
        &self.shared.uri
    }

    fn geometry(&self) -> &Geometry {
        &self.shared.geometry
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>> {
        orphan::reap();
        let depth = depth.clamp(1, self.shared.geometry.max_depth);
        if self.shared.use_ring.load(Ordering::Relaxed) {
            match RingQueue::new(&self.shared, depth)? {
                Some(queue) => return Ok(Box::new(queue)),
                None => self.shared.use_ring.store(false, Ordering::Relaxed),
            }
        }
        Ok(Box::new(SyncQueue::new(&self.shared, depth as usize)?))
    }

    fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    fn losses(&self) -> u64 {
        u64::from(self.shared.lost().is_some())
    }
}

impl fmt::Debug for FileMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileMedium")
            .field("uri", &self.shared.uri)
            .field("direct", &self.shared.direct)
            .field("geometry", &self.shared.geometry)
            .finish_non_exhaustive()
    }
}
