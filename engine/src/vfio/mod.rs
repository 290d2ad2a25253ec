//! A PCI function through the kernel's VFIO: the driver of this process, kept by an IOMMU from
//! all memory that it was not given.
//!
//! `space` is the addresses that devices of an IOMMU group have, by a container and its group
//! (`group`) or by iommufd (`iommufd`); `device` the descriptor of a device and `region`
//! a region of it, `function` what a driver gets of it and `inner` how that is let go, `mapping`
//! its mapped registers. `call` makes the system calls, `uapi` and
//! `chain` are what the kernel's headers say of them, `refusal` what to say when they fail.
//! Headers: `linux/vfio.h`, `linux/iommufd.h`; docs/decisions/0030 says why the calls are our
//! own.
//!
//! # What is promised beyond `bus`
//!
//! - An unmap that succeeded has taken the memory from the IOMMU: that the kernel says so, for
//!   the whole of what was mapped, is checked. Unmaps are of whole mappings, as type 1 v2 wants.
//! - When the kernel asks for the device back (unbind, removal), or the bus reports an error
//!   that the device is not used after, the function is gone. Who drives it then releases it
//!   ([`Function::release`](crate::bus::Function::release)), which needs nobody else's help.
//! - A forked child has no part in it.

mod call;
mod chain;
mod device;
mod function;
mod group;
mod inner;
mod iommufd;
mod mapping;
mod refusal;
mod region;
mod space;
#[cfg(test)]
mod tests;
mod uapi;

pub use function::Vfio;

use vfio_bindings::bindings::vfio;

/// Kinds of interrupts: MSI-X, an error of the bus, the kernel's wish to have the device back.
const MSIX: u32 = vfio::VFIO_PCI_MSIX_IRQ_INDEX;
const ERROR: u32 = vfio::VFIO_PCI_ERR_IRQ_INDEX;
const REQUEST: u32 = vfio::VFIO_PCI_REQ_IRQ_INDEX;

/// Which of the kernel's interfaces is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interface {
    /// The newest that is there and that this user may use.
    #[default]
    Best,
    /// A container and a group: /dev/vfio/vfio and /dev/vfio/GROUP.
    Group,
    /// iommufd and the device's own node: /dev/iommu and /dev/vfio/devices/vfioN.
    Iommufd,
}

/// How a device is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// By what.
    pub interface: Interface,
}
