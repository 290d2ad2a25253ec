//! Buffers: the memory through which a lease is used.

use crate::pin::{Pin, PinMut};
use crate::{Buffer, Error, ErrorKind, Lease, Result};
use bytes::Bytes;
use freehold_blockmap::{LeaseCore, LeaseTag, not_forked};
use freehold_engine::medium::{BLOCK, Medium};
use freehold_engine::memory::{HeldBytes, MAX_BUFFER, View};
use freehold_engine::pin::{LongPin, NotHeld, State};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// How often a pin looks again at a lease that its own session keeps changing.
pub(crate) const TRIES: u32 = 8;

/// Which memory a lease is used through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Memory {
    /// A window where the medium has one, else DMA memory.
    #[default]
    Auto,
    /// The storage itself, as memory: what is written there is written.
    Window,
    /// Memory of its own that devices reach, filled and flushed by a [`Queue`](crate::Queue).
    Dma,
    /// The same in the controller's own memory (its Controller Memory Buffer), where it has
    /// some for data both ways. There is little of it, and the processor reads it slowly: for
    /// what one device gives and another takes, or what goes from file to file.
    Cmb,
}

/// Memory through which a lease is used. It keeps its lease.
///
/// What it gives depends on the lease's [`Access`](crate::Access) and on the [`Memory`]:
///
/// | access | a pin of a window | a pin of DMA memory | flush |
/// | --- | --- | --- | --- |
/// | Read | copies out, raw pointer | `&[u8]`, `&mut [u8]` | no |
/// | Write | copies in and out, raw pointer | the same | yes |
/// | Stable | `&[u8]`, [`Bytes`] | the same, [`Bytes`] | no |
/// | Exclusive | `&[u8]`, `&mut [u8]` | the same | yes |
///
/// Bytes of DMA memory that were written and not flushed are nowhere else. While there are
/// such bytes the lease is not taken without asking; after a revocation
/// [`LeaseBuffer::salvage`] gives the memory, to be written in the ordinary way.
///
/// Nothing that a pin gives outlives it:
///
/// ```compile_fail,E0505
/// # fn keep(buffer: freehold::LeaseBuffer) {
/// let pin = buffer.pin().unwrap();
/// let bytes = pin.slice(0, 8).unwrap();
/// drop(pin);
/// assert_eq!(bytes[0], 0);
/// # }
/// ```
///
/// no pin is beside a mutable one of the same buffer:
///
/// ```compile_fail,E0502
/// # fn both(mut buffer: freehold::LeaseBuffer) {
/// let pin = buffer.pin().unwrap();
/// let mutable = buffer.pin_mut().unwrap();
/// drop((pin, mutable));
/// # }
/// ```
///
/// nor may two threads have mutable ones:
///
/// ```compile_fail,E0499
/// # fn both(mut buffer: freehold::LeaseBuffer) {
/// std::thread::scope(|s| {
///     s.spawn(|| buffer.pin_mut().unwrap().store(0, b"one").unwrap());
///     s.spawn(|| buffer.pin_mut().unwrap().store(0, b"two").unwrap());
/// });
/// # }
/// ```
///
/// A buffer that a submitted command names cannot be touched, because the queue owns it:
///
/// ```compile_fail,E0382
/// # fn touch(queue: &mut freehold::Queue, buffer: freehold::LeaseBuffer) {
/// queue.fill(buffer, 1).ok();
/// let pin = buffer.pin();
/// # }
/// ```
///
/// nor can it be submitted while it is pinned:
///
/// ```compile_fail,E0505
/// # fn submit(queue: &mut freehold::Queue, buffer: freehold::LeaseBuffer) {
/// let pin = buffer.pin().unwrap();
/// queue.fill(buffer, 1).ok();
/// drop(pin);
/// # }
/// ```
///
/// and there is no second handle to its memory:
///
/// ```compile_fail,E0277
/// fn clones<T: Clone>() {}
/// clones::<freehold::LeaseBuffer>();
/// ```
pub struct LeaseBuffer {
    /// Before the share: the last handle of the lease may be in that.
    pub(crate) place: Place,
    pub(crate) share: LeaseTag,
}

