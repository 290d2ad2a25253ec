//! Submitting and polling from C allocate nothing, whatever goes through the queue.

use freehold_c::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what is asked for.
struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);

// SAFETY: all is the system's own; counting changes nothing of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const DEPTH: usize = 32;

/// A queue, and what goes through it.
struct Bed {
    queue: *mut fh_queue,
    file: *mut fh_file,
    plain: Vec<*mut fh_buffer>,
    leased: Vec<*mut fh_lease_buffer>,
    done: Vec<fh_completion>,
}

impl Bed {
    /// Reads, overwrites, fills and flushes, all of them at once, and reaps them.
    fn go(&mut self) {
        for i in 0..DEPTH {
            let at = i as u64 * 8192;
            // SAFETY: the handles are good, and nothing is in flight.
            let code = unsafe {
                match i % 4 {
                    0 => fh_queue_read(self.queue, self.file, at, self.plain[i], 1),
                    1 => fh_queue_write(self.queue, self.file, at, self.plain[i], 1),
                    2 => fh_queue_fill(self.queue, self.leased[i], 1),
                    _ => fh_queue_flush(self.queue, self.leased[i], 1),
                }
            };
            assert_eq!(code, 0);
        }
        let mut told = 0;
        while told < DEPTH as i64 {
            // SAFETY: there is so much room.
            let n = unsafe { fh_queue_poll(self.queue, self.done.as_mut_ptr(), 8) };
            assert!(n >= 0);
            told += n;
        }
    }
}

#[test]
fn nothing_is_allocated_for_an_operation() {
    let store = handle_of(freehold::Store::format("mem:32M", &Default::default()).unwrap());
    let mut bed = Bed {
        queue: null_mut(),
        file: null_mut(),
        plain: vec![null_mut(); DEPTH],
        leased: vec![null_mut(); DEPTH],
        done: Vec::with_capacity(8),
    };
    let (mut lease, bytes) = (null_mut(), vec![1u8; 1 << 20]);
    // SAFETY: names, bytes and places are good, and this thread has all of them alone.
    unsafe {
        assert_eq!(fh_store_create(store, c"f".as_ptr(), 1, &raw mut bed.file), 0);
        assert_eq!(fh_file_write(bed.file, bytes.as_ptr().cast(), bytes.len(), 0), 0);
        assert_eq!(fh_queue_new(store, DEPTH as u32, &raw mut bed.queue), 0);
        let taken = fh_file_lease(bed.file, FH_WRITE, 0, FH_TO_END, null(), &raw mut lease);
        assert_eq!(taken, 0);
        for i in 0..DEPTH {
            let one = fh_lease_buffer_options {
                size: size_of::<fh_lease_buffer_options>() as u32,
                flags: 0,
                memory: FH_MEMORY_DMA,
                reserved: 0,
                offset: i as u64 * 8192,
                length: 4096,
            };
            let (plain, leased) = (&raw mut bed.plain[i], &raw mut bed.leased[i]);
            assert_eq!(fh_buffer_new(bed.queue, FH_MEMORY_DMA, 4096, plain), 0);
            assert_eq!(fh_lease_buffer_new(lease, &raw const one, leased), 0);
        }
    }
    (0..100).for_each(|_| bed.go());
    let before = ASKED.load(Ordering::Relaxed);
    (0..1000).for_each(|_| bed.go());
    assert_eq!(ASKED.load(Ordering::Relaxed) - before, 0, "allocations of 32000 operations");
    // SAFETY: each handle is ended once.
    unsafe {
        fh_queue_free(bed.queue);
        bed.plain.iter().for_each(|b| fh_buffer_free(*b));
        bed.leased.iter().for_each(|b| fh_lease_buffer_free(*b));
        fh_lease_free(lease);
        fh_file_free(bed.file);
        assert_eq!(fh_store_close(store), 0);
    }
}
