//! One descriptor that says "something happened" or "it is time".
//!
//! A program sleeps in its own loop (`poll`, epoll, an async runtime) and wants
//! one descriptor from us. An eventfd carries what was posted, a timerfd the next
//! deadline, and an epoll descriptor is readable while one of them is. There is
//! no thread behind it: who finds it readable clears it and looks at what there
//! is to do.

use crate::medium::{Error, ErrorKind, Result};
use rustix::event::{EventfdFlags, epoll};
use rustix::fs::Timespec;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of the monotonic clock, which deadlines are told in. Does not go
/// back, does not count time that the system slept, and is not the time of day.
///
/// ```
/// let before = freehold_engine::event::monotonic_ns();
/// assert!(freehold_engine::event::monotonic_ns() >= before);
/// ```
pub fn monotonic_ns() -> u64 {
    // Nanoseconds since it was first asked: that is for ever in a word.
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    1 + BEGUN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// A descriptor that is readable from when an event was posted or the deadline
/// came until it is cleared. All calls are for any thread and none sleeps.
///
/// ```
/// use freehold_engine::event::{Signal, monotonic_ns};
/// let signal = Signal::new()?;
/// signal.arm(Some(monotonic_ns() + 1_000_000_000))?;
/// signal.post(); // `signal` is readable now
/// signal.clear(); // and now it is not; look at what happened after this, not before
/// # Ok::<(), freehold_engine::medium::Error>(())
/// ```
#[derive(Debug)]
pub struct Signal {
    both: OwnedFd,
    events: OwnedFd,
    timer: OwnedFd,
    /// The eventfd was written and not cleared since.
    posted: AtomicBool,
    /// What the timer is set to, so that setting it again to the same costs nothing.
    armed: Mutex<Option<u64>>,
}

impl Signal {
    /// A signal that nothing was posted to, without a deadline.
    ///
    /// # Errors
    /// `Limit` when the process has no descriptors left (it takes three).
    pub fn new() -> Result<Self> {
        let limit = |e: rustix::io::Errno| {
            Error::new(
                ErrorKind::Limit,
                format!("no descriptor for events: {e}; raise RLIMIT_NOFILE (ulimit -n)"),
            )
        };
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let events = rustix::event::eventfd(0, flags).map_err(limit)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer =
            rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags).map_err(limit)?;
        let both = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(limit)?;
        for (number, fd) in [&events, &timer].into_iter().enumerate() {
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&both, fd, data, epoll::EventFlags::IN).map_err(limit)?;
        }
        let (posted, armed) = (AtomicBool::new(false), Mutex::new(None));
        Ok(Self { both, events, timer, posted, armed })
    }

    /// Makes it readable. What is announced must be there to be found before
    /// this is called. One system call for the first post after a clear, none for
    /// the others.
    pub fn post(&self) {
        // AcqRel: what was made before this is seen by whoever clears after it.
        if self.posted.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = rustix::io::write(&self.events, &1u64.to_ne_bytes()) {
            // Only a full counter is refused, and a full counter is readable.
            tracing::debug!(%error, "an eventfd was not written");
        }
    }

    /// Makes it readable at a time of [`monotonic_ns`], at once if that has
    /// passed; `None` takes the deadline back. There is one deadline: a new one
    /// takes the place of the old.
    ///
    /// # Errors
    /// `Invalid` for a time that the system cannot express. Nothing changed.
    pub fn arm(&self, deadline_ns: Option<u64>) -> Result<()> {
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if *armed == deadline_ns {
            return Ok(());
        }
        // How long it is until then; a time of zero would mean no deadline.
        let wait = deadline_ns.map_or(0, |ns| ns.saturating_sub(monotonic_ns()).max(1));
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value =
            Timespec { tv_sec: (wait / SECOND) as i64, tv_nsec: (wait % SECOND).cast_signed() };
        let spec = Itimerspec { it_interval: zero, it_value };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec).map_err(
            |e| Error::new(ErrorKind::Invalid, format!("no timer can wait {wait} ns: {e}")),
        )?;
        *armed = deadline_ns;
        Ok(())
    }

    /// Makes it not readable until the next post or the next deadline. Whoever
    /// clears looks at what there is to do *after* that: so nothing is missed that
    /// was posted at the same time. A deadline that has come is over, and is armed
    /// again by [`Self::arm`] alone.
    pub fn clear(&self) {
        // What is posted between the two lines finds the flag set and writes
        // nothing, but its poster came before the swap, so that the caller sees
        // what it announced.
        let _ = rustix::io::read(&self.events, &mut [0u8; 8]);
        self.posted.swap(false, Ordering::AcqRel);
        let mut armed = self.armed.lock().unwrap_or_else(PoisonError::into_inner);
        if rustix::io::read(&self.timer, &mut [0u8; 8]).is_ok() {
            *armed = None;
        }
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.both.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use std::sync::atomic::AtomicU64;

    fn readable(signal: &Signal, wait_ms: i64) -> bool {
        let timeout = Timespec { tv_sec: 0, tv_nsec: wait_ms * 1_000_000 };
        poll(&mut [PollFd::new(signal, PollFlags::IN)], Some(&timeout)).unwrap() == 1
    }

    #[test]
    fn posts_are_seen_until_they_are_cleared() {
        let signal = Signal::new().unwrap();
        assert!(!readable(&signal, 0));
        signal.clear();
        for _ in 0..3 {
            signal.post();
            signal.post();
            assert!(readable(&signal, 0) && readable(&signal, 0));
            signal.clear();
            assert!(!readable(&signal, 0));
        }
    }

    #[test]
    fn a_deadline_makes_it_readable_once() {
        let signal = Signal::new().unwrap();
        for deadline in [0, 1, monotonic_ns(), monotonic_ns() + 2_000_000] {
            signal.arm(Some(deadline)).unwrap();
            assert!(readable(&signal, 900), "{deadline}");
            assert!(monotonic_ns() >= deadline);
            signal.clear();
            assert!(!readable(&signal, 0));
            // The same time again is a new deadline, because the old one is over.
            signal.arm(Some(deadline)).unwrap();
            assert!(readable(&signal, 900), "{deadline} for the second time");
            signal.arm(None).unwrap();
            assert!(!readable(&signal, 0));
        }
        let hour = monotonic_ns() + 3600 * SECOND;
        signal.arm(Some(hour)).unwrap();
        signal.clear();
        assert_eq!(*signal.armed.lock().unwrap(), Some(hour), "a clear ends no deadline to come");
        assert!(!readable(&signal, 0));
        signal.arm(Some(1)).unwrap();
        assert!(readable(&signal, 900));
        signal.arm(Some(u64::MAX)).unwrap();
        assert!(!readable(&signal, 0));
    }

    /// Posters count up, then post; whoever clears and then looks must in the end
    /// have seen every count, or find the signal readable.
    #[test]
    fn no_post_is_lost_beside_a_clear() {
        let signal = Signal::new().unwrap();
        let made = AtomicU64::new(0);
        const EACH: u64 = 20_000;
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        made.fetch_add(1, Ordering::Relaxed);
                        signal.post();
                    }
                });
            }
            let mut seen = 0;
            while seen < 2 * EACH {
                assert!(readable(&signal, 990), "stopped at {seen}");
                signal.clear();
                seen = made.load(Ordering::Relaxed);
            }
        });
    }
}
