//! I/O commands: what they do, by PRPs and SGLs, and why they are refused.

use freehold_engine::emulator::{Backing, Options, Profile};
use freehold_engine::nvme::spec::command::Command;
use freehold_engine::nvme::spec::io::{CopyRange, DsmRange};
use freehold_engine::nvme::spec::pointer::SglDescriptor;
use freehold_engine::nvme::spec::status::Status;
use freehold_tests::nvme::initiator::IOVA;
use freehold_tests::nvme::served::fresh_path;
use freehold_tests::nvme::{Initiator, Place, Served};

const DATA: u64 = 0x20_0000;
const BACK: u64 = 0x40_0000;
const LIST: u64 = 0x60_0000;

struct Rig {
    nvme: Initiator,
    queue: Place,
    lba: u64,
}

impl Rig {
    fn new(served: &Served, lba: u32) -> Self {
        let mut nvme = Initiator::start(&served.socket);
        let queue = nvme.queue(1);
        Self { nvme, queue, lba: u64::from(lba) }
    }

    fn status(&mut self, command: Command) -> Status {
        let status = self.nvme.run(&mut self.queue, command).status();
        Status::new(status.sct(), status.sc())
    }

    /// Points a command at `len` bytes from `at` of the memory by PRPs.
    fn prps(&self, command: Command, at: u64, len: u64) -> Command {
        let pages: Vec<u64> = (at / 4096 + 1..(at + len).div_ceil(4096)).collect();
        match pages[..] {
            [] => command.with_prps(IOVA + at, 0),
            [page] => command.with_prps(IOVA + at, IOVA + page * 4096),
            _ => {
                // A list that begins eight entries before the end of its page, and chains.
                let mut place = LIST + 4096 - 64;
                for (i, page) in pages.iter().enumerate() {
                    if place % 4096 == 4088 && i + 1 < pages.len() {
                        let next = (place / 4096 + 1) * 4096;
                        self.nvme.put(place, &(IOVA + next).to_le_bytes());
                        place = next;
                    }
                    self.nvme.put(place, &(IOVA + page * 4096).to_le_bytes());
                    place += 8;
                }
                command.with_prps(IOVA + at, IOVA + LIST + 4096 - 64)
            }
        }
    }

    fn write(&mut self, slba: u64, bytes: &[u8]) -> Status {
        self.nvme.put(DATA, bytes);
        let blocks = bytes.len() as u64 / self.lba;
        let command = Command::write(1, slba, blocks as u32, false);
        self.status(self.prps(command, DATA, bytes.len() as u64))
    }

    fn read(&mut self, slba: u64, len: u64) -> Vec<u8> {
        self.nvme.put(BACK, &vec![0xee; len as usize]);
        let command = Command::read(1, slba, (len / self.lba) as u32);
        assert_eq!(self.status(self.prps(command, BACK, len)), Status::SUCCESS);
        self.nvme.take(BACK, len as usize)
    }
}

fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut random = freehold_tests::random::Random::new(seed);
    (0..len).map(|_| random.next_u64() as u8).collect()
}

/// Every backing, with both sizes of blocks.
fn each(check: impl Fn(&mut Rig)) {
    for lba in [512, 4096] {
        for kind in 0..3 {
            let path = fresh_path("img");
            let mut options = Options { lba, ..Options::new("", 4 << 20) };
            if kind > 0 {
                options.backing = Backing::File(path.clone());
            }
            options.volatile_cache = kind == 2;
            let served = Served::new(options);
            check(&mut Rig::new(&served, lba));
            drop(served);
            let _ = std::fs::remove_file(path);
        }
    }
}

#[test]
fn what_was_written_is_read_at_every_length_and_offset() {
    each(|rig| {
        assert_eq!(rig.read(0, 8192), [0; 8192]);
        for len in [1, 3, 16, 33, 128] {
            let len = (len * rig.lba).min(512 << 10);
            let bytes = pattern(len as usize, len);
            assert_eq!(rig.write(7, &bytes), Status::SUCCESS);
            assert_eq!(rig.read(7, len), bytes);
            // By a first page that is entered in its middle.
            let command = Command::read(1, 7, (len / rig.lba) as u32);
            let command = rig.prps(command, BACK + 508, len);
            assert_eq!(rig.status(command), Status::SUCCESS);
            assert_eq!(rig.nvme.take(BACK + 508, len as usize), bytes);
        }
        for fua in [true, false] {
            let command = Command::write(1, 9, 1, fua).with_prps(IOVA + DATA, 0);
            assert_eq!(rig.status(command), Status::SUCCESS);
            assert_eq!(rig.status(Command::flush(1)), Status::SUCCESS);
        }
        assert_eq!(rig.status(Command::flush(u32::MAX)), Status::SUCCESS);
        assert_eq!(rig.status(Command::flush(2)), Status::INVALID_NAMESPACE);
    });
}

