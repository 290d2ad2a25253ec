//! Threads that wait for a commit and for nothing else.
//!
//! One of them drives the maintenance lane, which commits for all; the others sleep,
//! each on its own, and are woken when their record is durable, or when nobody drives
//! any more. So a commit wakes those that it is for.
//!
//! Whoever is about to sleep enters first and tries for the latch once more; whoever
//! gives the latch up looks here afterwards. Between the two accesses of the one there
//! is the list's lock of the other, so that one of them sees the other.

use crate::format::types::Seq;
use std::sync::Mutex;
use std::thread::Thread;

#[derive(Debug, Default)]
pub(crate) struct Waiters(Mutex<Vec<(Seq, Thread)>>);

impl Waiters {
    /// The calling thread waits for this record; once.
    pub(crate) fn enter(&self, seq: Seq) {
        self.0.lock().expect("no holder panics").push((seq, std::thread::current()));
    }

    /// It does not any more.
    pub(crate) fn leave(&self) {
        let me = std::thread::current().id();
        self.0.lock().expect("no holder panics").retain(|(_, t)| t.id() != me);
    }

    /// Wakes all whose record is durable.
    pub(crate) fn wake(&self, durable: Seq) {
        let mut ready = Vec::new();
        self.0.lock().expect("no holder panics").retain(|(seq, thread)| {
            let waits = *seq > durable;
            if !waits {
                ready.push(thread.clone());
            }
            waits
        });
        ready.iter().for_each(Thread::unpark);
    }

    /// Does anybody wait?
    pub(crate) fn any(&self) -> bool {
        !self.0.lock().expect("no holder panics").is_empty()
    }

    /// Wakes one, to drive. False if nobody waits.
    pub(crate) fn wake_one(&self) -> bool {
        let one = self.0.lock().expect("no holder panics").pop();
        one.as_ref().map(|(_, thread)| thread.unpark()).is_some()
    }
}
