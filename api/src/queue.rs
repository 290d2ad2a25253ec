//! Queues: operations that are submitted and polled.

use crate::buffer::{Place, in_cmb};
use crate::store::Inner;
use crate::{Buffer, Error, ErrorKind, File, LeaseBuffer, Memory, Result, Store};
pub use freehold_blockmap::Refused;
use freehold_blockmap::{Finished, LeaseRefused, LeaseTag, VolumeQueue};
use freehold_engine::pin::State;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Operations in flight of one thread at a time. Submitting and polling never
/// sleep. Dropping it waits for nothing: what was submitted may still happen.
///
/// ```
/// use freehold::Store;
/// let store = Store::format("mem:16M", &Default::default())?;
/// let file = store.create(b"f")?;
/// let mut queue = store.queue(8)?;
///
/// let mut buf = queue.buffer(4096)?;
/// buf.fill(7);
/// queue.write(&file, 0, buf, 1).expect("an empty queue takes it");
/// let mut done = Vec::new();
/// while done.is_empty() {
///     queue.wait(None)?;
///     queue.poll(&mut done);
/// }
/// assert_eq!((done[0].tag, *done[0].result.as_ref().unwrap()), (1, 4096));
/// # Ok::<(), freehold::Error>(())
/// ```
pub struct Queue {
    queue: VolumeQueue,
    /// What needed no device.
    ready: Vec<Completion>,
    /// It keeps the store open.
    store: Arc<Inner>,
}

/// An operation that has ended.
#[derive(Debug)]
pub struct Completion {
    /// The tag that it was submitted with.
    pub tag: u64,
    /// Bytes read or written.
    pub result: Result<usize>,
    /// The buffer, given back. Of a fill or flush of DMA memory the memory is here until
    /// [`Completion::take_lease`] is called; whoever takes it from here gives the lease's
    /// buffer up.
    pub buf: Option<Buffer>,
    share: Option<Share>,
}

/// What a lease's buffer needs to become one again.
#[derive(Debug)]
enum Share {
    Dma(LeaseTag),
    Window(Box<LeaseBuffer>),
}

impl From<Finished> for Completion {
    #[inline]
    fn from(f: Finished) -> Self {
        let Finished { tag, result, buf, lease } = f;
        Completion { tag, result, buf, share: lease.map(Share::Dma) }
    }
}

impl Completion {
    /// The buffer of a fill, flush or persist, given back; clean if it was flushed
    /// with success. None for other operations, and the second time.
    #[inline]
    pub fn take_lease(&mut self) -> Option<LeaseBuffer> {
        match self.share.take()? {
            Share::Dma(share) => Some(LeaseBuffer::back(share, self.buf.take()?)),
            Share::Window(buffer) => Some(*buffer),
        }
    }
}

/// A fill or flush that was not taken. Nothing happened; the buffer comes back.
#[derive(Debug)]
pub struct BufferRefused {
    /// The buffer as it was given.
    pub buffer: LeaseBuffer,
    /// None: the queue is full; poll and try again. Otherwise why not.
    pub error: Option<Error>,
}

impl BufferRefused {
    fn back(refused: LeaseRefused, len: usize) -> Self {
        let LeaseRefused { share, buf, error } = refused;
        BufferRefused { buffer: LeaseBuffer { share, place: Place::Dma(buf, len) }, error }
    }
}

impl Queue {
    pub(crate) fn new(store: &Store, depth: u32) -> Result<Self> {
        let queue = store.volume().queue(depth)?;
        Ok(Queue { queue, ready: Vec::new(), store: store.inner.clone() })
    }

    /// Memory for I/O; whole blocks.
    ///
    /// # Errors
    /// `Limit` when the system gives none.
    pub fn buffer(&self, len: usize) -> Result<Buffer> {
        self.queue.buffer(len)
    }

