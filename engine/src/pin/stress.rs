//! Pins on many threads with the system's own barrier: nothing is quiet while it is
//! in use, nobody waits for ever, and counters outlive their threads.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How often all leases are recalled.
const ROUNDS: u64 = 1_000;
/// How often the one lease of a duel is.
const DUELS: u64 = 300;

/// Wakes a revoker that sleeps.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ring: Condvar,
}

impl Wake for Arc<Bell> {
    fn wake(&self) {
        *self.rung.lock().unwrap() = true;
        self.ring.notify_one();
    }
}

impl Bell {
    /// Sleeps until a pin ends. A wake that is lost would be a test that hangs, so
    /// it is a failure after a minute.
    fn sleep(&self) {
        let rung = self.rung.lock().unwrap();
        let minute = Duration::from_secs(60);
        let (mut rung, late) = self.ring.wait_timeout_while(rung, minute, |rung| !*rung).unwrap();
        assert!(!late.timed_out(), "nobody woke the revoker");
        *rung = false;
    }
}

/// A lease and what lies under it: two words that agree, but while its one owner
/// changes them.
struct Plot {
    lease: PinRef,
    words: [AtomicU64; 2],
}

impl Plot {
    fn look(&self) {
        let [a, b] = &self.words;
        let a = a.load(Relaxed);
        pause(8);
        assert_eq!(a, b.load(Relaxed), "changed under a pin");
    }

    fn change(&self) {
        for word in &self.words {
            word.store(word.load(Relaxed) + 1, Relaxed);
            pause(32);
        }
    }
}

fn pause(steps: u64) {
    (0..steps).for_each(|_| std::hint::spin_loop());
}

/// A small generator, so that a run is repeated by its seed.
fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// One round of a thread that uses plots in every way that there is.
fn use_some(plots: &[Plot], pins: &mut IoPins, seed: &mut u64) {
    let plot = &plots[next(seed) as usize % plots.len()];
    match next(seed) % 32 {
        0 => {
            if let Ok(pin) = plot.lease.hold() {
                plot.look();
                let more = pin.clone();
                drop(pin);
                plot.look();
                drop(more);
            }
        }
        1 => {
            if let Ok(pin) = plot.lease.pin() {
                let long = pin.into_long(&plot.lease).unwrap();
                plot.look();
                drop(long);
            }
        }
        2 => {
            if let Ok(pin) = plot.lease.pin_exclusive() {
                plot.change();
                plot.look();
                if next(seed).is_multiple_of(2) { pin.reopen() } else { drop(pin) }
            }
        }
        3..12 => {
            if let Ok(pin) = pins.submit(&plot.lease) {
                plot.look();
                pins.complete(&plot.lease, pin);
            }
        }
        _ => {
            if let Ok(pin) = plot.lease.pin() {
                plot.look();
                drop(pin);
            }
        }
    }
}

fn revoke_all(plots: &[Plot], bell: &Bell) {
    let leases: Vec<_> = plots.iter().map(|plot| plot.lease.clone()).collect();
    recall(&leases).unwrap();
    for plot in plots {
        while !plot.lease.is_quiet() {
            bell.sleep();
        }
        plot.change();
    }
    std::thread::yield_now();
    for plot in plots {
        plot.lease.renew().unwrap();
    }
    // The users go on for a while, also where they have one processor with us.
    std::thread::yield_now();
}

fn stress(make: fn(&Waiter) -> PinState) {
    let bell = Arc::new(Bell::default());
    let waiter = Waiter::new(bell.clone());
    let plot = |_| Plot { lease: make(&waiter).shared(), words: Default::default() };
    let plots: Vec<Plot> = (0..5).map(plot).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for user in 1..4u64 {
            let (plots, stop) = (&plots, &stop);
            scope.spawn(move || {
                let mut seed = user * 0x9e37_79b9;
                while !stop.load(Relaxed) {
                    // Threads come and go, and their counters are handed on.
                    let round = next(&mut seed);
                    std::thread::scope(|inner| {
                        inner.spawn(move || {
                            let (mut pins, mut seed) = (IoPins::new(), round | 1);
                            for _ in 0..2_000 {
                                use_some(plots, &mut pins, &mut seed);
                            }
                        });
                    });
                }
            });
        }
        for _ in 0..ROUNDS {
            revoke_all(&plots, &bell);
        }
        stop.store(true, SeqCst);
    });
    for plot in &plots {
        assert!(plot.lease.counts().is_empty(), "{:?}", plot.lease.counts());
        assert_eq!(plot.lease.seq(), ROUNDS + 1);
    }
}

