//! What stands behind the memory of a pool that a device reaches by itself.

use crate::medium::{Error, ErrorKind, Result};
use std::fmt;
use std::os::fd::BorrowedFd;

/// A region of memory, as a device is told of it.
#[derive(Debug, Clone, Copy)]
pub struct RegionInfo<'a> {
    /// The sealed memory file that it lies in. Good for the call; a transport that
    /// keeps it makes a copy of the descriptor.
    pub fd: BorrowedFd<'a>,
    /// First byte in the file.
    pub offset: u64,
    /// Bytes, a multiple of 2 MiB.
    pub len: usize,
    /// Where this process has it.
    pub address: usize,
}

/// Makes the regions of a pool known to a device ([`Pool::backed`](super::Pool::backed)).
///
/// A pool calls it from whichever thread makes the pool grow or drops its last buffer,
/// without any lock under which a buffer is taken or dropped. What holds the device
/// alive should not be held alive by this: buffers keep their pool, and the pool this.
pub trait Backing: Send + Sync {
    /// Makes a region known, and gives the address by which the device reaches its
    /// first byte. May wait for the device's answer.
    ///
    /// # Errors
    /// What the transport says; [`limits::map_refused`](super::limits::map_refused)
    /// words it. The region is dropped then, and whoever asked for memory gets the
    /// error; so after an error the device must not know the region, or must be lost.
    fn added(&self, region: &RegionInfo<'_>) -> Result<u64>;

    /// Takes a region back, when its pool and the last buffer of it are gone.
    ///
    /// # Errors
    /// When the device may still reach it. That is harmless for memory of the engine's
    /// own: the pages behind a memory file last until the peer has let go of them too.
    /// Memory that was [`adopted`](Self::adopted) is then never given back.
    fn removed(&self, iova: u64, len: usize) -> Result<()>;

    /// Makes memory of the caller's own known, which has no file that could be sent.
    /// None where that is not possible: its buffers are bounced then. A transport whose
    /// other end is a process answers none, always (law M4); that is the default.
    ///
    /// # Errors
    /// As for [`added`](Self::added).
    fn adopted(&self, address: usize, len: usize) -> Result<Option<u64>> {
        let _ = (address, len);
        Ok(None)
    }
}

impl fmt::Debug for dyn Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backing")
    }
}

/// Memory that a lost device was given is not used again.
pub(super) fn lost() -> Error {
    Error::new(
        ErrorKind::Gone,
        "the device that this memory was given to is lost and may still write to it: open the \
         medium again for new memory",
    )
}
