//! The whole machine killed in the middle of work, booted again, recovered and checked: what
//! `tests/qemu` does with these, each of which is a boot. QEMU writes to files of the host,
//! whose page cache outlives it: this shows recovery after an end at any moment, and says
//! nothing of a loss of power.

use crate::dax::{fresh, namespaces};
use crate::place::{FIRST, must, namespace, region, second, shared, wait};
use freehold_engine::{FormatOptions, format_target};
use freehold_tests::nvme::killed::{Promises, judge, prepare, work};
use freehold_tests::random::Random;
use std::fs;
use std::path::{Path, PathBuf};

/// Where ext4 is mounted with DAX.
const MOUNTED: &str = "/run/mnt/killed";

/// The stores, and a name for each: a journal beside its store, blocks of 512 bytes, the journal
/// on the region, persistent memory in a file of ext4, and all of a devdax device.
fn stores() -> Vec<(String, &'static str)> {
    vec![
        (namespace(FIRST, 1), "plain"),
        (namespace(&second(), 1), "small"),
        (format!("{}&journal=pmr", namespace(FIRST, 2)), "region"),
        (in_file(), "dax"),
        ("pmem:/dev/dax1.0".to_owned(), "devdax"),
    ]
}

fn in_file() -> String {
    format!("pmem:{MOUNTED}/store?exclusive=1")
}

/// Mounts what was made in the first boot; ext4 has to recover, too.
fn mount() {
    let devices = ["/dev/pmem0", "/dev/dax1.0"];
    wait("persistent memory", || devices.iter().all(|each| Path::new(each).exists()));
    fs::create_dir_all(MOUNTED).expect("a folder");
    must("mount", &["-o", "dax", devices[0], MOUNTED]);
}

fn kept(name: &str) -> PathBuf {
    shared().join(format!("promises-{name}"))
}

/// Works on all stores at once until it is killed with everything.
fn go_on() {
    let stores = stores();
    let works: Vec<_> = stores
        .into_iter()
        .map(|(uri, name)| {
            std::thread::spawn(move || {
                let mut promises = Promises::read_from(&kept(name)).expect("promises");
                let mut random = Random::new(fs::metadata(kept(name)).expect("it is there").len());
                work(&uri, &mut promises, &mut random, u64::MAX, |step| {
                    if step == 20 {
                        fs::write(shared().join(format!("at-work-{name}")), "").expect("a file");
                    }
                });
            })
        })
        .collect();
    for each in works {
        let _ = each.join();
    }
    panic!("the work came to an end by itself");
}

fn judged() {
    for (uri, name) in stores() {
        let mut promises = Promises::read_from(&kept(name)).expect("promises");
        judge(&uri, &mut promises).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

#[test]
fn begins() {
    let force = FormatOptions { force: true, ..FormatOptions::default() };
    drop(format_target(&region(), &force).expect("the region is there"));
    let (device, _) = namespaces();
    must("mkfs.ext4", &["-q", "-F", "-b", "4096", &device]);
    mount();
    drop(fresh(&in_file(), Some(64 << 20)));
    for (uri, name) in stores() {
        prepare(&uri).expect("a new store").keep_in(&kept(name));
    }
    go_on();
}

#[test]
fn goes_on() {
    mount();
    judged();
    go_on();
}

#[test]
fn ends() {
    mount();
    judged();
}
