//! Persistent memory: files on ext4 and XFS that are mounted with DAX, and a devdax device.

use crate::place::{freehold, long, must};
use freehold::{Access, FormatOptions, LeaseOptions, Memory, Store};
use freehold_engine::medium::Medium;
use freehold_engine::{FormatOptions as MediumFormat, format_target};
use freehold_tests::conformance::run_all;
use freehold_tests::leases::stress_on;
use freehold_tests::nvme::killed;
use freehold_tests::random::Random;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

/// Makes the namespaces, once: one for file systems, one as a device.
pub(crate) fn namespaces() -> (String, String) {
    static MADE: Once = Once::new();
    MADE.call_once(|| {
        for (of, mode) in [("namespace0.0", "fsdax"), ("namespace1.0", "devdax")] {
            must("ndctl", &["create-namespace", "-f", "-e", of, "-m", mode, "-M", "mem"]);
        }
    });
    ("/dev/pmem0".into(), "/dev/dax1.0".into())
}

/// Runs something on a file system that is mounted with DAX.
fn mounted(make: &str, args: &[&str], then: impl FnOnce(&str)) {
    let (device, _) = namespaces();
    must(make, &[args, &[&device]].concat());
    let at = format!("/run/mnt/{make}");
    fs::create_dir_all(&at).expect("a folder");
    must("mount", &["-o", "dax", &device, &at]);
    // Also when a test fails: the next one makes another file system there.
    struct Mounted<'a>(&'a str);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            must("umount", &[self.0]);
        }
    }
    let mounted = Mounted(&at);
    then(mounted.0);
}

fn on_ext4(then: impl FnOnce(&str)) {
    mounted("mkfs.ext4", &["-q", "-F", "-b", "4096"], then);
}

fn on_xfs(then: impl FnOnce(&str)) {
    // DAX and reflink of the kernel exclude one another before Linux 6.
    mounted("mkfs.xfs", &["-q", "-f", "-m", "reflink=0"], then);
}

pub(crate) fn fresh(uri: &str, size: Option<u64>) -> Arc<dyn Medium> {
    format_target(uri, &MediumFormat { size, force: true }).expect("it opens")
}

fn all_of_it(folder: &str) {
    let next = AtomicU32::new(0);
    run_all(&|| {
        let n = next.fetch_add(1, Ordering::Relaxed);
        let path = format!("{folder}/conformance{n}");
        let medium = fresh(&format!("pmem:{path}?exclusive=1"), Some(8 << 20));
        fs::remove_file(path).expect("it was made");
        medium
    });
    store_on(&format!("pmem:{folder}/store?exclusive=1"), Some(64 << 20));
}

/// A story, leases under stress, and a lease that is a window.
fn store_on(uri: &str, size: Option<u64>) {
    drop(fresh(uri, size));
    let mut promises = killed::prepare(uri).expect("a new store");
    killed::work(uri, &mut promises, &mut Random::new(5), 200, |_| {});
    killed::judge(uri, &mut promises).expect("it is all there");
    let time = Duration::from_secs(if long() { 60 } else { 4 });
    let totals = stress_on(fresh(uri, size), true, 1, time).unwrap_or_else(|e| panic!("{e}"));
    assert!(totals.leases.load(Ordering::Relaxed) > 20, "hardly a lease was given");

    let store = Store::format(uri, &FormatOptions { force: true, ..FormatOptions::default() });
    let store = store.expect("a store");
    let file = store.create(b"f").expect("a file");
    file.write_at(&[7; 65536], 0).expect("it writes");
    let lease = file.lease(.., Access::Exclusive, &LeaseOptions::default()).expect("a lease");
    let mut buffer = lease.buffer(Memory::Window).expect("a window");
    assert!(buffer.is_window());
    buffer.pin_mut().expect("a pin").slice_mut(5000, 1).expect("one window")[0] = 8;
    drop(buffer);
    drop(lease);
    let mut byte = [0];
    file.read_at(&mut byte, 5000).expect("it reads");
    assert_eq!(byte, [8]);
}

#[test]
fn dax_on_ext4() {
    on_ext4(all_of_it);
}

#[test]
fn dax_on_xfs() {
    on_xfs(all_of_it);
}

#[test]
fn dax_on_a_device() {
    let (_, device) = namespaces();
    let uri = format!("pmem:{device}");
    run_all(&|| fresh(&uri, None));
    store_on(&uri, None);
}

/// A file system without DAX is refused, with the reason.
#[test]
fn dax_files_that_are_not_dax_are_refused() {
    let (device, _) = namespaces();
    must("mkfs.ext4", &["-q", "-F", "-b", "4096", &device]);
    fs::create_dir_all("/run/mnt/plain").expect("a folder");
    must("mount", &["-o", "dax=never", &device, "/run/mnt/plain"]);
    let refused = freehold(&["format", "pmem:/run/mnt/plain/store", "--size", "16M"]);
    must("umount", &["/run/mnt/plain"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("DAX"), "{said}");
}
