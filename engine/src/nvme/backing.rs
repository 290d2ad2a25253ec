//! How the memory of a controller's pool becomes known to it: an address from the
//! allocator, then a map through the bus.

use crate::bus::{DmaAccess, DmaMap, Function};
use crate::medium::{Error, ErrorKind, Result};
use crate::memory::iova::Allocator;
use crate::memory::{Backing, Pool, RegionInfo};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// Maps regions for one function. It does not keep the function: buffers outlive the
/// controller, whose end takes all mappings with it.
pub(super) struct Mapper {
    function: Weak<dyn Function>,
    addresses: Mutex<Allocator>,
    /// Memory without a file may be mapped.
    foreign: bool,
    /// How the function ended, where it tells.
    released: Option<Arc<OnceLock<bool>>>,
}

impl Mapper {
    /// Over a function's own limits.
    ///
    /// # Errors
    /// `Unsupported` when no memory can be mapped at all.
    pub(super) fn new(function: &Arc<dyn Function>) -> Result<Self> {
        let limits = function.dma_limits();
        let usable: Vec<_> =
            limits.ranges.iter().filter(|r| !r.is_empty()).map(|r| r.start..=r.end - 1).collect();
        let addresses = Mutex::new(Allocator::new(&usable, limits.page_sizes)?);
        Ok(Self {
            function: Arc::downgrade(function),
            addresses,
            foreign: limits.foreign_memory,
            released: function.released(),
        })
    }

    fn addresses(&self) -> MutexGuard<'_, Allocator> {
        // Nothing under this lock can panic half-way, so poison means nothing.
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pool whose memory a function reaches, for whoever drives one without this driver.
/// The function is not kept by it: its end takes all mappings with it.
///
/// # Errors
/// `Unsupported` when no memory can be mapped at all.
pub fn pool(function: &Arc<dyn Function>) -> Result<Pool> {
    Ok(Pool::backed(Arc::new(Mapper::new(function)?)))
}

impl Mapper {
    /// Addresses for memory that the device has itself.
    ///
    /// # Errors
    /// `Limit` when there are none.
    pub(super) fn take_addresses(&self, len: u64) -> Result<u64> {
        let mut addresses = self.addresses();
        let align = addresses.alignment(len);
        addresses.take(len, align)
    }

    /// They are free again.
    pub(super) fn give_addresses(&self, iova: u64, len: u64) -> Result<()> {
        self.addresses().give_back(iova, len)
    }
}

/// Memory as a file and a place in it, where it has one.
type Filed<'a> = Option<(BorrowedFd<'a>, u64)>;

impl Mapper {
    /// Makes memory known at an address of its own.
    ///
    /// # Safety
    /// As [`Function::map`].
    unsafe fn map(&self, address: usize, len: u64, file: Filed<'_>) -> Result<u64> {
        let Some(function) = self.function.upgrade() else {
            let text = "the controller of this memory is closed: open the medium again";
            return Err(Error::new(ErrorKind::Gone, text));
        };
        let iova = self.take_addresses(len)?;
        let map = DmaMap { iova, len, address, file, access: DmaAccess::ReadWrite };
        // SAFETY: the caller's promise is the one that is asked for.
        match unsafe { function.map(&map) } {
            Ok(()) => Ok(iova),
            Err(error) => {
                // What a lost device has may be there: its address is not used again.
                if error.kind() != ErrorKind::Gone {
                    self.give_addresses(iova, len)?;
                }
                Err(error)
            }
        }
    }
}

impl Backing for Mapper {
    fn added(&self, region: &RegionInfo<'_>) -> Result<u64> {
        let file = Some((region.fd, region.offset));
        // SAFETY: a pool keeps a region mapped, and uses it as memory that a device may
        // change, until `removed` was called and beyond that if it failed (`Backing`).
        unsafe { self.map(region.address, region.len as u64, file) }
    }

    fn adopted(&self, address: usize, len: usize) -> Result<Option<u64>> {
        if !self.foreign {
            return Ok(None);
        }
        // SAFETY: its owner has given the memory up, so that nobody else uses it, and gets it
        // back when `removed` has succeeded, or never (`Backing`, law M4).
        unsafe { self.map(address, len as u64, None) }.map(Some)
    }

    fn removed(&self, iova: u64, len: usize) -> Result<()> {
        let Some(function) = self.function.upgrade() else {
            // Without a function there is no mapping either, where nothing tells of its end: the
            // peer of such a one may have the memory still, and it is no one's but the engine's.
            let proved = |released: &Arc<OnceLock<bool>>| released.get() == Some(&true);
            return match self.released.as_ref().is_none_or(proved) {
                true => Ok(()),
                false => {
                    let text = "nothing proves yet that the device which had this memory does not \
                                reach it";
                    Err(Error::new(ErrorKind::Gone, text))
                }
            };
        };
        function.unmap(iova, len as u64)?;
        self.addresses().give_back(iova, len as u64)
    }
}
