//! Our client against servers that break the protocol, stall, vanish or refuse.

use freehold_engine::bus::Function;
use freehold_engine::medium::{Error, ErrorKind, Result};
use freehold_engine::vfio_user::wire::{self, Command, DmaAccess, Header, RegionAccess, flag};
use freehold_engine::vfio_user::{Client, ClientOptions, Mapping, Timeouts};
use freehold_tests::vfio_user::{Heard, Impostor, Raw, Script, honest, kind, until};
use rustix::event::{PollFd, PollFlags};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time-outs that nothing meets but a server that is silent.
const PATIENT: Duration = Duration::from_secs(60);
/// And those of tests that wait for one.
const SHORT: Duration = Duration::from_secs(1);

fn options(time: Duration) -> ClientOptions {
    let timeouts = Timeouts { connect: time, request: time, slow: time };
    ClientOptions { timeouts, mapping: Mapping::default() }
}

/// A client of a server that answers one command in a way of its own.
fn against(
    command: Command,
    answer: impl FnMut(&mut Raw, &Heard) -> bool + Send + 'static,
) -> (Impostor, Result<Arc<Client>>) {
    against_for(PATIENT, command, answer)
}

fn against_for(
    time: Duration,
    command: Command,
    mut answer: impl FnMut(&mut Raw, &Heard) -> bool + Send + 'static,
) -> (Impostor, Result<Arc<Client>>) {
    let script: Script =
        Box::new(move |raw, heard| heard.header.command == command as u16 && answer(raw, heard));
    let impostor = Impostor::new(script);
    let client = Client::connect(impostor.path(), &options(time));
    (impostor, client)
}

/// The error of reading a register of a server that answers reads in a way of its own, and
/// whether the connection is over.
fn reading(
    time: Duration,
    answer: impl FnMut(&mut Raw, &Heard) -> bool + Send + 'static,
) -> (Error, bool) {
    let (_impostor, client) = against_for(time, Command::RegionRead, answer);
    let client = client.unwrap();
    let bar = client.bar(0).unwrap();
    let error = bar.read32(8).unwrap_err();
    let over = client.check().is_err();
    assert_eq!(over, kind(bar.read32(12)) == ErrorKind::Gone);
    (error, over)
}

#[test]
fn an_honest_server_is_believed() {
    let (_impostor, client) = against(Command::Feature, |_, _| false);
    let client = client.unwrap();
    let bar = client.bar(0).unwrap();
    assert_eq!((bar.read32(0x108).unwrap(), bar.read64(0x20).unwrap()), (0x108, 0x20));
    bar.write32(4, 4).unwrap();
    assert_eq!((client.vectors(), client.dma_limits().max_maps), (4, 65535));
    assert!(client.reset().is_ok() && client.check().is_ok());
}

/// Each lie about which question is answered, or with how much: the connection is over.
#[test]
fn answers_to_something_else_end_the_connection() {
    for lie in 0..12 {
        let (error, over) = reading(PATIENT, move |raw, heard| {
            let mut bytes = honest(heard);
            match lie {
                0 => bytes[0] ^= 1,                                     // Another message.
                1 => bytes[2] ^= 3,                                     // Another command.
                2 => bytes[8] = 2,                                      // Of no type.
                3 => bytes[16] ^= 1,                                    // Another offset.
                4 => bytes[24] ^= 1,                                    // Another region.
                5 => bytes[28] ^= 1,                                    // Another count.
                6 => bytes[4] -= 1,                                     // A byte less.
                7 => bytes[4] = 16,                                     // Nothing.
                8 => bytes[4..8].copy_from_slice(&15u32.to_ne_bytes()), // Less than a header.
                9 => bytes[4..8].copy_from_slice(&u32::MAX.to_ne_bytes()),
                10 => bytes[4..8].copy_from_slice(&(wire::MAX_MESSAGE as u32 + 1).to_ne_bytes()),
                _ => {
                    bytes.push(0);
                    bytes[4] += 1; // A byte more.
                }
            }
            raw.send(&bytes, &[])
        });
        assert_eq!((error.kind(), over), (ErrorKind::Gone, true), "lie {lie}: {error}");
    }
}

