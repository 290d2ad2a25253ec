//! Our server against a client that says what it wants: each message, each refusal.

use freehold_engine::vfio_user::server::{End, ServerOptions};
use freehold_engine::vfio_user::wire::{
    self, Command, DeviceInfo, Header, IrqInfo, RegionAccess, RegionInfo, SetIrqsRequest, flag, irq,
};
use freehold_tests::vfio_user::{Event, PAGE, Raw, Served, VECTORS, until};
use rustix::event::EventfdFlags;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

const INVALID: u32 = Errno::INVAL.raw_os_error() as u32;
const UNSUPPORTED: u32 = Errno::OPNOTSUPP.raw_os_error() as u32;

fn bytes(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    bytes
}

fn access(region: u32, offset: u64, count: u32) -> Vec<u8> {
    bytes(|to| RegionAccess { offset, region, count }.encode(to))
}

/// How the sessions of a server ended, when the last of its clients has gone.
fn ends(served: Served, clients: usize) -> Vec<End> {
    let gone = || {
        let log = served.control.log.lock().unwrap();
        log.iter().filter(|event| **event == Event::Gone).count() == clients
    };
    until("all clients are gone", gone);
    // The server notices the end of the last one before it notices the stop.
    served.finish()
}

#[test]
fn a_version_is_agreed_on_first() {
    let served = Served::new();
    let cases: [(&[u8], Option<u32>); 8] = [
        (b"\0\0\x01\0", None),
        (b"\0\0\x63\0{}\0", None),
        (b"\0\0\0\0{\"capabilities\":{\"max_msg_fds\":8,\"pgsizes\":4096}}\0", None),
        (b"\x01\0\0\0", Some(Errno::PROTONOSUPPORT.raw_os_error() as u32)),
        (b"\0\0", Some(INVALID)),
        (b"\0\0\x01\0{", Some(INVALID)),
        (b"\0\0\x01\0{\"capabilities\":{\"max_msg_fds\":-1}}\0", Some(INVALID)),
        (b"\0\0\x01\0{\"capabilities\":{\"max_data_xfer_size\":0}}\0", Some(INVALID)),
    ];
    for (payload, refused) in cases {
        let mut raw = Raw::connect(served.path());
        let heard = raw.ask(Command::Version, payload).unwrap();
        assert_eq!(heard.header.is_error().then_some(heard.header.error), refused);
        if refused.is_some() {
            assert!(raw.hear().is_none(), "the connection is closed");
            continue;
        }
        assert_eq!(heard.payload[..2], [0, 0], "major");
        assert!(heard.payload[2] <= payload[2].min(1), "minor");
        let text = String::from_utf8(heard.payload[4..].to_vec()).unwrap();
        assert!(text.ends_with('\0') && text.contains("capabilities"));
        for name in ["max_msg_fds", "max_data_xfer_size", "max_dma_maps", "pgsizes"] {
            let proposed = String::from_utf8_lossy(payload).contains(name);
            assert_eq!(text.contains(name), proposed, "a subset of what was proposed: {text}");
        }
        assert_eq!(raw.errno(Command::Version, payload, &[]), INVALID, "once only");
        assert_eq!(raw.errno(Command::Reset, &[], &[]), 0);
    }
    let mut raw = Raw::connect(served.path());
    assert_eq!(raw.errno(Command::Reset, &[], &[]), INVALID, "nothing before the version");
    assert!(raw.hear().is_none());
}

