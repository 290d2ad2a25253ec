//! One end of a connection that says what the test wants, right or wrong.

use freehold_engine::vfio_user::wire::{self, Command, Header};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// A message as it was heard.
#[derive(Debug)]
pub struct Heard {
    /// Its header.
    pub header: Header,
    /// What followed.
    pub payload: Vec<u8>,
    /// The descriptors beside it.
    pub fds: Vec<OwnedFd>,
}

/// A raw end. Reads give up after a while; nothing here hangs.
#[derive(Debug)]
pub struct Raw(pub UnixStream);

/// Listens as a server would.
///
/// # Panics
/// If it cannot.
pub fn listen(path: &Path) -> UnixListener {
    UnixListener::bind(path).unwrap()
}

impl Raw {
    /// Wraps a connection.
    ///
    /// # Panics
    /// If the system refuses a time-out.
    pub fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(stream)
    }

    /// Connects as a client would, and says nothing.
    ///
    /// # Panics
    /// If nobody listens.
    pub fn connect(path: &Path) -> Self {
        Self::new(UnixStream::connect(path).unwrap())
    }

    /// Connects and agrees on a version.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn agreed(path: &Path) -> Self {
        let mut raw = Self::connect(path);
        let heard = raw.ask(Command::Version, b"\0\0\x01\0{\"capabilities\":{}}\0");
        assert!(heard.is_some_and(|heard| !heard.header.is_error()));
        raw
    }

    /// Sends bytes with descriptors; false when the other end takes none.
    pub fn send(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> bool {
        if fds.is_empty() {
            return self.0.write_all(bytes).is_ok();
        }
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        let sent = rustix::net::sendmsg(
            &self.0,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        );
        matches!(sent, Ok(count) if self.0.write_all(&bytes[count..]).is_ok())
    }

    /// The next message; `None` when the connection is over.
    ///
    /// # Panics
    /// If none comes for a long time.
    pub fn hear(&mut self) -> Option<Heard> {
        let mut head = [0; Header::LEN];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let got =
            rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut head)], &mut control, flags);
        let got = match got {
            Ok(got) if got.bytes > 0 => got.bytes,
            Err(rustix::io::Errno::AGAIN) => panic!("nothing to hear"),
            _ => return None,
        };
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                fds.extend(more);
            }
        }
        self.0.read_exact(&mut head[got..]).ok()?;
        let header = Header::decode(&head)?;
        let mut payload = vec![0; (header.size as usize).checked_sub(Header::LEN)?];
        self.0.read_exact(&mut payload).ok()?;
        Some(Heard { header, payload, fds })
    }

    /// Asks and hears one answer.
    pub fn ask(&mut self, command: Command, payload: &[u8]) -> Option<Heard> {
        self.ask_with(command, payload, &[])
    }

    /// Asks with descriptors.
    pub fn ask_with(
        &mut self,
        command: Command,
        payload: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Option<Heard> {
        self.send(&wire::command(77, command, payload), fds).then(|| self.hear()).flatten()
    }

    /// Asks, and gives the errno of the answer, 0 for a success.
    ///
    /// # Panics
    /// If the connection ends, or the answer is to something else.
    pub fn errno(&mut self, command: Command, payload: &[u8], fds: &[BorrowedFd<'_>]) -> u32 {
        let heard = self.ask_with(command, payload, fds).expect("an answer");
        let header = heard.header;
        assert!(header.is_reply() && header.id == 77 && header.command == command as u16);
        assert_eq!(header.is_error(), header.error != 0);
        assert!(!header.is_error() || heard.payload.is_empty());
        header.error
    }
}

impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
