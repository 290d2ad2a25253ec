//! The addresses that devices of one IOMMU group have: an IOMMU makes no difference between
//! them, so whoever of this process uses one of a group shares the space with the others.
//!
//! Each function gets addresses of its own there: a share of the space, by its place in the
//! group. Almost always it is alone, and has all.

use super::chain;
use super::device::Device;
use super::group::Container;
use super::iommufd::Ioas;
use super::refusal;
use super::{Interface, Options};
use crate::bus::{DmaLimits, DmaMap};
use crate::medium::{Error, ErrorKind, Result};
use crate::memory::limits::map_refused;
use crate::pci::{Group, Slot};
use rustix::fs::Access;
use rustix::io::Errno;
use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// What can be mapped, as the kernel tells it.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) ranges: Vec<Range<u64>>,
    pub(super) page_sizes: u64,
    pub(super) max_maps: u32,
}

/// Why memory was not taken from a device.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unmapped {
    /// The kernel refused.
    Refused(Errno),
    /// It took so many bytes only.
    Partly(u64),
}

impl Unmapped {
    /// What a request means that returned so, and says to have unmapped `done` of `wanted`
    /// bytes. Type 1 takes whole mappings that lie in the range, and is content with none.
    pub(super) fn judge(
        result: std::result::Result<i32, Errno>,
        done: u64,
        wanted: u64,
    ) -> std::result::Result<(), Self> {
        match result {
            Err(errno) => Err(Self::Refused(errno)),
            Ok(_) if done == wanted => Ok(()),
            Ok(_) => Err(Self::Partly(done)),
        }
    }

    /// In words.
    pub(super) fn error(&self, name: &str, iova: u64, len: u64) -> Error {
        let what = match self {
            Self::Refused(errno) => format!("the kernel refused: {errno}"),
            Self::Partly(done) => format!("the kernel says that it was {done} bytes"),
        };
        let text = format!("{name}: {len} bytes at {iova:#x} were not taken from it: {what}");
        Error::new(ErrorKind::Io, text)
    }
}

/// Who maps.
#[derive(Debug)]
enum Kind {
    Container(Container),
    Ioas(Ioas),
}

/// One space.
#[derive(Debug)]
pub(super) struct Space(Kind);

/// Spaces of this process, by group.
static SPACES: LazyLock<Mutex<HashMap<String, Weak<Space>>>> = LazyLock::new(Mutex::default);

/// A device with the space that it uses.
pub(super) struct Opened {
    pub(super) device: Device,
    pub(super) space: Arc<Space>,
    pub(super) limits: DmaLimits,
}

/// Opens a device, in the space of its group.
///
/// # Errors
/// What is missing, and how to mend it.
pub(super) fn open(slot: &Slot, group: &Group, options: Options) -> Result<Opened> {
    // Held to the end: who opens a second device of the group waits, and shares.
    let mut all = SPACES.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, space| space.strong_count() > 0);
    let known = all.get(&group.number).and_then(Weak::upgrade);
    let shared = known.is_some();
    let (space, node) = match known {
        Some(space) => {
            let node = matches!(space.0, Kind::Ioas(_)).then(|| slot.device_node()).flatten();
            (space, node)
        }
        None => {
            let node = choose(slot, options.interface)?;
            let kind = match node {
                Some(_) => Kind::Ioas(Ioas::open(slot)?),
                None => Kind::Container(Container::open(slot, group)?),
            };
            (Arc::new(Space(kind)), node)
        }
    };
    let device = match (&space.0, node) {
        (Kind::Container(container), _) => container.device(slot)?,
        (Kind::Ioas(ioas), Some(node)) => ioas.device(slot, &node)?,
        (Kind::Ioas(_), None) => return Err(refusal::not_given(slot)),
    };
    let device = Device::new(slot, device)?;
    let limits = match &space.0 {
        Kind::Container(container) => container.limits(slot)?,
        Kind::Ioas(ioas) => ioas.limits(slot)?,
    };
    let (part, of) = place(slot, group);
    tracing::info!(
        device = slot.address(),
        group = group.number,
        interface = space.interface(),
        shared,
        part,
        of,
        ?limits,
        "a device through the kernel's VFIO"
    );
    all.insert(group.number.clone(), Arc::downgrade(&space));
    let limits = DmaLimits {
        ranges: chain::share(&limits.ranges, part, of),
        page_sizes: limits.page_sizes,
        max_maps: limits.max_maps,
        foreign_memory: true,
    };
    Ok(Opened { device, space, limits })
}

/// Which share of its group's addresses a device has: its place among those that are given to
/// programs, bridges left out.
pub(super) fn place(slot: &Slot, group: &Group) -> (u64, u64) {
    let users: Vec<_> = group.devices.iter().filter(|device| !device.bridge).collect();
    let part = users.iter().position(|device| device.address == slot.address());
    match part {
        Some(part) => (part as u64, users.len() as u64),
        None => (0, 1),
    }
}

/// The node of the device where it is opened through iommufd; none for its group.
pub(super) fn choose(slot: &Slot, wanted: Interface) -> Result<Option<PathBuf>> {
    let dev = &slot.machine().dev;
    let node = slot.device_node().filter(|_| dev.join("iommu").exists());
    let may = |path: &PathBuf| rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK).is_ok();
    match (wanted, node) {
        (Interface::Group, _) => Ok(None),
        (Interface::Iommufd, Some(node)) => Ok(Some(node)),
        (Interface::Iommufd, None) => {
            let text = format!(
                "{}: this kernel opens no devices through iommufd: that needs Linux 6.6 with \
                 CONFIG_VFIO_DEVICE_CDEV, and `modprobe iommufd vfio-pci`",
                slot.address()
            );
            Err(Error::new(ErrorKind::Unsupported, text))
        }
        // The newer interface, unless it is the older one that this user was let use.
        (Interface::Best, Some(node)) => {
            let group = slot.group_node().filter(|group| may(group));
            let usable = may(&node) && may(&dev.join("iommu"));
            Ok((usable || group.is_none()).then_some(node))
        }
        (Interface::Best, None) => Ok(None),
    }
}

impl Space {
    /// How it is reached.
    pub(super) fn interface(&self) -> &'static str {
        match &self.0 {
            Kind::Container(_) => "group",
            Kind::Ioas(_) => "iommufd",
        }
    }

    /// Lets the devices of the space reach memory.
    ///
    /// # Safety
    /// As [`Function::map`](crate::bus::Function::map).
    pub(super) unsafe fn map(
        &self,
        name: &str,
        map: &DmaMap<'_>,
        access: (bool, bool),
    ) -> Result<()> {
        let done = match &self.0 {
            // SAFETY: the caller's promise is the one that is asked for.
            Kind::Container(container) => unsafe { container.map(map, access) },
            // SAFETY: as above.
            Kind::Ioas(ioas) => unsafe { ioas.map(map, access) },
        };
        done.map_err(|errno| map_refused(&format!("{name}: mapping for DMA"), map.len, errno))
    }

    /// Takes memory from them, wholly as it was mapped.
    pub(super) fn unmap(&self, iova: u64, len: u64) -> std::result::Result<(), Unmapped> {
        match &self.0 {
            Kind::Container(container) => container.unmap(iova, len),
            Kind::Ioas(ioas) => ioas.unmap(iova, len),
        }
    }
}
