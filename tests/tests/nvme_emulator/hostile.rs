//! Faults that are asked for, and a client that is hostile: nothing panics, nothing
//! hangs, and the next client finds a working controller.

use freehold_engine::emulator::{Backing, Ended, Options, Profile};
use freehold_engine::nvme::spec::command::Command;
use freehold_engine::nvme::spec::registers::{CSTS, Csts};
use freehold_engine::nvme::spec::status::Status;
use freehold_tests::nvme::initiator::{Bell, IOVA, MEMORY, memfd};
use freehold_tests::nvme::served::fresh_path;
use freehold_tests::nvme::{Initiator, Place, Served};
use freehold_tests::random::Random;
use freehold_tests::seeds;
use std::time::Duration;

const DATA: u64 = 0x20_0000;

fn with_fault(spec: &str) -> (Served, Initiator, Place) {
    let faults = vec![spec.parse().expect("a fault")];
    let served = Served::new(Options { faults, ..Options::new("", 1 << 20) });
    let mut nvme = Initiator::start(&served.socket);
    let queue = nvme.queue(1);
    (served, nvme, queue)
}

/// Submits so many flushes and gives the completions that come before a last admin
/// command's does, and those of a short while after.
fn flushes(nvme: &mut Initiator, queue: &mut Place, count: u32) -> Vec<(u16, u16)> {
    let before = queue.tail;
    let first = nvme.push(queue, Command::flush(1));
    for _ in 1..count {
        nvme.push(queue, Command::flush(1));
    }
    nvme.ring(queue, before);
    for _ in 0..50 {
        nvme.get32(CSTS);
    }
    let mut found = Vec::new();
    while let Some(entry) = nvme.reap(queue) {
        found.push((entry.cid().wrapping_sub(first), entry.status().0 & 0x7ff));
    }
    found
}

#[test]
fn a_dropped_completion_never_comes() {
    let (_served, mut nvme, mut queue) = with_fault("drop:nth=2");
    assert_eq!(flushes(&mut nvme, &mut queue, 4), [(0, 0), (2, 0), (3, 0)]);
}

#[test]
fn a_delayed_command_comes_later_and_can_be_aborted() {
    let (_served, mut nvme, mut queue) = with_fault("delay:ms=300,nth=1");
    assert_eq!(flushes(&mut nvme, &mut queue, 2), [(1, 0)]);
    assert!(nvme.next(&mut queue).status().is_success());
    let (_served, mut nvme, mut queue) = with_fault("delay:ms=3600000,nth=1");
    let cid = nvme.push(&mut queue, Command::flush(1));
    nvme.ring(&queue, 0);
    while nvme.admin(Command::abort(1, cid)).result() == 1 {}
    let entry = nvme.next(&mut queue);
    assert_eq!((entry.cid(), entry.status().sc()), (cid, 7));
}

#[test]
fn a_duplicate_comes_twice() {
    let (_served, mut nvme, mut queue) = with_fault("duplicate:nth=2");
    assert_eq!(flushes(&mut nvme, &mut queue, 3), [(0, 0), (1, 0), (1, 0), (2, 0)]);
}

#[test]
fn a_corrupt_completion_is_corrupt_as_asked() {
    for what in ["cid", "head", "queue"] {
        let (_served, mut nvme, mut queue) = with_fault(&format!("corrupt:what={what},nth=1"));
        let cid = nvme.push(&mut queue, Command::flush(1));
        nvme.ring(&queue, 0);
        let entry = nvme.next(&mut queue);
        let good = (entry.cid() == cid, entry.sq_head() == 1, entry.sqid() == 1);
        assert_eq!(good, (what != "cid", what != "head", what != "queue"), "{entry:?}");
    }
    let (_served, mut nvme, mut queue) = with_fault("corrupt:what=phase,nth=1");
    assert_eq!(flushes(&mut nvme, &mut queue, 1), []);
    assert_ne!(nvme.word(queue.cq + 8), 0, "it was posted with the wrong phase");
}

#[test]
fn a_status_is_given_without_the_command() {
    let (_served, mut nvme, mut queue) = with_fault("status:sct=2,sc=0x80,op=write,every=2");
    nvme.put(DATA, &[7; 512]);
    for (slba, wanted) in [(0, Status::SUCCESS), (1, Status::WRITE_FAULT), (2, Status::SUCCESS)] {
        let write = Command::write(1, slba, 1, false).with_prps(IOVA + DATA, 0);
        assert_eq!(nvme.run(&mut queue, write).status().0, wanted.0);
    }
    let read = Command::read(1, 1, 1).with_prps(IOVA + DATA, 0);
    assert!(nvme.run(&mut queue, read).status().is_success());
    assert_eq!(nvme.take(DATA, 512), [0; 512]);
}

