//! Copies to persistent memory that go past the caches.
//!
//! A line that is written whole past the caches is read by nobody before and needs no
//! writing back: for a large copy that is half of the work. Such stores wait in the
//! processor's buffers and are ordered with nothing, so each copy here ends with a fence:
//! afterwards they are as visible as any other stores, and on their way to the medium.

use super::copy;
use super::persist::store_fence;

/// Copies shorter than this go through the caches: their bytes may be looked at again soon.
pub(super) const FROM: usize = 1024;

/// The same where nobody will: a line that is written whole past the caches need not be read
/// before.
pub(super) const FROM_UNREAD: usize = 2 * LINE;

/// Bytes of a line of the caches.
const LINE: usize = 64;

/// Copies `len` bytes; either side, or both, may be shared memory. The edges that are no whole
/// lines of the target go through the caches.
///
/// # Safety
/// As [`copy::load`] and [`copy::store`], for whichever side is shared; a copy between
/// two shared ranges is made of whole lines of both.
pub(super) unsafe fn copy(dst: *mut u8, src: *const u8, len: usize) {
    let head = dst.align_offset(LINE).min(len);
    let lines = (len - head) / LINE;
    let tail = head + lines * LINE;
    // SAFETY: three parts of the ranges that the caller promised; the middle one begins at a
    // line of the target.
    unsafe {
        copy::store(dst, src, head);
        whole::copy(dst.add(head), src.add(head), lines);
        copy::store(dst.add(tail), src.add(tail), len - tail);
    }
    store_fence();
}

/// Copies as many bytes as both have, in private memory: the bare instructions, to be compared
/// with. Gives the parts, start and length, that went through the caches.
pub(crate) fn copy_private(to: &mut [u8], from: &[u8]) -> [(usize, usize); 2] {
    let len = to.len().min(from.len());
    // SAFETY: both are references, so they are there and do not overlap.
    unsafe { copy(to.as_mut_ptr(), from.as_ptr(), len) };
    edges(to.as_ptr().addr(), len)
}

/// The parts of a copy that went through the caches: start and length, the first and the
/// last.
pub(super) fn edges(start: usize, len: usize) -> [(usize, usize); 2] {
    let head = (start.next_multiple_of(LINE) - start).min(len);
    let tail = (len - head) % LINE;
    [(0, head), (len - tail, tail)]
}

/// Zeroes whole blocks of shared memory.
///
/// # Safety
/// As [`copy::zero`], and `dst` is at a line and `len` is made of lines.
pub(super) unsafe fn zero(dst: *mut u8, len: usize) {
    debug_assert!(dst.addr().is_multiple_of(LINE) && len.is_multiple_of(LINE));
    // SAFETY: the caller's promise is the same.
    unsafe { whole::zero(dst, len / LINE) };
    store_fence();
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod whole {
    use std::arch::asm;

    /// Whole lines.
    ///
    /// # Safety
    /// `src` is readable and `dst` writable for that many lines, `dst` is at a line.
    pub(super) unsafe fn copy(dst: *mut u8, src: *const u8, lines: usize) {
        if lines == 0 {
            return;
        }
        // SAFETY: it reads and writes what the caller promised, upwards, line by line, and
        // changes no stack; every x86-64 has the instructions.
        unsafe {
            asm!(
                "2:",
                "movdqu {a}, [{src}]",
                "movdqu {b}, [{src} + 16]",
                "movdqu {c}, [{src} + 32]",
                "movdqu {d}, [{src} + 48]",
                "movntdq [{dst}], {a}",
                "movntdq [{dst} + 16], {b}",
                "movntdq [{dst} + 32], {c}",
                "movntdq [{dst} + 48], {d}",
                "add {src}, 64",
                "add {dst}, 64",
                "dec {lines}",
                "jnz 2b",
                src = inout(reg) src => _,
                dst = inout(reg) dst => _,
                lines = inout(reg) lines => _,
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                options(nostack)
            );
        }
    }

    /// Whole lines.
    ///
    /// # Safety
    /// `dst` is writable for that many lines, and at a line.
    pub(super) unsafe fn zero(dst: *mut u8, lines: usize) {
        if lines == 0 {
            return;
        }
        // SAFETY: as in `copy`.
        unsafe {
            asm!(
                "pxor {a}, {a}",
                "2:",
                "movntdq [{dst}], {a}",
                "movntdq [{dst} + 16], {a}",
                "movntdq [{dst} + 32], {a}",
                "movntdq [{dst} + 48], {a}",
                "add {dst}, 64",
                "dec {lines}",
                "jnz 2b",
                dst = inout(reg) dst => _,
                lines = inout(reg) lines => _,
                a = out(xmm_reg) _,
                options(nostack)
            );
        }
    }
}

/// Where there are no such stores: as any other copy.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod whole {
    use super::{LINE, copy};

    /// See the other one.
    pub(super) unsafe fn copy(dst: *mut u8, src: *const u8, lines: usize) {
        // SAFETY: the caller's promise is the same.
        unsafe { copy::store(dst, src, lines * LINE) };
    }

    /// See the other one.
    pub(super) unsafe fn zero(dst: *mut u8, lines: usize) {
        // SAFETY: the caller's promise is the same.
        unsafe { copy::zero(dst, lines * LINE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(64))]
    struct Lines([u8; 4096]);

    #[test]
    fn copies_of_every_skew_change_nothing_beside() {
        let from: Vec<u8> = (0..4096u32).map(|i| (i * 7 + i / 256) as u8 | 1).collect();
        for skew in 0..70 {
            for len in [0, 1, 63, 64, 65, 127, 129, 1024, 1025, 2048 + skew, 3000] {
                let mut to = Lines([0; 4096]);
                // SAFETY: both ranges lie in their arrays, which nobody else reaches.
                unsafe { copy(to.0.as_mut_ptr().add(skew), from.as_ptr().add(len % 5), len) };
                assert!(to.0[skew..skew + len] == from[len % 5..][..len], "{skew} {len}");
                assert!(to.0[..skew].iter().chain(&to.0[skew + len..]).all(|&b| b == 0));
            }
        }
    }

    #[test]
    fn edges_are_what_is_no_whole_line() {
        assert_eq!(edges(0, 4096), [(0, 0), (4096, 0)]);
        assert_eq!(edges(4090, 4096), [(0, 6), (4038, 58)]);
        assert_eq!(edges(60, 2), [(0, 2), (2, 0)]);
        let mut to = vec![1; 5000];
        copy_private(&mut to, &[9; 5000]);
        assert!(to.iter().all(|&b| b == 9));
    }

    #[test]
    fn zeroes_end_where_they_should() {
        let mut to = Lines([7; 4096]);
        // SAFETY: lines of an array that nobody else reaches.
        unsafe { zero(to.0.as_mut_ptr().add(64), 640) };
        assert!(to.0[..64].iter().chain(&to.0[704..]).all(|&b| b == 7));
        assert!(to.0[64..704].iter().all(|&b| b == 0));
    }
}
