//! The state word of a lease: sequence number and state, in one atomic.
//!
//! ```text
//!  63                         8    7     6      5       4      3       2   1   0
//! +----------------------------+-----+------+-------+-----+-------+-----------+
//! |          sequence          |QUIET|FENCED|DRAINED|GATED|SETTLED|   state   |
//! +----------------------------+-----+------+-------+-----+-------+-----------+
//! ```
//!
//! A low byte of zero is the one case that a short pin takes on its fast path:
//! held, and nothing else to think of.

use super::NotHeld;

/// The states of a lease, as its pins know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// May be pinned.
    Held,
    /// Asked for back: what is pinned may finish, nothing new is pinned.
    Recalled,
    /// The deadline has passed, and the taking is being made true.
    Fencing,
    /// Taken without its holder.
    Revoked,
    /// Given back, or taken while it was idle.
    Returned,
}

const STATE: u64 = 7;
/// A barrier has been passed since the lease stopped being held at this sequence
/// number: whoever may have pinned it before that is in the counters.
pub(super) const SETTLED: u64 = 1 << 3;
/// Short pins go through the gate, because somebody wanted an exclusive one.
pub(super) const GATED: u64 = 1 << 4;
/// All short pins from before the gate are gone.
pub(super) const DRAINED: u64 = 1 << 5;
/// Pins of this lease use real fences (membarrier was refused, or a test says so).
pub(super) const FENCED: u64 = 1 << 6;
/// It was settled and nothing was pinned. Whoever is counted after that looked at a
/// word that is not any more, and takes his count back.
pub(super) const QUIET: u64 = 1 << 7;
const LOW: u64 = 0xff;
const SEQ: u32 = 8;

/// A state word as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    /// Held, at the first sequence number.
    pub(super) fn first(flags: u64) -> Self {
        Self((1 << SEQ) | flags)
    }

    /// Held, not gated, not fenced: the fast path's case.
    #[inline(always)]
    pub(super) fn plain(self) -> bool {
        self.0 & LOW == 0
    }

    pub(super) fn held(self) -> bool {
        self.0 & STATE == State::Held as u64
    }

    pub(super) fn has(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    pub(super) fn seq(self) -> u64 {
        self.0 >> SEQ
    }

    pub(super) fn state(self) -> State {
        match self.0 & STATE {
            0 => State::Held,
            1 => State::Recalled,
            2 => State::Fencing,
            3 => State::Revoked,
            _ => State::Returned,
        }
    }

    /// The same word in another state.
    pub(super) fn to(self, state: State) -> Self {
        Self((self.0 & !STATE) | state as u64)
    }

    /// Held again, at the next sequence number.
    pub(super) fn renewed(self) -> Self {
        Self((self.to(State::Held).0 & !(SETTLED | QUIET)) + (1 << SEQ))
    }

    /// Nothing if it is held, else why it cannot be pinned.
    pub(super) fn may_pin(self) -> Result<(), NotHeld> {
        match self.state() {
            State::Held => Ok(()),
            State::Recalled => Err(NotHeld::Recalled),
            State::Fencing | State::Revoked => Err(NotHeld::Revoked),
            State::Returned => Err(NotHeld::Returned),
        }
    }
}
