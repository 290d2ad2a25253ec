//! One client, from its connection to its end: a loop of polls and, now and then, looks at
//! the socket.

use super::device::{Device, Interrupt, Region, Work};
use super::remote::Wire;
use super::{ServerOptions, TICK};
use crate::vfio_user::socket::{self, Broken, Link};
use crate::vfio_user::wire;
use rustix::event::{PollFd, PollFlags};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Messages that one look handles at most, so that a client who sends many does not keep
/// its own device from its work.
const MESSAGES: usize = 16;

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The server shall stop.
    Stopped,
    /// The client closed the connection.
    ClientLeft,
    /// The client broke the protocol or stalled, as the text says.
    ClientDropped(String),
    /// The device said [`Work::Leave`].
    DeviceLeft,
}

impl From<Broken> for End {
    fn from(why: Broken) -> Self {
        match why {
            Broken::Closed => End::ClientLeft,
            why => End::ClientDropped(why.to_string()),
        }
    }
}

/// A connected client.
#[derive(Debug)]
pub struct Session {
    pub(super) wire: Arc<Mutex<Wire>>,
    pub(super) options: ServerOptions,
    /// Version and capabilities were agreed on.
    pub(super) agreed: bool,
    /// Memory that the client gave: address and length.
    pub(super) maps: BTreeMap<u64, u64>,
    /// What is signalled for each vector.
    pub(super) vectors: Vec<Option<Interrupt>>,
    pub(super) regions: Vec<Region>,
    socket: Arc<OwnedFd>,
    /// Since when the client has owed us something: the version, the rest of a message,
    /// the taking of an answer.
    owing: Option<Instant>,
}

impl Session {
    pub(super) fn new(client: OwnedFd, options: &ServerOptions) -> Self {
        let socket = Arc::new(client);
        Self {
            wire: Wire::new(Link::new(Arc::clone(&socket))),
            options: options.clone(),
            agreed: false,
            maps: BTreeMap::new(),
            vectors: Vec::new(),
            regions: Vec::new(),
            socket,
            owing: Some(Instant::now()),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the client until it is gone, the device leaves, or it shall stop. When this
    /// returns the device's DMA for this client has ended, and its connection is closed.
    pub fn run(mut self, device: &mut dyn Device, stop: &AtomicBool) -> End {
        self.regions = (0..wire::region::COUNT).map(|index| device.region(index)).collect();
        let vectors = device.vectors().min(wire::irq::MAX_VECTORS) as usize;
        self.vectors = std::iter::repeat_with(|| None).take(vectors).collect();
        let end = self.drive(device, stop);
        // From here on nothing is asked of the client: memory that is reached by messages
        // fails at once, also if the device keeps it.
        self.lock().broken.get_or_insert(Broken::Closed);
        device.client_gone();
        for (iova, len) in std::mem::take(&mut self.maps) {
            device.dma_removed(iova, len);
        }
        for (vector, interrupt) in std::mem::take(&mut self.vectors).into_iter().enumerate() {
            if interrupt.is_some() {
                device.attach(vector as u32, None);
            }
        }
        // Last: a client that sees the connection end knows that its memory is quiet.
        socket::shut_down(&self.socket);
        end
    }

    fn drive(&mut self, device: &mut dyn Device, stop: &AtomicBool) -> End {
        let mut polls = self.options.polls_per_look;
        loop {
            if stop.load(Ordering::Relaxed) {
                return End::Stopped;
            }
            if polls >= self.options.polls_per_look {
                polls = 0;
                if let Err(end) = self.look(device) {
                    return end;
                }
            }
            polls += 1;
            match device.poll() {
                Work::Busy => {}
                Work::Long => polls = self.options.polls_per_look,
                Work::Sleep(time) => {
                    self.sleep(device, time);
                    polls = self.options.polls_per_look;
                }
                Work::Leave => return End::DeviceLeft,
            }
        }
    }

    /// Handles what has come, without sleeping.
    fn look(&mut self, device: &mut dyn Device) -> Result<(), End> {
        for _ in 0..MESSAGES {
            let message = {
                let mut wire = self.lock();
                if let Some(why) = wire.broken.clone() {
                    return Err(why.into());
                }
                // While an answer waits to be taken, no other request is begun.
                if wire.link.flush()? {
                    match wire.aside.pop_front() {
                        None => wire.link.receive()?,
                        aside => aside,
                    }
                } else {
                    None
                }
            };
            let Some(message) = message else { break };
            self.owing = None;
            self.answer(message, device)?;
        }
        self.lock().link.flush()?;
        self.remind()
    }

    /// Ends the session of a client that has owed us something for too long.
    fn remind(&mut self) -> Result<(), End> {
        let owes = {
            let wire = self.lock();
            !self.agreed || wire.link.is_mid_message() || wire.link.unsent() > 0
        };
        if !owes {
            self.owing = None;
            return Ok(());
        }
        let since = *self.owing.get_or_insert_with(Instant::now);
        if since.elapsed() > self.options.patience {
            return Err(End::ClientDropped("it stalled".into()));
        }
        Ok(())
    }

    /// Sleeps until the socket or the device's descriptor is ready, or the time is over.
    fn sleep(&self, device: &dyn Device, time: Duration) {
        if time.is_zero() {
            return;
        }
        let mut events = PollFlags::IN;
        {
            let wire = self.lock();
            if !wire.aside.is_empty() {
                return;
            }
            if wire.link.unsent() > 0 {
                // What comes in is not looked at before the answer is taken.
                events = PollFlags::OUT;
            }
        }
        let time = socket::span(time.min(TICK));
        let client = PollFd::from_borrowed_fd(self.socket.as_fd(), events);
        let _ = match device.wake_fd() {
            None => rustix::event::poll(&mut [client], Some(&time)),
            Some(wake) => {
                let wake = PollFd::from_borrowed_fd(wake, PollFlags::IN);
                rustix::event::poll(&mut [client, wake], Some(&time))
            }
        };
    }
}
