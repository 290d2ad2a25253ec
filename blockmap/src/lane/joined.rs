//! Two device queues as one: that of the store, and that of a journal which is on another
//! medium. Addresses say which is meant.

use freehold_engine::medium::{Completion, Op, Queue, Rejected, Result};
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// While both are at work each is slept on for so long in turn.
const TURN: Duration = Duration::from_micros(100);

/// A store's queue and a journal's.
#[derive(Debug)]
pub(crate) struct Joined {
    store: Box<dyn Queue>,
    journal: Box<dyn Queue>,
    turn: bool,
}

impl Joined {
    /// Writes at this block and behind it go to the journal's medium, from its block 0 on.
    /// No store has so many.
    pub(crate) const BASE: u64 = 1 << 60;

    pub(crate) fn new(store: Box<dyn Queue>, journal: Box<dyn Queue>) -> Self {
        Joined { store, journal, turn: false }
    }
}

impl Queue for Joined {
    fn submit(&mut self, tag: u64, op: Op) -> std::result::Result<(), Rejected> {
        match op {
            Op::Write { at, buf, fua } if at >= Self::BASE => {
                let op = Op::Write { at: at - Self::BASE, buf, fua };
                self.journal.submit(tag, op).map_err(|mut back| {
                    if let Op::Write { at, .. } = &mut back.op {
                        *at += Self::BASE;
                    }
                    back
                })
            }
            op => self.store.submit(tag, op),
        }
    }

    fn ring(&mut self) {
        self.store.ring();
        self.journal.ring();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        self.store.poll(done) + self.journal.poll(done)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<()> {
        let (store, journal) = (self.store.in_flight(), self.journal.in_flight());
        self.ring();
        if journal == 0 {
            return self.store.wait(timeout);
        }
        if store == 0 {
            return self.journal.wait(timeout);
        }
        self.turn = !self.turn;
        let most = Some(timeout.map_or(TURN, |t| t.min(TURN)));
        if self.turn { self.store.wait(most) } else { self.journal.wait(most) }
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        // Nobody sleeps on the store's own queue but by `wait`.
        None
    }

    fn in_flight(&self) -> usize {
        self.store.in_flight() + self.journal.in_flight()
    }

    fn depth(&self) -> usize {
        self.store.depth()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freehold_engine::medium::Medium;
    use freehold_engine::{FormatOptions, format_target};
    use std::sync::Arc;

    fn medium() -> Arc<dyn Medium> {
        format_target("mem:1M", &FormatOptions::default()).expect("memory")
    }

    fn write(of: &Arc<dyn Medium>, at: u64, byte: u8) -> Op {
        let mut buf = of.pool().take(4096).expect("memory");
        buf.fill(byte);
        Op::Write { at, buf, fua: true }
    }

    fn first_bytes(of: &Arc<dyn Medium>, at: u64) -> u8 {
        let mut byte = [0];
        of.window().expect("a window").load(at * 4096, &mut byte).expect("inside");
        byte[0]
    }

    #[test]
    fn addresses_say_which_medium_is_meant() {
        let (store, journal) = (medium(), medium());
        let queue = |of: &Arc<dyn Medium>| of.queue(2).expect("a queue");
        let mut both = Joined::new(queue(&store), queue(&journal));
        both.submit(1, write(&store, 5, 7)).expect("room");
        for tag in [2, 3] {
            both.submit(tag, write(&journal, Joined::BASE + 5, 8)).expect("room");
        }
        // The journal's queue is full: what comes back is as it was given.
        let back = both.submit(4, write(&journal, Joined::BASE + 9, 8)).expect_err("full");
        assert!(back.error.is_none());
        assert!(matches!(back.op, Op::Write { at, .. } if at == Joined::BASE + 9));
        assert_eq!((both.in_flight(), both.depth()), (3, 2));
        let mut done = Vec::new();
        while done.len() < 3 {
            both.wait(None).expect("memory does not vanish");
            both.poll(&mut done);
        }
        assert!(done.iter().all(|c| c.result.is_ok()));
        assert_eq!((first_bytes(&store, 5), first_bytes(&journal, 5)), (7, 8));
    }
}
