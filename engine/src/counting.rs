//! An allocator that counts: for tests that nothing is allocated.
//!
//! A test program makes it its global allocator and looks at
//! [`allocations`] before and after what it judges.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// The system's allocator, with a count for each thread.
#[derive(Debug)]
pub struct Counting;

/// How often this thread has allocated. Stays 0 unless [`Counting`] is the
/// program's global allocator.
pub fn allocations() -> u64 {
    COUNT.get()
}

/// Bytes that this thread has allocated, less those that it has freed, each
/// allocation counted as a usual heap has it: 8 bytes more, in steps of 16.
pub fn held() -> i64 {
    HELD.get()
}

fn cost(size: usize) -> i64 {
    (size + 8).next_multiple_of(16) as i64
}

fn hold(by: i64) {
    let _ = HELD.try_with(|held| held.set(held.get() + by));
}

fn count() {
    // A thread that is about to end counts no more.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: everything is passed on to the system's allocator unchanged; counting
// touches a constant-initialised thread-local, which never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        hold(cost(layout.size()));
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        hold(cost(layout.size()));
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        hold(-cost(layout.size()));
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        hold(cost(size) - cost(layout.size()));
        // SAFETY: the caller's promise is the same.
        unsafe { System.realloc(ptr, layout, size) }
    }
}
