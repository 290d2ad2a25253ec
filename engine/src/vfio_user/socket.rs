//! One end of a connection: whole messages in, whole messages out, never asleep.
//!
//! [`Link::receive`] and [`Link::flush`] do what can be done at once, and
//! [`Link::wait`] sleeps until more can be done or a deadline has come; so each side
//! decides by itself how patient it is. Descriptors are taken with close-on-exec, as many
//! as [`wire::MAX_FDS`] with one message; the system closes those beyond, and the message
//! says so. A peer that is gone gives an error, no signal.

use super::wire::{self, Header};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::Timespec;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix,
};
use std::collections::VecDeque;
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Room for the descriptors of one message.
const CONTROL: usize = rustix::cmsg_space!(ScmRights(wire::MAX_FDS));

/// Why a connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The peer closed it, or is gone.
    Closed,
    /// The peer does not keep to the protocol.
    Protocol(String),
    /// The system refused.
    System(Errno),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Closed => f.write_str("the peer closed the connection"),
            Broken::Protocol(what) => write!(f, "the peer broke the protocol: {what}"),
            Broken::System(errno) => write!(f, "the socket failed: {errno}"),
        }
    }
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    /// More descriptors came than are taken; those beyond were closed.
    pub(crate) lost_fds: bool,
}

/// A message on its way in.
#[derive(Debug, Default)]
struct Inbox {
    head: [u8; Header::LEN],
    /// Bytes of header and payload that are there.
    have: usize,
    /// Read when all of `head` is there.
    header: Header,
    payload: Vec<u8>,
    fds: Vec<OwnedFd>,
    lost_fds: bool,
}

/// A message on its way out.
#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    sent: usize,
    /// Go with the first byte.
    fds: Vec<OwnedFd>,
}

/// A connected socket with what is half received and half sent on it.
#[derive(Debug)]
pub(crate) struct Link {
    /// Shared with whoever watches it for a hang-up; read and written here alone.
    socket: Arc<OwnedFd>,
    inbox: Inbox,
    outbox: VecDeque<Frame>,
}

impl Link {
    /// Takes a connected stream socket that does not block.
    pub(crate) fn new(socket: Arc<OwnedFd>) -> Self {
        Self { socket, inbox: Inbox::default(), outbox: VecDeque::new() }
    }

    /// The next message, when all of it is there. At most one; no sleep.
    ///
    /// # Errors
    /// The connection is of no use any more: what follows cannot be told apart.
    pub(crate) fn receive(&mut self) -> Result<Option<Message>, Broken> {
        while self.inbox.have < Header::LEN {
            let have = self.inbox.have;
            let mut head = self.inbox.head;
            let Some(count) = self.read(&mut head[have..])? else { return Ok(None) };
            self.inbox.head = head;
            self.inbox.have += count;
            if self.inbox.have == Header::LEN {
                self.inbox.begin()?;
            }
        }
        let size = self.inbox.header.size as usize;
        while self.inbox.have < size {
            let at = self.inbox.have - Header::LEN;
            let mut payload = std::mem::take(&mut self.inbox.payload);
            let read = self.read(&mut payload[at..]);
            self.inbox.payload = payload;
            let Some(count) = read? else { return Ok(None) };
            self.inbox.have += count;
        }
        let Inbox { header, payload, fds, lost_fds, .. } = std::mem::take(&mut self.inbox);
        Ok(Some(Message { header, payload, fds, lost_fds }))
    }

    /// Whether a message has begun to come and is not whole.
    pub(crate) fn is_mid_message(&self) -> bool {
        self.inbox.have > 0
    }

