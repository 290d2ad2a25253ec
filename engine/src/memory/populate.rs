//! Page tables of a window, filled before it is used: the first touch costs nothing then, and
//! a page that is not to be had is an error of the grant and not a signal.

use crate::medium::{Error, ErrorKind, Result};
use rustix::io::Errno;
use rustix::mm::Advice;

/// Sees to it that all pages of a range can be read, or written, without a fault.
///
/// # Errors
/// `Limit` where the system has no memory for it, `Io` where a page cannot be had.
///
/// # Safety
/// The bytes are mapped so that they may be read, and written if `writable`.
pub(super) unsafe fn populate(at: *const u8, len: usize, writable: bool) -> Result<()> {
    let page = rustix::param::page_size();
    let skew = at.addr() % page;
    let (first, whole) = (at.wrapping_sub(skew), (skew + len).next_multiple_of(page));
    let advice = if writable { Advice::LinuxPopulateWrite } else { Advice::LinuxPopulateRead };
    loop {
        // SAFETY: mappings are made of whole pages. The advice changes no byte.
        match unsafe { rustix::mm::madvise(first.cast_mut().cast(), whole, advice) } {
            Ok(()) => return Ok(()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // An older system, or pages that the kernel keeps no count of.
            Err(Errno::INVAL) => break,
            Err(Errno::NOMEM) => {
                let text = format!("no memory for the page tables of {len} bytes of a window");
                return Err(Error::new(ErrorKind::Limit, text));
            }
            Err(errno) => {
                let text = format!("{len} bytes of a window cannot be reached: {errno}");
                return Err(Error::new(ErrorKind::Io, text));
            }
        }
    }
    for offset in (0..whole).step_by(page) {
        // SAFETY: the page is mapped, and a volatile load of shared memory is allowed; nobody
        // has a mutable reference into it before the view exists for which this is done.
        unsafe { std::ptr::read_volatile(first.wrapping_add(offset)) };
    }
    Ok(())
}
