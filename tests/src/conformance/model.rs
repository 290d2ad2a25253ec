//! Random histories against a plain array of bytes.

use super::driver::spread;
use super::{Driver, Make};
use freehold_engine::medium::{BLOCK, Op};

/// Blocks that histories play on.
const FIELD: u64 = 96;

/// Writes in flight at the same time leave, in each sector, one of them.
pub(super) fn overlapping_writes_leave_one_of_each_sector(make: Make<'_>) {
    let medium = make();
    let mut driver = Driver::new(&medium, 8);
    for round in 0..30u64 {
        for tag in 0..4u64 {
            let buf = driver.pattern(3, round * 4 + tag);
            driver.submit(tag, Op::Write { at: tag, buf, fua: false });
        }
        for completion in driver.drain() {
            completion.result.unwrap();
        }
        // Block 2 is in the writes at 0, 1 and 2.
        let found = driver.read(2, 1);
        for (index, sector) in found.chunks(512).enumerate() {
            let known = (0..3u64).any(|tag| {
                let start = (2 - tag) as usize * BLOCK + index * 512;
                driver.pattern(3, round * 4 + tag)[start..start + 512] == *sector
            });
            assert!(known, "round {round}: sector {index} is of none of the writes");
        }
    }
}

/// What is not in flight together happens in order: a long random history of
/// batches, each of which touches no block twice, matches the model.
pub(super) fn random_histories_match_the_model(make: Make<'_>) {
    for seed in 0..3u64 {
        let medium = make();
        let mut driver = Driver::new(&medium, 16);
        let mut model = vec![0u8; FIELD as usize * BLOCK];
        let mut counter = 0;
        let mut draw = |end: u64| {
            counter += 1;
            spread(seed, counter) % end
        };
        driver.run(Op::WriteZeroes { at: 0, count: FIELD });
        for batch in 0..120 {
            let mut used = [false; FIELD as usize];
            for tag in 0..1 + draw(12) {
                let (at, count) = (draw(FIELD - 8), 1 + draw(8));
                let range = at as usize..(at + count) as usize;
                if used[range.clone()].iter().any(|&u| u) {
                    continue;
                }
                used[range.clone()].fill(true);
                let bytes = range.start * BLOCK..range.end * BLOCK;
                let op = match draw(6) {
                    0 => {
                        model[bytes].fill(0);
                        Op::WriteZeroes { at, count }
                    }
                    1 => Op::Read { at, buf: driver.pattern(count as usize, 0) },
                    2 => Op::Flush,
                    kind => {
                        let buf = driver.pattern(count as usize, draw(u64::MAX));
                        model[bytes].copy_from_slice(&buf);
                        Op::Write { at, buf, fua: kind == 3 }
                    }
                };
                // A read's tag says where it was, to be compared below.
                let tag = if matches!(op, Op::Read { .. }) { 1000 + at } else { tag };
                driver.submit(tag, op);
            }
            for completion in driver.drain() {
                completion.result.unwrap();
                if let (Some(at), Some(buf)) = (completion.tag.checked_sub(1000), completion.buf) {
                    let start = at as usize * BLOCK;
                    let same = buf[..] == model[start..start + buf.len()];
                    assert!(same, "seed {seed}, batch {batch}: a read at {at} differs");
                }
            }
        }
        for at in 0..FIELD {
            let start = at as usize * BLOCK;
            let same = driver.read(at, 1) == model[start..start + BLOCK];
            assert!(same, "seed {seed}: block {at} differs in the end");
        }
    }
}
