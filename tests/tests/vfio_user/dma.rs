//! Memory that clients give our server: by descriptor and by message, and taken back.

use freehold_engine::vfio_user::server::{End, ServerOptions};
use freehold_engine::vfio_user::wire::{
    self, Command, DmaAccess, DmaMapRequest, DmaUnmapRequest, RegionAccess, dma,
};
use freehold_tests::vfio_user::{Event, PAGE, Raw, Served, reg, until};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

const INVALID: u32 = Errno::INVAL.raw_os_error() as u32;
const BOTH: u32 = dma::READABLE | dma::WRITEABLE;

fn memory(pages: u64) -> OwnedFd {
    let file = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, pages * PAGE).unwrap();
    file
}

fn map(flags: u32, address: u64, size: u64, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    DmaMapRequest { argsz: 32, flags, offset, address, size }.encode(&mut bytes);
    bytes
}

fn unmap(flags: u32, address: u64, size: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    DmaUnmapRequest { argsz: 24, flags, address, size }.encode(&mut bytes);
    bytes
}

fn write(offset: u64, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    RegionAccess { offset, region: 0, count: data.len() as u32 }.encode(&mut bytes);
    bytes.extend_from_slice(data);
    bytes
}

/// Tells the toy where its DMA shall be.
fn aim(raw: &mut Raw, address: u64, count: u32) {
    assert_eq!(
        raw.errno(Command::RegionWrite, &write(reg::ADDRESS, &address.to_le_bytes()), &[]),
        0
    );
    assert_eq!(raw.errno(Command::RegionWrite, &write(reg::COUNT, &count.to_le_bytes()), &[]), 0);
}

