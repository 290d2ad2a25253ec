//! Reading bytes that somebody may be writing through a reference.
//!
//! That is what a fence does when the holder of an exclusive pin does not answer
//! (law R4). A copy of ours would race with the holder's reference, which the
//! language forbids, whatever becomes of the bytes. The kernel may read them, as a
//! device may: it is no thread of this program, and changes nothing of it.

use crate::medium::{Error, ErrorKind, Result};

/// Has the kernel copy `to.len()` bytes at `from`.
///
/// # Safety
/// The bytes at `from` are mapped and stay so, and do not overlap `to`.
pub(super) unsafe fn read(from: *const u8, to: &mut [u8]) -> Result<()> {
    let refused = |why: std::io::Error| {
        let text = format!("the system does not copy memory of its own process: {why}");
        Error::new(ErrorKind::Unsupported, text)
    };
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let mut done = 0;
    while done < to.len() {
        let rest = &mut to[done..];
        let local = libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() };
        // The kernel only reads it, whatever the type says.
        let at = from.wrapping_add(done).cast_mut();
        let remote = libc::iovec { iov_base: at.cast(), iov_len: rest.len() };
        // SAFETY: both vectors have one entry; `local` is `rest`, which is ours to
        // write, and `remote` lies in the range that the caller vouches for. The
        // call writes to `local` alone and checks addresses itself.
        let copied = unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) };
        match usize::try_from(copied) {
            Ok(0) => return Err(refused(std::io::ErrorKind::UnexpectedEof.into())),
            Ok(copied) => done += copied,
            Err(_) => match std::io::Error::last_os_error() {
                e if e.kind() == std::io::ErrorKind::Interrupted => {}
                e => return Err(refused(e)),
            },
        }
    }
    Ok(())
}
