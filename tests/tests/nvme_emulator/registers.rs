//! Configuration space, registers, enabling, shutting down, resetting.

use freehold_engine::emulator::{Options, Profile};
use freehold_engine::nvme::spec::command::Command;
use freehold_engine::nvme::spec::registers::{
    ACQ, AQA, ASQ, CAP, CC, CMBSZ, CSTS, Cc, Csts, VS, cq_doorbell, sq_doorbell,
};
use freehold_engine::nvme::spec::status::Status;
use freehold_engine::vfio_user::wire;
use freehold_tests::nvme::{Initiator, Served};

fn options() -> Options {
    Options::new("", 1 << 20)
}

#[test]
fn profiles_have_the_registers_of_their_devices() {
    let values = [
        (Profile::Qemu, 0x0040_1820_0f01_07ff, 0x0001_0400),
        (Profile::Spdk, 0x0800_0020_1e01_00ff, 0x0001_0300),
    ];
    for (profile, cap, version) in values {
        let served = Served::new(Options { profile, ..options() });
        let mut nvme = Initiator::connect(&served.socket);
        assert_eq!(nvme.get64(CAP), cap, "{profile:?}");
        assert_eq!(nvme.get32(VS), version, "{profile:?}");
        assert_eq!(nvme.get32(CMBSZ), 0);
    }
}

#[test]
fn registers_are_read_in_any_width_and_reserved_ones_are_zero() {
    let served = Served::new(options());
    let mut nvme = Initiator::connect(&served.socket);
    let cap = nvme.get64(CAP).to_le_bytes();
    for width in [1, 2, 4] {
        for at in (0..8).step_by(width) {
            let bytes = nvme.read_region(0, at as u64, width as u32);
            assert_eq!(bytes, cap[at..at + width], "{width} at {at}");
        }
    }
    nvme.set32(0x24, 0xffff_ffff);
    assert_eq!(nvme.get32(0x24), 0x0fff_0fff, "reserved bits of AQA");
    nvme.set64(ASQ, 0x1234_5678_9abc_dfff);
    assert_eq!(nvme.get64(ASQ), 0x1234_5678_9abc_d000);
    nvme.set32(ACQ + 4, 7);
    assert_eq!(nvme.get64(ACQ), 7 << 32);
    // Read-only, reserved, and in a width that is not allowed.
    nvme.set64(CAP, 0);
    nvme.set32(CSTS, 0xffff_ffff);
    nvme.set32(0x900, 1);
    nvme.write_region(0, AQA, &[1]).unwrap();
    assert_eq!(nvme.get64(CAP).to_le_bytes(), cap);
    assert_eq!((nvme.get32(CSTS), nvme.get32(0x900), nvme.get32(AQA)), (0, 0, 0x0fff_0fff));
}

#[test]
fn what_cannot_be_enabled_is_fatal_until_it_is_disabled() {
    let served = Served::new(options());
    let mut nvme = Initiator::connect(&served.socket);
    nvme.enable();
    let (asq, acq) = (nvme.get64(ASQ), nvme.get64(ACQ));
    let good = Cc(0).with_en(1).with_iosqes(6).with_iocqes(4);
    let bad = [
        ("memory page", good.with_mps(5), 0x001f_001f, asq),
        ("command set", good.with_css(1), 0x001f_001f, asq),
        ("arbitration", good.with_ams(1), 0x001f_001f, asq),
        ("one entry", good, 0x001f_0000, asq),
        ("one completion", good, 0x0000_001f, asq),
        ("a base off its page", good.with_mps(1), 0x001f_001f, asq | 0x1000),
    ];
    for (what, cc, aqa, base) in bad {
        nvme.set32(CC, 0);
        assert_eq!(nvme.get32(CSTS), 0, "{what}");
        nvme.set32(AQA, aqa);
        nvme.set64(ASQ, base);
        nvme.set64(ACQ, acq);
        nvme.set32(CC, cc.0);
        let csts = Csts(nvme.get32(CSTS));
        assert_eq!((csts.cfs(), csts.rdy()), (1, 0), "{what}");
    }
    nvme.enable();
    assert_eq!(nvme.status(Command::get_features(1)), Status::SUCCESS);
}