#[test]
fn data_by_sgl_are_the_same() {
    each(|rig| {
        let len = 4 * rig.lba;
        let bytes = pattern(len as usize, 5);
        assert_eq!(rig.write(0, &bytes), Status::SUCCESS);
        let read = Command::read(1, 0, 4);
        // One block at an odd place; the same as three blocks of a last segment; and in
        // two segments.
        let whole = SglDescriptor::data(IOVA + BACK + 1, len as u32);
        assert_eq!(rig.status(read.with_sgl(whole)), Status::SUCCESS);
        assert_eq!(rig.nvme.take(BACK + 1, len as usize), bytes);
        let cuts = [(0, 100), (100, 1000), (1100, len as u32 - 1100)];
        let parts =
            cuts.map(|(at, len)| SglDescriptor::data(IOVA + BACK + 8192 + u64::from(at) * 2, len));
        let put = |rig: &Rig, at: u64, list: &[SglDescriptor]| {
            for (i, descriptor) in list.iter().enumerate() {
                let words = descriptor.words().map(u64::to_le_bytes).concat();
                rig.nvme.put(at + 16 * i as u64, &words);
            }
        };
        let segment = |at: u64, count: u32, kind: u8| SglDescriptor {
            address: IOVA + at,
            length: count * 16,
            kind,
        };
        let last = SglDescriptor::LAST_SEGMENT;
        put(rig, LIST, &parts);
        assert_eq!(rig.status(read.with_sgl(segment(LIST, 3, last))), Status::SUCCESS);
        for ((at, len), part) in cuts.iter().zip(parts) {
            let got = rig.nvme.take(part.address - IOVA, *len as usize);
            assert_eq!(got, bytes[*at as usize..(*at + *len) as usize]);
        }
        put(rig, LIST, &[parts[0], segment(LIST + 4096, 2, last)]);
        put(rig, LIST + 4096, &parts[1..]);
        let first = segment(LIST, 2, SglDescriptor::SEGMENT);
        assert_eq!(rig.status(read.with_sgl(first)), Status::SUCCESS);
        let write = Command::write(1, 32, 4, false).with_sgl(first);
        assert_eq!(rig.status(write), Status::SUCCESS);
        assert_eq!(rig.read(32, len), bytes);
        let refused = [
            (SglDescriptor::data(IOVA, len as u32 - 1), Status::DATA_SGL_LENGTH),
            (SglDescriptor::data(IOVA, len as u32 + 1), Status::DATA_SGL_LENGTH),
            (SglDescriptor::data(0x1000, len as u32), Status::DATA_TRANSFER_ERROR),
            (segment(LIST, 0, last), Status::INVALID_SGL_SEGMENT),
            (SglDescriptor { length: 17, ..first }, Status::INVALID_SGL_SEGMENT),
            (segment(LIST, 1, SglDescriptor::SEGMENT), Status::INVALID_SGL_SEGMENT),
            (segment(LIST, 2, last), Status::INVALID_SGL_SEGMENT),
            (segment(LIST, 70_000, last), Status::INVALID_SGL_COUNT),
            (SglDescriptor { kind: 0x50, ..whole }, Status::SGL_TYPE),
            (SglDescriptor { kind: SglDescriptor::BIT_BUCKET, ..whole }, Status::SGL_TYPE),
        ];
        for (descriptor, status) in refused {
            assert_eq!(rig.status(read.with_sgl(descriptor)), status, "{descriptor:?}");
        }
        // A segment that names itself ends.
        put(rig, LIST, &[segment(LIST, 1, SglDescriptor::SEGMENT)]);
        let round = segment(LIST, 1, SglDescriptor::SEGMENT);
        assert_eq!(rig.status(read.with_sgl(round)), Status::INVALID_SGL_COUNT);
    });
}

#[test]
fn the_spdk_profile_takes_sgls_by_dwords() {
    let served = Served::new(Options { profile: Profile::Spdk, ..Options::new("", 1 << 20) });
    let mut rig = Rig::new(&served, 512);
    let read = |at, len| Command::read(1, 0, 1).with_sgl(SglDescriptor::data(IOVA + at, len));
    assert_eq!(rig.status(read(DATA + 4, 512)), Status::SUCCESS);
    assert_eq!(rig.status(read(DATA + 2, 512)), Status::SGL_OFFSET);
    let none = Served::new(Options { sgl: false, ..Options::new("", 1 << 20) });
    let mut rig = Rig::new(&none, 512);
    assert_eq!(rig.status(read(DATA, 512)), Status::INVALID_FIELD);
}

