//! Either end of vfio-user against a peer whose deeds come out of any bytes: good messages,
//! bad ones, halves, floods, descriptors, silence.

use crate::vfio_user::{Heard, Impostor, PAGE, Raw, Script, Served, honest, reg};
use freehold_engine::bus::Function;
use freehold_engine::medium::Result;
use freehold_engine::vfio_user::server::ServerOptions;
use freehold_engine::vfio_user::wire::{
    self, CapHeader, Command, DeviceInfo, DmaMapRequest, DmaUnmapRequest, Header, IrqInfo,
    RegionAccess, RegionInfo, SetIrqsRequest, SparseArea, SparseHead, flag,
};
use freehold_engine::vfio_user::{Client, ClientOptions, Mapping, Timeouts};
use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::fs::{MemfdFlags, SealFlags};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How patient the end under test is: short, because many peers here are silent.
const PATIENCE: Duration = Duration::from_millis(25);

/// Requests that were answered well, by [`fuzz_server`] and [`fuzz_client`] so far: a run
/// in which there are none tests nothing.
pub static ANSWERED: AtomicU64 = AtomicU64::new(0);

/// Bytes as a source of decisions; zeroes when they are used up.
#[derive(Debug)]
struct Deeds {
    data: Vec<u8>,
    at: usize,
}

impl Deeds {
    fn new(data: &[u8]) -> Self {
        Self { data: data.to_vec(), at: 0 }
    }

    fn over(&self) -> bool {
        self.at >= self.data.len()
    }

    fn byte(&mut self) -> u8 {
        self.at += 1;
        self.data.get(self.at - 1).copied().unwrap_or(0)
    }

    fn below(&mut self, end: u8) -> u8 {
        self.byte() % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// A number, more often than not one that is at an edge.
    fn number(&mut self) -> u64 {
        let edges = [0, 1, 8, 16, PAGE - 1, PAGE, 2 * PAGE, u64::MAX, u64::MAX - PAGE + 1, 1 << 32];
        match self.below(3) {
            0 => u64::from(self.byte()),
            1 => u64::from_ne_bytes(std::array::from_fn(|_| self.byte())),
            _ => self.pick(&edges),
        }
    }

    /// Descriptors of all kinds: seldom, and then some.
    fn descriptors(&mut self) -> Vec<OwnedFd> {
        let count = self.pick(&[0, 0, 0, 0, 1, 1, 2, 16, 17, 40]);
        (0..count).map(|_| self.descriptor()).collect()
    }

    fn descriptor(&mut self) -> OwnedFd {
        match self.below(6) {
            0 => rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
            1 => std::fs::File::open("/dev/zero").unwrap().into(),
            2 => std::os::unix::net::UnixDatagram::pair().unwrap().0.into(),
            _ => {
                let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
                let file = rustix::fs::memfd_create("fuzz", flags).unwrap();
                let pages = u64::from(self.below(5));
                rustix::fs::ftruncate(&file, pages * PAGE).unwrap();
                if self.below(2) == 0 {
                    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
                }
                file
            }
        }
    }

    /// Changes some bytes, or the length.
    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            let at = usize::from(self.byte()) % bytes.len().max(1);
            let change = self.byte();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= change;
            }
        }
        match self.below(8) {
            0 => bytes.truncate(usize::from(self.byte())),
            1 => bytes.resize(bytes.len() + usize::from(self.byte()), 0xa5),
            2 => {
                let size = self.number() as u32;
                if let Some(field) = bytes.get_mut(4..8) {
                    field.copy_from_slice(&size.to_ne_bytes());
                }
            }
            _ => {}
        }
    }
}

