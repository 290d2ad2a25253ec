//! A medium that completes data I/O without moving it: writes whose buffer says
//! that it is data, and, once it is silent, all reads.

use freehold_engine::medium::{
    Completion, Geometry, Medium, Op, Queue as MediumQueue, Rejected, Result as MediumResult,
};
use freehold_engine::memory::{Buffer, Pool};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a write that is data begins with.
const DATA: &[u8] = b"no more than data";

/// Makes a buffer's write one that is not done. The buffer has 16 bytes or more.
pub fn mark(buf: &mut [u8]) {
    buf[..DATA.len()].copy_from_slice(DATA);
}

/// A medium under which another one does only what is metadata.
#[derive(Debug)]
pub struct NullMedium {
    inner: Arc<dyn Medium>,
    silent: Arc<AtomicBool>,
}

impl NullMedium {
    /// Over another medium.
    pub fn new(inner: Arc<dyn Medium>) -> Arc<Self> {
        Arc::new(NullMedium { inner, silent: Arc::default() })
    }

    /// From now on no read is done.
    pub fn silence(&self) {
        self.silent.store(true, Ordering::Release);
    }
}

impl Medium for NullMedium {
    fn uri(&self) -> &str {
        self.inner.uri()
    }

    fn geometry(&self) -> &Geometry {
        self.inner.geometry()
    }

    fn queue(&self, depth: u32) -> MediumResult<Box<dyn MediumQueue>> {
        let inner = self.inner.queue(depth)?;
        let done = Vec::with_capacity(inner.depth());
        Ok(Box::new(NullQueue { inner, silent: self.silent.clone(), done }))
    }

    fn pool(&self) -> &Pool {
        self.inner.pool()
    }
}

#[derive(Debug)]
struct NullQueue {
    inner: Box<dyn MediumQueue>,
    silent: Arc<AtomicBool>,
    /// What was submitted and is done: the tag, and the buffer that goes back.
    done: Vec<(u64, Buffer)>,
}

impl MediumQueue for NullQueue {
    fn submit(&mut self, tag: u64, op: Op) -> Result<(), Rejected> {
        let room = self.in_flight() < self.depth();
        match op {
            Op::Read { buf, .. } if room && self.silent.load(Ordering::Relaxed) => {
                self.done.push((tag, buf));
                Ok(())
            }
            Op::Write { buf, .. } if room && buf.starts_with(DATA) => {
                self.done.push((tag, buf));
                Ok(())
            }
            other => self.inner.submit(tag, other),
        }
    }

    fn ring(&mut self) {
        self.inner.ring();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        let count = self.done.len();
        let ended = |(tag, buf)| Completion { tag, result: Ok(()), buf: Some(buf) };
        done.extend(self.done.drain(..).map(ended));
        count + self.inner.poll(done)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> MediumResult<()> {
        if self.done.is_empty() { self.inner.wait(timeout) } else { Ok(()) }
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn in_flight(&self) -> usize {
        self.done.len() + self.inner.in_flight()
    }

    fn depth(&self) -> usize {
        self.inner.depth()
    }
}
