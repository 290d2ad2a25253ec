//! What an NVMe controller behind the kernel's VFIO needs.

use super::file::quoted;
use super::{Report, Roots, vfio_user};
use crate::size;
use freehold_engine::memory::limits::dma_entry_limit;
use freehold_engine::pci::{Group, Machine, Slot};
use rustix::fs::Access;
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Locked memory that a store of moderate size wants for its buffers.
const WANTED: u64 = 256 << 20;

/// Looks at the controller at an address; `namespace` is none for its Persistent Memory Region.
pub(super) fn examine(
    report: &mut Report,
    address: &str,
    namespace: Option<u32>,
    name: &str,
    roots: &Roots,
) {
    let machine = Machine::of(&roots.proc, &roots.sys, &roots.dev);
    let list = "lspci -Dnn -d ::0108   # lists NVMe controllers";
    let slot = match Slot::find(&machine, address) {
        Ok(slot) => slot,
        Err(error) => {
            report.bad("device", error.message(), list);
            // Of use even so: without one there is no hope for any.
            iommu(report, &machine);
            return;
        }
    };
    if slot.is_nvme() {
        report.good("device", "an NVMe controller");
    } else {
        let found = format!("its PCI class is {}, not 0x010802", slot.class());
        report.bad("device", found, list);
    }
    in_use(report, &slot);
    let group = slot.group();
    match &group {
        Some(group) if !group.unsafe_mode => {
            let count = size::of(group.devices.len() as u64, "device");
            report.good("IOMMU", format!("group {} of {count}", group.number));
            interrupts(report, &machine);
            viable(report, &slot, group);
        }
        Some(_) => report.bad(
            "IOMMU",
            "the kernel's no-IOMMU mode: the device could write anywhere, and is not used so",
            ENABLE,
        ),
        None => report.bad(
            "IOMMU",
            "the device is behind no IOMMU: it could write anywhere, and is not used so",
            ENABLE,
        ),
    }
    driver(report, &slot, &machine);
    if slot.is_given() {
        nodes(report, &slot, &machine);
    }
    locked(report, roots);
    vfio_user::pages(report);
    // What is wrong was told; the engine would say the same.
    if report.passes() {
        vfio_user::opens(report, namespace, name);
    }
}

/// How an IOMMU is switched on.
const ENABLE: &str = "switch on the IOMMU in the firmware (VT-d, AMD-Vi), then boot with \
                      intel_iommu=on (AMD: on by default)\n\
                      sudo grubby --update-kernel=ALL --args=intel_iommu=on   # or edit \
                      GRUB_CMDLINE_LINUX and run update-grub\n\
                      sudo reboot";

/// The machine has one.
fn iommu(report: &mut Report, machine: &Machine) {
    match machine.has_iommu() {
        true => report.good("IOMMU", "the kernel uses one"),
        false => report.bad("IOMMU", "the kernel uses none", ENABLE),
    }
}

/// Nothing of the kernel's is on it.
fn in_use(report: &mut Report, slot: &Slot) {
    match slot.user() {
        Some(user) => {
            let mount = user.split_once("mounted on ").and_then(|(_, rest)| rest.split(' ').next());
            let mend = match mount {
                Some(place) => format!("sudo umount {}", quoted(Path::new(place))),
                None => "end that use first: lsblk and swapon --show say more".to_owned(),
            };
            report.bad("in use", user, mend);
        }
        None => report.good("in use", "nothing of it is mounted or built upon"),
    }
}

/// A device can send only the interrupts that it was given.
fn interrupts(report: &mut Report, machine: &Machine) {
    if machine.remaps_interrupts() {
        report.good("interrupts", "remapped by the IOMMU");
    } else if machine.allows_unsafe_interrupts() {
        report.hint(
            "interrupts",
            "not remapped, and allowed so: a device could send interrupts that it was not given",
            "switch on interrupt remapping in the firmware (x2APIC, VT-d), and set \
             allow_unsafe_interrupts to N",
        );
    } else {
        report.hint(
            "interrupts",
            "not shown as remapped: if they are not, opening is refused (EPERM)",
            "switch on interrupt remapping in the firmware (in QEMU: -device \
             intel-iommu,intremap=on)\n\
             echo Y | sudo tee /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts   \
             # accepts the risk",
        );
    }
}

