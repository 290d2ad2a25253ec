//! The doctor on systems that are made up.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// No machine has it: what is opened in the end is the real one's.
const BDF: &str = "fe01:01:00.0";

/// A system in a directory of its own.
struct Fake {
    dir: PathBuf,
}

impl Fake {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("doctor {name} {}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("proc")).unwrap();
        Self { dir }
    }

    fn put(&self, path: &str, text: &str) -> &Self {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn link(&self, path: &str, to: &str) -> &Self {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
        self
    }

    fn roots(&self, locked: Option<u64>) -> Roots {
        let at = |part: &str| self.dir.join(part);
        Roots { proc: at("proc"), sys: at("sys"), dev: at("dev"), locked }
    }

    fn examine(&self, uri: &str, locked: Option<u64>) -> Report {
        examine(&Uri::parse(uri).unwrap(), uri, &self.roots(locked))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn state(report: &Report, what: &str) -> State {
    let check = report.0.iter().find(|check| check.what == what);
    check.unwrap_or_else(|| panic!("no {what} in {report:?}")).state
}

fn mend(report: &Report, what: &str) -> String {
    let check = report.0.iter().find(|check| check.what == what).unwrap();
    check.mend.clone().unwrap_or_default()
}

/// A machine with a controller that a driver has, in group 7.
fn controller(name: &str, driver: &str) -> Fake {
    let fake = Fake::new(name);
    let device = format!("sys/bus/pci/devices/{BDF}");
    fake.put(&format!("{device}/class"), "0x010802\n")
        .link(&format!("{device}/driver"), &format!("../../drivers/{driver}"))
        .put(&format!("sys/kernel/iommu_groups/7/devices/{BDF}"), "")
        .link(&format!("{device}/iommu_group"), "../../../../kernel/iommu_groups/7")
        .put("proc/interrupts", " 0: 2 IR-IO-APIC 2-edge timer\n")
        .put("proc/swaps", "")
        .put("proc/self/mountinfo", "");
    fake
}

#[test]
fn a_controller_that_the_kernel_has_is_told_how_to_be_had() {
    let fake = controller("kernel", "nvme");
    let device = format!("sys/bus/pci/devices/{BDF}");
    fs::remove_file(fake.dir.join(format!("{device}/iommu_group"))).unwrap();
    let mounts = "20 1 259:10 / /ten rw - ext4 /dev/nvme0n10 rw\n\
                  21 1 259:2 / /ab rw - ext4 /dev/nvme0n1p2 rw\n";
    fake.put(&format!("{device}/nvme/nvme0/nvme0n1/size"), "1")
        .put("sys/class/block/nvme0n1/dev", "259:0")
        .put("sys/dev/block/259:0/nvme0n1p2/partition", "2")
        .put("sys/dev/block/259:0/nvme0n1p2/dev", "259:2")
        .put("proc/self/mountinfo", mounts);
    let report = fake.examine("nvme:fe01:01:00.0", Some(64 << 10));
    for bad in ["in use", "driver", "IOMMU", "locked memory"] {
        assert_eq!(state(&report, bad), State::Bad, "{bad}");
    }
    assert_eq!(state(&report, "device"), State::Good);
    assert_eq!(mend(&report, "in use"), "sudo umount /ab");
    assert_eq!(mend(&report, "driver"), "sudo modprobe vfio-pci\nsudo freehold bind fe01:01:00.0");
    assert!(mend(&report, "IOMMU").contains("intel_iommu=on"));
    assert!(mend(&report, "locked memory").contains("ulimit -l 262144"));
    assert!(!report.0.iter().any(|check| check.what == "opening"), "tried all the same");
    fake.put("sys/bus/pci/drivers/vfio-pci/bind", "");
    let report = fake.examine("nvme:fe01:01:00.0", None);
    assert_eq!(mend(&report, "driver"), "sudo freehold bind fe01:01:00.0");
}

/// All that can be looked at is in order: what is left is to open it, which a machine that is
/// made up does not let happen.
#[test]
fn a_controller_that_is_ready_is_tried() {
    let fake = controller("ready", "vfio-pci");
    fake.put("dev/vfio/7", "").put("dev/vfio/vfio", "");
    for uri in ["nvme:fe01:01:00.0", "pmr:fe01:01:00.0"] {
        let report = fake.examine(uri, None);
        let rest = report.0.iter().filter(|check| check.state == State::Bad);
        let rest: Vec<_> = rest.map(|check| check.what).collect();
        assert_eq!(rest, ["controller"], "{report:?}");
        assert!(!report.passes());
    }
    assert_eq!(state(&fake.examine("pmr:02:00.0", None), "device"), State::Bad);
    assert_eq!(state(&fake.examine("nvme:02:00.0", None), "IOMMU"), State::Good);
}

#[test]
fn what_keeps_a_group_from_being_used_is_named() {
    let fake = controller("group", "vfio-pci");
    let other = "0000:01:00.1";
    let device = format!("sys/bus/pci/devices/{other}");
    fake.put(&format!("{device}/class"), "0x040300\n")
        .link(&format!("{device}/driver"), "../../drivers/snd_hda_intel")
        .put(&format!("sys/kernel/iommu_groups/7/devices/{other}"), "");
    let report = fake.examine("nvme:fe01:01:00.0", None);
    assert_eq!(state(&report, "group"), State::Bad);
    assert!(mend(&report, "group").contains("echo 0000:01:00.1 | sudo tee"), "{report:?}");
    // Nodes that are not there, and one way that is.
    assert_eq!(state(&report, "permission"), State::Bad);
    assert!(mend(&report, "permission").contains("modprobe"));
    fake.put(&format!("sys/bus/pci/devices/{BDF}/vfio-dev/vfio0/dev"), "511:0")
        .put("dev/vfio/devices/vfio0", "")
        .put("dev/iommu", "");
    assert_eq!(state(&fake.examine("nvme:fe01:01:00.0", None), "permission"), State::Good);
    fake.put("sys/kernel/iommu_groups/7/name", "vfio-noiommu");
    assert_eq!(state(&fake.examine("nvme:fe01:01:00.0", None), "IOMMU"), State::Bad);
}

#[test]
fn interrupts_that_are_not_remapped_are_told_of() {
    let fake = controller("interrupts", "vfio-pci");
    assert_eq!(state(&fake.examine("nvme:fe01:01:00.0", None), "interrupts"), State::Good);
    fake.put("proc/interrupts", " 0: 2 IO-APIC 2-edge timer\n");
    let report = fake.examine("nvme:fe01:01:00.0", None);
    assert_eq!(state(&report, "interrupts"), State::Hint);
    assert!(mend(&report, "interrupts").contains("intremap=on"));
    fake.put("sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts", "Y\n");
    assert!(mend(&fake.examine("nvme:fe01:01:00.0", None), "interrupts").contains("to N"));
}

#[test]
fn a_file_that_is_not_there_is_told_how_to_be_made() {
    let fake = Fake::new("file");
    let uri = format!("file:{}/none/store", fake.dir.display()).replace(' ', "%20");
    let report = fake.examine(&uri, None);
    assert_eq!((report.0.len(), state(&report, "place")), (1, State::Bad));
    let commands = mend(&report, "place");
    assert!(commands.contains("mkdir -p '") && commands.contains("freehold format"), "{commands}");
    fake.put("store", "");
    fs::OpenOptions::new()
        .write(true)
        .open(fake.dir.join("store"))
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let report = fake.examine(&uri.replace("none/", ""), None);
    assert_eq!(state(&report, "place"), State::Good);
    assert_eq!(state(&report, "store"), State::Hint, "{report:?}");
    assert!(report.passes());
    let report = fake.examine(&uri.replace("/none/store", ""), None);
    assert_eq!(state(&report, "place"), State::Bad);
}

#[test]
fn a_socket_without_a_server_is_told() {
    let fake = Fake::new("socket");
    let uri = format!("vfio-user:{}/sock", fake.dir.display()).replace(' ', "%20");
    let report = fake.examine(&uri, Some(8 << 20));
    assert_eq!(state(&report, "socket"), State::Bad);
    assert!(mend(&report, "socket").contains("freehold emulate --socket '"));
    assert_eq!(state(&report, "shared memory"), State::Good);
    drop(std::os::unix::net::UnixListener::bind(fake.dir.join("sock")).unwrap());
    let report = fake.examine(&uri, None);
    assert_eq!((state(&report, "socket"), state(&report, "server")), (State::Good, State::Bad));
    assert!(!report.passes());
}

#[test]
fn memory_and_persistent_memory_are_looked_at() {
    let fake = Fake::new("pmem");
    let root = fake.dir.display().to_string().replace(' ', "\\040");
    fake.put("proc/meminfo", "MemTotal: 1 kB\nMemAvailable:    2048 kB\n")
        .put("file", "")
        .put("proc/mounts", &format!("/dev/sda / ext4 rw 0 0\n/dev/pmem0 {root} ext4 rw 0 0\n"));
    assert_eq!(state(&fake.examine("mem:1M", None), "memory"), State::Good);
    assert_eq!(state(&fake.examine("mem:1G", None), "memory"), State::Hint);
    let uri = format!("pmem:{}/file", fake.dir.display()).replace(' ', "%20");
    let report = fake.examine(&uri, None);
    assert_eq!(state(&report, "DAX"), State::Bad);
    assert!(mend(&report, "DAX").contains("mount -o dax /dev/pmem0"), "{report:?}");
    assert_eq!(state(&fake.examine(&format!("{uri}?volatile=1"), None), "DAX"), State::Hint);
    fake.put("proc/mounts", &format!("/dev/pmem0 {root} ext4 rw,dax=always 0 0\n"));
    assert_eq!(state(&fake.examine(&uri, None), "DAX"), State::Good);
}

#[test]
fn paths_are_written_as_a_shell_takes_them() {
    for (path, text) in [("/a/b-1.c", "/a/b-1.c"), ("/a b", "'/a b'"), ("it's", "'it'\\''s'")] {
        assert_eq!(file::quoted(Path::new(path)), text);
    }
}
