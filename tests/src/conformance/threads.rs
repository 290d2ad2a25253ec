//! Queues and threads: law M2, and what dropping leaves behind.

use super::{Driver, Make};
use freehold_engine::medium::{BLOCK, Medium, Op};
use std::sync::Arc;
use std::thread;

/// A queue works after the last handle of its medium is gone.
pub(super) fn a_queue_outlives_its_medium(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 4);
    drop(medium);
    driver.write(1, 2, 3);
    driver.run(Op::Flush);
    driver.expect(1, 2, 3);
}

/// What one thread submits, another rings, and a third polls.
pub(super) fn a_queue_moves_between_threads(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 8);
    for tag in 0..8 {
        let buf = driver.pattern(1, tag);
        driver.submit(tag, Op::Write { at: tag, buf, fua: false });
    }
    let join = |driver: Driver, work: fn(&mut Driver)| {
        let mut driver = driver;
        thread::spawn(move || {
            work(&mut driver);
            driver
        })
        .join()
        .expect("the thread ended well")
    };
    let driver = join(driver, |d| d.queue.ring());
    let mut driver = join(driver, |d| assert_eq!(d.drain().len(), 8));
    for at in 0..8 {
        driver.expect(at, 1, at);
    }
}

/// Work of every kind, begun by a thread that ends at once, completes well.
pub(super) fn work_outlives_the_thread_that_began_it(make: Make<'_>) {
    let medium = make();
    for round in 0..20u64 {
        let mut driver = Driver::new(&medium, 64);
        let depth = driver.queue.depth().min(60) as u64;
        let mut driver = thread::spawn(move || {
            for tag in 0..depth {
                let at = 20 * tag;
                let op = match tag % 6 {
                    0 => Op::Flush,
                    1 => Op::WriteZeroes { at, count: 20 },
                    2 => Op::Write { at, buf: driver.pattern(1, tag + round), fua: true },
                    3 => Op::Read { at, buf: driver.pattern(20, 0) },
                    _ => Op::Write { at, buf: driver.pattern(20, tag + round), fua: false },
                };
                driver.submit(tag, op);
            }
            driver.queue.ring();
            driver
        })
        .join()
        .expect("the thread ended well");
        let done = driver.drain();
        assert_eq!(done.len() as u64, depth);
        for completion in done {
            if let Err(error) = completion.result {
                panic!("round {round}, operation {}: {error:?}", completion.tag);
            }
        }
        for tag in (0..depth).filter(|tag| tag % 6 > 3) {
            driver.expect(20 * tag, 20, tag + round);
        }
    }
}

/// Several threads with a queue each do not disturb one another.
pub(super) fn queues_work_side_by_side(make: Make<'_>) {
    let medium = make();
    thread::scope(|scope| {
        for id in 0..4u64 {
            let mut driver = Driver::new(&medium, 8);
            scope.spawn(move || {
                let base = id * 100;
                for round in 0..25u64 {
                    for tag in 0..8u64 {
                        let buf = driver.pattern(2, base + round + tag);
                        let at = base + tag * 2;
                        driver.submit(tag, Op::Write { at, buf, fua: false });
                    }
                    for completion in driver.drain() {
                        completion.result.unwrap();
                    }
                    for tag in 0..8u64 {
                        driver.expect(base + tag * 2, 2, base + round + tag);
                    }
                    driver.run(Op::Flush);
                }
            });
        }
    });
}

/// A dropped queue gives its buffers back when they are quiet, not before:
/// what takes memory meanwhile keeps its bytes.
pub(super) fn a_dropped_queue_keeps_its_memory(make: Make<'_>) {
    let medium = make();
    let blocks = (medium.geometry().max_transfer as usize / BLOCK).min(64);
    Driver::new(&medium, 1).write(0, blocks, 1);
    for round in 0..30u64 {
        let mut driver = Driver::new(&medium, 16);
        for tag in 0..driver.queue.depth().min(16) as u64 {
            let buf = driver.pool.take(blocks * BLOCK).unwrap();
            driver.submit(tag, Op::Read { at: 0, buf });
        }
        driver.queue.ring();
        drop(driver);
        let mut other = Driver::new(&medium, 4);
        let taken: Vec<_> = (0..16).map(|i| other.pattern(blocks, round + i)).collect();
        other.run(Op::Flush);
        for (i, buf) in taken.iter().enumerate() {
            let same = buf[..] == other.pattern(blocks, round + i as u64)[..];
            assert!(same, "round {round}: memory was reused while it was in flight");
        }
    }
    // In the end everything comes back.
    let mut driver = Driver::new(&medium, 1);
    for _ in 0..10_000 {
        if driver.pool.taken() == 0 {
            return;
        }
        driver.run(Op::Flush);
    }
    panic!("{} buffers never came back", driver.pool.taken());
}

/// Queues are ways to one medium.
pub(super) fn a_write_of_one_queue_is_read_by_another(make: Make<'_>) {
    let medium: Arc<dyn Medium> = make();
    let (mut one, mut two) = (Driver::new(&medium, 2), Driver::new(&medium, 2));
    for salt in 0..20 {
        one.write(7, 3, salt);
        two.expect(7, 3, salt);
        two.write(8, 1, salt + 100);
        one.expect(8, 1, salt + 100);
    }
}
