//! The two sides of the asymmetric barrier: `light` in every pin, `everywhere`
//! in the rare revoker.
//!
//! With membarrier the light side is a fence for the compiler alone: it keeps the
//! machine's program in the order of the source. The heavy side then makes every
//! other thread of the process pass a full barrier, at some point of its program
//! between the call and its return. Where membarrier is refused both sides are
//! real fences; which of the two holds is fixed before the first pin, and each
//! lease carries it in its state word.

use super::sync::{self, Fault, fence};
use std::io;
use std::sync::atomic::Ordering::SeqCst;

/// True where membarrier is refused, so that `light` must be a real fence.
pub(crate) fn fenced() -> bool {
    !sync::registered()
}

/// The fast side, where the state word is read again after a count. `fenced`
/// says that the lease lives without membarrier.
#[inline(always)]
pub(crate) fn light(fenced: bool) {
    if !fenced {
        sync::compiler_barrier();
    } else if !sync::broken(Fault::NoFence) {
        fence(SeqCst);
    }
}

/// The slow side. After it, everything that another thread did before it passed
/// `light` is seen here, and everything that it does later sees what was done here.
///
/// # Errors
/// What membarrier reports, which a registered process hears only if it took the
/// call from itself (seccomp). Then nothing may be concluded.
pub(crate) fn everywhere() -> io::Result<()> {
    if sync::broken(Fault::NoBarrier) {
        return Ok(());
    }
    fence(SeqCst);
    if sync::registered() {
        sync::membarrier()?;
    }
    fence(SeqCst);
    Ok(())
}

/// A place where the models may run another thread's barrier: between any two accesses that
/// others can see.
#[inline(always)]
pub(crate) fn step() {
    sync::step();
}

/// Enters a lock under which [`everywhere`] may be called: for the models, in which a thread
/// that waits must be seen to do so.
#[inline(always)]
pub(crate) fn blocked<T>(enter: impl FnOnce() -> T) -> T {
    sync::blocked(enter)
}
