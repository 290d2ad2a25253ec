//! What a store keeps for its seals and leases, beside those of each file.

use super::Volume;
use super::lease::LeaseCore;
use super::quarantine::Kept;
use super::register::Actions;
use super::sessions::Sessions;
use crate::arbiter::Waits;
use freehold_engine::pin::{Waiter, Wake};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;

/// How long a holder has after a recall, if nobody says otherwise.
pub const LEASE_TIME: Duration = Duration::from_secs(1);

/// The store's sessions, the numbers that it gives, and what waits.
#[derive(Default)]
pub(crate) struct Leasing {
    pub(super) sessions: Sessions,
    numbers: AtomicU64,
    waits: Mutex<Waits>,
    pub(super) actions: Actions,
    /// There are any; changed under their lock.
    pub(super) act: AtomicBool,
    /// Leases whose holders have gone, and whose registrations are there still.
    pub(super) left: Mutex<Vec<Arc<LeaseCore>>>,
    /// Taken leases that are pinned still.
    pub(super) kept: Mutex<Vec<Kept>>,
    /// Nanoseconds; 0: [`LEASE_TIME`].
    lease_time: AtomicU64,
    pub(super) bell: OnceLock<Waiter>,
}

/// Rings when a pin of a lease ends that is not held any more.
struct Bell(Weak<Volume>);

impl Wake for Bell {
    fn wake(&self) {
        if let Some(vol) = self.0.upgrade() {
            vol.look_at_kept();
            vol.announce();
        }
    }
}

impl Leasing {
    /// A number that is never used again: of a seal or a registration, or a place among those
    /// that wait, where later ones are greater. A lease has the number of its grant's place.
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(super) fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn lease_time(&self) -> u64 {
        match self.lease_time.load(Ordering::Relaxed) {
            0 => LEASE_TIME.as_nanos() as u64,
            n => n,
        }
    }
}

impl Volume {
    /// How long the holders of leases have from now on when these are asked for back,
    /// beside what they said that they need. At least a millisecond, at most a minute.
    pub fn set_lease_time(&self, time: Duration) {
        let time = time.clamp(Duration::from_millis(1), Duration::from_secs(60));
        self.leasing.lease_time.store(time.as_nanos() as u64, Ordering::Relaxed);
    }

    pub(super) fn bell(self: &Arc<Self>) -> &Waiter {
        self.leasing.bell.get_or_init(|| Waiter::new(Bell(Arc::downgrade(self))))
    }

    /// All leases on files in memory.
    pub(super) fn all_leases(&self) -> Vec<Arc<LeaseCore>> {
        let files: Vec<_> = self.core().shelf.files.values().cloned().collect();
        let of = |t: &super::guards::Table| t.leases();
        files.iter().flat_map(|f| f.guards.look(of).unwrap_or_else(Vec::new)).collect()
    }
}

/// Monotonic nanoseconds.
pub(super) fn clock() -> u64 {
    freehold_engine::event::monotonic_ns()
}
