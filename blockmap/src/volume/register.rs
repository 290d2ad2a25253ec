//! Registrations: leased blocks that foreign DMA may reach (an RDMA card, a GPU).
//!
//! Whoever gives a device address away says how to take it back: the action. It is
//! the only code of others that the store calls (law R4). It runs once, on the thread
//! that drives the deadline, when that thread has let go of every lock: a task posts it,
//! and the loops that drive run it between two steps. Calls into the same store from
//! inside an action answer `WouldDeadlock`; a panic counts as a failure. Until it has
//! succeeded, the lease does not end. Nobody waits for it longer than a fence takes: one that
//! does not return is left to itself, and its lease stays overdue until it has.

use super::Volume;
use super::lease::{LeaseCore, LeasePiece};
use crate::error::{Error, ErrorKind, Result};
use crate::lane::Io;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

/// Takes a registration back: no device reaches the blocks once it has returned. An
/// error says why that is not so; it will be called again.
pub type Action = Box<dyn FnMut() -> std::result::Result<(), String> + Send>;

/// A registration as its lease has it.
#[derive(Clone)]
pub(crate) struct Registered(Arc<Entry>);

struct Entry {
    number: u64,
    step: Mutex<Step>,
}

/// Where an action is. It is called with no lock held, not even this one.
enum Step {
    /// To be called when its lease is fenced.
    Ready(Action),
    /// In the queue of those that are to run.
    Due(Action),
    /// On some thread.
    Running,
    /// It has failed, with that reason; to be called again.
    Failed(Action, String),
    /// It has succeeded, or the holder has taken the registration back itself.
    Done,
}

impl Entry {
    fn step(&self) -> MutexGuard<'_, Step> {
        self.step.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "registration {}", self.0.number)
    }
}

/// How long a fence waits for one action, in nanoseconds.
const FENCE_TIME: u64 = 1_000_000_000;

/// A thread runs so many actions at a time: one may call another store, and run its.
const NESTED: usize = 4;

/// Actions that wait for a thread without locks.
pub(crate) type Actions = Mutex<VecDeque<Registered>>;

thread_local! {
    /// The stores whose actions this thread runs, one inside the other, by their addresses.
    static INSIDE: Cell<[usize; NESTED]> = const { Cell::new([0; NESTED]) };
}

impl LeaseCore {
    /// Makes the lease's blocks known to foreign DMA: where they are, and the number of
    /// the registration. While it lives the lease is not idle.
    ///
    /// # Errors
    /// `Recalled`, `Revoked`.
    pub fn register(self: &Arc<Self>, action: Action) -> Result<(u64, Vec<LeasePiece>)> {
        let vol = self.volume()?;
        vol.not_in_action()?;
        // A pin keeps the lease from being taken meanwhile.
        let _pin = self.hold().map_err(|_| self.refusal())?;
        let mut l = self.layout();
        let number = vol.leasing.next_number();
        let entry = Entry { number, step: Mutex::new(Step::Ready(action)) };
        l.rare_mut().registered.push(Registered(Arc::new(entry)));
        Ok((number, l.pieces()))
    }

    /// The holder has taken it back itself: the action is dropped and never called.
    /// False, with nothing done, if it is being called now, or there is no such registration.
    pub fn deregister(&self, number: u64) -> bool {
        let entry = self.layout().registered().iter().find(|r| r.0.number == number).cloned();
        let Some(entry) = entry else { return false };
        let before = {
            let mut step = entry.0.step();
            match *step {
                Step::Running => return false,
                _ => std::mem::replace(&mut *step, Step::Done),
            }
        };
        self.forget_registration(number);
        // Whatever it holds goes outside of all locks.
        drop(before);
        true
    }

    fn forget_registration(&self, number: u64) {
        let (gone, left) = {
            let mut l = self.layout();
            let at = l.registered().iter().position(|r| r.0.number == number);
            let gone = at.map(|i| l.rare_mut().registered.remove(i));
            (gone, l.registered().len())
        };
        if left == 0
            && let Ok(vol) = self.volume()
        {
            // The caller has the lease, so its last handle does not go here.
            let mut left = vol.leasing.left.lock().expect("no holder panics");
            left.retain(|lease| !std::ptr::eq(&**lease, self));
            drop(left);
            vol.announce();
        }
        drop(gone);
    }

