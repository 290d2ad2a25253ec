//! Which blocks of a window are in use as memory, and how; and what commands
//! are about to touch.
//!
//! A reference into a window is sound only while nothing else writes (or, for
//! a `&mut`, reads) its bytes. The rules above the engine see to that, but a
//! mistake there must end in an error and never in undefined behaviour. So the
//! window keeps its own account: whoever may make references *books* blocks
//! here first, and every copy that a queue makes asks here. What decides is one
//! table of four kinds of access (law R5), see [`Access::suffers`].
//!
//! A copy asks without taking a lock that others take: its queue has a
//! [`Touch`], where it first says which blocks it is about to touch, and then
//! looks whether any booking exists that gives references. Such a booking is first
//! counted, and then looks at what all queues touch. Both sides write before they
//! read, with a barrier between, so at least one sees the other: the copy looks into
//! the table, or the booking is refused. The copy's barrier is for the compiler
//! alone; the booking makes it a real one by membarrier, as pins do (`crate::pin`).
//! It does so where the count rises from zero. While it is above zero, copies look
//! into the table under its lock after they have said what they touch, and
//! bookings are made under that lock: who comes second sees the first.

use crate::medium::{Error, ErrorKind, Result};
use crate::pin::barrier;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

#[cfg(all(loom, test))]
use loom::sync::{
    RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, AtomicUsize},
};
#[cfg(not(all(loom, test)))]
use std::sync::{
    RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, AtomicUsize},
};

/// What the holder of a booking may do with its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Copies out of them, while others may write.
    Read,
    /// Copies out of and into them, while others may do the same.
    Write,
    /// `&[u8]`: nobody writes.
    Stable,
    /// `&mut [u8]`: nobody else reads or writes.
    Exclusive,
}

impl Access {
    /// Whether two holders of these kinds of access may have the same block at
    /// the same time. Symmetric.
    ///
    /// ```
    /// use freehold_engine::memory::Access::{Exclusive, Read, Stable, Write};
    /// assert!(Write.suffers(Write) && Stable.suffers(Stable) && Stable.suffers(Read));
    /// assert!(!Stable.suffers(Write) && !Exclusive.suffers(Read));
    /// ```
    pub fn suffers(self, other: Access) -> bool {
        use Access::{Exclusive, Stable, Write};
        !matches!(
            (self, other),
            (Exclusive, _) | (_, Exclusive) | (Stable, Write) | (Write, Stable)
        )
    }

    /// Whether its views write.
    pub fn writes(self) -> bool {
        matches!(self, Access::Write | Access::Exclusive)
    }

    /// Whether it gives references.
    pub fn gives_references(self) -> bool {
        matches!(self, Access::Stable | Access::Exclusive)
    }
}

/// Bookings by kind of access, on one span.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Uses([u32; 4]);

impl Uses {
    const KINDS: [Access; 4] = [Access::Read, Access::Write, Access::Stable, Access::Exclusive];

    /// A booking here that does not suffer the access.
    fn against(&self, access: Access) -> Option<Access> {
        let mut held = Self::KINDS.into_iter().zip(self.0);
        held.find(|&(kind, count)| count > 0 && !kind.suffers(access)).map(|(kind, _)| kind)
    }

    fn none(&self) -> bool {
        self.0 == [0; 4]
    }
}

/// Blocks up to `end` that have the same bookings.
#[derive(Debug, Clone, Copy)]
struct Span {
    end: u64,
    uses: Uses,
}

/// All bookings, as spans that do not overlap, by their first block; and what
/// queues are about to touch.
#[derive(Debug, Default)]
struct Table {
    spans: BTreeMap<u64, Span>,
    touches: Vec<Arc<Touch>>,
}

impl Table {
    /// The spans that have blocks of the range.
    fn over(&self, range: &Range<u64>) -> impl Iterator<Item = (&u64, &Span)> {
        let before = self.spans.range(..=range.start).next_back();
        let first = before.filter(|(_, span)| span.end > range.start).map_or(range.start, |s| *s.0);
        self.spans.range(first..range.end.max(first))
    }

