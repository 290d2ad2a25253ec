//! Is this a forked child? It owns nothing, and no lock of its parent's may be
//! taken in it: another thread may have held it.

use crate::memory::wiped_pairs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

enum Mark {
    /// One in the process that wrote it, zero in a child.
    Wiped(&'static AtomicU64),
    /// Where memory cannot be wiped: the process itself.
    Process(rustix::process::Pid),
}

static MARK: OnceLock<Mark> = OnceLock::new();

/// Remembers this process. Called before the first lease exists.
pub(crate) fn mark() {
    MARK.get_or_init(|| match wiped_pairs::<1>() {
        Ok(pairs) => {
            pairs[0][0].store(1, Relaxed);
            Mark::Wiped(&pairs[0][0])
        }
        Err(_) => Mark::Process(rustix::process::getpid()),
    });
}

/// True in a child that was forked after the first lease existed.
#[inline]
pub(crate) fn forked() -> bool {
    match MARK.get() {
        None => false,
        Some(Mark::Wiped(word)) => word.load(Relaxed) == 0,
        Some(Mark::Process(pid)) => rustix::process::getpid() != *pid,
    }
}
