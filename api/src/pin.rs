//! Pins: one use of a buffer by the CPU.

use crate::{Error, ErrorKind, Result};
use freehold_engine::memory::{Access, ViewPin, ViewPinMut};
use freehold_engine::pin::ShortPin;

/// A short use of a [`LeaseBuffer`](crate::LeaseBuffer). Whoever needs the range waits for it:
/// make it short. Offsets count from the buffer's first byte. It stays with its thread:
///
/// ```compile_fail,E0277
/// fn sends<T: Send>() {}
/// sends::<freehold::Pin<'static>>();
/// ```
///
/// and nobody on another thread may borrow what belongs to it:
///
/// ```compile_fail,E0277
/// # fn share(buffer: &freehold::LeaseBuffer) {
/// let pin = buffer.pin().unwrap();
/// std::thread::scope(|s| {
///     s.spawn(|| pin.load(0, &mut [0; 8]).unwrap());
/// });
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a pin that is dropped at once protects nothing"]
pub struct Pin<'a> {
    at: At<'a>,
}

#[derive(Debug)]
enum At<'a> {
    Window(ViewPin<'a>),
    Dma { bytes: &'a [u8], _guard: ShortPin<'a> },
}

impl<'a> Pin<'a> {
    #[inline(always)]
    pub(crate) fn window(pin: ViewPin<'a>) -> Self {
        Pin { at: At::Window(pin) }
    }

    #[inline(always)]
    pub(crate) fn dma(guard: ShortPin<'a>, bytes: &'a [u8]) -> Self {
        Pin { at: At::Dma { bytes, _guard: guard } }
    }

    /// Bytes in the buffer.
    pub fn len(&self) -> u64 {
        match &self.at {
            At::Window(pin) => pin.len(),
            At::Dma { bytes, .. } => bytes.len() as u64,
        }
    }

    /// Never: a buffer has at least a byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes out. From a window under Read and Write access others may write them
    /// meanwhile: what comes out may be any mixture.
    ///
    /// # Errors
    /// `Invalid` outside the buffer.
    #[inline]
    pub fn load(&self, at: u64, to: &mut [u8]) -> Result<()> {
        match &self.at {
            At::Window(pin) => Ok(pin.load(at, to)?),
            At::Dma { bytes, .. } => {
                to.copy_from_slice(part(bytes, at, to.len() as u64)?);
                Ok(())
            }
        }
    }

    /// Copies bytes into a window under Write access, where others may read and write them
    /// meanwhile. They count as written, and are made durable by a sync of the file, by
    /// [`Queue::persist`](crate::Queue::persist), or when the lease goes.
    ///
    /// # Errors
    /// `Invalid` outside the buffer, and for any other one: see
    /// [`PinMut::store`](PinMut::store).
    pub fn store(&self, at: u64, from: &[u8]) -> Result<()> {
        match &self.at {
            At::Window(pin) => Ok(pin.store(at, from)?),
            At::Dma { .. } => Err(mutable()),
        }
    }