    /// Nobody is there any more to take this registration back: the lease stays, without a
    /// holder, until somebody needs its range and the action has run.
    pub fn leave_registered(self: &Arc<Self>, number: u64) {
        let Ok(vol) = self.volume() else { return };
        let l = self.layout();
        if l.registered().iter().any(|r| r.0.number == number) {
            let mut left = vol.leasing.left.lock().expect("no holder panics");
            if !left.iter().any(|lease| Arc::ptr_eq(lease, self)) {
                left.push(self.clone());
            }
        }
    }
}

/// Fails in a forked child of the process that opened the store: some thread of its parent's
/// may have held a lock, and none of its memory is the child's. Some loads, no lock.
///
/// # Errors
/// `ForkedChild`.
#[inline]
pub fn not_forked() -> Result<()> {
    match freehold_engine::fork::in_child() {
        false => Ok(()),
        true => Err(Error::new(
            ErrorKind::ForkedChild,
            "a forked child owns nothing of its parent's store; open it there after an exec",
        )),
    }
}

impl Volume {
    /// Does this thread run an action, of any store?
    #[inline(always)]
    pub(super) fn acts() -> bool {
        // The places are taken from the first on.
        INSIDE.with(|inside| inside.get()[0] != 0)
    }

    /// Fails if this thread runs an action of this store, and in a forked child: before
    /// any lock is taken.
    pub(super) fn not_in_action(&self) -> Result<()> {
        not_forked()?;
        if INSIDE.get().contains(&std::ptr::from_ref(self).addr()) {
            return Err(Error::new(
                ErrorKind::WouldDeadlock,
                "a registration's action must not call into its own store",
            ));
        }
        Ok(())
    }

    /// Has every action of the lease run, and waits for them.
    ///
    /// # Errors
    /// `Busy` where one has failed, or does not return.
    pub(super) async fn run_actions(
        self: &Arc<Self>,
        io: &Io,
        lease: &Arc<LeaseCore>,
    ) -> Result<()> {
        loop {
            let Some(one) = lease.layout().registered().first().cloned() else { return Ok(()) };
            if one.make_due() {
                let mut actions = self.leasing.actions.lock().expect("no holder panics");
                actions.push_back(one.clone());
                self.leasing.act.store(true, Ordering::Release);
                drop(actions);
                self.announce();
            }
            let end = super::clock().saturating_add(FENCE_TIME);
            io.until(|| one.is_over() || super::clock() > end).await;
            match one.failure() {
                None => lease.forget_registration(one.0.number),
                Some(why) => {
                    return Err(
                        self.still_held(lease, &format!("its registration is not off: {why}"))
                    );
                }
            }
        }
    }

    /// Runs what is due. The caller holds no lock and no lane.
    pub(super) fn act(&self) -> bool {
        if !self.leasing.act.load(Ordering::Acquire) {
            return false;
        }
        let before = INSIDE.get();
        let Some(free) = before.iter().position(|at| *at == 0) else { return false };
        let due = {
            let mut actions = self.leasing.actions.lock().expect("no holder panics");
            let due = actions.pop_front();
            self.leasing.act.store(!actions.is_empty(), Ordering::Release);
            due
        };
        let Some(due) = due else { return false };
        let mut action = match std::mem::replace(&mut *due.0.step(), Step::Running) {
            Step::Due(action) => action,
            // Taken back by its holder.
            other => {
                *due.0.step() = other;
                return true;
            }
        };
        let mut inside = before;
        inside[free] = std::ptr::from_ref(self).addr();
        INSIDE.set(inside);
        let ran = catch_unwind(AssertUnwindSafe(&mut action));
        let after = match ran.unwrap_or_else(|_| Err("it panicked".to_owned())) {
            Err(why) => Step::Failed(action, why),
            Ok(()) => {
                // What it holds goes with it, and may do what it may.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(action)));
                Step::Done
            }
        };
        INSIDE.set(before);
        *due.0.step() = after;
        self.announce();
        true
    }
}

impl Registered {
    /// It is to be called, unless it waits for that, or runs, or is off.
    fn make_due(&self) -> bool {
        let mut step = self.0.step();
        match std::mem::replace(&mut *step, Step::Running) {
            Step::Ready(action) | Step::Failed(action, _) => {
                *step = Step::Due(action);
                true
            }
            other => {
                *step = other;
                false
            }
        }
    }

    fn is_over(&self) -> bool {
        matches!(*self.0.step(), Step::Done | Step::Failed(..))
    }

    fn failure(&self) -> Option<String> {
        match &*self.0.step() {
            Step::Done => None,
            Step::Failed(_, why) => Some(why.clone()),
            _ => Some("its action does not return".to_owned()),
        }
    }
}
