//! Command identifiers: places that are taken and given back, with a generation each, so
//! that a completion is told apart that is late, comes twice or names what never was.
//!
//! A place has all that is known of its command in one line of the cache. That of an
//! operation which is one command, as nearly all are, is the operation itself: its tag and
//! its buffer are here, and nothing else has to be looked at. Free places are a chain.
//!
//! An identifier is the place in its lower ten bits and the generation above. No place has
//! all ten bits set, so none is FFFFh, which names no command (Base 1.4, 5.14.1.1).

use super::super::controller::MOST_DEPTH;
use crate::memory::Buffer;
use std::mem::ManuallyDrop;

const PLACE: u16 = MOST_DEPTH as u16;
const GENERATION: u16 = PLACE + 1;
/// Bit beside an identifier: its command is not in flight.
const IDLE: u32 = 1 << 16;
/// Not the number of an operation: the command is one itself.
const WHOLE: u16 = u16::MAX;
/// Not the number of a place.
const NONE: u16 = u16::MAX;

const _: () = assert!(GENERATION.is_power_of_two() && PLACE < NONE);
const _: () = assert!(size_of::<Place>() == 64);

/// One place.
#[derive(Debug)]
#[repr(align(64))]
struct Place {
    /// The identifier; with [`IDLE`], of the next command.
    cid: u32,
    /// The number of the command in the order of submission.
    number: u32,
    /// The operation that the command is of, or [`WHOLE`].
    op: u16,
    /// The next free place.
    next: u16,
    /// When it was first seen by [`Slab::age`], in milliseconds; 0 before.
    seen: u32,
    /// Of a whole operation.
    tag: u64,
    buf: Option<Buffer>,
}

/// What has ended with a command.
#[derive(Debug)]
pub(super) enum Ended {
    /// An operation.
    Whole {
        /// The caller's tag.
        tag: u64,
        /// Its buffer.
        buf: Option<Buffer>,
    },
    /// A part of the operation with this number.
    Part(u16),
}

/// Why a completion is no completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stray {
    /// There is no such place.
    Unknown,
    /// The command has completed before.
    Duplicate,
    /// Another command has the place.
    Late,
    /// The controller was not told of the command yet.
    Early,
}

/// The commands of one queue.
#[derive(Debug)]
pub(super) struct Slab {
    places: Box<[Place]>,
    /// The first of the free places.
    free: u16,
    in_flight: u32,
    /// Those of them that are parts of operations.
    parts: u32,
    next_number: u32,
    /// All numbers before this one were rung.
    rung: u32,
}

impl Slab {
    pub(super) fn new(depth: u32) -> Self {
        let place = |at: u32| Place {
            cid: at | IDLE,
            number: 0,
            op: WHOLE,
            next: if at + 1 < depth { (at + 1) as u16 } else { NONE },
            seen: 0,
            tag: 0,
            buf: None,
        };
        let free = if depth == 0 { NONE } else { 0 };
        let places = (0..depth).map(place).collect();
        Self { places, free, in_flight: 0, parts: 0, next_number: 0, rung: 0 }
    }

    pub(super) fn depth(&self) -> usize {
        self.places.len()
    }

    /// Commands in flight.
    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Operations in flight that are one command.
    #[inline]
    pub(super) fn whole(&self) -> u32 {
        self.in_flight - self.parts
    }

    /// The place of the next command: what [`Slab::fill`] takes.
    #[inline]
    pub(super) fn vacant(&self) -> Option<u16> {
        (usize::from(self.free) < self.places.len()).then_some(self.free)
    }

    /// Takes an operation that is one command, at [`Slab::vacant`]; its identifier.
    #[inline]
    pub(super) fn fill(&mut self, at: u16, tag: u64, buf: Buffer) -> u16 {
        // Neither the new buffer nor what was there, which is none, is ever dropped here: it
        // goes from the caller's memory to its place without another stop.
        let buf = ManuallyDrop::new(buf);
        let place = self.begin(at, WHOLE);
        debug_assert!(place.buf.is_none(), "an operation that ended gave its buffer back");
        std::mem::forget(place.buf.replace(ManuallyDrop::into_inner(buf)));
        place.tag = tag;
        place.cid as u16
    }

