//! The Persistent Memory Region: its registers, and what barriers make durable.

use freehold_engine::emulator::{Options, RegionOptions};
use freehold_engine::nvme::spec::registers::{
    CAP, CC, Cap, Cc, PMRCAP, PMRCTL, PMREBS, PMRMSCL, PMRSTS, PMRSWTP, PmrCap, PmrSts,
};
use freehold_tests::nvme::served::fresh_path;
use freehold_tests::nvme::{Initiator, Served};
use std::path::Path;
use std::time::{Duration, Instant};

const SIZE: u64 = 64 << 10;
const BAR: u32 = 4;

fn options(path: &Path) -> Options {
    Options { region: Some(RegionOptions::new(path, SIZE)), ..Options::new("", 1 << 20) }
}

fn at(path: &Path, offset: usize, len: usize) -> Vec<u8> {
    std::fs::read(path).unwrap()[offset..offset + len].to_vec()
}

#[test]
fn the_registers_say_what_there_is() {
    let path = fresh_path("pmr");
    let served = Served::new(options(&path));
    let mut nvme = Initiator::connect(&served.socket);
    assert_eq!(Cap(nvme.get64(CAP)).pmrs(), 1);
    let cap = PmrCap(nvme.get32(PMRCAP));
    assert_eq!((cap.bir(), cap.pmrwbm(), cap.cmss(), cap.rds(), cap.wds()), (4, 2, 0, 0, 0));
    assert_eq!(PmrSts(nvme.get32(PMRSTS)).nrdy(), 1, "it is not enabled");
    nvme.set32(PMRCTL, 0xffff_ffff);
    assert_eq!((nvme.get32(PMRCTL), nvme.get32(PMRSTS)), (1, 0));
    for reserved in [PMREBS, PMRSWTP, PMRMSCL, PMRMSCL + 4] {
        nvme.set32(reserved, 0xffff_ffff);
        assert_eq!(nvme.get32(reserved), 0);
    }
    nvme.set32(PMRSTS, 0xffff_ffff);
    nvme.set32(PMRCAP, 0);
    assert_eq!((nvme.get32(PMRSTS), nvme.get32(PMRCAP)), (0, cap.0));
    // A controller reset leaves it; a client that goes does not.
    nvme.set32(CC, Cc(0).with_en(1).0);
    nvme.set32(CC, 0);
    assert_eq!(nvme.get32(PMRCTL), 1);
    drop(nvme);
    let mut nvme = Initiator::connect(&served.socket);
    assert_eq!(nvme.get32(PMRCTL), 0);
    drop((nvme, served));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn without_a_region_there_are_no_registers_of_one() {
    let served = Served::new(Options::new("", 1 << 20));
    let mut nvme = Initiator::connect(&served.socket);
    nvme.set32(PMRCTL, 1);
    let values = [PMRCAP, PMRCTL, PMRSTS].map(|register| nvme.get32(register));
    assert_eq!((Cap(nvme.get64(CAP)).pmrs(), values), (0, [0; 3]));
}

#[test]
fn it_is_not_ready_before_its_time() {
    let path = fresh_path("pmr");
    let mut options = options(&path);
    let ready_after = Duration::from_millis(80);
    options.region.as_mut().unwrap().ready_after = ready_after;
    let served = Served::new(options);
    let mut nvme = Initiator::connect(&served.socket);
    assert_eq!(PmrCap(nvme.get32(PMRCAP)).pmrto(), 1);
    let begun = Instant::now();
    nvme.set32(PMRCTL, 1);
    nvme.until(PMRSTS, |status| status == 0);
    assert!(begun.elapsed() >= ready_after);
    nvme.set32(PMRCTL, 0);
    assert_eq!(PmrSts(nvme.get32(PMRSTS)).nrdy(), 1);
    drop((nvme, served));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_barrier_puts_what_was_stored_into_the_file() {
    let path = fresh_path("pmr");
    let served = Served::new(Options { volatile_cache: true, ..options(&path) });
    let mut nvme = Initiator::connect(&served.socket);
    nvme.set32(PMRCTL, 1);
    nvme.write_region(BAR, 8192, &[7; 16]).unwrap();
    nvme.get32(PMRSTS);
    assert_eq!(at(&path, 8184, 32), [[0; 8], [7; 8], [7; 8], [0; 8]].concat());
    nvme.write_region(BAR, 40_960, &[9; 8]).unwrap();
    assert_eq!(nvme.read_region(BAR, 40_956, 16), [[0; 4], [9; 4], [9; 4], [0; 4]].concat());
    drop(nvme);
    // The next client finds it, and an end that is asked for makes it durable.
    let mut nvme = Initiator::connect(&served.socket);
    assert_eq!(nvme.read_region(BAR, 40_960, 8), [9; 8]);
    drop(nvme);
    served.end();
    assert_eq!(at(&path, 40_960, 8), [9; 8]);
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn without_a_cache_a_store_is_in_the_file_at_once() {
    let path = fresh_path("pmr");
    let served = Served::new(options(&path));
    let mut nvme = Initiator::connect(&served.socket);
    nvme.write_region(BAR, 0, &[5; 8]).unwrap();
    assert_eq!(at(&path, 0, 8), [5; 8]);
    drop((nvme, served));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn faults_strike_barriers() {
    let path = fresh_path("pmr");
    let faults = vec!["region:err=5,health=2,nth=3".parse().unwrap()];
    let served = Served::new(Options { volatile_cache: true, faults, ..options(&path) });
    let mut nvme = Initiator::connect(&served.socket);
    nvme.set32(PMRCTL, 1);
    assert_eq!((nvme.get32(PMRSTS), nvme.get32(PMRSTS)), (0, 0));
    nvme.write_region(BAR, 0, &[1; 8]).unwrap();
    let bad = PmrSts(0).with_err(5).with_hsts(2).0;
    assert_eq!(nvme.get32(PMRSTS), bad);
    assert_eq!(nvme.get32(PMRSTS), bad, "it stays");
    nvme.set32(PMRCTL, 0);
    nvme.set32(PMRCTL, 1);
    assert_eq!(PmrSts(nvme.get32(PMRSTS)).err(), 0, "until it is disabled");
    drop((nvme, served));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn regions_that_make_no_sense_are_refused() {
    use freehold_engine::emulator::Emulator;
    let path = fresh_path("pmr");
    for size in [0, 1, 2048, 12_288, 1 << 37] {
        let region = Some(RegionOptions::new(&path, size));
        let options = Options { region, ..Options::new(fresh_path("sock"), 1 << 20) };
        assert!(Emulator::new(&options).is_err(), "{size}");
    }
    let first = Served::new(options(&path));
    let second = Options { socket: fresh_path("sock"), ..options(&path) };
    let error = Emulator::new(&second).unwrap_err();
    assert!(error.message().contains("in use"), "{error}");
    drop(first);
    let other = RegionOptions::new(&path, 2 * SIZE);
    let error = Emulator::new(&Options { region: Some(other), ..second }).unwrap_err();
    assert!(error.message().contains("65536 bytes"), "{error}");
    std::fs::remove_file(&path).unwrap();
}
