//! The descriptor of a device: what it is, its registers' places, its interrupts, its reset
//! (linux/vfio.h, "IOCTLs for DEVICE file descriptors").

use super::call::{exchange, number, tell, variable};
use super::refusal;
use super::region::Region;
use super::uapi::Request;
use crate::medium::{Error, ErrorKind, Result};
use crate::pci::Slot;
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use vfio_bindings::bindings::vfio;

/// Registers of the configuration space of a PCI function (PCI Local Bus 3.0, 6.1, 6.7).
const VENDOR: u64 = 0;
const COMMAND: u64 = 4;
const STATUS: u64 = 6;
const CAPABILITIES: u64 = 0x34;
/// The command register's memory decoding and bus master.
const MEMORY: u16 = 2;
const MASTER: u16 = 4;
/// The status register's "there are capabilities".
const HAS_CAPABILITIES: u16 = 1 << 4;
/// Power management, and the register in it that says in which state the device is.
const POWER: u8 = 1;
const POWER_STATE: u64 = 4;

/// An open device.
#[derive(Debug)]
pub(super) struct Device {
    slot: Slot,
    fd: OwnedFd,
    config: Region,
    resettable: bool,
    irqs: u32,
    /// Where the power management capability is, if there is one.
    power: Option<u64>,
}

impl Device {
    /// Looks at what a descriptor is of.
    ///
    /// # Errors
    /// `Unsupported` for what is no PCI device; `Io` for answers that make no sense.
    pub(super) fn new(slot: &Slot, fd: OwnedFd) -> Result<Self> {
        let mut info = vfio::vfio_device_info {
            argsz: size_of::<vfio::vfio_device_info>() as u32,
            ..Default::default()
        };
        // SAFETY: the structure of the request, with its size.
        unsafe { exchange(fd.as_fd(), Request::DeviceInfo, &mut info) }
            .map_err(|errno| refusal::request(slot, Request::DeviceInfo, errno))?;
        if info.flags & vfio::VFIO_DEVICE_FLAGS_PCI == 0
            || info.num_regions <= vfio::VFIO_PCI_CONFIG_REGION_INDEX
        {
            let text = format!("{}: VFIO shows no PCI device there", slot.address());
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        let resettable = info.flags & vfio::VFIO_DEVICE_FLAGS_RESET != 0;
        let (config, irqs) = (Region::default(), info.num_irqs);
        let mut device = Self { slot: slot.clone(), fd, config, resettable, irqs, power: None };
        device.config = device.region(vfio::VFIO_PCI_CONFIG_REGION_INDEX)?;
        device.power = device.find_power()?;
        Ok(device)
    }

    /// Describes a region.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(super) fn region(&self, index: u32) -> Result<Region> {
        let request = Request::RegionInfo;
        let info = variable(self.fd.as_fd(), request, &[0, index]);
        let info = info.map_err(|errno| refusal::request(&self.slot, request, errno))?;
        Region::understand(&info).map_err(|what| refusal::nonsense(&self.slot, request, what))
    }

    /// The descriptor, to map it.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Reads bytes of a region as one access; the place was checked to be in it.
    ///
    /// # Errors
    /// `Io`, also for a short answer.
    pub(super) fn read(&self, region: &Region, offset: u64, to: &mut [u8]) -> Result<()> {
        let wanted = to.len();
        let done = rustix::io::pread(&self.fd, to, region.offset + offset);
        self.complete(done, wanted, offset)
    }

