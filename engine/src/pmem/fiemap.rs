//! Where a file lies on the device of its file system, as the kernel tells it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// A piece of a file: where it is in the file, where on its device, and how long.
pub(super) type Piece = (u64, u64, u64);

/// Most pieces that the kernel is asked for at once.
const AT_ONCE: usize = 64;

/// What the kernel says of a file's places (linux/fiemap.h).
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [FiemapExtent; AT_ONCE],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FiemapExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// `_IOWR('f', 11, struct fiemap)`: the head alone counts.
const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
/// What has no place yet gets one first.
const FIEMAP_FLAG_SYNC: u32 = 1;
const FIEMAP_EXTENT_LAST: u32 = 1;
/// Places that are not known or not final.
const FIEMAP_EXTENT_UNKNOWN: u32 = 2;

/// Where the first `len` bytes of a file lie on its file system's device, and why that is not
/// all, if it is not.
pub(super) fn extents(file: BorrowedFd<'_>, len: u64) -> (Vec<Piece>, Option<io::Error>) {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < len {
        let mut map = Fiemap {
            start: at,
            length: len - at,
            flags: FIEMAP_FLAG_SYNC,
            mapped: 0,
            count: AT_ONCE as u32,
            reserved: 0,
            extents: [FiemapExtent::default(); AT_ONCE],
        };
        // SAFETY: the descriptor is open while it is borrowed; the kernel writes the head and
        // at most `count` extents behind it, which is what `map` has room for.
        let done = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) };
        if done != 0 {
            return (out, Some(io::Error::last_os_error()));
        }
        let found = map.extents.get(..map.mapped as usize).unwrap_or(&[]);
        let Some(last) = found.last() else { break };
        for e in found.iter().filter(|e| e.flags & FIEMAP_EXTENT_UNKNOWN == 0) {
            out.push((e.logical, e.physical, e.length));
        }
        let next = last.logical.saturating_add(last.length);
        if last.flags & FIEMAP_EXTENT_LAST != 0 || next <= at {
            break;
        }
        at = next;
    }
    (out, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn pieces_lie_side_by_side_in_the_file() {
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        let len = file.metadata().unwrap().len();
        let (pieces, error) = extents(file.as_fd(), len);
        let mut end = 0;
        for (at, _, count) in &pieces {
            assert!(*at >= end && *count > 0, "{pieces:?}");
            end = at + count;
        }
        assert!(error.is_some() || end >= len, "{pieces:?} of {len}");
        let (none, error) = extents(std::fs::File::open("/dev/null").unwrap().as_fd(), 4096);
        assert!(none.is_empty() && error.is_some());
    }
}