    /// Reads once; `None` when there is nothing.
    fn read(&mut self, to: &mut [u8]) -> Result<Option<usize>, Broken> {
        let mut room = [MaybeUninit::uninit(); CONTROL];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let got = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(to)], &mut control, flags)
        });
        let got = match got {
            Ok(got) => got,
            Err(Errno::AGAIN) => return Ok(None),
            Err(Errno::CONNRESET) => return Err(Broken::Closed),
            Err(errno) => return Err(Broken::System(errno)),
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                for fd in fds {
                    if self.inbox.fds.len() < wire::MAX_FDS {
                        self.inbox.fds.push(fd);
                    } else {
                        self.inbox.lost_fds = true;
                    }
                }
            }
        }
        self.inbox.lost_fds |= got.flags.contains(ReturnFlags::CTRUNC);
        match got.bytes {
            0 if self.is_mid_message() => {
                Err(Broken::Protocol("it closed the connection in the middle of a message".into()))
            }
            0 => Err(Broken::Closed),
            count => Ok(Some(count)),
        }
    }

    /// Puts a message behind those that wait to be sent.
    pub(crate) fn queue(&mut self, bytes: Vec<u8>, fds: Vec<OwnedFd>) {
        self.outbox.push_back(Frame { bytes, sent: 0, fds });
    }

    /// How many messages wait to be sent, one half sent among them.
    pub(crate) fn unsent(&self) -> usize {
        self.outbox.len()
    }

    /// Sends what the socket takes now; true when nothing is left.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub(crate) fn flush(&mut self) -> Result<bool, Broken> {
        while let Some(frame) = self.outbox.front_mut() {
            let fds: Vec<BorrowedFd<'_>> = frame.fds.iter().map(AsFd::as_fd).collect();
            let mut room = [MaybeUninit::uninit(); CONTROL];
            let mut control = SendAncillaryBuffer::new(&mut room);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(Broken::System(Errno::TOOMANYREFS));
            }
            let rest = [IoSlice::new(&frame.bytes[frame.sent..])];
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let sent = rustix::io::retry_on_intr(|| {
                rustix::net::sendmsg(&self.socket, &rest, &mut control, flags)
            });
            match sent {
                Ok(count) => {
                    frame.sent += count;
                    drop(fds);
                    frame.fds.clear();
                    if frame.sent == frame.bytes.len() {
                        self.outbox.pop_front();
                    }
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(Broken::Closed),
                Err(errno) => return Err(Broken::System(errno)),
            }
        }
        Ok(true)
    }

    /// Sleeps until something can be received (or sent, where something waits to be), or
    /// until the deadline: false then.
    ///
    /// # Errors
    /// The system refused.
    pub(crate) fn wait(&self, deadline: Instant) -> Result<bool, Broken> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut events = PollFlags::IN;
        if self.unsent() > 0 {
            events |= PollFlags::OUT;
        }
        match rustix::event::poll(&mut [PollFd::new(&self.socket, events)], Some(&span(left))) {
            Ok(_) | Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(Broken::System(errno)),
        }
    }
}

/// Ends a connection both ways; the descriptor stays, and shows that it hung up.
pub(crate) fn shut_down(socket: &OwnedFd) {
    let _ = rustix::net::shutdown(socket, Shutdown::Both);
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Inbox {
    /// The header is there: makes room for what follows.
    fn begin(&mut self) -> Result<(), Broken> {
        self.header = Header::decode(&self.head).unwrap_or_default();
        let size = self.header.size as usize;
        if !(Header::LEN..=wire::MAX_MESSAGE).contains(&size) {
            return Err(Broken::Protocol(format!(
                "a message of {size} bytes; {} to {} are possible",
                Header::LEN,
                wire::MAX_MESSAGE
            )));
        }
        self.payload = vec![0; size - Header::LEN];
        Ok(())
    }
}

/// Whether the other end of a socket is closed, without reading anything.
pub(crate) fn hung_up(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    rustix::event::poll(&mut fds, Some(&now)).is_ok() && fds[0].revents().intersects(gone)
}

/// When a patience is over; one that the clock cannot tell is over in decades.
pub(crate) fn deadline(patience: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(patience).unwrap_or(now + Duration::from_secs(1 << 31))
}

/// A time for the system.
pub(crate) fn span(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

/// A stream socket that does not block, and the address of a path.
///
/// # Errors
/// The path is too long for a socket, or the process has no descriptors left.
pub(crate) fn socket_for(path: &Path) -> rustix::io::Result<(OwnedFd, SocketAddrUnix)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let address = address_of(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok((socket, address))
}

/// The address of a path.
///
/// # Errors
/// The path is empty, or too long for a socket.
pub(crate) fn address_of(path: &Path) -> rustix::io::Result<SocketAddrUnix> {
    if path.as_os_str().is_empty() {
        return Err(Errno::INVAL); // It would be an address of another kind.
    }
    SocketAddrUnix::new(path)
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Process id, 0 where it is none of this process's name space.
    pub(crate) pid: i32,
    /// User id, as this process sees it.
    pub(crate) uid: u32,
}

/// The credentials of whoever connected, or who listened, when they did so; `None` where
/// the system does not say.
pub(crate) fn peer(socket: BorrowedFd<'_>) -> Option<Peer> {
    use std::os::fd::AsRawFd;
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open while it is borrowed; the pointers are to a `ucred`
    // and to its size, both ours and writable. Any bytes are a valid `ucred`.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut len,
        )
    };
    (got == 0 && len as usize == size_of::<libc::ucred>())
        .then_some(Peer { pid: found.pid, uid: found.uid })
}
