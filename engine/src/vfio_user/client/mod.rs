//! The client: a PCI function that a server serves over a socket.
//!
//! `channel` carries one request at a time, `discover` asks what the device is, `mapping`
//! maps register pages that the server shares. Requests have the names of the
//! specification's sections (`VFIO_USER_DMA_MAP` is `Command::DmaMap`).

mod channel;
mod discover;
mod mapping;

use super::socket::{self, Peer};
use super::version::{self, Capabilities};
use super::wire::{self, Command, DmaMapRequest, DmaUnmapRequest, SetIrqsRequest};
use crate::bus::{Bar, DmaAccess, DmaLimits, DmaMap, Function, Registers};
use crate::medium::{Error, ErrorKind, Result};
use crate::memory::limits;
use channel::Channel;
use rustix::io::Errno;
use std::fmt;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Addresses that a function is said to have. The protocol has no limit; these are what an
/// IOMMU has, too. Not the first page: a zero is often no address.
const ADDRESSES: Range<u64> = 4096..1 << 47;

/// How long each kind of request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To be accepted and to agree on a version. A server that serves another client does
    /// neither.
    pub connect: Duration,
    /// Questions and register accesses.
    pub request: Duration,
    /// What has to wait for the device: taking memory back, resetting.
    pub slow: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(5), request: seconds(10), slow: seconds(30) }
    }
}

/// Which of the register pages that a server shares are mapped. What is not mapped is
/// reached by messages, which is slower by a thousand times and as right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mapping {
    /// None.
    Never,
    /// Those in memory that is sealed against shrinking: a server cannot hurt us by it.
    Sealed,
    /// Those, and others if the server runs as root or as this process's user: such a one
    /// could end this process anyhow. SPDK's doorbells are in a plain file.
    #[default]
    Careful,
    /// All: the server is trusted never to shorten the file.
    Trusting,
}

/// How a [`Client`] connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientOptions {
    /// How patient it is.
    pub timeouts: Timeouts,
    /// What it maps.
    pub mapping: Mapping,
}

/// A device at the other end of a socket. Closed when it and all its [`Bar`]s are dropped.
///
/// All calls block, each for no longer than its time-out and those of the calls that other
/// threads began before it. A call that got no answer in time, an answer that is none, and
/// a peer that closed the connection make the client `Gone` for good.
pub struct Client {
    channel: Arc<Channel>,
    peer: Option<Peer>,
    mapping: Mapping,
    limits: DmaLimits,
    max_fds: u32,
    resettable: bool,
    vectors: u32,
}

impl Client {
    /// Connects to a server and asks it what its device is.
    ///
    /// # Errors
    /// `NotFound` when nobody listens there; `Permission`; `Busy` when the server does not
    /// answer in time (it may serve another client); `Invalid` for a path that no socket
    /// can have; `Unsupported` for another version, or a device that is no PCI device;
    /// `Limit`; `Gone` when it breaks the protocol.
    pub fn connect(path: &Path, options: &ClientOptions) -> Result<Arc<Self>> {
        crate::fork::remember();
        let name = path.display().to_string();
        let deadline = socket::deadline(options.timeouts.connect);
        let socket = dial(path, &name, deadline)?;
        let peer = socket::peer(socket.as_fd());
        let channel = Arc::new(Channel::new(name, socket, options.timeouts));
        let theirs = agree(&channel, deadline)?;
        let device = discover::device(&channel)?;
        let vectors = discover::vectors(&channel, &device)?;
        let limits = DmaLimits {
            ranges: Vec::from([ADDRESSES]),
            page_sizes: theirs.page_sizes,
            max_maps: theirs.max_maps,
            foreign_memory: false,
        };
        tracing::info!(server = %channel.name(), ?peer, ?theirs, vectors, "a vfio-user device");
        Ok(Arc::new(Self {
            channel,
            peer,
            mapping: options.mapping,
            limits,
            max_fds: theirs.max_fds,
            resettable: device.flags & wire::device::RESET != 0,
            vectors,
        }))
    }

