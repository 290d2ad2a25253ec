//! Bytes go where they belong and nowhere else.

use super::driver::spread;
use super::{Driver, Make};
use freehold_engine::medium::{BLOCK, ErrorKind, Op};

/// Blocks hold what was last written, from the first to the last one.
pub(super) fn what_was_written_is_read(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 4);
    let places = [0, 1, 2, 63, 64, driver.blocks / 2, driver.blocks - 1];
    for round in 0..3 {
        for at in places {
            driver.write(at, 1, at * 10 + round);
        }
        for at in places {
            driver.expect(at, 1, at * 10 + round);
        }
    }
}

/// From one block to the largest transfer.
pub(super) fn transfers_of_every_size_work(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 2);
    let most = (medium.geometry().max_transfer as usize / BLOCK).min(driver.blocks as usize - 2);
    for blocks in [1, 2, 3, 7, 16, 31, most / 2, most - 1, most] {
        let blocks = blocks.max(1);
        driver.write(0, 1, 1);
        driver.write(1 + blocks as u64, 1, 2);
        driver.write(1, blocks, blocks as u64);
        driver.expect(1, blocks, blocks as u64);
        driver.expect(0, 1, 1);
        driver.expect(1 + blocks as u64, 1, 2);
    }
}

/// Parts of one buffer are transferred apart, and join again.
pub(super) fn parts_of_a_buffer_are_buffers(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 4);
    let mut first = driver.pattern(4, 9);
    let whole = first.to_vec();
    let mut second = first.split_off(BLOCK);
    let third = second.split_off(2 * BLOCK);
    for (tag, buf) in [(2, third), (0, first), (1, second)] {
        driver.submit(tag, Op::Write { at: 100 + tag * 10, buf, fua: false });
    }
    let mut parts: Vec<_> = driver.drain();
    parts.sort_by_key(|c| c.tag);
    let mut parts = parts.into_iter().map(|c| c.buf.unwrap());
    let mut joined = parts.next().unwrap();
    parts.for_each(|part| joined.unsplit(part).expect("they were one buffer"));
    assert!(joined[..] == whole[..]);
    assert!(driver.read(100, 1) == whole[..BLOCK]);
    assert!(driver.read(110, 2) == whole[BLOCK..3 * BLOCK]);
    assert!(driver.read(120, 1) == whole[3 * BLOCK..]);
}

/// Flushes and forced writes complete, alone, together, and among others.
pub(super) fn forced_writes_and_flushes_complete(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 16);
    driver.run(Op::Flush);
    for round in 0..4u64 {
        for tag in 0..15 {
            let op = match tag % 3 {
                0 => Op::Flush,
                kind => Op::Write { at: tag, buf: driver.pattern(1, tag + round), fua: kind == 1 },
            };
            driver.submit(tag, op);
        }
        for completion in driver.drain() {
            completion.result.unwrap();
            assert_eq!(completion.buf.is_none(), completion.tag % 3 == 0);
        }
        for at in (0..15).filter(|at| at % 3 != 0) {
            driver.expect(at, 1, at + round);
        }
    }
}

/// Zeroes are written over data and over nothing, and only there.
pub(super) fn zeroes_are_written_and_neighbours_stay(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 4);
    for count in [1u64, 2, 63, 64, 200, 1500] {
        driver.write(9, 1, 1);
        driver.write(10, 1, 2);
        driver.write(9 + count, 1, 3);
        driver.write(10 + count, 1, 4);
        driver.run(Op::WriteZeroes { at: 10, count });
        for at in [10, 10 + count / 2, 9 + count] {
            assert!(driver.read(at, 1).iter().all(|&b| b == 0), "block {at} of {count}");
        }
        driver.expect(9, 1, 1);
        driver.expect(10 + count, 1, 4);
        driver.write(10, 1, 5);
        driver.expect(10, 1, 5);
    }
}

/// Deallocated blocks hold anything, but can be written again, and their
/// neighbours do not change.
pub(super) fn deallocation_leaves_the_neighbours(make: Make<'_>) {
    let medium = make();
    if !medium.geometry().deallocate {
        return;
    }
    let mut driver = Driver::new(&medium, 4);
    driver.write(20, 40, 1);
    driver.run(Op::Deallocate { at: 25, count: 30 });
    let all = driver.read(20, 40);
    let whole = driver.pattern(40, 1);
    assert!(all[..5 * BLOCK] == whole[..5 * BLOCK], "the blocks before");
    assert!(all[35 * BLOCK..] == whole[35 * BLOCK..], "the blocks after");
    driver.write(30, 2, 7);
    driver.expect(30, 2, 7);
}

/// Where there is a copy operation, it copies.
pub(super) fn copies_are_copies(make: Make<'_>) {
    let medium = make();
    if !medium.geometry().copy {
        return;
    }
    let mut driver = Driver::new(&medium, 4);
    driver.write(0, 16, spread(1, 1));
    driver.write(200, 18, 3);
    driver.run(Op::Copy { from: 0, to: 201, count: 16 });
    driver.expect(0, 16, spread(1, 1));
    driver.expect(201, 16, spread(1, 1));
    let edges = driver.pattern(18, 3);
    assert!(driver.read(200, 1) == edges[..BLOCK]);
    assert!(driver.read(217, 1) == edges[17 * BLOCK..]);
    // The copy is a copy: writing one side leaves the other.
    driver.write(0, 1, 8);
    assert!(driver.read(201, 1) == driver.pattern(16, spread(1, 1))[..BLOCK]);
    driver.run(Op::Copy { from: 201, to: 0, count: 1 });
    assert!(driver.read(0, 1) == driver.pattern(16, spread(1, 1))[..BLOCK]);
}

/// Where there is a comparison, it tells equal from unequal wherever they differ, changes
/// nothing, and leaves its buffer as it was.
pub(super) fn comparisons_find_each_difference(make: Make<'_>) {
    let medium = make();
    if !medium.geometry().compare {
        return;
    }
    let mut driver = Driver::new(&medium, 4);
    let most = medium.geometry().max_transfer as usize / BLOCK;
    for blocks in [1, 2, 3, 33, 300].map(|n: usize| n.min(most)) {
        driver.write(40, blocks, 6);
        let buf = driver.pattern(blocks, 6);
        let same = driver.run(Op::Compare { at: 40, buf });
        assert!(same.buf.expect("it comes back")[..] == driver.pattern(blocks, 6)[..]);
        let len = blocks * BLOCK;
        for byte in [0, 1, 511, 512, len / 2, len - BLOCK, len - 1] {
            let mut buf = driver.pattern(blocks, 6);
            buf[byte] ^= 0x40;
            driver.submit(5, Op::Compare { at: 40, buf });
            let done = driver.drain().remove(0);
            let error = done.result.expect_err("one byte differs");
            assert_eq!(error.kind(), ErrorKind::Mismatch, "byte {byte} of {len}: {error}");
            let mut back = done.buf.expect("it comes back after a mismatch, too");
            back[byte] ^= 0x40;
            assert!(back[..] == driver.pattern(blocks, 6)[..], "its buffer changed");
        }
        driver.expect(40, blocks, 6);
    }
}
