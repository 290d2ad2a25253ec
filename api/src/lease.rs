//! Leases: the right to use a range of a file directly.

use crate::file::bounds;
use crate::registration::Registration;
use crate::{Access, Error, ErrorKind, File, IomapKind, LeaseBuffer, Memory, Result, Session};
use freehold_blockmap::arbiter::State;
use freehold_blockmap::{LeaseCore, LeaseSpec, not_forked};
use std::fmt;
use std::ops::{Range, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

/// More than this nobody may take to give a lease back.
const LONGEST_HOLD: Duration = Duration::from_secs(30);

/// How a lease is asked for.
///
/// ```
/// let o = freehold::LeaseOptions::default();
/// assert_eq!(o.max_hold.as_millis(), 100);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseOptions {
    /// How long its longest use may take: what a recall gives its holder beside the store's
    /// lease time ([`Store::set_lease_time`](crate::Store::set_lease_time)). Whole
    /// milliseconds, 30 s at most.
    pub max_hold: Duration,
}

impl Default for LeaseOptions {
    fn default() -> Self {
        LeaseOptions { max_hold: Duration::from_millis(100) }
    }
}

/// Where a lease is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeaseState {
    /// It can be used.
    Held,
    /// Its own session has changed the map. It is looked up again by the next pin, fill or
    /// flush, or by [`Lease::refresh`].
    Stale,
    /// It has delegates, and gives no pins until they have gone.
    Suspended,
    /// It was asked for back. Finish what is under way, flush, and return it.
    Recalled,
    /// It was taken while nothing used it; nothing was lost.
    Taken,
    /// Its deadline has passed, and it is being taken.
    Fencing,
    /// It was taken in the middle of a use.
    Revoked,
    /// It was given back.
    Returned,
}

/// A piece of a lease's range. Numbers in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseExtent {
    /// Where in the file.
    pub offset: u64,
    /// How long.
    pub length: u64,
    /// `Written`, or `Hole` where nothing was ever written: it reads as zeroes.
    pub kind: IomapKind,
}

/// A session's right to use a range of a file directly: while it is held, the blocks
/// under it stay where they are, and whoever needs them moved asks for it back first.
///
/// It is used through a [`LeaseBuffer`]. Any thread may use it; it is cheap to clone. It is
/// given back when its last handle and its last buffer are gone, without waiting for
/// anything. As long as it is in force it keeps its file alive, not its
/// [`Store`](crate::Store); one that was taken, revoked or returned keeps neither.
///
/// A recall reaches its holder in three ways: the next pin answers `Recalled`, its
/// [`Session`] has an event, and the session's descriptor is readable. A lease that nothing
/// uses is taken without asking. What is not given back in time is revoked; then
/// nothing reaches the blocks any more, and the file's ordinary reads and writes go on.
///
/// ```
/// use freehold::{Access, LeaseOptions, Memory, Store};
/// let store = Store::format("mem:16M", &Default::default())?;
/// let file = store.create(b"f")?;
/// file.write_at(b"some bytes", 0)?;
///
/// let lease = file.lease(.., Access::Stable, &LeaseOptions::default())?;
/// let buffer = lease.buffer(Memory::Auto)?; // the storage itself
/// let pin = buffer.pin()?;
/// assert_eq!(pin.slice(0, 4)?, b"some");
/// drop(pin);
/// lease.return_()?;
/// # Ok::<(), freehold::Error>(())
/// ```
///
/// A lease goes between threads, a pin does not:
///
/// ```
/// fn goes_anywhere<T: Send + Sync + 'static>() {}
/// goes_anywhere::<freehold::Lease>();
/// goes_anywhere::<freehold::LeaseBuffer>();
/// ```
#[derive(Clone)]
#[must_use = "a lease that is dropped at once is given back"]
pub struct Lease {
    pub(crate) core: Arc<LeaseCore>,
}

impl File {
    /// A lease on a range of bytes, rounded out to whole blocks; an open end is the file's.
    /// Blocks while others are in the way, and for what must be made ready: for writing, all
    /// blocks of the range are allocated, written with zeroes where they were not, and
    /// unshared; for all, the map is durable first.
    ///
    /// What may be done through it, and what conflicts with it, is said by its
    /// [`Access`]; docs/leases.md has the tables.
    ///
    /// # Errors
    /// `Invalid` for a range that is empty or not inside the file, for a `max_hold` over
    /// 30 s, and for a session that has ended; `Sealed`; `Busy` where a holder that is overdue
    /// cannot be fenced; `WouldDeadlock`; for writing `NoSpace` and `ReadOnly`; `Io`,
    /// `Corrupt`, `Poisoned`; `ForkedChild`.
    pub fn lease(
        &self,
        range: impl RangeBounds<u64>,
        access: Access,
        options: &LeaseOptions,
    ) -> Result<Lease> {
        let volume = self.volume()?;
        let max_hold = options.max_hold;
        if max_hold > LONGEST_HOLD {
            let why = format!("a lease may be held for at most {LONGEST_HOLD:?}, not {max_hold:?}");
            return Err(Error::new(ErrorKind::Invalid, why));
        }
        let (start, end) = bounds(range, self.size());
        let range = (start, end.saturating_sub(start));
        let spec = LeaseSpec { access, max_hold };
        Ok(Lease { core: volume.lease(&self.handle, self.who(), range, spec)? })
    }
}