/// Nobody of the kernel's uses another device of the group.
fn viable(report: &mut Report, slot: &Slot, group: &Group) {
    let others = group.devices.iter().filter(|other| other.address != slot.address());
    let others: Vec<_> = others.filter(|other| other.is_in_the_way()).collect();
    if others.is_empty() {
        return report.good("group", "no driver of the kernel has a device of it");
    }
    let list: Vec<String> = others
        .iter()
        .map(|other| format!("{} ({})", other.address, other.driver.as_deref().unwrap_or("none")))
        .collect();
    let mend: Vec<String> = others
        .iter()
        .map(|other| {
            let at = format!("/sys/bus/pci/devices/{}", other.address);
            format!("echo {} | sudo tee {at}/driver/unbind", other.address)
        })
        .collect();
    let found = format!(
        "the IOMMU cannot tell the controller from {}, which the kernel uses",
        list.join(", ")
    );
    let mend = format!("{}   # or move the card to another slot", mend.join("\n"));
    report.bad("group", found, mend);
}

/// Bound to vfio-pci.
fn driver(report: &mut Report, slot: &Slot, machine: &Machine) {
    if slot.is_given() {
        return report.good("driver", slot.driver().unwrap_or_default());
    }
    let mut mend = Vec::new();
    if !machine.has_driver("vfio-pci") {
        mend.push("sudo modprobe vfio-pci".to_owned());
    }
    mend.push(format!("sudo freehold bind {}", slot.address()));
    let found = match slot.driver() {
        Some(name) => format!("bound to {name}, not to vfio-pci"),
        None => "bound to no driver".to_owned(),
    };
    report.bad("driver", found, mend.join("\n"));
}

/// This user may open it, one way or the other.
fn nodes(report: &mut Report, slot: &Slot, machine: &Machine) {
    let may = |path: &PathBuf| rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK);
    let dev = |path: &str| machine.dev().join(path);
    let mut ways: Vec<(&str, [PathBuf; 2])> = Vec::new();
    if let Some(node) = slot.device_node() {
        ways.push(("iommufd", [dev("iommu"), node]));
    }
    if let Some(node) = slot.group_node() {
        ways.push(("group", [dev("vfio/vfio"), node]));
    }
    let mut refused: Vec<(PathBuf, Errno)> = Vec::new();
    for (way, both) in &ways {
        let bad: Vec<_> = both.iter().filter_map(|n| Some((n.clone(), may(n).err()?))).collect();
        if bad.is_empty() {
            let found = format!("{} may be opened ({way})", both[1].display());
            return report.good("permission", found);
        }
        refused.extend(bad);
    }
    let missing = refused.iter().all(|(_, errno)| *errno == Errno::NOENT);
    let found: Vec<String> =
        refused.iter().map(|(node, errno)| format!("{}: {errno}", node.display())).collect();
    let mend = if missing || refused.is_empty() {
        "sudo modprobe vfio-pci vfio_iommu_type1".to_owned()
    } else {
        let mut mend: Vec<String> = refused
            .iter()
            .filter(|(_, errno)| *errno != Errno::NOENT)
            .map(|(node, _)| format!("sudo chown $(id -un) {}", quoted(node)))
            .collect();
        mend.push(
            "echo 'SUBSYSTEM==\"vfio\", GROUP=\"storage\", MODE=\"0660\"' | sudo tee \
             /etc/udev/rules.d/60-vfio.rules   # for good"
                .to_owned(),
        );
        mend.join("\n")
    };
    report.bad("permission", found.join("; "), mend);
}

/// Buffers are locked.
fn locked(report: &mut Report, roots: &Roots) {
    match roots.locked {
        Some(limit) if limit < WANTED => report.bad(
            "locked memory",
            format!("{}: buffers for a device are locked", size::show(limit)),
            format!(
                "ulimit -l {}   # after raising `memlock` in /etc/security/limits.conf, or \
                 LimitMEMLOCK= in the unit",
                WANTED >> 10
            ),
        ),
        Some(limit) => report.good("locked memory", size::show(limit)),
        None => report.good("locked memory", "no limit"),
    }
    if let Some(entries) = dma_entry_limit() {
        report.good("DMA maps", format!("{entries} at most"));
    }
}
