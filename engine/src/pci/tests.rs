//! Controllers of machines that are made up: a kernel of files, which does what a kernel does
//! when something is written.

use super::*;
use crate::medium::ErrorKind;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const BDF: &str = "0000:01:00.0";

/// A machine in a directory of its own, with one controller that the kernel's driver has.
pub(crate) struct Fake {
    pub(crate) dir: PathBuf,
    pub(crate) machine: Machine,
}

/// What the kernel does about `driver_override`, `unbind` and `drivers_probe`.
fn obey(machine: &Machine, path: &Path, text: &str) {
    let devices = machine.sys.join("bus/pci/devices");
    let driver = |device: &str| devices.join(device).join("driver");
    if path.ends_with("driver_override") {
        // What is read is "(null)" where there is none.
        if text.trim().is_empty() {
            fs::write(path, "(null)\n").unwrap();
        }
    } else if path.ends_with("unbind") {
        fs::remove_file(driver(text)).unwrap();
    } else if path.ends_with("drivers_probe") && !driver(text).exists() {
        let wanted = fs::read_to_string(devices.join(text).join("driver_override")).unwrap();
        let name = if wanted.trim() == "(null)" { "nvme" } else { wanted.trim() };
        if machine.has_driver(name) {
            symlink(format!("../../drivers/{name}"), driver(text)).unwrap();
        }
    }
}

/// A kernel whose vfio-pci takes nothing.
fn refuse(machine: &Machine, path: &Path, text: &str) {
    let wanted = machine.sys.join("bus/pci/devices").join(BDF).join("driver_override");
    let kept = fs::read_to_string(wanted).unwrap().trim() == "vfio-pci";
    if !(path.ends_with("drivers_probe") && kept) {
        obey(machine, path, text);
    }
}

/// A kernel that keeps its driver.
fn cling(machine: &Machine, path: &Path, text: &str) {
    if !path.ends_with("unbind") {
        obey(machine, path, text);
    }
}

/// A kernel that forgets what is written.
fn forget(_: &Machine, path: &Path, _: &str) {
    if path.ends_with("driver_override") {
        fs::write(path, "(null)\n").unwrap();
    }
}

impl Fake {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("freehold-pci-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let mut machine = Machine::of(dir.join("proc"), dir.join("sys"), dir.join("dev"));
        machine.kernel = Some(obey);
        let fake = Self { dir, machine };
        fake.put("proc/swaps", "Filename Type\n").put("proc/self/mountinfo", "");
        for driver in ["nvme", "vfio-pci"] {
            fake.put(&format!("sys/bus/pci/drivers/{driver}/unbind"), "");
        }
        fake.put("sys/bus/pci/drivers_probe", "");
        fake.device(BDF, "0x010802", Some("nvme")).group(BDF, "7");
        let namespace = format!("sys/bus/pci/devices/{BDF}/nvme/nvme0/nvme0n1");
        fake.put(&format!("{namespace}/size"), "1").put("sys/class/block/nvme0n1/dev", "259:0\n");
        fake.put("dev/nvme0n1", "");
        fake
    }