impl Lease {
    /// Its number in the store; never used again.
    pub fn id(&self) -> u64 {
        self.core.id()
    }

    /// The bytes of the file that it is over: whole blocks, but for the end of the file. A
    /// partial return makes it smaller.
    pub fn range(&self) -> Range<u64> {
        let (start, end) = self.core.range();
        start..end
    }

    /// What it allows.
    pub fn access(&self) -> Access {
        self.core.access()
    }

    /// 1 at first, one more each time that it is held again after a recall or a refresh.
    pub fn seq(&self) -> u64 {
        self.core.pins().seq()
    }

    /// Where it is in its life. Another thread may change it at any time.
    pub fn state(&self) -> LeaseState {
        if not_forked().is_err() {
            return LeaseState::Returned;
        }
        match self.core.state() {
            Some(State::Held { .. }) if self.core.is_suspended() => LeaseState::Suspended,
            Some(State::Held { .. }) => LeaseState::Held,
            Some(State::Stale { .. }) => LeaseState::Stale,
            Some(State::Recalled { .. }) => LeaseState::Recalled,
            Some(State::Taken { .. }) => LeaseState::Taken,
            Some(State::Fencing { .. }) => LeaseState::Fencing,
            Some(State::Revoked { .. }) => LeaseState::Revoked,
            None => LeaseState::Returned,
        }
    }

    /// What stands behind its range, in order, holes included. Where that lies on the
    /// medium is told by a [registration](Lease::register) alone: an address that left without
    /// an action could not be taken back.
    ///
    /// ```
    /// # use freehold::{Access, IomapKind, LeaseOptions, Store};
    /// # let store = Store::format("mem:16M", &Default::default())?;
    /// let file = store.create(b"f")?;
    /// file.write_at(&[1; 4096], 8192)?;
    /// let map = file.lease(.., Access::Read, &LeaseOptions::default())?.iomap();
    /// assert_eq!((map[0].length, map[0].kind), (8192, IomapKind::Hole));
    /// assert_eq!((map[1].offset, map[1].kind), (8192, IomapKind::Written));
    /// # Ok::<(), freehold::Error>(())
    /// ```
    pub fn iomap(&self) -> Vec<LeaseExtent> {
        let extent = |p: freehold_blockmap::LeasePiece| LeaseExtent {
            offset: p.offset,
            length: p.len,
            kind: if p.address.is_some() { IomapKind::Written } else { IomapKind::Hole },
        };
        self.core.pieces().into_iter().map(extent).collect()
    }

    /// Makes a stale lease good again, where its blocks are now. Pins, fills and flushes do
    /// so by themselves. Blocks as [`File::lease`] does.
    ///
    /// # Errors
    /// `Recalled` while it is asked for back, `Revoked` when it is gone, `Busy` while it has
    /// delegates; as [`File::lease`].
    pub fn refresh(&self) -> Result<()> {
        not_forked()?;
        self.core.volume()?.refresh(&self.core)
    }

    /// Takes the same range again with the same access, in place of this lease, which is
    /// given back first. Buffers of the old one stay with the old one: make new ones, and
    /// write what they have unflushed by [`LeaseBuffer::salvage`]. Blocks as
    /// [`File::lease`] does.
    ///
    /// # Errors
    /// `NotFound` if the file was removed since; `Revoked` if the store was closed; as
    /// [`File::lease`]. Then this is the old lease still.
    pub fn reacquire(&mut self) -> Result<()> {
        not_forked()?;
        let volume = self.core.volume()?;
        if !matches!(self.state(), LeaseState::Taken | LeaseState::Revoked | LeaseState::Returned) {
            volume.return_lease(&self.core)?;
        }
        let (start, end) = self.core.range();
        let spec = LeaseSpec { access: self.core.access(), max_hold: self.core.max_hold() };
        // It does not keep the file open if it has ended.
        let file = self.core.file()?;
        self.core = volume.lease(&file, self.core.session(), (start, end - start), spec)?;
        Ok(())
    }