#[test]
fn an_admin_queue_that_is_not_mapped_is_fatal() {
    let served = Served::new(options());
    let mut nvme = Initiator::connect(&served.socket);
    for (asq, acq) in [(0x7000, nvme_base()), (nvme_base(), 0x7000), (!0xfff, !0xfff)] {
        nvme.set32(CC, 0);
        nvme.set32(AQA, 0x001f_001f);
        nvme.set64(ASQ, asq);
        nvme.set64(ACQ, acq);
        nvme.set32(CC, Cc(0).with_en(1).0);
        assert_eq!(nvme.get32(CSTS), 1);
        nvme.set32(sq_doorbell(0, 0), 1);
        nvme.until(CSTS, |csts| Csts(csts).cfs() == 1);
    }
}

fn nvme_base() -> u64 {
    freehold_tests::nvme::initiator::IOVA
}

#[test]
fn nothing_is_fetched_without_bus_mastering() {
    let served = Served::new(options());
    let mut nvme = Initiator::start(&served.socket);
    nvme.write_region(7, 4, &[0x02, 0x04]).unwrap();
    let mut admin = nvme.admin;
    nvme.push(&mut admin, Command::get_features(1));
    nvme.ring(&admin, 0);
    for _ in 0..50 {
        assert_eq!(nvme.reap(&mut admin), None);
        nvme.get32(CSTS);
    }
    nvme.write_region(7, 4, &[0x06, 0x04]).unwrap();
    assert!(nvme.next(&mut admin).status().is_success());
}

#[test]
fn a_shutdown_completes_and_ends_the_fetching() {
    let served = Served::new(Options { volatile_cache: true, ..options() });
    for how in [1, 2] {
        let mut nvme = Initiator::start(&served.socket);
        let cc = Cc(nvme.get32(CC));
        nvme.set32(CC, cc.with_shn(how).0);
        nvme.until(CSTS, |csts| Csts(csts).shst() == 2);
        assert_eq!(Csts(nvme.get32(CSTS)).rdy(), 1);
        let mut admin = nvme.admin;
        nvme.push(&mut admin, Command::get_features(1));
        nvme.ring(&admin, 0);
        for _ in 0..20 {
            assert_eq!(nvme.reap(&mut admin), None);
            nvme.get32(CSTS);
        }
        nvme.enable();
        assert_eq!(Csts(nvme.get32(CSTS)).shst(), 0);
        assert_eq!(nvme.status(Command::get_features(1)), Status::SUCCESS);
    }
}

#[test]
fn resets_end_all_queues_and_keep_what_is_theirs_to_keep() {
    let served = Served::new(options());
    let mut nvme = Initiator::start(&served.socket);
    nvme.queue(1);
    let asq = nvme.get64(ASQ);
    nvme.set32(CC, 0);
    assert_eq!((nvme.get32(CSTS), nvme.get64(ASQ)), (0, asq), "CC.EN keeps the admin registers");
    nvme.enable();
    assert_eq!(nvme.status(Command::delete_sq(1)), Status::QUEUE_ID);
    nvme.queue(1);
    nvme.ask(wire::Command::Reset, &[], &[]).unwrap();
    assert_eq!((nvme.get32(CC), nvme.get32(CSTS), nvme.get64(ASQ)), (0, 0, 0));
    assert_eq!(nvme.read_region(7, 4, 2), [0, 0], "bus mastering is off after a function reset");
    nvme.write_region(7, 4, &[0x06, 0x04]).unwrap();
    nvme.enable();
    // The same by the PCI Express capability.
    let bytes = nvme.read_region(7, 0, 256);
    let mut at = usize::from(bytes[0x34]);
    while bytes[at] != 0x10 {
        at = usize::from(bytes[at + 1]);
    }
    nvme.write_region(7, at as u64 + 9, &[0x80]).unwrap();
    assert_eq!(nvme.get32(CC), 0);
}

#[test]
fn a_client_that_vanishes_leaves_nothing_behind() {
    let served = Served::new(options());
    for _ in 0..3 {
        let mut nvme = Initiator::start(&served.socket);
        for qid in 1..=3 {
            nvme.queue(qid);
        }
        nvme.set32(cq_doorbell(1, 0), 0);
        drop(nvme);
        let mut next = Initiator::connect(&served.socket);
        assert_eq!((next.get32(CC), next.get32(CSTS), next.get64(ASQ)), (0, 0, 0));
        assert_eq!(next.get32(sq_doorbell(1, 0)), 0);
    }
}