    pub(crate) fn put(&self, path: &str, text: &str) -> &Self {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn link(&self, path: &str, to: &str) -> &Self {
        let path = self.dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        symlink(to, path).unwrap();
        self
    }

    pub(crate) fn device(&self, address: &str, class: &str, driver: Option<&str>) -> &Self {
        let at = format!("sys/bus/pci/devices/{address}");
        self.put(&format!("{at}/class"), &format!("{class}\n"));
        self.put(&format!("{at}/driver_override"), "(null)\n");
        if let Some(driver) = driver {
            self.put(&format!("sys/bus/pci/drivers/{driver}/unbind"), "");
            self.link(&format!("{at}/driver"), &format!("../../drivers/{driver}"));
        }
        self
    }

    pub(crate) fn group(&self, address: &str, number: &str) -> &Self {
        let group = format!("kernel/iommu_groups/{number}");
        self.put(&format!("sys/{group}/devices/{address}"), "");
        self.link(
            &format!("sys/bus/pci/devices/{address}/iommu_group"),
            &format!("../../../../{group}"),
        )
    }

    pub(crate) fn slot(&self) -> Slot {
        Slot::find(&self.machine, BDF).unwrap()
    }

    /// The controller as it is when nothing was done.
    fn is_untouched(&self) {
        let slot = self.slot();
        assert_eq!((slot.driver().as_deref(), slot.driver_override()), (Some("nvme"), None));
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn moved(from: &str, to: &str) -> Moved {
    Moved { from: Some(from.to_owned()), to: to.to_owned() }
}

#[test]
fn a_controller_goes_there_and_back() {
    let fake = Fake::new("there");
    let slot = fake.slot();
    assert!(slot.is_nvme() && !slot.is_given());
    assert_eq!(slot.unbind().unwrap(), moved("nvme", "nvme"), "there is nothing to do");
    assert_eq!(slot.bind().unwrap(), moved("nvme", "vfio-pci"));
    assert!(slot.is_given() && slot.driver_override().as_deref() == Some("vfio-pci"));
    assert_eq!(slot.bind().unwrap(), moved("vfio-pci", "vfio-pci"));
    assert_eq!(slot.unbind().unwrap(), moved("vfio-pci", "nvme"));
    fake.is_untouched();
    // Without any driver it goes as well.
    fs::remove_file(fake.dir.join(format!("sys/bus/pci/devices/{BDF}/driver"))).unwrap();
    assert_eq!(slot.bind().unwrap(), Moved { from: None, to: "vfio-pci".to_owned() });
}

#[test]
fn who_uses_a_namespace_is_named_and_nothing_is_written() {
    let fake = Fake::new("used");
    let refused = |words: &[&str]| {
        let error = fake.slot().bind().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
        for word in words.iter().chain(&[BDF, "nvme0n1"]) {
            assert!(error.message().contains(word), "no {word} in: {error}");
        }
        fake.is_untouched();
    };
    fake.put("proc/self/mountinfo", "27 1 259:0 / /srv/data rw - ext4 /dev/nvme0n1 rw\n");
    refused(&["/srv/data"]);
    fake.put("proc/self/mountinfo", "27 1 259:3 / /home rw - xfs /dev/nvme0n1p2 rw\n")
        .put("sys/dev/block/259:0/nvme0n1p2/partition", "2")
        .put("sys/dev/block/259:0/nvme0n1p2/dev", "259:3");
    refused(&["/home", "nvme0n1p2"]);
    fake.put("proc/self/mountinfo", "").put("sys/dev/block/259:0/holders/md127", "");
    refused(&["md127"]);
    fs::remove_file(fake.dir.join("sys/dev/block/259:0/holders/md127")).unwrap();
    fake.put("sys/dev/block/259:3/holders/dm-0", "");
    refused(&["dm-0", "nvme0n1p2"]);
    fs::remove_file(fake.dir.join("sys/dev/block/259:3/holders/dm-0")).unwrap();
    let backing = fake.dir.join("dev/nvme0n1").display().to_string();
    fake.put("proc/swaps", &format!("Filename Type\n{backing} partition 1 0 -2\n"));
    refused(&["swap"]);
    fake.put("proc/swaps", "").put("sys/block/loop3/loop/backing_file", &format!("{backing}\n"));
    refused(&["loop3"]);
    fs::remove_file(fake.dir.join("sys/block/loop3/loop/backing_file")).unwrap();
    fake.slot().bind().unwrap();
}

#[test]
fn a_namespace_of_several_controllers_is_looked_for_by_its_one_name() {
    let fake = Fake::new("paths");
    let of = format!("sys/bus/pci/devices/{BDF}/nvme/nvme0");
    fake.put(&format!("{of}/nvme3c0n2/size"), "1").put(&format!("{of}/hwmon1"), "");
    fake.put(&format!("{of}/nvme0c"), "").put(&format!("{of}/ng0n1"), "");
    assert_eq!(fake.slot().disks(), ["nvme0n1", "nvme3n2"]);
    fake.put("sys/class/block/nvme3n2/dev", "259:9");
    fake.put("proc/self/mountinfo", "27 1 259:9 / /multi rw - ext4 /dev/nvme3n2 rw\n");
    assert!(fake.slot().bind().unwrap_err().message().contains("/multi"));
}

#[test]
fn what_is_no_controller_or_has_no_iommu_is_left_alone() {
    let fake = Fake::new("alone");
    let missing = Slot::find(&fake.machine, "0000:09:00.0").unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.message().contains(BDF), "it does not say what there is: {missing}");
    let graphics = "0000:02:00.0";
    fake.device(graphics, "0x030000", Some("nvidia")).group(graphics, "8");
    let slot = Slot::find(&fake.machine, graphics).unwrap();
    for refused in [slot.bind(), slot.unbind()] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        assert!(refused.message().contains("0x030000"), "{refused}");
    }
    assert_eq!(slot.driver().as_deref(), Some("nvidia"));

    let link = fake.dir.join(format!("sys/bus/pci/devices/{BDF}/iommu_group"));
    fs::remove_file(&link).unwrap();
    assert!(fake.slot().bind().unwrap_err().message().contains("IOMMU"));
    fake.group(BDF, "7").put("sys/kernel/iommu_groups/7/name", "vfio-noiommu\n");
    assert!(fake.slot().group().unwrap().unsafe_mode);
    assert!(fake.slot().bind().unwrap_err().message().contains("IOMMU"));
    fake.put("sys/kernel/iommu_groups/7/name", "\n");
    fs::remove_dir_all(fake.dir.join("sys/bus/pci/drivers/vfio-pci")).unwrap();
    assert!(fake.slot().bind().unwrap_err().message().contains("modprobe vfio-pci"));
    fake.is_untouched();
}

#[test]
fn what_fails_half_way_is_taken_back() {
    let mut fake = Fake::new("half");
    fake.machine.kernel = Some(refuse);
    let error = fake.slot().bind().unwrap_err();
    assert!(error.message().contains("did not take it"), "{error}");
    assert!(error.message().contains("nvme has the device"), "{error}");
    fake.is_untouched();

    fake.machine.kernel = Some(cling);
    let error = fake.slot().bind().unwrap_err();
    assert!(error.message().contains("does not let it go"), "{error}");
    fake.is_untouched();

    fake.machine.kernel = Some(forget);
    let error = fake.slot().bind().unwrap_err();
    assert!(error.message().contains("driver_override"), "{error}");
    fake.is_untouched();
}

#[test]
fn a_program_that_has_the_controller_is_named() {
    let fake = Fake::new("program");
    fake.slot().bind().unwrap();
    let node = fake.dir.join("dev/vfio/7").display().to_string();
    fake.put("dev/vfio/7", "").put("proc/41/comm", "other\n").put("proc/42/comm", "database\n");
    fake.link("proc/41/fd/3", "/dev/null").link("proc/42/fd/9", &node);
    let error = fake.slot().unbind().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy);
    assert!(error.message().contains("process 42 (database)"), "{error}");
    assert!(fake.slot().is_given());
    fs::remove_dir_all(fake.dir.join("proc/42")).unwrap();
    // By the node of its own, too.
    let node = fake.dir.join("dev/vfio/devices/vfio0").display().to_string();
    fake.put(&format!("sys/bus/pci/devices/{BDF}/vfio-dev/vfio0/dev"), "511:0");
    fake.link("proc/41/fd/3", &node);
    assert!(fake.slot().unbind().unwrap_err().message().contains("process 41 (other)"));
    fs::remove_dir_all(fake.dir.join("proc/41")).unwrap();
    assert_eq!(fake.slot().unbind().unwrap(), moved("vfio-pci", "nvme"));
}

