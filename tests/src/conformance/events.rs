//! Completions: each once, and how one learns of them.

use super::{Driver, Make};
use freehold_engine::medium::{Op, Queue};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::BTreeMap;
use std::time::Duration;

/// Whatever was taken comes back exactly once, with its own tag and buffer.
pub(super) fn every_submission_completes_once(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 32);
    let depth = driver.queue.depth();
    let mut expected = BTreeMap::new();
    let mut done = Vec::new();
    for tag in 0..500u64 {
        let blocks = 1 + (tag % 4) as usize;
        let op = match tag % 5 {
            0 => Op::Flush,
            1 => Op::Read { at: tag, buf: driver.pattern(blocks, tag) },
            2 => Op::WriteZeroes { at: tag, count: 1 },
            _ => Op::Write { at: tag, buf: driver.pattern(blocks, tag), fua: false },
        };
        let len = match &op {
            Op::Read { buf, .. } | Op::Write { buf, .. } => Some((buf.len(), buf.as_ptr())),
            _ => None,
        };
        expected.insert(tag, len);
        while driver.queue.in_flight() == depth {
            driver.queue.wait(Some(Duration::from_secs(1))).unwrap();
            driver.queue.poll(&mut done);
        }
        driver.submit(tag, op);
        if tag % 7 == 0 {
            driver.queue.ring();
            assert!(driver.queue.in_flight() <= depth);
        }
    }
    done.extend(driver.drain());
    for completion in &done {
        completion.result.as_ref().unwrap();
        let len = expected.remove(&completion.tag).expect("a tag that completed twice");
        assert_eq!(completion.buf.as_ref().map(|b| (b.len(), b.as_ptr())), len);
    }
    assert!(expected.is_empty(), "never completed: {expected:?}");
    assert_eq!(driver.queue.poll(&mut done), 0);
}

/// Waiting on an idle queue returns.
pub(super) fn nothing_in_flight_means_no_waiting(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 2);
    driver.queue.wait(None).unwrap();
    driver.queue.ring();
    assert_eq!(driver.queue.poll(&mut Vec::new()), 0);
    driver.run(Op::Flush);
    driver.queue.wait(None).unwrap();
    driver.queue.wait(Some(Duration::ZERO)).unwrap();
    driver.queue.wait(Some(Duration::MAX)).unwrap();
}

/// Waiting without a limit ends when there is something to poll.
pub(super) fn waiting_ends_when_something_can_be_polled(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 2);
    for round in 0..50u64 {
        let buf = driver.pattern(1, round);
        driver.submit(round, Op::Write { at: round, buf, fua: round % 8 == 0 });
        let mut done = Vec::new();
        // A signal may end a wait early, so one wait may not be enough.
        while done.is_empty() {
            driver.queue.wait(None).unwrap();
            driver.queue.poll(&mut done);
        }
        assert_eq!(done[0].tag, round);
        assert_eq!(driver.queue.in_flight(), 0);
    }
}

/// Whether the queue's descriptor is readable within a time; none when it has
/// no descriptor.
fn readable(queue: &dyn Queue, limit: Timespec) -> Option<bool> {
    let fd = queue.event_fd()?;
    loop {
        match rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)) {
            Ok(ready) => return Some(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the descriptor cannot be polled: {error}"),
        }
    }
}

/// Whether the descriptor is quiet while there is nothing to poll. The word of a completion
/// may come after it was polled; a poll hears it.
fn quiet(driver: &mut Driver) -> bool {
    for _ in 0..50 {
        if readable(&*driver.queue, Timespec { tv_sec: 0, tv_nsec: 0 }) == Some(false) {
            return true;
        }
        assert_eq!(driver.queue.poll(&mut Vec::new()), 0);
    }
    false
}

/// The descriptor, where there is one, is readable when something can be polled, and
/// falls silent when nothing can.
pub(super) fn the_descriptor_tells_of_completions(make: Make<'_>) {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let long = Timespec { tv_sec: 20, tv_nsec: 0 };
    let medium = make();
    let mut driver = Driver::new(&medium, 4);
    if readable(&*driver.queue, now).is_none() {
        return;
    }
    for round in 0..20u64 {
        assert!(quiet(&mut driver), "round {round}: there is nothing to poll");
        let buf = driver.pattern(1, round);
        driver.submit(round, Op::Write { at: round, buf, fua: false });
        let expected = if round % 2 == 0 {
            // What a wait took in is still announced.
            driver.queue.wait(None).unwrap();
            1
        } else {
            driver.submit(round, Op::Flush);
            driver.queue.ring();
            2
        };
        let mut done = Vec::new();
        while done.len() < expected {
            assert_eq!(readable(&*driver.queue, long), Some(true), "round {round}: no word");
            driver.queue.poll(&mut done);
        }
    }
    assert!(quiet(&mut driver), "all was polled");
}