    /// Checks that a mapping is one that this transport can make, but for what is mapped
    /// already.
    fn check_map(&self, map: &DmaMap<'_>) -> Result<()> {
        let invalid = |text: String| Err(Error::new(ErrorKind::Invalid, text));
        let page = self.limits.page_sizes & self.limits.page_sizes.wrapping_neg();
        let offset = map.file.map_or(0, |(_, offset)| offset);
        if map.len == 0 || [map.iova, map.len, offset].iter().any(|n| !n.is_multiple_of(page)) {
            return invalid(format!(
                "DMA memory {:#x}..+{:#x} of offset {offset:#x} is not made of pages of {page} bytes",
                map.iova, map.len
            ));
        }
        match map.iova.checked_add(map.len) {
            Some(end) if map.iova >= ADDRESSES.start && end <= ADDRESSES.end => Ok(()),
            _ => invalid(format!("the device has no addresses {:#x}..+{:#x}", map.iova, map.len)),
        }
    }

    /// Checks the width and the place of an access to configuration space.
    fn check_config(&self, offset: u16, width: usize) -> Result<()> {
        let place = usize::from(offset);
        if matches!(width, 1 | 2 | 4) && place.is_multiple_of(width) && place + width <= 4096 {
            return Ok(());
        }
        let text = format!("no {width} bytes at {offset:#x} of configuration space are one access");
        Err(Error::new(ErrorKind::Invalid, text))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.channel.name())
            .field("vectors", &self.vectors)
            .finish_non_exhaustive()
    }
}

impl Registers for Channel {
    fn read(&self, bar: u8, offset: u64, to: &mut [u8]) -> Result<()> {
        self.read_region(bar.into(), offset, to)
    }

    fn write(&self, bar: u8, offset: u64, from: &[u8]) -> Result<()> {
        self.write_region(bar.into(), offset, from)
    }
}

impl Function for Client {
    fn name(&self) -> &str {
        self.channel.name()
    }

    fn config(&self, offset: u16, to: &mut [u8]) -> Result<()> {
        self.check_config(offset, to.len())?;
        self.channel.read_region(wire::region::CONFIG, offset.into(), to)
    }

    fn set_config(&self, offset: u16, from: &[u8]) -> Result<()> {
        self.check_config(offset, from.len())?;
        self.channel.write_region(wire::region::CONFIG, offset.into(), from)
    }

    fn bar(&self, index: u8) -> Result<Bar> {
        let none = || {
            let text = format!("{} has no BAR {index}", self.channel.name());
            Error::new(ErrorKind::NotFound, text)
        };
        if index > 5 {
            return Err(none());
        }
        let (info, areas) = discover::region(self, index.into())?;
        if info.size == 0 {
            return Err(none());
        }
        let others: Arc<dyn Registers> = Arc::<Channel>::clone(&self.channel);
        Ok(Bar::new(index, info.size, areas, others))
    }

    fn dma_limits(&self) -> DmaLimits {
        self.limits.clone()
    }

