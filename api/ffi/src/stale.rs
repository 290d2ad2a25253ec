//! Windows that are taken away at the fence: where they are, for who faults.
//!
//! Looked up by a signal handler: nothing here locks, allocates, or waits. Entries are made once
//! and used again; each is read between two looks at its number, which is odd while it changes.

use crate::args::{Sized32, sized};
use crate::code::{FH_EFAULT, FH_EINVAL};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, fence};

/// What is behind an address.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_window {
    /// sizeof(struct fh_window), set by the caller.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// The number of the lease whose window it is.
    pub lease: u64,
    /// Which byte of the file it is.
    pub offset: u64,
    /// Where the window begins.
    pub address: u64,
    /// Bytes of the window.
    pub length: u64,
}

sized! {
    fh_window: length,
}

#[derive(Default)]
struct Entry {
    /// Odd while the rest changes.
    number: AtomicU64,
    /// 0 for an entry that nobody has.
    lease: AtomicU64,
    offset: AtomicU64,
    start: AtomicU64,
    length: AtomicU64,
    next: AtomicPtr<Entry>,
}

/// All entries there ever were, the newest first.
static ALL: AtomicPtr<Entry> = AtomicPtr::new(null_mut());

fn all() -> impl Iterator<Item = &'static Entry> {
    let mut at = ALL.load(Ordering::Acquire);
    std::iter::from_fn(move || {
        // SAFETY: entries are leaked, and whole when they are found.
        let entry: &'static Entry = unsafe { at.as_ref()? };
        at = entry.next.load(Ordering::Acquire);
        Some(entry)
    })
}

impl Entry {
    /// Changes it. One thread at a time may: of two the later waits for the few stores of the
    /// other.
    fn change(&self, change: impl FnOnce(&Entry)) {
        let mut number = self.number.load(Ordering::Relaxed) & !1;
        while let Err(now) = self.number.compare_exchange_weak(
            number,
            number + 1,
            Ordering::Acquire,
            Ordering::Relaxed,
        ) {
            std::hint::spin_loop();
            number = now & !1;
        }
        fence(Ordering::Release);
        change(self);
        self.number.store(number + 2, Ordering::Release);
    }

    /// What it says of an address; nothing while it changes.
    fn says(&self, address: u64) -> Option<fh_window> {
        let before = self.number.load(Ordering::Acquire);
        let get = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let (lease, offset) = (get(&self.lease), get(&self.offset));
        let (start, length) = (get(&self.start), get(&self.length));
        fence(Ordering::Acquire);
        let steady = before & 1 == 0 && self.number.load(Ordering::Relaxed) == before;
        let into = address.checked_sub(start)?;
        (steady && lease != 0 && into < length).then_some(fh_window {
            size: 0,
            reserved: 0,
            lease,
            offset: offset + into,
            address: start,
            length,
        })
    }
}

/// A window that is known for as long as this is.
pub(crate) struct Known(&'static Entry);

impl Known {
    /// One whose place is not known yet.
    pub(crate) fn new(lease: u64, offset: u64) -> Self {
        let take = |e: &&Entry| {
            let free = e.lease.load(Ordering::Relaxed) == 0;
            free && e.lease.compare_exchange(0, lease, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        let entry = all().find(take).unwrap_or_else(|| {
            let entry = Entry { lease: AtomicU64::new(lease), ..Entry::default() };
            let entry: &'static Entry = Box::leak(Box::new(entry));
            let mut first = ALL.load(Ordering::Acquire);
            loop {
                entry.next.store(first, Ordering::Relaxed);
                let new = std::ptr::from_ref(entry).cast_mut();
                match ALL.compare_exchange(first, new, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return entry,
                    Err(now) => first = now,
                }
            }
        });
        entry.change(|e| {
            e.length.store(0, Ordering::Relaxed);
            e.offset.store(offset, Ordering::Relaxed);
        });
        Known(entry)
    }

    /// It is here: a window that is laid anew is elsewhere.
    pub(crate) fn is_at(&self, start: usize, length: u64) {
        let same = |of: &AtomicU64, value: u64| of.load(Ordering::Relaxed) == value;
        if same(&self.0.start, start as u64) && same(&self.0.length, length) {
            return;
        }
        self.0.change(|e| {
            e.start.store(start as u64, Ordering::Relaxed);
            e.length.store(length, Ordering::Relaxed);
        });
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        self.0.change(|e| e.length.store(0, Ordering::Relaxed));
        self.0.lease.store(0, Ordering::Release);
    }
}

/// Says whether an address lies in a window that was made with FH_BUFFER_CLOSES and pinned since:
/// for a handler of SIGSEGV, which so tells a pin that was kept too long from another fault.
/// It may be called in a signal handler: it locks nothing, allocates nothing, and leaves
/// fh_error_message alone.
///
/// Parameters: `address` is si_addr. `window` is filled; the caller sets its size before.
/// Thread: any, also in a signal handler.
/// Ownership: nothing changes hands.
/// Returns: 1 if it does, 0 if not; or a code.
/// Errors: FH_EFAULT, and FH_EINVAL for a wrong size, without a message.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_window_at(address: *const c_void, window: *mut fh_window) -> c_int {
    if window.is_null() {
        return FH_EFAULT;
    }
    // SAFETY: the struct begins with its size, by the caller's promise.
    let size = unsafe { (&raw const (*window).size).read() };
    let known = (size as usize).min(size_of::<fh_window>());
    if (size as usize) < fh_window::LEAST || size > 4096 {
        return FH_EINVAL;
    }
    let Some(mut found) = all().find_map(|e| e.says(address.addr() as u64)) else { return 0 };
    found.size = size;
    // SAFETY: the caller's struct has so many bytes.
    unsafe {
        window.cast::<u8>().copy_from_nonoverlapping((&raw const found).cast(), known);
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: usize) -> Option<fh_window> {
        let mut found = fh_window {
            size: size_of::<fh_window>() as u32,
            reserved: 0,
            lease: 0,
            offset: 0,
            address: 0,
            length: 0,
        };
        let address = std::ptr::without_provenance(address);
        // SAFETY: the struct is a good one.
        (unsafe { fh_window_at(address, &raw mut found) } == 1).then_some(found)
    }

    #[test]
    fn a_window_is_known_while_it_is_there() {
        let one = Known::new(7, 4096);
        assert!(at(0x10_0000).is_none());
        one.is_at(0x10_0000, 8192);
        let found = at(0x10_1fff).unwrap();
        assert_eq!((found.lease, found.offset, found.address), (7, 4096 + 8191, 0x10_0000));
        assert!(at(0x10_2000).is_none() && at(0xf_ffff).is_none());
        let two = Known::new(8, 0);
        two.is_at(0x20_0000, 4096);
        one.is_at(0x30_0000, 4096);
        assert!(at(0x10_0000).is_none(), "it was laid anew");
        assert_eq!((at(0x20_0000).unwrap().lease, at(0x30_0000).unwrap().lease), (8, 7));
        drop(one);
        assert!(at(0x30_0000).is_none());
        let entries = all().count();
        let three = Known::new(9, 0);
        assert_eq!(all().count(), entries, "an entry is used again");
        three.is_at(0x30_0000, 1);
        assert_eq!(at(0x30_0000).unwrap().lease, 9);
        let mut small = fh_window { size: 8, ..at(0x30_0000).unwrap() };
        // SAFETY: the struct is a good one, and null is told.
        unsafe {
            assert_eq!(fh_window_at(std::ptr::null(), &raw mut small), FH_EINVAL);
            assert_eq!(fh_window_at(std::ptr::null(), null_mut()), FH_EFAULT);
        }
    }
}
