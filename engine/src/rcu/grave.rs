//! What was taken out of slots and may still be read.

#![cfg(not(all(loom, test)))]

use super::record::{Readers, none_late, readers};
use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

type Value = Arc<dyn Any + Send + Sync>;

/// Two generations: what came last, and what waits for the readers of before.
struct Grave {
    new: Vec<Value>,
    old: Vec<Value>,
    /// Who may read what is old. None: nobody has looked yet.
    readers: Option<Readers>,
}

static GRAVE: Mutex<Grave> = Mutex::new(Grave { new: Vec::new(), old: Vec::new(), readers: None });

/// How many there are, so that nobody takes the lock for nothing.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Keeps a value until nobody reads it who found it in its slot.
pub(super) fn bury(value: Value) {
    GRAVE.lock().unwrap_or_else(PoisonError::into_inner).new.push(value);
    COUNT.fetch_add(1, Relaxed);
}

/// Frees what was evicted, of all slots of the process, as far as nobody reads it any
/// more, and says how much still waits. Never waits itself. A system call, if there is
/// anything to free, that interrupts the process's other running threads: evict several
/// before.
pub fn sweep() -> usize {
    if COUNT.load(Relaxed) == 0 {
        return 0;
    }
    let mut freed = Vec::new();
    let left = {
        let mut grave = GRAVE.lock().unwrap_or_else(PoisonError::into_inner);
        grave.free_quiet(&mut freed);
        // The first time for what is old from before, the second for what is new.
        grave.free_quiet(&mut freed);
        grave.new.len() + grave.old.len()
    };
    COUNT.fetch_sub(freed.len(), Relaxed);
    // Not under the lock: large structures may go with a value.
    drop(freed);
    left
}

impl Grave {
    fn free_quiet(&mut self, freed: &mut Vec<Value>) {
        if self.old.is_empty() {
            std::mem::swap(&mut self.old, &mut self.new);
            self.readers = None;
        }
        if self.old.is_empty() {
            return;
        }
        if self.readers.is_none() {
            // Without a barrier nothing is known; the next call tries again.
            self.readers = readers().ok();
        }
        if self.readers.as_mut().is_some_and(|r| r.gone()) && none_late() {
            freed.append(&mut self.old);
            self.readers = None;
        }
    }
}
