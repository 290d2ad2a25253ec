//! When the emulator may sleep, and what will wake it.
//!
//! A doorbell in shared memory wakes nobody. What does is a message. So the emulator
//! sleeps for as long as it likes only where every client that has something new
//! must send one: nothing is enabled; or all I/O queues have shadow doorbells and the
//! admin queue's doorbells come by messages. Elsewhere it sleeps briefly and looks
//! again.
//!
//! # No wake-up is lost
//!
//! Take a queue with a shadow. Before it sleeps the emulator does, in this order:
//! (1) EventIdx := the index `t` that it has taken; (2) a full fence; (3) it reads the
//! shadow. The client does: (a) shadow := `n`; (b) a full fence; (c) it reads
//! EventIdx, and sends a message if its move from `o` to `n` passed it. The two
//! fences are in one order:
//!
//! - (2) before (b): then (c) sees `t`, or what the emulator told later still, which it
//!   does only when awake and after it has looked again. If `o = t` the move passes
//!   `t` and a message is sent. If `o != t`, an earlier move `t` to `o` of the same
//!   client was made; its own fence was before (2), and the next case holds for it,
//!   or after, and this one does.
//! - (b) before (2): then (3) sees `n`, or a later index. It differs from `t`, for the
//!   client moves less than a whole ring ahead of what was taken; so the emulator
//!   does not sleep.
//!
//! A message that was sent is in the socket's buffer before the emulator polls the
//! socket, or arrives while it sleeps there: both wake it. The head of a completion
//! queue matters only while the queue is full, and is treated the same.

use super::super::guest::{Guest, Reach};
use super::{Controller, Until};
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

/// How the emulator may rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Rest {
    /// Not at all: there is something to do.
    Not,
    /// A moment, then look again.
    Briefly,
    /// Until a message comes, or this time does.
    UntilMessage(Option<Instant>),
}

impl Controller {
    /// Says how to rest, and prepares it. Called when a look found nothing; whatever
    /// comes after this is announced by a message, or found by the next look.
    pub(in super::super) fn prepare_to_rest(&mut self, guest: &impl Guest) -> Rest {
        if !self.is_running() {
            // Only a register access, which is a message, changes that.
            return Rest::UntilMessage(None);
        }
        self.sweep();
        if self.is_syncing() {
            // Its end rings nowhere.
            return Rest::Briefly;
        }
        let due = self.late.iter().filter_map(|late| match late.until {
            Until::Due(due) => Some(due),
            Until::Synced(_) => None,
        });
        let due = due.min();
        let mapped = |qid: &u16| match &self.sqs[usize::from(*qid)] {
            Some(sq) if *qid != 0 => sq.shadow.is_none(),
            _ => false,
        };
        // The admin queue is emptied by a doorbell that may be mapped.
        let full = self.cqs[0].as_ref().is_some_and(|cq| cq.stalled);
        if full || !self.rings_by_message || self.active.iter().any(mapped) {
            return Rest::Briefly;
        }
        match self.arm(guest) {
            Ok(true) => Rest::UntilMessage(due),
            Ok(false) => Rest::Not,
            Err(_) => {
                self.fail();
                Rest::UntilMessage(None)
            }
        }
    }

    /// Tells every EventIdx what was taken, and looks once more; whether nothing is
    /// new. See the module for why that is enough.
    fn arm(&mut self, guest: &impl Guest) -> Reach<bool> {
        for sq in self.sqs.iter_mut().flatten() {
            if let Some(shadow) = &mut sq.shadow {
                shadow.tell(guest, sq.tail as u16)?;
            }
        }
        for cq in self.cqs.iter_mut().flatten().filter(|cq| cq.stalled) {
            if let Some(shadow) = &mut cq.shadow {
                shadow.tell(guest, cq.head as u16)?;
            }
        }
        fence(Ordering::SeqCst);
        for sq in self.sqs.iter().flatten() {
            if let Some(shadow) = &sq.shadow
                && sq.is_news(shadow.load(guest)?)
            {
                return Ok(false);
            }
        }
        for cq in self.cqs.iter().flatten().filter(|cq| cq.stalled) {
            if let Some(shadow) = &cq.shadow
                && shadow.load(guest)? != cq.head
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
