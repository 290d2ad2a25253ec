//! The doctor on systems that are made up.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const BDF: &str = "0000:01:00.0";

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

#[test]
fn a_controller_that_the_kernel_has_is_told_how_to_be_had() {
    let fake = Fake::new("kernel");
    let device = format!("sys/bus/pci/devices/{BDF}");
    fake.put(&format!("{device}/class"), "0x010802\n")
        .link(&format!("{device}/driver"), "../../../../bus/pci/drivers/nvme")
        .put(&format!("{device}/nvme/nvme0/nvme0n1/size"), "1")
        .put(
            "proc/mounts",
            "/dev/nvme0n10 /ten ext4 rw 0 0\n/dev/nvme0n1p2 /a\\040b ext4 rw 0 0\n",
        );
    let report = fake.examine("nvme:0000:01:00.0", Some(64 << 10));
    for bad in ["in use", "driver", "IOMMU", "locked memory"] {
        assert_eq!(state(&report, bad), State::Bad, "{bad}");
    }
    assert_eq!(state(&report, "device"), State::Good);
    assert_eq!(mend(&report, "in use"), "sudo umount '/a b'");
    let bind = mend(&report, "driver");
    let order = ["modprobe vfio-pci", "driver_override", "driver/unbind", "drivers_probe"];
    let places: Vec<_> = order.iter().map(|word| bind.find(word).expect(word)).collect();
    assert!(places.is_sorted(), "{bind}");
    assert!(mend(&report, "IOMMU").contains("intel_iommu=on"));
    assert!(mend(&report, "locked memory").contains("ulimit -l 262144"));
}

#[test]
fn a_controller_that_is_ready_lacks_only_what_is_not_built() {
    let fake = Fake::new("ready");
    let device = format!("sys/bus/pci/devices/{BDF}");
    fake.put(&format!("{device}/class"), "0x010802\n")
        .link(&format!("{device}/driver"), "../../../../bus/pci/drivers/vfio-pci")
        .put("sys/kernel/iommu_groups/7/devices/it", "")
        .link(&format!("{device}/iommu_group"), "../../../../kernel/iommu_groups/7")
        .put("dev/vfio/7", "")
        .put("proc/mounts", "");
    let report = fake.examine("nvme:01:00.0", None);
    let rest = report.0.iter().filter(|check| check.state != State::Good);
    let rest: Vec<_> = rest.map(|check| (check.what, check.state)).collect();
    assert_eq!(rest, [("opening", State::Later)]);
    assert!(!report.passes());
    let missing = fake.examine("pmr:02:00.0", None);
    assert_eq!(state(&missing, "device"), State::Bad);
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
