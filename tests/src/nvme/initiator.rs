//! A client of an NVMe controller over vfio-user, written from the two specifications:
//! one message at a time, memory that is one memfd, doorbells by messages or through the
//! shared page. Slow, and without any code of the driver; the layouts of commands
//! are those of the engine's `nvme::spec`.

use freehold_engine::nvme::spec::command::{Command, Cqe};
use freehold_engine::nvme::spec::registers::{
    ACQ, AQA, ASQ, CC, CSTS, Cc, Csts, cq_doorbell, sq_doorbell,
};
use freehold_engine::nvme::spec::status::Status;
use freehold_engine::vfio_user::wire::{self, Header};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes of memory that the device is given.
pub const MEMORY: u64 = 8 << 20;
/// Where the device finds it.
pub const IOVA: u64 = 0x1_0000_0000;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Entries of each queue that is made by [`Initiator::start`] and [`Initiator::queue`].
pub const ENTRIES: u32 = 32;

/// What a request gave: the payload and descriptors, or an errno.
type Answer = Result<(Vec<u8>, Vec<OwnedFd>), u32>;

/// A queue pair in the memory.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Its identifier.
    pub qid: u16,
    /// Entries of both.
    pub entries: u32,
    /// Offset of the submission queue in the memory.
    pub sq: u64,
    /// Offset of the completion queue.
    pub cq: u64,
    /// Next entry to write.
    pub tail: u32,
    /// Next entry to read.
    pub head: u32,
    /// The phase of entries that are new.
    pub phase: bool,
}

/// How doorbells are rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bell {
    /// By messages.
    Message,
    /// Through the page that the server shares.
    Mapped,
    /// In the shadow page at this offset of the memory, by the rule of EventIdx in the
    /// page behind it.
    Shadow(u64),
}

/// See the module.
#[derive(Debug)]
pub struct Initiator {
    stream: UnixStream,
    /// The memory that the device is given.
    pub memory: File,
    doorbells: File,
    next_id: u16,
    next_cid: u16,
    /// How doorbells of I/O queues are rung.
    pub bell: Bell,
    /// Doorbells that were written by messages.
    pub messages: u64,
    /// The admin queue.
    pub admin: Place,
}

