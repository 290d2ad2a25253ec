//! What is durable, what is visible, and what lies between: the model of law M1.
//!
//! Queues, delays and faults are in `state`; how a crash chooses is in
//! `crash`.

use super::image::{Block, SimImage, zero};
use crate::medium::BLOCK;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::ThreadId;

/// Bytes that an aligned store changes all or nothing.
pub(super) const WORD: usize = 8;
const MASK_WORDS: usize = BLOCK / WORD / 64;

/// A set of the 512 words of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mask([u64; MASK_WORDS]);

impl Mask {
    pub(super) const ALL: Self = Self([u64::MAX; MASK_WORDS]);

    /// The words that a byte range touches.
    pub(super) fn of(start: usize, end: usize) -> Self {
        let mut mask = Self([0; MASK_WORDS]);
        for word in start / WORD..end.div_ceil(WORD) {
            mask.0[word / 64] |= 1 << (word % 64);
        }
        mask
    }

    pub(super) fn has(&self, word: usize) -> bool {
        self.0[word / 64] & 1 << (word % 64) != 0
    }

    /// Copies these words from one block to another.
    fn copy(&self, to: &mut Block, from: &Block) {
        for word in (0..BLOCK / WORD).filter(|&word| self.has(word)) {
            let bytes = word * WORD..(word + 1) * WORD;
            to[bytes.clone()].copy_from_slice(&from[bytes]);
        }
    }

    fn is_empty(&self) -> bool {
        self.0 == [0; MASK_WORDS]
    }

    fn and(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & other.0[i]))
    }

    fn or(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    fn without(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }
}

/// Where a version of a block came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A write whose completion was polled: a flush covers it.
    Reported,
    /// A write of a dropped queue, or one in flight: no flush promises it.
    Unreported,
    /// A store of this thread through the window: only it can persist it.
    Store(ThreadId),
}

/// Bytes that a crash may find in a block.
#[derive(Debug, Clone)]
pub(super) struct Version {
    /// The operation; parts of one operation share the number.
    pub(super) id: u64,
    pub(super) data: Arc<Block>,
    /// The words that are not durable yet.
    pub(super) words: Mask,
    /// The operation is written all or nothing.
    pub(super) atomic: bool,
    origin: Origin,
}

/// A change that is being applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    /// Numbered in the order of application.
    pub(super) id: u64,
    pub(super) origin: Origin,
    pub(super) atomic: bool,
    /// Durable at once.
    pub(super) durable: bool,
}

/// The three layers of a medium.
#[derive(Debug, Clone, Default)]
pub(super) struct Cache {
    /// What a crash cannot take away.
    pub(super) durable: SimImage,
    /// What reads return.
    pub(super) visible: SimImage,
    /// For each block, what a crash may find besides what is durable, in the
    /// order of application.
    pub(super) versions: BTreeMap<u64, Vec<Version>>,
}

impl Cache {
    /// Replaces a whole block.
    pub(super) fn write(&mut self, block: u64, data: Arc<Block>, change: Change) {
        self.visible.set(block, Arc::clone(&data));
        if change.durable {
            // Whatever was applied before it is below it now.
            self.durable.set(block, data);
            self.versions.remove(&block);
            return;
        }
        self.add(block, data, Mask::ALL, change);
    }

    /// Stores bytes through the window.
    pub(super) fn store(&mut self, block: u64, at: usize, bytes: &[u8], change: Change) {
        let mut data = *self.visible.get(block);
        data[at..at + bytes.len()].copy_from_slice(bytes);
        let data = Arc::new(data);
        self.visible.set(block, Arc::clone(&data));
        self.add(block, data, Mask::of(at, at + bytes.len()), change);
    }

    /// Adds what a crash may find, without making it visible.
    pub(super) fn add(&mut self, block: u64, data: Arc<Block>, words: Mask, change: Change) {
        let Change { id, origin, atomic, .. } = change;
        self.versions.entry(block).or_default().push(Version { id, data, words, atomic, origin });
    }

    /// A flush that was submitted when `before` was the number of the next
    /// change: everything reported before it becomes durable.
    pub(super) fn flush(&mut self, before: u64) {
        let durable = &mut self.durable;
        self.versions.retain(|block, versions| {
            let covered =
                versions.iter().rposition(|v| v.origin == Origin::Reported && v.id < before);
            if let Some(last) = covered {
                // It was written after the earlier ones, and whole; words that
                // are not its own any more were persisted later.
                let version = &versions[last];
                if version.words == Mask::ALL {
                    durable.set(*block, Arc::clone(&version.data));
                } else {
                    let mut data = *durable.get(*block);
                    version.words.copy(&mut data, &version.data);
                    durable.set(*block, Arc::new(data));
                }
                versions.drain(..=last);
            }
            !versions.is_empty()
        });
    }

    /// Makes a thread's stores to a range of a block durable.
    pub(super) fn persist(&mut self, block: u64, start: usize, end: usize, thread: ThreadId) {
        let Some(versions) = self.versions.get_mut(&block) else { return };
        let range = Mask::of(start, end);
        let mut data = *self.durable.get(block);
        let mut settled = Mask::of(0, 0);
        // From the newest down: the newest store of a word decides it, and
        // settles what lies below it.
        for version in versions.iter_mut().rev() {
            if version.origin == Origin::Store(thread) {
                let mine = version.words.and(&range).without(&settled);
                mine.copy(&mut data, &version.data);
                settled = settled.or(&mine);
            }
            version.words = version.words.without(&settled);
        }
        versions.retain(|version| !version.words.is_empty());
        if versions.is_empty() {
            self.versions.remove(&block);
        }
        self.durable.set(block, Arc::new(data));
    }

    /// The blocks in a range that are anything but zeroes nobody touched.
    pub(super) fn touched(&self, start: u64, end: u64) -> Vec<u64> {
        let mut blocks: Vec<u64> = self.visible.touched(start, end).collect();
        blocks.extend(self.durable.touched(start, end));
        blocks.extend(self.versions.range(start..end).map(|(block, _)| *block));
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }

    /// Writes zeroes; blocks that were never touched are zeroes already.
    pub(super) fn write_zeroes(&mut self, start: u64, end: u64, change: Change) {
        for block in self.touched(start, end) {
            self.write(block, zero(), change);
        }
    }
}
