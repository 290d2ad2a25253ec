//! An emulated NVMe controller, served over vfio-user: NVMe 1.4 by the specification.
//!
//! `controller` is the device; `disk` what its namespaces lie on; `region` the Persistent
//! Memory Region, `cmb` the Controller Memory Buffer, and `aperture` memory of the device
//! that clients map; `transfer`, `queue` and `doorbell` the ways by which it meets its
//! client; `guest` and `dma` the client's memory; `device` joins it to the server; `fault`
//! is what goes wrong when it is asked to. Everything happens on one thread: see `controller` for what that buys, and
//! `controller::sleep` for how it sleeps without losing a wake-up.
//!
//! The client is not trusted: its memory, rings and lists may change at any time and
//! name anything. What is wrong ends in the status that the specification has for it,
//! or in CSTS.CFS; no command takes more than a bounded time or memory.

mod aperture;
mod cmb;
mod config;
mod controller;
mod device;
mod disk;
mod dma;
mod doorbell;
mod fault;
mod guest;
mod options;
mod queue;
mod random;
mod region;
mod stop;
mod transfer;

pub use cmb::CmbOptions;
pub use disk::Backing;
pub use fault::Fault;
pub use options::{MAX_NAMESPACES, MAX_QUEUES, Options, Profile};
pub use region::RegionOptions;
pub use stop::stop_on_signals;

use crate::medium::{Error, ErrorKind, Result};
use crate::vfio_user::server::{End, Server, ServerOptions};
use controller::Controller;
use device::Served;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Why an emulator ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to, and everything that was written is durable (as far as the backing
    /// can be).
    Stopped,
    /// A fault (`vanish:how=exit`) ended it as a kill would: what was not flushed is lost.
    Vanished,
}

/// An emulated controller and the socket that it is served on.
///
/// ```no_run
/// use freehold_engine::emulator::{Emulator, Options};
/// use std::sync::atomic::AtomicBool;
/// let mut emulator = Emulator::new(&Options::new("/tmp/nvme.sock", 1 << 30))?;
/// emulator.serve(&AtomicBool::new(false))?; // `vfio-user:/tmp/nvme.sock`
/// # Ok::<(), freehold_engine::medium::Error>(())
/// ```
#[derive(Debug)]
pub struct Emulator {
    server: Server,
    served: Served,
}

impl Emulator {
    /// Opens the backing and listens on the socket. Clients may connect from now on, and
    /// are served by [`Emulator::serve`].
    ///
    /// # Errors
    /// `Invalid` for options that make no sense; what the backing file or the socket make
    /// impossible.
    pub fn new(options: &Options) -> Result<Self> {
        let controller = Controller::new(options)?;
        let server = Server::bind(&options.socket, &ServerOptions::default())?;
        Ok(Self { server, served: Served::new(controller) })
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        self.server.path()
    }

    /// Serves one client after another, on this thread, until `stop` is set (which is
    /// seen within a tenth of a second). A client is accepted when nothing of the last
    /// one is in use any more (law M3); what that one wrote stays, flushed or not.
    ///
    /// # Errors
    /// `Limit` when no client can be accepted; `Io` when it shall end and what was written
    /// is not known to be durable.
    pub fn serve(&mut self, stop: &AtomicBool) -> Result<Ended> {
        while let Some(session) = self.server.accept(stop)? {
            let end = session.run(&mut self.served, stop);
            tracing::info!(?end, "a client's session is over");
            if end == End::DeviceLeft && self.served.exits {
                return Ok(Ended::Vanished);
            }
        }
        match self.served.controller.flush() {
            Ok(()) => Ok(Ended::Stopped),
            Err(_) => {
                let text = "the backing file was not flushed: what was written since the last \
                            flush may be lost; look at its file system";
                Err(Error::new(ErrorKind::Io, text))
            }
        }
    }
}
