//! One request at a time, each with its time; after a failure none any more.
//!
//! The lock is held from the first byte of a request to the last of its answer, so there
//! is never more than one answer to come. A request that got none in time, and whatever
//! else breaks the protocol, ends the connection for good: the socket is shut down, so
//! that no late answer can come and the server learns of it.

use super::Timeouts;
use crate::medium::{Error, ErrorKind, Result};
use crate::vfio_user::socket::{self, Broken, Link, Message};
use crate::vfio_user::wire::{self, Command, RegionAccess};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Answers to the server's own requests that may wait to be sent: a server that sends
/// and does not read is up to nothing good.
const MAX_UNSENT: usize = 64;

/// An answer that comes as soon as this is taken without a sleep: to sleep and to be woken
/// takes as long, and a barrier of a region is a message on which a commit waits, behind
/// whatever the server is just doing.
const AWAKE: Duration = Duration::from_micros(400);

/// What the holder of the request lock works on.
#[derive(Debug)]
pub(super) struct Talk {
    link: Link,
    next_id: u16,
    /// What the server can reach: address and length.
    pub(super) maps: BTreeMap<u64, u64>,
}

/// The way to the server.
#[derive(Debug)]
pub(super) struct Channel {
    name: String,
    timeouts: Timeouts,
    socket: Arc<OwnedFd>,
    talk: Mutex<Talk>,
    /// Why the connection is over, once it is.
    gone: OnceLock<Error>,
}

impl Channel {
    /// A channel over a connected socket that does not block.
    pub(super) fn new(name: String, socket: OwnedFd, timeouts: Timeouts) -> Self {
        let socket = Arc::new(socket);
        let link = Link::new(Arc::clone(&socket));
        let talk = Mutex::new(Talk { link, next_id: 0, maps: BTreeMap::new() });
        Self { name, timeouts, socket, talk, gone: OnceLock::new() }
    }

    /// What names the server.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How patient requests are.
    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// Takes the request lock of a connection that is not over.
    pub(super) fn enter(&self) -> Result<MutexGuard<'_, Talk>> {
        if crate::fork::in_child() {
            return Err(self.in_child());
        }
        let talk = self.talk.lock().unwrap_or_else(PoisonError::into_inner);
        self.over()?;
        Ok(talk)
    }

    /// One request and its answer, under the lock of its own.
    pub(super) fn ask(&self, command: Command, payload: &[u8]) -> Result<Message> {
        let mut talk = self.enter()?;
        self.ask_for(&mut talk, command, payload, &[], self.timeouts.request)
    }

    /// One request, with descriptors, and its answer, which is a success.
    pub(super) fn ask_for(
        &self,
        talk: &mut Talk,
        command: Command,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
        patience: Duration,
    ) -> Result<Message> {
        let fds: rustix::io::Result<Vec<OwnedFd>> =
            fds.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0)).collect();
        let fds = fds.map_err(|e| {
            let text = format!("no descriptor to send with {command:?}: {e}; raise RLIMIT_NOFILE");
            Error::new(ErrorKind::Limit, text)
        })?;
        let id = talk.next_id;
        talk.next_id = id.wrapping_add(1);
        talk.link.queue(wire::command(id, command, payload), fds);
        let answer = exchange(&mut talk.link, id, command, socket::deadline(patience));
        let answer = answer.map_err(|why| match why {
            Some(broken) => self.lose(&format!("{broken} (at {command:?})")),
            None => self.lose(&format!("no answer to {command:?} within {patience:?}")),
        })?;
        if answer.header.is_error() {
            return Err(self.refusal(command, answer.header.error));
        }
        Ok(answer)
    }

    /// Ends the connection, and gives the error that all later requests get.
    pub(super) fn lose(&self, why: &str) -> Error {
        let error = Error::new(
            ErrorKind::Gone,
            format!("the vfio-user server at {} is gone: {why}; open it again", self.name),
        );
        let first = self.gone.get_or_init(|| {
            tracing::warn!(server = %self.name, %why, "the vfio-user connection is over");
            error
        });
        socket::shut_down(&self.socket);
        first.clone()
    }

    /// An answer that does not say what it must.
    pub(super) fn nonsense(&self, what: &str) -> Error {
        self.lose(&Broken::Protocol(what.to_owned()).to_string())
    }

    /// Is the server still there, without asking it?
    pub(super) fn check(&self) -> Result<()> {
        if crate::fork::in_child() {
            return Err(self.in_child());
        }
        self.over()?;
        if socket::hung_up(self.socket.as_fd()) {
            return Err(self.lose("the peer closed the connection"));
        }
        Ok(())
    }

    fn over(&self) -> Result<()> {
        self.gone.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    fn in_child(&self) -> Error {
        let text = format!("the connection to {} belongs to the parent process", self.name);
        Error::new(ErrorKind::Gone, text)
    }

    /// The socket, for whoever watches it.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads a region as one access.
    pub(super) fn read_region(&self, region: u32, offset: u64, to: &mut [u8]) -> Result<()> {
        let access = RegionAccess { offset, region, count: to.len() as u32 };
        let mut payload = Vec::with_capacity(RegionAccess::LEN);
        access.encode(&mut payload);
        let answer = self.ask(Command::RegionRead, &payload)?;
        match answer.payload.get(RegionAccess::LEN..) {
            Some(data)
                if data.len() == to.len()
                    && RegionAccess::decode(&answer.payload) == Some(access) =>
            {
                to.copy_from_slice(data);
                Ok(())
            }
            _ => Err(self.nonsense("the answer to RegionRead is about something else")),
        }
    }

    /// Writes a region as one access.
    pub(super) fn write_region(&self, region: u32, offset: u64, from: &[u8]) -> Result<()> {
        let access = RegionAccess { offset, region, count: from.len() as u32 };
        let mut payload = Vec::with_capacity(RegionAccess::LEN + from.len());
        access.encode(&mut payload);
        payload.extend_from_slice(from);
        let answer = self.ask(Command::RegionWrite, &payload)?;
        if RegionAccess::decode(&answer.payload) != Some(access) {
            return Err(self.nonsense("the answer to RegionWrite is about something else"));
        }
        Ok(())
    }

    /// An answer that says that it failed.
    fn refusal(&self, command: Command, errno: u32) -> Error {
        let errno = i32::try_from(errno).ok().filter(|errno| (1..4096).contains(errno));
        let errno = errno.map_or(Errno::IO, Errno::from_raw_os_error);
        let kind = match errno {
            Errno::NOMEM | Errno::MFILE | Errno::NFILE | Errno::NOSPC | Errno::DQUOT => {
                ErrorKind::Limit
            }
            Errno::OPNOTSUPP | Errno::NOSYS => ErrorKind::Unsupported,
            Errno::ACCESS | Errno::PERM => ErrorKind::Permission,
            Errno::EXIST => ErrorKind::Invalid,
            Errno::BUSY => ErrorKind::Busy,
            _ => ErrorKind::Io,
        };
        Error::new(
            kind,
            format!("the vfio-user server at {} refused {command:?}: {errno}", self.name),
        )
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // A child that still has the descriptor would keep the connection open; and the
        // child's own copy of this value ends nothing.
        if !crate::fork::in_child() {
            socket::shut_down(&self.socket);
        }
    }
}

