//! The layouts against images written by hand, and every field both ways.

use super::command::{Command, Cqe, admin, nvm};
use super::feature::{AsyncEvent, Queues};
use super::identify::{
    Descriptor, IdentifyController, IdentifyNamespace, LbaFormat, decode_descriptors,
    decode_namespace_list, encode_descriptors, encode_namespace_list,
};
use super::io::{CopyRange, DsmRange};
use super::log::{ErrorEntry, FirmwareSlots, Smart};
use super::pointer::SglDescriptor;
use super::registers::{Cap, Cc, CmbMsc, CmbSz, PmrCap, crosses_event};
use super::status::{GENERIC, MEDIA, Status, table};
use crate::medium::ErrorKind;

#[test]
fn capabilities_of_two_foreign_controllers() {
    let qemu = Cap(0x0340_1820_0f01_07ff);
    assert_eq!((qemu.mqes(), qemu.cqr(), qemu.to(), qemu.dstrd()), (2047, 1, 15, 0));
    assert_eq!((qemu.css() & 1, qemu.css() >> 6), (1, 3));
    assert_eq!((qemu.mpsmin(), qemu.mpsmax(), qemu.pmrs(), qemu.cmbs()), (0, 4, 1, 1));
    let spdk = Cap(0x0800_0020_1e01_00ff);
    assert_eq!((spdk.mqes(), spdk.cqr(), spdk.to(), spdk.css()), (255, 1, 30, 1));
    assert_eq!((spdk.pmrs(), spdk.cmbs(), spdk.crms()), (0, 0, 1));
    let made = Cap(0)
        .with_mqes(255)
        .with_cqr(1)
        .with_to(30)
        .with_css(1)
        .with_mpsmin(0)
        .with_mpsmax(0)
        .with_crms(1);
    assert_eq!(made, spdk);
}

#[test]
fn fields_are_cut_to_their_width_and_touch_no_other() {
    let cc = Cc(0).with_en(1).with_iosqes(6).with_iocqes(4);
    assert_eq!(cc.0, 0x0046_0001);
    assert_eq!(cc.with_shn(1).0, 0x0046_4001);
    assert_eq!(Cc(u32::MAX).with_mps(0).0, !0x780);
    assert_eq!(Cc(0).with_mps(u32::MAX).0, 0x780);
    assert_eq!(CmbMsc(0).with_cre(1).with_cmse(1).with_cba(0x12345).0, 0x1234_5003);
    assert_eq!(CmbSz(0x0040_021d).sz() << (12 + 4 * CmbSz(0x0040_021d).szu()), 0x400 << 20);
    assert_eq!(PmrCap(0x0100_0898).bir(), 4);
}

#[test]
fn the_real_doorbell_is_written_when_the_event_is_passed() {
    assert!(crosses_event(4, 5, 4) && crosses_event(4, 9, 4));
    assert!(!crosses_event(5, 5, 4) && !crosses_event(3, 5, 4));
    // The queue wrapped from 30 to 2: with 16 bits all between lies behind it.
    assert!(crosses_event(30, 2, 30) && crosses_event(1, 2, 30) && !crosses_event(2, 2, 30));
}

