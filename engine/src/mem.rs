//! A medium in memory: for tests, and the reference of the medium contract.
//!
//! Its blocks are one mapping that the system fills as it is written. An
//! operation is a copy made by [`Queue::ring`] or [`Queue::poll`] on the
//! thread that calls it, so it is durable (for this process, the only one
//! that ever sees it) when it completes. How bytes move without data races is
//! in `memory::shared`, the queue is in `window`.

use crate::medium::{BLOCK, Geometry, Medium, Queue, Result, Window};
use crate::memory::{MAX_BUFFER, Pool, SharedMemory, WindowMemory};
use crate::window::{MAX_DEPTH, WindowQueue};
use std::fmt;
use std::sync::Arc;

/// A medium in memory. It is gone when the last handle and queue are.
pub struct MemMedium {
    uri: String,
    geometry: Geometry,
    memory: Arc<SharedMemory>,
    pool: Pool,
}

impl MemMedium {
    /// A medium of `bytes` bytes, all zeroes. Memory is used only for what is
    /// written, so that 1 TiB is a fine size.
    ///
    /// # Errors
    /// `Invalid` when `bytes` is zero or not a multiple of 4096; `Limit` when
    /// the system has no such range of addresses.
    pub fn new(bytes: u64) -> Result<Self> {
        let memory = Arc::new(SharedMemory::new(bytes)?);
        let geometry = Geometry {
            blocks: bytes / BLOCK as u64,
            lba_bytes: BLOCK as u32,
            max_transfer: MAX_BUFFER as u32,
            max_depth: MAX_DEPTH,
            atomic_bytes: BLOCK as u32,
            atomic_boundary: None,
            volatile_cache: false,
            copy: true,
            deallocate: true,
            compare: true,
            window: true,
        };
        Ok(Self { uri: format!("mem:{bytes}"), geometry, memory, pool: Pool::new() })
    }
}

impl Medium for MemMedium {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>> {
        let (memory, geometry) = (Arc::clone(&self.memory), self.geometry.clone());
        Ok(Box::new(WindowQueue::new(memory, geometry, depth)))
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn window(&self) -> Option<&dyn Window> {
        Some(&*self.memory)
    }

    fn window_memory(&self) -> Option<WindowMemory> {
        Some(WindowMemory::new(Arc::clone(&self.memory)))
    }
}

impl fmt::Debug for MemMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemMedium").field("blocks", &self.geometry.blocks).finish_non_exhaustive()
    }
}
