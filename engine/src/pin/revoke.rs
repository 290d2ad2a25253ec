//! The revoker's side: states change, one barrier, then the counters are read.

use super::barrier;
use super::fork::forked;
use super::state::{COMMAND, EXCLUSIVE, PinState};
use super::sync::{Fault, broken};
use super::table;
use super::word::{QUIET, SETTLED, State, Word};
use std::io;
use std::sync::atomic::Ordering::Acquire;

/// What is pinned in a lease at some moment, for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Short pins of threads.
    pub short: u64,
    /// Long pins, and short pins that were counted with them because an exclusive pin had
    /// been taken before.
    pub long: u64,
    /// Commands in flight.
    pub io: u64,
    /// An exclusive pin is there.
    pub exclusive: bool,
}

impl Counts {
    /// True if nothing is pinned.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Asks for leases back: afterwards none of them is pinned anew, and
/// [`PinState::is_quiet`] tells the truth about each. One membarrier for all
/// (up to 5 us). Leases that were not held any more are settled too.
///
/// # Errors
/// What membarrier reports, if the process took that call from itself. The leases
/// are recalled then, but are not found quiet until another recall succeeds.
pub fn recall<S: AsRef<PinState>>(states: &[S]) -> io::Result<()> {
    let flipped: Vec<u64> = states.iter().map(|state| state.as_ref().flip()).collect();
    barrier::everywhere()?;
    for (state, seq) in states.iter().zip(flipped) {
        state.as_ref().settle(seq);
    }
    Ok(())
}

/// For each lease whether it is quiet, as [`PinState::is_quiet`] says, under one
/// hold of the lock of the counters.
pub fn quiet<S: AsRef<PinState>>(states: &[S]) -> Vec<bool> {
    let settled: Vec<Option<Word>> = states.iter().map(|state| state.as_ref().settled()).collect();
    let mut quiet = Vec::with_capacity(states.len());
    table::sums_of(states.iter().map(|state| state.as_ref().slot), |sums| {
        let at = quiet.len();
        let state = states[at].as_ref();
        // The gate last: what left the counters for the gate is there.
        let empty = || sums.quiet() && state.gate.load(Acquire) == 0;
        quiet.push(settled[at].is_some_and(|word| state.quiet_in(word, empty)));
    });
    // A forked child has no counters.
    quiet.resize(states.len(), false);
    quiet
}

impl AsRef<PinState> for PinState {
    fn as_ref(&self) -> &PinState {
        self
    }
}

impl PinState {
    /// Recalls it if it is held. Gives the sequence number at which it is not held.
    fn flip(&self) -> u64 {
        let flip = |word: Word| word.held().then(|| word.to(State::Recalled));
        self.shift(flip).unwrap_or_else(|| self.load()).seq()
    }

    /// A barrier was passed since it was not held at `seq`.
    fn settle(&self, seq: u64) {
        self.shift(|word| {
            let open = !word.held() && word.seq() == seq && !word.has(SETTLED);
            open.then_some(Word(word.0 | SETTLED))
        });
    }

    fn settled(&self) -> Option<Word> {
        let word = self.load();
        (!word.held() && word.has(SETTLED) && !forked()).then_some(word)
    }

    /// Whether it was quiet in this settled word, or is now. Remembered: who began to
    /// pin it before the recall and was held up may be counted for a moment at any time
    /// later, until he looks at the word again.
    fn quiet_in(&self, word: Word, empty: impl FnOnce() -> bool) -> bool {
        if word.has(QUIET) {
            return true;
        }
        let quiet = empty();
        if quiet && !broken(Fault::Forgetful) {
            self.shift(|now| {
                let same = !now.held() && now.seq() == word.seq() && !now.has(QUIET);
                same.then_some(Word(now.0 | QUIET))
            });
        }
        quiet
    }

    /// True if it was recalled, nothing is pinned, and nothing will be until it
    /// is held again. What was done under its pins is seen by the caller. False
    /// while it is held, before the recall has returned, and in a forked child.
    ///
    /// Once true it stays so. While it is false each pin that ends wakes the waiter.
    pub fn is_quiet(&self) -> bool {
        let empty = || table::sums(self.slot).quiet() && self.gate.load(Acquire) == 0;
        self.settled().is_some_and(|word| self.quiet_in(word, empty))
    }

    /// What is pinned, in any state. Exact when it is settled; else pins that come
    /// and go meanwhile may be missed or counted.
    pub fn counts(&self) -> Counts {
        let sums = table::sums(self.slot);
        let gate = self.gate.load(Acquire);
        Counts {
            short: sums.short,
            long: gate % COMMAND,
            io: sums.io + (gate & !EXCLUSIVE) / COMMAND,
            exclusive: gate & EXCLUSIVE != 0,
        }
    }

    /// Recalled to held, with the next sequence number, which it gives: after a
    /// refresh, when it must be quiet because its layout changed, or when the
    /// recall is taken back, pinned or not. None if it is not recalled.
    pub fn renew(&self) -> Option<u64> {
        let renew = |word: Word| (word.state() == State::Recalled).then(|| word.renewed());
        Some(self.shift(renew)?.seq())
    }

    /// Recalled to fencing: its deadline has passed. False if it is not recalled.
    pub fn fence(&self) -> bool {
        self.step_to(&[State::Recalled], State::Fencing)
    }

    /// Fencing to recalled: the taking has failed, and is tried again later. It is not held
    /// meanwhile. False if it is not fencing.
    pub fn unfence(&self) -> bool {
        self.step_to(&[State::Fencing], State::Recalled)
    }

    /// Recalled or fencing to revoked. False if it is neither.
    pub fn revoke(&self) -> bool {
        self.step_to(&[State::Recalled, State::Fencing], State::Revoked)
    }

    /// Recalled to returned: by its holder, or taken while it was idle. False if it
    /// is not recalled.
    pub fn give_back(&self) -> bool {
        self.step_to(&[State::Recalled], State::Returned)
    }

    fn step_to(&self, from: &[State], to: State) -> bool {
        self.shift(|word| from.contains(&word.state()).then(|| word.to(to))).is_some()
    }
}
