//! Who has a range of a file to itself (law B6).
//!
//! Whatever copies a block, reads it in order to write it back, or changes the
//! map of a range, first enters the range here and waits until it is its turn;
//! ranges are granted in the order in which they were asked for. A plain write
//! (in place, whole blocks) enters nothing: it shows itself in its queue's slot
//! ([`crate::lane::Slots`]), then looks at [`RangeLocks::copiers`]. Whoever enters
//! raises `copiers` first and looks at the slots afterwards. Both sides put a
//! full fence between their store and their load, so at least one sees the other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering, fence};

#[derive(Debug)]
struct Entry {
    id: u64,
    /// First block and the one behind the last, of the first range and of all others.
    first: (u64, u64),
    more: Box<[(u64, u64)]>,
}

impl Entry {
    fn ranges(&self) -> impl Iterator<Item = &(u64, u64)> {
        std::iter::once(&self.first).chain(&self.more)
    }

    fn meets(&self, start: u64, end: u64) -> bool {
        self.ranges().any(|(s, e)| *s < end && start < *e)
    }
}

/// The ranges of one file that are taken or asked for, oldest first.
#[derive(Debug, Default)]
pub(crate) struct RangeLocks {
    copiers: AtomicU32,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    entries: Vec<Entry>,
    next: u64,
}

impl Table {
    fn enter(&mut self, ranges: &[(u64, u64)]) -> u64 {
        self.next += 1;
        let entry = Entry { id: self.next, first: ranges[0], more: ranges[1..].into() };
        self.entries.push(entry);
        self.next
    }
}

impl RangeLocks {
    /// Does anybody have or want any range? For plain writes, after their slot is published.
    pub(crate) fn busy(&self) -> bool {
        self.copiers.load(Ordering::SeqCst) != 0
    }

    /// Asks for ranges of file blocks, one or more, all as one; the answer names the
    /// request.
    /// Because they are one request, and requests are granted by age, two that ask for
    /// the same ranges never wait for each other.
    pub(crate) fn enter(&self, ranges: &[(u64, u64)]) -> u64 {
        let mut t = self.table.lock().expect("no holder panics");
        self.copiers.fetch_add(1, Ordering::SeqCst);
        let id = t.enter(ranges);
        drop(t);
        fence(Ordering::SeqCst);
        id
    }

    /// As [`RangeLocks::enter`], of one range and only if it is granted at once.
    pub(crate) fn enter_now(&self, start: u64, end: u64) -> Option<u64> {
        let mut t = self.table.lock().expect("no holder panics");
        if t.entries.iter().any(|e| e.meets(start, end)) {
            return None;
        }
        self.copiers.fetch_add(1, Ordering::SeqCst);
        let id = t.enter(&[(start, end)]);
        drop(t);
        fence(Ordering::SeqCst);
        Some(id)
    }

    /// Is it this request's turn: does no earlier one overlap it?
    pub(crate) fn granted(&self, id: u64) -> bool {
        let t = self.table.lock().expect("no holder panics");
        let Some(me) = t.entries.iter().find(|e| e.id == id) else { return false };
        let earlier = t.entries.iter().take_while(|e| e.id != id);
        !earlier.into_iter().any(|e| me.ranges().any(|(start, end)| e.meets(*start, *end)))
    }

    /// Gives the range up. True if there are others, who may wait for that.
    pub(crate) fn leave(&self, id: u64) -> bool {
        let mut t = self.table.lock().expect("no holder panics");
        t.entries.retain(|e| e.id != id);
        self.copiers.fetch_sub(1, Ordering::SeqCst);
        !t.entries.is_empty()
    }

    /// Does anybody have or want a part of this range?
    pub(crate) fn overlaps(&self, start: u64, end: u64) -> bool {
        let t = self.table.lock().expect("no holder panics");
        t.entries.iter().any(|e| e.meets(start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_taken_in_order() {
        let l = RangeLocks::default();
        let a = l.enter(&[(0, 4)]);
        let b = l.enter(&[(2, 6)]);
        let c = l.enter(&[(5, 9)]);
        let d = l.enter(&[(20, 21)]);
        assert!(l.granted(a) && !l.granted(b) && !l.granted(c) && l.granted(d));
        l.leave(a);
        assert!(l.granted(b) && !l.granted(c));
        l.leave(b);
        assert!(l.granted(c) && l.overlaps(8, 10) && !l.overlaps(9, 20));
        assert_eq!((l.enter_now(3, 6), l.enter_now(8, 10), l.leave(c)), (None, None, true));
        assert!(!l.leave(d));
        let now = l.enter_now(3, 6).expect("nobody has it");
        let later = l.enter(&[(0, 4)]);
        assert!(l.granted(now) && !l.granted(later) && l.leave(now) && l.granted(later));
        l.leave(later);
        assert!(!l.busy());
    }

    #[test]
    fn b6_ranges_asked_for_together_are_granted_together() {
        let l = RangeLocks::default();
        let a = l.enter(&[(4, 6)]);
        let b = l.enter(&[(0, 2), (5, 8), (20, 21)]);
        let c = l.enter(&[(20, 30)]);
        let d = l.enter(&[(2, 4)]);
        assert!(l.granted(a) && !l.granted(b) && !l.granted(c) && l.granted(d));
        assert!(l.overlaps(7, 9) && !l.overlaps(8, 20));
        l.leave(a);
        assert!(l.granted(b) && !l.granted(c));
        l.leave(b);
        assert!(l.granted(c));
    }
}
