//! Registrations: leased blocks that foreign DMA may reach (an RDMA card, a GPU).
//!
//! Whoever gives a device address away says how to take it back: the action. It is
//! the only code of others that the store calls (law R4). It runs once, on the thread
//! that drives the deadline, when that thread has let go of every lock: a task posts it,
//! and the loops that drive run it between two steps. Calls into the same store from
//! inside an action answer `WouldDeadlock`; a panic counts as a failure. Until it has
//! succeeded, the lease does not end.

use super::Volume;
use super::lease::{LeaseCore, LeasePiece};
use crate::error::{Error, ErrorKind, Result};
use crate::lane::Io;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Takes a registration back: no device reaches the blocks once it has returned. An
/// error says why that is not so; it will be called again.
pub type Action = Box<dyn FnMut() -> std::result::Result<(), String> + Send>;

/// A registration as its lease has it.
#[derive(Clone)]
pub(super) struct Registered(Arc<Entry>);

struct Entry {
    number: u64,
    action: Mutex<Option<Action>>,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "registration {}", self.0.number)
    }
}

/// An action that is to run, and where its outcome goes.
pub(super) struct Due {
    what: Registered,
    outcome: Arc<Mutex<Option<std::result::Result<(), String>>>>,
}

/// Actions that wait for a thread without locks.
pub(crate) type Actions = Mutex<VecDeque<Due>>;

thread_local! {
    /// The stores whose action this thread runs: here one is enough, by its address.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

impl LeaseCore {
    /// Makes the lease's blocks known to foreign DMA: where they are, and the number of
    /// the registration. While it lives the lease is not idle.
    ///
    /// # Errors
    /// `Recalled`, `Revoked`.
    pub fn register(self: &Arc<Self>, action: Action) -> Result<(u64, Vec<LeasePiece>)> {
        self.file.volume().not_in_action()?;
        // A pin keeps the lease from being taken meanwhile.
        let _pin = self.pin.hold().map_err(|_| self.refusal())?;
        let mut l = self.layout();
        let number = self.file.volume().leasing.next_id();
        let entry = Entry { number, action: Mutex::new(Some(action)) };
        l.registered.push(Registered(Arc::new(entry)));
        Ok((number, l.pieces()))
    }

    /// The holder has taken it back itself: the action is dropped and never called.
    /// False if it was called already.
    pub fn deregister(&self, number: u64) -> bool {
        let (gone, left) = {
            let mut l = self.layout();
            let at = l.registered.iter().position(|r| r.0.number == number);
            (at.map(|i| l.registered.remove(i)), l.registered.len())
        };
        if left == 0 {
            let vol = self.file.volume();
            // The caller has the lease, so its last handle does not go here.
            let mut left = vol.leasing.left.lock().expect("no holder panics");
            left.retain(|lease| !std::ptr::eq(&**lease, self));
            drop(left);
            vol.announce();
        }
        gone.is_some()
    }

    /// Nobody is there any more to take this registration back: the lease stays, without a
    /// holder, until somebody needs its range and the action has run.
    pub fn leave_registered(self: &Arc<Self>, number: u64) {
        let l = self.layout();
        if l.registered.iter().any(|r| r.0.number == number) {
            let mut left = self.file.volume().leasing.left.lock().expect("no holder panics");
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
    /// Fails if this thread runs an action of this store, and in a forked child: before
    /// any lock is taken.
    pub(super) fn not_in_action(&self) -> Result<()> {
        not_forked()?;
        if INSIDE.get() == std::ptr::from_ref(self).addr() {
            return Err(Error::new(
                ErrorKind::WouldDeadlock,
                "a registration's action must not call into its own store",
            ));
        }
        Ok(())
    }

    /// Has every action of the lease run, and waits for them.
    pub(super) async fn run_actions(
        self: &Arc<Self>,
        io: &Io,
        lease: &Arc<LeaseCore>,
    ) -> Result<()> {
        loop {
            let Some(what) = lease.layout().registered.first().cloned() else { return Ok(()) };
            let number = what.0.number;
            let outcome = Arc::new(Mutex::new(None));
            let due = Due { what, outcome: outcome.clone() };
            {
                let mut actions = self.leasing.actions.lock().expect("no holder panics");
                actions.push_back(due);
                self.leasing.act.store(true, Ordering::Release);
            }
            self.announce();
            let mut done = None;
            io.until(|| {
                done = outcome.lock().expect("no holder panics").take();
                done.is_some()
            })
            .await;
            if let Some(Err(why)) = done {
                return Err(self.still_held(lease, &format!("its registration is not off: {why}")));
            }
            lease.deregister(number);
        }
    }

    /// Runs what is due. The caller holds no lock and no lane.
    pub(super) fn act(&self) -> bool {
        if !self.leasing.act.load(Ordering::Acquire) {
            return false;
        }
        let due = {
            let mut actions = self.leasing.actions.lock().expect("no holder panics");
            let due = actions.pop_front();
            self.leasing.act.store(!actions.is_empty(), Ordering::Release);
            due
        };
        let Some(due) = due else { return false };
        let mut action = due.what.0.action.lock().unwrap_or_else(|e| e.into_inner());
        let outcome = match action.as_mut() {
            // It has succeeded before.
            None => Ok(()),
            Some(run) => {
                let before = INSIDE.replace(std::ptr::from_ref(self).addr());
                let ran = catch_unwind(AssertUnwindSafe(run));
                INSIDE.set(before);
                ran.unwrap_or_else(|_| Err("it panicked".to_owned()))
            }
        };
        if outcome.is_ok() {
            *action = None;
        }
        drop(action);
        *due.outcome.lock().expect("no holder panics") = Some(outcome);
        self.announce();
        true
    }
}
