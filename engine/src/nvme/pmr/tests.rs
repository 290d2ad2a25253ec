//! What the registers of a region may say, right or hostile.

use super::{Abilities, Barrier, Health, abilities, health, judge};
use crate::medium::ErrorKind;
use crate::nvme::spec::registers::{Cap, PmrCap, PmrSts};
use std::time::Duration;

fn capable() -> PmrCap {
    PmrCap(0).with_bir(4).with_pmrwbm(2)
}

fn read(pmr: PmrCap) -> crate::medium::Result<Abilities> {
    abilities(Cap(0).with_pmrs(1), pmr)
}

#[test]
fn sound_capabilities_are_believed() {
    // As QEMU 7.2 has it: RDS, WDS, BIR 4, PMRWBM 2, CMSS.
    let qemu = read(PmrCap(0x0100_0898)).unwrap();
    let ready = Duration::from_millis(500);
    assert_eq!(qemu, Abilities { bar: 4, barrier: Barrier::Status, ready });
    assert_eq!(read(capable().with_pmrwbm(3)).unwrap().barrier, Barrier::Status);
    assert_eq!(read(capable().with_pmrwbm(1)).unwrap().barrier, Barrier::Region);
    assert_eq!(read(capable().with_pmrto(20)).unwrap().ready, Duration::from_secs(10));
    let minutes = capable().with_pmrtu(1);
    assert_eq!(read(minutes.with_pmrto(2)).unwrap().ready, Duration::from_secs(120));
    assert_eq!(read(minutes.with_pmrto(255)).unwrap().ready, Duration::from_secs(600));
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let cases = [
        ("PMRCAP.BIR", capable().with_bir(0)),
        ("PMRCAP.BIR", capable().with_bir(1)),
        ("PMRCAP.BIR", capable().with_bir(6)),
        ("PMRCAP.BIR", capable().with_bir(7)),
        ("PMRWBM", capable().with_pmrwbm(0)),
        ("PMRWBM", capable().with_pmrwbm(0b1100)),
        ("PMRTU", capable().with_pmrtu(2)),
        ("PMRTU", capable().with_pmrtu(3)),
    ];
    for (name, pmr) in cases {
        let error = read(pmr).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains(name), "{error}");
    }
    let none = abilities(Cap(0), capable()).unwrap_err();
    assert!(none.message().contains("CAP.PMRS"), "{none}");
}

#[test]
fn each_status_has_one_meaning() {
    assert_eq!(health(0).unwrap(), Some(Health::Sound));
    assert_eq!(health(PmrSts(0).with_nrdy(1).with_err(9).0).unwrap(), None);
    assert_eq!(health(u32::MAX).unwrap_err().kind(), ErrorKind::Gone);
    for (value, kind) in [(1, Health::NotRestored), (2, Health::ReadOnly), (3, Health::Unreliable)]
    {
        assert_eq!(health(PmrSts(0).with_hsts(value).0).unwrap(), Some(kind));
    }
    for value in 4..8 {
        assert_eq!(health(PmrSts(0).with_hsts(value).0).unwrap_err().kind(), ErrorKind::Io);
    }
    for value in 1..256 {
        assert_eq!(health(PmrSts(0).with_err(value).0).unwrap_err().kind(), ErrorKind::Io);
    }
    // The base address is not used: what is said of it does not matter.
    assert!(judge(PmrSts(0).with_cbai(1).0, Health::Sound).is_ok());
    assert!(judge(PmrSts(0).with_hsts(1).0, Health::Sound).is_err());
    assert!(judge(PmrSts(0).with_hsts(1).0, Health::NotRestored).is_ok());
}

/// Whatever the registers say, the answer is a use that is bounded, or an error; and a
/// barrier succeeds for no status but a sound one.
#[test]
fn any_values_are_data() {
    let mut state = 7u64;
    for _ in 0..20_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let value = (state >> 32) as u32;
        if let Ok(able) = abilities(Cap(state | 1 << 56), PmrCap(value)) {
            assert!((2..=5).contains(&able.bar));
            assert!(able.ready <= Duration::from_secs(600));
        }
        if judge(value, Health::Sound).is_ok() {
            assert_eq!(value & 0xfff, 0, "PMRSTS {value:08x}h");
        }
    }
}
