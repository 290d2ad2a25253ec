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
        self.put(entry, self.phase, guest)
    }

    /// Posts an entry whose phase tag is the other one, so that the host cannot see it. It never
    /// has the right one, not for a moment: a host that polls would take it.
    pub(super) fn post_unseen(&mut self, entry: Cqe, guest: &impl Guest) -> Reach {
        self.put(entry, !self.phase, guest)
    }

    #[inline]
    fn put(&mut self, entry: Cqe, phase: bool, guest: &impl Guest) -> Reach {
        const PHASE: u64 = 1 << 48;
        let [low, high] = entry.0;
        let high = if phase { high | PHASE } else { high & !PHASE };
        guest.store_pair(self.base.wrapping_add(u64::from(self.tail) * 16), [low, high])?;
        self.unannounced = true;
        self.tail += 1;
        if self.tail == self.size {
            self.tail = 0;
            self.phase = !self.phase;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::guest::Whose;
    use super::*;
    use crate::nvme::spec::status::Status;
    use std::cell::RefCell;

    /// Memory that only notes what is stored in it.
    #[derive(Default)]
    struct Notes(RefCell<Vec<(u64, [u64; 2])>>);

    impl Guest for Notes {
        fn store_pair(&self, iova: u64, words: [u64; 2]) -> Reach {
            self.0.borrow_mut().push((iova, words));
            Ok(())
        }
        fn load(&self, _: u64, _: &mut [u8]) -> Reach {
            unreachable!()
        }
        fn store(&self, _: u64, _: &[u8]) -> Reach {
            unreachable!()
        }
        fn load_words<const N: usize>(&self, _: u64) -> Reach<[u64; N]> {
            unreachable!()
        }
        fn load32(&self, _: u64) -> Reach<u32> {
            unreachable!()
        }
        fn store32(&self, _: u64, _: u32) -> Reach {
            unreachable!()
        }
        fn whose(&self, _: u64, _: u64) -> Whose {
            unreachable!()
        }
        fn has(&self, _: u64, _: u64, _: bool) -> bool {
            unreachable!()
        }
    }

    #[test]
    fn an_unseen_entry_is_unseen_at_all_times() {
        const SIZE: u32 = 4;
        let memory = Notes::default();
        let mut cq = Cq::new(1, 0x1000, SIZE, None, None);
        for n in 0..3 * SIZE {
            let entry = Cqe::new(0, 0, 1, n as u16, Status::SUCCESS, false);
            let unseen = n % 3 == 0;
            match unseen {
                true => cq.post_unseen(entry, &memory).unwrap(),
                false => cq.post(entry, &memory).unwrap(),
            }
            let stores = memory.0.take();
            assert_eq!(stores.len(), 1, "an entry is stored once: a host that polls may take it");
            let (at, [_, high]) = stores[0];
            assert_eq!(at, 0x1000 + u64::from(n % SIZE) * 16);
            // The phase tag is inverted on each pass (NVMe Base 1.4, 4.6).
            let expected = (n / SIZE).is_multiple_of(2);
            assert_eq!(high >> 48 & 1 == 1, expected != unseen, "entry {n}");
        }
    }
}