/// One thread pins as fast as it can, another takes as fast as it can: what is lost
/// in the few nanoseconds between a count and the state is found here.
fn duel(make: fn(&Waiter) -> PinState) {
    let plot = Plot { lease: make(&Waiter::none()).shared(), words: Default::default() };
    let (stop, used) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            while !stop.load(Relaxed) {
                if let Ok(pin) = plot.lease.pin() {
                    plot.look();
                    plot.look();
                    drop(pin);
                    used.fetch_add(1, Relaxed);
                }
            }
        });
        let mut seed = 0x9e37_79b9;
        for _ in 0..DUELS {
            // Meets the user at another point of its loop each time.
            let seen = used.load(Relaxed);
            while used.load(Relaxed) == seen && !user.is_finished() {
                std::thread::yield_now();
            }
            pause(next(&mut seed) % 64);
            recall(&[&plot.lease]).unwrap();
            let mut looks = 0;
            while !plot.lease.is_quiet() {
                std::thread::yield_now();
                looks += 1;
                assert!(looks < 10_000_000, "it is recalled, but pinned all the time");
            }
            plot.change();
            plot.lease.renew().unwrap();
        }
        stop.store(true, SeqCst);
    });
}

#[test]
fn law_r6_nothing_is_taken_while_it_is_pinned() {
    stress(PinState::new);
    duel(PinState::new);
}

#[test]
fn law_r6_nor_without_membarrier() {
    stress(PinState::with_fences);
    duel(PinState::with_fences);
}

#[test]
fn ten_thousand_leases_are_recalled_at_once() {
    let leases: Vec<_> = (0..10_000).map(|_| PinState::new(&Waiter::none()).shared()).collect();
    leases.iter().for_each(|lease| drop(lease.pin().unwrap()));
    let pin = leases[777].pin().unwrap();
    recall(&leases).unwrap();
    let found = quiet(&leases);
    let busy: Vec<usize> = (0..found.len()).filter(|at| !found[*at]).collect();
    assert_eq!(busy, [777]);
    drop(pin);
    assert!(quiet(&leases).iter().all(|quiet| *quiet));
}

#[test]
fn a_forgotten_pin_stays_and_its_slot_is_not_used_again() {
    let lease = PinState::new(&Waiter::none()).shared();
    std::mem::forget(lease.pin().unwrap());
    recall(&[&lease]).unwrap();
    assert!(!lease.is_quiet());
    drop(lease);
    for _ in 0..100 {
        let next = PinState::new(&Waiter::none()).shared();
        drop(next.pin().unwrap());
        recall(&[&next]).unwrap();
        assert!(next.is_quiet(), "a new lease has an old one's pin");
    }
}

#[test]
fn a_pin_that_outlives_its_threads_locals_is_counted_still() {
    struct Late(std::cell::RefCell<Option<ShortPin<'static>>>, PinRef);
    impl Drop for Late {
        fn drop(&mut self) {
            // Whichever of the locals goes first, both of these work.
            drop(self.1.pin().unwrap());
            drop(self.0.take());
            drop(self.1.pin().unwrap());
        }
    }
    std::thread_local! {
        static LATE: std::cell::OnceCell<Late> = const { std::cell::OnceCell::new() };
    }
    let lease = PinState::new(&Waiter::none()).shared();
    let kept: &'static PinRef = Box::leak(Box::new(lease.clone()));
    for pin_first in [false, true] {
        let thread = std::thread::spawn(move || {
            if pin_first {
                drop(kept.pin().unwrap());
            }
            LATE.with(|late| {
                let pin = std::cell::RefCell::new(Some(kept.pin().unwrap()));
                assert!(late.set(Late(pin, kept.clone())).is_ok());
            });
        });
        thread.join().unwrap();
        assert!(lease.counts().is_empty(), "{:?}", lease.counts());
    }
    recall(&[&lease]).unwrap();
    assert!(lease.is_quiet());
}

#[test]
fn a_forked_child_pins_nothing() {
    for lease in
        [PinState::new(&Waiter::none()).shared(), PinState::with_fences(&Waiter::none()).shared()]
    {
        let gated = PinState::new(&Waiter::none()).shared();
        drop(gated.pin_exclusive().unwrap());
        let mut pins = IoPins::new();
        let pin = pins.submit(&lease).unwrap();
        pins.complete(&lease, pin);
        let kept = lease.pin().unwrap();
        // SAFETY: the child calls only what takes no lock and no memory, and ends by
        // `_exit`, so nothing of this process's other threads is relied on there.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let refused = |result: Option<NotHeld>| result == Some(NotHeld::ForkedChild);
            let right = refused(lease.pin().err())
                && refused(lease.hold().err())
                && refused(lease.pin_exclusive().err())
                && refused(gated.pin().err())
                && refused(pins.submit(&lease).err())
                && !lease.is_quiet();
            drop(kept);
            let again = refused(lease.pin().err());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(if right && again { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: `status` is ours, and the child is one that nobody else waits for.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child pinned something");
        assert_eq!(lease.counts(), Counts { short: 1, ..Counts::default() });
        drop(kept);
    }
}
