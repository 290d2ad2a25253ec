//! The admin command set: queues, identify, features, log pages, events.

use freehold_engine::emulator::{Backing, Options, Profile};
use freehold_engine::nvme::spec::command::{Command, admin};
use freehold_engine::nvme::spec::feature::{AsyncEvent, Queues, id};
use freehold_engine::nvme::spec::identify::{
    IdentifyController, IdentifyNamespace, cns, decode_descriptors, decode_namespace_list,
};
use freehold_engine::nvme::spec::log::{self, ErrorEntry, Smart};
use freehold_engine::nvme::spec::registers::sq_doorbell;
use freehold_engine::nvme::spec::status::Status;
use freehold_tests::nvme::initiator::{ENTRIES, IOVA};
use freehold_tests::nvme::{Initiator, Served};

/// Where data go in the memory.
const DATA: u64 = 0x20_0000;

fn options() -> Options {
    Options::new("", 1 << 20)
}

/// An identify structure, and that it was given.
fn identify(nvme: &mut Initiator, which: u8, nsid: u32) -> Result<[u8; 4096], Status> {
    nvme.put(DATA, &[0xee; 4096]);
    match nvme.status(Command::identify(which, nsid).with_prps(IOVA + DATA, 0)) {
        Status::SUCCESS => Ok(nvme.take(DATA, 4096).try_into().expect("a page")),
        status => Err(status),
    }
}

fn controller(nvme: &mut Initiator) -> IdentifyController {
    IdentifyController::from_bytes(identify(nvme, cns::CONTROLLER, 0).expect("identify"))
}

fn namespace(nvme: &mut Initiator, nsid: u32) -> IdentifyNamespace {
    IdentifyNamespace::from_bytes(identify(nvme, cns::NAMESPACE, nsid).expect("identify"))
}

#[test]
fn identify_says_what_is_so() {
    for lba in [512, 4096] {
        let mut options = Options { lba, ..options() };
        options.namespaces = vec![1 << 20, 3 << 20];
        let served = Served::new(options);
        let mut nvme = Initiator::start(&served.socket);
        let data = controller(&mut nvme);
        assert_eq!((data.nn(), data.mdts(), data.vwc() & 1), (2, 7, 0));
        assert_eq!((data.sqes(), data.cqes(), data.fuses(), data.kas()), (0x66, 0x44, 0, 0));
        assert_eq!(data.awun() as u64, (512 << 10) / u64::from(lba) - 1);
        assert_eq!((data.awupf(), data.oncs()), (0, 0x15d));
        assert_eq!(data.tnvmcap(), 4 << 20);
        let second = namespace(&mut nvme, 2);
        assert_eq!(second.nsze(), (3 << 20) / u64::from(lba));
        assert_eq!((second.nlbaf(), second.current_format().metadata), (0, 0));
        assert_eq!(1u32 << second.current_format().lbads, lba);
        assert_eq!((second.nuse(), second.dlfeat()), (0, 9));
        let list = identify(&mut nvme, cns::ACTIVE_NAMESPACES, 0).unwrap();
        assert_eq!(decode_namespace_list(&list), [1, 2]);
        let list = identify(&mut nvme, cns::ACTIVE_NAMESPACES, 1).unwrap();
        assert_eq!(decode_namespace_list(&list), [2]);
        let one = decode_descriptors(&identify(&mut nvme, cns::NAMESPACE_DESCRIPTORS, 1).unwrap());
        let two = decode_descriptors(&identify(&mut nvme, cns::NAMESPACE_DESCRIPTORS, 2).unwrap());
        assert!(one.len() == 1 && one[0].kind == 3 && one != two, "{one:?} {two:?}");
        for (which, nsid, status) in [
            (cns::NAMESPACE, 0, Status::INVALID_NAMESPACE),
            (cns::NAMESPACE, 3, Status::INVALID_NAMESPACE),
            (cns::NAMESPACE, u32::MAX, Status::INVALID_NAMESPACE),
            (cns::NAMESPACE_DESCRIPTORS, 3, Status::INVALID_NAMESPACE),
            (cns::ACTIVE_NAMESPACES, u32::MAX - 1, Status::INVALID_NAMESPACE),
            (0x10, 0, Status::INVALID_FIELD),
            (0x1c, 0, Status::INVALID_FIELD),
        ] {
            assert_eq!(identify(&mut nvme, which, nsid), Err(status), "CNS {which:#x} of {nsid}");
        }
    }
}

