//! What an NVMe controller behind the kernel's VFIO needs, as far as can be looked at.

use super::file::quoted;
use super::{Report, Roots};
use crate::size;
use freehold_engine::memory::limits::dma_entry_limit;
use rustix::fs::Access;
use std::path::{Path, PathBuf};

/// Locked memory that a store of moderate size wants for its buffers.
const WANTED: u64 = 256 << 20;

pub(super) fn examine(report: &mut Report, address: &str, roots: &Roots) {
    let dir = roots.sys.join("bus/pci/devices").join(address);
    if !dir.exists() {
        let found = format!("there is no PCI device {address}");
        return report.bad("device", found, "lspci -Dnn -d ::0108   # lists NVMe controllers");
    }
    match Roots::text(&dir.join("class")).as_deref() {
        Some("0x010802") => report.good("device", "an NVMe controller"),
        other => {
            let found = format!("its PCI class is {}, not 0x010802", other.unwrap_or("unknown"));
            report.bad("device", found, "lspci -Dnn -d ::0108   # lists NVMe controllers");
        }
    }
    in_use(report, &dir, roots);
    driver(report, &dir, address, roots);
    group(report, &dir, roots);
    locked(report, roots);
}

/// No file system of the kernel's own is on it.
fn in_use(report: &mut Report, dir: &Path, roots: &Roots) {
    let mut names = Vec::new();
    for controller in names_in(&dir.join("nvme")) {
        let inner = names_in(&dir.join("nvme").join(controller));
        names.extend(inner.into_iter().filter(|name| name.starts_with("nvme")));
    }
    let of_it = |source: &str| {
        let name = source.strip_prefix("/dev/").unwrap_or("");
        names.iter().any(|own| {
            let rest = name.strip_prefix(own.as_str());
            // The namespace, or a partition of it.
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('p'))
        })
    };
    let mounts = roots.mounts();
    match mounts.iter().find(|[source, ..]| of_it(source)) {
        Some([source, place, ..]) => report.bad(
            "in use",
            format!("{source} is mounted at {place}"),
            format!("sudo umount {}", quoted(Path::new(place))),
        ),
        None => report.good("in use", "nothing of it is mounted"),
    }
}

/// Bound to vfio-pci.
fn driver(report: &mut Report, dir: &Path, address: &str, roots: &Roots) {
    let bound = Roots::link_name(&dir.join("driver"));
    if bound.as_deref() == Some("vfio-pci") {
        return report.good("driver", "vfio-pci");
    }
    let mut mend = Vec::new();
    if !roots.sys.join("bus/pci/drivers/vfio-pci").exists() {
        mend.push("sudo modprobe vfio-pci".to_owned());
    }
    let at = format!("/sys/bus/pci/devices/{address}");
    mend.push(format!("echo vfio-pci | sudo tee {at}/driver_override"));
    if bound.is_some() {
        mend.push(format!("echo {address} | sudo tee {at}/driver/unbind"));
    }
    mend.push(format!("echo {address} | sudo tee /sys/bus/pci/drivers_probe"));
    let found = match bound {
        Some(name) => format!("bound to {name}, not to vfio-pci"),
        None => "bound to no driver".to_owned(),
    };
    report.bad("driver", found, mend.join("\n"));
}

/// Behind an IOMMU, and the group may be opened.
fn group(report: &mut Report, dir: &Path, roots: &Roots) {
    let Some(group) = Roots::link_name(&dir.join("iommu_group")) else {
        let mend = "switch on the IOMMU in the firmware (VT-d, AMD-Vi), then boot with \
                    intel_iommu=on (AMD: on by default)\n\
                    sudo grubby --update-kernel=ALL --args=intel_iommu=on   # or edit \
                    GRUB_CMDLINE_LINUX and run update-grub\n\
                    sudo reboot";
        let found = "the device is behind no IOMMU: it could write anywhere, and is not used so";
        return report.bad("IOMMU", found, mend);
    };
    let others: Vec<String> = names_in(&dir.join("iommu_group/devices"));
    report.good("IOMMU", format!("group {group} of {}", size::of(others.len() as u64, "device")));
    let node: PathBuf = roots.dev.join("vfio").join(&group);
    match rustix::fs::access(&node, Access::READ_OK | Access::WRITE_OK) {
        Ok(()) => report.good("group", format!("{} may be opened", node.display())),
        Err(rustix::io::Errno::NOENT) => {
            let found = format!("{} is not there: no device of the group is bound", node.display());
            report.bad("group", found, "bind the device first, see `driver`");
        }
        Err(errno) => {
            let mend = format!("sudo chown $(id -un) {}", quoted(&node));
            report.bad("group", format!("{}: {errno}", node.display()), mend);
        }
    }
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

/// The names in a directory, in order; none when it is not there.
fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
