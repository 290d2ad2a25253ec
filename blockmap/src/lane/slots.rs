//! What is in flight, shown to other threads without a lock.
//!
//! Each operation in flight owns a slot of its queue. A slot that is in use holds
//! the store's *epoch* at the time it was published; a plain write's slot also
//! names the file blocks that it overwrites.
//!
//! * Law B3: a freed block is reused only when every slot that was published
//!   before the block became unreachable is idle again: bump the epoch, then wait
//!   until no slot in use holds an older one ([`Slots::quiet`]).
//! * Law B6: a copier waits until no plain write to its range is in flight
//!   ([`Slots::writes`]).
//!
//! Publishing is a store and a full fence, before the look-up; the other side
//! changes the map (or enters the range), fences, and then looks at the slots.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    /// 0: idle.
    epoch: AtomicU64,
    /// A plain write's file; 0 for everything else.
    file: AtomicU64,
    start: AtomicU64,
    end: AtomicU64,
    /// Nested uses by one task. Written, as all of it is, by who holds the lane's latch.
    depth: AtomicU32,
}

/// The slots of one queue.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Box<[Slot]>,
    /// Plain writes in flight. Raised before the fence of a publication, so whoever
    /// reads 0 behind its own fence would find no slot with one either. One writer at
    /// a time, who holds the lane's latch.
    plain: AtomicU64,
}

impl Slots {
    pub(crate) fn new(n: usize) -> Self {
        Slots { slots: (0..n).map(|_| Slot::default()).collect(), plain: AtomicU64::new(0) }
    }

    /// Publishes a look-up that may touch any block it finds.
    pub(crate) fn publish(&self, i: usize, epoch: &AtomicU64) {
        let s = &self.slots[i];
        let depth = s.depth.load(Ordering::Relaxed);
        s.depth.store(depth + 1, Ordering::Relaxed);
        if depth == 0 {
            s.epoch.store(epoch.load(Ordering::SeqCst), Ordering::Release);
            fence(Ordering::SeqCst);
        }
    }

    /// Publishes a plain write to file blocks `start..end`.
    pub(crate) fn publish_write(
        &self,
        i: usize,
        epoch: &AtomicU64,
        file: u64,
        start: u64,
        end: u64,
    ) {
        let s = &self.slots[i];
        s.start.store(start, Ordering::Relaxed);
        s.end.store(end, Ordering::Relaxed);
        s.file.store(file, Ordering::Relaxed);
        self.plain.store(self.plain.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.publish(i, epoch);
    }

    /// The operation is over: nothing touches what it found.
    pub(crate) fn retire(&self, i: usize) {
        let s = &self.slots[i];
        let depth = s.depth.load(Ordering::Relaxed);
        s.depth.store(depth - 1, Ordering::Relaxed);
        if depth == 1 {
            s.epoch.store(0, Ordering::Release);
            if s.file.load(Ordering::Relaxed) != 0 {
                s.file.store(0, Ordering::Relaxed);
                let left = self.plain.load(Ordering::Relaxed) - 1;
                self.plain.store(left, Ordering::Release);
            }
        }
    }

    /// Is every slot idle, or published at this epoch or later?
    pub(crate) fn quiet(&self, epoch: u64) -> bool {
        fence(Ordering::SeqCst);
        self.slots.iter().all(|s| match s.epoch.load(Ordering::Acquire) {
            0 => true,
            e => e >= epoch,
        })
    }

    /// Is no plain write in flight at all?
    pub(crate) fn has_no_writes(&self) -> bool {
        fence(Ordering::SeqCst);
        self.plain.load(Ordering::Acquire) == 0
    }

    /// Is a plain write to any of these blocks in flight?
    pub(crate) fn writes(&self, file: u64, start: u64, end: u64) -> bool {
        if self.has_no_writes() {
            return false;
        }
        self.slots.iter().any(|s| {
            s.epoch.load(Ordering::Acquire) != 0
                && s.file.load(Ordering::Relaxed) == file
                && s.start.load(Ordering::Relaxed) < end
                && start < s.end.load(Ordering::Relaxed)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b3_old_slots_hold_back_reuse() {
        let epoch = AtomicU64::new(1);
        let s = Slots::new(2);
        s.publish(0, &epoch);
        let next = epoch.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(!s.quiet(next));
        s.publish_write(1, &epoch, 7, 3, 5);
        assert!(s.writes(7, 4, 9) && !s.writes(7, 5, 9) && !s.writes(8, 3, 5));
        s.publish(0, &epoch);
        s.retire(0);
        assert!(!s.quiet(next), "a nested use keeps the older epoch");
        s.retire(0);
        assert!(s.quiet(next));
        s.retire(1);
        assert!(!s.writes(7, 3, 5));
    }
}
