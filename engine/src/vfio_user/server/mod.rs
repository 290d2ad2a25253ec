//! The server: serves a device to one client at a time, on the thread that calls it.
//!
//! `listen` is the socket's file, `session` the loop of one client, `dispatch` what each
//! request means, `remote` memory that is reached by messages, and `device` the trait of
//! what is served.
//!
//! Nothing here sleeps while the device has work: a message that has come in half, and an
//! answer that the client does not take, are left until the next look.

mod device;
mod dispatch;
mod listen;
mod remote;
mod session;

pub use device::{Device, DmaMemory, DmaRegion, Interrupt, Region, Shared, Work};
pub use remote::RemoteMemory;
pub use session::{End, Session};

use super::socket;
use crate::medium::{Error, ErrorKind, Result};
use listen::Listener;
use rustix::event::{PollFd, PollFlags};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a sleep lasts at most, so that a request to stop is seen.
const TICK: Duration = Duration::from_millis(100);

/// How a [`Server`] treats its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// How many pieces of memory a client may have mapped at once.
    pub max_maps: u32,
    /// After how many polls of a busy device the socket is looked at. A look costs a
    /// system call.
    pub polls_per_look: u32,
    /// How long a client may take to agree on a version, to send the rest of a message, to
    /// take an answer, and to answer a request for its memory.
    pub patience: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { max_maps: 4096, polls_per_look: 128, patience: Duration::from_secs(10) }
    }
}

/// A socket that clients connect to. Its file is removed when it is dropped.
///
/// ```no_run
/// # use freehold_engine::vfio_user::server::{Device, Server, ServerOptions};
/// # use std::sync::atomic::AtomicBool;
/// # fn serve(device: &mut dyn Device) -> freehold_engine::medium::Result<()> {
/// let mut server = Server::bind("/run/nvme.sock".as_ref(), &ServerOptions::default())?;
/// server.serve(device, &AtomicBool::new(false))
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    options: ServerOptions,
}

impl Server {
    /// Listens at a path, with permissions for the owner alone. The file of a server that
    /// died is taken over.
    ///
    /// # Errors
    /// `Busy` when a live server listens there, `Occupied` when the file is no socket,
    /// `NotFound`, `Permission`, `Invalid` for a path that no socket can have, `Limit`.
    pub fn bind(path: &Path, options: &ServerOptions) -> Result<Self> {
        crate::fork::remember();
        Ok(Self { listener: Listener::bind(path)?, options: options.clone() })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        self.listener.path()
    }

    /// The next client; sleeps until one comes. `None` when it shall stop, which it sees
    /// after a tenth of a second at most.
    ///
    /// # Errors
    /// `Limit` when the process has no descriptors left.
    pub fn accept(&mut self, stop: &AtomicBool) -> Result<Option<Session>> {
        let tick = socket::span(TICK);
        while !stop.load(Ordering::Relaxed) {
            let client = self.listener.accept().map_err(|e| {
                let text =
                    format!("no client can be accepted: {e}; raise RLIMIT_NOFILE (ulimit -n)");
                Error::new(ErrorKind::Limit, text)
            })?;
            if let Some(client) = client {
                let peer = socket::peer(client.as_fd());
                tracing::info!(path = %self.path().display(), ?peer, "a client connected");
                return Ok(Some(Session::new(client, &self.options)));
            }
            let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
            let _ = rustix::event::poll(&mut fds, Some(&tick));
        }
        Ok(None)
    }

    /// Serves one client after another until it shall stop or the device leaves. The next
    /// one is accepted after the device has said that the DMA of the last has ended.
    ///
    /// # Errors
    /// As [`Server::accept`].
    pub fn serve(&mut self, device: &mut dyn Device, stop: &AtomicBool) -> Result<()> {
        while let Some(session) = self.accept(stop)? {
            let end = session.run(device, stop);
            tracing::info!(path = %self.path().display(), ?end, "the client is gone");
            if end == End::DeviceLeft {
                break;
            }
        }
        Ok(())
    }
}
