//! A window as memory: the handle by which leases reach the storage itself.

use super::ledger::Access;
use super::reach::Reach;
use super::salvage;
use super::shared::{SharedMemory, blocks};
use super::view::{Booking, View};
use crate::medium::{Error, ErrorKind, Result};
use crate::pin::PinRef;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The bytes of a window medium, by their offset on the medium. A handle: clones
/// are the same memory, and it lives as long as one of them, or a [`View`], does.
///
/// ```
/// use freehold_engine::medium::Medium;
/// use freehold_engine::mem::MemMedium;
/// use freehold_engine::memory::{Access, Piece};
/// use freehold_engine::pin::{PinState, Waiter, recall};
///
/// let medium = MemMedium::new(1 << 20)?;
/// let memory = medium.window_memory().expect("a window");
/// medium.window().unwrap().store(8192, b"bytes")?;
///
/// // Two extents of some file, and a hole after them, under one lease.
/// let pieces = [Piece::at(8192, 4096), Piece::at(65536, 4096), Piece::zeroes(4096)];
/// let lease = PinState::new(&Waiter::none()).shared();
/// let view = memory.view(Access::Stable, &pieces, &lease)?;
/// let booking = view.booking();
///
/// let pin = view.pin().unwrap();
/// assert_eq!(pin.slice(0, 5)?, b"bytes");
/// assert_eq!(pin.parts().map(<[u8]>::len).sum::<usize>(), 3 * 4096);
/// // Nobody writes there meanwhile.
/// assert!(medium.window().unwrap().store(8200, b"!").is_err());
/// drop(pin);
///
/// // The lease is taken back: the bytes are everybody's again.
/// recall(&[&lease]).unwrap();
/// assert!(lease.is_quiet() && lease.give_back());
/// assert!(booking.retire());
/// medium.window().unwrap().store(8200, b"!")?;
/// assert!(view.pin().is_err());
/// # Ok::<(), freehold_engine::medium::Error>(())
/// ```
#[derive(Clone)]
pub struct WindowMemory {
    memory: Arc<SharedMemory>,
}

/// One run of bytes of a view, on the medium or on no medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    at: Option<u64>,
    len: u64,
}

impl Piece {
    /// `len` bytes from offset `at` of the medium.
    pub fn at(at: u64, len: u64) -> Self {
        Self { at: Some(at), len }
    }

    /// `len` bytes that read as zeroes: a hole, or blocks that nobody wrote (law
    /// B12). For Read and Stable access only.
    pub fn zeroes(len: u64) -> Self {
        Self { at: None, len }
    }
}

impl WindowMemory {
    pub(crate) fn new(memory: Arc<SharedMemory>) -> Self {
        Self { memory }
    }

    /// Bytes in the window.
    pub fn len(&self) -> u64 {
        self.memory.len()
    }

    /// Never: a window has at least a block.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A view of pieces, one behind the other, for a lease whose uses are counted
    /// by `pins`. It books the blocks that have bytes of the pieces: as long as it is
    /// there, and not [retired](super::Booking::retire), no view of a conflicting
    /// [`Access`] is made there, a queue's command that would write under a reference
    /// (or read under an exclusive one) completes with `Busy`, and so do the copies of
    /// [`Window`](crate::medium::Window). Does not wait: short locks only.
    ///
    /// Pieces that do not lie side by side on the medium do so in memory, where the window has
    /// a file and they are no more than 64 (and the system allows as many mappings): one
    /// [slice](Reach::slice) then. Page tables are filled, on media that are not this
    /// process's own memory: that takes its time, some 50 ns for a page.
    ///
    /// # Errors
    /// `Busy` when a view or a command being carried out is in the way: who
    /// grants leases drains commands first, so this means try again, or a mistake
    /// there. `Invalid` for bytes outside the medium, for no bytes, and for zeroes
    /// under Write or Exclusive access. `Unsupported` and `Permission` where the window does
    /// not [give](Self::gives) such views; `Io` where the memory is known to be damaged.
    pub fn view(&self, access: Access, pieces: &[Piece], pins: &PinRef) -> Result<View> {
        let (reach, ranges) = self.lay(access, pieces)?;
        View::new(reach, ranges, pins.clone(), false)
    }

