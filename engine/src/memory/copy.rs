//! Copies to and from memory that others read and write at the same time.
//!
//! Such memory is never turned into a reference: a data race on a reference is
//! undefined behaviour, whatever the bytes are used for. On x86-64 the copy is
//! one string instruction, which the compiler cannot look into; elsewhere (and
//! under Miri) it is made of relaxed atomic words. Bounds are checked by the
//! callers in `shared`.

/// Copies `len` bytes; either side, or both, may be shared memory.
///
/// # Safety
/// `src` is readable and `dst` writable for `len` bytes, the ranges do not
/// overlap, and the memory that is shared is reached by everybody through
/// this module, a device or the kernel, never through a reference. On the
/// portable path, shared memory is `shared_base`-aligned as `portable` asks.
#[cfg(all(target_arch = "x86_64", not(miri)))]
unsafe fn string_copy(dst: *mut u8, src: *const u8, len: usize) {
    // SAFETY: the caller vouches for both ranges. The ABI guarantees that the
    // direction flag is clear, so the copy goes upwards; the instruction
    // changes no flags and no stack.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rsi") src => _,
            inout("rdi") dst => _,
            options(nostack, preserves_flags)
        );
    }
}

/// Copies out of shared memory into private memory.
///
/// # Safety
/// `src..src + len` lies in memory that is shared as the module says and whose
/// surrounding aligned 8-byte words exist; `dst` is private, writable for `len`
/// bytes and does not overlap it.
pub(super) unsafe fn load(dst: *mut u8, src: *const u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the caller's promise is the same.
    unsafe {
        string_copy(dst, src, len);
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    // SAFETY: the caller's promise is the same.
    unsafe {
        portable::load(dst, src, len);
    }
}

/// Copies private memory into shared memory.
///
/// # Safety
/// As [`load`], the other way round.
pub(super) unsafe fn store(dst: *mut u8, src: *const u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the caller's promise is the same.
    unsafe {
        string_copy(dst, src, len);
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    // SAFETY: the caller's promise is the same.
    unsafe {
        portable::store(dst, src, len);
    }
}

/// Copies shared memory to shared memory.
///
/// # Safety
/// Both ranges are shared as the module says, 8-byte aligned, of a length that
/// is a multiple of 8, and do not overlap.
pub(super) unsafe fn transfer(dst: *mut u8, src: *const u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the caller's promise is the same.
    unsafe {
        string_copy(dst, src, len);
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    // SAFETY: the caller's promise is the same.
    unsafe {
        portable::transfer(dst, src, len);
    }
}

/// Zeroes shared memory.
///
/// # Safety
/// `dst..dst + len` is shared as the module says, 8-byte aligned, and `len` is
/// a multiple of 8.
pub(super) unsafe fn zero(dst: *mut u8, len: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: the caller vouches for the range; direction flag and flags as in
    // `string_copy`.
    unsafe {
        std::arch::asm!(
            "rep stosb",
            inout("rcx") len => _,
            inout("rdi") dst => _,
            in("al") 0u8,
            options(nostack, preserves_flags)
        );
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    // SAFETY: the caller's promise is the same.
    unsafe {
        portable::zero(dst, len);
    }
}

/// The same in Rust's own memory model: every access to shared memory is a
/// relaxed access to an aligned word, so that no two accesses of different
/// sizes ever race.
#[cfg(any(test, not(target_arch = "x86_64"), miri))]
mod portable {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    const WORD: usize = size_of::<u64>();

    /// The word that holds `at`, and where in it `at` lies.
    ///
    /// # Safety
    /// The aligned word around `at` is shared memory that outlives `'a`.
    unsafe fn word<'a>(at: *const u8) -> (&'a AtomicU64, usize) {
        let skew = at.addr() % WORD;
        // SAFETY: the caller promises the word; it is aligned by construction,
        // and everybody reaches it as an atomic.
        (unsafe { &*at.sub(skew).cast::<AtomicU64>() }, skew)
    }

    /// See [`super::load`].
    pub(super) unsafe fn load(mut dst: *mut u8, mut src: *const u8, mut len: usize) {
        while len > 0 {
            // SAFETY: `src` is inside the range that the caller promised; the
            // private bytes are writable for what is left, which `take` never
            // exceeds.
            unsafe {
                let (word, skew) = word(src);
                let take = (WORD - skew).min(len);
                let bytes = word.load(Relaxed).to_ne_bytes();
                std::ptr::copy_nonoverlapping(bytes.as_ptr().add(skew), dst, take);
                dst = dst.add(take);
                src = src.add(take);
                len -= take;
            }
        }
    }

    /// See [`super::store`].
    pub(super) unsafe fn store(mut dst: *mut u8, mut src: *const u8, mut len: usize) {
        while len > 0 {
            // SAFETY: as in `load`, with the roles exchanged.
            unsafe {
                let (word, skew) = word(dst);
                let take = (WORD - skew).min(len);
                let put = |old: u64| {
                    let mut bytes = old.to_ne_bytes();
                    std::ptr::copy_nonoverlapping(src, bytes.as_mut_ptr().add(skew), take);
                    u64::from_ne_bytes(bytes)
                };
                if take == WORD {
                    word.store(put(0), Relaxed);
                } else {
                    // The other bytes of the word may be somebody else's.
                    let _ = word.fetch_update(Relaxed, Relaxed, |old| Some(put(old)));
                }
                dst = dst.add(take);
                src = src.add(take);
                len -= take;
            }
        }
    }

    /// See [`super::transfer`].
    #[cfg_attr(all(target_arch = "x86_64", not(miri)), allow(dead_code))]
    pub(super) unsafe fn transfer(dst: *mut u8, src: *const u8, len: usize) {
        for at in (0..len).step_by(WORD) {
            // SAFETY: both ranges are aligned and long enough by the caller's
            // promise.
            unsafe {
                let (from, _) = word(src.add(at));
                let (to, _) = word(dst.add(at));
                to.store(from.load(Relaxed), Relaxed);
            }
        }
    }

    /// See [`super::zero`].
    #[cfg_attr(all(target_arch = "x86_64", not(miri)), allow(dead_code))]
    pub(super) unsafe fn zero(dst: *mut u8, len: usize) {
        for at in (0..len).step_by(WORD) {
            // SAFETY: the range is aligned and long enough by the caller's
            // promise.
            unsafe { word(dst.add(at)) }.0.store(0, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Copy = unsafe fn(*mut u8, *const u8, usize);

    /// Every skew and short length, against a plain copy.
    fn exhaust(load: Copy, store: Copy) {
        let private: Vec<u8> = (0..64).map(|i| i * 3 + 1).collect();
        for skew in 0..16 {
            for len in 0..40 {
                let mut shared = [0u64; 8];
                let base = shared.as_mut_ptr().cast::<u8>();
                let mut back = vec![0u8; len];
                // SAFETY: 16 + 40 bytes fit in the 64 of `shared`, which is
                // reached only through this pointer meanwhile.
                unsafe {
                    store(base.add(skew), private.as_ptr(), len);
                    load(back.as_mut_ptr(), base.add(skew), len);
                }
                assert_eq!(back, private[..len], "skew {skew} len {len}");
                let mut expect = [0u8; 64];
                expect[skew..skew + len].copy_from_slice(&private[..len]);
                let bytes: Vec<u8> = shared.iter().flat_map(|w| w.to_ne_bytes()).collect();
                assert_eq!(bytes, expect, "neighbours changed: skew {skew} len {len}");
            }
        }
    }

    #[test]
    fn native_copies_every_skew_and_length() {
        exhaust(load, store);
    }

    #[test]
    fn portable_copies_every_skew_and_length() {
        exhaust(portable::load, portable::store);
    }
}