    /// A place for a command of an operation: its number and its identifier.
    #[inline]
    pub(super) fn take(&mut self, op: u16) -> Option<(u16, u16)> {
        let at = self.vacant()?;
        self.parts += 1;
        Some((at, self.begin(at, op).cid as u16))
    }

    #[inline]
    fn begin(&mut self, at: u16, op: u16) -> &mut Place {
        let place = &mut self.places[usize::from(at)];
        debug_assert!(place.cid & IDLE != 0 && at == self.free, "a place that is taken");
        self.free = place.next;
        self.in_flight += 1;
        (place.op, place.seen, place.number) = (op, 0, self.next_number);
        place.cid &= !IDLE;
        self.next_number = self.next_number.wrapping_add(1);
        place
    }

    /// Why a completion is none, if it is not.
    pub(super) fn judge(&self, cid: u16) -> Option<Stray> {
        match self.places.get(usize::from(cid & PLACE)) {
            None => Some(Stray::Unknown),
            Some(place) if place.cid != u32::from(cid) => Some(stray(place, cid)),
            Some(place) if self.is_early(place) => Some(Stray::Early),
            Some(_) => None,
        }
    }

    /// Later in the order than what was rung; both wrap.
    #[inline]
    fn is_early(&self, place: &Place) -> bool {
        place.number.wrapping_sub(self.rung).cast_signed() >= 0
    }

    /// Whether a completion names a command that is in flight and that the controller was told
    /// of.
    #[inline]
    pub(super) fn has(&self, cid: u16) -> bool {
        let place = self.places.get(usize::from(cid & PLACE));
        place.is_some_and(|place| place.cid == u32::from(cid) && !self.is_early(place))
    }

    /// The controller was told of all that were taken.
    #[inline]
    pub(super) fn rang(&mut self) {
        self.rung = self.next_number;
    }

    /// A completion: what ends with the command that it names. None where that is not in
    /// flight or the controller was not told of it; nothing has changed then.
    #[inline]
    pub(super) fn end(&mut self, cid: u16) -> Option<Ended> {
        self.has(cid).then(|| self.end_at(cid & PLACE))
    }

    #[inline]
    fn end_at(&mut self, at: u16) -> Ended {
        let place = &mut self.places[usize::from(at)];
        place.cid = u32::from((place.cid as u16).wrapping_add(GENERATION)) | IDLE;
        place.next = self.free;
        self.free = at;
        self.in_flight -= 1;
        match place.op {
            WHOLE => Ended::Whole { tag: place.tag, buf: place.buf.take() },
            op => {
                self.parts -= 1;
                Ended::Part(op)
            }
        }
    }

    /// Ends all: what ends with each.
    pub(super) fn end_all(&mut self, mut each: impl FnMut(Ended)) {
        for at in 0..self.places.len() {
            if self.places[at].cid & IDLE == 0 {
                each(self.end_at(at as u16));
            }
        }
        self.rung = self.next_number;
    }

    /// Notes the time at commands that were not seen before, and gives the time at which
    /// the oldest was; `now` is in milliseconds and not zero.
    pub(super) fn age(&mut self, now: u32) -> Option<u32> {
        let mut oldest: Option<u32> = None;
        for place in self.places.iter_mut().filter(|place| place.cid & IDLE == 0) {
            if place.seen == 0 {
                place.seen = now;
            }
            // The longest ago, though the time wrap.
            let age = |seen: u32| now.wrapping_sub(seen);
            if oldest.is_none_or(|seen| age(seen) < age(place.seen)) {
                oldest = Some(place.seen);
            }
        }
        oldest
    }
}

