//! What a pin costs, beside what others pay to say "in use".
//!
//! `pin [ROUNDS]`: pins and unpins a lease; clones and drops an `Arc` of the thread's
//! own, and one that all threads share; pins crossbeam-epoch; read-locks a `RwLock`.
//! Each on one thread and on two at once, in turn, `ROUNDS` times (by default 15): the
//! median of the rounds, the lowest and the highest, in nanoseconds of a thread's own
//! processor time.
//! Then what recalls cost: one lease, and 10,000.

use freehold_engine::pin::{IoPins, PinState, Waiter, quiet, recall};
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::{Arc, Barrier, RwLock};
use std::time::Instant;

/// Operations timed at once.
const BATCH: u64 = 2_000_000;
const LEASES: usize = 10_000;

/// What all threads of a round share.
struct Shared {
    lease: Arc<PinState>,
    fenced: Arc<PinState>,
    gated: Arc<PinState>,
    counted: Arc<u64>,
    lock: RwLock<u64>,
}

type Work = fn(&Shared);

const WORKS: &[(&str, Work)] = &[
    ("pin + unpin", |s| times(|| drop(black_box(s.lease.pin())))),
    ("pin + unpin of a command", |s| {
        let mut pins = IoPins::new();
        times(|| {
            if let Ok(pin) = black_box(pins.submit(&s.lease)) {
                pins.complete(&s.lease, pin);
            }
        });
    }),
    ("pin + unpin, without membarrier", |s| times(|| drop(black_box(s.fenced.pin())))),
    ("pin + unpin after an exclusive pin", |s| times(|| drop(black_box(s.gated.pin())))),
    ("exclusive pin + unpin, a lease each", |_| {
        let own = PinState::new(&Waiter::none());
        times(|| drop(black_box(own.pin_exclusive())));
    }),
    ("long pin + unpin", |s| times(|| drop(black_box(s.lease.hold())))),
    ("Arc clone + drop, an Arc each", |_| {
        let own = Arc::new(0u64);
        times(|| drop(black_box(Arc::clone(black_box(&own)))));
    }),
    ("Arc clone + drop, one Arc", |s| times(|| drop(black_box(Arc::clone(&s.counted))))),
    ("crossbeam-epoch pin + unpin", |_| times(|| drop(black_box(crossbeam_epoch::pin())))),
    ("RwLock read + unlock, one lock", |s| times(|| drop(black_box(s.lock.read())))),
];

#[inline(always)]
fn times(mut operation: impl FnMut()) {
    for _ in 0..BATCH {
        operation();
    }
}

fn main() -> ExitCode {
    let rounds = match std::env::args().nth(1).map(|arg| arg.parse::<usize>()) {
        None => 15,
        Some(Ok(rounds @ 1..)) => rounds,
        Some(_) => {
            eprintln!("pin: give a number of rounds");
            return ExitCode::FAILURE;
        }
    };
    let shared = Shared {
        lease: PinState::new(&Waiter::none()),
        fenced: PinState::with_fences(&Waiter::none()),
        gated: PinState::new(&Waiter::none()),
        counted: Arc::new(0),
        lock: RwLock::new(0),
    };
    drop(shared.gated.pin_exclusive());
    println!("ns an operation: median (lowest to highest of {rounds} rounds)");
    println!("{:36} {:>22} {:>22}", "", "1 thread", "2 threads");
    // Sides take turns within a round, so that a slow moment hits all of them.
    let mut found = vec![[Vec::new(), Vec::new()]; WORKS.len()];
    for _ in 0..rounds {
        for ((_, work), found) in WORKS.iter().zip(&mut found) {
            found[0].push(time(1, *work, &shared));
            found[1].push(time(2, *work, &shared));
        }
    }
    for ((name, _), found) in WORKS.iter().zip(&mut found) {
        let [one, two] = found.each_mut().map(|found| spread(found, 2));
        println!("{name:36} {one:>22} {two:>22}");
    }
    println!();
    recalls(rounds);
    ExitCode::SUCCESS
}

/// Nanoseconds that this thread has run: what other programs take does not count.
fn processor_time() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}

/// Nanoseconds of an operation when so many threads do it at once.
fn time(threads: usize, work: Work, shared: &Shared) -> f64 {
    let start = Barrier::new(threads);
    let each = std::thread::scope(|scope| {
        let run = || {
            start.wait();
            let begun = processor_time();
            work(shared);
            processor_time() - begun
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let times = threads.into_iter().filter_map(|thread| thread.join().ok());
        times.fold(0.0, f64::max)
    });
    each / BATCH as f64
}

fn spread(found: &mut [f64], digits: usize) -> String {
    found.sort_by(f64::total_cmp);
    let (low, high) = (found[0], found[found.len() - 1]);
    format!("{:.digits$} ({low:.digits$}-{high:.digits$})", found[found.len() / 2])
}

/// From the call to the moment when all are known to be quiet, in microseconds.
fn recalls(rounds: usize) {
    let leases: Vec<_> = (0..LEASES).map(|_| PinState::new(&Waiter::none())).collect();
    println!("us from recall until quiet: median (lowest to highest)");
    for (name, leases) in [("one lease", &leases[..1]), ("10,000 leases", &leases[..])] {
        for busy in [false, true] {
            let mut found: Vec<f64> = (0..rounds).map(|_| take(leases, busy)).collect();
            let name = format!("{name}{}", if busy { ", beside a busy thread" } else { "" });
            println!("{name:36} {:>22}", spread(&mut found, 1));
        }
    }
}

fn take(leases: &[Arc<PinState>], busy: bool) -> f64 {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    leases.iter().for_each(|lease| drop(lease.pin()));
    let (stop, ready) = (AtomicBool::new(!busy), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            leases.iter().for_each(|lease| drop(lease.pin()));
            ready.wait();
            while !stop.load(Relaxed) {
                std::hint::spin_loop();
            }
        });
        ready.wait();
        let begun = Instant::now();
        let recalled = recall(leases).is_ok();
        let all = quiet(leases).into_iter().all(|quiet| quiet);
        let took = begun.elapsed().as_secs_f64() * 1e6;
        stop.store(true, Relaxed);
        assert!(recalled && all, "a lease that nobody pins is quiet");
        leases.iter().for_each(|lease| assert!(lease.renew().is_some()));
        took
    })
}
