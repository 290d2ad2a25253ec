//! The driver and an emulator that sleeps, in two processes: no wake-up is lost between them.

use crate::Emulator;
use freehold_engine::bus::Counted;
use freehold_engine::medium::{Op, Queue};
use freehold_engine::nvme::{Timeouts, open_on};
use freehold_engine::vfio_user::{Client, ClientOptions};
use freehold_tests::nvme::served::fresh_path;
use freehold_tests::random::Random;
use freehold_tests::seeds;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Rounds of a seed: an idle time, then one batch.
const ROUNDS: u64 = 250;

/// Takes in what was begun, or says that it never ends. The driver reads the status register
/// of a controller that completes nothing, which wakes it: but only after more polls than
/// these, so that nothing wakes it here but the doorbell.
fn take_in(queue: &mut dyn Queue) -> bool {
    let pauses = [(2000, 0), (900, 200), (1000, 10_000)];
    let polls = pauses.iter().flat_map(|&(count, pause)| (0..count).map(move |_| pause));
    let mut done = Vec::new();
    for pause in polls {
        queue.poll(&mut done);
        if queue.in_flight() == 0 {
            return done.iter().all(|end| end.result.is_ok());
        }
        match pause {
            0 => std::hint::spin_loop(),
            us => std::thread::sleep(Duration::from_micros(us)),
        }
    }
    false
}

/// Waits until another process waits in the system for something, for a while at most.
fn until_asleep(pid: u32) {
    for _ in 0..50 {
        let place = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
        if place.contains("poll") {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn no_wake_up_is_lost_between_processes() {
    for seed in seeds::range(0..2) {
        let mut random = Random::new(seed);
        let socket = fresh_path("sock");
        let emulator = Emulator::serve(&socket, &["--size", "1M", "--null"]);
        let function = Client::connect(&socket, &ClientOptions::default()).expect("it is served");
        let counted = Counted::new(function, 0x1000);
        let messages = counted.count();
        let medium = open_on(Arc::new(counted), 1, Timeouts::default(), false).expect("it opens");
        let mut queue = medium.queue(8).expect("a queue");
        let before = messages.load(Ordering::Relaxed);
        for round in 0..ROUNDS {
            match random.below(8) {
                // It goes to sleep after half a millisecond: about then.
                0..4 => std::thread::sleep(Duration::from_micros(400 + random.below(250))),
                4 => until_asleep(emulator.0.id()),
                5 => std::thread::sleep(Duration::from_micros(random.below(2000))),
                _ => {}
            }
            for tag in 0..1 + random.below(8) {
                let buf = medium.pool().take(4096).expect("memory");
                queue.submit(tag, Op::Read { at: tag, buf }).expect("there is room");
                if random.below(3) == 0 {
                    queue.ring();
                }
            }
            let again = seeds::again("nvme", seed);
            assert!(take_in(&mut *queue), "seed {seed}: round {round} is never done; {again}");
        }
        let sent = messages.load(Ordering::Relaxed) - before;
        assert!(sent >= ROUNDS / 20, "seed {seed}: it never slept, {sent} messages");
    }
}