#[test]
fn each_question_has_its_answer() {
    let served = Served::new();
    let mut raw = Raw::agreed(served.path());
    let ask = |argsz| bytes(|to| DeviceInfo { argsz, ..Default::default() }.encode(to));
    let heard = raw.ask(Command::GetInfo, &ask(16)).unwrap();
    let info = DeviceInfo::decode(&heard.payload).unwrap();
    assert_eq!(info, DeviceInfo { argsz: 16, flags: 3, regions: 9, irqs: 5 });
    assert_eq!(raw.errno(Command::GetInfo, &ask(15), &[]), INVALID);

    let ask =
        |index, argsz| bytes(|to| RegionInfo { argsz, index, ..Default::default() }.encode(to));
    let heard = raw.ask(Command::GetRegionInfo, &ask(0, 32)).unwrap();
    let info = RegionInfo::decode(&heard.payload).unwrap();
    assert_eq!((info.argsz, info.cap_offset, info.size), (64, 0, 2 * PAGE));
    assert_eq!((info.flags, heard.fds.len(), heard.payload.len()), (0xf, 1, 32));
    let heard = raw.ask(Command::GetRegionInfo, &ask(0, 64)).unwrap();
    let info = RegionInfo::decode(&heard.payload).unwrap();
    assert_eq!((info.cap_offset, heard.fds.len(), heard.payload.len()), (32, 1, 64));
    let config = raw.ask(Command::GetRegionInfo, &ask(7, 32)).unwrap();
    let info = RegionInfo::decode(&config.payload).unwrap();
    assert_eq!((info.flags, info.size, config.fds.len()), (3, PAGE, 0));
    for index in [1, 8] {
        let none = raw.ask(Command::GetRegionInfo, &ask(index, 32)).unwrap();
        assert_eq!(RegionInfo::decode(&none.payload).unwrap().size, 0);
    }
    assert_eq!(raw.errno(Command::GetRegionInfo, &ask(9, 32), &[]), INVALID);
    assert_eq!(raw.errno(Command::GetRegionInfo, &ask(u32::MAX, 32), &[]), INVALID);
    assert_eq!(raw.errno(Command::GetRegionInfo, &ask(0, 31), &[]), INVALID);

    let ask = |index, argsz| bytes(|to| IrqInfo { argsz, index, ..Default::default() }.encode(to));
    for index in 0..5 {
        let heard = raw.ask(Command::GetIrqInfo, &ask(index, 16)).unwrap();
        let info = IrqInfo::decode(&heard.payload).unwrap();
        let expected = if index == irq::MSIX { (VECTORS, 1) } else { (0, 0) };
        assert_eq!((info.count, info.flags & 1), expected);
    }
    assert_eq!(raw.errno(Command::GetIrqInfo, &ask(5, 16), &[]), INVALID);
    assert_eq!(raw.errno(Command::GetIrqInfo, &ask(2, 15), &[]), INVALID);
}

#[test]
fn accesses_stay_inside_their_region() {
    let served = Served::new();
    let mut raw = Raw::agreed(served.path());
    let mut write = access(0, 0x100, 5);
    write.extend_from_slice(b"hello");
    assert_eq!(raw.ask(Command::RegionWrite, &write).unwrap().payload, access(0, 0x100, 5));
    let heard = raw.ask(Command::RegionRead, &access(0, 0x100, 5)).unwrap();
    assert_eq!(heard.payload[16..], *b"hello");
    assert_eq!(raw.errno(Command::RegionRead, &access(0, 0x100, 0), &[]), 0);
    assert_eq!(raw.errno(Command::RegionRead, &access(0, 2 * PAGE, 0), &[]), 0);
    let bad = [
        access(0, 2 * PAGE, 1),
        access(0, 2 * PAGE - 1, 2),
        access(0, u64::MAX, 1),
        access(0, u64::MAX, u32::MAX),
        access(0, 0, u32::MAX),
        access(1, 0, 1),
        access(9, 0, 1),
        access(u32::MAX, 0, 0),
    ];
    for bad in bad {
        assert_eq!(raw.errno(Command::RegionRead, &bad, &[]), INVALID, "{bad:?}");
        assert_eq!(raw.errno(Command::RegionWrite, &bad, &[]), INVALID, "{bad:?}");
    }
    // More or less data than was said.
    write.push(b'!');
    assert_eq!(raw.errno(Command::RegionWrite, &write, &[]), INVALID);
    write.truncate(18);
    assert_eq!(raw.errno(Command::RegionWrite, &write, &[]), INVALID);
    // A client that takes little data gets no more.
    let mut small = Raw::connect(served.path());
    drop(raw);
    let proposal = b"\0\0\x01\0{\"capabilities\":{\"max_data_xfer_size\":16}}\0";
    assert!(!small.ask(Command::Version, proposal).unwrap().header.is_error());
    assert_eq!(small.errno(Command::RegionRead, &access(0, 0, 17), &[]), INVALID);
    assert_eq!(small.errno(Command::RegionRead, &access(0, 0, 16), &[]), 0);
}