#[test]
fn a_fatal_controller_stops_until_it_is_reset() {
    let (_served, mut nvme, mut queue) = with_fault("fatal:after=2");
    assert_eq!(flushes(&mut nvme, &mut queue, 4).len(), 2);
    assert_eq!(Csts(nvme.get32(CSTS)).cfs(), 1);
    nvme.enable();
    let mut queue = nvme.queue(1);
    assert!(nvme.run(&mut queue, Command::flush(1)).status().is_success());
}

#[test]
fn a_vanishing_device_closes_the_connection_or_ends() {
    for (how, ends) in [("close", false), ("exit", true)] {
        let (served, mut nvme, mut queue) = with_fault(&format!("vanish:how={how},nth=1"));
        nvme.push(&mut queue, Command::flush(1));
        nvme.bell = Bell::Mapped;
        nvme.ring(&queue, 0);
        while nvme.try_ask(freehold_engine::vfio_user::wire::Command::GetInfo, &[], &[]).is_some() {
        }
        if ends {
            assert_eq!(served.end(), Ended::Vanished);
        } else {
            let mut next = Initiator::start(&served.socket);
            assert_eq!(next.status(Command::get_features(1)), Status::SUCCESS);
            assert_eq!(served.end(), Ended::Stopped);
        }
    }
}

#[test]
fn memory_that_is_taken_back_is_not_used() {
    let served = Served::new(Options::new("", 1 << 20));
    let mut nvme = Initiator::start(&served.socket);
    let mut queue = nvme.queue(1);
    // Data in memory of its own, sealed or not.
    for sealed in [true, false] {
        let other = memfd(1 << 20, sealed);
        let at = 0x9_0000_0000;
        nvme.map(&other, 0, at, 1 << 20).unwrap();
        let read = Command::read(1, 0, 8).with_prps(at, 0);
        assert!(nvme.run(&mut queue, read).status().is_success());
        if !sealed {
            // The client takes the pages away under the controller.
            other.set_len(0).unwrap();
            let status = nvme.run(&mut queue, read).status();
            assert_eq!(status.0, Status::DATA_TRANSFER_ERROR.0);
        }
        assert_eq!(nvme.map(&memfd(4096, true), 0, at + 4096, 4096), Err(17), "EEXIST");
        nvme.unmap(at, 1 << 20).unwrap();
        let status = nvme.run(&mut queue, read).status();
        assert_eq!(status.0, Status::DATA_TRANSFER_ERROR.0);
    }
    // The rings themselves.
    nvme.unmap(IOVA, MEMORY).unwrap();
    nvme.push(&mut queue, Command::flush(1));
    nvme.ring(&queue, 0);
    nvme.until(CSTS, |csts| Csts(csts).cfs() == 1);
}

/// A command that is nearly right: a right one with some words replaced.
fn nearly_right(random: &mut Random) -> Command {
    let address = |random: &mut Random| match random.below(6) {
        0 => random.next_u64(),
        1 => IOVA + MEMORY - random.below(3) * 512,
        2 => IOVA + random.below(MEMORY),
        _ => IOVA + DATA + random.below(1024) * 4096,
    };
    let nsid = if random.one_in(10) { random.next_u64() as u32 } else { 1 };
    let (slba, count) = (random.below(2100), 1 + random.below(40) as u32);
    let command = match random.below(9) {
        0 => Command::write(nsid, slba, count, random.one_in(2)),
        1 => Command::compare(nsid, slba, count),
        2 => Command::deallocate(nsid, 1 + random.below(256) as u32),
        3 => Command::copy(nsid, slba, 1 + random.below(256) as u32),
        4 => Command::write_zeroes(nsid, slba, count),
        5 => Command::flush(nsid),
        6 => Command::new(random.next_u64() as u8, nsid),
        _ => Command::read(nsid, slba, count),
    };
    let mut command = command.with_prps(address(random), address(random));
    if random.one_in(3) {
        command.0[0] |= 1 << 14;
        let (kind, len) = (random.below(6) << 60, u64::from(count) * 512);
        command.0[4] = kind | if random.one_in(2) { len } else { random.below(1 << 20) };
    }
    if random.one_in(8) {
        let word = random.below(8) as usize;
        command.0[word] ^= 1 << random.below(64);
    }
    command
}