#[test]
fn errors_that_a_server_tells_are_no_end() {
    for (errno, expected) in [
        (0, ErrorKind::Io),
        (5, ErrorKind::Io),
        (12, ErrorKind::Limit),
        (28, ErrorKind::Limit),
        (95, ErrorKind::Unsupported),
        (13, ErrorKind::Permission),
        (u32::MAX, ErrorKind::Io),
        (4096, ErrorKind::Io),
    ] {
        let (error, over) = reading(PATIENT, move |raw, heard| {
            raw.send(&wire::frame(&heard.header.failure(errno), &[]), &[])
        });
        assert_eq!((error.kind(), over), (expected, false), "errno {errno}: {error}");
        assert!(error.message().contains("RegionRead"), "{error}");
    }
}

/// A time-out names what was late; an answer that comes after it is never taken.
#[test]
fn silence_is_a_time_out_that_says_of_what() {
    let (error, over) = reading(SHORT, |_, _| true);
    assert_eq!((error.kind(), over), (ErrorKind::Gone, true));
    assert!(error.message().contains("RegionRead") && error.message().contains("1s"), "{error}");
    // Half an answer is none.
    let (error, over) = reading(SHORT, |raw, heard| raw.send(&honest(heard)[..17], &[]));
    assert_eq!((error.kind(), over), (ErrorKind::Gone, true));
    // A late one.
    let (error, over) = reading(SHORT, |raw, heard| {
        std::thread::sleep(Duration::from_millis(1200));
        raw.send(&honest(heard), &[]);
        true
    });
    assert_eq!((error.kind(), over), (ErrorKind::Gone, true));
    // A byte now and then does not prolong it.
    let begun = Instant::now();
    let (error, _) = reading(SHORT, |raw, heard| {
        for byte in honest(heard) {
            std::thread::sleep(Duration::from_millis(150));
            if !raw.send(&[byte], &[]) {
                break;
            }
        }
        true
    });
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(begun.elapsed() < Duration::from_secs(30));
}

/// Requests of the server's own, in between: refused, and the answer is still taken. The
/// memory of ours that a server may use it has by descriptor.
#[test]
fn requests_for_memory_are_refused() {
    let (_impostor, client) = against(Command::RegionRead, |raw, _| {
        for command in [Command::DmaRead, Command::DmaWrite, Command::Reset] {
            let mut payload = Vec::new();
            DmaAccess { address: 0x1000, count: 8 }.encode(&mut payload);
            assert!(raw.send(&wire::command(9, command, &payload), &[]));
            let answer = raw.hear().unwrap();
            let header = answer.header;
            assert!(header.is_error() && header.is_reply() && answer.payload.is_empty());
            assert_eq!((header.id, header.command), (9, command as u16));
        }
        let mut quiet = Header::command(9, Command::DmaRead, 0);
        quiet.flags |= flag::NO_REPLY;
        raw.send(&wire::frame(&quiet, &[]), &[]);
        false
    });
    let bar = client.unwrap().bar(0).unwrap();
    assert_eq!(bar.read32(8).unwrap(), 8);
}

/// A server that asks and asks and takes no answers, or never comes to ours.
#[test]
fn a_flood_of_requests_is_no_answer() {
    for heeds in [true, false] {
        let (error, over) = reading(SHORT, move |raw, _| {
            let request = wire::command(9, Command::DmaRead, &[0; 16]);
            while raw.send(&request, &[]) {
                if heeds && raw.hear().is_none() {
                    break;
                }
            }
            true
        });
        assert_eq!((error.kind(), over), (ErrorKind::Gone, true), "{error}");
    }
}

