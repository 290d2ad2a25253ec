//! What a task of a lane can do: device operations, waiting, and being seen.

use super::{Lane, Post};
use crate::arbiter::SessionId;
use crate::error::{Error, ErrorKind};
use freehold_engine::medium::{self, Completion, Op};
use freehold_engine::memory::Buffer;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

/// How often a command that a reset cut off is issued again (law M3).
pub(crate) const RETRIES: u32 = 3;

/// Where a task finds its operation's completion.
#[derive(Debug, Default)]
pub(crate) struct Cell(Mutex<Option<Completion>>);

impl Cell {
    pub(crate) fn put(&self, c: Completion) {
        *self.0.lock().expect("no holder panics") = Some(c);
    }
}

/// An operation in flight; a future of its completion.
pub(crate) struct Ticket(Arc<Cell>);

impl Future for Ticket {
    type Output = Completion;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Completion> {
        match self.0.0.lock().expect("no holder panics").take() {
            Some(c) => Poll::Ready(c),
            None => Poll::Pending,
        }
    }
}

/// A task's hands: which lane it runs on, and which task it is.
#[derive(Clone)]
pub(crate) struct Io {
    pub(super) lane: Arc<Lane>,
    pub(super) task: u32,
    /// The session that the work is done for.
    pub(crate) who: SessionId,
}

/// The task may hold what it looked up (law B3). Ends when dropped.
pub(crate) struct Seen {
    io: Io,
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.io.lane.slots.retire(self.io.lane.task_slot(self.io.task));
    }
}

impl Io {
    /// The same hands, at work for a session.
    pub(crate) fn of(self, who: SessionId) -> Self {
        Io { who, ..self }
    }

    /// From here until the guard is dropped, no block that this task can find is reused.
    pub(crate) fn seen(&self, epoch: &AtomicU64) -> Seen {
        self.lane.slots.publish(self.lane.task_slot(self.task), epoch);
        Seen { io: self.clone() }
    }

    /// Hands an operation to the device; it is submitted when the task next waits.
    pub(crate) fn start(&self, op: Op) -> Ticket {
        let durable = matches!(op, Op::Read { .. } | Op::Flush | Op::Write { fua: true, .. });
        self.start_as(op, !durable)
    }

    fn start_as(&self, op: Op, lands: bool) -> Ticket {
        let cell = Arc::new(Cell::default());
        self.lane.post(Post { task: self.task, op, cell: cell.clone(), lands });
        Ticket(cell)
    }

    /// Reads blocks.
    pub(crate) async fn read(&self, at: u64, buf: Buffer) -> Result<Buffer, Error> {
        let mut buf = buf;
        let mut tries = 0;
        loop {
            let done = self.start(Op::Read { at, buf }).await;
            match (done.result, done.buf) {
                (Ok(()), Some(buf)) => return Ok(buf),
                (Err(e), Some(back)) if again(&e, &mut tries) => buf = back,
                (Err(e), _) => return Err(e.into()),
                (Ok(()), None) => return Err(lost_buffer()),
            }
        }
    }

    /// Writes blocks; writing the same bytes again is harmless.
    pub(crate) async fn write(&self, at: u64, buf: Buffer, fua: bool) -> Result<Buffer, Error> {
        self.write_as(at, buf, fua, !fua).await
    }

    /// Writes blocks for which no flush is owed but a checkpoint's, which comes after them:
    /// their bytes are in the journal as well, or will be before anything can reach them (law
    /// B7), or only that checkpoint's superblock will lead to them. No record does, so no commit
    /// has to flush for them.
    pub(crate) async fn write_for_checkpoint(&self, at: u64, buf: Buffer) -> Result<Buffer, Error> {
        self.write_as(at, buf, false, false).await
    }

    async fn write_as(
        &self,
        at: u64,
        buf: Buffer,
        fua: bool,
        lands: bool,
    ) -> Result<Buffer, Error> {
        let mut buf = buf;
        let mut tries = 0;
        loop {
            let done = self.start_as(Op::Write { at, buf, fua }, lands).await;
            match (done.result, done.buf) {
                (Ok(()), Some(buf)) => return Ok(buf),
                (Err(e), Some(back)) if again(&e, &mut tries) => buf = back,
                (Err(e), _) => return Err(e.into()),
                (Ok(()), None) => return Err(lost_buffer()),
            }
        }
    }

    /// Copies blocks inside the device, which can; doing it again is harmless.
    pub(crate) async fn copy(&self, from: u64, to: u64, count: u64) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            match self.start(Op::Copy { from, to, count }).await.result {
                Err(e) if again(&e, &mut tries) => {}
                done => return done.map_err(Error::from),
            }
        }
    }

    /// Makes all completed writes durable. Repeated only where a reset cut it off,
    /// which keeps completed writes (law M3); what a failed flush lost is lost.
    pub(crate) async fn flush(&self) -> Result<(), Error> {
        let mut tries = 0;
        loop {
            match self.start(Op::Flush).await.result {
                Err(e) if again(&e, &mut tries) => {}
                done => return done.map_err(Error::from),
            }
        }
    }

    /// Waits until the condition holds; it is looked at whenever the lane is driven.
    pub(crate) async fn until(&self, mut ready: impl FnMut() -> bool + Send) {
        std::future::poll_fn(|_| if ready() { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Lets others have a turn.
    pub(crate) async fn pause(&self) {
        let mut first = true;
        self.until(|| {
            if std::mem::take(&mut first) {
                self.lane.yielded();
                return false;
            }
            true
        })
        .await;
    }

    /// Gives the user of this queue a finished operation.
    pub(crate) fn finish(&self, done: super::Finished) {
        self.lane.finish(done);
    }
}

fn again(e: &medium::Error, tries: &mut u32) -> bool {
    *tries += 1;
    e.kind() == medium::ErrorKind::Reset && *tries <= RETRIES
}

fn lost_buffer() -> Error {
    Error::new(ErrorKind::Io, "the medium did not give a buffer back")
}

/// Waits for all of them; the results in order.
pub(crate) async fn all<T>(tickets: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> Vec<T> {
    let mut waiting: Vec<_> = tickets.into_iter().map(Some).collect();
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        let mut left = false;
        for (w, d) in waiting.iter_mut().zip(&mut done) {
            if let Some(f) = w {
                match f.as_mut().poll(cx) {
                    Poll::Ready(v) => {
                        *d = Some(v);
                        *w = None;
                    }
                    Poll::Pending => left = true,
                }
            }
        }
        if left { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    done.into_iter().flatten().collect()
}
