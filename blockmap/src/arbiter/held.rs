//! The state of one lease or seal, and how it is packed into a node.
//!
//! A node's word is, from the lowest bit: 8 bits of lane, 2 of state, one that says that
//! nobody will acknowledge the end, 16 of what its holder declared, 37 of sequence number.
//! The lane of a lease is its access; that of a seal is its kinds, whether it breaks, and the
//! highest bit.

use super::intervals::Node;
use super::kinds::{Access, Held, Holder, Kinds};

/// Where a lease is in its life; the number is its sequence number. A seal is `Held`
/// while it is set, or `Recalled`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// In force.
    Held {
        /// The sequence number.
        seq: u64,
    },
    /// In force towards others; to be refreshed before its next use.
    Stale {
        /// The sequence number.
        seq: u64,
    },
    /// Asked for: no new pins, and fenced at the deadline.
    Recalled {
        /// The sequence number.
        seq: u64,
        /// When it is over, in nanoseconds of the caller's clock.
        deadline: u64,
    },
    /// Taken while nothing used it. In nobody's way; its holder has not acknowledged it.
    Taken {
        /// The sequence number.
        seq: u64,
    },
    /// Being fenced: stands in the way until that is done.
    Fencing {
        /// The sequence number.
        seq: u64,
    },
    /// Fenced. In nobody's way; its holder has not acknowledged it.
    Revoked {
        /// The sequence number.
        seq: u64,
    },
}

impl State {
    /// The sequence number.
    pub fn seq(self) -> u64 {
        match self {
            State::Held { seq }
            | State::Stale { seq }
            | State::Recalled { seq, .. }
            | State::Taken { seq }
            | State::Fencing { seq }
            | State::Revoked { seq } => seq,
        }
    }
}

/// A lease or seal, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Whose it is and where it lies.
    pub holder: Holder,
    /// Where it is in its life.
    pub state: State,
}

/// The state of a node; whether it is Taken or Revoked is not said by nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Held = 0,
    Stale = 1,
    Recalled = 2,
    Fencing = 3,
}

/// Nanoseconds.
const MS: u64 = 1_000_000;

const PHASE: u32 = 8;
const ALONE: u64 = 1 << 10;
/// Milliseconds.
const HOLD: u32 = 11;
const SEQ: u32 = 27;
/// The greatest sequence number that the word has room for: at one transition of the same
/// lease a microsecond it is reached after 38 hours, and then it stays. Who pins goes by the
/// number of the state word.
const SEQ_MAX: u64 = u64::MAX >> SEQ;

const SEAL: u8 = 1 << 7;
const BREAKABLE: u8 = 1 << 6;

/// The lane of a lease or seal.
pub(super) fn lane(held: Held) -> u8 {
    match held {
        Held::Lease(access) => access as u8,
        Held::Seal { kinds, breakable } => {
            SEAL | if breakable { BREAKABLE } else { 0 } | (kinds.bits() & Kinds::all().bits())
        }
    }
}

/// What lies in a lane.
pub(super) fn held(lane: u8) -> Held {
    match lane & SEAL {
        0 => Held::Lease(Access::ALL[usize::from(lane & 3)]),
        _ => {
            Held::Seal { kinds: Kinds::from_bits_truncate(lane), breakable: lane & BREAKABLE != 0 }
        }
    }
}

impl Node {
    /// Packs what a lease or seal begins with.
    pub(super) fn begin(&mut self, what: Held, seq: u64, hold_ns: u64) {
        let hold = hold_ns.div_ceil(MS).min(u64::from(u16::MAX));
        self.word = u64::from(lane(what)) | (hold << HOLD) | (seq.clamp(1, SEQ_MAX) << SEQ);
    }

    /// How long its holder may keep a pin, in nanoseconds.
    pub(super) fn hold_ns(&self) -> u64 {
        u64::from((self.word >> HOLD) as u16) * MS
    }

    pub(super) fn lane(&self) -> u8 {
        self.word as u8
    }

    pub(super) fn held(&self) -> Held {
        held(self.lane())
    }

    pub(super) fn is_lease(&self) -> bool {
        self.lane() & SEAL == 0
    }

    pub(super) fn seq(&self) -> u64 {
        self.word >> SEQ
    }

    pub(super) fn phase(&self) -> Phase {
        match (self.word >> PHASE) & 3 {
            0 => Phase::Held,
            1 => Phase::Stale,
            2 => Phase::Recalled,
            _ => Phase::Fencing,
        }
    }

    /// Goes to a state with the next sequence number, which it returns.
    pub(super) fn go(&mut self, phase: Phase) -> u64 {
        let seq = (self.seq() + 1).min(SEQ_MAX);
        let kept = self.word & (u64::from(u8::MAX) | ALONE | (u64::from(u16::MAX) << HOLD));
        self.word = kept | ((phase as u64) << PHASE) | (seq << SEQ);
        seq
    }

    /// Nobody will acknowledge the end: the session has ended, or the holder returned it.
    pub(super) fn is_alone(&self) -> bool {
        self.word & ALONE != 0
    }

    pub(super) fn leave_alone(&mut self) {
        self.word |= ALONE;
    }

    pub(super) fn holder(&self) -> Holder {
        Holder { session: self.session(), id: self.id, held: self.held(), span: self.span }
    }
}