#[test]
fn maps_that_make_no_sense_are_refused() {
    let options = ServerOptions { max_maps: 3, ..ServerOptions::default() };
    let served = Served::with(&options);
    let mut raw = Raw::agreed(served.path());
    let file = memory(8);
    let fd = [file.as_fd()];
    let code = |errno: Errno| errno.raw_os_error() as u32;
    assert_eq!(raw.errno(Command::DmaMap, &map(BOTH, 0x10000, 2 * PAGE, 0), &fd), 0);
    let null = std::fs::File::open("/dev/null").unwrap();
    let two: [BorrowedFd<'_>; 2] = [file.as_fd(), file.as_fd()];
    let cases: [(Vec<u8>, &[BorrowedFd<'_>], Errno); 15] = [
        (map(BOTH, 0x10000, 2 * PAGE, 0), &fd, Errno::EXIST),
        (map(BOTH, 0x11000, PAGE, 0), &fd, Errno::EXIST),
        (map(BOTH, 0xf000, 2 * PAGE, 0), &fd, Errno::EXIST),
        (map(BOTH, 0, 64 * PAGE, 0), &[], Errno::EXIST),
        (map(BOTH, 0x20000, 0, 0), &fd, Errno::INVAL),
        (map(BOTH, 0x20001, PAGE, 0), &fd, Errno::INVAL),
        (map(BOTH, 0x20000, 100, 0), &fd, Errno::INVAL),
        (map(BOTH, 0x20000, PAGE, 1), &fd, Errno::INVAL),
        (map(BOTH, u64::MAX - PAGE + 1, PAGE, 0), &fd, Errno::INVAL),
        (map(BOTH, 0x20000, 9 * PAGE, 0), &fd, Errno::INVAL),
        (map(BOTH, 0x20000, PAGE, 8 * PAGE), &fd, Errno::INVAL),
        (map(0, 0x20000, PAGE, 0), &fd, Errno::INVAL),
        (map(BOTH | 1 << 7, 0x20000, PAGE, 0), &fd, Errno::INVAL),
        (map(BOTH, 0x20000, PAGE, 0), &two, Errno::INVAL),
        (map(BOTH, 0x20000, PAGE, 0), &[null.as_fd()], Errno::INVAL),
    ];
    for (number, (payload, fds, errno)) in cases.into_iter().enumerate() {
        assert_eq!(raw.errno(Command::DmaMap, &payload, fds), code(errno), "case {number}");
    }
    // Descriptors where none belong, and more than are taken.
    assert_eq!(raw.errno(Command::Reset, &[], &fd), INVALID);
    for count in [17, 100, 253] {
        let many: Vec<BorrowedFd<'_>> = (0..count).map(|_| file.as_fd()).collect();
        assert_eq!(raw.errno(Command::DmaMap, &map(BOTH, 0x20000, PAGE, 0), &many), INVALID);
    }
    assert_eq!(raw.errno(Command::DmaMap, &map(dma::READABLE, 0x20000, PAGE, 0), &fd), 0);
    assert_eq!(raw.errno(Command::DmaMap, &map(dma::WRITEABLE | 4, 0x30000, PAGE, 0), &fd), 0);
    let full = raw.errno(Command::DmaMap, &map(BOTH, 0x40000, PAGE, 0), &fd);
    assert_eq!(full, code(Errno::NOSPC));
    let added = [(0x10000, 2), (0x20000, 1), (0x30000, 1)];
    assert_eq!(served.control.events(), added.map(|(at, n)| Event::Added(at, n * PAGE)));
}

#[test]
fn what_is_taken_back_was_given() {
    let served = Served::new();
    let mut raw = Raw::agreed(served.path());
    let file = memory(1);
    let give =
        |raw: &mut Raw, at| raw.errno(Command::DmaMap, &map(BOTH, at, PAGE, 0), &[file.as_fd()]);
    for at in [0x1000, 0x2000, 0x3000] {
        assert_eq!(give(&mut raw, at), 0);
    }
    served.control.events();
    let none = Errno::NOENT.raw_os_error() as u32;
    for (payload, errno) in [
        (unmap(0, 0x1000, 2 * PAGE), none),
        (unmap(0, 0x1000, 0), none),
        (unmap(0, 0x4000, PAGE), none),
        (unmap(0, 0x1001, PAGE - 1), none),
        (unmap(dma::UNMAP_ALL, 0x1000, PAGE), INVALID),
        (unmap(1, 0x1000, PAGE), INVALID),
        (unmap(u32::MAX, 0, 0), INVALID),
    ] {
        assert_eq!(raw.errno(Command::DmaUnmap, &payload, &[]), errno);
    }
    assert_eq!(served.control.events(), []);
    let asked = unmap(0, 0x2000, PAGE);
    assert_eq!(raw.ask(Command::DmaUnmap, &asked).unwrap().payload, asked);
    assert_eq!(raw.errno(Command::DmaUnmap, &asked, &[]), none);
    assert_eq!(raw.errno(Command::DmaUnmap, &unmap(dma::UNMAP_ALL, 0, 0), &[]), 0);
    let back = [0x2000, 0x1000, 0x3000].map(|at| Event::Removed(at, PAGE));
    assert_eq!(served.control.events(), back);
    assert_eq!(raw.errno(Command::DmaUnmap, &unmap(dma::UNMAP_ALL, 0, 0), &[]), 0, "of nothing");
    assert_eq!(give(&mut raw, 0x1000), 0);
}

/// The answer to DMA_UNMAP says that the device uses the memory no more: so it comes after
/// the device said so, not before.
#[test]
fn an_unmap_is_answered_after_the_device_let_go() {
    let served = Served::new();
    let mut raw = Raw::agreed(served.path());
    let file = memory(1);
    assert_eq!(raw.errno(Command::DmaMap, &map(BOTH, 0x1000, PAGE, 0), &[file.as_fd()]), 0);
    served.control.slow.store(true, Ordering::Relaxed);
    assert!(raw.send(&wire::command(77, Command::DmaUnmap, &unmap(0, 0x1000, PAGE)), &[]));
    raw.0.set_nonblocking(true).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(rustix::io::read(&raw.0, &mut [0; 1]), Err(Errno::AGAIN));
    assert!(!served.control.saw(Event::Removed(0x1000, PAGE)));
    raw.0.set_nonblocking(false).unwrap();
    served.control.quiet.store(true, Ordering::Relaxed);
    assert!(!raw.hear().unwrap().header.is_error());
    assert!(served.control.saw(Event::Removed(0x1000, PAGE)));
}

/// Law M3: the next client comes when the DMA of the last has ended, not before.
#[test]
fn law_m3_the_next_client_waits_until_the_memory_of_the_last_is_quiet() {
    let served = Served::new();
    let mut raw = Raw::agreed(served.path());
    let file = memory(2);
    for at in [0x1000, 0x2000] {
        let map = map(BOTH, at, PAGE, 0);
        assert_eq!(raw.errno(Command::DmaMap, &map, &[file.as_fd()]), 0);
    }
    served.control.slow.store(true, Ordering::Relaxed);
    drop(raw);
    until("the server saw it go", || served.control.saw(Event::Gone));
    let mut next = Raw::connect(served.path());
    assert!(next.send(&wire::command(77, Command::Version, b"\0\0\x01\0"), &[]));
    next.0.set_nonblocking(true).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(rustix::io::read(&next.0, &mut [0; 1]), Err(Errno::AGAIN));
    next.0.set_nonblocking(false).unwrap();
    served.control.quiet.store(true, Ordering::Relaxed);
    assert!(!next.hear().unwrap().header.is_error());
    let events = served.control.events();
    let removed = [0x1000, 0x2000].map(|at| Event::Removed(at, PAGE));
    assert_eq!(events[2..], [Event::Gone, removed[0], removed[1]]);
}

#[test]
fn memory_with_a_descriptor_is_reached_through_it() {
    let served = Served::new();
    let mut raw = Raw::agreed(served.path());
    let file = memory(2);
    rustix::io::pwrite(&file, b"HAL", PAGE + 5).unwrap();
    let map = map(BOTH, 0x7000, PAGE, PAGE);
    assert_eq!(raw.errno(Command::DmaMap, &map, &[file.as_fd()]), 0);
    aim(&mut raw, 0x7005, 3);
    assert_eq!(raw.errno(Command::RegionWrite, &write(reg::GO, &[9]), &[]), 0);
    let mut back = [0; 3];
    rustix::io::pread(&file, &mut back, PAGE + 5).unwrap();
    assert_eq!(&back, b"IBM");
}

/// What a client answers to requests for its memory.
fn serve_memory(raw: &mut Raw, memory: &mut [u8], base: u64) -> u32 {
    loop {
        let heard = raw.hear().expect("a message");
        if heard.header.is_reply() {
            return heard.header.error;
        }
        let access = DmaAccess::decode(&heard.payload).unwrap();
        let range =
            (access.address - base) as usize..(access.address - base + access.count) as usize;
        let mut payload = heard.payload[..DmaAccess::LEN].to_vec();
        match Command::of(heard.header.command).unwrap() {
            Command::DmaRead => payload.extend_from_slice(&memory[range]),
            Command::DmaWrite => memory[range].copy_from_slice(&heard.payload[DmaAccess::LEN..]),
            other => panic!("the server asks for {other:?}"),
        }
        assert!(raw.send(&wire::frame(&heard.header.reply(payload.len()), &payload), &[]));
    }
}

#[test]
fn memory_without_a_descriptor_is_reached_by_messages() {
    let served = Served::new();
    let mut raw = Raw::connect(served.path());
    let proposal = b"\0\0\x01\0{\"capabilities\":{\"max_data_xfer_size\":1000}}\0";
    assert!(!raw.ask(Command::Version, proposal).unwrap().header.is_error());
    assert_eq!(raw.errno(Command::DmaMap, &map(BOTH, 0x7000, PAGE, 0), &[]), 0);
    let mut memory: Vec<u8> = (0..PAGE).map(|at| at as u8).collect();
    aim(&mut raw, 0x7001, 4000);
    // Requests of the client's own that come while the server waits for it: each has its
    // answer, in order, after the one that is under way.
    let mut bunch = wire::command(1, Command::RegionWrite, &write(reg::GO, &[9]));
    for id in 2..6 {
        bunch.extend(wire::command(id, Command::RegionWrite, &write(0x100, &[id as u8])));
    }
    assert!(raw.send(&bunch, &[]));
    assert_eq!(serve_memory(&mut raw, &mut memory, 0x7000), 0);
    for id in 2..6 {
        assert_eq!(raw.hear().unwrap().header.id, id);
    }
    for (at, byte) in memory.iter().enumerate() {
        let changed = (1..4001).contains(&at);
        assert_eq!(*byte, (at as u8).wrapping_add(u8::from(changed)), "byte {at}");
    }
    // Refused by the client: an error of the device's, and the connection goes on.
    assert!(raw.send(&wire::command(1, Command::RegionWrite, &write(reg::GO, &[9])), &[]));
    let asked = raw.hear().unwrap().header;
    assert!(raw.send(&wire::frame(&asked.failure(5), &[]), &[]));
    assert_eq!(raw.hear().unwrap().header.error, Errno::IO.raw_os_error() as u32);
    assert_eq!(raw.errno(Command::Reset, &[], &[]), 0);
}

/// Answers of a client to requests for its memory that are none: the connection ends.
#[test]
fn lies_about_memory_end_the_connection() {
    for lie in 0..5 {
        let patience = Duration::from_secs(1);
        let served = Served::with(&ServerOptions { patience, ..ServerOptions::default() });
        let mut raw = Raw::agreed(served.path());
        assert_eq!(raw.errno(Command::DmaMap, &map(BOTH, 0x7000, PAGE, 0), &[]), 0);
        aim(&mut raw, 0x7000, 8);
        assert!(raw.send(&wire::command(1, Command::RegionWrite, &write(reg::GO, &[9])), &[]));
        let heard = raw.hear().unwrap();
        let (mut header, mut payload) = (heard.header.reply(24), heard.payload.clone());
        payload.resize(24, 0);
        match lie {
            0 => header.id ^= 1,
            1 => header.command = Command::DmaWrite as u16,
            2 => payload[0] ^= 1,
            3 => header = heard.header.reply(16 + 3),
            _ => {}
        }
        payload.truncate(header.size as usize - 16);
        if lie < 4 {
            raw.send(&wire::frame(&header, &payload), &[]);
        }
        // The device's error may still be told; then it is over.
        while raw.hear().is_some() {}
        until("it is gone", || served.control.saw(Event::Gone));
        let ends = served.finish();
        let [End::ClientDropped(why)] = &ends[..] else { panic!("lie {lie}: {ends:?}") };
        // Found at once, and for what it is: not by the silence that follows.
        let found = match lie {
            0 | 1 => "to nothing that was asked",
            2 | 3 => "about other memory",
            _ => "no answer to DmaRead",
        };
        assert!(why.contains(found), "lie {lie}: {why}");
    }
}