impl Initiator {
    /// Connects, agrees on a version, gives the memory, and enables bus mastering. The
    /// controller is as it was found.
    ///
    /// # Panics
    /// If the server refuses any of it.
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the emulator listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out is set");
        let memory = memfd(MEMORY, true);
        let admin =
            Place { qid: 0, entries: ENTRIES, sq: 0, cq: 4096, tail: 0, head: 0, phase: true };
        let doorbells = memory.try_clone().expect("a descriptor");
        let mut initiator = Self {
            stream,
            memory,
            doorbells,
            next_id: 1,
            next_cid: 1,
            bell: Bell::Message,
            messages: 0,
            admin,
        };
        let mut hello = Vec::new();
        wire::Version { major: 0, minor: 1 }.encode(&mut hello);
        hello.extend_from_slice(b"{\"capabilities\":{}}\0");
        initiator.ask(wire::Command::Version, &hello, &[]).expect("a version");
        let mut asked = Vec::new();
        wire::RegionInfo { argsz: 4096, ..Default::default() }.encode(&mut asked);
        let (_, mut fds) = initiator.ask(wire::Command::GetRegionInfo, &asked, &[]).expect("BAR0");
        initiator.doorbells = File::from(fds.pop().expect("doorbells can be mapped"));
        let memory = initiator.memory.try_clone().expect("a descriptor");
        initiator.map(&memory, 0, IOVA, MEMORY).expect("memory is mapped");
        initiator.write_region(7, 4, &[0x06, 0x04]).expect("bus mastering");
        initiator
    }

    /// Connects and enables the controller with an admin queue.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn start(path: &Path) -> Self {
        let mut initiator = Self::connect(path);
        initiator.enable();
        initiator
    }

    /// Enables the controller with a fresh admin queue.
    ///
    /// # Panics
    /// If it does not become ready.
    pub fn enable(&mut self) {
        self.set32(CC, 0);
        self.until(CSTS, |csts| Csts(csts).rdy() == 0);
        (self.admin.tail, self.admin.head, self.admin.phase) = (0, 0, true);
        self.put(self.admin.cq, &[0; 4096]);
        self.set32(AQA, (ENTRIES - 1) | (ENTRIES - 1) << 16);
        self.set64(ASQ, IOVA + self.admin.sq);
        self.set64(ACQ, IOVA + self.admin.cq);
        self.set32(CC, Cc(0).with_en(1).with_iosqes(6).with_iocqes(4).0);
        self.until(CSTS, |csts| Csts(csts).rdy() == 1);
    }

    /// Waits until a register is as wanted.
    ///
    /// # Panics
    /// If it does not become so.
    pub fn until(&mut self, register: u64, wanted: impl Fn(u32) -> bool) {
        let begun = Instant::now();
        while !wanted(self.get32(register)) {
            assert!(begun.elapsed() < PATIENCE, "register {register:#x} stays as it is");
        }
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The errno that it was answered with.
    ///
    /// # Panics
    /// If the connection ends.
    pub fn ask(
        &mut self,
        command: wire::Command,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Answer {
        self.try_ask(command, payload, fds).expect("the server answers")
    }

    /// As [`Initiator::ask`]; `None` when the connection ended.
    pub fn try_ask(
        &mut self,
        command: wire::Command,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Option<Answer> {
        self.next_id = self.next_id.wrapping_add(1);
        let bytes = wire::command(self.next_id, command, payload);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let sent =
            sendmsg(&self.stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL);
        if sent.ok()? != bytes.len() {
            return None;
        }
        self.answer()
    }

    fn answer(&mut self) -> Option<Answer> {
        let (mut bytes, mut fds) = (Vec::new(), Vec::new());
        loop {
            let mut buf = [0; 8192];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let parts = &mut [IoSliceMut::new(&mut buf)];
            let got = recvmsg(&self.stream, parts, &mut control, flags).ok()?;
            if got.bytes == 0 {
                return None;
            }
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    fds.extend(rights);
                }
            }
            bytes.extend_from_slice(&buf[..got.bytes]);
            let Some(header) = Header::decode(&bytes) else { continue };
            if bytes.len() >= header.size as usize {
                assert!(header.is_reply() && header.id == self.next_id, "{header:?}");
                if header.is_error() {
                    return Some(Err(header.error));
                }
                return Some(Ok((bytes.split_off(Header::LEN), fds)));
            }
        }
    }

    /// Gives the device memory of a file.
    ///
    /// # Errors
    /// As [`Initiator::ask`].
    pub fn map(&mut self, file: &File, offset: u64, iova: u64, len: u64) -> Result<(), u32> {
        let flags = wire::dma::READABLE | wire::dma::WRITEABLE;
        let argsz = wire::DmaMapRequest::LEN as u32;
        let mut payload = Vec::new();
        wire::DmaMapRequest { argsz, flags, offset, address: iova, size: len }.encode(&mut payload);
        self.ask(wire::Command::DmaMap, &payload, &[file.as_fd()]).map(|_| ())
    }

    /// Takes memory back.
    ///
    /// # Errors
    /// As [`Initiator::ask`].
    pub fn unmap(&mut self, iova: u64, len: u64) -> Result<(), u32> {
        let argsz = wire::DmaUnmapRequest::LEN as u32;
        let mut payload = Vec::new();
        wire::DmaUnmapRequest { argsz, flags: 0, address: iova, size: len }.encode(&mut payload);
        self.ask(wire::Command::DmaUnmap, &payload, &[]).map(|_| ())
    }

    /// Reads a region.
    ///
    /// # Panics
    /// If it is refused.
    pub fn read_region(&mut self, region: u32, offset: u64, len: u32) -> Vec<u8> {
        let mut payload = Vec::new();
        wire::RegionAccess { offset, region, count: len }.encode(&mut payload);
        let (bytes, _) = self.ask(wire::Command::RegionRead, &payload, &[]).expect("a register");
        bytes[wire::RegionAccess::LEN..].to_vec()
    }

    /// Writes a region.
    ///
    /// # Errors
    /// As [`Initiator::ask`].
    pub fn write_region(&mut self, region: u32, offset: u64, bytes: &[u8]) -> Result<(), u32> {
        let mut payload = Vec::new();
        wire::RegionAccess { offset, region, count: bytes.len() as u32 }.encode(&mut payload);
        payload.extend_from_slice(bytes);
        self.ask(wire::Command::RegionWrite, &payload, &[]).map(|_| ())
    }

    /// Reads a register of 32 bits.
    ///
    /// # Panics
    /// If it is refused.
    pub fn get32(&mut self, offset: u64) -> u32 {
        let bytes = self.read_region(0, offset, 4);
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    }

    /// Reads a register of 64 bits.
    ///
    /// # Panics
    /// If it is refused.
    pub fn get64(&mut self, offset: u64) -> u64 {
        let bytes = self.read_region(0, offset, 8);
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    }

    /// Writes a register of 32 bits.
    ///
    /// # Panics
    /// If it is refused.
    pub fn set32(&mut self, offset: u64, value: u32) {
        self.write_region(0, offset, &value.to_le_bytes()).expect("a register");
    }

    /// Writes a register of 64 bits.
    ///
    /// # Panics
    /// If it is refused.
    pub fn set64(&mut self, offset: u64, value: u64) {
        self.write_region(0, offset, &value.to_le_bytes()).expect("a register");
    }

    /// Reads the memory.
    ///
    /// # Panics
    /// Outside of it.
    pub fn take(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory.read_exact_at(&mut bytes, offset).expect("inside the memory");
        bytes
    }

    /// Writes the memory.
    ///
    /// # Panics
    /// Outside of it.
    pub fn put(&self, offset: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, offset).expect("inside the memory");
    }

    /// Reads a word of the memory.
    ///
    /// # Panics
    /// Outside of it.
    pub fn word(&self, offset: u64) -> u64 {
        u64::from_le_bytes(self.take(offset, 8).try_into().expect("eight bytes"))
    }

    /// An identifier that is not in use.
    pub fn cid(&mut self) -> u16 {
        self.next_cid = self.next_cid % 0x7fff + 1;
        self.next_cid
    }

    /// Writes a command into a queue, without ringing; its identifier.
    pub fn push(&mut self, queue: &mut Place, command: Command) -> u16 {
        let cid = self.cid();
        self.put(queue.sq + u64::from(queue.tail) * 64, &command.with_cid(cid).to_bytes());
        queue.tail = (queue.tail + 1) % queue.entries;
        cid
    }

    /// Rings a queue's tail doorbell; `before` is what it was.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn ring(&mut self, queue: &Place, before: u32) {
        let bell = if queue.qid == 0 { Bell::Message } else { self.bell };
        self.tell(bell, sq_doorbell(queue.qid, 0), queue.tail, before);
    }

    fn tell(&mut self, bell: Bell, register: u64, new: u32, old: u32) {
        match bell {
            Bell::Message => {
                self.messages += 1;
                self.set32(register, new);
            }
            Bell::Mapped => {
                self.doorbells.write_all_at(&new.to_le_bytes(), register).expect("the page");
            }
            Bell::Shadow(pages) => {
                let at = register - 0x1000;
                self.put(pages + at, &new.to_le_bytes());
                std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
                let event = self.word((pages + 4096 + at) & !7) >> (at % 8 * 8);
                let (event, new16, old16) = (event as u16, new as u16, old as u16);
                // Base 1.4, 5.7.
                if new16.wrapping_sub(event).wrapping_sub(1) < new16.wrapping_sub(old16) {
                    self.messages += 1;
                    self.set32(register, new);
                }
            }
        }
    }

    /// The next completion, if it is there; taken, and the head told.
    pub fn reap(&mut self, queue: &mut Place) -> Option<Cqe> {
        let at = queue.cq + u64::from(queue.head) * 16;
        if Cqe([0, self.word(at + 8)]).phase() != queue.phase {
            return None;
        }
        let entry = Cqe([self.word(at), self.word(at + 8)]);
        let before = queue.head;
        queue.head = (queue.head + 1) % queue.entries;
        if queue.head == 0 {
            queue.phase = !queue.phase;
        }
        let bell = if queue.qid == 0 { Bell::Message } else { self.bell };
        self.tell(bell, cq_doorbell(queue.qid, 0), queue.head, before);
        Some(entry)
    }

    /// Waits for the next completion.
    ///
    /// # Panics
    /// If none comes.
    pub fn next(&mut self, queue: &mut Place) -> Cqe {
        let begun = Instant::now();
        loop {
            if let Some(entry) = self.reap(queue) {
                return entry;
            }
            assert!(begun.elapsed() < PATIENCE, "no completion on queue {}", queue.qid);
            std::thread::yield_now();
        }
    }

    /// Executes one command on a queue.
    ///
    /// # Panics
    /// If it is not completed, or wrongly.
    pub fn run(&mut self, queue: &mut Place, command: Command) -> Cqe {
        let before = queue.tail;
        let cid = self.push(queue, command);
        self.ring(queue, before);
        let entry = self.next(queue);
        assert_eq!((entry.cid(), entry.sqid()), (cid, queue.qid), "{entry:?}");
        assert_eq!(u32::from(entry.sq_head()), queue.tail, "{entry:?}");
        entry
    }

    /// Executes an admin command.
    ///
    /// # Panics
    /// If it is not completed, or wrongly.
    pub fn admin(&mut self, command: Command) -> Cqe {
        let mut queue = self.admin;
        let entry = self.run(&mut queue, command);
        self.admin = queue;
        entry
    }

    /// The status of an admin command.
    ///
    /// # Panics
    /// If it is not completed, or wrongly.
    pub fn status(&mut self, command: Command) -> Status {
        let status = self.admin(command).status();
        Status::new(status.sct(), status.sc())
    }

    /// Makes an I/O queue pair at 64 KiB times its number of the memory.
    ///
    /// # Panics
    /// If the controller refuses.
    pub fn queue(&mut self, qid: u16) -> Place {
        let base = u64::from(qid) * 0x10000;
        let (entries, phase) = (ENTRIES, true);
        let place = Place { qid, entries, sq: base, cq: base + 0x8000, tail: 0, head: 0, phase };
        self.put(base, &[0; 0x10000]);
        let cq = Command::create_cq(qid, ENTRIES, IOVA + place.cq, None);
        assert_eq!(self.status(cq), Status::SUCCESS);
        assert_eq!(
            self.status(Command::create_sq(qid, ENTRIES, IOVA + place.sq, qid)),
            Status::SUCCESS
        );
        place
    }
}

/// A memory file, sealed against shrinking or not.
///
/// # Panics
/// If the system has none.
pub fn memfd(len: u64, sealed: bool) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(c"freehold-test", flags).expect("a memfd");
    rustix::fs::ftruncate(&fd, len).expect("its size");
    if sealed {
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&fd, seals).expect("its seals");
    }
    File::from(fd)
}
