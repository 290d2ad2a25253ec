//! Pins, and what others do to say "in use": loops to be timed.

use freehold::{Access, LeaseBuffer, LeaseOptions, Memory, Result, Store};
use freehold_engine::pin::{IoPins, PinRef, PinState, Waiter};
use std::hint::black_box;
use std::sync::{Arc, Barrier, RwLock};

/// What all threads of a round share.
#[derive(Debug)]
pub struct Shared {
    lease: PinRef,
    fenced: PinRef,
    gated: PinRef,
    counted: Arc<u64>,
    lock: RwLock<u64>,
    window: LeaseBuffer,
    memory: LeaseBuffer,
}

impl Shared {
    /// Leases that are held, one of them once pinned exclusively.
    ///
    /// # Errors
    /// What a store in memory reports.
    pub fn new() -> Result<Shared> {
        let gated = PinState::new(&Waiter::none()).shared();
        drop(gated.pin_exclusive());
        let store = Store::format("mem:16M", &Default::default())?;
        let file = store.create(b"f")?;
        file.write_at(&[1; 4096], 0)?;
        let lease = || file.lease(.., Access::Stable, &LeaseOptions::default());
        Ok(Shared {
            lease: PinState::new(&Waiter::none()).shared(),
            fenced: PinState::with_fences(&Waiter::none()).shared(),
            gated,
            counted: Arc::new(0),
            lock: RwLock::new(0),
            window: lease()?.buffer(Memory::Window)?,
            memory: lease()?.buffer(Memory::Dma)?,
        })
    }
}

/// An operation, so many times.
pub type Work = fn(&Shared, u64);

/// The pin of the engine.
pub const PIN: &str = "pin + unpin";
/// The same through the API, of the storage itself.
pub const WINDOW: &str = "pin + unpin of a window buffer";
/// The same, of memory of its own.
pub const MEMORY: &str = "pin + unpin of a DMA buffer";
/// What an object's users do who do not share a count.
pub const OWN_ARC: &str = "Arc clone + drop, an Arc each";
/// And those who do.
pub const ONE_ARC: &str = "Arc clone + drop, one Arc";
/// A pin of another kind: it protects all or nothing.
pub const EPOCH: &str = "crossbeam-epoch pin + unpin";
/// The plain way.
pub const RW_LOCK: &str = "RwLock read + unlock, one lock";

/// All of them.
pub const WORKS: &[(&str, Work)] = &[
    (PIN, |s, n| times(n, || drop(black_box(s.lease.pin())))),
    (WINDOW, |s, n| times(n, || touch(&s.window))),
    (MEMORY, |s, n| times(n, || touch(&s.memory))),
    ("pin + unpin of a command", |s, n| {
        let mut pins = IoPins::new();
        times(n, || {
            if let Ok(pin) = black_box(pins.submit(&s.lease)) {
                pins.complete(&s.lease, pin);
            }
        });
    }),
    ("pin + unpin, without membarrier", |s, n| times(n, || drop(black_box(s.fenced.pin())))),
    ("pin + unpin after an exclusive pin", |s, n| times(n, || drop(black_box(s.gated.pin())))),
    ("exclusive pin + unpin, a lease each", |_, n| {
        let own = PinState::new(&Waiter::none()).shared();
        times(n, || drop(black_box(own.pin_exclusive())));
    }),
    ("long pin + unpin", |s, n| times(n, || drop(black_box(s.lease.hold())))),
    (OWN_ARC, |_, n| {
        let own = Arc::new(0u64);
        times(n, || drop(black_box(Arc::clone(black_box(&own)))));
    }),
    (ONE_ARC, |s, n| times(n, || drop(black_box(Arc::clone(&s.counted))))),
    (EPOCH, |_, n| times(n, || drop(black_box(crossbeam_epoch::pin())))),
    (RW_LOCK, |s, n| times(n, || drop(black_box(s.lock.read())))),
];

#[inline(always)]
fn times(count: u64, mut operation: impl FnMut()) {
    for _ in 0..count {
        operation();
    }
}

/// A pin as a program has it, which looks at something of it: in registers, and not, as a
/// black box for the whole would have it, through memory.
#[inline(always)]
fn touch(buffer: &LeaseBuffer) {
    if let Ok(pin) = black_box(buffer).pin() {
        black_box(pin.len());
    }
}

/// Nanoseconds that this thread has run: what other programs take does not count.
fn processor_time() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// Nanoseconds of an operation when so many threads do it at once, `count` times each: of a
/// thread's own processor time, of the slowest thread.
pub fn time(threads: usize, work: Work, shared: &Shared, count: u64) -> f64 {
    let start = Barrier::new(threads);
    let each = std::thread::scope(|scope| {
        let run = || {
            start.wait();
            let begun = processor_time();
            work(shared, count);
            processor_time() - begun
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let times = threads.into_iter().filter_map(|thread| thread.join().ok());
        times.fold(0.0, f64::max)
    });
    each / count as f64
}