    /// Memory for I/O of that kind; whole blocks. [`Memory::Auto`] is DMA memory.
    ///
    /// # Errors
    /// `Invalid` for [`Memory::Window`], which leases have; for [`Memory::Cmb`] `Unsupported`
    /// where the controller has none for data, and `Limit` when all of it is in use; as
    /// [`Queue::buffer`].
    pub fn buffer_in(&self, memory: Memory, len: usize) -> Result<Buffer> {
        match memory {
            Memory::Auto | Memory::Dma => self.buffer(len),
            Memory::Cmb => in_cmb(&**self.store.volume.medium(), len),
            Memory::Window => {
                let why = "storage itself is given by leases: take it by Lease::buffer";
                Err(Error::new(ErrorKind::Invalid, why))
            }
        }
    }

    /// Reads into the buffer; short at the end of the file, zeroes behind that.
    ///
    /// # Errors
    /// [`Refused`], with the buffer; without an error the queue is full.
    #[inline]
    pub fn read(
        &mut self,
        file: &File,
        offset: u64,
        buf: Buffer,
        tag: u64,
    ) -> std::result::Result<(), Refused> {
        self.queue.read(&file.handle, offset, buf, tag)
    }

    /// Writes the whole buffer.
    ///
    /// # Errors
    /// [`Refused`], with the buffer; without an error the queue is full.
    #[inline]
    pub fn write(
        &mut self,
        file: &File,
        offset: u64,
        buf: Buffer,
        tag: u64,
    ) -> std::result::Result<(), Refused> {
        self.queue.write(&file.handle, offset, buf, tag)
    }

