//! What a crash hits: a store's medium, alone or with that of its journal. Both die at one
//! moment, and each keeps, loses, tears and reorders what was not durable by itself.

use freehold::{OpenOptions, Store};
use freehold_engine::medium::Medium;
use freehold_engine::sim::{SimMedium, SimOptions, Survival};
use std::sync::Arc;

/// Where the journal of a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// In the store.
    Inside,
    /// On a medium that takes writes.
    Blocks,
    /// On a medium that the CPU stores to.
    Window,
}

/// Blocks of a journal's medium: the shortest ring there is, behind its headers.
const JOURNAL: u64 = 130;

/// One or two simulated media.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The store's.
    pub store: SimMedium,
    /// The journal's.
    pub journal: Option<SimMedium>,
}

impl Machine {
    /// Media of zeroes.
    pub fn new(options: SimOptions, journal: Journal) -> Self {
        let apart = |window| {
            let seed = options.seed ^ 0x9e37;
            SimMedium::new(SimOptions { blocks: JOURNAL, window, seed, ..options.clone() })
        };
        let journal = match journal {
            Journal::Inside => None,
            Journal::Blocks => Some(apart(false)),
            Journal::Window => Some(apart(true)),
        };
        let store = SimMedium::new(options.clone());
        if let Some(journal) = &journal {
            store.beside(journal);
        }
        Machine { store, journal }
    }

    /// The journal's medium as a store takes it.
    pub fn beside(&self) -> Option<Arc<dyn Medium>> {
        self.journal.as_ref().map(SimMedium::medium)
    }

    /// Makes a store.
    ///
    /// # Errors
    /// Why there is none.
    pub fn format(&self) -> Result<Store, String> {
        Store::format_on_with(self.store.medium(), self.beside())
            .map_err(|e| format!("format: {e}"))
    }

    /// Opens the store.
    ///
    /// # Errors
    /// Why it does not open.
    pub fn open(&self, options: &OpenOptions) -> Result<Store, String> {
        Store::open_on_with(self.store.medium(), self.beside(), options)
            .map_err(|e| format!("open: {:?}: {e}", e.kind()))
    }

    /// What a crash at a step leaves; the machine itself goes on.
    pub fn crash_of(&self, step: usize, survival: Survival, seed: u64) -> Machine {
        if self.journal.is_none() {
            return Machine { store: self.store.crash_of(step, survival, seed), journal: None };
        }
        let (store, journal) = self.store.crash_of_both(step, survival, seed);
        Machine { store, journal: Some(journal) }
    }
}
