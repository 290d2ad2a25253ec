//! Reproducible bytes and choices: every page that bench and demo write says
//! what it is, and can be computed again to be compared.

use std::hash::{BuildHasher, RandomState};

/// A small generator (SplitMix64): seeded, good enough to choose offsets and bytes.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// A generator whose numbers follow from `seed` alone.
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next number.
    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0. The bias is below one in 2^32 for our ranges.
    #[inline]
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// Puts a slice in random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }

    /// Fills with random bytes.
    pub(crate) fn fill(&mut self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// The bytes that belong to number `index` under `seed`: the number itself, then random ones.
pub(crate) fn page(seed: u64, index: u64, buf: &mut [u8]) {
    let mut rng = Rng::new(seed ^ index.wrapping_mul(0xd6e8_feb8_6659_fd93));
    rng.fill(buf);
    let head = buf.len().min(8);
    buf[..head].copy_from_slice(&index.to_le_bytes()[..head]);
}

/// A seed that no other process draws at the same time.
pub(crate) fn fresh_seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_follows_from_seed_and_index() {
        let (mut a, mut b, mut c) = ([0; 4096], [0; 4096], [0; 4096]);
        page(7, 1, &mut a);
        page(7, 1, &mut b);
        page(7, 2, &mut c);
        assert_eq!(a, b);
        assert_ne!(a, c);
        assert_eq!(a[..8], 1u64.to_le_bytes());
    }

    #[test]
    fn a_shuffle_loses_nothing() {
        let mut items: Vec<u32> = (0..1000).collect();
        Rng::new(1).shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert!(items.iter().copied().eq(0..1000));
    }
}
