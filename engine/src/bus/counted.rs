//! A function whose register writes by message are counted: for measurements.

use super::{Bar, DmaLimits, DmaMap, Function, Registers};
use crate::medium::{Error, ErrorKind, Result};
use rustix::event::PollFlags;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Another function, and how many of its registers from some offset on were written by
/// message. What is mapped is written past it: where nothing is, all writes are counted.
#[derive(Debug)]
pub struct Counted {
    inner: Arc<dyn Function>,
    from: u64,
    count: Arc<AtomicU64>,
    /// No register is reached past it.
    all: bool,
}

impl Counted {
    /// Over another function, counting writes at `from` and above.
    pub fn new(inner: Arc<dyn Function>, from: u64) -> Self {
        Self { inner, from, count: Arc::default(), all: false }
    }

    /// The same, but registers are not shown as mapped where they are: every write of 4 bytes is
    /// counted, and is slower than it would be.
    pub fn all(inner: Arc<dyn Function>, from: u64) -> Self {
        Self { inner, from, count: Arc::default(), all: true }
    }

    /// What it counts.
    pub fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.count)
    }
}

/// Passes accesses on.
struct Passed {
    inner: Bar,
    from: u64,
    count: Arc<AtomicU64>,
}

impl Registers for Passed {
    fn read(&self, _bar: u8, offset: u64, to: &mut [u8]) -> Result<()> {
        match to.len() {
            4 => to.copy_from_slice(&self.inner.read32(offset)?.to_le_bytes()),
            _ => to.copy_from_slice(&self.inner.read64(offset)?.to_le_bytes()),
        }
        Ok(())
    }

    fn write(&self, _bar: u8, offset: u64, from: &[u8]) -> Result<()> {
        if offset >= self.from {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        let wrong = |_| Error::new(ErrorKind::Invalid, "an access of another width");
        match from.len() {
            // By message, as it came.
            4 => {
                let value = u32::from_le_bytes(from.try_into().map_err(wrong)?);
                self.inner.register(offset)?.send(value)
            }
            _ => self.inner.write64(offset, u64::from_le_bytes(from.try_into().map_err(wrong)?)),
        }
    }
}

impl Function for Counted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn config(&self, offset: u16, to: &mut [u8]) -> Result<()> {
        self.inner.config(offset, to)
    }

    fn set_config(&self, offset: u16, from: &[u8]) -> Result<()> {
        self.inner.set_config(offset, from)
    }

    fn bar(&self, index: u8) -> Result<Bar> {
        let inner = self.inner.bar(index)?;
        // Registers are in the first one; others are memory.
        let hidden = self.all && index == 0;
        let mapped = if hidden { Vec::new() } else { inner.areas().to_vec() };
        let (len, areas) = (inner.len(), mapped);
        let others = Arc::new(Passed { inner, from: self.from, count: Arc::clone(&self.count) });
        Ok(Bar::new(index, len, areas, others))
    }

    fn dma_limits(&self) -> DmaLimits {
        self.inner.dma_limits()
    }

    unsafe fn map(&self, map: &DmaMap<'_>) -> Result<()> {
        // SAFETY: the caller's promise is the one that is asked for.
        unsafe { self.inner.map(map) }
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<()> {
        self.inner.unmap(iova, len)
    }

    fn reset(&self) -> Result<()> {
        self.inner.reset()
    }

    fn vectors(&self) -> u32 {
        self.inner.vectors()
    }

    fn attach(&self, vector: u32, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        self.inner.attach(vector, fd)
    }

    fn check(&self) -> Result<()> {
        self.inner.check()
    }

    fn link_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.link_fd()
    }

    fn link_events(&self) -> PollFlags {
        self.inner.link_events()
    }

    fn release(&self) -> bool {
        self.inner.release()
    }

    fn released(&self) -> Option<Arc<OnceLock<bool>>> {
        self.inner.released()
    }
}
