//! fdatasync beside other work: a thread of its own makes a file durable, so that a flush holds
//! up no other command, and no read of a register that a client waits for, as in a device.
//!
//! Flushes have numbers in the order of their asking. One fdatasync serves all that were asked
//! for before it began. A failure is for ever: the system tells each of them once, to whoever
//! asks next, so nobody asks but in turn, and all who come later are told the same.

use super::{Done, Trouble};
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// A flush that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Ticket(u64);

/// Makes one file durable.
#[derive(Debug)]
pub(super) struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    file: Arc<File>,
    asked: Mutex<Asked>,
    bell: Condvar,
    /// All flushes up to this one have ended.
    ended: AtomicU64,
    /// One of them has failed. Said before that ends.
    failed: AtomicBool,
    /// Whoever has it asks the system.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct Asked {
    last: u64,
    quit: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Syncer {
    pub(super) fn new(file: Arc<File>) -> Self {
        let shared = Shared {
            file,
            asked: Mutex::default(),
            bell: Condvar::new(),
            ended: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            turn: Mutex::new(()),
        };
        Self { shared: Arc::new(shared), thread: None }
    }

    /// Waits until all that was written is durable.
    pub(super) fn now(&self) -> Done {
        self.shared.sync()
    }

    /// Begins a flush of all that was written. None where the system gives no thread.
    pub(super) fn begin(&mut self) -> Option<Ticket> {
        if self.thread.is_none() {
            let (shared, name) = (self.shared.clone(), "freehold-flush".to_owned());
            let thread = std::thread::Builder::new().name(name).spawn(move || shared.serve());
            self.thread = Some(thread.ok()?);
        }
        let mut asked = lock(&self.shared.asked);
        asked.last += 1;
        self.shared.bell.notify_one();
        Some(Ticket(asked.last))
    }

    /// What came of it, once it has ended.
    pub(super) fn ended(&self, flush: Ticket) -> Option<Done> {
        (self.shared.ended.load(Ordering::Acquire) >= flush.0).then(|| self.shared.outcome())
    }

    /// Whether any has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Acquire)
    }
}

impl Shared {
    fn outcome(&self) -> Done {
        match self.failed.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(Trouble::NotDurable),
        }
    }

    fn sync(&self) -> Done {
        let _turn = lock(&self.turn);
        if self.outcome().is_ok() && self.file.sync_data().is_err() {
            self.failed.store(true, Ordering::Release);
        }
        self.outcome()
    }

    /// What the thread does.
    fn serve(&self) {
        let mut ended = 0;
        loop {
            let mut asked = lock(&self.asked);
            while asked.last == ended && !asked.quit {
                asked = self.bell.wait(asked).unwrap_or_else(|e| e.into_inner());
            }
            if asked.quit {
                return;
            }
            let last = asked.last;
            drop(asked);
            // It is told by `outcome`.
            let _ = self.sync();
            ended = last;
            self.ended.store(ended, Ordering::Release);
        }
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        lock(&self.shared.asked).quit = true;
        self.shared.bell.notify_one();
        if let Some(thread) = self.thread.take() {
            // It does not panic.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::OwnedFd;
    use std::time::{Duration, Instant};

    fn wait_for(syncer: &Syncer, flush: Ticket) -> Done {
        let begun = Instant::now();
        loop {
            if let Some(done) = syncer.ended(flush) {
                return done;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "a flush does not end");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_flush_ends_after_what_it_waits_for() {
        let file = rustix::fs::memfd_create("sync", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let file = Arc::new(File::from(file));
        let mut syncer = Syncer::new(file);
        let first = syncer.begin().unwrap();
        assert_eq!(wait_for(&syncer, first), Ok(()));
        // While somebody else asks the system, those that are begun wait.
        let shared = syncer.shared.clone();
        let turn = lock(&shared.turn);
        let (second, third) = (syncer.begin().unwrap(), syncer.begin().unwrap());
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!((syncer.ended(second), syncer.ended(third)), (None, None));
        assert_eq!(syncer.ended(first), Some(Ok(())));
        drop(turn);
        assert_eq!((wait_for(&syncer, third), wait_for(&syncer, second)), (Ok(()), Ok(())));
        assert_eq!(syncer.now(), Ok(()));
    }

    #[test]
    fn who_comes_after_a_failure_is_told_of_it() {
        // A pipe has nothing that could be made durable: the system refuses.
        let (_end, pipe) = std::io::pipe().unwrap();
        let mut syncer = Syncer::new(Arc::new(File::from(OwnedFd::from(pipe))));
        assert!(!syncer.has_failed());
        let flush = syncer.begin().unwrap();
        assert_eq!(wait_for(&syncer, flush), Err(Trouble::NotDurable));
        assert!(syncer.has_failed());
        assert_eq!(syncer.now(), Err(Trouble::NotDurable));
        let later = syncer.begin().unwrap();
        assert_eq!(wait_for(&syncer, later), Err(Trouble::NotDurable));
    }
}
