//! From a socket, a PCI address, or any PCI function, to a medium.

use super::controller::Controller;
use super::describe::describe;
use super::namespace::Namespace;
use super::queue::NvmeQueue;
use super::{Claim, Timeouts, pmr};
use crate::bus::Function;
use crate::medium::{Error, ErrorKind, Fact, Geometry, Medium, Queue, Result};
use crate::memory::Pool;
use crate::open::OpenOptions;
use crate::uri;
use crate::vfio::{self, Vfio};
use crate::vfio_user::{Client, ClientOptions};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long opening waits for what a former user of a namespace left in flight.
const LEFTOVERS: Duration = Duration::from_secs(2);

/// The controller of one place, while somebody uses it. Locked while it is brought up.
type Seat = Arc<Mutex<Weak<Controller>>>;

/// Controllers of this process, by where they are.
static CONTROLLERS: LazyLock<Mutex<HashMap<uri::Controller, Seat>>> = LazyLock::new(Mutex::default);

/// The function that is at a place.
///
/// # Errors
/// What its transport says.
fn connect(place: &uri::Controller, options: &OpenOptions) -> Result<Arc<dyn Function>> {
    Ok(match place {
        uri::Controller::VfioUser(socket) => Client::connect(socket, &ClientOptions::default())?,
        uri::Controller::Pci(address) => {
            Vfio::open(address, vfio::Options { interface: options.vfio })?
        }
    })
}

/// Opens a namespace of the controller at a place. Media of several namespaces share the
/// controller.
///
/// # Errors
/// `NotFound` for the controller or the namespace; `Busy` when another process has it, or the
/// namespace is open; `Unsupported` with what the controller cannot do; what the transport
/// needs and has not.
pub(crate) fn open(
    place: &uri::Controller,
    nsid: u32,
    uri: &str,
    options: &OpenOptions,
) -> Result<Arc<dyn Medium>> {
    with_controller(place, options, |controller| medium(controller, nsid, uri, options.read_only))
}

/// Opens the Persistent Memory Region of the controller at a place; `format`:
/// to be written anew, so that it does not matter what it holds. Shares the controller with
/// media of its namespaces.
///
/// # Errors
/// As [`open`], and `Unsupported` where there is no region that can be used.
pub(crate) fn open_region(
    place: &uri::Controller,
    uri: &str,
    options: &OpenOptions,
    format: bool,
) -> Result<Arc<dyn Medium>> {
    with_controller(place, options, |controller| {
        pmr::open(controller, uri, region_use(options.read_only, format))
    })
}

/// Opens the Persistent Memory Region of the controller that a PCI function is, as
/// [`open_on`] does a namespace.
///
/// # Errors
/// As opening a URI.
pub fn open_region_on(
    function: Arc<dyn Function>,
    timeouts: Timeouts,
    read_only: bool,
    format: bool,
) -> Result<Arc<dyn Medium>> {
    crate::fork::remember();
    let uri = format!("pmr:{}", function.name());
    pmr::open(&Controller::open(function, timeouts)?, &uri, region_use(read_only, format))
}

fn region_use(read_only: bool, format: bool) -> pmr::Use {
    match (read_only, format) {
        (true, _) => pmr::Use::Read,
        (false, true) => pmr::Use::Format,
        (false, false) => pmr::Use::Write,
    }
}

/// Gives the controller of a place, which is brought up if nobody of this process uses it.
fn with_controller<T>(
    place: &uri::Controller,
    options: &OpenOptions,
    then: impl FnOnce(&Arc<Controller>) -> Result<T>,
) -> Result<T> {
    let place = match place {
        uri::Controller::VfioUser(socket) => {
            uri::Controller::VfioUser(socket.canonicalize().unwrap_or_else(|_| socket.to_owned()))
        }
        // An address has one form.
        pci @ uri::Controller::Pci(_) => pci.clone(),
    };
    let seat = {
        let mut all = CONTROLLERS.lock().unwrap_or_else(PoisonError::into_inner);
        // Those of places that nobody uses any more need not stay.
        all.retain(|_, seat| Arc::strong_count(seat) > 1 || is_used(seat));
        Arc::clone(all.entry(place.clone()).or_default())
    };
    let mut seat = seat.lock().unwrap_or_else(PoisonError::into_inner);
    let controller = match seat.upgrade().filter(is_there) {
        Some(controller) => controller,
        None => {
            let controller = Controller::open(connect(&place, options)?, options.timeouts)?;
            *seat = Arc::downgrade(&controller);
            controller
        }
    };
    then(&controller)
}