    /// As [`Pin::store`], and durable when it returns: on persistent memory the copy and the
    /// instructions that flush it, on a Persistent Memory Region one barrier.
    ///
    /// ```
    /// # use freehold::{Access, LeaseOptions, Memory, Store};
    /// # let store = Store::format("mem:16M", &Default::default())?;
    /// # let file = store.create(b"f")?;
    /// # file.truncate(8192)?;
    /// let lease = file.lease(.., Access::Write, &LeaseOptions::default())?;
    /// let buffer = lease.buffer(Memory::Window)?;
    /// buffer.pin()?.store_durably(4000, &[7; 200])?;
    /// drop((buffer, lease));
    /// let mut bytes = [0; 200];
    /// file.read_at(&mut bytes, 4000)?;
    /// assert_eq!(bytes, [7; 200]);
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Pin::store`]; what the medium reports: then nothing is known of these bytes.
    pub fn store_durably(&self, at: u64, from: &[u8]) -> Result<()> {
        match &self.at {
            At::Window(pin) => Ok(pin.store_durably(at, from)?),
            At::Dma { .. } => Err(mutable()),
        }
    }

    /// Bytes in place, where they lie side by side.
    ///
    /// # Errors
    /// `Invalid` outside the buffer, for a window under Read and Write access, and for a range
    /// of several [`parts`](Pin::parts).
    #[inline]
    pub fn slice(&self, at: u64, len: u64) -> Result<&[u8]> {
        match &self.at {
            At::Window(pin) => Ok(pin.slice(at, len)?),
            At::Dma { bytes, .. } => part(bytes, at, len),
        }
    }

    /// All bytes in order, in parts that lie side by side. None from a window under Read and
    /// Write access.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let (window, memory) = match &self.at {
            At::Window(pin) => (Some(pin.parts()), None),
            At::Dma { bytes, .. } => (None, Some(*bytes)),
        };
        window.into_iter().flatten().chain(memory)
    }

    /// Where a byte lies, and how many lie there side by side: for code that vouches for
    /// itself, or for another language. Good while the pin is. In a window under Read and
    /// Write access only volatile or atomic reads are allowed.
    ///
    /// # Errors
    /// `Invalid` at the end of the buffer or beyond it.
    pub fn as_ptr(&self, at: u64) -> Result<(*const u8, usize)> {
        match &self.at {
            At::Window(pin) => Ok(pin.as_ptr(at)?),
            At::Dma { bytes, .. } => {
                let rest = part(bytes, at, 1).map(|_| &bytes[at as usize..])?;
                Ok((rest.as_ptr(), rest.len()))
            }
        }
    }

    /// The same in a window under Write access, to write through by volatile or atomic
    /// accesses. From then on the whole buffer counts as written each time that a pin ends.
    ///
    /// # Errors
    /// `Invalid` outside the buffer, and for any other one.
    pub fn as_mut_ptr(&self, at: u64) -> Result<(*mut u8, usize)> {
        match &self.at {
            At::Window(pin) => Ok(pin.as_mut_ptr(at)?),
            At::Dma { .. } => Err(mutable()),
        }
    }
}

/// A use of a [`LeaseBuffer`](crate::LeaseBuffer) that may write, and beside which there is no
/// other pin of it.
///
/// ```compile_fail,E0499
/// # fn two(mut buffer: freehold::LeaseBuffer) {
/// let mut pin = buffer.pin_mut().unwrap();
/// let one = pin.slice_mut(0, 8).unwrap();
/// let two = pin.slice_mut(0, 8).unwrap();
/// one[0] = two[0];
/// # }
/// ```
///
/// ```compile_fail,E0505
/// # fn keep(mut buffer: freehold::LeaseBuffer) {
/// let mut pin = buffer.pin_mut().unwrap();
/// let bytes = pin.slice_mut(0, 8).unwrap();
/// drop(pin);
/// bytes[0] = 1;
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a pin that is dropped at once protects nothing"]
pub struct PinMut<'a> {
    at: AtMut<'a>,
}

#[derive(Debug)]
enum AtMut<'a> {
    Window(ViewPinMut<'a>),
    Dma { bytes: &'a mut [u8], _guard: ShortPin<'a> },
}

impl<'a> PinMut<'a> {
    pub(crate) fn window(pin: ViewPinMut<'a>) -> Self {
        PinMut { at: AtMut::Window(pin) }
    }

    pub(crate) fn dma(guard: ShortPin<'a>, bytes: &'a mut [u8]) -> Self {
        PinMut { at: AtMut::Dma { bytes, _guard: guard } }
    }

    /// Bytes in the buffer.
    pub fn len(&self) -> u64 {
        match &self.at {
            AtMut::Window(pin) => pin.len(),
            AtMut::Dma { bytes, .. } => bytes.len() as u64,
        }
    }

    /// Never: a buffer has at least a byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// As [`Pin::load`].
    ///
    /// # Errors
    /// As there.
    pub fn load(&self, at: u64, to: &mut [u8]) -> Result<()> {
        match &self.at {
            AtMut::Window(pin) => Ok(pin.load(at, to)?),
            AtMut::Dma { bytes, .. } => {
                to.copy_from_slice(part(bytes, at, to.len() as u64)?);
                Ok(())
            }
        }
    }