    /// A booking in the range that does not suffer the access.
    fn against(&self, range: &Range<u64>, access: Access) -> Option<Access> {
        self.over(range).find_map(|(_, span)| span.uses.against(access))
    }

    /// Makes a span begin at `at` if one lies across it.
    fn cut(&mut self, at: u64) {
        let Some((_, span)) = self.spans.range_mut(..at).next_back() else { return };
        if span.end > at {
            let rest = *span;
            span.end = at;
            self.spans.insert(at, rest);
        }
    }

    fn add(&mut self, range: &Range<u64>, access: Access) {
        self.cut(range.start);
        self.cut(range.end);
        let mut at = range.start;
        while at < range.end {
            let next = self.spans.range_mut(at..range.end).next();
            at = match next {
                Some((&start, span)) if start == at => {
                    span.uses.0[access as usize] += 1;
                    span.end
                }
                other => {
                    let end = other.map_or(range.end, |(&start, _)| start);
                    let mut uses = Uses::default();
                    uses.0[access as usize] = 1;
                    self.spans.insert(at, Span { end, uses });
                    end
                }
            };
        }
    }

    /// Adds a booking, if nothing is in its way.
    fn admit(&mut self, range: &Range<u64>, access: Access) -> Result<()> {
        if let Some(other) = self.against(range, access) {
            return Err(booked(range, other));
        }
        let guarded = access.gives_references();
        if guarded && self.touches.iter().any(|touch| !touch.suffers(range, access)) {
            return Err(busy(range, "in use by a command that is being carried out"));
        }
        self.add(range, access);
        Ok(())
    }

    fn remove(&mut self, range: &Range<u64>, access: Access) {
        self.cut(range.start);
        self.cut(range.end);
        for (_, span) in self.spans.range_mut(range.start..range.end) {
            span.uses.0[access as usize] -= 1;
        }
        // Spans that became alike are joined, so that what is left does not
        // remember bookings that are gone.
        let from = self.spans.range(..range.start).next_back().map_or(range.start, |s| *s.0);
        let starts: Vec<u64> = self.spans.range(from..=range.end).map(|s| *s.0).collect();
        let mut last: Option<(u64, Span)> = None;
        for start in starts {
            let span = self.spans[&start];
            if span.uses.none() {
                self.spans.remove(&start);
                continue;
            }
            match &mut last {
                Some((first, before)) if before.end == start && before.uses == span.uses => {
                    before.end = span.end;
                    self.spans.insert(*first, *before);
                    self.spans.remove(&start);
                }
                _ => last = Some((start, span)),
            }
        }
    }
}

/// Bookings on the blocks of one window, and what queues are about to touch.
#[derive(Debug)]
pub(super) struct Ledger {
    /// Bookings that give references. Changed under the lock, read without it.
    guarded: AtomicUsize,
    /// Membarrier is refused here: barriers are real ones.
    fenced: bool,
    table: RwLock<Table>,
}

impl Default for Ledger {
    fn default() -> Self {
        let (guarded, table) = (AtomicUsize::new(0), RwLock::default());
        Self { guarded, fenced: barrier::fenced(), table }
    }
}