/// A request as a client makes it, more or less.
fn request(deeds: &mut Deeds) -> Vec<u8> {
    let command = deeds.pick(&Command::ALL);
    let mut payload = Vec::new();
    let (address, size) = (u64::from(deeds.below(6)) * PAGE, u64::from(deeds.below(4)) * PAGE);
    match command {
        Command::Version => payload.extend_from_slice(b"\0\0\x01\0{\"capabilities\":{}}\0"),
        Command::DmaMap => {
            let (offset, flags) = (u64::from(deeds.below(3)) * PAGE, u32::from(deeds.below(5)));
            DmaMapRequest { argsz: 32, flags, offset, address, size }.encode(&mut payload);
        }
        Command::DmaUnmap => {
            let flags = u32::from(deeds.below(3));
            DmaUnmapRequest { argsz: 24, flags, address, size }.encode(&mut payload);
        }
        Command::GetInfo => DeviceInfo { argsz: 16, ..Default::default() }.encode(&mut payload),
        Command::GetRegionInfo => {
            let (argsz, index) = (deeds.pick(&[32, 64, 4096]), u32::from(deeds.below(10)));
            RegionInfo { argsz, index, ..Default::default() }.encode(&mut payload);
        }
        Command::GetIrqInfo => {
            let index = u32::from(deeds.below(6));
            IrqInfo { argsz: 16, index, ..Default::default() }.encode(&mut payload);
        }
        Command::SetIrqs => {
            let flags = 1 << deeds.below(3) | 1 << (3 + deeds.below(3));
            let (start, count) = (u32::from(deeds.below(5)), u32::from(deeds.below(5)));
            SetIrqsRequest { argsz: 20, flags, index: 2, start, count }.encode(&mut payload);
        }
        Command::RegionRead => {
            let (offset, count) = (u64::from(deeds.byte()) * 40, u32::from(deeds.byte()));
            RegionAccess { offset, region: deeds.pick(&[0, 7]), count }.encode(&mut payload);
        }
        Command::RegionWrite => {
            let own = [reg::ADDRESS, reg::COUNT, reg::GO, reg::SIGNAL, reg::FAIL, PAGE];
            let (offset, value) = (deeds.pick(&own), deeds.number());
            RegionAccess { offset, region: 0, count: 8 }.encode(&mut payload);
            // Addresses that are mapped now and then, and lengths that are short.
            let value = if offset == reg::COUNT { value & 0xffff } else { value };
            payload.extend_from_slice(&value.to_ne_bytes());
        }
        _ => payload.resize(usize::from(deeds.byte()), 0),
    }
    wire::command(deeds.byte().into(), command, &payload)
}

/// A client that does what the bytes say, against our server of a toy; then one that
/// keeps to the protocol, which must be served.
///
/// # Panics
/// If the server panicked, hangs, or keeps what the client gave it.
pub fn fuzz_server(data: &[u8]) {
    let mut deeds = Deeds::new(data);
    let options = ServerOptions { max_maps: 4, polls_per_look: 4, patience: PATIENCE };
    let served = Served::with(&options);
    served.control.busy.store(deeds.below(2) == 0, Ordering::Relaxed);
    while !deeds.over() {
        let mut raw = Raw::connect(served.path());
        if deeds.below(8) != 0 {
            raw.send(
                &wire::command(0, Command::Version, b"\0\0\x01\0{\"capabilities\":{}}\0"),
                &[],
            );
        }
        raw.0.set_nonblocking(true).unwrap();
        // How often it does what ends the connection.
        let wild = deeds.pick(&[2, 6, 20, 60]);
        while !deeds.over() && attack(&mut raw, &mut deeds, wild) {}
    }
    let end = Instant::now() + Duration::from_secs(60);
    while let Err(error) = good_client(&served) {
        assert!(Instant::now() < end, "nobody is served any more: {error}");
    }
    let control = Arc::clone(&served.control);
    served.finish();
    assert_eq!(control.held.load(Ordering::Relaxed), 0, "something is still held");
}