#[test]
fn what_is_unknown_or_has_a_wrong_size_is_refused_and_the_connection_goes_on() {
    let served = Served::new();
    let mut raw = Raw::agreed(served.path());
    for number in [0, 19, 20, 0x7fff, u16::MAX] {
        let header = Header { id: 5, command: number, size: 16, flags: 0, error: 0 };
        assert!(raw.send(&wire::frame(&header, &[]), &[]));
        let heard = raw.hear().unwrap().header;
        assert_eq!((heard.id, heard.command, heard.error), (5, number, UNSUPPORTED));
    }
    for command in Command::ALL {
        for len in [1, 7, 15, 19, 21, 33, 400] {
            let errno = raw.errno(command, &vec![0xff; len], &[]);
            assert!(errno == INVALID || errno == UNSUPPORTED, "{command:?} of {len}: {errno}");
        }
    }
    for command in [Command::DmaRead, Command::RegionWriteMulti, Command::Feature] {
        assert_eq!(raw.errno(command, &[0; 16], &[]), UNSUPPORTED);
    }
    assert_eq!(raw.errno(Command::Reset, &[], &[]), 0);
}

#[test]
fn a_stream_that_cannot_be_followed_ends() {
    let served = Served::new();
    let sizes = [0, 15, wire::MAX_MESSAGE as u32 + 1, u32::MAX];
    for size in sizes {
        let mut raw = Raw::agreed(served.path());
        let header = Header { id: 1, command: 13, size, ..Default::default() };
        raw.send(&wire::frame(&header, &[]), &[]);
        assert!(raw.hear().is_none(), "{size}");
    }
    // An answer to nothing, and a type that is none.
    for flags in [flag::REPLY, 2, 15] {
        let mut raw = Raw::agreed(served.path());
        let header = Header { id: 1, command: 11, size: 16, flags, error: 0 };
        raw.send(&wire::frame(&header, &[]), &[]);
        assert!(raw.hear().is_none(), "{flags}");
    }
    // The end in the middle of a message.
    let mut raw = Raw::agreed(served.path());
    raw.send(&wire::command(1, Command::Reset, &[])[..9], &[]);
    drop(raw);
    drop(Raw::agreed(served.path()));
    let ends = ends(served, sizes.len() + 5);
    assert!(matches!(ends.last(), Some(End::ClientLeft)), "{ends:?}");
    let dropped = ends.iter().filter(|end| matches!(end, End::ClientDropped(_))).count();
    assert_eq!(dropped, sizes.len() + 4, "{ends:?}");
}

#[test]
fn nothing_is_answered_where_no_answer_is_wanted() {
    let served = Served::new();
    let mut raw = Raw::agreed(served.path());
    let mut write = access(0, 0x100, 1);
    write.push(7);
    let mut header = Header::command(1, Command::RegionWrite, write.len());
    header.flags |= flag::NO_REPLY;
    for _ in 0..100 {
        assert!(raw.send(&wire::frame(&header, &write), &[]));
    }
    header.command = 0;
    assert!(raw.send(&wire::frame(&header, &write), &[]), "and no error either");
    let heard = raw.ask(Command::RegionRead, &access(0, 0x100, 1)).unwrap();
    assert_eq!((heard.header.id, heard.payload[16]), (77, 7));
}

