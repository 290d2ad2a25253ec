//! Sessions: who owns what is held.
//!
//! A session is the process itself, or a part of it that wants seals and leases of its own.
//! Files belong to sessions, and so do the seals and leases that are made through them; a
//! file's session never changes. When a session ends, all that it held is released.

use crate::store::Inner;
use crate::{Error, ErrorKind, Event, File, Result, Store};
use freehold_blockmap::{SessionCore, not_forked};
use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// An owner of files, seals and leases. Cloning it is cheap; any thread may use it.
///
/// A store has one from the beginning, [`Store::session`]; more come from
/// [`Store::new_session`]. Sessions are to each other as processes are: what one holds, the
/// operations of another recall. Within one, operations make way for themselves.
///
/// It ends by [`Session::end`], or with its last handle: the last [`Session`], [`File`],
/// [`Seal`](crate::Seal), [`Lease`](crate::Lease) or buffer of it.
///
/// ```
/// use freehold::{Access, Event, LeaseOptions, Store};
/// let store = Store::format("mem:16M", &Default::default())?;
/// let (reader, writer) = (store.new_session()?, store.session());
/// let file = writer.create(b"f")?;
/// file.write_at(&[1; 8192], 0)?;
///
/// let lease = reader.open_file(b"f")?.lease(0..8192, Access::Stable, &LeaseOptions::default())?;
/// file.write_at(&[2; 8192], 0)?; // takes the lease, which nobody uses now
/// assert!(matches!(reader.events()[..], [Event::Revoked { id, .. }] if id == lease.id()));
/// # Ok::<(), freehold::Error>(())
/// ```
#[derive(Clone)]
pub struct Session {
    store: Store,
    who: Arc<SessionCore>,
}

impl Session {
    pub(crate) fn of(inner: &Arc<Inner>, who: &Arc<SessionCore>) -> Self {
        Session { store: Store { inner: inner.clone() }, who: who.clone() }
    }

    pub(crate) fn core(&self) -> &Arc<SessionCore> {
        &self.who
    }

    /// The store that the session is on.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its number in the store, as errors and [`Store::leases`] tell it; 1 is the store's own.
    pub fn id(&self) -> u64 {
        self.who.id()
    }

    /// As [`Store::create`], for this session.
    ///
    /// # Errors
    /// As there.
    pub fn create(&self, name: &[u8]) -> Result<File> {
        not_forked()?;
        Ok(self.file(self.store.volume().create(name)?))
    }

    /// As [`Store::open_file`], for this session.
    ///
    /// # Errors
    /// As there.
    pub fn open_file(&self, name: &[u8]) -> Result<File> {
        not_forked()?;
        Ok(self.file(self.store.volume().open_file(name)?))
    }

    /// As [`Store::reflink`], for this session.
    ///
    /// # Errors
    /// As there.
    pub fn reflink(&self, from: &[u8], to: &[u8]) -> Result<File> {
        self.open_file(from)?.reflink(to)
    }

    fn file(&self, handle: freehold_blockmap::FileHandle) -> File {
        File::new(&self.store.inner, &self.who, handle)
    }

    /// What the session was told since the last call, in order: recalls, recalls that were
    /// taken back, leases that are gone. Also drives what is due, without waiting: a
    /// program that only looks here when [`Session::event_fd`] is readable keeps nobody
    /// waiting beyond a deadline. In a forked child there is nothing.
    ///
    /// The descriptor is cleared first: what comes later makes it readable again.
    pub fn events(&self) -> Vec<Event> {
        if not_forked().is_err() {
            return Vec::new();
        }
        self.store.volume().attend();
        self.who.take_events()
    }

    /// As [`Session::events`], and so many at the most: while there are more, the descriptor stays
    /// readable.
    ///
    /// ```
    /// # let store = freehold::Store::format("mem:16M", &Default::default())?;
    /// assert!(store.session().some_events(8).is_empty());
    /// # Ok::<(), freehold::Error>(())
    /// ```
    pub fn some_events(&self, most: usize) -> Vec<Event> {
        if not_forked().is_err() {
            return Vec::new();
        }
        self.store.volume().attend();
        self.who.take_some_events(most)
    }

    /// A descriptor that is readable while there are events, and when a recall's deadline has
    /// come: for `poll`, epoll or an async runtime. Read nothing from it; call
    /// [`Session::events`] when it is readable. It is closed with the session.
    ///
    /// ```
    /// # let store = freehold::Store::format("mem:16M", &Default::default())?;
    /// let session = store.new_session()?;
    /// use std::os::fd::AsRawFd;
    /// assert!(session.event_fd()?.as_raw_fd() >= 0);
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Limit` when the process has no descriptors left (it takes three).
    pub fn event_fd(&self) -> Result<BorrowedFd<'_>> {
        not_forked()?;
        self.who.event_fd()
    }

    /// Ends the session for all its handles: its seals are cleared, its leases taken, those
    /// in use fenced at once, and nothing is granted to it any more. Its files can be read
    /// and written still. Blocks for I/O in flight through its leases and for the actions
    /// of its registrations. A second time does nothing.
    ///
    /// # Errors
    /// `Busy` where a fence did not come to its end: who needs the range tries again;
    /// `Invalid` for the store's own session, which ends with the store; `WouldDeadlock`
    /// inside of a registration's action; `ForkedChild`.
    pub fn end(&self) -> Result<()> {
        not_forked()?;
        if Arc::ptr_eq(&self.who, &self.store.volume().default_session()) {
            let why = "the store's own session ends with the store; close that";
            return Err(Error::new(ErrorKind::Invalid, why));
        }
        self.store.volume().end_session(&self.who)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {} of {:?}", self.id(), self.store)
    }
}
