//! What can be held against the transport on a machine without VFIO: what it says when
//! something is missing, what it refuses by itself, and which way it takes. What only a device
//! can show is shown in the guest of tests/qemu.

use super::function::check_map;
use super::space::{Unmapped, choose, place};
use super::uapi::Request;
use super::{Interface, Options, Vfio, refusal};
use crate::bus::{DmaAccess, DmaLimits, DmaMap};
use crate::medium::{ErrorKind, Result};
use crate::pci::tests::Fake;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const BDF: &str = "0000:01:00.0";

fn refused<T>(result: Result<T>, kind: ErrorKind, words: &[&str]) {
    let Err(error) = result else { panic!("it was not refused") };
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.message().contains(word), "no '{word}' in: {error}");
    }
}

#[test]
fn each_thing_that_is_missing_is_said_with_what_mends_it() {
    let fake = Fake::new("missing");
    let open = |address: &str| Vfio::open_at(&fake.machine, address, Options::default());
    refused(open("0000:77:00.0"), ErrorKind::NotFound, &["0000:77:00.0", BDF]);
    refused(open(BDF), ErrorKind::Unsupported, &[BDF, "nvme", "freehold bind 0000:01:00.0"]);
    fs::remove_dir_all(fake.dir.join("sys/bus/pci/drivers/vfio-pci")).unwrap();
    refused(open(BDF), ErrorKind::Unsupported, &["modprobe vfio-pci"]);
    fake.device(BDF, "0x010802", None);
    fs::remove_file(fake.dir.join(format!("sys/bus/pci/devices/{BDF}/driver"))).unwrap();
    refused(open(BDF), ErrorKind::Unsupported, &["no driver"]);
    // Given, and nothing in /dev.
    fake.device(BDF, "0x010802", Some("vfio-pci"));
    refused(open(BDF), ErrorKind::NotFound, &["vfio/vfio", "modprobe vfio-pci"]);
    // Nodes that are none.
    fake.put("dev/vfio/vfio", "").put("dev/vfio/7", "");
    refused(open(BDF), ErrorKind::Unsupported, &["ApiVersion", "does not know"]);
    fake.put("sys/kernel/iommu_groups/7/name", "vfio-noiommu\n");
    refused(open(BDF), ErrorKind::Unsupported, &["no-IOMMU"]);
    fs::remove_file(fake.dir.join(format!("sys/bus/pci/devices/{BDF}/iommu_group"))).unwrap();
    refused(open(BDF), ErrorKind::Unsupported, &["no IOMMU", "not for this device"]);
    fs::remove_dir_all(fake.dir.join("sys/kernel/iommu_groups")).unwrap();
    refused(open(BDF), ErrorKind::Unsupported, &["intel_iommu=on"]);
}

#[test]
fn each_error_number_has_its_words() {
    let fake = Fake::new("words");
    let slot = fake.slot();
    let node = |errno| Err::<(), _>(refusal::node(&slot, Path::new("/dev/vfio/7"), errno));
    refused(node(Errno::NOENT), ErrorKind::NotFound, &["modprobe vfio-pci", "freehold bind"]);
    refused(node(Errno::NODEV), ErrorKind::NotFound, &["modprobe vfio-pci"]);
    refused(node(Errno::ACCESS), ErrorKind::Permission, &["chown USER /dev/vfio/7", "udev"]);
    refused(node(Errno::BUSY), ErrorKind::Busy, &["another process", "fuser -v /dev/vfio/7"]);
    refused(node(Errno::MFILE), ErrorKind::Limit, &["ulimit -n"]);
    let asked = |request, errno| Err::<(), _>(refusal::request(&slot, request, errno));
    for request in [Request::SetIommu, Request::AttachPageTable] {
        let words = ["allow_unsafe_interrupts", "intremap=on"];
        refused(asked(request, Errno::PERM), ErrorKind::Unsupported, &words);
    }
    refused(asked(Request::BindIommufd, Errno::BUSY), ErrorKind::Busy, &["another process"]);
    refused(asked(Request::MapDma, Errno::NOMEM), ErrorKind::Limit, &["ulimit -l"]);
    refused(asked(Request::DeviceReset, Errno::NODEV), ErrorKind::Gone, &["DeviceReset"]);
    refused(asked(Request::RegionInfo, Errno::IO), ErrorKind::Io, &["dmesg"]);

    fake.device("0000:01:00.1", "0x040300", Some("snd_hda_intel")).group("0000:01:00.1", "7");
    fake.device("0000:00:01.0", "0x060400", Some("pcieport")).group("0000:00:01.0", "7");
    let error = refusal::not_viable(&slot, &slot.group().unwrap());
    assert!(!error.message().contains("pcieport"), "{error}");
    refused(Err::<(), _>(error), ErrorKind::Busy, &["group 7", "0000:01:00.1 (snd_hda_intel)"]);
}

