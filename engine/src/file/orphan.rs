//! What a dropped queue left in flight.
//!
//! Closing a ring neither waits for nor reliably stops what the kernel has
//! begun, so a queue that is dropped with operations in flight gives its ring
//! and its buffers to this list, in one piece. They stay until each operation
//! has been reaped; queues that are polled, media that are opened and queues
//! that are made look after the list. It belongs to the process, not to a
//! medium, so that nothing has to wait when the last handle of a medium goes.

use super::ring::Ring;
use super::shared::Shared;
use super::table::Table;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

static ORPHANS: Mutex<Vec<Orphan>> = Mutex::new(Vec::new());
/// How many there are, so that looking costs nothing when there are none.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// A ring whose queue is gone. The order of the fields is the order in which
/// they go: the ring before the buffers that it could name, and the file with
/// its lock last.
struct Orphan {
    ring: Ring,
    table: Table,
    shared: Arc<Shared>,
}

impl Orphan {
    /// Takes in what completed; true when nothing is left.
    fn is_quiet(&mut self) -> bool {
        // What was cut off is not begun again: nobody waits for it.
        self.ring.reap(&self.shared, &mut self.table);
        self.table.done.clear();
        if self.table.in_ring > 0 {
            return false;
        }
        self.ring.retire();
        true
    }
}

/// Keeps a ring and its operations until the kernel is done with them.
pub(super) fn adopt(ring: Ring, table: Table, shared: Arc<Shared>) {
    let mut list = ORPHANS.lock().unwrap_or_else(PoisonError::into_inner);
    list.push(Orphan { ring, table, shared });
    COUNT.store(list.len(), Ordering::Release);
}

/// Frees what has completed. Neither waits nor allocates; costs one load when
/// there is nothing.
pub(super) fn reap() {
    if COUNT.load(Ordering::Acquire) == 0 {
        return;
    }
    if let Ok(mut list) = ORPHANS.try_lock() {
        list.retain_mut(|orphan| !orphan.is_quiet());
        COUNT.store(list.len(), Ordering::Release);
    }
}

/// Waits until nothing is left in flight on a file, given by device and inode,
/// or until the time is over.
pub(super) fn settle(identity: (u64, u64), limit: Duration) {
    let deadline = Instant::now() + limit;
    loop {
        reap();
        if COUNT.load(Ordering::Acquire) == 0 {
            return;
        }
        let busy = {
            let list = ORPHANS.lock().unwrap_or_else(PoisonError::into_inner);
            list.iter().any(|orphan| orphan.shared.identity == identity)
        };
        if !busy || Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