/// Where a buffer's bytes are.
pub(crate) enum Place {
    /// On the medium.
    Window(View),
    /// In memory of its own; and how many of its bytes the lease has.
    Dma(Buffer, usize),
}

/// A buffer that did not become [`Bytes`], and why not.
#[derive(Debug)]
pub struct NotBytes {
    /// The buffer as it was.
    pub buffer: LeaseBuffer,
    /// Why not.
    pub error: Error,
}

/// Bytes on the medium that somebody was given; the lease stays as long.
struct Window(HeldBytes, #[expect(dead_code, reason = "it is held")] LeaseTag);

/// Bytes in memory that somebody was given.
struct Private {
    memory: Buffer,
    len: usize,
    _pin: LongPin,
    /// Behind the pin: the last handle of the lease may be in it.
    _share: LeaseTag,
}

impl AsRef<[u8]> for Window {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl AsRef<[u8]> for Private {
    fn as_ref(&self) -> &[u8] {
        &self.memory[..self.len]
    }
}

/// Memory of the controller itself.
pub(crate) fn in_cmb(medium: &dyn Medium, len: usize) -> Result<Buffer> {
    let Some(pool) = medium.staging() else {
        let why = format!(
            "{} has no Controller Memory Buffer for data (CMBSZ.RDS and WDS, see `freehold \
             info`): take Memory::Dma",
            medium.uri()
        );
        return Err(Error::new(ErrorKind::Unsupported, why));
    };
    Ok(pool.take(len)?)
}

impl LeaseBuffer {
    pub(crate) fn window(lease: &Arc<LeaseCore>) -> Result<Self> {
        mended(lease)?;
        let view = lease.view()?;
        Ok(Self::on(lease.clone(), lease.range().0, Place::Window(view)))
    }

    /// A window that is taken away at the fence.
    pub(crate) fn closing(lease: &Arc<LeaseCore>) -> Result<Self> {
        mended(lease)?;
        let view = lease.view_that_closes()?;
        Ok(Self::on(lease.clone(), lease.range().0, Place::Window(view)))
    }

    pub(crate) fn dma(lease: &Arc<LeaseCore>, range: Range<u64>, memory: Memory) -> Result<Self> {
        mended(lease)?;
        let ((start, end), block) = (lease.range(), BLOCK as u64);
        let whole = range.end.is_multiple_of(block) || range.end == end;
        let inside = start <= range.start && range.start < range.end && range.end <= end;
        if !range.start.is_multiple_of(block) || !whole || !inside {
            let why = format!("bytes {range:?} are not whole blocks inside {lease:?}");
            return Err(Error::new(ErrorKind::Invalid, why));
        }
        let len = range.end - range.start;
        if len > MAX_BUFFER as u64 {
            let why = format!(
                "DMA memory for {len} bytes: {MAX_BUFFER} are possible; take parts of the lease"
            );
            return Err(Error::new(ErrorKind::Limit, why));
        }
        let mut memory = match memory {
            Memory::Cmb => in_cmb(&**lease.volume()?.medium(), len as usize)?,
            _ => lease.volume()?.medium().pool().take(len as usize)?,
        };
        // What it last held is nobody's business, the medium's least of all.
        memory.fill(0);
        let (len, bytes) = (len as usize, memory.len());
        let mut buffer = Self::on(lease.clone(), range.start, Place::Dma(memory, len));
        // What is appended later is not in it.
        buffer.share.has_only(len, bytes);
        Ok(buffer)
    }

    fn on(lease: Arc<LeaseCore>, offset: u64, place: Place) -> Self {
        LeaseBuffer { share: LeaseTag::new(lease, offset), place }
    }

    /// A buffer that a command has given back.
    pub(crate) fn back(share: LeaseTag, memory: Buffer) -> Self {
        let end = share.lease().range().1.min(share.at().end());
        let left = end.saturating_sub(share.at().offset()).min(memory.len() as u64);
        LeaseBuffer { share, place: Place::Dma(memory, left as usize) }
    }

    /// The lease that it is of.
    pub fn lease(&self) -> Lease {
        Lease { core: self.share.lease().clone() }
    }

    /// Its first byte, as an offset in the file.
    pub fn offset(&self) -> u64 {
        self.share.at().offset()
    }

    /// Bytes in it: whole blocks, but for the end of the file.
    pub fn len(&self) -> u64 {
        match &self.place {
            Place::Window(view) => view.len(),
            Place::Dma(_, len) => *len as u64,
        }
    }

    /// Never: a lease has at least a byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// It is the storage itself.
    pub fn is_window(&self) -> bool {
        matches!(self.place, Place::Window(_))
    }

    /// It has bytes that are nowhere else: DMA memory of a Write or Exclusive lease that was
    /// pinned to be written, and not flushed since.
    pub fn is_dirty(&self) -> bool {
        self.share.is_dirty()
    }

    /// Pins the lease for a short use by this thread, which cannot be sent: a few
    /// nanoseconds, no lock, nothing allocated. While it lives, nobody who needs the range
    /// gets on. Where the lease's own session has changed the map it is looked up
    /// again first, which blocks as [`File::lease`](crate::File::lease) does.
    ///
    /// # Errors
    /// `Recalled`, `Revoked`; `Busy` while the lease has delegates; as
    /// [`Lease::refresh`]; `ForkedChild`.
    #[inline(always)]
    pub fn pin(&self) -> Result<Pin<'_>> {
        match self.pin_now() {
            Ok(pin) => Ok(pin),
            Err(why) => self.pin_slowly(why),
        }
    }

    // Out of line its result would go through memory, which costs more than the pin does.
    #[inline(always)]
    fn pin_now(&self) -> std::result::Result<Pin<'_>, NotHeld> {
        match &self.place {
            Place::Window(view) => view.pin().map(Pin::window),
            Place::Dma(memory, len) => {
                self.share.lease().pins().pin().map(|guard| Pin::dma(guard, &memory[..*len]))
            }
        }
    }

    #[cold]
    fn pin_slowly(&self, why: NotHeld) -> Result<Pin<'_>> {
        let mut why = why;
        for _ in 0..TRIES {
            mend(self.share.lease(), why)?;
            match self.pin_now() {
                Ok(pin) => return Ok(pin),
                Err(again) => why = again,
            }
        }
        Err(refused(self.share.lease(), why))
    }

    /// Pins the lease for a use that may write. Of a window there is no other pin beside it,
    /// of the same lease: some 20 ns, the first one up to 5 us, for which other threads are
    /// interrupted. Of DMA memory it is as [`LeaseBuffer::pin`]; from then on the buffer
    /// counts as written until it is flushed.
    ///
    /// ```
    /// # use freehold::{Access, LeaseOptions, Memory, Store};
    /// # let store = Store::format("mem:16M", &Default::default())?;
    /// # let file = store.create(b"f")?;
    /// # file.truncate(8192)?;
    /// let lease = file.lease(.., Access::Exclusive, &LeaseOptions::default())?;
    /// let mut buffer = lease.buffer(Memory::Window)?;
    /// buffer.pin_mut()?.slice_mut(4096, 5)?.copy_from_slice(b"hello");
    /// drop((buffer, lease));
    ///
    /// let mut bytes = [0; 5];
    /// file.read_at(&mut bytes, 4096)?;
    /// assert_eq!(&bytes, b"hello");
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Busy` while a window has other pins, which it does not wait for; as
    /// [`LeaseBuffer::pin`].
    pub fn pin_mut(&mut self) -> Result<PinMut<'_>> {
        mended(self.share.lease())?;
        let lease = self.share.lease();
        match &mut self.place {
            Place::Window(view) => match view.pin_mut() {
                Ok(pin) => Ok(PinMut::window(pin)),
                Err(why) => Err(refused(lease, why)),
            },
            Place::Dma(memory, len) => {
                let guard = lease.pins().pin().map_err(|why| refused(lease, why))?;
                if lease.access().writes() {
                    // Under the pin: whoever finds none finds this.
                    self.share.soil();
                }
                Ok(PinMut::dma(guard, &mut memory[..*len]))
            }
        }
    }

    /// Makes bytes of it that may be given anywhere, to a network stack for one: a long
    /// pin, one atomic operation, and nothing is copied. The lease is in use until the
    /// last clone is gone. From a window under a Stable or Exclusive lease, where its bytes
    /// lie side by side; from DMA memory under any.
    ///
    /// ```
    /// # use freehold::{Access, LeaseOptions, Memory, Store};
    /// # let store = Store::format("mem:16M", &Default::default())?;
    /// # let file = store.create(b"f")?;
    /// file.write_at(b"page", 0)?;
    /// let lease = file.lease(.., Access::Stable, &LeaseOptions::default())?;
    /// let bytes = lease.buffer(Memory::Auto)?.into_bytes()?;
    /// drop((lease, file));
    /// std::thread::spawn(move || assert_eq!(&bytes[..], b"page")).join().unwrap();
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`NotBytes`], with the buffer: `Invalid` where the access gives no references, where
    /// the bytes lie apart, and for a buffer with unflushed bytes; as [`LeaseBuffer::pin`].
    pub fn into_bytes(self) -> std::result::Result<Bytes, NotBytes> {
        let found = self.long();
        let LeaseBuffer { share, place } = match found {
            Ok(Long::Window(held)) => return Ok(Bytes::from_owner(Window(held, self.share))),
            Ok(Long::Dma(_pin)) => match self {
                LeaseBuffer { share: _share, place: Place::Dma(memory, len) } => {
                    return Ok(Bytes::from_owner(Private { memory, len, _pin, _share }));
                }
                other => other,
            },
            Err(error) => return Err(NotBytes { buffer: self, error }),
        };
        let error = Error::new(ErrorKind::Invalid, "a window has no memory of its own");
        Err(NotBytes { buffer: LeaseBuffer { share, place }, error })
    }

    fn long(&self) -> Result<Long> {
        let lease = self.share.lease();
        if self.is_dirty() {
            let why = format!("a buffer of {lease:?} has unflushed bytes: flush it first");
            return Err(Error::new(ErrorKind::Invalid, why));
        }
        mended(lease)?;
        match &self.place {
            Place::Window(view) => {
                let hold = view.hold().map_err(|why| refused(lease, why))?;
                let len = hold.len();
                Ok(Long::Window(hold.into_bytes(0, len)?))
            }
            Place::Dma(..) => lease.hold().map(Long::Dma).map_err(|why| refused(lease, why)),
        }
    }

    /// Its private memory, whatever has become of the lease, so that what was not flushed can
    /// be written in the ordinary way. Whole blocks, the bytes of the lease in front.
    ///
    /// ```
    /// # use freehold::{Access, LeaseOptions, Memory, Store};
    /// # let store = Store::format("mem:16M", &Default::default())?;
    /// # let file = store.create(b"f")?;
    /// # file.truncate(4096)?;
    /// # let lease = file.lease(.., Access::Write, &LeaseOptions::default())?;
    /// # let mut buffer = lease.buffer(Memory::Dma)?;
    /// # buffer.pin_mut()?.store(0, b"late")?;
    /// let (offset, len) = (buffer.offset(), buffer.len() as usize);
    /// if let Ok(memory) = buffer.salvage() {
    ///     drop(lease);
    ///     file.write_at(&memory[..len], offset)?;
    /// }
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// A window, which has none, as it was.
    pub fn salvage(self) -> std::result::Result<Buffer, Self> {
        match self.place {
            Place::Dma(memory, _) => Ok(memory),
            place => Err(LeaseBuffer { place, ..self }),
        }
    }

    /// Makes it the memory of another place of its lease, from that byte of the file on: what
    /// a buffer pool does with a frame when it evicts a page. Until it is filled it has the
    /// bytes that it had. Waits for nothing.
    ///
    /// ```
    /// # use freehold::{Access, LeaseOptions, Store};
    /// # let store = Store::format("mem:16M", &Default::default())?;
    /// # let file = store.create(b"f")?;
    /// # file.truncate(16384)?;
    /// let lease = file.lease(.., Access::Write, &LeaseOptions::default())?;
    /// let mut buffer = lease.buffer_at(0..4096)?;
    /// buffer.move_to(8192)?;
    /// assert_eq!((buffer.offset(), buffer.len()), (8192, 4096));
    /// assert!(buffer.move_to(16384).is_err());
    /// buffer.pin_mut()?.store(0, b"nowhere else")?;
    /// assert!(buffer.move_to(0).is_err());
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for a window, for unflushed bytes, and for what is not whole blocks inside
    /// [`Lease::range`].
    pub fn move_to(&mut self, offset: u64) -> Result<()> {
        let dirty = self.is_dirty();
        let why = match &mut self.place {
            Place::Window(_) => "a window stays where it is".to_owned(),
            Place::Dma(..) if dirty => "flush or discard its bytes first".to_owned(),
            Place::Dma(memory, len) => match self.share.move_to(offset, memory.len()) {
                Some(valid) => {
                    *len = valid;
                    return Ok(());
                }
                None => format!("{offset} does not begin as many whole blocks inside its lease"),
            },
        };
        Err(Error::new(ErrorKind::Invalid, format!("{self:?} cannot be moved: {why}")))
    }

    /// Nothing of it is to be written any more: a dirty buffer counts as clean.
    pub fn discard(&mut self) {
        self.share.wash();
    }
}