#[test]
fn versions_that_are_not_ours_are_refused() {
    let answers: [(&[u8], ErrorKind); 8] = [
        (b"\x01\0\0\0", ErrorKind::Unsupported),
        (b"\0\0\x02\0", ErrorKind::Unsupported),
        (b"\0\0", ErrorKind::Gone),
        (b"", ErrorKind::Gone),
        (b"\0\0\x01\0{]\0", ErrorKind::Gone),
        (b"\0\0\x01\0{\"capabilities\":{}}", ErrorKind::Gone),
        (b"\0\0\x01\0{\"capabilities\":{\"pgsizes\":3}}\0", ErrorKind::Gone),
        (b"\0\0\x01\0{\"capabilities\":[]}\0", ErrorKind::Gone),
    ];
    for (payload, expected) in answers {
        let (_impostor, client) = against(Command::Version, move |raw, heard| {
            raw.send(&wire::frame(&heard.header.reply(payload.len()), payload), &[])
        });
        assert_eq!(kind(client), expected, "{payload:?}");
    }
    let (_impostor, client) = against(Command::Version, |raw, heard| {
        raw.send(&wire::frame(&heard.header.failure(22), &[]), &[])
    });
    assert_eq!(kind(client), ErrorKind::Io);
    let (_impostor, client) = against_for(SHORT, Command::Version, |_, _| true);
    assert_eq!(kind(client), ErrorKind::Busy);
}

#[test]
fn devices_that_are_none_are_refused() {
    let infos: [(&[u32], ErrorKind); 4] = [
        (&[16, 1, 9, 5], ErrorKind::Unsupported), // Not PCI.
        (&[16, 3, 7, 5], ErrorKind::Unsupported), // No configuration space.
        (&[16, 3, 9], ErrorKind::Gone),
        (&[], ErrorKind::Gone),
    ];
    for (fields, expected) in infos {
        let (_impostor, client) = against(Command::GetInfo, move |raw, heard| {
            let payload: Vec<u8> = fields.iter().flat_map(|field| field.to_ne_bytes()).collect();
            raw.send(&wire::frame(&heard.header.reply(payload.len()), &payload), &[])
        });
        assert_eq!(kind(client), expected, "{fields:?}");
    }
    // One that cannot be reset, and has no interrupts.
    let (_impostor, client) = against(Command::GetInfo, move |raw, heard| {
        let payload: Vec<u8> = [16u32, 2, 9, 0].iter().flat_map(|n| n.to_ne_bytes()).collect();
        raw.send(&wire::frame(&heard.header.reply(payload.len()), &payload), &[])
    });
    let client = client.unwrap();
    assert_eq!(kind(client.reset()), ErrorKind::Unsupported);
    assert_eq!((client.vectors(), kind(client.attach(0, None))), (0, ErrorKind::Invalid));
}

/// References part D, number 3: a peer that vanishes is seen, by whoever asks, by whoever
/// looks, and by whoever sleeps on the link.
#[test]
fn references_d3_a_dead_server_is_seen_without_a_message() {
    let (impostor, client) = against(Command::RegionWrite, |raw, _| {
        let _ = raw.0.shutdown(std::net::Shutdown::Both);
        true
    });
    let client = client.unwrap();
    let bar = client.bar(0).unwrap();
    assert!(client.check().is_ok());
    let hung = |wait: i64| {
        let wait = rustix::fs::Timespec { tv_sec: 0, tv_nsec: wait * 1_000_000 };
        let link = client.link_fd().unwrap();
        let mut fds = [PollFd::from_borrowed_fd(link, PollFlags::empty())];
        rustix::event::poll(&mut fds, Some(&wait)).unwrap() == 1
            && fds[0].revents().contains(PollFlags::HUP)
    };
    assert!(!hung(0));
    assert_eq!(kind(bar.write32(0, 0)), ErrorKind::Gone);
    assert!(hung(900));
    assert_eq!(kind(client.check()), ErrorKind::Gone);
    drop(impostor);

    // Nobody asks anything when it goes.
    let (_impostor, client) = against(Command::Reset, |raw, _| {
        let end = raw.0.try_clone().unwrap();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            let _ = end.shutdown(std::net::Shutdown::Both);
        });
        false
    });
    let client = client.unwrap();
    client.reset().unwrap();
    until("it is seen", || client.check().is_err());
    assert_eq!(kind(client.check()), ErrorKind::Gone);
    assert_eq!(kind(client.reset()), ErrorKind::Gone);
}

