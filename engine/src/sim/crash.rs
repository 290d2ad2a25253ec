//! What a crash leaves: a choice, by seed, among all that law M1 allows.

use super::cache::{Cache, Version, WORD};
use super::image::SimImage;
use super::options::Survival;
use super::rng::{Rng, mix};
use crate::medium::BLOCK;
use std::sync::Arc;

/// What happens to one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lost,
    Kept,
    Torn,
}

/// One way in which a crash can turn out.
struct Outcome {
    survival: Survival,
    seed: u64,
    /// Of 16 operations that are not torn, how many are kept.
    keep: u64,
    /// Of 16 operations, how many are torn.
    tear: u64,
    /// Operations land in an order of their own.
    reorder: bool,
    /// Bytes that are kept or lost together.
    grain: usize,
}

/// The image that a crash leaves.
pub(super) fn crash_image(cache: &Cache, survival: Survival, grain: usize, seed: u64) -> SimImage {
    let mut rng = Rng::new(seed);
    // Some crashes lose nearly all, some nearly nothing; few real ones, and
    // few bugs, look like a coin thrown for every sector.
    let outcome = Outcome {
        survival,
        keep: [1, 4, 8, 12, 15][rng.below(5) as usize],
        tear: [0, 2, 8, 16][rng.below(4) as usize],
        reorder: rng.below(2) == 1,
        seed: rng.next(),
        grain,
    };
    let mut image = cache.durable.clone();
    if survival == Survival::Nothing {
        return image;
    }
    for (block, versions) in &cache.versions {
        let mut data = *image.get(*block);
        let mut order: Vec<&Version> = versions.iter().collect();
        if outcome.reorder && survival == Survival::Random {
            // By operation, not by block: what is atomic lands in one piece.
            order.sort_by_key(|version| outcome.draw(version.id, 1));
        }
        for version in order {
            outcome.land(&mut data, *block, version);
        }
        image.set(*block, Arc::new(data));
    }
    image
}

impl Outcome {
    /// A number that depends on the seed, an operation and a use alone.
    fn draw(&self, id: u64, usage: u64) -> u64 {
        mix(self.seed ^ mix(id.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ usage))
    }

    fn fate(&self, version: &Version) -> Fate {
        if self.survival == Survival::Everything {
            return Fate::Kept;
        }
        if !version.atomic && self.draw(version.id, 2) % 16 < self.tear {
            return Fate::Torn;
        }
        if self.draw(version.id, 3) % 16 < self.keep { Fate::Kept } else { Fate::Lost }
    }

    /// Lets what a version keeps land in a block.
    fn land(&self, data: &mut [u8; BLOCK], block: u64, version: &Version) {
        let fate = self.fate(version);
        if fate == Fate::Lost {
            return;
        }
        for word in (0..BLOCK / WORD).filter(|&word| version.words.has(word)) {
            let bytes = word * WORD..(word + 1) * WORD;
            let unit = (block * BLOCK as u64 + bytes.start as u64) / self.grain as u64;
            if fate == Fate::Kept || self.draw(version.id, 4 + unit) & 1 == 1 {
                data[bytes.clone()].copy_from_slice(&version.data[bytes]);
            }
        }
    }
}