/// Rings, lists and commands of a hostile client, from a seed: each command is completed
/// or the controller has failed, and the next client finds it well.
fn hostile(served: &Served, seed: u64) {
    let mut random = Random::new(seed);
    let mut nvme = Initiator::start(&served.socket);
    if random.one_in(2) {
        let config = Command::doorbell_buffer(IOVA + 0x700_000, IOVA + 0x701_000);
        nvme.admin(config);
    }
    // Lists of addresses and descriptors that are partly right.
    for at in (DATA..DATA + (1 << 18)).step_by(8) {
        let word = match random.below(5) {
            0 => random.next_u64(),
            1 => random.below(6) << 60 | random.below(8192),
            _ => IOVA + DATA + random.below(512) * 4096,
        };
        nvme.put(at, &word.to_le_bytes());
    }
    let mut queue = nvme.queue(1);
    for _ in 0..60 {
        let mut place = if random.one_in(4) { nvme.admin } else { queue };
        let command = match place.qid {
            // Not what takes the queue itself away, and no event request.
            0 => match nearly_right(&mut random) {
                c if matches!(c.opcode(), 0 | 4 | 0x0c) => Command::identify(c.0[5] as u8, 1),
                other => other,
            },
            _ => nearly_right(&mut random),
        };
        if place.qid != 0 && nvme.bell == Bell::Message && random.one_in(6) {
            // A doorbell that is no index; the next one is right again.
            nvme.set32(0x1008, random.next_u64() as u32 | 0x1000);
        }
        let before = place.tail;
        nvme.push(&mut place, command);
        if place.qid == 0 {
            nvme.ring(&place, before);
        } else {
            // Whether the queue has a shadow by now or not.
            nvme.put(0x700_008, &place.tail.to_le_bytes());
            nvme.set32(0x1008, place.tail);
        }
        let entry = loop {
            if Csts(nvme.get32(CSTS)).cfs() == 1 {
                return;
            }
            if let Some(entry) = nvme.reap(&mut place) {
                break entry;
            }
        };
        nvme.put(0x700_00c, &place.head.to_le_bytes());
        assert_eq!(entry.sqid(), place.qid, "seed {seed}");
        if place.qid == 0 { nvme.admin = place } else { queue = place }
    }
}

#[test]
fn a_hostile_client_harms_nobody() {
    let profiles = [Profile::Freehold, Profile::Qemu, Profile::Spdk];
    for seed in seeds::range(0..24) {
        let profile = profiles[seed as usize % 3];
        let volatile_cache = seed % 2 == 0;
        let lba = if seed % 4 == 1 { 4096 } else { 512 };
        let options = Options { profile, volatile_cache, lba, seed, ..Options::new("", 1 << 20) };
        let served = Served::new(options);
        let run = std::panic::AssertUnwindSafe(|| hostile(&served, seed));
        if std::panic::catch_unwind(run).is_err() {
            panic!("{}", seeds::again("nvme_emulator", seed));
        }
        let mut next = Initiator::start(&served.socket);
        let mut queue = next.queue(1);
        let read = Command::read(1, 0, 1).with_prps(IOVA + DATA, 0);
        assert!(next.run(&mut queue, read).status().is_success(), "seed {seed}");
    }
}

/// Flushes that a file is still busy with: whatever ends their queue ends them, each at most
/// once, and who comes next finds a controller that flushes.
#[test]
fn flushes_under_way_end_with_their_queue() {
    let path = fresh_path("img");
    let backing = Backing::File(path.clone());
    let served = Served::new(Options { backing, ..Options::new("", 4 << 20) });
    for round in 0..40_u64 {
        let mut nvme = Initiator::start(&served.socket);
        let mut queue = nvme.queue(1);
        let before = queue.tail;
        let mut pushed = Vec::new();
        for i in 0..8 {
            let command = match i % 2 {
                0 => Command::write(1, round * 8 + i, 1, true).with_prps(IOVA + DATA, 0),
                _ => Command::flush(1),
            };
            pushed.push(nvme.push(&mut queue, command));
        }
        nvme.ring(&queue, before);
        match round % 4 {
            0 => {}
            1 => {
                assert!(nvme.admin(Command::delete_sq(1)).status().is_success());
                while let Some(entry) = nvme.reap(&mut queue) {
                    pushed.retain(|cid| *cid != entry.cid());
                }
                // What was told is told; nothing comes any more.
                std::thread::sleep(Duration::from_millis(2));
                assert!(nvme.reap(&mut queue).is_none(), "round {round}");
            }
            2 => {
                nvme.enable();
                let mut queue = nvme.queue(1);
                assert!(nvme.run(&mut queue, Command::flush(1)).status().is_success());
                assert!(nvme.reap(&mut queue).is_none(), "round {round}");
            }
            _ => {
                for _ in 0..8 {
                    let entry = nvme.next(&mut queue);
                    assert!(entry.status().is_success());
                    let place = pushed.iter().position(|cid| *cid == entry.cid());
                    pushed.remove(place.expect("each completes once"));
                }
            }
        }
    }
    drop(served);
    let _ = std::fs::remove_file(path);
}