#[test]
fn profiles_identify_as_their_devices_do() {
    let all = [(Profile::Qemu, 7, 7, 0x15d, 1, 127), (Profile::Spdk, 5, 5, 0x10d, 2, 0)];
    for (profile, mdts, vwc, oncs, sgls, msrc) in all {
        let served = Served::new(Options { profile, ..options() });
        let mut nvme = Initiator::start(&served.socket);
        let data = controller(&mut nvme);
        assert_eq!((data.mdts(), data.vwc(), data.oncs(), data.sgls()), (mdts, vwc, oncs, sgls));
        assert_eq!(namespace(&mut nvme, 1).msrc(), msrc);
        let sets = identify(&mut nvme, 0x1c, 0);
        assert_eq!(sets.is_ok(), profile == Profile::Qemu, "command sets of {profile:?}");
        let shadow = Command::doorbell_buffer(IOVA + DATA, IOVA + DATA + 4096);
        let wanted = match profile {
            Profile::Spdk => Status::INVALID_OPCODE,
            _ => Status::SUCCESS,
        };
        assert_eq!(nvme.status(shadow), wanted);
    }
}

#[test]
fn a_file_has_a_volatile_cache_and_memory_has_none() {
    let path = freehold_tests::nvme::served::fresh_path("img");
    let file = Options { backing: Backing::File(path.clone()), ..options() };
    let mut identities = Vec::new();
    for _ in 0..2 {
        let served = Served::new(file.clone());
        let mut nvme = Initiator::start(&served.socket);
        assert_eq!(controller(&mut nvme).vwc() & 1, 1);
        identities.push(controller(&mut nvme).serial());
    }
    assert_eq!(identities[0], identities[1], "the same file is the same device");
    std::fs::remove_file(path).unwrap();
    let atomic = Options { volatile_cache: true, atomic: Some(4096), ..options() };
    let served = Served::new(atomic);
    let mut nvme = Initiator::start(&served.socket);
    let (data, space) = (controller(&mut nvme), namespace(&mut nvme, 1));
    assert_eq!((data.vwc() & 1, data.awupf()), (1, 7));
    assert_eq!((space.nsfeat() & 2, space.nawupf(), space.nabspf()), (2, 7, 7));
}

#[test]
fn queues_are_refused_for_every_reason() {
    let served = Served::new(Options { queues: Some(4), ..options() });
    let mut nvme = Initiator::start(&served.socket);
    let (at, far) = (IOVA + 0x10000, 0x7000_0000);
    let cq = |qid, entries, address| Command::create_cq(qid, entries, address, None);
    let sq = |qid, entries, address, cqid| Command::create_sq(qid, entries, address, cqid);
    assert_eq!(nvme.status(cq(1, 32, at)), Status::SUCCESS);
    let refused = [
        (cq(0, 32, at), Status::QUEUE_ID),
        (cq(5, 32, at), Status::QUEUE_ID),
        (cq(1, 32, at), Status::QUEUE_ID),
        (cq(2, 1, at), Status::QUEUE_SIZE),
        (cq(2, 4097, at), Status::QUEUE_SIZE),
        (cq(2, 32, at + 8), Status::PRP_OFFSET),
        (cq(2, 32, far), Status::DATA_TRANSFER_ERROR),
        (cq(2, 32, at).with_cdw(11, 0), Status::INVALID_FIELD),
        (Command::create_cq(2, 32, at, Some(5)), Status::INTERRUPT_VECTOR),
        (sq(0, 32, at, 1), Status::QUEUE_ID),
        (sq(5, 32, at, 1), Status::QUEUE_ID),
        (sq(2, 32, at, 0), Status::QUEUE_ID),
        (sq(2, 32, at, 9), Status::QUEUE_ID),
        (sq(2, 32, at, 2), Status::CQ_INVALID),
        (sq(2, 1, at, 1), Status::QUEUE_SIZE),
        (sq(2, 32, at + 0x40, 1), Status::PRP_OFFSET),
        (sq(2, 32, far, 1), Status::DATA_TRANSFER_ERROR),
        (sq(2, 32, at, 1).with_cdw(11, 1 << 16), Status::INVALID_FIELD),
        (Command::delete_sq(0), Status::QUEUE_ID),
        (Command::delete_sq(2), Status::QUEUE_ID),
        (Command::delete_cq(0), Status::QUEUE_ID),
        (Command::delete_cq(77), Status::QUEUE_ID),
        (Command::set_features(id::QUEUES, 0), Status::SEQUENCE_ERROR),
    ];
    for (command, status) in refused {
        assert_eq!(nvme.status(command), status, "{command:?}");
    }
    assert_eq!(nvme.status(sq(2, 32, at + 0x1000, 1)), Status::SUCCESS);
    assert_eq!(nvme.status(sq(3, 32, at + 0x2000, 1)), Status::SUCCESS);
    assert_eq!(nvme.status(Command::delete_cq(1)), Status::QUEUE_DELETION);
    assert_eq!(nvme.status(Command::delete_sq(2)), Status::SUCCESS);
    assert_eq!(nvme.status(Command::delete_cq(1)), Status::QUEUE_DELETION);
    assert_eq!(nvme.status(Command::delete_sq(3)), Status::SUCCESS);
    assert_eq!(nvme.status(Command::delete_cq(1)), Status::SUCCESS);
}

