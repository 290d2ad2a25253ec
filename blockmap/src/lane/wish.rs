//! Changes of the map that tasks of one lane want, so that one of them makes all.
//!
//! When several commands complete together, their tasks come to their records one
//! after the other. Each hangs its own on the lane's board, gives the others a
//! turn, and then looks: if nobody has done it yet, it takes all that hang there.
//! A task that ends early takes its own off. Only the lane's driver touches the board.

use super::{Io, Lane};
use crate::format::types::Record;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const OPEN: u8 = 0;
const TAKEN: u8 = 1;
const GRANTED: u8 = 2;

/// What one task wants: units of records, each of which takes effect wholly or not.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) units: Vec<Vec<Record>>,
    state: AtomicU8,
}

impl Wish {
    /// It is done.
    pub(crate) fn grant(&self) {
        self.state.store(GRANTED, Ordering::Relaxed);
    }
}

/// A task's wish, until this is dropped.
pub(crate) struct Hung {
    lane: Arc<Lane>,
    wish: Arc<Wish>,
}

impl Io {
    /// Hangs a wish on the lane's board.
    pub(crate) fn wish(&self, units: Vec<Vec<Record>>) -> Hung {
        let wish = Arc::new(Wish { units, state: AtomicU8::new(OPEN) });
        self.lane.board.lock().expect("no holder panics").push(wish.clone());
        Hung { lane: self.lane.clone(), wish }
    }
}

impl Hung {
    /// All open wishes, if this one is among them; they are this task's to grant, at
    /// once.
    pub(crate) fn lead(&self) -> Vec<Arc<Wish>> {
        if self.wish.state.load(Ordering::Relaxed) != OPEN {
            return Vec::new();
        }
        let all = std::mem::take(&mut *self.lane.board.lock().expect("no holder panics"));
        all.iter().for_each(|w| w.state.store(TAKEN, Ordering::Relaxed));
        all
    }

    /// Has somebody done it? If not, and it was taken, it could not be done with others.
    pub(crate) fn granted(&self) -> bool {
        self.wish.state.load(Ordering::Relaxed) == GRANTED
    }

    pub(crate) fn units(&self) -> &[Vec<Record>] {
        &self.wish.units
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        if self.wish.state.load(Ordering::Relaxed) == OPEN {
            let mut board = self.lane.board.lock().expect("no holder panics");
            board.retain(|w| !Arc::ptr_eq(w, &self.wish));
        }
    }
}
