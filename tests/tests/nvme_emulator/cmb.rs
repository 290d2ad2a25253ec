//! The Controller Memory Buffer: its registers, where it is found, and what may lie in it.

use freehold_engine::emulator::{CmbOptions, Emulator, Options};
use freehold_engine::nvme::spec::command::Command;
use freehold_engine::nvme::spec::registers::{
    CAP, CC, CMBLOC, CMBMSC, CMBSTS, CMBSZ, Cap, CmbLoc, CmbMsc, CmbSz,
};
use freehold_engine::nvme::spec::status::Status;
use freehold_tests::nvme::initiator::IOVA;
use freehold_tests::nvme::served::fresh_path;
use freehold_tests::nvme::{Initiator, Place, Served};

const SIZE: u64 = 1 << 20;
const BAR: u32 = 2;
/// Where the buffer is found.
const AT: u64 = 1 << 44;
/// Where data lie in the client's memory.
const DATA: u64 = 0x20_0000;
/// Where lists lie in the buffer.
const LIST: u64 = 0x8000;

fn options(cmb: CmbOptions) -> Options {
    Options { cmb: Some(cmb), ..Options::new("", 1 << 20) }
}

fn control(cba: u64) -> u64 {
    CmbMsc(0).with_cre(1).with_cmse(1).with_cba(cba >> 12).0
}

/// An enabled controller whose buffer is at `AT`, and a queue.
fn start(served: &Served) -> (Initiator, Place) {
    let mut nvme = Initiator::start(&served.socket);
    nvme.set64(CMBMSC, control(AT));
    assert_eq!(nvme.get32(CMBSTS), 0);
    let queue = nvme.queue(1);
    (nvme, queue)
}

fn run(nvme: &mut Initiator, queue: &mut Place, command: Command) -> Status {
    let status = nvme.run(queue, command).status();
    Status::new(status.sct(), status.sc())
}

#[test]
fn d6_the_registers_are_hidden_until_they_are_asked_for() {
    let served = Served::new(options(CmbOptions::new(SIZE)));
    let mut nvme = Initiator::connect(&served.socket);
    assert_eq!(Cap(nvme.get64(CAP)).cmbs(), 1);
    assert_eq!((nvme.get32(CMBLOC), nvme.get32(CMBSZ)), (0, 0));
    nvme.set64(CMBMSC, CmbMsc(0).with_cre(1).0);
    assert_eq!(CmbLoc(nvme.get32(CMBLOC)).bir(), BAR);
    let size = CmbSz(nvme.get32(CMBSZ));
    let units = 4096u64 << (4 * size.szu());
    assert_eq!(u64::from(size.sz()) * units, SIZE);
    let allowed = (size.sqs(), size.cqs(), size.lists(), size.rds(), size.wds());
    assert_eq!(allowed, (1, 0, 1, 1, 1));
    // A controller reset leaves it; a client that goes does not, nor its bytes.
    nvme.set32(CC, 1);
    nvme.set32(CC, 0);
    assert_eq!(nvme.get64(CMBMSC), 1);
    nvme.write_region(BAR, 4096, &[7; 8]).unwrap();
    assert_eq!(nvme.read_region(BAR, 4096, 8), [7; 8]);
    drop(nvme);
    let mut nvme = Initiator::connect(&served.socket);
    assert_eq!((nvme.get64(CMBMSC), nvme.get32(CMBSZ)), (0, 0));
    assert_eq!(nvme.read_region(BAR, 4096, 8), [0; 8]);
}

#[test]
fn without_a_buffer_there_are_no_registers_of_one() {
    let served = Served::new(Options::new("", 1 << 20));
    let mut nvme = Initiator::connect(&served.socket);
    nvme.set64(CMBMSC, control(AT));
    let values = [CMBLOC, CMBSZ, CMBMSC, CMBSTS].map(|register| nvme.get32(register));
    assert_eq!((Cap(nvme.get64(CAP)).cmbs(), values), (0, [0; 4]));
}

#[test]
fn an_address_that_cannot_be_is_refused() {
    let served = Served::new(options(CmbOptions::new(SIZE)));
    let mut nvme = Initiator::connect(&served.socket);
    for bad in [0xffff_ffff_fff0_0000u64, IOVA, IOVA - SIZE + 4096] {
        nvme.set64(CMBMSC, control(bad));
        assert_eq!(nvme.get32(CMBSTS), 1, "{bad:#x}");
    }
    nvme.set64(CMBMSC, control(AT));
    assert_eq!(nvme.get32(CMBSTS), 0);
    // Nothing of the client's is mapped over it.
    let memory = nvme.memory.try_clone().unwrap();
    assert!(nvme.map(&memory, 0, AT, 4096).is_err());
}

