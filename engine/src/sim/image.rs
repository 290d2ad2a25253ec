//! The bytes of a simulated medium: sparse, and cheap to copy.

use crate::medium::BLOCK;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// One block's bytes.
pub type Block = [u8; BLOCK];

/// Blocks that share one entry of the map.
const CHUNK: u64 = 64;

static ZERO: LazyLock<Arc<Block>> = LazyLock::new(|| Arc::new([0; BLOCK]));

type Chunk = [Option<Arc<Block>>; CHUNK as usize];

/// What a medium holds. Blocks that nobody wrote are zeroes and take no room;
/// a copy shares all blocks with the original until one of them changes.
#[derive(Debug, Clone, Default)]
pub struct SimImage {
    chunks: BTreeMap<u64, Arc<Chunk>>,
}

impl SimImage {
    /// An image of zeroes.
    pub fn new() -> Self {
        Self::default()
    }

    /// A block's bytes.
    pub fn get(&self, block: u64) -> Arc<Block> {
        self.find(block).cloned().unwrap_or_else(|| Arc::clone(&ZERO))
    }

    /// Replaces a block's bytes.
    pub fn set(&mut self, block: u64, bytes: Arc<Block>) {
        let chunk = self
            .chunks
            .entry(block / CHUNK)
            .or_insert_with(|| Arc::new([const { None }; CHUNK as usize]));
        Arc::make_mut(chunk)[(block % CHUNK) as usize] = Some(bytes);
    }

    /// The blocks that were ever set in a range, in order.
    pub fn touched(&self, start: u64, end: u64) -> impl Iterator<Item = u64> + '_ {
        // Up to the chunk of `end`, which may begin before it.
        let last = end.max(start) / CHUNK;
        self.chunks.range(start / CHUNK..=last).flat_map(move |(index, chunk)| {
            let base = index * CHUNK;
            (0..CHUNK)
                .filter(move |i| chunk[*i as usize].is_some())
                .map(move |i| base + i)
                .filter(move |block| (start..end).contains(block))
        })
    }

    fn find(&self, block: u64) -> Option<&Arc<Block>> {
        self.chunks.get(&(block / CHUNK))?[(block % CHUNK) as usize].as_ref()
    }
}

/// The block of zeroes.
pub(super) fn zero() -> Arc<Block> {
    Arc::clone(&ZERO)
}
