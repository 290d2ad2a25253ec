//! How stores to a window become durable: lines are written back, then one fence ends
//! that for all of them (docs/windows.md, "What is durable, and when").

use crate::medium::Result;
use std::fmt;

/// What stands between a store to a mapping and its durability (law M1).
pub(crate) trait Persistence: Send + Sync + fmt::Debug {
    /// Whether the mapping is still what it was, to be read or to be written. Asked before
    /// each copy, so a load or two at the most.
    ///
    /// # Errors
    /// `Gone` when it is not; when it is to be written, also after a fence has failed.
    fn sound(&self, writes: bool) -> Result<()> {
        let _ = writes;
        Ok(())
    }

    /// Whether these bytes can be read. Asked before each copy and for each view.
    ///
    /// # Errors
    /// `Io` where the memory is known to be damaged: a touch would end the process.
    fn intact(&self, offset: u64, len: u64) -> Result<()> {
        let _ = (offset, len);
        Ok(())
    }

    /// Whole blocks are about to be written: where the memory is known to be damaged, it is
    /// mended first, and holds zeroes or nothing then.
    ///
    /// # Errors
    /// `Io` where it cannot be.
    fn mend(&self, offset: u64, len: u64) -> Result<()> {
        let _ = (offset, len);
        Ok(())
    }

    /// Large copies go past the caches, and need no [`Self::write_back`] then.
    fn streams(&self) -> bool {
        false
    }

    /// Begins to make durable what this thread stored to these bytes, or what any thread
    /// did before a barrier that this one passed. A [`Self::fence`] ends it.
    fn write_back(&self, at: *const u8, len: usize) {
        let _ = (at, len);
    }

    /// What this thread stored has left it, so that another thread's fence covers it: before
    /// copies are reported as done.
    fn settle(&self) {}

    /// Makes durable what was written back, and what was settled on any thread. May take as
    /// long as the device's answer.
    ///
    /// # Errors
    /// `Gone`, or what the device says: then nothing is known of stores since the last fence
    /// that succeeded, and all later fences fail.
    fn fence(&self) -> Result<()> {
        Ok(())
    }
}

/// Memory whose stores are as durable as they get when they are made.
#[derive(Debug)]
pub(crate) struct Volatile;

impl Persistence for Volatile {}

/// Stores of this thread, also those that no cache holds and lines that it writes back, are
/// ordered before whatever it stores next, as a doorbell, a flag that another thread looks at,
/// or the next group of a journal. Nothing is said of loads.
pub(crate) fn store_fence() {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: every x86-64 has the instruction, and it changes no state of the program. The
    // compiler takes it for what reads and writes all memory.
    unsafe {
        std::arch::asm!("sfence", options(nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
}