/// Sends what waits to be sent and takes the answer to it. `None` for an error is a
/// time-out.
fn exchange(
    link: &mut Link,
    id: u16,
    command: Command,
    deadline: Instant,
) -> std::result::Result<Message, Option<Broken>> {
    let awake = Instant::now() + AWAKE;
    loop {
        link.flush().map_err(Some)?;
        match link.receive().map_err(Some)? {
            Some(message) if message.header.is_reply() => {
                return expected(message, id, command).map_err(Some);
            }
            Some(message) if message.header.is_command() => refuse(link, &message)?,
            Some(message) => {
                let text = format!("a message of unknown type {:#x}", message.header.flags);
                return Err(Some(Broken::Protocol(text)));
            }
            // A server on the same processor needs it for its answer.
            None if Instant::now() < awake => std::thread::yield_now(),
            None if link.wait(deadline).map_err(Some)? => continue,
            None => return Err(None),
        }
        if Instant::now() > deadline {
            return Err(None);
        }
    }
}

/// Is this the answer that is waited for?
fn expected(message: Message, id: u16, command: Command) -> std::result::Result<Message, Broken> {
    let header = &message.header;
    if header.id != id || header.command != command as u16 {
        return Err(Broken::Protocol(format!(
            "an answer to message {} with command {}, where message {id} with command {} was asked",
            header.id, header.command, command as u16
        )));
    }
    if message.lost_fds {
        let text = format!("an answer with more than {} descriptors", wire::MAX_FDS);
        return Err(Broken::Protocol(text));
    }
    Ok(message)
}

/// The server asks for something. All our memory has descriptors, so there is nothing
/// that it may ask for (spec, `VFIO_USER_DMA_READ`).
fn refuse(link: &mut Link, message: &Message) -> std::result::Result<(), Option<Broken>> {
    if link.unsent() >= MAX_UNSENT {
        let text = "it sends requests and takes no answers".to_owned();
        return Err(Some(Broken::Protocol(text)));
    }
    if message.header.wants_reply() {
        let errno = Errno::OPNOTSUPP.raw_os_error().unsigned_abs();
        link.queue(wire::frame(&message.header.failure(errno), &[]), Vec::new());
    }
    Ok(())
}
