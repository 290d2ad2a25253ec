//! System calls on the descriptors of VFIO and iommufd, checked: each says what was
//! refused, and none is repeated but for a signal.
//!
//! `linux/vfio.h` names a request after a structure that begins with `argsz`: what this
//! process has room for. The kernel reads and writes no more than that, and where it
//! knows more than fits it says how much (`variable`).

use crate::vfio::uapi::Request;
use rustix::io::Errno;
use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};

/// What a description with capabilities may have at the most: a kernel that wants more is
/// none that is known.
const MOST: usize = 1 << 16;

/// One request.
///
/// # Safety
/// `argument` is what the request takes: a number, or an address of which the kernel reads
/// and writes no more than lies there.
unsafe fn ioctl(fd: BorrowedFd<'_>, request: Request, argument: *mut c_void) -> Result<i32, Errno> {
    loop {
        // SAFETY: the descriptor is open while it is borrowed; the rest is the caller's
        // promise.
        let done: c_int = unsafe { libc::ioctl(fd.as_raw_fd(), request.number() as _, argument) };
        if done >= 0 {
            return Ok(done);
        }
        match Errno::from_io_error(&std::io::Error::last_os_error()) {
            Some(Errno::INTR) => {}
            errno => return Err(errno.unwrap_or(Errno::IO)),
        }
    }
}

/// A request without an argument, or with a number: what is not known by the kernel for this
/// descriptor is refused by it.
pub(super) fn number(fd: BorrowedFd<'_>, request: Request, value: usize) -> Result<i32, Errno> {
    debug_assert!(request.takes_number());
    let argument = std::ptr::without_provenance_mut(value);
    // SAFETY: these requests take their argument as a number (linux/vfio.h), so nothing is
    // reached through it.
    unsafe { ioctl(fd, request, argument) }
}

/// A request with a structure that the kernel reads and fills in.
///
/// # Safety
/// `T` is the structure of the request, any bytes of it are a value, its `argsz` or `size`
/// says no more than it has, and what addresses it contains are good for what the request
/// does with them.
pub(super) unsafe fn exchange<T>(
    fd: BorrowedFd<'_>,
    request: Request,
    message: &mut T,
) -> Result<i32, Errno> {
    debug_assert!(!request.takes_number());
    // SAFETY: the kernel writes no more than the structure has, which is the caller's promise.
    unsafe { ioctl(fd, request, (&raw mut *message).cast()) }
}

/// A request whose structure is followed by further words, all of which the kernel only reads.
pub(super) fn tell(fd: BorrowedFd<'_>, request: Request, words: &mut [u32]) -> Result<i32, Errno> {
    debug_assert!(!request.takes_number());
    // The first one is `argsz`.
    let bytes = size_of_val(words) as u32;
    let Some(first) = words.first_mut() else { return Err(Errno::INVAL) };
    *first = bytes;
    // SAFETY: the words are ours; `argsz` is their size, and the kernel reads that much.
    unsafe { ioctl(fd, request, words.as_mut_ptr().cast()) }
}

/// A description that may be followed by capabilities, as bytes. `head` is how it begins,
/// `argsz` first.
///
/// # Errors
/// What the kernel says; `MSGSIZE` for one that is longer than any.
pub(super) fn variable(
    fd: BorrowedFd<'_>,
    request: Request,
    head: &[u32],
) -> Result<Vec<u8>, Errno> {
    debug_assert!(!request.takes_number());
    let mut room = 512;
    loop {
        // Words of 8 bytes: descriptions have such.
        let mut words = vec![0u64; room / 8];
        let begin: Vec<u32> = std::iter::once(room as u32).chain(head.iter().copied()).collect();
        for (word, pair) in words.iter_mut().zip(begin.chunks(2)) {
            let high = pair.get(1).copied().unwrap_or(0);
            *word = join(pair[0], high);
        }
        // SAFETY: `argsz` is the size of the words, all of which are ours, and any bytes are
        // words.
        unsafe { ioctl(fd, request, words.as_mut_ptr().cast()) }?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let wanted = bytes.first_chunk().map_or(0, |b| u32::from_ne_bytes(*b)) as usize;
        if wanted <= room {
            return Ok(bytes);
        }
        if wanted > MOST {
            return Err(Errno::MSGSIZE);
        }
        room = wanted.next_multiple_of(8);
    }
}

/// Two words as they lie in memory.
fn join(first: u32, second: u32) -> u64 {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&first.to_ne_bytes());
    bytes[4..].copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_a_descriptor_does_not_know_is_refused() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let fd = file.as_fd();
        assert_eq!(number(fd, Request::ApiVersion, 0), Err(Errno::NOTTY));
        assert_eq!(variable(fd, Request::RegionInfo, &[0, 7]), Err(Errno::NOTTY));
        assert_eq!(tell(fd, Request::SetIrqs, &mut [0; 5]), Err(Errno::NOTTY));
        assert_eq!(tell(fd, Request::SetIrqs, &mut []), Err(Errno::INVAL));
    }

    #[test]
    fn words_lie_as_they_do_in_a_structure() {
        let bytes = join(0x0403_0201, 0x0807_0605).to_ne_bytes();
        assert_eq!(bytes[..4], 0x0403_0201u32.to_ne_bytes());
        assert_eq!(bytes[4..], 0x0807_0605u32.to_ne_bytes());
    }
}
