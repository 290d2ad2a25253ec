//! Seeds of a run, and numbers drawn from a seed.

use std::ops::Range;

/// `FREEHOLD_SEEDS=A..B`, or the range that the test runs by default.
///
/// # Panics
/// If the variable is set to anything else.
pub fn range(default: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("FREEHOLD_SEEDS") else { return default };
    let range = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    range.unwrap_or_else(|| panic!("FREEHOLD_SEEDS must be A..B, not {text:?}"))
}

/// How to repeat a seed of a test: for the message of a failure.
pub fn again(test: &str, seed: u64) -> String {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    format!(
        "again: FREEHOLD_SEEDS={seed}..{} cargo test -p freehold-tests --test {test} {name}",
        seed + 1
    )
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for the same seed, for ever.
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.bits() % end
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
