//! Memory that a client gave without a descriptor: read and written by messages to it.
//!
//! Spec, `VFIO_USER_DMA_READ` and `VFIO_USER_DMA_WRITE`. The answer comes on the same
//! socket as the client's own requests; those that arrive first are put aside, a bounded
//! number of them, and handled when the device has returned.

use crate::medium::{Error, ErrorKind, Result};
use crate::vfio_user::socket::{self, Broken, Link, Message};
use crate::vfio_user::wire::{self, Command, DmaAccess};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Requests that may be put aside while an answer is waited for.
const MAX_ASIDE: usize = 64;

/// A connection, as the session and the memory that goes through it share it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) link: Link,
    /// Requests that came while an answer was waited for.
    pub(super) aside: VecDeque<Message>,
    /// Why it is over.
    pub(super) broken: Option<Broken>,
    /// Bytes of data that the client takes with one message.
    pub(super) max_data: u32,
    next_id: u16,
}

impl Wire {
    pub(super) fn new(link: Link) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            link,
            aside: VecDeque::new(),
            broken: None,
            max_data: wire::MAX_DATA,
            next_id: 0,
        }))
    }

    /// Asks the client something and waits for the answer; its payload.
    fn ask(&mut self, command: Command, payload: &[u8], patience: Duration) -> Result<Vec<u8>> {
        let gone = |why: &Broken| {
            Error::new(ErrorKind::Gone, format!("the client's memory is out of reach: {why}"))
        };
        if let Some(why) = &self.broken {
            return Err(gone(why));
        }
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        self.link.queue(wire::command(id, command, payload), Vec::new());
        match self.exchange(id, command, socket::deadline(patience)) {
            Ok(answer) if answer.header.is_error() => {
                let text = format!("the client refused {command:?}: {}", answer.header.error);
                Err(Error::new(ErrorKind::Io, text))
            }
            Ok(answer) => Ok(answer.payload),
            Err(why) => {
                let error = gone(&why);
                self.broken = Some(why);
                Err(error)
            }
        }
    }

    fn exchange(
        &mut self,
        id: u16,
        command: Command,
        deadline: Instant,
    ) -> std::result::Result<Message, Broken> {
        let late = || Broken::Protocol(format!("no answer to {command:?} in time"));
        loop {
            self.link.flush()?;
            match self.link.receive()? {
                Some(message) if message.header.is_reply() => {
                    let header = &message.header;
                    if header.id == id && header.command == command as u16 {
                        return Ok(message);
                    }
                    return Err(Broken::Protocol("an answer to nothing that was asked".into()));
                }
                Some(message) if self.aside.len() < MAX_ASIDE => self.aside.push_back(message),
                Some(_) => {
                    let text = "it sends requests and does not answer ours".to_owned();
                    return Err(Broken::Protocol(text));
                }
                None if self.link.wait(deadline)? => {}
                None => return Err(late()),
            }
            if Instant::now() > deadline {
                return Err(late());
            }
        }
    }
}

/// Memory of a client that is read and written by messages. Of no use after the mapping
/// was taken back or the client is gone: every call fails then.
#[derive(Debug, Clone)]
pub struct RemoteMemory {
    wire: Arc<Mutex<Wire>>,
    iova: u64,
    len: u64,
    patience: Duration,
}

impl RemoteMemory {
    pub(super) fn new(wire: &Arc<Mutex<Wire>>, iova: u64, len: u64, patience: Duration) -> Self {
        Self { wire: Arc::clone(wire), iova, len, patience }
    }

    fn lock(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address of an offset, and how many bytes go at once.
    fn place(&self, offset: u64, len: usize) -> Result<(u64, usize)> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.len => Ok((self.iova + offset, self.lock().max_data as usize)),
            _ => Err(Error::new(ErrorKind::Invalid, "outside the client's memory")),
        }
    }

    /// Reads from an offset. Blocks until the client answered, for a bounded time.
    ///
    /// # Errors
    /// `Invalid` outside the memory; `Io` when the client refuses; `Gone`: the connection
    /// is over.
    pub fn read(&self, offset: u64, to: &mut [u8]) -> Result<()> {
        let (mut address, most) = self.place(offset, to.len())?;
        for part in to.chunks_mut(most) {
            let asked = DmaAccess { address, count: part.len() as u64 };
            let mut payload = Vec::with_capacity(DmaAccess::LEN);
            asked.encode(&mut payload);
            let answer = self.lock().ask(Command::DmaRead, &payload, self.patience)?;
            match answer.get(DmaAccess::LEN..) {
                Some(data)
                    if data.len() == part.len() && DmaAccess::decode(&answer) == Some(asked) =>
                {
                    part.copy_from_slice(data);
                }
                _ => return Err(self.nonsense()),
            }
            address += part.len() as u64;
        }
        Ok(())
    }

    /// Writes from an offset on. As [`RemoteMemory::read`].
    ///
    /// # Errors
    /// As [`RemoteMemory::read`].
    pub fn write(&self, offset: u64, from: &[u8]) -> Result<()> {
        let (mut address, most) = self.place(offset, from.len())?;
        for part in from.chunks(most) {
            let asked = DmaAccess { address, count: part.len() as u64 };
            let mut payload = Vec::with_capacity(DmaAccess::LEN + part.len());
            asked.encode(&mut payload);
            payload.extend_from_slice(part);
            let answer = self.lock().ask(Command::DmaWrite, &payload, self.patience)?;
            // The answer's count has 4 or 8 bytes: the specification shows both.
            if answer.get(..8) != Some(&address.to_ne_bytes()[..]) {
                return Err(self.nonsense());
            }
            address += part.len() as u64;
        }
        Ok(())
    }

    fn nonsense(&self) -> Error {
        let why = Broken::Protocol("the answer is about other memory".into());
        let error = Error::new(ErrorKind::Gone, why.to_string());
        self.lock().broken = Some(why);
        error
    }
}

/// The errno that tells a client what kind of error it was.
pub(super) fn errno_of(error: &Error) -> Errno {
    match error.kind() {
        ErrorKind::Invalid => Errno::INVAL,
        ErrorKind::NotFound => Errno::NOENT,
        ErrorKind::Permission => Errno::ACCESS,
        ErrorKind::Busy | ErrorKind::Occupied => Errno::BUSY,
        ErrorKind::Unsupported => Errno::OPNOTSUPP,
        ErrorKind::Limit => Errno::NOMEM,
        ErrorKind::NoSpace => Errno::NOSPC,
        ErrorKind::Io | ErrorKind::Mismatch | ErrorKind::Reset | ErrorKind::Gone => Errno::IO,
    }
}
