//! A window laid side by side: pieces of a file, mapped one behind the other at addresses of
//! their own.
//!
//! A range of addresses is reserved, and each piece is mapped there from the file that the
//! window is of. What lies there is the storage, as at the window's own addresses; the ledger
//! books blocks, so it keeps apart who meets at either. Where that cannot be done, a view is
//! made of segments instead: nothing depends on it.

use crate::bus::InFile;
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most pieces that are laid side by side.
pub(super) const MOST: usize = 64;

/// A part of a view: its first byte in the view, its length, and its first byte in the
/// window, if it is not zeroes.
pub(super) type Part = (u64, u64, Option<u64>);

/// Mappings that this process has made here. The system has a limit for each process, and
/// whoever meets it gets no memory any more: a quarter of it is taken at the most.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

fn most_mappings() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
        text.trim().parse().unwrap_or(65_530) / 4
    })
}

/// A share of the mappings that there may be.
#[derive(Debug)]
struct Share(usize);

impl Share {
    fn take(count: usize) -> Option<Self> {
        let share = Self(count);
        let before = TAKEN.fetch_add(count, Ordering::Relaxed);
        (before + count <= most_mappings()).then_some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        TAKEN.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Addresses at which pieces of a window lie side by side. Not inherited by a child.
#[derive(Debug)]
pub(super) struct Side {
    base: NonNull<u8>,
    /// Of the mappings: whole pages.
    len: usize,
    /// Where the view begins in the first page.
    skew: usize,
    _share: Share,
}

// SAFETY: an address and a length, and mappings that may be taken down by any thread.
unsafe impl Send for Side {}
// SAFETY: as above: `&Side` tells where they are, and closes them for everybody.
unsafe impl Sync for Side {}

/// How far into its page the view begins, if each part begins a page and nothing of another
/// part is in its pages.
fn skew(parts: &[Part], page: u64) -> Option<u64> {
    let skew = parts.first()?.2.unwrap_or(0) % page;
    let fits = |(start, _, at): &Part| match at {
        Some(at) => at % page == (skew + start) % page,
        None => true,
    };
    let cut = |(start, ..): &Part| (skew + start).is_multiple_of(page);
    (parts.iter().all(fits) && parts.iter().skip(1).all(cut)).then_some(skew)
}

impl Side {
    /// Lays parts, which are not empty, follow each other and lie in the window, out of the
    /// file that has the window. None where they do not fit pages, are too many, or the system
    /// refuses.
    pub(super) fn lay(file: &InFile<'_>, parts: &[Part], writable: bool) -> Option<Self> {
        let page = rustix::param::page_size() as u64;
        if parts.len() > MOST || cfg!(miri) {
            return None;
        }
        let (skew, share) = (skew(parts, page)?, Share::take(parts.len() + 1)?);
        let (start, len, _) = parts.last()?;
        let len = usize::try_from((skew + start + len).next_multiple_of(page)).ok()?;
        let side = Self { base: reserve(len).ok()?, len, skew: skew as usize, _share: share };
        for &(start, len, at) in parts {
            let inside = (skew + start) % page;
            let to = (skew + start - inside) as usize;
            let len = (inside + len).next_multiple_of(page) as usize;
            let done = match at {
                Some(at) => side.put(to, len, file, at - inside, writable),
                None => side.zeroes(to, len),
            };
            if let Err(error) = done {
                tracing::debug!(%error, parts = parts.len(), "a window is not laid side by side");
                return None;
            }
        }
        // SAFETY: exactly our mappings; the advice changes only what a child inherits.
        let kept = unsafe {
            rustix::mm::madvise(side.base.as_ptr().cast(), side.len, Advice::LinuxDontFork)
        };
        kept.ok().map(|()| side)
    }

    /// Maps a piece of the file over reserved pages.
    fn put(
        &self,
        to: usize,
        len: usize,
        file: &InFile<'_>,
        at: u64,
        writable: bool,
    ) -> Result<(), Errno> {
        debug_assert!(to + len <= self.len);
        let prot = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let flags = match file.sync {
            true => MapFlags::SHARED_VALIDATE | MapFlags::SYNC,
            false => MapFlags::SHARED,
        };
        let at = file.offset.checked_add(at).ok_or(Errno::OVERFLOW)?;
        let address = self.base.as_ptr().wrapping_add(to);
        // SAFETY: the pages are ours, reserved by `lay`, and nothing refers to them yet.
        let put = unsafe {
            rustix::mm::mmap(address.cast(), len, prot, flags | MapFlags::FIXED, file.file, at)
        };
        put.map(|_| ())
    }

    /// Makes reserved pages read as zeroes.
    fn zeroes(&self, to: usize, len: usize) -> Result<(), Errno> {
        debug_assert!(to + len <= self.len);
        let address = self.base.as_ptr().wrapping_add(to);
        // SAFETY: the pages are ours, reserved by `lay`: private memory that nobody wrote.
        unsafe { rustix::mm::mprotect(address.cast(), len, MprotectFlags::READ) }
    }

    /// The view's first byte.
    #[inline]
    pub(super) fn first(&self) -> *mut u8 {
        self.base.as_ptr().wrapping_add(self.skew)
    }

    /// Takes the bytes away, for good: a touch of the addresses, which nobody else gets while
    /// this lives, is a fault.
    ///
    /// # Safety
    /// There is no reference to any of the bytes, and none is made.
    pub(super) unsafe fn close(&self) -> Result<(), Errno> {
        // SAFETY: the pages are ours, and by the caller's promise there is no reference to
        // them. Nothing else lies there.
        unsafe {
            rustix::mm::mmap_anonymous(
                self.base.as_ptr().cast(),
                self.len,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED,
            )
        }
        .map(|_| ())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // SAFETY: the mappings are ours and go with their owner, whom each pin of the view
        // keeps. The call fails only for bad arguments.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Addresses that nobody else gets, and that cannot be touched.
fn reserve(len: usize) -> Result<NonNull<u8>, Errno> {
    // SAFETY: no address is asked for, so no existing mapping is replaced.
    let base = unsafe {
        rustix::mm::mmap_anonymous(
            std::ptr::null_mut(),
            len,
            ProtFlags::empty(),
            MapFlags::PRIVATE | MapFlags::NORESERVE,
        )
    }?;
    NonNull::new(base.cast::<u8>()).ok_or(Errno::NOMEM)
}

#[cfg(test)]
mod tests;
