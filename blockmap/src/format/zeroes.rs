//! Bytes with many zeroes behind them: where those begin, and the checksum without going over
//! them. A lone small record leaves most of its group's block empty.
//!
//! But for its inversions a CRC is linear: what zeroes make of a register is the sum of what
//! they make of each of its bits, and that is in a table.

use super::BLOCK;
use std::sync::LazyLock;

/// The table has steps of so many zeroes, up to a block.
const STEP: usize = 64;
const STEPS: usize = BLOCK / STEP;

/// What so many steps of zeroes make of each bit of the register.
static AFTER: LazyLock<Box<[[u32; 32]]>> = LazyLock::new(|| {
    let zeroes = [0; BLOCK];
    let after = |bit: usize, steps: usize| {
        // The register is the checksum, inverted.
        !crc32c::crc32c_append(!(1 << bit), &zeroes[..steps * STEP])
    };
    (0..=STEPS).map(|steps| std::array::from_fn(|bit| after(bit, steps))).collect()
});

/// A checksum, and so many zeroes after it.
pub(super) fn append_zeroes(crc: u32, count: usize) -> u32 {
    let (steps, rest) = (count / STEP, count % STEP);
    let mut crc = crc32c::crc32c_append(crc, &[0; STEP][..rest]);
    let mut left = steps;
    while left > 0 {
        let some = left.min(STEPS);
        left -= some;
        let (register, bits) = (!crc, &AFTER[some]);
        let sum =
            (0..32).fold(0, |sum, bit| sum ^ (bits[bit] & (register >> bit & 1).wrapping_neg()));
        crc = !sum;
    }
    crc
}

/// Bytes up to the last that is not zero. Compared in pieces, because opening a store asks it of
/// each block of a journal.
pub(crate) fn used(bytes: &[u8]) -> usize {
    const PIECE: usize = 512;
    let mut end = bytes.len();
    while end > 0 {
        let start = end.saturating_sub(PIECE);
        if bytes[start..end] != [0; PIECE][..end - start] {
            break;
        }
        end = start;
    }
    bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_ends_with_the_last_byte_that_is_not_zero() {
        for len in [0, 1, 2, 511, 512, 513, 1024, 1500, BLOCK] {
            let mut bytes = vec![0; len];
            assert_eq!(used(&bytes), 0, "{len} zeroes");
            for last in [0, 1, 510, 511, 512, 1023, 1024, 1499, BLOCK - 1] {
                if last < len {
                    bytes[last] = 1;
                    assert_eq!(used(&bytes), last + 1, "{len} bytes");
                }
            }
        }
    }

    #[test]
    fn zeroes_count_as_if_they_were_there() {
        let zeroes = vec![0; 3 * BLOCK];
        for seed in [0, 1, 0xffff_ffff, 0x1234_5678, crc32c::crc32c(b"records")] {
            for count in [0, 1, 63, 64, 65, 100, 2048, 3915, 4032, 4096, 4097, 9000, 3 * BLOCK] {
                let expect = crc32c::crc32c_append(seed, &zeroes[..count]);
                assert_eq!(append_zeroes(seed, count), expect, "{seed:x}, {count} zeroes");
            }
        }
    }
}
