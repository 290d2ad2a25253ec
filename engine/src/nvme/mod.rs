//! The NVMe driver: one controller and its namespaces, polled from user space.
//!
//! `spec` is the specification as data: what the registers, commands and structures
//! mean, for the driver and for the emulated controller alike. `link` is what is reached
//! by registers, `admin` the admin queue, `controller` bring-up, resets and the end,
//! `namespace` what identify data are believed to say, `queue` the I/O queues,
//! `orphans` those that were dropped, `pmr` the Persistent Memory Region,
//! `cmb` the Controller Memory Buffer. docs/nvme.md is the protocol between these parts.

mod admin;
mod backing;
mod cmb;
mod controller;
mod describe;
mod link;
mod namespace;
mod open;
mod orphans;
mod pmr;
mod queue;
mod shadow;
pub mod spec;

pub use backing::pool;
pub use namespace::geometry_of;
pub(crate) use open::{open, open_region};
pub use open::{open_on, open_region_on};
pub use spec::log::Smart as Health;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How patient the driver is with a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// A command of an I/O queue that takes longer leads to a reset.
    pub io: Duration,
    /// An admin command that takes longer ends the controller.
    pub admin: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { io: Duration::from_secs(30), admin: Duration::from_secs(10) }
    }
}

/// Which namespaces of a controller are open, and whether for reading only.
type Claims = Arc<Mutex<Vec<(u32, bool)>>>;

/// One of them; ends when it is dropped.
#[derive(Debug)]
struct Claim {
    claims: Claims,
    nsid: u32,
    read_only: bool,
}

impl Claim {
    /// Claims a namespace, which others that only read may have as well; none when that
    /// is not possible.
    fn take(claims: &Claims, nsid: u32, read_only: bool) -> Option<Arc<Self>> {
        let mut list = claims.lock().unwrap_or_else(PoisonError::into_inner);
        if list.iter().any(|&(n, reads)| n == nsid && !(reads && read_only)) {
            return None;
        }
        list.push((nsid, read_only));
        Some(Arc::new(Self { claims: Arc::clone(claims), nsid, read_only }))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut list = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = list.iter().position(|&c| c == (self.nsid, self.read_only)) {
            list.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests;