    /// Copies bytes in: everywhere but into a window that only reads.
    ///
    /// ```
    /// # use freehold::{Access, LeaseOptions, Memory, Store};
    /// # let store = Store::format("mem:16M", &Default::default())?;
    /// # let file = store.create(b"f")?;
    /// # file.truncate(8192)?;
    /// for access in [Access::Write, Access::Exclusive] {
    ///     let lease = file.lease(.., access, &LeaseOptions::default())?;
    ///     for memory in [Memory::Window, Memory::Dma] {
    ///         let mut buffer = lease.buffer(memory)?;
    ///         let mut pin = buffer.pin_mut()?;
    ///         pin.store(4000, &[7; 200])?;
    ///         let mut bytes = [0; 200];
    ///         pin.load(4000, &mut bytes)?;
    ///         assert_eq!(bytes, [7; 200]);
    ///     }
    /// }
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` outside the buffer, and for a window under Read and Stable access.
    pub fn store(&mut self, at: u64, from: &[u8]) -> Result<()> {
        match &mut self.at {
            AtMut::Window(pin) if pin.access() == Access::Exclusive => {
                let (mut at, mut from) = (at, from);
                while !from.is_empty() {
                    let (_, side_by_side) = pin.as_ptr(at)?;
                    let (here, more) = from.split_at(side_by_side.min(from.len()));
                    pin.slice_mut(at, here.len() as u64)?.copy_from_slice(here);
                    (at, from) = (at + here.len() as u64, more);
                }
                Ok(())
            }
            AtMut::Window(pin) => Ok(pin.store(at, from)?),
            AtMut::Dma { bytes, .. } => {
                let range = inside(bytes.len(), at, from.len() as u64)?;
                bytes[range].copy_from_slice(from);
                Ok(())
            }
        }
    }

    /// As [`Pin::slice`].
    ///
    /// # Errors
    /// As there.
    pub fn slice(&self, at: u64, len: u64) -> Result<&[u8]> {
        match &self.at {
            AtMut::Window(pin) => Ok(pin.slice(at, len)?),
            AtMut::Dma { bytes, .. } => part(bytes, at, len),
        }
    }

    /// Bytes to be written in place, where they lie side by side.
    ///
    /// # Errors
    /// `Invalid` outside the buffer, for a window unless its access is Exclusive, and for a
    /// range of several [`parts`](PinMut::parts_mut).
    pub fn slice_mut(&mut self, at: u64, len: u64) -> Result<&mut [u8]> {
        match &mut self.at {
            AtMut::Window(pin) => Ok(pin.slice_mut(at, len)?),
            AtMut::Dma { bytes, .. } => {
                let range = inside(bytes.len(), at, len)?;
                Ok(&mut bytes[range])
            }
        }
    }

    /// All bytes in order, to be written in place, in parts that lie side by side. None from a
    /// window unless its access is Exclusive.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let (window, memory) = match &mut self.at {
            AtMut::Window(pin) => (Some(pin.parts_mut()), None),
            AtMut::Dma { bytes, .. } => (None, Some(&mut **bytes)),
        };
        window.into_iter().flatten().chain(memory)
    }
}

fn inside(len: usize, at: u64, want: u64) -> Result<std::ops::Range<usize>> {
    match at.checked_add(want).filter(|end| *end <= len as u64) {
        Some(end) => Ok(at as usize..end as usize),
        None => Err(outside(len, at, want)),
    }
}

#[inline]
fn part(bytes: &[u8], at: u64, want: u64) -> Result<&[u8]> {
    Ok(&bytes[inside(bytes.len(), at, want)?])
}

#[cold]
fn outside(len: usize, at: u64, want: u64) -> Error {
    let why = format!("bytes {at}..+{want} are not in a buffer of {len} bytes");
    Error::new(ErrorKind::Invalid, why)
}

fn mutable() -> Error {
    Error::new(ErrorKind::Invalid, "private memory is written by a mutable pin of its buffer")
}