#[cold]
fn stray(place: &Place, cid: u16) -> Stray {
    let (idle, next) = (place.cid & IDLE != 0, place.cid as u16);
    match idle {
        true if cid == next.wrapping_sub(GENERATION) => Stray::Duplicate,
        // Was never given out.
        true if cid == next => Stray::Unknown,
        _ if cid == next.wrapping_add(GENERATION) => Stray::Unknown,
        _ => Stray::Late,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Pool;

    /// What a completion of `cid` does: the operation's number, or why it is none.
    fn end(slab: &mut Slab, cid: u16) -> Result<u16, Stray> {
        assert_eq!(slab.has(cid), slab.judge(cid).is_none());
        match (slab.judge(cid), slab.end(cid)) {
            (Some(stray), None) => Err(stray),
            (None, Some(Ended::Part(op))) => Ok(op),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn identifiers_are_told_apart() {
        let mut slab = Slab::new(3);
        assert_eq!(end(&mut slab, 0), Err(Stray::Unknown));
        assert_eq!(end(&mut slab, 3), Err(Stray::Unknown));
        assert_eq!(end(&mut slab, u16::MAX), Err(Stray::Unknown));
        let (at, cid) = slab.take(7).unwrap();
        assert_eq!((at, cid, slab.in_flight()), (0, 0, 1));
        assert_eq!(end(&mut slab, cid), Err(Stray::Early));
        slab.rang();
        assert_eq!(end(&mut slab, cid), Ok(7));
        assert_eq!((end(&mut slab, cid), slab.in_flight()), (Err(Stray::Duplicate), 0));
        let (at, next) = slab.take(8).unwrap();
        assert_eq!((at, next), (0, 1024));
        slab.rang();
        assert_eq!(end(&mut slab, cid), Err(Stray::Late));
        assert_eq!(end(&mut slab, next.wrapping_add(1024)), Err(Stray::Unknown));
        assert_eq!(end(&mut slab, next), Ok(8));
    }

    #[test]
    fn numbers_and_generations_wrap() {
        let mut slab = Slab::new(2);
        slab.next_number = u32::MAX - 3;
        slab.rung = slab.next_number;
        for round in 0..200u16 {
            let (_, a) = slab.take(round).unwrap();
            assert_eq!(end(&mut slab, a), Err(Stray::Early), "round {round}");
            slab.rang();
            let (_, b) = slab.take(round + 1).unwrap();
            assert!(slab.take(9).is_none());
            assert!(a != u16::MAX && b != u16::MAX && a != b);
            assert_eq!(end(&mut slab, b), Err(Stray::Early));
            assert_eq!(end(&mut slab, a), Ok(round));
            slab.rang();
            assert_eq!(end(&mut slab, b), Ok(round + 1));
        }
    }

    #[test]
    fn all_end_once_and_none_after() {
        let mut slab = Slab::new(4);
        let cids: Vec<u16> = (0..3).map(|op| slab.take(op).unwrap().1).collect();
        let mut ended = 0;
        slab.end_all(|_| ended += 1);
        assert_eq!((ended, slab.in_flight()), (3, 0));
        slab.rang();
        for cid in cids {
            assert_eq!(end(&mut slab, cid), Err(Stray::Duplicate));
        }
        slab.end_all(|_| panic!("nothing is in flight"));
        let all: Vec<u16> = std::iter::from_fn(|| slab.take(0)).map(|(at, _)| at).collect();
        assert_eq!(all.len(), 4, "each place is free once: {all:?}");
    }

    #[test]
    fn whole_operations_come_back_with_tag_and_buffer() {
        let (pool, mut slab) = (Pool::new(), Slab::new(2));
        let (part, _) = slab.take(5).unwrap();
        let at = slab.vacant().unwrap();
        assert_ne!(at, part);
        let cid = slab.fill(at, 77, pool.take(8192).unwrap());
        assert_eq!((slab.vacant(), slab.in_flight(), slab.whole()), (None, 2, 1));
        slab.rang();
        match slab.end(cid) {
            Some(Ended::Whole { tag: 77, buf: Some(buf) }) => assert_eq!(buf.len(), 8192),
            other => panic!("{other:?}"),
        }
        assert_eq!((slab.in_flight(), slab.whole()), (1, 0));
        assert_eq!(slab.judge(cid), Some(Stray::Duplicate));
        slab.end_all(|ended| assert!(matches!(ended, Ended::Part(5))));
        assert_eq!((slab.in_flight(), slab.whole(), pool.taken()), (0, 0, 0));
    }

    #[test]
    fn age_is_counted_from_when_a_command_was_seen() {
        let mut slab = Slab::new(4);
        assert_eq!(slab.age(5), None);
        let (_, first) = slab.take(0).unwrap();
        assert_eq!(slab.age(u32::MAX - 1), Some(u32::MAX - 1));
        slab.take(1).unwrap();
        slab.rang();
        assert_eq!(slab.age(100), Some(u32::MAX - 1), "the time wrapped");
        end(&mut slab, first).unwrap();
        assert_eq!(slab.age(200), Some(100));
        slab.take(2).unwrap();
        assert_eq!(slab.age(300), Some(100), "the place's former command is not its own");
    }
}
