//! Persistent memory as a medium: a file on a DAX mount, or a devdax device.
//!
//! Its blocks are a mapping that the processor loads from and stores to. `open` finds out
//! whether a store there can be made durable at all and refuses what is none; `lines` writes
//! lines of the caches back; large copies go past the caches (`memory::stream`). The queue is
//! that of all windows. A completed write is durable (law M1): a queue writes back and fences
//! before it says so. `badblocks` keeps everybody off damaged memory that the kernel knows of.

mod badblocks;
mod fiemap;
mod lines;
mod map;
mod open;
#[cfg(test)]
mod tests;

pub(crate) use open::{open_locked, usable};

use crate::file::Opened;
use crate::medium::{Error, ErrorKind, Fact, Geometry, Medium, Queue, Result, Value, Window};
use crate::memory::{Persistence, Pool, SharedMemory, WindowMemory, copy_private, store_fence};
use crate::window::WindowQueue;
use badblocks::BadBlocks;
use lines::Lines;
use map::{How, Map};
use std::fmt;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// How persistent memory is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spec {
    /// Go on though the file is not on DAX, and nothing durable.
    pub volatile: bool,
    /// No other program writes the file: views may give references.
    pub exclusive: bool,
    /// Only reads, and shares it with others that only read.
    pub read_only: bool,
}

/// Opens the file or device at a path. `uri` is the name that [`Medium::uri`] gives. A file is
/// allocated whole. Blocks as opening and allocating do.
///
/// # Errors
/// `NotFound`, `Permission`, `Busy` when it is locked, `Invalid` for what is neither a file nor
/// a devdax device or smaller than a block, `NoSpace`; `Unsupported` for a file that is not on
/// DAX, and where the processor cannot write its caches back.
pub fn open(path: &Path, uri: &str, spec: Spec) -> Result<PmemMedium> {
    from_opened(open_locked(path, spec.read_only)?, uri, spec)
}

/// A medium over what was opened and locked.
pub(crate) fn from_opened(opened: Opened, uri: &str, spec: Spec) -> Result<PmemMedium> {
    open::medium(opened, uri, spec, Path::new("/sys"))
}

/// How this processor writes a line of its caches back, if it can.
pub(crate) fn instruction() -> Option<&'static str> {
    Lines::of_this_processor().map(Lines::name)
}

/// Copies as many bytes as both have and makes them as durable as that memory is: the bare
/// instructions, for measuring what a store does beside them.
///
/// # Errors
/// `Unsupported` where the processor has none.
pub fn copy_and_flush(to: &mut [u8], from: &[u8]) -> Result<()> {
    let lines = Lines::of_this_processor()
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, "no caches that can be written back"))?;
    for (skip, len) in copy_private(to, from) {
        // SAFETY: the bytes are there.
        unsafe { lines.write_back(to.as_ptr().wrapping_add(skip), len) };
    }
    store_fence();
    Ok(())
}

/// The memory behind a medium.
#[derive(Debug)]
struct Pmem {
    map: Arc<Map>,
    how: How,
    lines: Lines,
    bad: BadBlocks,
}

impl Persistence for Pmem {
    fn sound(&self, _writes: bool) -> Result<()> {
        if crate::fork::in_child() {
            let text = "a forked child has no part in its parent's memory: open its own";
            return Err(Error::new(ErrorKind::Gone, text));
        }
        Ok(())
    }

    fn intact(&self, offset: u64, len: u64) -> Result<()> {
        self.bad.intact(offset, len)
    }

    fn mend(&self, offset: u64, len: u64) -> Result<()> {
        self.bad.mend(self.map.opened().file.as_fd(), offset, len)
    }

    fn streams(&self) -> bool {
        true
    }

    fn write_back(&self, at: *const u8, len: usize) {
        // SAFETY: who calls this has checked that the bytes lie in the window, which is mapped
        // for as long as this lives.
        unsafe { self.lines.write_back(at, len) };
    }

    fn settle(&self) {
        store_fence();
    }

    fn fence(&self) -> Result<()> {
        store_fence();
        Ok(())
    }
}

/// Persistent memory. It is locked while this, a queue, or a view of it is there.
pub struct PmemMedium {
    uri: String,
    geometry: Geometry,
    exclusive: bool,
    memory: Arc<SharedMemory>,
    pmem: Arc<Pmem>,
    pool: Pool,
}

impl Medium for PmemMedium {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>> {
        self.pmem.sound(false)?;
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

    fn losses(&self) -> u64 {
        self.look();
        0
    }

    fn describe(&self) -> Result<Vec<Fact>> {
        self.look();
        let how = match self.pmem.how {
            How::Sync => "a file on DAX (MAP_SYNC)",
            How::Device => "devdax",
            How::Plain => "a file, volatile: stores do not outlive the machine",
        };
        let fact = |name, value: Value| Fact::new("memory", name, value);
        Ok(vec![
            fact("mapping", how.into()),
            fact("durable", (self.pmem.how != How::Plain).into()),
            fact("write_back", self.pmem.lines.name().into()),
            fact("references", self.exclusive.into()),
            fact("damaged", Value::Bytes(self.pmem.bad.count())),
        ])
    }
}

impl PmemMedium {
    /// Asks the kernel for damage that it has found meanwhile.
    fn look(&self) {
        self.pmem.bad.look(self.pmem.map.opened().file.as_fd(), self.memory.len());
    }
}

impl fmt::Debug for PmemMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PmemMedium")
            .field("uri", &self.uri)
            .field("how", &self.pmem.how)
            .finish_non_exhaustive()
    }
}
