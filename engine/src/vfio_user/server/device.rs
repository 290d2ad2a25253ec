//! What a server serves: the trait of a device, and what it is given.

use super::remote::RemoteMemory;
use crate::bus::DmaAccess;
use crate::medium::Result;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fmt;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// A PCI device as a server needs it. All its methods are called on the thread that
/// serves, one after another; so nothing here is called while [`Device::poll`] runs.
///
/// Numbers, lengths and ranges were checked before: regions exist, accesses lie inside
/// them, mappings do not overlap. What the bytes mean was not.
pub trait Device {
    /// A region: 0 to 5 are the BARs, 7 is configuration space (see
    /// [`wire::region`](crate::vfio_user::wire::region)). Asked once for each client. A
    /// region of no bytes is none.
    fn region(&self, index: u32) -> Region;

    /// How many MSI-X vectors there are.
    fn vectors(&self) -> u32;

    /// Reads a region, also where it is shared; as one access when the length is 1, 2, 4 or
    /// 8.
    ///
    /// # Errors
    /// Told to the client, by kind.
    fn read(&mut self, region: u32, offset: u64, to: &mut [u8]) -> Result<()>;

    /// Writes a region; as [`Device::read`].
    ///
    /// # Errors
    /// Told to the client, by kind.
    fn write(&mut self, region: u32, offset: u64, from: &[u8]) -> Result<()>;

    /// Memory that the device may use from now on.
    ///
    /// # Errors
    /// Told to the client; the memory is then not the device's.
    fn dma_added(&mut self, memory: DmaRegion) -> Result<()>;

    /// Takes memory back that was added, whole. When this returns the device uses none of
    /// it and never will: the client is told right then.
    fn dma_removed(&mut self, iova: u64, len: u64);

    /// Has a vector signalled through this, or through nothing.
    fn attach(&mut self, vector: u32, interrupt: Option<Interrupt>);

    /// Resets the function. Mappings and vectors stay; no DMA of before is under way when
    /// this returns.
    ///
    /// # Errors
    /// Told to the client.
    fn reset(&mut self) -> Result<()>;

    /// The client is gone, in whatever way. When this returns no DMA of its is under way
    /// and none will begin: the next client may come (law M3). The memory and the vectors
    /// are taken back after this, one by one.
    fn client_gone(&mut self);

    /// Does what there is to do, a little of it. Called again and again while a client is
    /// connected.
    fn poll(&mut self) -> Work;

    /// A descriptor that ends the sleep that [`Work::Sleep`] began when it is readable.
    fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// What a poll of a device found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// There may be more to do: poll again at once.
    Busy,
    /// The same, after work that took longer than a look at the socket does: a message that has
    /// come meanwhile goes first.
    Long,
    /// Nothing to do. The thread may sleep until a message comes, or for so long. Before
    /// it says so, a device must have arranged that whoever has work for it sends a
    /// message, or must choose a short time.
    Sleep(Duration),
    /// The device leaves: the connection is closed without a word, as if its process had
    /// died.
    Leave,
}

/// A part of a device that a client can read and write.
#[derive(Debug, Clone, Default)]
pub struct Region {
    /// Bytes; 0 where there is no such region.
    pub len: u64,
    /// What clients may map.
    pub shared: Option<Shared>,
}

/// Memory of a device that clients may map.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The file. Careful clients map it only if it is a memfd that is sealed against
    /// shrinking.
    pub file: Arc<OwnedFd>,
    /// Where in it the region begins: a multiple of a page.
    pub offset: u64,
    /// Which bytes of the region: whole pages.
    pub areas: Vec<Range<u64>>,
}

/// Memory that a client gave.
#[derive(Debug)]
pub struct DmaRegion {
    /// Where the device finds it; a multiple of 4096.
    pub iova: u64,
    /// Bytes; a multiple of 4096.
    pub len: u64,
    /// What the device may do there.
    pub access: DmaAccess,
    /// How it is reached.
    pub memory: DmaMemory,
}

/// How memory of a client is reached.
#[derive(Debug)]
pub enum DmaMemory {
    /// It is `len` bytes of a file. The file was a regular one and long enough when it was
    /// looked at; the client may change that.
    File {
        /// The file.
        file: OwnedFd,
        /// Where in it the memory begins; a multiple of 4096.
        offset: u64,
    },
    /// By messages to the client: slow, and they can fail.
    Messages(RemoteMemory),
}

/// How a vector is signalled: an eventfd of the client's. Cheap to clone.
#[derive(Clone)]
pub struct Interrupt(Arc<OwnedFd>);

impl Interrupt {
    /// Takes an eventfd of a client's.
    ///
    /// # Errors
    /// It is a file, a pipe, a socket or the like: writing to it could block or do harm.
    pub(super) fn new(fd: OwnedFd) -> rustix::io::Result<Self> {
        // An eventfd has no type among files; everything that a path, a pipe or a socket
        // leads to has one.
        const TYPES: rustix::fs::RawMode = 0o170_000;
        if rustix::fs::fstat(&fd)?.st_mode & TYPES != 0 {
            return Err(Errno::INVAL);
        }
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        Ok(Self(Arc::new(fd)))
    }

    /// Signals it. One system call. A counter that is full stays readable, so nothing is
    /// missed.
    pub fn signal(&self) {
        let _ = rustix::io::write(&*self.0, &1u64.to_ne_bytes());
    }
}

impl AsFd for Interrupt {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interrupt").field(&self.0).finish()
    }
}