#[test]
fn a_driver_that_is_not_there_cannot_take_it_back() {
    let fake = Fake::new("none");
    fake.slot().bind().unwrap();
    fs::remove_dir_all(fake.dir.join("sys/bus/pci/drivers/nvme")).unwrap();
    let error = fake.slot().unbind().unwrap_err();
    assert!(error.message().contains("modprobe nvme"), "{error}");
    assert_eq!(fake.slot().driver(), None);
}

#[test]
fn groups_say_who_is_in_the_way() {
    let fake = Fake::new("group");
    fake.device("0000:00:01.0", "0x060400", Some("pcieport")).group("0000:00:01.0", "7");
    fake.device("0000:00:1f.0", "0x060100", Some("lpc_ich")).group("0000:00:1f.0", "7");
    fake.device("0000:01:00.1", "0x040300", Some("snd_hda_intel")).group("0000:01:00.1", "7");
    fake.device("0000:01:00.2", "0x0c0330", None).group("0000:01:00.2", "7");
    fake.device("0000:01:00.3", "0x0c0330", Some("mlx5_vfio_pci")).group("0000:01:00.3", "7");
    let group = fake.slot().group().unwrap();
    assert_eq!((group.number.as_str(), group.unsafe_mode, group.devices.len()), ("7", false, 6));
    let way = group.devices.iter().filter(|device| device.is_in_the_way());
    let way: Vec<_> = way.map(|device| device.address.as_str()).collect();
    assert_eq!(way, [BDF, "0000:01:00.1"]);
}

#[test]
fn the_machine_tells_of_interrupts() {
    let fake = Fake::new("interrupts");
    assert!(fake.machine.has_iommu());
    assert!(!fake.machine.remaps_interrupts() && !fake.machine.allows_unsafe_interrupts());
    fake.put("proc/interrupts", "  0:  2  IO-APIC    2-edge      timer\n");
    assert!(!fake.machine.remaps_interrupts());
    fake.put("proc/interrupts", "  0:  2  IR-IO-APIC    2-edge      timer\n");
    assert!(fake.machine.remaps_interrupts());
    let parameter = "sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts";
    fake.put(parameter, "N\n");
    assert!(!fake.machine.allows_unsafe_interrupts());
    fake.put(parameter, "Y\n");
    assert!(fake.machine.allows_unsafe_interrupts());
}
