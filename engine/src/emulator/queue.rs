//! Submission and completion queues as the controller sees them (Base 1.4, 4.1).

use super::guest::{Guest, Reach};
use crate::nvme::spec::command::{Command, Cqe};
use crate::nvme::spec::registers::{shadow_cq, shadow_sq};

/// Where a queue's doorbell stands in the client's memory, and what the controller
/// told about it (Base 1.4, 5.7).
#[derive(Debug, Clone, Copy)]
pub(super) struct Shadow {
    doorbell: u64,
    event: u64,
    /// What EventIdx says.
    told: u16,
}

/// The two pages of Doorbell Buffer Config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ShadowPages {
    pub(super) doorbells: u64,
    pub(super) events: u64,
}

impl ShadowPages {
    /// The tail of a submission queue.
    pub(super) fn sq(self, qid: u16) -> Shadow {
        let at = shadow_sq(qid, 0);
        Shadow { doorbell: self.doorbells + at, event: self.events + at, told: 0 }
    }

    /// The head of a completion queue.
    pub(super) fn cq(self, qid: u16) -> Shadow {
        let at = shadow_cq(qid, 0);
        Shadow { doorbell: self.doorbells + at, event: self.events + at, told: 0 }
    }
}

impl Shadow {
    /// What the client wrote.
    #[inline]
    pub(super) fn load(&self, guest: &impl Guest) -> Reach<u32> {
        guest.load32(self.doorbell)
    }

    /// Asks to be told when the index passes `value`.
    pub(super) fn tell(&mut self, guest: &impl Guest, value: u16) -> Reach {
        self.told = value;
        guest.store32(self.event, u32::from(value))
    }

    /// While the controller looks by itself, EventIdx stays behind the index, so that
    /// the client never passes it: a wrap of the ring passes everything but what lies
    /// just behind where it began. Told again only when it has fallen half a ring
    /// behind, so that the line is seldom taken from the client.
    #[inline]
    pub(super) fn keep_behind(&mut self, guest: &impl Guest, index: u32, size: u32) -> Reach {
        let behind = (index + size - u32::from(self.told) % size) % size;
        if behind == 0 || behind > size / 2 {
            return self.tell(guest, ((index + size - 1) % size) as u16);
        }
        Ok(())
    }
}

/// What a doorbell says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    /// The index that was known.
    Same,
    /// A new index.
    New,
    /// A value that no right client writes; told once for each.
    Bad,
}

/// A submission queue.
#[derive(Debug)]
pub(super) struct Sq {
    pub(super) id: u16,
    base: u64,
    pub(super) size: u32,
    pub(super) cqid: u16,
    pub(super) head: u32,
    pub(super) tail: u32,
    /// The last value that was refused.
    bad: Option<u32>,
    pub(super) shadow: Option<Shadow>,
}

impl Sq {
    pub(super) fn new(id: u16, base: u64, size: u32, cqid: u16, shadow: Option<Shadow>) -> Self {
        Self { id, base, size, cqid, head: 0, tail: 0, bad: None, shadow }
    }

    /// Takes what the doorbell says. A full ring is one entry less than its size, so
    /// any index within it is possible.
    #[inline]
    pub(super) fn ring(&mut self, value: u32) -> Rung {
        if value == self.tail {
            self.bad = None;
            return Rung::Same;
        }
        if value >= self.size {
            let known = self.bad.replace(value) == Some(value);
            return if known { Rung::Same } else { Rung::Bad };
        }
        self.bad = None;
        self.tail = value;
        Rung::New
    }

    /// Whether a doorbell's value is one that was not seen yet, right or wrong.
    pub(super) fn is_news(&self, value: u32) -> bool {
        value != self.tail && self.bad != Some(value)
    }

    /// Loads the entry at the head and passes it.
    #[inline]
    pub(super) fn fetch(&mut self, guest: &impl Guest) -> Reach<Command> {
        let words = guest.load_words::<8>(self.base.wrapping_add(u64::from(self.head) * 64))?;
        self.head += 1;
        if self.head == self.size {
            self.head = 0;
        }
        Ok(Command(words))
    }
}

/// A completion queue.
#[derive(Debug)]
pub(super) struct Cq {
    pub(super) id: u16,
    base: u64,
    pub(super) size: u32,
    tail: u32,
    phase: bool,
    pub(super) head: u32,
    bad: Option<u32>,
    /// The vector, where interrupts are enabled.
    pub(super) vector: Option<u16>,
    /// Submission queues that complete here.
    pub(super) users: u32,
    /// Entries were posted that no interrupt announced.
    pub(super) unannounced: bool,
    /// It was full when an entry was to be posted.
    pub(super) stalled: bool,
    pub(super) shadow: Option<Shadow>,
}

impl Cq {
    pub(super) fn new(
        id: u16,
        base: u64,
        size: u32,
        vector: Option<u16>,
        shadow: Option<Shadow>,
    ) -> Self {
        Self {
            id,
            base,
            size,
            tail: 0,
            phase: true,
            head: 0,
            bad: None,
            vector,
            users: 0,
            unannounced: false,
            stalled: false,
            shadow,
        }
    }

    /// Entries posted and not taken, as far as is known.
    #[inline]
    pub(super) fn used(&self) -> u32 {
        let used = self.tail + self.size - self.head;
        if used >= self.size { used - self.size } else { used }
    }

    /// Whether an entry can be posted, as far as is known.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.used() + 1 < self.size
    }

    /// Takes what the doorbell says: an index from the known head to the tail.
    pub(super) fn ring(&mut self, value: u32) -> Rung {
        if value == self.head {
            self.bad = None;
            return Rung::Same;
        }
        let taken =
            if value >= self.size { u32::MAX } else { (value + self.size - self.head) % self.size };
        if taken > self.used() {
            let known = self.bad.replace(value) == Some(value);
            return if known { Rung::Same } else { Rung::Bad };
        }
        self.bad = None;
        self.head = value;
        self.stalled = false;
        Rung::New
    }

    /// Posts an entry; there is room. The entry's phase is set here.
    #[inline]
    pub(super) fn post(&mut self, entry: Cqe, guest: &impl Guest) -> Reach {
        const PHASE: u64 = 1 << 48;
        let [low, high] = entry.0;
        let high = if self.phase { high | PHASE } else { high & !PHASE };
        guest.store_pair(self.base.wrapping_add(u64::from(self.tail) * 16), [low, high])?;
        self.unannounced = true;
        self.tail += 1;
        if self.tail == self.size {
            self.tail = 0;
            self.phase = !self.phase;
        }
        Ok(())
    }

    /// Spoils the entry that was posted last: its phase tag is the other one.
    pub(super) fn spoil_phase(&mut self, guest: &impl Guest) -> Reach {
        let (at, phase) = match self.tail {
            0 => (self.size - 1, !self.phase),
            tail => (tail - 1, self.phase),
        };
        let at = self.base.wrapping_add(u64::from(at) * 16);
        let [low, high] = guest.load_words::<2>(at)?;
        let high = if phase { high & !(1 << 48) } else { high | 1 << 48 };
        guest.store_pair(at, [low, high])
    }
}