#[test]
fn data_are_written_from_it_and_read_to_it() {
    let served = Served::new(options(CmbOptions::new(SIZE)));
    let (mut nvme, mut queue) = start(&served);
    let bytes: Vec<u8> = (0..16_384u32).map(|i| (i / 7) as u8).collect();
    nvme.write_region(BAR, 0x4000, &bytes).unwrap();
    // A list in it, too: three pages behind the first.
    let pages: Vec<u8> = (5..8u64).flat_map(|page| (AT + page * 4096).to_le_bytes()).collect();
    nvme.write_region(BAR, LIST, &pages).unwrap();
    let write = Command::write(1, 0, 32, false).with_prps(AT + 0x4000, AT + LIST);
    assert_eq!(run(&mut nvme, &mut queue, write), Status::SUCCESS);
    let read = Command::read(1, 8, 8).with_prps(AT + 0x1_0000, 0);
    assert_eq!(run(&mut nvme, &mut queue, read), Status::SUCCESS);
    assert_eq!(nvme.read_region(BAR, 0x1_0000, 4096), bytes[4096..8192]);
    // To the client's memory, as ever.
    let read = Command::read(1, 8, 8).with_prps(IOVA + DATA, 0);
    assert_eq!(run(&mut nvme, &mut queue, read), Status::SUCCESS);
    assert_eq!(nvme.take(DATA, 4096), bytes[4096..8192]);
    // Beyond its end, and where it was.
    let beyond = Command::read(1, 0, 8).with_prps(AT + SIZE, 0);
    assert_eq!(run(&mut nvme, &mut queue, beyond), Status::DATA_TRANSFER_ERROR);
    nvme.set64(CMBMSC, control(AT + SIZE));
    let read = Command::read(1, 0, 8).with_prps(AT + 0x1_0000, 0);
    assert_eq!(run(&mut nvme, &mut queue, read), Status::DATA_TRANSFER_ERROR);
    // By halves it is read back, and nothing is there.
    let halves = control(AT);
    nvme.set32(CMBMSC, halves as u32);
    nvme.set32(CMBMSC + 4, (halves >> 32) as u32);
    assert_eq!(nvme.get64(CMBMSC), halves);
    let read = Command::read(1, 0, 8).with_prps(AT + 0x1_0000, 0);
    assert_eq!(run(&mut nvme, &mut queue, read), Status::DATA_TRANSFER_ERROR);
}

#[test]
fn no_command_mixes_it_with_the_clients_memory() {
    let served = Served::new(options(CmbOptions::new(SIZE)));
    let (mut nvme, mut queue) = start(&served);
    for (first, second) in [(AT, IOVA + DATA), (IOVA + DATA, AT)] {
        for command in [Command::read(1, 0, 16), Command::write(1, 0, 16, false)] {
            let mixed = command.with_prps(first, second);
            assert_eq!(run(&mut nvme, &mut queue, mixed), Status::INVALID_CMB_USE);
        }
    }
}

#[test]
fn what_the_attributes_do_not_allow_is_refused() {
    let none =
        CmbOptions { sqs: false, lists: false, rds: false, wds: false, ..CmbOptions::new(SIZE) };
    let bad = Status::INVALID_CMB_USE;
    for allowed in [false, true] {
        let options_ =
            if allowed { CmbOptions { cqs: true, ..CmbOptions::new(SIZE) } } else { none };
        let served = Served::new(options(options_));
        let (mut nvme, mut queue) = start(&served);
        let answer = if allowed { Status::SUCCESS } else { bad };
        let read = Command::read(1, 0, 8).with_prps(AT, 0);
        assert_eq!(run(&mut nvme, &mut queue, read), answer);
        let write = Command::write(1, 0, 8, false).with_prps(AT, 0);
        assert_eq!(run(&mut nvme, &mut queue, write), answer);
        let pages: Vec<u8> =
            (1..3u64).flat_map(|page| (IOVA + DATA + page * 4096).to_le_bytes()).collect();
        nvme.write_region(BAR, LIST, &pages).unwrap();
        let listed = Command::read(1, 0, 24).with_prps(IOVA + DATA, AT + LIST);
        assert_eq!(run(&mut nvme, &mut queue, listed), answer);
        let cq = Command::create_cq(2, 16, AT + 0x1_0000, None);
        assert_eq!(nvme.status(cq), answer);
        if !allowed {
            let cq = Command::create_cq(2, 16, IOVA + 0x9_0000, None);
            assert_eq!(nvme.status(cq), Status::SUCCESS);
        }
        assert_eq!(nvme.status(Command::create_sq(2, 16, AT + 0x2_0000, 2)), answer);
    }
}

#[test]
fn commands_are_fetched_from_it() {
    let served = Served::new(options(CmbOptions::new(SIZE)));
    let (mut nvme, _) = start(&served);
    assert_eq!(nvme.status(Command::create_cq(2, 4, IOVA + 0x9_0000, None)), Status::SUCCESS);
    assert_eq!(nvme.status(Command::create_sq(2, 4, AT, 2)), Status::SUCCESS);
    let write = Command::write(1, 3, 1, false).with_prps(IOVA + DATA, 0).with_cid(77);
    nvme.put(DATA, &[0x5a; 512]);
    nvme.write_region(BAR, 0, &write.to_bytes()).unwrap();
    nvme.set32(0x1000 + 4 * 4, 1);
    let begun = std::time::Instant::now();
    while nvme.word(0x9_0008) >> 32 & 0xffff != 77 {
        assert!(begun.elapsed().as_secs() < 10, "it was not fetched");
    }
}

#[test]
fn buffers_that_make_no_sense_are_refused() {
    for size in [0, 1, 2048, 12_288, 1 << 32] {
        let mut options = options(CmbOptions::new(size));
        options.socket = fresh_path("sock");
        assert!(Emulator::new(&options).is_err(), "{size}");
    }
}