    /// Gives it back before its last handle goes. Waits for nothing, and flushes nothing.
    /// If it is gone already, nothing happens.
    ///
    /// # Errors
    /// `Busy` while it is pinned, registered, or has I/O in flight: then it stays.
    pub fn return_(&self) -> Result<()> {
        not_forked()?;
        match self.core.volume() {
            Ok(volume) => volume.return_lease(&self.core),
            // It went before its store did.
            Err(_) => Ok(()),
        }
    }

    /// Gives a beginning or an end of it back and keeps `keep`, bytes of the file: whole
    /// blocks of its range. If it was asked for back, and that was all that was wanted, it is
    /// held again; otherwise there is more time.
    ///
    /// ```
    /// # use freehold::{Access, LeaseOptions, Store};
    /// # let store = Store::format("mem:16M", &Default::default())?;
    /// # let file = store.create(b"f")?;
    /// # file.write_at(&[1; 16384], 0)?;
    /// let lease = file.lease(0..16384, Access::Write, &LeaseOptions::default())?;
    /// lease.return_part(4096..16384)?;
    /// assert_eq!(lease.range(), 4096..16384);
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Busy` while it is pinned, registered or has I/O in flight; `Invalid` for what is not whole
    /// blocks inside; `Revoked`.
    pub fn return_part(&self, keep: Range<u64>) -> Result<()> {
        not_forked()?;
        self.core.volume()?.return_part(&self.core, (keep.start, keep.end))
    }

    /// A lease of another session on a part of this one, as a rule: bytes of the file, whole
    /// blocks inside [`Lease::range`]. Nothing is looked up or allocated for it. An Exclusive
    /// lease gives no pins while it has delegates; others go on beside theirs. A recall of
    /// this lease recalls its delegates, with a deadline that is not later.
    ///
    /// ```
    /// # use freehold::{Access, ErrorKind, LeaseOptions, LeaseState, Memory, Store};
    /// # let store = Store::format("mem:16M", &Default::default())?;
    /// # let file = store.create(b"f")?;
    /// # file.write_at(&[1; 16384], 0)?;
    /// let lease = file.lease(.., Access::Exclusive, &LeaseOptions::default())?;
    /// let buffer = lease.buffer(Memory::Auto)?;
    /// let helper = store.new_session()?;
    /// let part = lease.delegate(&helper, 0..4096, Access::Exclusive)?;
    /// assert_eq!(buffer.pin().unwrap_err().kind(), ErrorKind::Busy);
    /// drop(part);
    /// assert!(buffer.pin().is_ok());
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for what is not whole blocks inside, for an access that this one cannot give
    /// on, for a session that has ended or is another store's; `Busy` while an Exclusive
    /// lease that is to be suspended is pinned, registered or has unflushed bytes;
    /// `Recalled`, `Revoked`, `Sealed`, `WouldDeadlock`.
    pub fn delegate(&self, to: &Session, range: Range<u64>, access: Access) -> Result<Lease> {
        not_forked()?;
        let volume = self.core.volume()?;
        if !Arc::ptr_eq(&volume, to.store().volume()) {
            let why = "a lease cannot be delegated to a session of another store";
            return Err(Error::new(ErrorKind::Invalid, why));
        }
        let range = (range.start, range.end);
        Ok(Lease { core: volume.delegate(&self.core, to.core(), range, access)? })
    }

    /// Memory to use all of it by. Window memory is there on media that the CPU reaches, is
    /// the storage itself, and there is one buffer of it at a time. DMA memory is private to
    /// its buffer, begins as zeroes, and is filled and flushed by a
    /// [`Queue`](crate::Queue).
    ///
    /// # Errors
    /// `Unsupported` for a window where the medium has none, or none that gives references to
    /// a Stable or an Exclusive lease; `Busy` while the lease has a
    /// window buffer already, or `Bytes` of one; `Limit` for DMA memory of more than 16 MiB
    /// (take parts by [`Lease::buffer_at`]) or that the system does not give;
    /// [`Memory::Cmb`] has `Unsupported` where the controller has none for data, and `Limit`
    /// when it is all in use; `Recalled`, `Revoked`; as [`Lease::refresh`].
    pub fn buffer(&self, memory: Memory) -> Result<LeaseBuffer> {
        not_forked()?;
        let window = self.core.has_window()?;
        match memory {
            Memory::Auto if window => LeaseBuffer::window(&self.core),
            Memory::Window => LeaseBuffer::window(&self.core),
            _ => LeaseBuffer::dma(&self.core, self.range(), memory),
        }
    }