    unsafe fn map(&self, map: &DmaMap<'_>) -> Result<()> {
        let Some((file, offset)) = map.file.filter(|_| self.max_fds > 0) else {
            let text = "memory without a file cannot be given to a vfio-user server";
            return Err(Error::new(ErrorKind::Unsupported, text));
        };
        self.check_map(map)?;
        let mut talk = self.channel.enter()?;
        let end = map.iova + map.len;
        let before = talk.maps.range(..end).next_back();
        if before.is_some_and(|(&iova, &len)| iova + len > map.iova) {
            let text = format!("DMA memory is mapped in {:#x}..{end:#x} already", map.iova);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        if talk.maps.len() >= self.limits.max_maps as usize {
            let text = format!("{} takes {} mappings at once", self.name(), self.limits.max_maps);
            return Err(limits::refused_by_peer(Error::new(ErrorKind::Limit, text)));
        }
        let flags = match map.access {
            DmaAccess::Read => wire::dma::READABLE,
            DmaAccess::Write => wire::dma::WRITEABLE,
            DmaAccess::ReadWrite => wire::dma::READABLE | wire::dma::WRITEABLE,
        };
        let request = DmaMapRequest {
            argsz: DmaMapRequest::LEN as u32,
            flags,
            offset,
            address: map.iova,
            size: map.len,
        };
        let mut payload = Vec::with_capacity(DmaMapRequest::LEN);
        request.encode(&mut payload);
        let patience = self.channel.timeouts().request;
        let answer = self.channel.ask_for(&mut talk, Command::DmaMap, &payload, &[file], patience);
        answer.map_err(limits::refused_by_peer)?;
        talk.maps.insert(map.iova, map.len);
        Ok(())
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<()> {
        let mut talk = self.channel.enter()?;
        if talk.maps.get(&iova) != Some(&len) {
            let text = format!("no DMA memory is mapped as {iova:#x}..+{len:#x}");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let argsz = DmaUnmapRequest::LEN as u32;
        let mut payload = Vec::with_capacity(DmaUnmapRequest::LEN);
        DmaUnmapRequest { argsz, flags: 0, address: iova, size: len }.encode(&mut payload);
        let patience = self.channel.timeouts().slow;
        self.channel.ask_for(&mut talk, Command::DmaUnmap, &payload, &[], patience)?;
        talk.maps.remove(&iova);
        Ok(())
    }

    fn reset(&self) -> Result<()> {
        if !self.resettable {
            let text = format!("the device of {} cannot be reset", self.name());
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let mut talk = self.channel.enter()?;
        let patience = self.channel.timeouts().slow;
        self.channel.ask_for(&mut talk, Command::Reset, &[], &[], patience).map(|_| ())
    }

    fn vectors(&self) -> u32 {
        self.vectors
    }

    fn attach(&self, vector: u32, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        if vector >= self.vectors || (fd.is_some() && self.max_fds == 0) {
            let text = format!("no vector {vector} of {} can have an eventfd", self.vectors);
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let request = SetIrqsRequest {
            argsz: SetIrqsRequest::LEN as u32,
            flags: wire::irq::DATA_EVENTFD | wire::irq::ACTION_TRIGGER,
            index: wire::irq::MSIX,
            start: vector,
            count: 1,
        };
        let mut payload = Vec::with_capacity(SetIrqsRequest::LEN);
        request.encode(&mut payload);
        let mut talk = self.channel.enter()?;
        let (fds, patience) = (fd.as_slice(), self.channel.timeouts().request);
        self.channel.ask_for(&mut talk, Command::SetIrqs, &payload, fds, patience).map(|_| ())
    }

    fn check(&self) -> Result<()> {
        self.channel.check()
    }

    fn link_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.channel.socket())
    }
}

/// Connects, waiting while the server's queue of clients is full.
fn dial(path: &Path, name: &str, deadline: Instant) -> Result<OwnedFd> {
    let failed = |errno: Errno| {
        let (kind, hint) = match errno {
            Errno::NOENT | Errno::CONNREFUSED => (ErrorKind::NotFound, "no server listens there"),
            Errno::ACCESS | Errno::PERM => {
                (ErrorKind::Permission, "ask the server's owner for access to the socket")
            }
            Errno::NAMETOOLONG | Errno::INVAL => {
                (ErrorKind::Invalid, "a socket's path has at most 108 bytes")
            }
            Errno::MFILE | Errno::NFILE => (ErrorKind::Limit, "raise RLIMIT_NOFILE (ulimit -n)"),
            Errno::PROTOTYPE | Errno::NOTSOCK => (ErrorKind::Invalid, "it is no stream socket"),
            _ => (ErrorKind::Io, "see the system's message"),
        };
        Error::new(kind, format!("cannot connect to {name}: {errno}; {hint}"))
    };
    let (socket, address) = socket::socket_for(path).map_err(failed)?;
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::AGAIN) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(Errno::AGAIN) => {
                let text =
                    format!("{name} has more clients waiting than it takes; try again later");
                return Err(Error::new(ErrorKind::Busy, text));
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}

/// Proposes our version and capabilities, and takes the server's (spec,
/// `VFIO_USER_VERSION`).
fn agree(channel: &Channel, deadline: Instant) -> Result<Capabilities> {
    let proposal = Capabilities::ours(wire::DEFAULT_MAPS).encode(wire::MINOR);
    let mut talk = channel.enter()?;
    let patience = deadline.saturating_duration_since(Instant::now());
    let answer = channel.ask_for(&mut talk, Command::Version, &proposal, &[], patience);
    let answer = answer.map_err(|error| {
        if Instant::now() < deadline {
            return error;
        }
        let text = format!(
            "{} did not answer within the time to connect; it may serve another client",
            channel.name()
        );
        Error::new(ErrorKind::Busy, text)
    })?;
    let (version, caps) =
        version::decode(&answer.payload).map_err(|what| channel.nonsense(&what))?;
    if version.major != wire::MAJOR || version.minor > wire::MINOR {
        let text = format!(
            "{} speaks version {}.{} of vfio-user; {}.{} and older are spoken here",
            channel.name(),
            version.major,
            version.minor,
            wire::MAJOR,
            wire::MINOR
        );
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    Ok(caps)
}
