//! Queues: operations that are submitted and polled.

use crate::store::Inner;
use crate::{Buffer, File, Result, Store};
use freehold_blockmap::VolumeQueue;
pub use freehold_blockmap::{Finished as Completion, Refused};
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
#[derive(Debug)]
pub struct Queue {
    queue: VolumeQueue,
    _store: KeepOpen,
}

struct KeepOpen(#[allow(dead_code)] Arc<Inner>);

impl std::fmt::Debug for KeepOpen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("open")
    }
}

impl Queue {
    pub(crate) fn new(store: &Store, depth: u32) -> Result<Self> {
        let queue = store.volume().queue(depth)?;
        Ok(Queue { queue, _store: KeepOpen(store.inner.clone()) })
    }

    /// Memory for I/O; whole blocks.
    ///
    /// # Errors
    /// `Limit` when the system gives none.
    pub fn buffer(&self, len: usize) -> Result<Buffer> {
        self.queue.buffer(len)
    }

    /// Reads into the buffer; short at the end of the file, zeroes behind that.
    ///
    /// # Errors
    /// [`Refused`], with the buffer; without an error the queue is full.
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
    pub fn sync(&mut self, file: &File, tag: u64) -> std::result::Result<(), Refused> {
        self.queue.sync(&file.handle, tag)
    }

    /// Appends what has finished and says how many. Never sleeps; also drives the
    /// store's own work.
    pub fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        self.queue.poll(done)
    }

    /// Sleeps until something can be polled, nothing is in flight, or the time is over.
    ///
    /// # Errors
    /// `Gone`.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        self.queue.wait(timeout)
    }
}
