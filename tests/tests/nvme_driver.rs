//! The NVMe driver on the emulated controller: the medium contract, and what the driver
//! does when commands are late, lost, or answered wrongly.

mod nvme_driver {
    pub(crate) mod served;
    pub(crate) mod trouble;
}

use freehold_engine::emulator::{Options, Profile};
use freehold_tests::conformance::run_all;
use nvme_driver::served::{Served, options};
use std::sync::Mutex;

/// Runs the suite; each medium on an emulator of its own, all of which end with it.
fn conforms(make: impl Fn() -> Options) {
    let served = Mutex::new(Vec::new());
    run_all(&|| {
        let one = Served::new(make());
        let medium = one.open();
        served.lock().expect("no holder panics").push(one);
        medium
    });
}

#[test]
fn conformance_with_blocks_of_4096() {
    conforms(|| Options { lba: 4096, ..options() });
}

#[test]
fn conformance_with_blocks_of_512_and_prps() {
    conforms(|| Options { sgl: false, ..options() });
}

#[test]
fn conformance_without_shadow_doorbells() {
    conforms(|| Options { shadow_doorbells: false, volatile_cache: true, ..options() });
}

#[test]
fn conformance_as_qemu() {
    conforms(|| Options { profile: Profile::Qemu, lba: 4096, ..options() });
}

#[test]
fn conformance_as_spdk() {
    conforms(|| Options { profile: Profile::Spdk, ..options() });
}