    /// Writes the whole buffer; the bytes, and what they need to be found, are
    /// durable when it completes. What it costs is said at
    /// [`File::write_durable_at`].
    ///
    /// ```
    /// use freehold::Store;
    /// let store = Store::format("mem:16M", &Default::default())?;
    /// let file = store.create(b"f")?;
    /// let mut queue = store.queue(8)?;
    /// let mut done = Vec::new();
    /// for tag in 0..4 {
    ///     let buf = queue.buffer(4096)?;
    ///     queue.write_durable(&file, tag * 4096, buf, tag).expect("there is room");
    /// }
    /// while done.len() < 4 {
    ///     queue.wait(None)?;
    ///     queue.poll(&mut done);
    /// }
    /// assert!(done.iter().all(|c| c.result.is_ok()));
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Refused`], with the buffer; without an error the queue is full.
    #[inline]
    pub fn write_durable(
        &mut self,
        file: &File,
        offset: u64,
        buf: Buffer,
        tag: u64,
    ) -> std::result::Result<(), Refused> {
        self.queue.write_durable(&file.handle, offset, buf, tag)
    }

    /// Makes durable what has completed of the file when this is submitted.
    ///
    /// # Errors
    /// [`Refused`] without an error when the queue is full.
    #[inline]
    pub fn sync(&mut self, file: &File, tag: u64) -> std::result::Result<(), Refused> {
        self.queue.sync(&file.handle, tag)
    }

    /// Reads the lease's bytes into its buffer, without a look-up. The buffer belongs to the
    /// queue until its completion is polled ([`Completion::take_lease`]); forgetting that
    /// leaks it. What was written there and not flushed is overwritten. Of a window there is
    /// nothing to read: it completes at once.
    ///
    /// A stale lease is looked up again first; one that was asked for back completes with
    /// `Recalled` or `Revoked`.
    ///
    /// ```
    /// use freehold::{Access, LeaseOptions, Memory, Store};
    /// let store = Store::format("mem:16M", &Default::default())?;
    /// let file = store.create(b"f")?;
    /// file.write_at(b"old bytes", 0)?;
    /// let lease = file.lease(.., Access::Write, &LeaseOptions::default())?;
    /// let mut queue = store.queue(8)?;
    ///
    /// let mut done = Vec::new();
    /// queue.fill(lease.buffer(Memory::Dma)?, 1).expect("an empty queue takes it");
    /// while queue.poll(&mut done) == 0 {
    ///     queue.wait(None)?;
    /// }
    /// let mut buffer = done[0].take_lease().expect("it comes back");
    /// buffer.pin_mut()?.store(0, b"new")?;
    /// queue.persist(buffer, 2).expect("there is room");
    /// while queue.poll(&mut done) == 0 {
    ///     queue.wait(None)?;
    /// }
    /// assert!(done[1].result.is_ok() && !done[1].take_lease().unwrap().is_dirty());
    ///
    /// let mut bytes = [0; 9];
    /// file.read_at(&mut bytes, 0)?;
    /// assert_eq!(&bytes, b"new bytes");
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`BufferRefused`], with the buffer; without an error the queue is full. `Invalid` for a
    /// lease of another store.
    #[inline]
    pub fn fill(
        &mut self,
        buffer: LeaseBuffer,
        tag: u64,
    ) -> std::result::Result<(), BufferRefused> {
        match buffer {
            LeaseBuffer { share, place: Place::Dma(buf, len) } => {
                self.queue.fill_share(share, buf, tag).map_err(|r| BufferRefused::back(r, len))
            }
            window => self.window(window, tag, Through::Fill),
        }
    }

    /// Writes the buffer to the lease's blocks, in place and without a look-up. Owns it
    /// until it completes, as [`Queue::fill`] does; when that was a success the buffer is
    /// clean. Durable after a sync of the file. Of a window, what was written through pins
    /// that have ended is there already.
    ///
    /// # Errors
    /// As [`Queue::fill`]; `Invalid` for a lease that does not write.
    #[inline]
    pub fn flush(
        &mut self,
        buffer: LeaseBuffer,
        tag: u64,
    ) -> std::result::Result<(), BufferRefused> {
        self.write_lease(buffer, (tag, Through::Flush))
    }

    /// As [`Queue::flush`]; the bytes are durable when it completes. Of a window, what was
    /// written through pins that have ended is made durable at once, by this thread.
    ///
    /// # Errors
    /// As [`Queue::flush`].
    pub fn persist(
        &mut self,
        buffer: LeaseBuffer,
        tag: u64,
    ) -> std::result::Result<(), BufferRefused> {
        self.write_lease(buffer, (tag, Through::Persist))
    }

    fn write_lease(
        &mut self,
        buffer: LeaseBuffer,
        (tag, how): (u64, Through),
    ) -> std::result::Result<(), BufferRefused> {
        match buffer {
            LeaseBuffer { share, place: Place::Dma(buf, len) } => {
                let done = self.queue.flush_share(share, buf, (tag, how == Through::Persist));
                done.map_err(|r| BufferRefused::back(r, len))
            }
            window => self.window(window, tag, how),
        }
    }

    /// What is done through a window needs no device.
    fn window(
        &mut self,
        buffer: LeaseBuffer,
        tag: u64,
        how: Through,
    ) -> std::result::Result<(), BufferRefused> {
        let lease = buffer.share.lease();
        let foreign = !lease.is_in(&self.store.volume);
        let error = match how {
            _ if foreign => {
                Some(Error::new(ErrorKind::Invalid, format!("{lease:?} is another store's")))
            }
            Through::Flush | Through::Persist if !lease.access().writes() => {
                Some(lease.writes_not())
            }
            _ => None,
        };
        if error.is_some() {
            return Err(BufferRefused { buffer, error });
        }
        let len = buffer.len() as usize;
        let result = match how {
            Through::Fill => buffer.pin().map(|_| len),
            Through::Flush => reachable(&buffer).map(|()| len),
            Through::Persist => {
                reachable(&buffer).and_then(|()| buffer.share.lease().write_back()).map(|_| len)
            }
        };
        let share = Some(Share::Window(Box::new(buffer)));
        self.ready.push(Completion { tag, result, buf: None, share });
        Ok(())
    }

    /// Appends what has finished and says how many. Never sleeps; also drives the
    /// store's own work.
    pub fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        let ready = self.ready.len();
        if ready > 0 {
            done.append(&mut self.ready);
        }
        ready + self.queue.poll(done)
    }

    /// Sleeps until something can be polled, nothing is in flight, or the time is over.
    ///
    /// # Errors
    /// `Gone`.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        if !self.ready.is_empty() {
            return Ok(());
        }
        self.queue.wait(timeout)
    }
}

/// What goes through a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Through {
    Fill,
    Flush,
    Persist,
}

/// The blocks are the lease's still: what was written through the window is the file's.
fn reachable(buffer: &LeaseBuffer) -> Result<()> {
    match buffer.share.lease().pins().state() {
        State::Held | State::Recalled => Ok(()),
        _ => Err(buffer.share.lease().refusal()),
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.queue.fmt(f)
    }
}
