//! What to say when the kernel gives a device, or memory of it, to nobody: which of its
//! reasons stands behind an error number, and the command that mends it.

use super::uapi::Request;
use crate::medium::{Error, ErrorKind};
use crate::pci::{Group, Slot};
use rustix::io::Errno;
use std::path::Path;

/// A sentence about a device.
fn about(slot: &Slot, kind: ErrorKind, what: &str) -> Error {
    Error::new(kind, format!("{}: {what}", slot.address()))
}

/// It is behind no IOMMU.
pub(super) fn no_iommu(slot: &Slot) -> Error {
    let how = match slot.machine().has_iommu() {
        true => "this machine has an IOMMU, but not for this device",
        false => {
            "switch the IOMMU on in the firmware (VT-d, AMD-Vi), boot with intel_iommu=on (AMD \
             needs nothing), and look with `ls /sys/kernel/iommu_groups`"
        }
    };
    about(
        slot,
        ErrorKind::Unsupported,
        &format!(
            "no IOMMU keeps it from memory that it was not given, and it is not used without: {how}"
        ),
    )
}

/// It is there without an IOMMU, by the kernel's no-IOMMU mode.
pub(super) fn unsafe_mode(slot: &Slot) -> Error {
    about(
        slot,
        ErrorKind::Unsupported,
        "it is in the kernel's no-IOMMU mode, in which nothing keeps it from any memory: that is \
         not used; switch the IOMMU on, and enable_unsafe_noiommu_mode off",
    )
}

/// Another driver has it, or none.
pub(super) fn not_given(slot: &Slot) -> Error {
    let address = slot.address();
    let bound = match slot.driver() {
        Some(driver) => format!("it is bound to {driver}, not to vfio-pci"),
        None => "it is bound to no driver".to_owned(),
    };
    let module = match slot.machine().has_driver("vfio-pci") {
        true => "",
        false => "`modprobe vfio-pci` as root, then ",
    };
    about(
        slot,
        ErrorKind::Unsupported,
        &format!("{bound}: {module}`freehold bind {address}` as root"),
    )
}

/// Devices of its group are in the way.
pub(super) fn not_viable(slot: &Slot, group: &Group) -> Error {
    let others: Vec<String> = group
        .devices
        .iter()
        .filter(|other| other.address != slot.address() && other.is_in_the_way())
        .map(|other| {
            format!("{} ({})", other.address, other.driver.as_deref().unwrap_or("no driver"))
        })
        .collect();
    let who = match others.is_empty() {
        true => "devices that are not shown".to_owned(),
        false => others.join(", "),
    };
    about(
        slot,
        ErrorKind::Busy,
        &format!(
            "the IOMMU cannot tell it from others of group {}, which drivers of the kernel have: \
             {who}; take these from their drivers (vfio-pci or none), or move the card to another \
             slot",
            group.number
        ),
    )
}

/// A node in /dev could not be opened.
pub(super) fn node(slot: &Slot, path: &Path, errno: Errno) -> Error {
    let shown = path.display();
    let (kind, how) = match errno {
        Errno::NOENT | Errno::NXIO | Errno::NODEV => (
            ErrorKind::NotFound,
            format!(
                "the module is not loaded, or the device is not bound: `modprobe vfio-pci`, then \
                 `freehold bind {}`, as root",
                slot.address()
            ),
        ),
        Errno::ACCESS | Errno::PERM => (
            ErrorKind::Permission,
            format!(
                "`chown USER {shown}` as root, or for good a udev rule: SUBSYSTEM==\"vfio\", \
                 GROUP=\"storage\", MODE=\"0660\""
            ),
        ),
        Errno::BUSY => (
            ErrorKind::Busy,
            format!("another process has it: `fuser -v {shown}` as root shows which"),
        ),
        Errno::MFILE | Errno::NFILE => (ErrorKind::Limit, "raise RLIMIT_NOFILE (ulimit -n)".into()),
        _ => (ErrorKind::Io, "see the system's log (dmesg)".to_owned()),
    };
    about(slot, kind, &format!("opening {shown}: {errno}; {how}"))
}

/// A request was refused.
pub(super) fn request(slot: &Slot, request: Request, errno: Errno) -> Error {
    let (kind, how) = match (request, errno) {
        (Request::SetIommu | Request::AttachPageTable, Errno::PERM) => (
            ErrorKind::Unsupported,
            "the IOMMU does not remap interrupts, so a device could send any: switch interrupt \
             remapping on in the firmware (in QEMU: -device intel-iommu,intremap=on); to accept \
             the risk, set allow_unsafe_interrupts of vfio_iommu_type1 (or iommufd) to Y",
        ),
        (_, Errno::BUSY) => {
            (ErrorKind::Busy, "another process has the device, or one of its group: end that first")
        }
        (Request::GroupDevice, Errno::NODEV) => {
            (ErrorKind::Unsupported, "vfio-pci does not have it any more")
        }
        (_, Errno::ACCESS | Errno::PERM) => (ErrorKind::Permission, "the system does not allow it"),
        (_, Errno::NOMEM) => (
            ErrorKind::Limit,
            "the system has no memory for it, or RLIMIT_MEMLOCK (ulimit -l) is too low",
        ),
        (_, Errno::MFILE | Errno::NFILE) => (ErrorKind::Limit, "raise RLIMIT_NOFILE (ulimit -n)"),
        (_, Errno::NODEV) => (ErrorKind::Gone, "the device is not there any more"),
        (_, Errno::NOTTY) => (ErrorKind::Unsupported, "this kernel does not know the request"),
        _ => (ErrorKind::Io, "see the system's log (dmesg)"),
    };
    about(slot, kind, &format!("the kernel refused {request}: {errno}; {how}"))
}

/// The kernel speaks of the device in a way that makes no sense.
pub(super) fn nonsense(slot: &Slot, request: Request, what: &str) -> Error {
    about(slot, ErrorKind::Io, &format!("the answer to {request} makes no sense: {what}"))
}
