//! What a function and its registers have together, and how it is let go.
//!
//! # Invariants
//!
//! - What is mapped for DMA is in `maps` from when the kernel has mapped it until it has said
//!   that it is gone.
//! - `held` is none from the moment the function is released on: nothing reaches the device
//!   then. `quiet` is set under the same lock, once: whether all memory was taken from it.
//! - Register pages are listed before anybody has them, so that a release finds all.

use super::device::Device;
use super::mapping::Pages;
use super::region::Region;
use super::space::Space;
use super::{ERROR, MSIX, REQUEST};
use crate::bus::Registers;
use crate::medium::{Error, ErrorKind, Result};
use crate::pci::Slot;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use vfio_bindings::bindings::vfio;

/// What registers have as well.
pub(super) struct Inner {
    pub(super) slot: Slot,
    held: Mutex<Option<Held>>,
    /// Written by the kernel when it wants the device back, or has lost it.
    pub(super) alarm: OwnedFd,
    pub(super) gone: OnceLock<Error>,
    pub(super) quiet: Arc<OnceLock<bool>>,
}

/// What a release lets go, in this order.
pub(super) struct Held {
    pub(super) device: Device,
    pub(super) maps: BTreeMap<u64, u64>,
    pub(super) pages: Vec<Weak<Pages>>,
    bars: [Option<Region>; 6],
    pub(super) space: Arc<Space>,
}

impl Inner {
    /// A device that was just opened, and the eventfd that the kernel writes.
    pub(super) fn new(slot: Slot, device: Device, space: Arc<Space>, alarm: OwnedFd) -> Self {
        let (maps, pages, bars) = (BTreeMap::new(), Vec::new(), [const { None }; 6]);
        let held = Mutex::new(Some(Held { device, maps, pages, bars, space }));
        Self { slot, held, alarm, gone: OnceLock::new(), quiet: Arc::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        // What panics under this lock leaves maps that are listed and may be unmapped twice.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the device, unless it is gone.
    pub(super) fn with<T>(&self, then: impl FnOnce(&mut Held) -> Result<T>) -> Result<T> {
        if crate::fork::in_child() {
            return Err(self.in_child());
        }
        match &mut *self.lock() {
            Some(held) => then(held),
            None => Err(self.lost("it was released")),
        }
    }

    pub(super) fn in_child(&self) -> Error {
        let text = format!("{} belongs to the parent process: open it here", self.slot.address());
        Error::new(ErrorKind::Gone, text)
    }

    /// The error that all have once it is gone; the first reason is the one that is told.
    pub(super) fn lost(&self, why: &str) -> Error {
        let text = format!("{} is gone: {why}; open it again", self.slot.address());
        self.gone.get_or_init(|| Error::new(ErrorKind::Gone, text)).clone()
    }

    /// Whether the kernel has written.
    pub(super) fn is_alarmed(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.alarm, PollFlags::IN)];
        poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// What the kernel meant by it.
    pub(super) fn reason(&self) -> &'static str {
        match self.lock().as_ref().is_none_or(|held| held.device.answers()) {
            true => {
                "the kernel wants it back (it is being unbound or removed), or its bus had an error"
            }
            false => "it does not answer: it was removed, or its bus had an error",
        }
    }

    /// Lets go of the device. Whether it is proved that it reaches no memory any more.
    pub(super) fn release(&self) -> bool {
        if crate::fork::in_child() {
            return false;
        }
        let mut guard = self.lock();
        let Some(held) = guard.take() else { return self.quiet.get().is_some_and(|q| *q) };
        let quiet = held.let_go(self.slot.address());
        let _ = self.quiet.set(quiet);
        drop(guard);
        self.lost("it was released");
        // Who sleeps on it is to look.
        let _ = rustix::io::write(&self.alarm, &1u64.to_ne_bytes());
        quiet
    }
}

impl Held {
    /// Takes all memory from the device, then everything of it from this process.
    fn let_go(mut self, name: &str) -> bool {
        self.device.take_bus();
        let mut quiet = true;
        for (&iova, &len) in &self.maps {
            if let Err(why) = self.space.unmap(iova, len) {
                let error = why.error(name, iova, len);
                tracing::error!(device = name, %error, "memory stays with a device");
                quiet = false;
            }
        }
        for index in [MSIX, ERROR, REQUEST] {
            // What was never on need not be off.
            let _ = self.device.clear_vectors(index);
        }
        for pages in self.pages.drain(..).filter_map(|pages| pages.upgrade()) {
            if let Err(error) = pages.revoke() {
                tracing::error!(device = name, %error, "registers stay mapped: the kernel waits");
            }
        }
        tracing::info!(device = name, quiet, "a device is released");
        quiet
    }

    /// A region, looked at once.
    pub(super) fn bar(&mut self, index: u8) -> Result<Option<Region>> {
        let Some(known) = self.bars.get_mut(usize::from(index)) else { return Ok(None) };
        if known.is_none() {
            *known = Some(self.device.region(vfio::VFIO_PCI_BAR0_REGION_INDEX + u32::from(index))?);
        }
        Ok(known.clone().filter(|region| region.size > 0))
    }
}

impl Registers for Inner {
    /// Kernels before 6.11 make two accesses of 4 bytes of one of 8: registers that need one are
    /// in mapped pages.
    fn read(&self, bar: u8, offset: u64, to: &mut [u8]) -> Result<()> {
        self.with(|held| {
            let region = held.bar(bar)?.ok_or_else(|| none(self.slot.address(), bar))?;
            held.device.read(&region, offset, to)
        })
    }

    fn write(&self, bar: u8, offset: u64, from: &[u8]) -> Result<()> {
        self.with(|held| {
            let region = held.bar(bar)?.ok_or_else(|| none(self.slot.address(), bar))?;
            held.device.write(&region, offset, from)
        })
    }

    fn sees_stores(&self) -> bool {
        true
    }
}

pub(super) fn none(name: &str, bar: u8) -> Error {
    Error::new(ErrorKind::NotFound, format!("{name} has no BAR {bar}"))
}
