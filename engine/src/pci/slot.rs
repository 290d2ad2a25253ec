//! One device, by its address.

use super::machine::{Machine, link_name, names_in, text};
use crate::medium::{Error, ErrorKind, Result};
use std::path::PathBuf;

/// NVM Express: mass storage, non-volatile memory, I/O controller (PCI Code and ID
/// Assignment, 1.2.9).
const NVME: &str = "0x010802";
/// Bridges of all kinds.
const BRIDGE: &str = "0x06";

/// A device on the bus.
#[derive(Debug, Clone)]
pub struct Slot {
    machine: Machine,
    address: String,
    dir: PathBuf,
}

/// Devices that an IOMMU cannot tell apart: who gets one gets all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its number, as a name.
    pub number: String,
    /// It is one of the kernel's no-IOMMU mode, in which nothing keeps the device from any
    /// memory.
    pub unsafe_mode: bool,
    /// What is in it, the device itself included, by address.
    pub devices: Vec<Neighbour>,
}

/// A device of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its address.
    pub address: String,
    /// Which driver has it.
    pub driver: Option<String>,
    /// It is a bridge, which need not be given away.
    pub bridge: bool,
}

impl Neighbour {
    /// Whether it keeps its group from being used (drivers/iommu and drivers/vfio: a driver
    /// of the kernel's own uses DMA).
    pub fn is_in_the_way(&self) -> bool {
        match self.driver.as_deref() {
            None | Some("pci-stub" | "pcieport") => false,
            Some(driver) => !is_vfio(driver) && !self.bridge,
        }
    }
}

/// Whether a driver gives devices to programs: vfio-pci, and those for single devices.
fn is_vfio(driver: &str) -> bool {
    driver.contains("vfio")
}

impl Slot {
    /// The device at an address as `0000:01:00.0`.
    ///
    /// # Errors
    /// `NotFound`, with the NVMe controllers that there are.
    pub fn find(machine: &Machine, address: &str) -> Result<Self> {
        let all = machine.sys.join("bus/pci/devices");
        let slot =
            Self { machine: machine.clone(), address: address.to_owned(), dir: all.join(address) };
        if slot.dir.exists() {
            return Ok(slot);
        }
        let others = names_in(&all);
        let nvme: Vec<String> = others
            .into_iter()
            .filter(|name| text(&all.join(name).join("class")).as_deref() == Some(NVME))
            .collect();
        let known = match nvme.is_empty() {
            true => "there is no NVMe controller on this machine's PCI bus".to_owned(),
            false => format!("NVMe controllers are at {}", nvme.join(", ")),
        };
        let text = format!("there is no PCI device {address}; {known}");
        Err(Error::new(ErrorKind::NotFound, text))
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The machine it is in.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Its directory.
    pub(super) fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// Its class, as `0x010802`.
    pub fn class(&self) -> String {
        text(&self.dir.join("class")).unwrap_or_else(|| "unknown".to_owned())
    }

    /// Whether it is an NVMe controller.
    pub fn is_nvme(&self) -> bool {
        self.class() == NVME
    }

    /// The driver that has it.
    pub fn driver(&self) -> Option<String> {
        link_name(&self.dir.join("driver"))
    }

    /// A driver has it that gives it to programs.
    pub fn is_given(&self) -> bool {
        self.driver().is_some_and(|driver| is_vfio(&driver))
    }

    /// The driver that it is kept for, if any.
    pub fn driver_override(&self) -> Option<String> {
        let name = text(&self.dir.join("driver_override"))?;
        (!name.is_empty() && name != "(null)").then_some(name)
    }

    /// Its group; none where it is behind no IOMMU.
    pub fn group(&self) -> Option<Group> {
        let dir = self.dir.join("iommu_group");
        let number = link_name(&dir)?;
        let unsafe_mode = text(&dir.join("name")).is_some_and(|name| name == "vfio-noiommu");
        let all = self.machine.sys.join("bus/pci/devices");
        let devices = names_in(&dir.join("devices")).into_iter().map(|address| {
            let other = all.join(&address);
            let class = text(&other.join("class")).unwrap_or_default();
            let driver = link_name(&other.join("driver"));
            Neighbour { address, driver, bridge: class.starts_with(BRIDGE) }
        });
        Some(Group { number, unsafe_mode, devices: devices.collect() })
    }

    /// The node by which the group is opened, if there is a group.
    pub fn group_node(&self) -> Option<PathBuf> {
        Some(self.machine.dev.join("vfio").join(self.group()?.number))
    }

    /// The node by which the device itself is opened, where the kernel has such
    /// (Documentation/driver-api/vfio.rst, "VFIO device cdev").
    pub fn device_node(&self) -> Option<PathBuf> {
        let name = names_in(&self.dir.join("vfio-dev")).into_iter().next()?;
        Some(self.machine.dev.join("vfio/devices").join(name))
    }
}