/// One deed of a hostile client; false when its connection is over. Nothing here blocks.
fn attack(raw: &mut Raw, deeds: &mut Deeds, wild: u8) -> bool {
    let fds = deeds.descriptors();
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    if deeds.below(wild) == 0 {
        let mut bytes = request(deeds);
        deeds.spoil(&mut bytes);
        if deeds.below(2) == 0 {
            let header = Header {
                id: deeds.number() as u16,
                command: deeds.byte().into(),
                size: 16,
                flags: u32::from(deeds.byte()),
                error: 0,
            };
            bytes = wire::frame(&header, &[]);
        }
        return bytes.is_empty() || raw.send(&bytes, &fds);
    }
    match deeds.below(8) {
        0..=3 => raw.send(&request(deeds), &fds),
        4 if deeds.below(6) == 0 => (0..deeds.byte()).all(|_| {
            let mut access = Vec::new();
            RegionAccess { offset: 0, region: 7, count: 1024 }.encode(&mut access);
            raw.send(&wire::command(1, Command::RegionRead, &access), &[])
        }),
        // Takes an answer, or answers what the server asks: it asks for memory.
        _ => (0..8).all(|_| !readable(raw) || answer_once(raw, deeds)),
    }
}

/// Whether something comes within a moment.
fn readable(raw: &Raw) -> bool {
    let wait = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 500_000 };
    let mut ready = [PollFd::new(&raw.0, PollFlags::IN)];
    rustix::event::poll(&mut ready, Some(&wait)) == Ok(1)
}

/// Reads one message if there is one, and answers it if it is a question; false when the
/// connection is over.
fn answer_once(raw: &mut Raw, deeds: &mut Deeds) -> bool {
    let mut head = [0; Header::LEN];
    if rustix::io::read(&raw.0, &mut head) != Ok(Header::LEN) {
        return false;
    }
    let header = Header::decode(&head).unwrap_or_default();
    let mut rest = vec![0; (header.size as usize).saturating_sub(Header::LEN)];
    let _ = rustix::io::read(&raw.0, &mut rest);
    if header.is_reply() {
        ANSWERED.fetch_add(u64::from(!header.is_error()), Ordering::Relaxed);
        return true;
    }
    let count = rest.get(8..16).map_or(0, |n| u64::from_ne_bytes(n.try_into().unwrap_or_default()));
    rest.truncate(16);
    if header.command == Command::DmaRead as u16 {
        rest.resize(16 + (count as usize).min(1 << 16), 0x33);
    }
    let mut bytes = wire::frame(&header.reply(rest.len()), &rest);
    if deeds.below(6) == 0 {
        deeds.spoil(&mut bytes);
    }
    raw.send(&bytes, &[])
}

/// A client that keeps to the protocol gets what it asks for. (It may be dropped once for
/// being slow: patience is short here.)
fn good_client(served: &Served) -> Result<()> {
    let client = Client::connect(served.path(), &ClientOptions::default())?;
    let bar = client.bar(0)?;
    bar.write32(0x100, 0x1234)?;
    assert_eq!(bar.read32(0x100)?, 0x1234);
    Ok(())
}

/// A server that does what the bytes say, against our client, which must end each call in
/// an answer or an error.
///
/// # Panics
/// If a call panics or takes too long.
pub fn fuzz_client(data: &[u8]) {
    let mut deeds = Deeds::new(data);
    // How often it betrays; regions are described with lies by all.
    let wild = deeds.pick(&[2, 8, 30, 100]);
    let script: Script = Box::new(move |raw, heard| {
        if deeds.over() || deeds.below(wild) != 0 {
            return heard.header.command == Command::GetRegionInfo as u16
                && share(raw, heard, &mut deeds);
        }
        betray(raw, heard, &mut deeds)
    });
    let impostor = Impostor::new(script);
    let timeouts = Timeouts { connect: PATIENCE, request: PATIENCE, slow: PATIENCE };
    // Files that a server may shorten are not mapped: it does shorten them.
    let options = ClientOptions { timeouts, mapping: Mapping::Sealed };
    let begun = Instant::now();
    if let Ok(client) = Client::connect(impostor.path(), &options) {
        let answered = use_all(&client);
        ANSWERED.fetch_add(answered, Ordering::Relaxed);
        let over = client.check().is_err();
        assert!(!over || client.reset().is_err(), "a client that is gone stays so");
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "calls took {:?}", begun.elapsed());
}