enum Long {
    Window(HeldBytes),
    Dma(LongPin),
}

/// Sees to it that a lease can be pinned, as far as that is its holder's to do.
pub(crate) fn mended(lease: &Arc<LeaseCore>) -> Result<()> {
    not_forked()?;
    for _ in 0..TRIES {
        let why = match lease.pins().state() {
            State::Held => return Ok(()),
            State::Recalled => NotHeld::Recalled,
            State::Fencing | State::Revoked => NotHeld::Revoked,
            State::Returned => NotHeld::Returned,
        };
        mend(lease, why)?;
    }
    Ok(())
}

/// A stale lease is looked up again; one whose delegates have gone goes on.
#[cold]
pub(crate) fn mend(lease: &Arc<LeaseCore>, why: NotHeld) -> Result<()> {
    match why {
        NotHeld::Recalled => lease.volume()?.refresh(lease),
        why => Err(refused(lease, why)),
    }
}

/// Why there is no pin.
#[cold]
pub(crate) fn refused(lease: &Arc<LeaseCore>, why: NotHeld) -> Error {
    match why {
        NotHeld::ForkedChild => match not_forked() {
            Err(e) => e,
            Ok(()) => Error::new(ErrorKind::ForkedChild, why.to_string()),
        },
        NotHeld::Excluded | NotHeld::Pinned => {
            Error::new(ErrorKind::Busy, format!("{lease:?}: {why}"))
        }
        NotHeld::Recalled | NotHeld::Revoked | NotHeld::Returned => lease.refusal(),
    }
}

impl From<NotBytes> for Error {
    fn from(e: NotBytes) -> Self {
        e.error
    }
}

impl fmt::Display for NotBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for NotBytes {}

impl fmt::Debug for LeaseBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_window() { "a window" } else { "memory" };
        let (at, len) = (self.offset(), self.len());
        write!(f, "{kind} of {len} bytes at {at} of {:?}", self.share.lease())
    }
}