/// Several threads ask at once: each gets its own answer, also when the server dies.
#[test]
fn threads_get_their_own_answers() {
    let mut left = 2000;
    let (_impostor, client) = against(Command::RegionRead, move |raw, _| {
        left -= 1;
        if left == 0 {
            let _ = raw.0.shutdown(std::net::Shutdown::Both);
        }
        left <= 0
    });
    let client = client.unwrap();
    let bar = client.bar(0).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let bar = bar.clone();
            scope.spawn(move || {
                for number in 0.. {
                    let offset = (thread * 256 + number % 64) * 4;
                    match bar.read32(offset) {
                        Ok(value) => assert_eq!(u64::from(value), offset),
                        Err(error) => {
                            assert_eq!(error.kind(), ErrorKind::Gone);
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(kind(client.check()), ErrorKind::Gone);
}

/// A region whose description lies is no region; one whose file is not there is reached by
/// messages.
#[test]
fn descriptions_of_regions_are_not_believed() {
    // The fields of RegionInfo, and what follows.
    let lies: [(&[u64], &[u8]); 4] = [
        (&[32 | 0xf << 32, 32 << 32, 0x2000, 0], &[]),
        (&[48 | 0xf << 32, 32 << 32, 0x2000, 0], &[1, 0, 1, 0, 0, 0, 0, 0, 255, 255, 255, 255]),
        (&[40 | 0xf << 32, 33 << 32, 0x2000, 0], &[9, 0, 1, 0, 33, 0, 0, 0]),
        (&[32 | 0xf << 32, 7], &[]),
    ];
    for (fields, tail) in lies {
        let (_impostor, client) = against(Command::GetRegionInfo, move |raw, heard| {
            let mut payload: Vec<u8> = fields.iter().flat_map(|n| n.to_ne_bytes()).collect();
            payload.extend_from_slice(tail);
            raw.send(&wire::frame(&heard.header.reply(payload.len()), &payload), &[])
        });
        let client = client.unwrap();
        assert_eq!(kind(client.bar(0)), ErrorKind::Gone, "{fields:?}");
    }
    let (_impostor, client) = against(Command::GetRegionInfo, move |raw, heard| {
        let fields = [32u64 | 0x7 << 32, 0, 0x2000, 0];
        let payload: Vec<u8> = fields.iter().flat_map(|n| n.to_ne_bytes()).collect();
        raw.send(&wire::frame(&heard.header.reply(payload.len()), &payload), &[])
    });
    let bar = client.unwrap().bar(0).unwrap();
    assert!(bar.areas().is_empty());
    assert_eq!(bar.read32(RegionAccess::LEN as u64).unwrap(), 16);
}

/// More descriptors than are taken with one message: the system closed some, so that
/// nobody knows which are left.
#[test]
fn more_descriptors_than_are_taken_are_no_answer() {
    for count in [1, wire::MAX_FDS, wire::MAX_FDS + 1, 200] {
        let (_impostor, client) = against(Command::GetRegionInfo, move |raw, heard| {
            let file = std::fs::File::open("/dev/null").unwrap();
            let fds = vec![file.as_fd(); count];
            raw.send(&honest(heard), &fds)
        });
        let client = client.unwrap();
        let found = client.bar(0).map(|bar| bar.areas().len());
        match count {
            0..=wire::MAX_FDS => assert_eq!(found.unwrap(), 0, "{count}"),
            _ => assert_eq!(kind(found), ErrorKind::Gone, "{count}"),
        }
    }
}