/// Calls everything; how many calls succeeded.
fn use_all(client: &Client) -> u64 {
    let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let mut good = 0;
    for round in 0..3u32 {
        let mut word = [0; 4];
        good += u64::from(client.config(0, &mut word).is_ok());
        good += u64::from(client.set_config(4, &word[..2]).is_ok());
        if let Ok(bar) = client.bar((round % 2) as u8) {
            for offset in (0..bar.len().min(4 * PAGE)).step_by(408) {
                good += u64::from(bar.read32(offset).is_ok());
                good += u64::from(bar.write64(offset, 7).is_ok());
            }
        }
        for vector in 0..client.vectors().min(2) {
            good += u64::from(client.attach(vector, Some(event.as_fd())).is_ok());
            good += u64::from(client.attach(vector, None).is_ok());
        }
        good += u64::from(client.reset().is_ok());
    }
    good
}

/// One deed of a hostile server.
fn betray(raw: &mut Raw, heard: &Heard, deeds: &mut Deeds) -> bool {
    let fds = deeds.descriptors();
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut bytes = honest(heard);
    match deeds.below(7) {
        0 => deeds.spoil(&mut bytes),
        1 => bytes = wire::frame(&heard.header.failure(deeds.number() as u32), &[]),
        2 => return true,
        3 => {
            let _ = raw.0.shutdown(std::net::Shutdown::Both);
            return true;
        }
        4 => {
            for _ in 0..deeds.byte() {
                raw.send(&request(deeds), &[]);
            }
        }
        5 => {
            let mut header = heard.header.reply(0);
            header.flags |= u32::from(deeds.byte()) & !flag::TYPE;
            bytes = wire::frame(&header, &[]);
        }
        _ => return false,
    }
    raw.send(&bytes, if bytes.is_empty() { &[] } else { &borrowed });
    true
}

/// Describes a region with pages to be mapped, and shortens its file right after.
fn share(raw: &mut Raw, heard: &Heard, deeds: &mut Deeds) -> bool {
    let shared = deeds.descriptor();
    raw.send(&shared_region(heard, deeds), &[shared.as_fd()]);
    let _ = rustix::fs::ftruncate(&shared, 0);
    true
}

/// A description of a region with a list of what can be mapped, true or not.
fn shared_region(heard: &Heard, deeds: &mut Deeds) -> Vec<u8> {
    let asked = RegionInfo::decode(&heard.payload).unwrap_or_default();
    let mut caps = Vec::new();
    let count = u32::from(deeds.below(4));
    CapHeader { id: 1, version: 1, next: 0 }.encode(&mut caps);
    SparseHead { areas: count, reserved: 0 }.encode(&mut caps);
    for number in 0..count {
        let (mut offset, mut size) = (u64::from(number) * PAGE, PAGE);
        if deeds.below(30) == 1 {
            (offset, size) = (deeds.number(), deeds.number());
        }
        SparseArea { offset, size }.encode(&mut caps);
    }
    let argsz = (RegionInfo::LEN + caps.len()) as u32;
    let offset = if deeds.below(10) == 1 { deeds.number() } else { 0 };
    let info = RegionInfo { argsz, flags: 0xf, cap_offset: 32, size: 4 * PAGE, offset, ..asked };
    let mut payload = Vec::new();
    info.encode(&mut payload);
    if argsz <= asked.argsz || deeds.below(20) == 1 {
        payload.extend_from_slice(&caps);
    }
    let mut bytes = wire::frame(&heard.header.reply(payload.len()), &payload);
    if deeds.below(20) == 1 {
        deeds.spoil(&mut bytes);
    }
    bytes
}