    /// Its window, at addresses that become inaccessible when the lease is fenced while something
    /// still pins it: a stale pointer faults then, instead of reaching blocks that are nobody's
    /// any more. They belong to nobody else until the buffer and its pins are gone. For holders
    /// who use raw pointers ([`LeaseBuffer::hold`]) and would rather stop than go on: Read and
    /// Write access only, since a reference of safe code must not be taken away. Whoever pins
    /// it by [`LeaseBuffer::pin`] for longer than its grace is stopped in the middle of a copy.
    ///
    /// ```
    /// # use freehold::{Access, ErrorKind, LeaseOptions, Store};
    /// # let store = Store::format("mem:16M", &Default::default())?;
    /// # let file = store.create(b"f")?;
    /// # file.truncate(4096)?;
    /// let lease = file.lease(.., Access::Write, &LeaseOptions::default())?;
    /// // Memory of this process cannot be mapped a second time; `pmem:` and `pmr:` can.
    /// assert_eq!(lease.window_that_closes().unwrap_err().kind(), ErrorKind::Unsupported);
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Unsupported` where the medium has no file that could be mapped once more, or the lease
    /// has more than 64 extents; `Invalid` for Stable and Exclusive access; as
    /// [`Lease::buffer`].
    pub fn window_that_closes(&self) -> Result<LeaseBuffer> {
        not_forked()?;
        LeaseBuffer::closing(&self.core)
    }

    /// DMA memory for a part of it: bytes of the file, whole blocks inside
    /// [`Lease::range`]. There may be many.
    ///
    /// # Errors
    /// `Invalid` for what is not whole blocks inside; as [`Lease::buffer`].
    pub fn buffer_at(&self, range: Range<u64>) -> Result<LeaseBuffer> {
        not_forked()?;
        LeaseBuffer::dma(&self.core, range, Memory::Dma)
    }

    /// The same in memory of that kind. A window is of a whole lease: [`Memory::Auto`] is DMA
    /// memory here.
    ///
    /// ```
    /// # use freehold::{Access, ErrorKind, LeaseOptions, Memory, Store};
    /// # let store = Store::format("mem:16M", &Default::default())?;
    /// # let file = store.create(b"f")?;
    /// # file.truncate(16384)?;
    /// let lease = file.lease(.., Access::Write, &LeaseOptions::default())?;
    /// // Into the controller's own memory, if it has any.
    /// let buffer = match lease.buffer_in(Memory::Cmb, 0..4096) {
    ///     Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Limit) => {
    ///         lease.buffer_in(Memory::Dma, 0..4096)?
    ///     }
    ///     other => other?,
    /// };
    /// assert_eq!(buffer.len(), 4096);
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for [`Memory::Window`]; as [`Lease::buffer_at`] and [`Lease::buffer`].
    pub fn buffer_in(&self, memory: Memory, range: Range<u64>) -> Result<LeaseBuffer> {
        not_forked()?;
        if memory == Memory::Window {
            let why = "a window is of a whole lease: take it by Lease::buffer";
            return Err(Error::new(ErrorKind::Invalid, why));
        }
        LeaseBuffer::dma(&self.core, range, memory)
    }

    /// Makes its blocks known to foreign DMA (an RDMA card, a GPU, another driver): gives out
    /// where they are on the medium, against an action that takes that back.
    ///
    /// While the registration is there the lease counts as used. If it is recalled and not
    /// returned in time, the action is called: it sees to it that no device reaches the blocks
    /// when it returns `Ok`. An error, or a panic, means that some still may: then who waits
    /// for the range gets `Busy`, and the action is called again when somebody next needs
    /// it. It runs on whichever thread drives the deadline, without any lock; calls into the
    /// same store from it answer `WouldDeadlock`.
    ///
    /// ```
    /// # use freehold::{Access, LeaseOptions, Store};
    /// # let store = Store::format("mem:16M", &Default::default())?;
    /// # let file = store.create(b"f")?;
    /// # file.write_at(&[1; 4096], 0)?;
    /// let lease = file.lease(.., Access::Read, &LeaseOptions::default())?;
    /// let card = lease.register(|| Ok(()))?; // where a real one deregisters at the card
    /// assert!(card.extents()[0].address.is_some());
    /// assert!(card.end()); // the card was told by ourselves
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Recalled`, `Revoked`; as [`Lease::refresh`].
    pub fn register(
        &self,
        action: impl FnMut() -> std::result::Result<(), String> + Send + 'static,
    ) -> Result<Registration> {
        not_forked()?;
        if self.core.is_stale() {
            self.refresh()?;
        }
        let (number, pieces) = self.core.register(Box::new(action))?;
        Ok(Registration::new(self.core.clone(), number, pieces))
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.core.fmt(f)
    }
}
