//! A PCI function, as a driver needs it, whatever carries it.
//!
//! [`Function`] is the trait that every transport implements: vfio-user, and the
//! kernel's VFIO. [`Bar`] is a mapped or a message-borne register space, and
//! [`Register`] one register of it for hot paths. Nothing here knows what the
//! registers mean: that is the driver's. Which memory may be mapped for DMA, and at
//! which addresses, is `memory`'s.
//!
//! # What a transport promises
//!
//! - Register accesses reach the device in the width that was asked for, each once,
//!   in program order. They are volatile and never merged or torn.
//! - [`Function::unmap`] returns success only when the device can no longer reach the
//!   range: through an IOMMU because the mapping is gone there, from a vfio-user server
//!   because it has said so after its own poller let go of it.
//! - No call sleeps longer than the transport's time-out. After a time-out or a broken
//!   link the function is gone for good ([`ErrorKind::Gone`](crate::medium::ErrorKind)):
//!   a late answer could be taken for another's.
//! - A function never comes back by itself. Whoever wants it again opens it anew, and
//!   the store goes through recovery (law M3).

mod bar;
mod counted;
mod mapped;
#[cfg(test)]
mod tests;

pub use bar::{Area, Bar, InFile, Mmio, Register, Registers};
pub use counted::Counted;
pub(crate) use mapped::Mapped;

use crate::medium::Result;
use rustix::event::PollFlags;
use std::fmt;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

/// Which way a device may use memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DmaAccess {
    /// The device only reads it.
    Read,
    /// The device only writes it.
    Write,
    /// Both.
    ReadWrite,
}

/// A piece of memory to be made known to a device.
#[derive(Debug, Clone, Copy)]
pub struct DmaMap<'a> {
    /// Where the device shall find it.
    pub iova: u64,
    /// Bytes; a multiple of the smallest page size of [`DmaLimits`].
    pub len: u64,
    /// Where it lies in this process. Kernel VFIO pins it by this address.
    pub address: usize,
    /// The file that it is a mapping of, and where in the file it begins. A vfio-user
    /// server maps that file; memory without one is never given to it (law M4).
    pub file: Option<(BorrowedFd<'a>, u64)>,
    /// What the device may do there.
    pub access: DmaAccess,
}

/// What a transport can map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DmaLimits {
    /// Addresses that the device can use, ordered, without overlap.
    pub ranges: Vec<Range<u64>>,
    /// Page sizes as a bit mask: bit 12 is 4 KiB.
    pub page_sizes: u64,
    /// Mappings that may exist at once.
    pub max_maps: u32,
    /// Memory without a file may be mapped: the caller's own. Never over vfio-user.
    pub foreign_memory: bool,
}

/// One PCI function that this process drives.
///
/// Any thread may call any method; each is atomic towards the others.
pub trait Function: Send + Sync + fmt::Debug {
    /// What names it to a person: an address or a socket.
    fn name(&self) -> &str;

    /// Reads 1, 2 or 4 aligned bytes of configuration space.
    ///
    /// # Errors
    /// `Invalid` for another width or place, `Io` when the device refuses, `Gone`.
    fn config(&self, offset: u16, to: &mut [u8]) -> Result<()>;

    /// Writes 1, 2 or 4 aligned bytes of configuration space.
    ///
    /// # Errors
    /// As [`Function::config`].
    fn set_config(&self, offset: u16, from: &[u8]) -> Result<()>;

    /// A base address register's space, 0 to 5. What can be mapped is mapped.
    ///
    /// # Errors
    /// `NotFound` where the function has no such space; `Limit`; `Gone`.
    fn bar(&self, index: u8) -> Result<Bar>;

    /// What can be mapped for DMA.
    fn dma_limits(&self) -> DmaLimits;

    /// Lets the device reach memory.
    ///
    /// # Safety
    /// The memory stays mapped at `address`, and is used as memory that a device may
    /// read and write at any time, until [`Function::unmap`] of it has succeeded, or
    /// for ever.
    ///
    /// # Errors
    /// `Limit`, with what to raise; `Invalid` for a range that the limits exclude or
    /// that overlaps another mapping; `Unsupported` for memory without a file where
    /// that is not possible; `Io` when the other side refuses; `Gone`.
    unsafe fn map(&self, map: &DmaMap<'_>) -> Result<()>;

    /// Takes memory back: a whole mapping, as it was mapped.
    ///
    /// # Errors
    /// `Invalid` when there is no such mapping; `Io`; `Gone`. After an error the device
    /// may still reach the memory.
    fn unmap(&self, iova: u64, len: u64) -> Result<()>;

    /// Resets the function (function level reset, or the transport's like). Mappings and
    /// interrupts stay as they are. Law M3: completed writes that no flush covered count
    /// as lost afterwards.
    ///
    /// # Errors
    /// `Unsupported`, `Io`, `Gone`.
    fn reset(&self) -> Result<()>;

    /// How many MSI-X vectors there are.
    fn vectors(&self) -> u32;

    /// Has a vector written to an eventfd, or to nothing.
    ///
    /// # Errors
    /// `Invalid` for a vector that is not there; `Io`; `Gone`.
    fn attach(&self, vector: u32, fd: Option<BorrowedFd<'_>>) -> Result<()>;

    /// Whether the device is still there, as far as can be told without asking it: no
    /// message, no register, one system call at most.
    ///
    /// # Errors
    /// `Gone`, with what happened.
    fn check(&self) -> Result<()>;

    /// A descriptor that hangs up (`POLLHUP`, `POLLERR`), or shows one of
    /// [`Function::link_events`], when the device goes; never read from.
    fn link_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// What beside a hang-up of [`Function::link_fd`] says that the device goes.
    fn link_events(&self) -> PollFlags {
        PollFlags::empty()
    }

    /// Ends the function for good, though others still have it and its [`Bar`]s: what is mapped
    /// for DMA is taken back, registers read as all ones, and the system may give the device
    /// to somebody else. All later calls answer `Gone`. May block as an unmap of all mappings
    /// does. True when it is proved that the device reaches no memory of this process any more;
    /// a transport that cannot prove that does nothing, which is the default.
    fn release(&self) -> bool {
        false
    }

    /// What [`Function::release`], which the last drop is too, has answered, for those who
    /// outlive the function; set when it has ended: until then nothing is proved.
    /// None for a transport that never proves it.
    fn released(&self) -> Option<Arc<OnceLock<bool>>> {
        None
    }
}
