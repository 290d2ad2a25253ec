//! Is this process a forked child of the one that opened the media?
//!
//! A child owns nothing: memory of buffers and windows is not mapped in it, its
//! parent's threads are not there, and a lock may be held by one of them for ever.
//! So whoever may be called in a child asks here before anything else, and refuses.

/// Remembers this process as the one that owns what it opens. Done when a medium is
/// opened or a lease is made; costs nothing when it was done before.
pub fn remember() {
    crate::pin::mark();
}

/// True in a child that was forked after the first [`remember`]: by `fork`, in any
/// way, also past the C library. Some loads from memory that a fork wipes (where the
/// system has no such memory, one system call); takes no lock.
///
/// ```
/// freehold_engine::fork::remember();
/// assert!(!freehold_engine::fork::in_child());
/// ```
#[inline]
pub fn in_child() -> bool {
    crate::pin::forked()
}

/// Runs something in a forked child of this process, and says whether it was true there:
/// false also where the child was killed, or did not end within 20 s. For tests: the child has
/// no other thread, so whatever waits there for one is found to hang.
///
/// # Errors
/// What `fork` reports.
#[cfg(feature = "sim")]
pub fn holds_in_child(run: impl FnOnce() -> bool) -> std::io::Result<bool> {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    // SAFETY: the child has this thread alone, whose stack and heap it has whole. The C library
    // keeps its allocator usable in it; other locks of other threads stay as they are, and
    // who waits for one is killed below. It ends by `_exit`, so nothing of its parent's ends
    // with it.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let held = catch_unwind(AssertUnwindSafe(run)).unwrap_or(false);
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!held)) };
    }
    if child < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let mut status = 0;
    for _ in 0..20_000 {
        // SAFETY: asks after the child that was made here; `status` is ours.
        if unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == child {
            return Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // SAFETY: ends, and waits for, the child that was made here, which nobody else waits for.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, &mut status, 0);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use crate::medium::Medium;
    use crate::mem::MemMedium;
    use crate::memory::{Access, Piece};
    use crate::pin::{NotHeld, PinState, Waiter};

    #[test]
    fn a_child_is_told_and_its_views_give_nothing() {
        let medium = MemMedium::new(1 << 20).unwrap();
        let lease = PinState::new(&Waiter::none()).shared();
        let memory = medium.window_memory().unwrap();
        let mut view = memory.view(Access::Exclusive, &[Piece::at(0, 4096)], &lease).unwrap();
        assert!(!super::in_child());
        drop(view.pin().unwrap());
        // SAFETY: the child calls nothing but what is judged here, which takes no
        // lock and allocates nothing, and `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let told = super::in_child()
                && matches!(view.pin(), Err(NotHeld::ForkedChild))
                && matches!(view.hold(), Err(NotHeld::ForkedChild))
                && matches!(view.pin_mut(), Err(NotHeld::ForkedChild));
            // SAFETY: ends the child without running anything of its parent's.
            unsafe { libc::_exit(i32::from(!told)) };
        }
        let mut status = 0;
        // SAFETY: waits for the child that was just made; `status` is ours.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status}");
        assert!(!super::in_child() && view.pin_mut().is_ok());
    }
}
