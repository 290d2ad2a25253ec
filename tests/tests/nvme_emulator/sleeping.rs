//! Doorbells in shared pages and in shadows, and an emulator that sleeps: no wake-up
//! is lost.

use freehold_engine::emulator::Options;
use freehold_engine::nvme::spec::command::Command;
use freehold_engine::nvme::spec::status::Status;
use freehold_tests::nvme::initiator::{Bell, IOVA};
use freehold_tests::nvme::{Initiator, Served};
use freehold_tests::random::Random;
use std::time::Duration;

const DATA: u64 = 0x20_0000;
const SHADOW: u64 = 0x30_0000;

/// Batches of reads with pauses between them that end about when the emulator goes to
/// sleep. A wake-up that is lost is a completion that never comes.
fn batches(bell: Bell, seed: u64) -> Initiator {
    let served = Served::new(Options::new("", 1 << 20));
    let mut nvme = Initiator::start(&served.socket);
    if let Bell::Shadow(pages) = bell {
        let config = Command::doorbell_buffer(IOVA + pages, IOVA + pages + 4096);
        assert_eq!(nvme.status(config), Status::SUCCESS);
    }
    let mut queue = nvme.queue(1);
    nvme.bell = bell;
    let mut random = Random::new(seed);
    for _ in 0..400 {
        let count = 1 + random.below(20);
        for _ in 0..count {
            let before = queue.tail;
            let read = Command::read(1, random.below(2048), 1).with_prps(IOVA + DATA, 0);
            nvme.push(&mut queue, read);
            // Each alone, so that some are told while the others are executed.
            nvme.ring(&queue, before);
        }
        for _ in 0..count {
            assert!(nvme.next(&mut queue).status().is_success());
        }
        match random.below(4) {
            0 => std::thread::sleep(Duration::from_micros(450 + random.below(200))),
            1 => std::thread::sleep(Duration::from_micros(random.below(50))),
            _ => {}
        }
    }
    nvme
}

#[test]
fn no_wake_up_is_lost_by_messages() {
    batches(Bell::Message, 1);
}

#[test]
fn no_wake_up_is_lost_in_the_shared_page() {
    batches(Bell::Mapped, 2);
}

#[test]
fn no_wake_up_is_lost_in_shadows() {
    for seed in freehold_tests::seeds::range(3..5) {
        let nvme = batches(Bell::Shadow(SHADOW), seed);
        // The pauses cost messages, the batches hardly any: some 4,200 commands and as
        // many heads were told.
        assert!(nvme.messages > 20, "it never slept: {}", nvme.messages);
        assert!(nvme.messages < 2500, "a busy pair sends messages: {}", nvme.messages);
    }
}

#[test]
fn shadows_serve_queues_that_were_there_before() {
    let served = Served::new(Options::new("", 1 << 20));
    let mut nvme = Initiator::start(&served.socket);
    let mut queue = nvme.queue(1);
    for _ in 0..5 {
        assert!(nvme.run(&mut queue, Command::flush(1)).status().is_success());
    }
    // The shadow begins where the doorbells stand.
    nvme.put(SHADOW + 8, &queue.tail.to_le_bytes());
    nvme.put(SHADOW + 12, &queue.head.to_le_bytes());
    let config = Command::doorbell_buffer(IOVA + SHADOW, IOVA + SHADOW + 4096);
    assert_eq!(nvme.status(config), Status::SUCCESS);
    nvme.bell = Bell::Shadow(SHADOW);
    for _ in 0..100 {
        assert!(nvme.run(&mut queue, Command::flush(1)).status().is_success());
    }
    for (one, two, status) in [
        (IOVA + 8, IOVA + 4096, Status::INVALID_FIELD),
        (IOVA, IOVA, Status::INVALID_FIELD),
        (0x5000, IOVA, Status::DATA_TRANSFER_ERROR),
    ] {
        assert_eq!(nvme.status(Command::doorbell_buffer(one, two)), status);
    }
}

#[test]
fn an_idle_emulator_costs_no_time() {
    let served = Served::new(Options::new("", 1 << 20));
    let mut nvme = Initiator::start(&served.socket);
    let config = Command::doorbell_buffer(IOVA + SHADOW, IOVA + SHADOW + 4096);
    assert_eq!(nvme.status(config), Status::SUCCESS);
    let mut queue = nvme.queue(1);
    nvme.bell = Bell::Shadow(SHADOW);
    assert!(nvme.run(&mut queue, Command::flush(1)).status().is_success());
    // It is asleep as soon as its thread is, which the system knows.
    let asleep = (0..2000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        let tasks = std::fs::read_dir("/proc/self/task").expect("threads");
        tasks.flatten().any(|task| {
            let call = std::fs::read_to_string(task.path().join("wchan")).unwrap_or_default();
            call.contains("poll")
        })
    });
    assert!(asleep, "it never sleeps in poll");
    assert!(nvme.run(&mut queue, Command::flush(1)).status().is_success());
}