    /// Writes bytes of a region as one access; the place was checked to be in it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(super) fn write(&self, region: &Region, offset: u64, from: &[u8]) -> Result<()> {
        let done = rustix::io::pwrite(&self.fd, from, region.offset + offset);
        self.complete(done, from.len(), offset)
    }

    fn complete(
        &self,
        done: std::result::Result<usize, Errno>,
        wanted: usize,
        offset: u64,
    ) -> Result<()> {
        let what = match done {
            Ok(done) if done == wanted => return Ok(()),
            Ok(done) => format!("{done} of {wanted} bytes"),
            Err(errno) => errno.to_string(),
        };
        let text = format!("{}: registers at {offset:#x}: {what}", self.slot.address());
        Err(Error::new(ErrorKind::Io, text))
    }

    /// Configuration space.
    pub(super) fn config(&self) -> &Region {
        &self.config
    }

    /// Whether writing there could make touches of mapped registers fail: only decoding of
    /// memory, and the power state, can.
    pub(super) fn would_hide(&self, offset: u64, from: &[u8]) -> bool {
        let end = offset + from.len() as u64;
        let command = offset <= COMMAND
            && COMMAND < end
            && u16::from(from[(COMMAND - offset) as usize]) & MEMORY == 0;
        let state = |at: u64| offset < at + POWER_STATE + 2 && at + POWER_STATE < end;
        command || self.power.is_some_and(state)
    }

    fn config16(&self, offset: u64) -> Result<u16> {
        let mut bytes = [0; 2];
        self.read(&self.config, offset, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    fn find_power(&self) -> Result<Option<u64>> {
        if self.config16(STATUS)? & HAS_CAPABILITIES == 0 {
            return Ok(None);
        }
        let mut at = self.config16(CAPABILITIES)? & 0xfc;
        // There is room for so many.
        for _ in 0..48 {
            if at < 0x40 {
                break;
            }
            let [id, next] = self.config16(at.into())?.to_le_bytes();
            if id == POWER {
                return Ok(Some(at.into()));
            }
            at = u16::from(next) & 0xfc;
        }
        Ok(None)
    }

    /// Whether the function answers at all: one that was pulled out reads as all ones.
    pub(super) fn answers(&self) -> bool {
        self.config16(VENDOR).is_ok_and(|vendor| vendor != u16::MAX)
    }

    /// Has the function reach no memory and send no interrupt any more, as far as it obeys.
    pub(super) fn take_bus(&self) {
        let quiet = self.config16(COMMAND).and_then(|old| {
            let new = old & !MASTER | MEMORY;
            self.write(&self.config, COMMAND, &new.to_le_bytes())
        });
        if let Err(error) = quiet {
            tracing::debug!(%error, "bus mastering was not switched off");
        }
    }

    /// Vectors of a kind of interrupt that an eventfd can hear.
    pub(super) fn vectors(&self, index: u32) -> u32 {
        if index >= self.irqs {
            return 0;
        }
        let mut info = vfio::vfio_irq_info {
            argsz: size_of::<vfio::vfio_irq_info>() as u32,
            index,
            ..Default::default()
        };
        // SAFETY: the structure of the request, with its size.
        let done = unsafe { exchange(self.fd.as_fd(), Request::IrqInfo, &mut info) };
        let usable = done.is_ok() && info.flags & vfio::VFIO_IRQ_INFO_EVENTFD != 0;
        if usable { info.count } else { 0 }
    }

    /// Has vectors from `start` on tell eventfds, or nobody where it is -1. More than zero is
    /// how many there could be, when there cannot be so many.
    pub(super) fn set_vectors(
        &self,
        index: u32,
        start: u32,
        fds: &[i32],
    ) -> std::result::Result<u32, Errno> {
        let flags = vfio::VFIO_IRQ_SET_DATA_EVENTFD | vfio::VFIO_IRQ_SET_ACTION_TRIGGER;
        let mut words = vec![0, flags, index, start, fds.len() as u32];
        words.extend(fds.iter().map(|fd| fd.cast_unsigned()));
        tell(self.fd.as_fd(), Request::SetIrqs, &mut words).map(i32::cast_unsigned)
    }

    /// Switches a kind of interrupt off.
    pub(super) fn clear_vectors(&self, index: u32) -> std::result::Result<(), Errno> {
        let flags = vfio::VFIO_IRQ_SET_DATA_NONE | vfio::VFIO_IRQ_SET_ACTION_TRIGGER;
        tell(self.fd.as_fd(), Request::SetIrqs, &mut [0, flags, index, 0, 0]).map(drop)
    }

    /// Resets the function.
    ///
    /// # Errors
    /// `Unsupported` where it cannot be reset alone; what the kernel says.
    pub(super) fn reset(&self) -> Result<()> {
        if !self.resettable {
            let text = format!("{}: the function cannot be reset by itself", self.slot.address());
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        number(self.fd.as_fd(), Request::DeviceReset, 0)
            .map(drop)
            .map_err(|errno| refusal::request(&self.slot, Request::DeviceReset, errno))
    }
}
