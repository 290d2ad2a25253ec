//! Ending an emulator that is a program of its own: SIGINT and SIGTERM set a flag.

use crate::medium::{Error, ErrorKind, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Set by the first signal.
static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

/// Has SIGINT and SIGTERM set a flag, which is returned, from now on and for the whole
/// process. For programs that serve and do nothing else; a library's caller has a flag
/// of its own. A second signal does what the first does, so a flush is not cut off.
///
/// # Errors
/// `Unsupported` when the system does not take the handlers.
pub fn stop_on_signals() -> Result<&'static AtomicBool> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: all zero is a valid `sigaction`: no handler, no flags, no mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = stop as extern "C" fn(libc::c_int) as libc::sighandler_t;
        action.sa_flags = libc::SA_RESTART;
        // SAFETY: the handler stores to an atomic and nothing else, which a signal may
        // do at any point; both pointers are valid or null as sigaction(2) allows.
        if unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } != 0 {
            let error = std::io::Error::last_os_error();
            let text = format!("no handler for signal {signal}: {error}");
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
    }
    Ok(&STOP)
}
