//! The budget of memory for what can be read again: nodes and space bitmaps.
//!
//! Every node in memory carries a [`Charge`]: its bytes, on the account of its
//! store, until nobody holds it. A node that was made and is on no medium yet is
//! *dirty* and stays. Once it has been written it may be *evicted*: its link lets
//! go of it, and whoever comes by next reads it again. A block that was written
//! keeps its content until nothing can name it (law B3), so a node that is read
//! again is the node that was evicted.
//!
//! Which one goes is decided by the clock rule: nodes stand in a circle, each
//! look-up leaves a mark on the nodes that it passes (a store to a line that it
//! has just read, and only if the mark is missing), the hand takes marks away and
//! evicts what has none. Whoever reads a node or changes the map moves the hand by
//! a few steps if the account is over the budget; there is no thread for it.
//!
//! An operation that needs more nodes at once than the budget holds still ends:
//! what it has read it holds (see [`Hold`]), and what is held is not evicted. So
//! the account may pass the budget by what operations in flight hold, by what a
//! replay makes, and by nothing else.

use freehold_engine::rcu;
use std::any::Any;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

/// Steps of the hand in one slice.
const STEPS: usize = 64;

/// Evictions after which what was evicted is freed.
const SWEEP: usize = 8;

/// What one place in the circle costs, with room for it to grow.
pub(crate) const PLACE: usize = 2 * size_of::<Weak<dyn Evict>>();

/// Keeps what was read from being evicted until the operation that needs it is over.
pub(crate) type Hold = Arc<dyn Any + Send + Sync>;

/// Something that can be read again.
pub(crate) trait Evict: Send + Sync {
    /// Lets go of it if nobody uses it; false if it stays in the circle.
    fn evict(&self) -> bool;
}

/// The account of a store.
pub(crate) struct Cache {
    budget: u64,
    clean: AtomicU64,
    dirty: AtomicU64,
    /// Evicted, and not freed yet.
    leaving: AtomicU64,
    evictions: AtomicU64,
    circle: Mutex<VecDeque<Weak<dyn Evict>>>,
}

impl Cache {
    /// An account with so many bytes to spend.
    pub(crate) fn new(budget: u64) -> Arc<Self> {
        Arc::new(Cache {
            budget,
            clean: AtomicU64::new(0),
            dirty: AtomicU64::new(0),
            leaving: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            circle: Mutex::default(),
        })
    }

    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    /// Bytes in memory, dirty ones and those that leave included.
    pub(crate) fn used(&self) -> u64 {
        self.staying() + self.leaving.load(Ordering::Relaxed)
    }

    fn staying(&self) -> u64 {
        self.clean.load(Ordering::Relaxed) + self.dirty()
    }

    fn account(&self, state: u8) -> &AtomicU64 {
        match state {
            DIRTY => &self.dirty,
            LEAVING => &self.leaving,
            _ => &self.clean,
        }
    }

    /// Bytes of nodes that are on no medium yet.
    pub(crate) fn dirty(&self) -> u64 {
        self.dirty.load(Ordering::Relaxed)
    }

    /// Nodes and bitmaps evicted so far.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// More is in memory than should be.
    pub(crate) fn is_over(&self) -> bool {
        self.staying() > self.budget
    }

    /// Bytes that are on the medium as well came into memory.
    pub(crate) fn add(&self, bytes: u64) {
        self.clean.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Such bytes were evicted.
    pub(crate) fn evicted(&self, bytes: u64) {
        self.clean.fetch_sub(bytes, Ordering::Relaxed);
        self.evictions.fetch_add(1, Ordering::Relaxed);
    }

    /// What is on the medium from now on may be evicted. Two other places are
    /// looked at on the way, so that those of links which are gone do not pile up.
    pub(crate) fn enter(&self, what: Weak<dyn Evict>) {
        let mut circle = self.circle.lock().expect("no holder panics");
        for _ in 0..2 {
            if let Some(w) = circle.pop_front().filter(|w| w.strong_count() > 0) {
                circle.push_back(w);
            }
        }
        circle.push_back(what);
    }

    /// Moves the hand a few steps if there is need. True if there is need still.
    pub(crate) fn trim(&self) -> bool {
        let mut evicted = 0;
        for _ in 0..STEPS {
            // What waits takes others along when it goes: how much is known then.
            if evicted == SWEEP {
                evicted = 0;
                rcu::sweep();
            }
            if !self.is_over() {
                break;
            }
            // Whoever has the circle does this very work.
            let Ok(mut circle) = self.circle.try_lock() else { break };
            let Some(w) = circle.pop_front() else { break };
            let Some(what) = w.upgrade() else { continue };
            if what.evict() {
                self.evictions.fetch_add(1, Ordering::Relaxed);
                evicted += 1;
            } else {
                circle.push_back(w);
            }
            // What goes with it may be a large subtree: not under the latch.
            drop(circle);
        }
        rcu::sweep();
        self.is_over()
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} bytes", self.used(), self.budget)
    }
}

/// A node's bytes on the account; taken off when this is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    cache: Arc<Cache>,
    bytes: u32,
    state: AtomicU8,
}

/// On which account a charge stands.
const CLEAN: u8 = 0;
const DIRTY: u8 = 1;
const LEAVING: u8 = 2;

impl Charge {
    /// A node that was made.
    pub(crate) fn dirty(cache: &Arc<Cache>, bytes: usize) -> Self {
        cache.dirty.fetch_add(bytes as u64, Ordering::Relaxed);
        Charge { cache: cache.clone(), bytes: bytes as u32, state: AtomicU8::new(DIRTY) }
    }

    /// A node that was read.
    pub(crate) fn clean(cache: &Arc<Cache>, bytes: usize) -> Self {
        cache.add(bytes as u64);
        Charge { cache: cache.clone(), bytes: bytes as u32, state: AtomicU8::new(CLEAN) }
    }

    /// It is on the medium now; the account that it is on.
    pub(crate) fn written(&self) -> &Arc<Cache> {
        self.move_on(DIRTY, CLEAN);
        &self.cache
    }

    /// It was evicted, and goes when the last look-up that may have found it is over.
    pub(crate) fn leaves(&self) {
        self.move_on(CLEAN, LEAVING);
    }

    fn move_on(&self, from: u8, to: u8) {
        if self.state.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.cache.account(to).fetch_add(u64::from(self.bytes), Ordering::Relaxed);
            self.cache.account(from).fetch_sub(u64::from(self.bytes), Ordering::Relaxed);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let account = self.cache.account(*self.state.get_mut());
        account.fetch_sub(u64::from(self.bytes), Ordering::Relaxed);
    }
}