#[test]
fn ranges_limits_and_addresses_are_checked() {
    each(|rig| {
        let end = (4 << 20) / rig.lba;
        let good = |command: Command| command.with_prps(IOVA + DATA, IOVA + DATA + 4096);
        let too_long = ((512 << 10) / rig.lba) as u32 + 1;
        let refused = [
            (good(Command::read(0, 0, 1)), Status::INVALID_NAMESPACE),
            (good(Command::read(2, 0, 1)), Status::INVALID_NAMESPACE),
            (good(Command::read(u32::MAX, 0, 1)), Status::INVALID_NAMESPACE),
            (good(Command::read(1, end, 1)), Status::LBA_OUT_OF_RANGE),
            (good(Command::write(1, end - 1, 2, false)), Status::LBA_OUT_OF_RANGE),
            (good(Command::write(1, u64::MAX, 2, false)), Status::LBA_OUT_OF_RANGE),
            (good(Command::compare(1, u64::MAX - 1, 2)), Status::LBA_OUT_OF_RANGE),
            (Command::write_zeroes(1, end - 1, 2), Status::LBA_OUT_OF_RANGE),
            (good(Command::read(1, 0, too_long)), Status::INVALID_FIELD),
            (Command::read(1, 0, 1).with_prps(0x5000, 0), Status::DATA_TRANSFER_ERROR),
            (Command::read(1, 0, 1).with_prps(IOVA + DATA + 1, 0), Status::PRP_OFFSET),
            (Command::read(1, 0, 1).with_prps(!0xfff, 0), Status::DATA_TRANSFER_ERROR),
            (
                Command::read(1, 0, (8192 / rig.lba) as u32).with_prps(IOVA + DATA, IOVA + 8),
                Status::PRP_OFFSET,
            ),
            (
                Command::read(1, 0, (16384 / rig.lba) as u32).with_prps(IOVA + DATA, IOVA + 4),
                Status::PRP_OFFSET,
            ),
            (
                Command::read(1, 0, (16384 / rig.lba) as u32).with_prps(IOVA + DATA, 0x7000),
                Status::DATA_TRANSFER_ERROR,
            ),
            (good(Command::write(1, 0, 1, false).with_cdw(12, 1 << 20)), Status::INVALID_FIELD),
            (Command::new(0x04, 1), Status::INVALID_OPCODE),
            (Command::new(0x0c, 1), Status::INVALID_OPCODE),
            (Command::new(0xff, 1), Status::INVALID_OPCODE),
        ];
        for (command, status) in refused {
            assert_eq!(rig.status(command), status, "{command:?}");
        }
        let mut fused = good(Command::compare(1, 0, 1));
        fused.0[0] |= 1 << 8;
        assert_eq!(rig.status(fused), Status::INVALID_FIELD);
    });
}

#[test]
fn compares_zeroes_and_deallocations() {
    each(|rig| {
        let bytes = pattern(64 << 10, 9);
        assert_eq!(rig.write(0, &bytes), Status::SUCCESS);
        let blocks = bytes.len() as u64 / rig.lba;
        let compare = Command::compare(1, 0, blocks as u32);
        let compare = rig.prps(compare, DATA, bytes.len() as u64);
        assert_eq!(rig.status(compare), Status::SUCCESS);
        rig.nvme.put(DATA + 30_000, &[!bytes[30_000]]);
        assert_eq!(rig.status(compare), Status::COMPARE_FAILURE);
        let mut expected = bytes.clone();
        let zeroes =
            |command: Command, rig: &mut Rig, expected: &mut [u8], from: u64, count: u64| {
                assert_eq!(rig.status(command), Status::SUCCESS);
                expected[(from * rig.lba) as usize..((from + count) * rig.lba) as usize].fill(0);
                assert_eq!(rig.read(0, 64 << 10), *expected);
            };
        zeroes(Command::write_zeroes(1, 2, 3), rig, &mut expected, 2, 3);
        let deallocating = Command::write_zeroes(1, 6, 1).with_cdw(12, 1 << 25);
        zeroes(deallocating, rig, &mut expected, 6, 1);
        let ranges = [(8, 1), (0, 0), (10, 2)];
        for (i, (slba, count)) in ranges.into_iter().enumerate() {
            let range = DsmRange { attributes: 0, count, slba };
            rig.nvme.put(LIST + 16 * i as u64, &range.words().map(u64::to_le_bytes).concat());
        }
        let dsm = Command::deallocate(1, 3).with_prps(IOVA + LIST, 0);
        assert_eq!(rig.status(dsm.with_cdw(11, 0)), Status::SUCCESS);
        assert_eq!(rig.read(0, 64 << 10), expected, "a hint changes nothing");
        expected[(8 * rig.lba) as usize..(9 * rig.lba) as usize].fill(0);
        zeroes(dsm, rig, &mut expected, 10, 2);
        let far = DsmRange { attributes: 0, count: 1, slba: u64::MAX };
        rig.nvme.put(LIST + 32, &far.words().map(u64::to_le_bytes).concat());
        assert_eq!(rig.status(dsm), Status::LBA_OUT_OF_RANGE);
        assert_eq!(rig.status(dsm.with_prps(0x5000, 0)), Status::DATA_TRANSFER_ERROR);
    });
}

