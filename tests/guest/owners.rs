//! The kernel's driver and ours, one after the other: neither takes what the other has, and
//! nothing is lost on the way.

use crate::place::{
    FIRST, bound, driver, freehold, freehold_must, must, namespace, run, second, wait,
};
use freehold::{FormatOptions, OpenOptions, Store};
use std::fs;
use std::os::unix::fs::FileExt;

/// The kernel's block device of a namespace, when its driver has the controller.
fn block_device(bdf: &str, ns: u32) -> String {
    let folder = format!("/sys/bus/pci/devices/{bdf}/nvme");
    let mut found = None;
    wait("the kernel's block device", || {
        let Some(name) = fs::read_dir(&folder).ok().and_then(|mut all| all.next()?.ok()) else {
            return false;
        };
        let path = format!("/dev/{}n{ns}", name.file_name().to_string_lossy());
        let there = fs::metadata(&path).is_ok();
        found = Some(path);
        there
    });
    found.expect("it was found")
}

fn unbound(bdf: &str) {
    if driver(bdf).as_deref() != Some("nvme") {
        freehold_must(&["unbind", bdf]);
    }
    wait("the kernel's driver", || driver(bdf).as_deref() == Some("nvme"));
}

/// What our driver wrote the kernel's reads, block for block; and back again.
#[test]
fn vfio_data_are_intact_from_driver_to_driver() {
    let uri = namespace(FIRST, 1);
    let options = FormatOptions { force: true, ..FormatOptions::default() };
    let store = Store::format(&uri, &options).expect("a store");
    let file = store.create(b"f").expect("a file");
    let bytes: Vec<u8> = (0..300_000u32).map(|i| (i / 3) as u8).collect();
    file.write_at(&bytes, 0).expect("it writes");
    file.sync().expect("it syncs");
    let map = file.iomap(0, bytes.len() as u64).expect("its map");
    store.check().expect("it can be checked");
    drop(file);
    store.close().expect("it closes");

    unbound(FIRST);
    let device = fs::File::open(block_device(FIRST, 1)).expect("the kernel has it");
    let mut seen = 0;
    for extent in &map {
        let Some(at) = extent.address else { continue };
        let mut there = vec![0; extent.length as usize];
        device.read_exact_at(&mut there, at).expect("it reads");
        let wanted = &bytes[extent.offset as usize..];
        let len = wanted.len().min(there.len());
        assert!(there[..len] == wanted[..len], "at {at}");
        seen += len;
    }
    assert_eq!(seen, bytes.len());
    drop(device);

    bound(FIRST);
    let store = Store::open(&uri, &OpenOptions::default()).expect("it opens again");
    let mut back = vec![0; bytes.len()];
    store.open_file(b"f").expect("a file").read_at(&mut back, 0).expect("it reads");
    assert!(back == bytes);
    store.close().expect("it closes");
}

/// A file system of the kernel is not overwritten without force, and is named; neither is a
/// store that the kernel's driver shows as a block device.
#[test]
fn vfio_neither_side_formats_over_the_other() {
    unbound(FIRST);
    let device = block_device(FIRST, 4);
    must("mkfs.ext4", &["-q", "-F", &device]);
    let uri = namespace(FIRST, 4);
    let refused = freehold(&["format", &uri]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("ext4"), "{said}");
    freehold_must(&["format", &uri, "--force"]);

    unbound(FIRST);
    let uri = format!("file:{}", block_device(FIRST, 4));
    let refused = freehold(&["format", &uri]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("Freehold"), "{said}");
    // Nor does one of the kernel's, which knows nothing of us: a superblock looks like a table of
    // partitions to it.
    let device = block_device(FIRST, 4);
    let refused = run("mkfs.xfs", &["-q", &device]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("partition table"), "{said}");
    // The same store, through the kernel's driver.
    freehold_must(&["check", &uri]);
    bound(FIRST);
}

/// A controller whose namespace is mounted stays with the kernel.
#[test]
fn vfio_a_mounted_controller_is_not_taken() {
    let bdf = second();
    unbound(&bdf);
    let device = block_device(&bdf, 1);
    must("mkfs.ext4", &["-q", "-F", &device]);
    fs::create_dir_all("/run/mnt/second").expect("a folder");
    must("mount", &[&device, "/run/mnt/second"]);
    let refused = freehold(&["bind", &bdf]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    must("umount", &["/run/mnt/second"]);
    assert!(!refused.status.success() && said.contains("mounted"), "{said}");
    assert_eq!(driver(&bdf).as_deref(), Some("nvme"));
    let said =
        String::from_utf8_lossy(&freehold(&["info", &format!("nvme:{bdf}")]).stderr).into_owned();
    assert!(said.contains(&format!("freehold bind {bdf}")), "{said}");
    bound(&bdf);
}

/// While a process has the controller, another is told who is in the way, and no verb takes it
/// from under it.
#[test]
fn vfio_a_controller_in_use_is_not_taken() {
    let uri = namespace(FIRST, 1);
    let options = FormatOptions { force: true, ..FormatOptions::default() };
    let store = Store::format(&uri, &options).expect("a store");
    let second = freehold(&["info", &uri]);
    assert!(!second.status.success(), "two processes have one controller");
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("process"), "{said}");
    store.create(b"f").expect("it goes on").write_at(b"well", 0).expect("it goes on");
    store.close().expect("it closes");
    assert!(freehold(&["doctor", &uri]).status.success());
}