#[test]
fn messages_in_pieces_and_in_bunches_are_the_same_messages() {
    let served = Served::new();
    let mut raw = Raw::agreed(served.path());
    let one = wire::command(77, Command::RegionRead, &access(7, 0, 4));
    for byte in &one {
        assert!(raw.send(std::slice::from_ref(byte), &[]));
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(raw.hear().unwrap().payload[16..], [0x86, 0x80, 0x45, 0x58]);
    let bunch: Vec<u8> =
        (0..50).flat_map(|id| wire::command(id, Command::RegionRead, &access(7, 0, 4))).collect();
    assert!(raw.send(&bunch, &[]));
    for id in 0..50 {
        assert_eq!(raw.hear().unwrap().header.id, id, "answered in order");
    }
}

fn eventfds(count: usize) -> Vec<OwnedFd> {
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    (0..count).map(|_| rustix::event::eventfd(0, flags).unwrap()).collect()
}

fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

fn signalled(fd: &OwnedFd) -> bool {
    rustix::io::read(fd, &mut [0; 8]).is_ok()
}

#[test]
fn vectors_are_set_as_the_specification_says() {
    let served = Served::new();
    let mut raw = Raw::agreed(served.path());
    let set = |flags, start, count, data: &[u8]| {
        let argsz = (SetIrqsRequest::LEN + data.len()) as u32;
        let request = SetIrqsRequest { argsz, flags, index: irq::MSIX, start, count };
        let mut payload = bytes(|to| request.encode(to));
        payload.extend_from_slice(data);
        payload
    };
    let fds = eventfds(3);
    let (attach, trigger) = (irq::DATA_EVENTFD | irq::ACTION_TRIGGER, irq::ACTION_TRIGGER);
    assert_eq!(raw.errno(Command::SetIrqs, &set(attach, 1, 3, &[]), &borrowed(&fds)), 0);
    let all = [1, 2, 3].map(|vector| Event::Attached(vector, true));
    assert_eq!(served.control.events(), all);
    // Triggered by the client itself, all and some.
    let some = set(irq::DATA_BOOL | trigger, 1, 3, &[0, 1, 0]);
    assert_eq!(raw.errno(Command::SetIrqs, &some, &[]), 0);
    assert_eq!(fds.iter().map(signalled).collect::<Vec<_>>(), [false, true, false]);
    assert_eq!(raw.errno(Command::SetIrqs, &set(irq::DATA_NONE | trigger, 0, 4, &[]), &[]), 0);
    assert!(fds.iter().all(signalled));
    // One taken back, then all.
    assert_eq!(raw.errno(Command::SetIrqs, &set(attach, 2, 1, &[]), &[]), 0);
    assert_eq!(served.control.events(), [Event::Attached(2, false)]);
    assert_eq!(raw.errno(Command::SetIrqs, &set(irq::DATA_NONE | trigger, 0, 0, &[]), &[]), 0);
    let rest = [1, 3].map(|vector| Event::Attached(vector, false));
    assert_eq!(served.control.events(), rest);
    // What makes no sense changes nothing.
    let (file, pipe) = (std::fs::File::open("/dev/null").unwrap(), std::io::pipe().unwrap());
    let (one, socket) = (set(attach, 0, 1, &[]), raw.0.try_clone().unwrap());
    for (payload, fds) in [
        (set(attach, 0, 5, &[]), Vec::new()),
        (set(attach, u32::MAX, 2, &[]), Vec::new()),
        (set(attach, 0, 2, &[]), borrowed(&fds)),
        (set(attach, 0, 1, &[1]), Vec::new()),
        (set(irq::DATA_BOOL | trigger, 0, 2, &[1]), Vec::new()),
        (set(irq::DATA_NONE | trigger, 0, 1, &[]), borrowed(&fds)),
        (set(1 << 9 | attach, 0, 1, &[]), borrowed(&fds[..1])),
        (one.clone(), Vec::from([file.as_fd()])),
        (one.clone(), Vec::from([pipe.1.as_fd()])),
        (one.clone(), Vec::from([socket.as_fd()])),
    ] {
        assert_eq!(raw.errno(Command::SetIrqs, &payload, &fds), INVALID, "{payload:?}");
    }
    let mask = set(irq::DATA_NONE | irq::ACTION_MASK, 0, 1, &[]);
    assert_eq!(raw.errno(Command::SetIrqs, &mask, &[]), UNSUPPORTED);
    assert_eq!(served.control.events(), []);
}

/// A client that says nothing, half a thing, or takes no answers loses its place, and the
/// device works all the while.
#[test]
fn clients_that_stall_are_dropped() {
    let patience = Duration::from_secs(1);
    let options = ServerOptions { patience, ..ServerOptions::default() };
    for stall in 0..3 {
        let served = Served::with(&options);
        let mut raw =
            if stall == 0 { Raw::connect(served.path()) } else { Raw::agreed(served.path()) };
        match stall {
            0 => {}
            1 => assert!(raw.send(&[1; 3], &[])),
            _ => {
                // Answers of a page each, which nobody takes.
                let read = wire::command(1, Command::RegionRead, &access(7, 0, 4096));
                let _ = rustix::io::ioctl_fionbio(&raw.0, true);
                while rustix::io::write(&raw.0, &read).is_ok() {}
            }
        }
        let ends = ends(served, 1);
        assert_eq!(ends, [End::ClientDropped("it stalled".into())], "stall {stall}");
    }
}

#[test]
fn a_device_that_leaves_says_nothing() {
    let served = Served::new();
    let mut raw = Raw::agreed(served.path());
    let mut write = access(0, freehold_tests::vfio_user::reg::LEAVE, 4);
    write.extend_from_slice(&[0; 4]);
    raw.ask(Command::RegionWrite, &write);
    assert!(raw.hear().is_none());
    assert_eq!(ends(served, 1), [End::DeviceLeft]);
}