    /// The same, at addresses of its own, so that it can be taken away from a holder who does
    /// not give it back: see [`Booking::close`]. For access that gives copies and raw pointers;
    /// a touch of it afterwards ends the process.
    ///
    /// # Errors
    /// As [`Self::view`]. `Unsupported` where the window has no file that could be mapped
    /// again, or for too many pieces; `Invalid` for access that gives references.
    pub fn view_that_closes(
        &self,
        access: Access,
        pieces: &[Piece],
        pins: &PinRef,
    ) -> Result<View> {
        if access.gives_references() {
            let text = format!("{access:?} access gives references, which cannot be taken away");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let (reach, ranges) = self.lay(access, pieces)?;
        View::new(reach, ranges, pins.clone(), true)
    }

    /// The view of a [retired](super::Booking::retire) booking shows these pieces from now on,
    /// with the same access and for the same lease, and can be pinned again as soon as that
    /// is held: for a lease whose blocks have moved. False, with nothing done, if the view shows
    /// them already, or is gone.
    ///
    /// ```
    /// use freehold_engine::medium::Medium;
    /// use freehold_engine::mem::MemMedium;
    /// use freehold_engine::memory::{Access, Piece};
    /// use freehold_engine::pin::{PinState, Waiter, recall};
    ///
    /// let medium = MemMedium::new(1 << 20)?;
    /// let memory = medium.window_memory().expect("a window");
    /// medium.window().unwrap().store(8192, b"moved")?;
    /// let lease = PinState::new(&Waiter::none()).shared();
    /// let view = memory.view(Access::Stable, &[Piece::at(0, 4096)], &lease)?;
    /// let booking = view.booking();
    ///
    /// recall(&[&lease]).unwrap();
    /// assert!(booking.retire());
    /// assert!(memory.relay(&booking, &[Piece::at(8192, 4096)])?);
    /// lease.renew();
    /// assert_eq!(view.pin().unwrap().slice(0, 5)?, b"moved");
    /// # Ok::<(), freehold_engine::medium::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::view`], and then the booking stays retired; `Busy` while it is not retired
    /// and shows others.
    pub fn relay(&self, booking: &Booking, pieces: &[Piece]) -> Result<bool> {
        let (reach, ranges) = self.lay(booking.access(), pieces)?;
        booking.relay(reach, ranges)
    }

    /// Whether a view of this access can be had at all: one that gives references to memory
    /// that others may write cannot, and there is none to write what is open to be read.
    pub fn gives(&self, access: Access) -> bool {
        self.refusal(access).is_none()
    }

    fn refusal(&self, access: Access) -> Option<Error> {
        let refused = self.memory.refused();
        let refuse = |kind, why: &str| Error::new(kind, why);
        match (refused.writes, refused.references) {
            (Some(why), _) if access.writes() => Some(refuse(ErrorKind::Permission, why)),
            (_, Some(why)) if access.gives_references() => {
                Some(refuse(ErrorKind::Unsupported, why))
            }
            _ => None,
        }
    }

    fn lay(&self, access: Access, pieces: &[Piece]) -> Result<(Reach, Box<[Range<u64>]>)> {
        if let Some(error) = self.refusal(access) {
            return Err(error);
        }
        let writes = access.writes();
        let mut ranges = Vec::with_capacity(pieces.len());
        for piece in pieces {
            match piece.at {
                _ if piece.len == 0 => {
                    return Err(Error::new(ErrorKind::Invalid, "a view of an empty piece"));
                }
                Some(at) => {
                    self.memory.check(at, piece.len)?;
                    ranges.push(blocks(at, piece.len));
                }
                None if writes => {
                    let text = format!("a hole cannot be leased for {access:?} access: fill it");
                    return Err(Error::new(ErrorKind::Invalid, text));
                }
                None => {}
            }
        }
        let runs = pieces.iter().map(|piece| (piece.at, piece.len));
        let reach = Reach::new(Arc::clone(&self.memory), access, runs)?;
        Ok((reach, ranges.into()))
    }

    /// Copies bytes out that somebody may be writing through an exclusive pin which
    /// was not ended in time: old, new or torn, each byte for itself. The kernel
    /// does it, some microseconds for a block; where it cannot (pages of a device's registers)
    /// it is loaded. For the fence of law R4 only, which
    /// moves a file off such blocks; [`Window::load`](crate::medium::Window::load)
    /// answers `Busy` there.
    ///
    /// # Errors
    /// `Invalid` outside the medium; `Unsupported` where the system forbids it.
    pub fn salvage(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        let from = self.memory.range(offset, to.len() as u64)?;
        if to.as_ptr_range().end > from.cast_const()
            && to.as_ptr_range().start < from.wrapping_add(to.len()).cast_const()
        {
            return Err(Error::new(ErrorKind::Invalid, "bytes cannot be copied onto themselves"));
        }
        // SAFETY: the range was checked, is mapped while `self.memory` lives, and
        // does not overlap `to`.
        let read = unsafe { salvage::read(from, to) };
        match read {
            Err(error) if self.memory.is_device() && self.memory.file().is_none() => {
                // Registers' pages are mapped for the processor alone.
                tracing::debug!(%error, "the kernel does not read this window: loading from it");
                // SAFETY: as above; the copy is one instruction that no compiler looks into, so
                // whatever a holder writes meanwhile is torn at the worst.
                unsafe { super::copy::load(to.as_mut_ptr(), from, to.len()) };
                Ok(())
            }
            done => done,
        }
    }
}

impl fmt::Debug for WindowMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WindowMemory").field("len", &self.len()).finish_non_exhaustive()
    }
}
