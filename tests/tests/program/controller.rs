//! `bind`, `unbind`, `doctor` and opening by a PCI address, on a machine that need have neither
//! a controller nor VFIO. Nothing here changes the machine: what is named is not there, or is
//! no NVMe controller. What changes something is tested in the guest of `tests/qemu`.

use crate::program::harness::Place;
use serde_json::Value;

/// An address that no machine has.
const NOWHERE: &str = "ffff:ff:1f.7";

#[test]
fn addresses_that_are_none_are_refused() {
    let place = Place::empty();
    for verb in ["bind", "unbind"] {
        for (name, what) in [
            ("nonsense", "PCI address"),
            ("0000:01:20.0", "PCI address"),
            ("vfio-user:sock", "PCI address"),
            ("pmr:vfio-user:sock", "not on the PCI bus"),
            ("nvme:01:00.0?qd=3", "no key 'qd'"),
            (NOWHERE, "no PCI device ffff:ff:1f.7"),
            ("nvme:ffff:ff:1f.7", "no PCI device ffff:ff:1f.7"),
            ("FF:1F.7", "0000:ff:1f.7"),
        ] {
            place.run([verb, name]).refused(2, what);
        }
    }
}

#[test]
fn a_controller_that_is_not_there_is_said_so_by_every_verb() {
    let place = Place::empty();
    place.local("file", b"bytes");
    for scheme in ["nvme", "pmr"] {
        let uri = format!("{scheme}:{NOWHERE}");
        for run in [
            vec!["ls", &uri],
            vec!["info", &uri],
            vec!["format", &uri],
            vec!["format", &uri, "--force"],
            vec!["check", &uri],
            vec!["put", &uri, "file", "name"],
        ] {
            place.run(run).refused(2, NOWHERE);
        }
        place.run(["format", &uri, "--size", "1G"]).refused(2, "takes none");
    }
    let journal = format!("nvme:{NOWHERE}?journal=pmr");
    place.run(["format", &journal]).refused(2, NOWHERE);
}

#[test]
fn the_doctor_says_what_a_controller_needs() {
    let place = Place::empty();
    for uri in [format!("nvme:{NOWHERE}"), format!("pmr:{NOWHERE}")] {
        let ran = place.run(["doctor", &uri, "--json"]);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!(report["ok"], false);
        let checks = report["checks"].as_array().unwrap();
        let of = |name: &str| checks.iter().find(|check| check["check"] == name).unwrap();
        assert_eq!(of("device")["state"], "missing", "{report}");
        assert!(of("device")["mend"].as_str().unwrap().contains("lspci"), "{report}");
        assert!(["ok", "missing"].contains(&of("IOMMU")["state"].as_str().unwrap()), "{report}");
    }
}

/// What is on this machine's bus and is no NVMe controller is left alone. Tried with bridges,
/// which a program that forgot itself would do the least harm to.
#[test]
fn other_devices_are_never_touched() {
    let place = Place::empty();
    let mut seen = 0;
    for entry in std::fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten() {
        let class = std::fs::read_to_string(entry.path().join("class")).unwrap_or_default();
        if !class.starts_with("0x06") {
            continue;
        }
        seen += 1;
        let before = std::fs::read_link(entry.path().join("driver")).ok();
        let name = entry.file_name().into_string().unwrap();
        for verb in ["bind", "unbind"] {
            place.run([verb, &name]).refused(2, "no NVMe controller");
        }
        assert_eq!(std::fs::read_link(entry.path().join("driver")).ok(), before);
    }
    eprintln!("{seen} bridges");
}