#[test]
fn what_is_not_offered_is_refused() {
    let served = Served::new(options());
    let mut nvme = Initiator::start(&served.socket);
    // Keep Alive, Format NVM, firmware, namespace management, security, directives.
    for opcode in [admin::KEEP_ALIVE, 0x80, 0x10, 0x11, 0x0d, 0x15, 0x81, 0x82, 0x19, 0xc0] {
        assert_eq!(nvme.status(Command::new(opcode, 1)), Status::INVALID_OPCODE, "{opcode:#x}");
    }
    let sgl = freehold_engine::nvme::spec::pointer::SglDescriptor::data(IOVA, 4096);
    let by_sgl = Command::identify(cns::CONTROLLER, 0).with_sgl(sgl);
    assert_eq!(nvme.status(by_sgl), Status::INVALID_FIELD);
    let mut fused = Command::identify(cns::CONTROLLER, 0);
    fused.0[0] |= 1 << 8;
    assert_eq!(nvme.status(fused), Status::INVALID_FIELD);
}

#[test]
fn features_are_set_and_read_and_refused() {
    let served = Served::new(Options { volatile_cache: true, queues: Some(9), ..options() });
    let mut nvme = Initiator::start(&served.socket);
    let many = Queues(0).with_submission(99).with_completion(2).0;
    let granted = nvme.admin(Command::set_features(id::QUEUES, many)).result();
    assert_eq!((Queues(granted).submission(), Queues(granted).completion()), (8, 8));
    for (feature, value) in
        [(id::WRITE_CACHE, 0), (id::ASYNC_EVENTS, 0xff), (id::ARBITRATION, 0x0102_0303)]
    {
        assert_eq!(nvme.status(Command::set_features(feature, value)), Status::SUCCESS);
        assert_eq!(nvme.admin(Command::get_features(feature)).result(), value, "{feature}");
    }
    // Select: the default, and what can be done with it.
    let cache = Command::get_features(id::WRITE_CACHE);
    assert_eq!(nvme.admin(cache.with_cdw(10, u32::from(id::WRITE_CACHE) | 1 << 8)).result(), 1);
    assert_eq!(nvme.admin(cache.with_cdw(10, u32::from(id::WRITE_CACHE) | 3 << 8)).result(), 4);
    let invalid = Status::INVALID_FIELD;
    for (command, status) in [
        (Command::get_features(0), invalid),
        (Command::get_features(id::KEEP_ALIVE), invalid),
        (Command::get_features(0xc0), invalid),
        (Command::set_features(id::QUEUES, 0xffff), invalid),
        (Command::set_features(id::POWER, 1), invalid),
        (Command::set_features(id::ERROR_RECOVERY, 1 << 16), invalid),
        (Command::set_features(id::VECTOR, 400), invalid),
        (
            Command::set_features(id::WRITE_CACHE, 1)
                .with_cdw(10, u32::from(id::WRITE_CACHE) | 1 << 31),
            Status::NOT_SAVEABLE,
        ),
    ] {
        assert_eq!(nvme.status(command), status, "{command:?}");
    }
    nvme.put(DATA, &1_700_000_000_000u64.to_le_bytes());
    let set = Command::set_features(id::TIMESTAMP, 0).with_prps(IOVA + DATA, 0);
    assert_eq!(nvme.status(set), Status::SUCCESS);
    let get = Command::get_features(id::TIMESTAMP).with_prps(IOVA + DATA, 0);
    assert_eq!(nvme.status(get), Status::SUCCESS);
    let stamp = nvme.word(DATA);
    assert!(stamp & ((1 << 48) - 1) >= 1_700_000_000_000 && stamp >> 49 & 1 == 1, "{stamp:#x}");
    nvme.enable();
    assert_eq!(nvme.admin(Command::get_features(id::WRITE_CACHE)).result(), 1, "a reset forgets");
}

