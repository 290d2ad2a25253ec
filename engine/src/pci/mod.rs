//! Devices on the PCI bus as the kernel shows them: what they are, which driver has them,
//! which group of an IOMMU they are in, who uses them; and giving one to another driver.
//!
//! All of it is files of /sys, /proc and /dev (`Documentation/ABI/testing/sysfs-bus-pci`,
//! `sysfs-kernel-iommu_groups`). `machine` says where these are, so that tests make one up;
//! `slot` looks at one device, `held` at its users, `bind` moves it.

mod bind;
mod held;
mod machine;
mod slot;
#[cfg(test)]
pub(crate) mod tests;

pub use bind::Moved;
pub use machine::Machine;
pub use slot::{Group, Neighbour, Slot};
