//! What a pin costs, beside what others pay to say "in use".
//!
//! `pin [ROUNDS]`: pins and unpins a lease, and its buffers; clones and drops an `Arc` of the thread's
//! own, and one that all threads share; pins crossbeam-epoch; read-locks a `RwLock`.
//! Each on one thread and on two at once, in turn, `ROUNDS` times (by default 15): the
//! median of the rounds, the lowest and the highest, in nanoseconds of a thread's own
//! processor time.
//! Then what recalls cost: one lease, and 10,000.

use freehold_bench::pins::{Shared, WORKS, time};
use freehold_bench::spread;
use freehold_engine::pin::{PinRef, PinState, Waiter, quiet, recall};
use std::process::ExitCode;
use std::sync::Barrier;
use std::time::Instant;

/// Operations timed at once.
const BATCH: u64 = 2_000_000;
const LEASES: usize = 10_000;

fn main() -> ExitCode {
    let rounds = match std::env::args().nth(1).map(|arg| arg.parse::<usize>()) {
        None => 15,
        Some(Ok(rounds @ 1..)) => rounds,
        Some(_) => {
            eprintln!("pin: give a number of rounds");
            return ExitCode::FAILURE;
        }
    };
    let shared = match Shared::new() {
        Ok(shared) => shared,
        Err(e) => {
            eprintln!("pin: {e}");
            return ExitCode::FAILURE;
        }
    };
    println!("ns an operation: median (lowest to highest of {rounds} rounds)");
    println!("{:36} {:>22} {:>22}", "", "1 thread", "2 threads");
    // Sides take turns within a round, so that a slow moment hits all of them.
    let mut found = vec![[Vec::new(), Vec::new()]; WORKS.len()];
    for _ in 0..rounds {
        for ((_, work), found) in WORKS.iter().zip(&mut found) {
            found[0].push(time(1, *work, &shared, BATCH));
            found[1].push(time(2, *work, &shared, BATCH));
        }
    }
    for ((name, _), found) in WORKS.iter().zip(&mut found) {
        let [one, two] = found.each_mut().map(|found| show(found, 2));
        println!("{name:36} {one:>22} {two:>22}");
    }
    println!();
    recalls(rounds);
    ExitCode::SUCCESS
}

fn show(found: &mut [f64], digits: usize) -> String {
    let (mid, low, high) = spread(found);
    format!("{mid:.digits$} ({low:.digits$}-{high:.digits$})")
}

/// From the call to the moment when all are known to be quiet, in microseconds.
fn recalls(rounds: usize) {
    let leases: Vec<_> = (0..LEASES).map(|_| PinState::new(&Waiter::none()).shared()).collect();
    println!("us from recall until quiet: median (lowest to highest)");
    for (name, leases) in [("one lease", &leases[..1]), ("10,000 leases", &leases[..])] {
        for busy in [false, true] {
            let mut found: Vec<f64> = (0..rounds).map(|_| take(leases, busy)).collect();
            let name = format!("{name}{}", if busy { ", beside a busy thread" } else { "" });
            println!("{name:36} {:>22}", show(&mut found, 1));
        }
    }
}

fn take(leases: &[PinRef], busy: bool) -> f64 {
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
