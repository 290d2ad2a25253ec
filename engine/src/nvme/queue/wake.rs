//! How a thread that sleeps learns of a completion: the eventfd of the queue's vector, and
//! a descriptor that joins it with a timer and the link.

use crate::bus::Function;
use crate::event::Signal;
use crate::medium::{Error, ErrorKind, Result};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// The eventfd of a vector, attached or not.
#[derive(Debug)]
pub(super) struct Wake {
    event: OwnedFd,
    pub(super) attached: Cell<bool>,
    /// It stays attached though nobody waits.
    pub(super) kept: Cell<bool>,
}

fn no_descriptor(errno: Errno) -> Error {
    let text = format!("no descriptor to wait with: {errno}; raise RLIMIT_NOFILE (ulimit -n)");
    Error::new(ErrorKind::Limit, text)
}

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// Something completed.
    Event,
    /// The link may be gone.
    Link,
    /// The time is over.
    Time,
    /// A signal came.
    Signal,
}

impl Wake {
    pub(super) fn new() -> Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = rustix::event::eventfd(0, flags).map_err(no_descriptor)?;
        Ok(Self { event, attached: Cell::new(false), kept: Cell::new(false) })
    }

    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Forgets what was told so far; look at the ring after this.
    pub(super) fn clear(&self) {
        let _ = rustix::io::read(&self.event, &mut [0u8; 8]);
    }

    /// Makes it readable by ourselves.
    pub(super) fn post(&self) {
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }
}

/// A link's descriptor, and what beside a hang-up tells that it is broken.
type Link<'a> = Option<(BorrowedFd<'a>, PollFlags)>;

/// That of a function.
pub(super) fn link_of(function: &dyn Function) -> Link<'_> {
    Some((function.link_fd()?, function.link_events()))
}

/// Sleeps until the event, a broken link, or the end of the time.
pub(super) fn sleep(event: Option<BorrowedFd<'_>>, link: Link<'_>, time: Duration) -> Woken {
    let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(2);
    fds.extend(event.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
    let events = fds.len();
    // A hang-up shows by itself.
    fds.extend(link.as_ref().map(|(fd, events)| PollFd::new(fd, *events)));
    let limit = Timespec {
        tv_sec: time.as_secs().min(1 << 30).cast_signed(),
        tv_nsec: i64::from(time.subsec_nanos()),
    };
    match poll(&mut fds, Some(&limit)) {
        Ok(0) => Woken::Time,
        Ok(_) if fds.iter().skip(events).any(|fd| !fd.revents().is_empty()) => Woken::Link,
        Ok(_) => Woken::Event,
        Err(_) => Woken::Signal,
    }
}

/// What [`Queue::event_fd`](crate::medium::Queue::event_fd) gives: readable when the vector
/// was told, when the link breaks, and when it is time to look at commands that may be late.
#[derive(Debug)]
pub(super) struct Joined {
    all: OwnedFd,
    signal: Signal,
}

impl Joined {
    pub(super) fn new(wake: &Wake, link: Link<'_>) -> Result<Self> {
        let all = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(no_descriptor)?;
        let signal = Signal::new()?;
        let readable = epoll::EventFlags::IN;
        let add = |fd: BorrowedFd<'_>, flags, number| {
            epoll::add(&all, fd, epoll::EventData::new_u64(number), flags).map_err(no_descriptor)
        };
        add(wake.event(), readable, 0)?;
        add(signal.as_fd(), readable, 1)?;
        if let Some((link, events)) = link {
            // A hang-up is always told.
            let told = match events.contains(PollFlags::IN) {
                true => readable,
                false => epoll::EventFlags::empty(),
            };
            add(link, told, 2)?;
        }
        Ok(Self { all, signal })
    }

    /// The link has nothing more to say.
    pub(super) fn forget(&self, link: Option<BorrowedFd<'_>>) {
        if let Some(link) = link {
            let _ = epoll::delete(&self.all, link);
        }
    }

    pub(super) fn signal(&self) -> &Signal {
        &self.signal
    }
}

impl AsFd for Joined {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.all.as_fd()
    }
}
