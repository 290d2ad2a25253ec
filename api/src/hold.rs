//! Holds: long uses of a buffer, by code that vouches for itself.

use crate::buffer::{Place, TRIES, mend, mended, refused};
use crate::{Error, ErrorKind, LeaseBuffer, Result};
use freehold_engine::memory::{Access, ViewHold};
use freehold_engine::pin::{LongPin, NotHeld};
use std::sync::atomic::{AtomicPtr, Ordering};

/// A use of a [`LeaseBuffer`] that may last, move between threads, and outlive its buffer: what a
/// pin is to a program in another language. It gives raw pointers. It costs some atomic operations,
/// and nothing is allocated.
///
/// ```
/// # use freehold::{Access, LeaseOptions, Memory, Store};
/// # let store = Store::format("mem:16M", &Default::default())?;
/// # let file = store.create(b"f")?;
/// file.write_at(b"page", 0)?;
/// let lease = file.lease(.., Access::Stable, &LeaseOptions::default())?;
/// let hold = lease.buffer(Memory::Auto)?.hold(false)?;
/// assert_eq!(hold.len(), 4);
/// std::thread::spawn(move || assert!(!hold.as_ptr(0).unwrap().0.is_null())).join().unwrap();
/// # Ok::<(), freehold::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a hold that is dropped at once protects nothing"]
pub struct Hold {
    at: At,
}

#[derive(Debug)]
enum At {
    Window(ViewHold),
    /// The buffer's memory: it is where it is for as long as the buffer exists.
    Dma {
        first: AtomicPtr<u8>,
        len: usize,
        _pin: LongPin,
    },
}

impl LeaseBuffer {
    /// Pins the lease for a use that may last, move, and outlive the buffer; `writes` says that
    /// it may write, which makes DMA memory count as written until it is flushed. The bytes of
    /// DMA memory are the buffer's: they go with it, and a command that has the buffer has them.
    ///
    /// # Errors
    /// `Invalid` to write where the access only reads; as [`LeaseBuffer::pin`].
    pub fn hold(&self, writes: bool) -> Result<Hold> {
        let lease = self.share.lease();
        if writes && self.is_window() && !lease.access().writes() {
            return Err(lease.writes_not());
        }
        mended(lease)?;
        let mut why = match self.hold_now(writes) {
            Ok(hold) => return Ok(hold),
            Err(why) => why,
        };
        for _ in 0..TRIES {
            mend(lease, why)?;
            match self.hold_now(writes) {
                Ok(hold) => return Ok(hold),
                Err(again) => why = again,
            }
        }
        Err(refused(lease, why))
    }

    fn hold_now(&self, writes: bool) -> std::result::Result<Hold, NotHeld> {
        let at = match &self.place {
            Place::Window(view) => At::Window(view.hold()?),
            Place::Dma(memory, len) => {
                let lease = self.share.lease();
                let pin = lease.hold()?;
                if writes && lease.access().writes() {
                    // Under the pin: whoever finds none finds this.
                    self.share.soil();
                }
                At::Dma { first: AtomicPtr::new(memory.address()), len: *len, _pin: pin }
            }
        };
        Ok(Hold { at })
    }
}

impl Hold {
    /// Bytes in the buffer.
    pub fn len(&self) -> u64 {
        match &self.at {
            At::Window(hold) => hold.len(),
            At::Dma { len, .. } => *len as u64,
        }
    }

    /// Never: a buffer has at least a byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where a byte lies, and how many lie there side by side. Good while the hold is, and of
    /// DMA memory its buffer. In a window under Read and Write access only volatile or atomic
    /// reads are allowed.
    ///
    /// # Errors
    /// `Invalid` at the end of the buffer or beyond it.
    pub fn as_ptr(&self, at: u64) -> Result<(*const u8, usize)> {
        match &self.at {
            At::Window(hold) => Ok(hold.as_ptr(at)?),
            At::Dma { .. } => self.place(at).map(|(first, len)| (first.cast_const(), len)),
        }
    }

    /// The same, to write through: in a window under Write access by volatile or atomic
    /// accesses, under Exclusive access while no other use of the buffer is there. From then on
    /// a whole window counts as written each time that a use of it ends.
    ///
    /// # Errors
    /// `Invalid` at the end of the buffer or beyond it, and for a window that only reads.
    pub fn as_mut_ptr(&self, at: u64) -> Result<(*mut u8, usize)> {
        match &self.at {
            At::Window(hold) => Ok(hold.as_mut_ptr(at)?),
            At::Dma { .. } => self.place(at),
        }
    }

    fn place(&self, at: u64) -> Result<(*mut u8, usize)> {
        match &self.at {
            At::Dma { first, len, .. } if at < *len as u64 => {
                let first = first.load(Ordering::Relaxed);
                Ok((first.wrapping_add(at as usize), len - at as usize))
            }
            _ => Err(self.outside(at, 1)),
        }
    }

    /// Copies bytes out of a window. From one under Read and Write access others may write them
    /// meanwhile: what comes out may be any mixture.
    ///
    /// # Errors
    /// `Invalid` outside the buffer, and for DMA memory, which [`Hold::as_ptr`] is for.
    pub fn load(&self, at: u64, to: &mut [u8]) -> Result<()> {
        match &self.at {
            At::Window(hold) => Ok(hold.load(at, to)?),
            At::Dma { .. } => Err(by_pointer()),
        }
    }

    /// Copies bytes into a window under Write access, where others may read and write them
    /// meanwhile; `durably` they are durable when this returns, otherwise they count as written.
    ///
    /// # Errors
    /// `Invalid` outside the buffer, and for any other one: that is written by pointers.
    pub fn store(&self, at: u64, from: &[u8], durably: bool) -> Result<()> {
        match &self.at {
            At::Window(hold) if durably => Ok(hold.store_durably(at, from)?),
            At::Window(hold) => Ok(hold.store(at, from)?),
            At::Dma { .. } => Err(by_pointer()),
        }
    }

    /// It is a window whose bytes others may change at any time: they are copied, by
    /// [`Hold::load`] and [`Hold::store`].
    pub fn is_shared(&self) -> bool {
        match &self.at {
            At::Window(hold) => matches!(hold.access(), Access::Read | Access::Write),
            At::Dma { .. } => false,
        }
    }

    #[cold]
    fn outside(&self, at: u64, want: u64) -> Error {
        let why = format!("bytes {at}..+{want} are not in a buffer of {} bytes", self.len());
        Error::new(ErrorKind::Invalid, why)
    }
}

#[cold]
fn by_pointer() -> Error {
    Error::new(ErrorKind::Invalid, "private memory is read and written by its pointer")
}