#[test]
fn commands_by_hand() {
    let read = Command::read(3, 0x1_0000_0002, 8).with_cid(0xbeef).with_prps(0x1000, 0x2000);
    let bytes = read.to_bytes();
    assert_eq!(bytes[..8], [0x02, 0, 0xef, 0xbe, 3, 0, 0, 0]);
    assert_eq!(bytes[24..40], [0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[40..52], [2, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0]);
    assert_eq!(Command::from_bytes(&bytes), read);
    assert_eq!((read.slba(), read.blocks(), read.cid()), (0x1_0000_0002, 8, 0xbeef));
    assert_eq!((read.prp1(), read.prp2(), read.psdt(), read.fuse()), (0x1000, 0x2000, 0, 0));

    let write = Command::write(1, 0, 1 << 16, true).with_sgl(SglDescriptor::data(0x5000, 77));
    assert_eq!((write.opcode(), write.blocks(), write.fua()), (nvm::WRITE, 1 << 16, true));
    assert_eq!((write.psdt(), write.sgl()), (1, SglDescriptor::data(0x5000, 77)));
    assert_eq!(write.to_bytes()[51], 0x40);
    assert_eq!(write.with_prps(1, 2).psdt(), 0);

    let cq = Command::create_cq(5, 1024, 0x7000, Some(3));
    assert_eq!((cq.cdw(10), cq.cdw(11), cq.prp1()), (0x03ff_0005, 0x0003_0003, 0x7000));
    assert_eq!(Command::create_cq(5, 2, 0, None).cdw(11), 1);
    let sq = Command::create_sq(6, 65536, 0x8000, 5);
    assert_eq!((sq.cdw(10), sq.cdw(11), sq.opcode()), (0xffff_0006, 0x0005_0001, 0x01));
    let log = Command::get_log_page(2, u32::MAX, 512);
    assert_eq!((log.cdw(10), log.cdw(11), log.nsid()), (0x007f_0002, 0, u32::MAX));
    let set = Command::set_features(7, 0x0003_0003);
    assert_eq!((set.opcode(), set.cdw(10), set.cdw(11)), (admin::SET_FEATURES, 7, 0x0003_0003));
    let dsm = Command::deallocate(1, 256);
    assert_eq!((dsm.cdw(10), dsm.cdw(11)), (255, 4));
    let copy = Command::copy(1, 9, 128);
    assert_eq!((copy.opcode(), copy.slba(), copy.cdw(12)), (0x19, 9, 127));
    assert_eq!(Command::abort(1, 2).cdw(10), 0x0002_0001);
}

#[test]
fn completions_by_hand() {
    let cqe = Cqe::new(7, 0x1122, 3, 0xbeef, Status::COMPARE_FAILURE.final_(), true);
    assert_eq!(cqe.to_bytes()[..8], [7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(cqe.to_bytes()[8..], [0x22, 0x11, 3, 0, 0xef, 0xbe, 0x0b, 0x85]);
    assert_eq!((cqe.result(), cqe.sq_head(), cqe.sqid(), cqe.cid()), (7, 0x1122, 3, 0xbeef));
    assert!(cqe.phase() && cqe.status().do_not_retry() && !cqe.status().more());
    assert_eq!((cqe.status().sct(), cqe.status().sc()), (MEDIA, 0x85));
    assert!(!Cqe::new(0, 0, 0, 0, Status::SUCCESS, false).phase());
}

#[test]
fn every_status_has_one_name_and_a_kind() {
    for (index, (status, name, _)) in table().iter().enumerate() {
        assert_eq!(status.name(), *name, "two names for {status:?}");
        assert!(table().iter().skip(index + 1).all(|other| other.1 != *name), "{name} twice");
        assert_eq!(status.kind().is_none(), *status == Status::SUCCESS);
        assert_eq!(status.final_().kind(), status.kind());
    }
    // Any 15 bits have an answer, and only code and type decide.
    for raw in 0..=u16::MAX {
        let status = Status(raw);
        assert_eq!(status.kind().is_none(), status.sct() == GENERIC && status.sc() == 0);
        assert!(!status.to_string().is_empty());
    }
    assert_eq!(Status::COMPARE_FAILURE.kind(), Some(ErrorKind::Mismatch));
    assert_eq!(Status::ABORTED_SQ_DELETION.kind(), Some(ErrorKind::Reset));
    assert_eq!(Status::new(7, 0xff).kind(), Some(ErrorKind::Io));
}

/// Fields lie inside the structure, none over another, and a setter changes its own
/// bytes alone.
macro_rules! both_ways {
    ($name:ident: $($get:ident, $set:ident, $value:expr;)*) => {{
        let fields = $name::fields();
        for (index, (name, at, len)) in fields.iter().enumerate() {
            assert!(at + len <= $name::BYTES);
            for (other, start, size) in &fields[index + 1..] {
                assert!(at + len <= *start || start + size <= *at, "{name} lies over {other}");
            }
        }
        $(
            let mut made = $name::new();
            made.$set($value);
            assert_eq!(made.$get(), $value);
            let (_, at, len) = fields.iter().find(|f| f.0 == stringify!($get)).unwrap();
            for (offset, byte) in made.as_bytes().iter().enumerate() {
                assert!(*byte == 0 || (*at..at + len).contains(&offset));
            }
            assert_eq!($name::from_bytes(*made.as_bytes()), made);
        )*
    }};
}

#[test]
fn structures_both_ways() {
    both_ways!(IdentifyController:
        vid, set_vid, 0x1b36; mdts, set_mdts, 7; ver, set_ver, 0x10400; oacs, set_oacs, 0x100;
        tnvmcap, set_tnvmcap, u128::MAX; sqes, set_sqes, 0x66; cqes, set_cqes, 0x44;
        nn, set_nn, 256; oncs, set_oncs, 0x15d; vwc, set_vwc, 7; awun, set_awun, 3;
        awupf, set_awupf, 4; sgls, set_sgls, 1;);
    both_ways!(IdentifyNamespace:
        nsze, set_nsze, u64::MAX; flbas, set_flbas, 3; dps, set_dps, 1; nawun, set_nawun, 1;
        nawupf, set_nawupf, 2; nabsn, set_nabsn, 3; nabo, set_nabo, 4; nabspf, set_nabspf, 5;
        mssrl, set_mssrl, 128; mcl, set_mcl, 128; msrc, set_msrc, 127; eui64, set_eui64, 1;);
    both_ways!(Smart: temperature, set_temperature, 323; host_reads, set_host_reads, 9;
        critical_minutes, set_critical_minutes, 1;);
    both_ways!(ErrorEntry: count, set_count, 1; status, set_status, 2; nsid, set_nsid, 3;);
    both_ways!(FirmwareSlots: afi, set_afi, 1; frs1, set_frs1, 2;);
}

#[test]
fn identify_places() {
    let mut raw = [0; 4096];
    raw[77] = 5;
    raw[512] = 0x66;
    raw[516] = 2;
    raw[520..522].copy_from_slice(&[0x0d, 0x01]);
    raw[536] = 2;
    raw[4..8].copy_from_slice(b"SN01");
    let controller = IdentifyController::from_bytes(raw);
    assert_eq!((controller.mdts(), controller.sqes(), controller.nn()), (5, 0x66, 2));
    assert_eq!((controller.oncs(), controller.sgls()), (0x010d, 2));
    assert_eq!((controller.serial().as_str(), controller.model().as_str()), ("SN01", ""));
    let mut made = IdentifyController::new();
    made.set_serial("a serial number that is longer than its field");
    made.set_model("M");
    made.set_firmware("1.0");
    made.set_subnqn("nqn.2014-08.org.example:a");
    assert_eq!(made.serial(), "a serial number that");
    assert_eq!((made.model(), made.firmware()), ("M".into(), "1.0".into()));
    assert_eq!(made.subnqn(), "nqn.2014-08.org.example:a");
    assert_eq!(made.as_bytes()[25], b' ');

    let mut namespace = IdentifyNamespace::new();
    let format = LbaFormat { metadata: 8, lbads: 12, performance: 2 };
    namespace.set_lba_format(3, format);
    assert_eq!(namespace.as_bytes()[140..144], [8, 0, 12, 2]);
    namespace.set_flbas(0x13);
    assert_eq!(namespace.current_format(), format);
}

#[test]
fn lists_and_ranges() {
    let list = encode_namespace_list([1, 2, 7].into_iter());
    assert_eq!(list[8..13], [7, 0, 0, 0, 0]);
    assert_eq!(decode_namespace_list(&list), [1, 2, 7]);
    assert_eq!(decode_namespace_list(&encode_namespace_list(1..=5000)).len(), 1024);

    let descriptors =
        vec![Descriptor { kind: 1, id: vec![1; 8] }, Descriptor { kind: 3, id: (0..16).collect() }];
    let bytes = encode_descriptors(&descriptors);
    assert_eq!(bytes[..4], [1, 8, 0, 0]);
    assert_eq!(decode_descriptors(&bytes), descriptors);
    // Lengths of a hostile controller end the list.
    let mut hostile = [0xff; 4096];
    assert_eq!(decode_descriptors(&hostile).len(), 15);
    hostile[1] = 0;
    assert!(decode_descriptors(&hostile).is_empty());

    let range = DsmRange { attributes: 1, count: 2, slba: 3 };
    assert_eq!(range.words(), [2 << 32 | 1, 3]);
    assert_eq!(DsmRange::from_words(range.words()), range);
    let range = CopyRange { slba: 5, nlb: 127 };
    assert_eq!(range.words(), [0, 5, 127, 0]);
    assert_eq!(CopyRange::from_words(range.words()), range);
    let sgl = SglDescriptor { address: 9, length: u32::MAX, kind: SglDescriptor::LAST_SEGMENT };
    assert_eq!(SglDescriptor::from_words(sgl.words()), sgl);
    let granted = Queues(0).with_submission(63).with_completion(31);
    assert_eq!((granted.0, granted.submission()), (0x001f_003f, 63));
    assert_eq!(AsyncEvent(0x0002_0001).log_page(), 2);
}
