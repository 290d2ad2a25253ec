//! What the models share: one lease, and what must never be seen of it.

use super::super::{PinRef, PinState, Waiter, Wake};
use super::world::{AtomicU64, must, step};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Plain, Ordering::Relaxed, Ordering::SeqCst};

/// A lease and what is done under its pins. `Plain` atomics are the observer's:
/// loom does not order by them, nor switch threads there.
pub(super) struct Scene {
    pub(super) lease: PinRef,
    /// Pins in use at this moment.
    inside: Plain,
    /// Uses that ended.
    ended: Plain,
    /// An exclusive pin is in use.
    alone: Plain,
    /// What the uses write, one each.
    written: AtomicU64,
    /// Set by whoever found the lease quiet.
    taken: AtomicU64,
    woken: Arc<Plain>,
}

struct Bell(Arc<Plain>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.fetch_add(1, SeqCst);
    }
}

impl Scene {
    pub(super) fn new() -> Arc<Self> {
        let woken = Arc::new(Plain::new(0));
        let lease = PinState::new(&Waiter::new(Bell(woken.clone()))).shared();
        let plain = || Plain::new(0);
        Arc::new(Self {
            lease,
            inside: plain(),
            ended: plain(),
            alone: plain(),
            written: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            woken,
        })
    }

    /// A use begins: nobody has taken the lease.
    pub(super) fn enter(&self) {
        must(self.alone.load(SeqCst) == 0, "a pin beside an exclusive one");
        self.inside.fetch_add(1, SeqCst);
        must(self.taken.load(Relaxed) == 0, "a pin of a lease that was taken");
    }

    /// It ends, and has left something behind.
    pub(super) fn leave(&self) {
        step();
        self.written.fetch_add(1, Relaxed);
        self.inside.fetch_sub(1, SeqCst);
        self.ended.fetch_add(1, SeqCst);
    }

    /// A whole use, if it may be.
    pub(super) fn use_once(&self) {
        if let Ok(pin) = self.lease.pin() {
            self.enter();
            self.leave();
            drop(pin);
        }
    }

    /// Looks, after a recall. If it is quiet, nobody is inside, all that was written
    /// there is seen, and the lease is taken. Else somebody must be woken later.
    pub(super) fn take_if_quiet(&self) -> bool {
        let quiet = self.lease.is_quiet();
        if quiet {
            must(self.inside.load(SeqCst) == 0, "quiet with a pin inside");
            let written = self.written.load(Relaxed);
            must(written >= self.ended.load(SeqCst), "quiet without what was written");
            self.taken.store(1, Relaxed);
            step();
            must(self.lease.is_quiet(), "quiet for a moment only");
        }
        quiet
    }

    /// After all threads are gone: who waited was woken.
    pub(super) fn woken_unless(&self, quiet: bool) {
        must(quiet || self.woken.load(SeqCst) > 0, "waits for ever");
        must(self.lease.is_quiet(), "not quiet at last");
    }

    /// An exclusive use begins.
    pub(super) fn enter_alone(&self) {
        self.alone.fetch_add(1, SeqCst);
        must(self.inside.load(SeqCst) == 0, "an exclusive pin beside another");
        let written = self.written.load(Relaxed);
        must(written >= self.ended.load(SeqCst), "exclusive without what was written");
    }

    /// It ends.
    pub(super) fn leave_alone(&self) {
        step();
        self.written.fetch_add(1, Relaxed);
        self.alone.fetch_sub(1, SeqCst);
        self.ended.fetch_add(1, SeqCst);
    }
}
