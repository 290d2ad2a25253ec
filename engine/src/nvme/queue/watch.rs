//! When a queue looks at the clock, and what it does then: commands that are late, links
//! that are broken, controllers that went fatal.

use super::super::controller::Controller;
use super::core::Core;
use std::time::{Duration, Instant};

/// Polls between two looks at the clock.
const POLLS: u32 = 4096;
/// Between two looks at the commands, and at the link.
const COMMANDS_MS: u32 = 10;
/// Without any completion for so long, the status register is read; and then again.
const STALLED_MS: u32 = 100;
/// Looks without a wait after which interrupts are switched off.
const UNUSED_LOOKS: u32 = 64;

/// A queue's sense of time.
#[derive(Debug)]
pub(super) struct Watch {
    begun: Instant,
    limit_ms: u32,
    polls_left: u32,
    /// Something completed since the last look.
    moved: bool,
    looked_ms: u32,
    /// When something completed last, or the status register was read.
    quiet_ms: u32,
    /// Looks since somebody waited.
    unused: u32,
}

impl Watch {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            begun: Instant::now(),
            limit_ms: u32::try_from(limit.as_millis()).unwrap_or(u32::MAX / 2).max(1),
            polls_left: POLLS,
            moved: false,
            looked_ms: 0,
            quiet_ms: 0,
            unused: 0,
        }
    }

    /// Something completed.
    #[inline]
    pub(super) fn moved(&mut self) {
        self.moved = true;
    }

    /// Counts a poll; true when it is time to look at the clock.
    #[inline]
    pub(super) fn is_due(&mut self) -> bool {
        self.polls_left -= 1;
        self.polls_left == 0
    }

    /// Somebody waits.
    pub(super) fn used(&mut self) {
        self.unused = 0;
    }

    /// Milliseconds since the queue was made; never zero.
    fn now(&self) -> u32 {
        (self.begun.elapsed().as_millis() as u32).max(1)
    }
}

impl Core {
    /// Looks at the clock, and at most every few milliseconds at everything else.
    #[cold]
    pub(super) fn look(&mut self, controller: &Controller) {
        self.watch.polls_left = POLLS;
        let now = self.watch.now();
        if now.wrapping_sub(self.watch.looked_ms) < COMMANDS_MS {
            return;
        }
        self.watch.looked_ms = now;
        self.watch.unused = self.watch.unused.saturating_add(1);
        if self.watch.unused == UNUSED_LOOKS {
            self.detach(controller);
        }
        if std::mem::take(&mut self.watch.moved) || self.slab.in_flight() == 0 {
            self.watch.quiet_ms = now;
        }
        if self.ended.is_none() {
            self.look_at_controller(controller, now);
        }
    }

    /// The link also while nothing is in flight: a device that is wanted back is wanted of who
    /// does nothing with it, too.
    fn look_at_controller(&mut self, controller: &Controller, now: u32) {
        let generation = self.generation;
        if let Err(error) = controller.link.function.check() {
            controller.lose(error, false);
        } else if self.slab.in_flight() == 0 {
            return;
        } else if let Some(seen) = self.slab.age(now)
            && now.wrapping_sub(seen) >= self.watch.limit_ms
        {
            let (qid, ms) = (self.rings.qid, self.watch.limit_ms);
            let why = format!("a command of queue {qid} was not completed within {ms} ms");
            controller.reset(generation, &why);
        } else if now.wrapping_sub(self.watch.quiet_ms) >= STALLED_MS {
            self.watch.quiet_ms = now;
            controller.examine(generation);
        } else {
            return;
        }
        if Controller::generation_of(controller.news()) != generation {
            self.heed(controller);
        }
    }

    /// How long a thread may sleep before it has to look again.
    pub(super) fn nap(&mut self) -> Duration {
        let now = self.watch.now();
        let seen = self.slab.age(now).unwrap_or(now);
        let left = self.watch.limit_ms.saturating_sub(now.wrapping_sub(seen));
        // A fatal controller sends no interrupt.
        Duration::from_millis(u64::from(left.clamp(1, 5 * STALLED_MS)))
    }
}