#[test]
fn log_pages_have_their_contents() {
    let served = Served::new(options());
    let mut nvme = Initiator::start(&served.socket);
    assert_eq!(nvme.status(Command::new(0xff, 0)), Status::INVALID_OPCODE);
    let read = |nvme: &mut Initiator, page, nsid, len| {
        nvme.status(Command::get_log_page(page, nsid, len).with_prps(IOVA + DATA, 0))
    };
    assert_eq!(read(&mut nvme, log::id::ERRORS, 0, 64), Status::SUCCESS);
    let entry = ErrorEntry::from_bytes(nvme.take(DATA, 64).try_into().unwrap());
    assert_eq!((entry.count(), entry.sqid(), entry.status() >> 1 & 0xff), (1, 0, 1));
    assert_eq!(read(&mut nvme, log::id::SMART, u32::MAX, 512), Status::SUCCESS);
    let smart = Smart::from_bytes(nvme.take(DATA, 512).try_into().unwrap());
    assert_eq!((smart.critical_warning(), smart.error_entries()), (0, 1));
    assert_eq!(read(&mut nvme, log::id::FIRMWARE, 0, 512), Status::SUCCESS);
    assert_eq!(nvme.take(DATA, 1), [1]);
    assert_eq!(read(&mut nvme, log::id::CHANGED_NAMESPACES, 0, 4096), Status::SUCCESS);
    assert_eq!(nvme.take(DATA, 4096), [0; 4096]);
    assert_eq!(read(&mut nvme, log::id::EFFECTS, 0, 4096), Status::SUCCESS);
    assert_eq!((nvme.word(DATA + 8 * 4) & 1, nvme.word(DATA + (256 + 1) * 4) & 3), (1, 3));
    // From an offset, which must lie in the page.
    let from = |offset: u32| {
        Command::get_log_page(log::id::FIRMWARE, 0, 8)
            .with_prps(IOVA + DATA, 0)
            .with_cdw(12, offset)
    };
    assert_eq!(nvme.status(from(8)), Status::SUCCESS);
    assert_ne!(nvme.word(DATA), 0);
    for (command, status) in [
        (from(3), Status::INVALID_FIELD),
        (from(1024), Status::INVALID_FIELD),
        (Command::get_log_page(0x77, 0, 64).with_prps(IOVA + DATA, 0), Status::LOG_PAGE),
        (Command::get_log_page(log::id::SMART, 1, 64), Status::INVALID_FIELD),
        (Command::get_log_page(log::id::ERRORS, 0, 1 << 30), Status::INVALID_FIELD),
        (
            Command::get_log_page(log::id::ERRORS, 0, 64).with_prps(0x5000, 0),
            Status::DATA_TRANSFER_ERROR,
        ),
    ] {
        assert_eq!(nvme.status(command), status, "{command:?}");
    }
}

#[test]
fn wrong_doorbells_are_told_once_until_the_log_is_read() {
    let served = Served::new(options());
    let mut nvme = Initiator::start(&served.socket);
    let mut admin = nvme.admin;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        let before = admin.tail;
        waiting.push(nvme.push(&mut admin, Command::async_event()));
        nvme.ring(&admin, before);
    }
    // AERL: four may wait.
    let entry = nvme.next(&mut admin);
    assert_eq!((entry.cid(), entry.status().sc()), (waiting[4], 5));
    nvme.set32(sq_doorbell(7, 0), 1);
    let entry = nvme.next(&mut admin);
    let event = AsyncEvent(entry.result());
    assert_eq!((entry.cid(), event.kind(), event.info()), (waiting[0], 0, 0));
    assert_eq!(event.log_page(), u32::from(log::id::ERRORS));
    nvme.set32(sq_doorbell(0, 0), ENTRIES);
    for _ in 0..20 {
        nvme.get32(0);
        assert_eq!(nvme.reap(&mut admin), None, "told before the log was read");
    }
    let read = Command::get_log_page(log::id::ERRORS, 0, 64).with_prps(IOVA + DATA, 0);
    let before = admin.tail;
    let cid = nvme.push(&mut admin, read);
    nvme.ring(&admin, before);
    assert_eq!(nvme.next(&mut admin).cid(), cid);
    let entry = nvme.next(&mut admin);
    assert_eq!((entry.cid(), AsyncEvent(entry.result()).info()), (waiting[1], 1));
    // An abort ends one that waits; a second one finds nothing.
    for (target, aborted) in [(waiting[2], true), (waiting[2], false)] {
        let before = admin.tail;
        let cid = nvme.push(&mut admin, Command::abort(0, target));
        nvme.ring(&admin, before);
        if aborted {
            let entry = nvme.next(&mut admin);
            assert_eq!((entry.cid(), entry.status().sc()), (target, 7));
        }
        let entry = nvme.next(&mut admin);
        assert_eq!((entry.cid(), entry.result()), (cid, u32::from(!aborted)));
    }
}
