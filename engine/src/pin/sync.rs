//! What the models replace: atomics, the barrier of other threads, counters'
//! memory. In every build but that of the models this is std and the system.

#[cfg(not(all(loom, test)))]
mod system {
    use crate::memory::wiped_pairs;
    pub(crate) use std::sync::Mutex;
    pub(crate) use std::sync::atomic::AtomicU64;
    pub(in crate::pin) use std::sync::atomic::fence;
    use std::sync::atomic::{Ordering::SeqCst, compiler_fence};
    pub(in crate::pin) use std::thread_local;

    /// Leases in one piece of a thread's counters: 256 KiB of addresses.
    pub(in crate::pin) const CELLS: usize = 1 << 14;
    /// Pieces that a thread may have.
    pub(in crate::pin) const CHUNKS: usize = 64;
    /// Leases whose counters share a page and are published together.
    pub(in crate::pin) const PAGE: usize = 256;

    /// True if this process is registered for membarrier; registers it when first
    /// asked. False where that is refused.
    pub(in crate::pin) fn registered() -> bool {
        use rustix::thread::{MembarrierCommand as Command, membarrier, membarrier_query};
        static REGISTERED: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
        *REGISTERED.get_or_init(|| {
            membarrier_query().contains_command(Command::PrivateExpedited)
                && membarrier(Command::RegisterPrivateExpedited).is_ok()
        })
    }

    /// A full barrier on every running thread of the process.
    pub(in crate::pin) fn membarrier() -> std::io::Result<()> {
        use rustix::thread::{MembarrierCommand, membarrier};
        membarrier(MembarrierCommand::PrivateExpedited).map_err(Into::into)
    }

    #[inline(always)]
    pub(in crate::pin) fn compiler_barrier() {
        compiler_fence(SeqCst);
    }

    /// New counters, all zero, that a forked child finds zero again.
    pub(in crate::pin) fn counters() -> Option<&'static [[AtomicU64; 2]; CELLS]> {
        wiped_pairs().ok()
    }

    /// A place where the models may run another thread's barrier.
    #[inline(always)]
    pub(in crate::pin) fn step() {}

    /// Enters a lock under which somebody may call membarrier.
    #[inline(always)]
    pub(in crate::pin) fn blocked<T>(enter: impl FnOnce() -> T) -> T {
        enter()
    }

    /// Whether the models leave out this part of the protocol: never here.
    #[inline(always)]
    pub(crate) const fn broken(_: super::Fault) -> bool {
        false
    }
}

#[cfg(not(all(loom, test)))]
pub(crate) use system::*;

#[cfg(all(loom, test))]
pub(crate) use super::models::world::*;

/// Parts of the protocol that a model leaves out to show that it would miss them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The state is not read again after counting.
    NoSecondLoad,
    /// The revoker reads the sums without a barrier before.
    NoBarrier,
    /// Where there is no membarrier: the pin does without its fence.
    NoFence,
    /// Acquired is read before released.
    AcquiredFirst,
    /// An exclusive pin does not look at the short ones that are there.
    NoDrain,
    /// The counters of a thread that exits are taken off the list.
    Forget,
    /// A short pin that becomes a long one is released before it is counted.
    ReleaseFirst,
    /// That it was found quiet is not remembered.
    Forgetful,
}