/// Whether it has not ended. One whose link broke while nobody looked ends now: else
/// whoever opens its place again would find it open for ever.
fn is_there(controller: &Arc<Controller>) -> bool {
    if let Err(error) = controller.link.function.check() {
        controller.lose(error, false);
    }
    controller.end().is_none()
}

fn is_used(seat: &Seat) -> bool {
    seat.try_lock().is_ok_and(|seat| seat.strong_count() > 0)
}

/// Opens a namespace of the controller that a PCI function is, whatever carries it: for
/// transports that have no name of their own, and for tests.
///
/// # Errors
/// As opening a URI.
pub fn open_on(
    function: Arc<dyn Function>,
    nsid: u32,
    timeouts: Timeouts,
    read_only: bool,
) -> Result<Arc<dyn Medium>> {
    crate::fork::remember();
    let uri = function.name().to_owned();
    medium(&Controller::open(function, timeouts)?, nsid, &uri, read_only)
}

fn medium(
    controller: &Arc<Controller>,
    nsid: u32,
    uri: &str,
    read_only: bool,
) -> Result<Arc<dyn Medium>> {
    let deadline = Instant::now() + LEFTOVERS;
    let claim = loop {
        // What is left in flight keeps a namespace, and nobody else may look after it.
        controller.orphans.tend(controller);
        match Claim::take(&controller.claims, nsid, read_only) {
            Some(claim) => break claim,
            None if Controller::tells_of_orphans(controller.news())
                && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            None => {
                let name = controller.link.function.name();
                let text = format!("namespace {nsid} of {name} is open in this process already");
                return Err(Error::new(ErrorKind::Busy, text));
            }
        }
    };
    let space = controller.namespace(nsid)?;
    let read_only = read_only || space.write_protected;
    Ok(Arc::new(NvmeMedium {
        uri: uri.to_owned(),
        controller: Arc::clone(controller),
        space: Arc::new(space),
        read_only,
        claim,
    }))
}

/// A namespace as a medium.
struct NvmeMedium {
    uri: String,
    space: Arc<Namespace>,
    read_only: bool,
    claim: Arc<Claim>,
    controller: Arc<Controller>,
}

impl Medium for NvmeMedium {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn geometry(&self) -> &Geometry {
        &self.space.geometry
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>> {
        if crate::fork::in_child() {
            let text = "a forked child has no part in its parent's controller: open its own";
            return Err(Error::new(ErrorKind::Gone, text));
        }
        let controller = &self.controller;
        if let Some(end) = controller.end() {
            return Err(end.error.clone());
        }
        let depth = depth.clamp(1, self.space.geometry.max_depth);
        let core = controller.orphans.queue(controller, &self.space, self.read_only, depth)?;
        Ok(Box::new(NvmeQueue::new(core, Arc::clone(controller), Arc::clone(&self.claim))))
    }

    fn pool(&self) -> &Pool {
        &self.controller.pool
    }

    fn staging(&self) -> Option<&Pool> {
        self.controller.cmb.as_ref()?.data()
    }

    fn losses(&self) -> u64 {
        self.controller.losses()
    }

    fn describe(&self) -> Result<Vec<Fact>> {
        Ok(describe(&self.controller, &self.space))
    }
}

impl fmt::Debug for NvmeMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NvmeMedium")
            .field("uri", &self.uri)
            .field("nsid", &self.space.nsid)
            .field("controller", &self.controller)
            .finish_non_exhaustive()
    }
}
