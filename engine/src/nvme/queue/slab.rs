//! Command identifiers: places that are taken and given back, with a generation each, so
//! that a completion is told apart that is late, comes twice or names what never was.
//!
//! An identifier is the place in its lower ten bits and the generation above. No place has
//! all ten bits set, so none is FFFFh, which names no command (Base 1.4, 5.14.1.1).

use super::super::controller::MOST_DEPTH;

const PLACE: u16 = MOST_DEPTH as u16;
const GENERATION: u16 = PLACE + 1;

const _: () = assert!(GENERATION.is_power_of_two());

/// One place.
#[derive(Debug, Clone, Copy)]
struct Command {
    /// The identifier now, or the next one.
    cid: u16,
    /// The operation that it is of.
    op: u16,
    live: bool,
    /// The number of the command in the order of submission.
    number: u32,
    /// When it was first seen by [`Slab::age`], in milliseconds; 0 before.
    seen: u32,
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
    places: Box<[Command]>,
    free: Vec<u16>,
    next_number: u32,
    /// All numbers before this one were rung.
    rung: u32,
}

impl Slab {
    pub(super) fn new(depth: u32) -> Self {
        let place = |at: u32| Command { cid: at as u16, op: 0, live: false, number: 0, seen: 0 };
        Self {
            places: (0..depth).map(place).collect(),
            free: (0..depth as u16).rev().collect(),
            next_number: 0,
            rung: 0,
        }
    }

    /// Commands in flight.
    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        (self.places.len() - self.free.len()) as u32
    }

    /// A place for a command of an operation: its number and its identifier.
    #[inline]
    pub(super) fn take(&mut self, op: u16) -> Option<(u16, u16)> {
        let at = self.free.pop()?;
        let command = &mut self.places[at as usize];
        (command.op, command.live, command.seen) = (op, true, 0);
        command.number = self.next_number;
        self.next_number = self.next_number.wrapping_add(1);
        Some((at, command.cid))
    }

    /// Why a completion is none, if it is not.
    pub(super) fn judge(&self, cid: u16) -> Option<Stray> {
        match self.places.get(usize::from(cid & PLACE)) {
            None => Some(Stray::Unknown),
            Some(command) if command.cid != cid || !command.live => Some(stray(command, cid)),
            Some(command) if self.is_early(command) => Some(Stray::Early),
            Some(_) => None,
        }
    }

    /// Later in the order than what was rung; both wrap.
    #[inline]
    fn is_early(&self, command: &Command) -> bool {
        command.number.wrapping_sub(self.rung).cast_signed() >= 0
    }

    /// The controller was told of all that were taken.
    #[inline]
    pub(super) fn rang(&mut self) {
        self.rung = self.next_number;
    }

    /// A completion: the operation whose command it ends.
    ///
    /// # Errors
    /// Why it is none; nothing has changed then.
    #[inline]
    pub(super) fn end(&mut self, cid: u16) -> Result<u16, Stray> {
        let at = cid & PLACE;
        if let Some(stray) = self.judge(cid) {
            return Err(stray);
        }
        let command = &mut self.places[usize::from(at)];
        command.live = false;
        command.cid = cid.wrapping_add(GENERATION);
        let op = command.op;
        self.free.push(at);
        Ok(op)
    }

    /// Ends all: the operation of each, as often as it had commands.
    pub(super) fn end_all(&mut self, mut each: impl FnMut(u16)) {
        for (at, command) in self.places.iter_mut().enumerate() {
            if std::mem::take(&mut command.live) {
                command.cid = command.cid.wrapping_add(GENERATION);
                self.free.push(at as u16);
                each(command.op);
            }
        }
        self.rung = self.next_number;
    }

    /// Notes the time at commands that were not seen before, and gives the time at which
    /// the oldest was; `now` is in milliseconds and not zero.
    pub(super) fn age(&mut self, now: u32) -> Option<u32> {
        let mut oldest: Option<u32> = None;
        for command in self.places.iter_mut().filter(|command| command.live) {
            if command.seen == 0 {
                command.seen = now;
            }
            // The longest ago, though the time wrap.
            let age = |seen: u32| now.wrapping_sub(seen);
            if oldest.is_none_or(|seen| age(seen) < age(command.seen)) {
                oldest = Some(command.seen);
            }
        }
        oldest
    }
}

#[cold]
fn stray(command: &Command, cid: u16) -> Stray {
    match (command.live, command.cid) {
        (false, next) if cid == next.wrapping_sub(GENERATION) => Stray::Duplicate,
        // Was never given out.
        (_, next) if cid == next.wrapping_add(GENERATION) || (!command.live && cid == next) => {
            Stray::Unknown
        }
        _ => Stray::Late,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_told_apart() {
        let mut slab = Slab::new(3);
        assert_eq!(slab.end(0), Err(Stray::Unknown));
        assert_eq!(slab.end(3), Err(Stray::Unknown));
        assert_eq!(slab.end(u16::MAX), Err(Stray::Unknown));
        let (at, cid) = slab.take(7).unwrap();
        assert_eq!((at, cid, slab.in_flight()), (0, 0, 1));
        assert_eq!(slab.end(cid), Err(Stray::Early));
        slab.rang();
        assert_eq!(slab.end(cid), Ok(7));
        assert_eq!((slab.end(cid), slab.in_flight()), (Err(Stray::Duplicate), 0));
        let (at, next) = slab.take(8).unwrap();
        assert_eq!((at, next), (0, 1024));
        slab.rang();
        assert_eq!(slab.end(cid), Err(Stray::Late));
        assert_eq!(slab.end(next.wrapping_add(1024)), Err(Stray::Unknown));
        assert_eq!(slab.end(next), Ok(8));
    }

    #[test]
    fn numbers_and_generations_wrap() {
        let mut slab = Slab::new(2);
        slab.next_number = u32::MAX - 3;
        slab.rung = slab.next_number;
        for round in 0..200u16 {
            let (_, a) = slab.take(round).unwrap();
            assert_eq!(slab.end(a), Err(Stray::Early), "round {round}");
            slab.rang();
            let (_, b) = slab.take(round + 1).unwrap();
            assert!(slab.take(9).is_none());
            assert!(a != u16::MAX && b != u16::MAX && a != b);
            assert_eq!(slab.end(b), Err(Stray::Early));
            assert_eq!(slab.end(a), Ok(round));
            slab.rang();
            assert_eq!(slab.end(b), Ok(round + 1));
        }
    }

    #[test]
    fn all_end_once_and_none_after() {
        let mut slab = Slab::new(4);
        let cids: Vec<u16> = (0..3).map(|op| slab.take(op).unwrap().1).collect();
        let mut ended = Vec::new();
        slab.end_all(|op| ended.push(op));
        assert_eq!((ended.len(), slab.in_flight()), (3, 0));
        slab.rang();
        for cid in cids {
            assert_eq!(slab.end(cid), Err(Stray::Duplicate));
        }
        slab.end_all(|_| panic!("nothing is in flight"));
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
        slab.end(first).unwrap();
        assert_eq!(slab.age(200), Some(100));
        slab.take(2).unwrap();
        assert_eq!(slab.age(300), Some(100), "the place's former command is not its own");
    }
}
