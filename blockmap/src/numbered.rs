//! Maps by numbers that the store itself gave out: files, groups of blocks.
//!
//! An image may hold any numbers, so the hash has a key that no image knows; but it takes a
//! multiplication, not the hundred instructions that the standard one needs for bytes of
//! strangers.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

/// A map by numbers.
pub(crate) type Numbered<V> = HashMap<u64, V, Keyed>;

/// Makes hashers with this process's key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keyed(u64);

impl Default for Keyed {
    fn default() -> Self {
        static KEY: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
        Self(*KEY)
    }
}

impl BuildHasher for Keyed {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed { key: self.0, state: self.0 }
    }
}

/// The hash so far.
#[derive(Debug)]
pub(crate) struct Mixed {
    key: u64,
    state: u64,
}

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // Both halves of the product: its upper one depends on all of both factors.
        let product = u128::from(self.state ^ number) * u128::from(self.key | 1);
        self.state = (product as u64) ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        // The map takes its tags from the upper bits and its places from the lower ones.
        let product = u128::from(self.state) * 0x9e37_79b9_7f4a_7c15;
        (product as u64) ^ (product >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in a row, and such as differ in few bits, go to different places.
    #[test]
    fn numbers_are_spread() {
        let keyed = Keyed::default();
        for step in [1u64, 1 << 8, 1 << 32, 1 << 52] {
            let mut places = [0u32; 256];
            for i in 0..4096u64 {
                places[(keyed.hash_one(i.wrapping_mul(step)) & 255) as usize] += 1;
            }
            let most = places.into_iter().max().unwrap_or_default();
            assert!(most < 64, "steps of {step}: {most} of 4096 in one of 256 places");
        }
    }

    #[test]
    fn it_is_a_map() {
        let mut map = Numbered::default();
        (0..1000).for_each(|i| assert!(map.insert(i * 7, i).is_none()));
        assert!((0..1000).all(|i| map.get(&(i * 7)) == Some(&i)));
        assert_eq!(map.get(&1), None);
    }
}