#[test]
fn copies_move_blocks_within_their_limits() {
    each(|rig| {
        let bytes = pattern((64 * rig.lba) as usize, 11);
        assert_eq!(rig.write(0, &bytes), Status::SUCCESS);
        let put = |rig: &Rig, ranges: &[(u64, u16)]| {
            for (i, (slba, count)) in ranges.iter().enumerate() {
                let range = CopyRange { slba: *slba, nlb: count.wrapping_sub(1) };
                rig.nvme.put(LIST + 32 * i as u64, &range.words().map(u64::to_le_bytes).concat());
            }
        };
        let copy = |to, count| Command::copy(1, to, count).with_prps(IOVA + LIST, 0);
        // Sources that overlap the destination are read first.
        put(rig, &[(4, 2), (0, 6)]);
        let entry = rig.nvme.run(&mut rig.queue, copy(3, 2));
        assert_eq!((entry.status().is_success(), entry.result()), (true, 2));
        let at = |from: u64, count: u64| {
            bytes[(from * rig.lba) as usize..((from + count) * rig.lba) as usize].to_vec()
        };
        let expected = [at(0, 3), at(4, 2), at(0, 6), at(11, 3)].concat();
        assert_eq!(rig.read(0, 14 * rig.lba), expected);
        for (ranges, to, status) in [
            (&[(0, 129)][..], 200, Status::SIZE_LIMIT),
            (&[(0, 100), (0, 29)], 200, Status::SIZE_LIMIT),
            (&[(u64::MAX, 1)], 200, Status::LBA_OUT_OF_RANGE),
            (&[(0, 1)], (4 << 20) / rig.lba, Status::LBA_OUT_OF_RANGE),
        ] {
            put(rig, ranges);
            assert_eq!(rig.status(copy(to, ranges.len() as u32)), status, "{ranges:?}");
        }
        assert_eq!(rig.status(copy(0, 129)), Status::SIZE_LIMIT);
        assert_eq!(rig.status(copy(0, 1).with_cdw(12, 1 << 8)), Status::INVALID_FIELD);
    });
}

#[test]
fn namespaces_do_not_overlap_and_rings_wrap() {
    let mut options = Options::new("", 1 << 20);
    options.namespaces = vec![1 << 20, 4096, 1 << 20];
    let served = Served::new(options);
    let mut rig = Rig::new(&served, 512);
    for nsid in 1..=3u32 {
        rig.nvme.put(DATA, &[nsid as u8; 4096]);
        let last = if nsid == 2 { 0 } else { 2048 - 8 };
        let write = Command::write(nsid, last, 8, false).with_prps(IOVA + DATA, 0);
        assert_eq!(rig.status(write), Status::SUCCESS);
    }
    // Some hundred commands: both rings wrap many times.
    for i in 0..300u32 {
        let nsid = i % 3 + 1;
        let last = if nsid == 2 { 0 } else { 2048 - 8 };
        let read = Command::read(nsid, last, 8).with_prps(IOVA + BACK, 0);
        assert_eq!(rig.status(read), Status::SUCCESS);
        assert_eq!(rig.nvme.take(BACK, 4096), [nsid as u8; 4096]);
    }
}

#[test]
fn a_full_completion_queue_waits_for_its_reader() {
    let served = Served::new(Options::new("", 1 << 20));
    let mut nvme = Initiator::start(&served.socket);
    // Two submission queues of 32 on a completion queue of 32: 62 commands, 31 entries.
    let mut one = nvme.queue(1);
    let sq = Command::create_sq(2, 32, IOVA + 0x20000, 1);
    assert_eq!(nvme.status(sq), Status::SUCCESS);
    let mut two = Place { qid: 2, sq: 0x20000, ..one };
    for queue in [&mut one, &mut two] {
        for _ in 0..31 {
            nvme.push(queue, Command::flush(1));
        }
        nvme.ring(queue, 0);
    }
    let mut seen = [0; 3];
    for _ in 0..62 {
        let entry = nvme.next(&mut one);
        assert!(entry.status().is_success());
        seen[usize::from(entry.sqid())] += 1;
    }
    assert_eq!(seen, [0, 31, 31]);
    assert_eq!(nvme.reap(&mut one), None);
}
