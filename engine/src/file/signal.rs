//! The descriptor by which others wait for a ring.
//!
//! The ring's own descriptor is readable while its completion ring has
//! entries. But a completion may have been taken from there and lie in the
//! queue, unpolled; an eventfd says so, and an epoll descriptor joins the two.

use rustix::event::{EventfdFlags, epoll};
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Readable while the ring or the queue has something to poll.
#[derive(Debug)]
pub(super) struct Signal {
    both: OwnedFd,
    queue: OwnedFd,
    raised: Cell<bool>,
}

impl Signal {
    /// Joins a ring's descriptor with one of our own.
    pub(super) fn new(ring: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let queue = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let both = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, fd) in [ring, queue.as_fd()].into_iter().enumerate() {
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&both, fd, data, epoll::EventFlags::IN)?;
        }
        Ok(Self { both, queue, raised: Cell::new(false) })
    }

    /// Says whether the queue has completions that nobody polled.
    pub(super) fn set(&self, pending: bool) {
        if pending == self.raised.get() {
            return;
        }
        let done = if pending {
            rustix::io::write(&self.queue, &1u64.to_ne_bytes())
        } else {
            rustix::io::read(&self.queue, &mut [0u8; 8])
        };
        match done {
            Ok(_) => self.raised.set(pending),
            Err(error) => tracing::debug!(%error, "a queue's eventfd was not updated"),
        }
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.both.as_fd()
    }
}