/// Whole mappings: what the kernel took is what was asked for, or nothing is believed.
#[test]
fn m4_memory_is_back_only_when_all_of_it_was_unmapped() {
    assert_eq!(Unmapped::judge(Ok(0), 8192, 8192), Ok(()));
    for done in [0, 4096, 8191, 12288] {
        assert_eq!(Unmapped::judge(Ok(0), done, 8192), Err(Unmapped::Partly(done)));
    }
    let refused = Unmapped::judge(Err(Errno::INVAL), 8192, 8192);
    assert_eq!(refused, Err(Unmapped::Refused(Errno::INVAL)));
    let error = Unmapped::Partly(4096).error(BDF, 0x10_0000, 8192);
    assert!(["8192", "4096", "0x100000", BDF].iter().all(|w| error.message().contains(w)));
}

#[test]
fn maps_that_the_iommu_cannot_make_are_refused_before_it_is_asked() {
    let ranges = vec![0..0xfee0_0000, 0xfef0_0000..1 << 39];
    let limits = DmaLimits { ranges, page_sizes: !0xfff, max_maps: 2, foreign_memory: true };
    let mut maps = BTreeMap::new();
    let check = |maps: &BTreeMap<u64, u64>, iova, len, address| {
        let map = DmaMap { iova, len, address, file: None, access: DmaAccess::ReadWrite };
        check_map(&limits, maps, &map)
    };
    check(&maps, 0x10_0000, 0x2000, 0x7000).unwrap();
    check(&maps, 0xfedf_f000, 0x1000, 0x7000).unwrap();
    for (iova, len, address) in [
        (0x10_0000, 0, 0x7000),
        (0x10_0000, 100, 0x7000),
        (0x10_0100, 0x1000, 0x7000),
        (0x10_0000, 0x1000, 0x7010),
        // The window of interrupts: in it, into it, over it.
        (0xfee0_0000, 0x1000, 0x7000),
        (0xfedf_f000, 0x2000, 0x7000),
        (0xfedf_f000, 0x20_0000, 0x7000),
        ((1 << 39) - 0x1000, 0x2000, 0x7000),
        (u64::MAX - 0xfff, 0x1000, 0x7000),
    ] {
        refused(check(&maps, iova, len, address), ErrorKind::Invalid, &[]);
    }
    maps.insert(0x10_0000, 0x2000);
    for iova in [0x0f_f000, 0x10_0000, 0x10_1000] {
        refused(check(&maps, iova, 0x2000, 0x7000), ErrorKind::Invalid, &["already"]);
    }
    check(&maps, 0x10_2000, 0x2000, 0x7000).unwrap();
    maps.insert(0x20_0000, 0x1000);
    refused(check(&maps, 0x10_2000, 0x2000, 0x7000), ErrorKind::Limit, &[]);
}

#[test]
fn the_newest_way_that_is_there_is_taken() {
    let fake = Fake::new("way");
    fake.slot().bind().unwrap();
    let slot = fake.slot();
    let node = fake.dir.join("dev/vfio/devices/vfio0");
    let none = choose(&slot, Interface::Iommufd);
    refused(none, ErrorKind::Unsupported, &["CONFIG_VFIO_DEVICE_CDEV"]);
    assert_eq!(choose(&slot, Interface::Best).unwrap(), None);
    // The kernel has it, but for /dev/iommu.
    fake.put(&format!("sys/bus/pci/devices/{BDF}/vfio-dev/vfio0/dev"), "511:0");
    fake.put("dev/vfio/devices/vfio0", "").put("dev/vfio/7", "");
    assert_eq!(choose(&slot, Interface::Best).unwrap(), None);
    fake.put("dev/iommu", "");
    assert_eq!(choose(&slot, Interface::Best).unwrap().as_ref(), Some(&node));
    assert_eq!(choose(&slot, Interface::Iommufd).unwrap().as_ref(), Some(&node));
    assert_eq!(choose(&slot, Interface::Group).unwrap(), None);
    // A node that is not there, and a group that is.
    fs::remove_file(&node).unwrap();
    assert_eq!(choose(&slot, Interface::Best).unwrap(), None);
    fs::remove_file(fake.dir.join("dev/vfio/7")).unwrap();
    assert_eq!(choose(&slot, Interface::Best).unwrap().as_ref(), Some(&node));
}

#[test]
fn devices_of_a_group_have_shares_of_its_addresses() {
    let fake = Fake::new("shares");
    let slot = fake.slot();
    assert_eq!(place(&slot, &slot.group().unwrap()), (0, 1));
    fake.device("0000:00:01.0", "0x060400", Some("pcieport")).group("0000:00:01.0", "7");
    assert_eq!(place(&slot, &slot.group().unwrap()), (0, 1));
    for other in ["0000:00:09.0", "0000:02:00.0"] {
        fake.device(other, "0x010802", Some("vfio-pci")).group(other, "7");
    }
    assert_eq!(place(&slot, &slot.group().unwrap()), (1, 3));
}