impl Ledger {
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        // Nothing under this lock can panic half-way, so poison means nothing.
        barrier::blocked(|| self.table.read()).unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        barrier::blocked(|| self.table.write()).unwrap_or_else(PoisonError::into_inner)
    }

    /// Books ranges of blocks, none of them empty, all or nothing. When it
    /// returns `Ok`, everything that others did to the blocks and that the
    /// access does not suffer happened before, and nothing of the kind happens
    /// until `release`.
    ///
    /// # Errors
    /// `Busy` when a booking, or a copy that is being made, is in the way; an
    /// exclusive booking is in its own way where its ranges overlap. `Unsupported`
    /// when the process took membarrier from itself.
    pub(super) fn book(&self, ranges: &[Range<u64>], access: Access) -> Result<()> {
        let mut table = self.write();
        if access.gives_references() && self.guarded.fetch_add(1, Ordering::SeqCst) == 0 {
            barrier::everywhere().map_err(|e| {
                self.guarded.fetch_sub(1, Ordering::SeqCst);
                let text = format!("membarrier was refused after it had been allowed: {e}");
                Error::new(ErrorKind::Unsupported, text)
            })?;
        }
        for (done, range) in ranges.iter().enumerate() {
            if let Err(error) = table.admit(range, access) {
                for range in &ranges[..done] {
                    table.remove(range, access);
                }
                if access.gives_references() {
                    self.guarded.fetch_sub(1, Ordering::SeqCst);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Ends a booking, which was made with the same arguments. No reference that
    /// it allowed exists any more, and what was done through them happened
    /// before this call.
    pub(super) fn release(&self, ranges: &[Range<u64>], access: Access) {
        let mut table = self.write();
        for range in ranges {
            table.remove(range, access);
        }
        if access.gives_references() {
            self.guarded.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Runs a copy that is no queue's, while no booking is in its way; none is
    /// made before it ends.
    ///
    /// # Errors
    /// `Busy` when a booking is in the way; nothing was run.
    pub(super) fn copy<T>(
        &self,
        range: &Range<u64>,
        access: Access,
        run: impl FnOnce() -> T,
    ) -> Result<T> {
        let table = self.read();
        if let Some(other) = table.against(range, access) {
            return Err(booked(range, other));
        }
        Ok(run())
    }

    /// A place where a queue says what it touches.
    pub(super) fn enlist(&self) -> Arc<Touch> {
        let touch = Arc::new(Touch::default());
        self.write().touches.push(Arc::clone(&touch));
        touch
    }

    /// Forgets a queue's place.
    pub(super) fn dismiss(&self, touch: &Arc<Touch>) {
        self.write().touches.retain(|other| !Arc::ptr_eq(other, touch));
    }

    /// Runs a queue's copy of one or two ranges, each of 1 to
    /// [`MOST_BLOCKS`] blocks, while no booking is in its way; none is made
    /// before it ends. One thread at a time for each `touch`.
    ///
    /// # Errors
    /// `Busy` when a booking is in the way; nothing was run.
    pub(super) fn touch<T>(
        &self,
        touch: &Touch,
        first: (Range<u64>, Access),
        second: Option<(Range<u64>, Access)>,
        run: impl FnOnce() -> T,
    ) -> Result<T> {
        barrier::step();
        // The second before the first: who sees the first sees the second.
        // Release, so that who sees these and not what stood there before knows
        // that the copy before has ended.
        if let Some((range, access)) = &second {
            touch.second.store(pack(range, *access), Ordering::Release);
        }
        touch.first.store(pack(&first.0, first.1), Ordering::Release);
        barrier::light(self.fenced);
        let parts = [Some(first), second];
        // Acquire: where the last booking is gone, so is what was done under it.
        let against = if self.guarded.load(Ordering::Acquire) == 0 {
            None
        } else {
            let table = self.read();
            let mut parts = parts.iter().flatten();
            parts.find_map(|(range, access)| {
                let other = table.against(range, *access)?;
                Some(booked(range, other))
            })
        };
        barrier::step();
        let done = match against {
            None => Ok(run()),
            Some(error) => Err(error),
        };
        if parts[1].is_some() {
            touch.second.store(0, Ordering::Release);
        }
        touch.first.store(0, Ordering::Release);
        done
    }

    /// Spans in the table: for tests that it forgets.
    #[cfg(all(test, not(loom)))]
    fn spans(&self) -> usize {
        self.read().spans.len()
    }
}

/// What a queue is about to touch: nothing (0), one range, or two. Written by
/// the thread that uses the queue, in a cache line of its own.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Touch {
    first: AtomicU64,
    second: AtomicU64,
}

impl Touch {
    /// Whether an access to the range may begin beside what is touched here.
    fn suffers(&self, range: &Range<u64>, access: Access) -> bool {
        // The first before the second, see `Ledger::touch`.
        [&self.first, &self.second].into_iter().all(|word| {
            let word = word.load(Ordering::Acquire);
            word == 0 || {
                let (start, count) = (word >> 22, word >> 1 & MOST_BLOCKS);
                let kind = if word & 1 == 1 { Access::Write } else { Access::Read };
                start >= range.end || start + count <= range.start || kind.suffers(access)
            }
        })
    }
}

impl fmt::Debug for Touch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Touch")
    }
}

/// The longest range that a touch can name, in blocks.
pub(super) const MOST_BLOCKS: u64 = (1 << 21) - 1;

/// A range that is not empty, as one word that is not 0: 42 bits of first
/// block, 21 of length, one that says whether it is written.
fn pack(range: &Range<u64>, access: Access) -> u64 {
    let count = range.end - range.start;
    debug_assert!((1..=MOST_BLOCKS).contains(&count) && range.start < 1 << 42);
    range.start << 22 | count << 1 | u64::from(access == Access::Write)
}

fn booked(range: &Range<u64>, by: Access) -> Error {
    busy(range, &format!("used as memory ({by:?} access)"))
}

fn busy(range: &Range<u64>, why: &str) -> Error {
    let Range { start, end } = range;
    Error::new(
        ErrorKind::Busy,
        format!("blocks {start}..{end} are {why}: end that first, then try again"),
    )
}

#[cfg(all(loom, test))]
mod models;

#[cfg(all(test, not(loom)))]
#[expect(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
mod tests {
    use super::Access::{Exclusive, Read, Stable, Write};
    use super::*;

    #[test]
    fn r5_the_table_of_accesses() {
        let table = [
            (Read, [true, true, true, false]),
            (Write, [true, true, false, false]),
            (Stable, [true, false, true, false]),
            (Exclusive, [false; 4]),
        ];
        for (mine, row) in table {
            for (theirs, suffers) in Uses::KINDS.into_iter().zip(row) {
                assert_eq!(mine.suffers(theirs), suffers, "{mine:?} beside {theirs:?}");
                assert_eq!(theirs.suffers(mine), suffers, "{theirs:?} beside {mine:?}");
            }
        }
    }

    #[test]
    fn bookings_are_all_or_nothing() {
        let ledger = Ledger::default();
        ledger.book(&[4..8], Stable).unwrap();
        let refused = ledger.book(&[0..2, 7..9], Exclusive).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Busy);
        ledger.book(&[0..2], Exclusive).unwrap();
        ledger.release(&[0..2], Exclusive);
        ledger.release(&[4..8], Stable);
        ledger.book(&[0..2, 7..9], Exclusive).unwrap();
        ledger.release(&[0..2, 7..9], Exclusive);
        assert!(ledger.book(&[0..2, 1..3], Exclusive).is_err(), "two owners of one block");
        ledger.book(&[0..2, 1..3], Stable).unwrap();
        ledger.release(&[0..2, 1..3], Stable);
        assert_eq!((ledger.spans(), ledger.guarded.load(Ordering::SeqCst)), (0, 0));
    }

    /// Random bookings and releases against a table of blocks.
    #[test]
    fn spans_are_what_blocks_would_be() {
        let mut state = 7u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        let ledger = Ledger::default();
        let mut held: Vec<(Range<u64>, Access)> = Vec::new();
        for _ in 0..20_000 {
            if random(2) == 0 && !held.is_empty() {
                let (range, access) = held.swap_remove(random(held.len() as u64) as usize);
                ledger.release(std::slice::from_ref(&range), access);
                continue;
            }
            let start = random(60);
            let range = start..start + 1 + random(12);
            let access = Uses::KINDS[random(4) as usize];
            let free = held.iter().all(|(other, kind)| {
                other.end <= range.start || range.end <= other.start || kind.suffers(access)
            });
            let got = ledger.book(std::slice::from_ref(&range), access).is_ok();
            assert_eq!(got, free, "{range:?} for {access:?} beside {held:?}");
            if got {
                held.push((range, access));
            }
        }
        for (range, access) in held {
            ledger.release(&[range], access);
        }
        assert_eq!(ledger.spans(), 0);
    }

    #[test]
    fn neighbours_that_became_alike_are_one_span() {
        let ledger = Ledger::default();
        ledger.book(&[0..100], Read).unwrap();
        for at in 10..90 {
            ledger.book(&[at..at + 1], Stable).unwrap();
        }
        for at in 10..90 {
            ledger.release(&[at..at + 1], Stable);
        }
        assert_eq!(ledger.spans(), 1);
    }

    #[test]
    fn a_copy_meets_bookings_and_a_booking_meets_copies() {
        let ledger = Ledger::default();
        let touch = ledger.enlist();
        let write = |range: Range<u64>| ledger.touch(&touch, (range, Write), None, || ());
        ledger.book(&[4..8], Stable).unwrap();
        assert_eq!(write(7..9).unwrap_err().kind(), ErrorKind::Busy);
        assert!(write(8..9).is_ok() && write(0..4).is_ok());
        assert!(ledger.touch(&touch, (7..9, Read), None, || ()).is_ok());
        let both = ledger.touch(&touch, (0..1, Write), Some((5..6, Write)), || ());
        assert!(both.is_err());
        assert!(ledger.copy(&(5..6), Write, || ()).is_err());
        assert!(ledger.copy(&(5..6), Read, || ()).is_ok());
        ledger.release(&[4..8], Stable);
        ledger
            .touch(&touch, (10..12, Write), Some((20..22, Read)), || {
                assert!(ledger.book(&[11..12], Stable).is_err());
                assert!(ledger.book(&[21..30], Exclusive).is_err());
                assert!(ledger.book(&[22..30, 12..20], Exclusive).is_ok());
                assert!(ledger.book(&[20..22], Stable).is_ok());
            })
            .unwrap();
        ledger.book(&[11..12], Exclusive).unwrap();
        ledger.dismiss(&touch);
        assert!(ledger.read().touches.is_empty());
    }

    #[test]
    fn the_longest_ranges_fit_a_word() {
        let touch = Touch::default();
        let start = (1u64 << 42) - 1;
        touch.first.store(pack(&(start..start + MOST_BLOCKS), Write), Ordering::SeqCst);
        assert!(touch.suffers(&(0..start), Exclusive));
        assert!(!touch.suffers(&(0..start + 1), Exclusive));
        let end = start + MOST_BLOCKS;
        assert!(!touch.suffers(&(end - 1..end), Stable));
        assert!(touch.suffers(&(end..u64::MAX), Stable));
    }

    /// Bookings and copies of many threads, with a plain counter for each block
    /// that only an Exclusive booking or a lone copy may change.
    #[test]
    fn threads_exclude_each_other() {
        use std::sync::atomic::{AtomicI32, AtomicU64};
        let ledger = Ledger::default();
        // Above 0: writers inside; below: readers that suffer no writer.
        let users: Vec<AtomicI32> = (0..4).map(|_| AtomicI32::new(0)).collect();
        let met = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (ledger, users, met) = (&ledger, &users, &met);
                scope.spawn(move || {
                    let touch = ledger.enlist();
                    for round in 0..5_000u64 {
                        let block = (round * 7 + thread) % 4;
                        let user = &users[block as usize];
                        if thread % 2 == 0 {
                            let range = [block..block + 1];
                            if ledger.book(&range, Stable).is_ok() {
                                assert!(user.fetch_sub(1, Ordering::Relaxed) <= 0);
                                std::hint::spin_loop();
                                assert!(user.fetch_add(1, Ordering::Relaxed) < 0);
                                ledger.release(&range, Stable);
                                met.fetch_add(1, Ordering::Relaxed);
                            }
                        } else {
                            let _ = ledger.touch(&touch, (block..block + 1, Write), None, || {
                                assert!(user.fetch_add(1, Ordering::Relaxed) >= 0);
                                if round % 16 == 0 {
                                    std::thread::yield_now();
                                }
                                assert!(user.fetch_sub(1, Ordering::Relaxed) > 0);
                                met.fetch_add(1, Ordering::Relaxed);
                            });
                        }
                    }
                    ledger.dismiss(&touch);
                });
            }
        });
        assert!(met.into_inner() > 100);
    }
}
