//! How much may change between two checkpoints, beside the journal's bytes: what
//! a replay would have to read (law B8), and what memory must hold until it is
//! written.

use super::core::Core;
use crate::format::BLOCK;
use crate::txn::Load;

/// Nodes and bitmaps that a replay reads at the most: half a second's worth of a
/// medium that reads 64 Ki blocks a second with 32 in flight, which the slowest
/// flash drives do. A constant, because what a medium does while it is opened says
/// little about what it does after a crash.
pub(super) const REPLAY_READS: u64 = 32 << 10;

impl Core {
    /// A checkpoint should begin: half of what may be is there, so that the
    /// checkpoint can be written while the other half comes.
    pub(super) fn wants_checkpoint(&self) -> bool {
        let now = self.load.0;
        now.reads + self.space.dirty_groups() > REPLAY_READS / 2 || now.made > self.most_made() / 2
    }

    /// Changes must wait until the checkpoint under way is done. Never true for
    /// long: right after a checkpoint nothing counts.
    pub(super) fn is_laden(&self) -> bool {
        let (now, cut) = self.load;
        now.reads + cut.reads > REPLAY_READS || now.made + cut.made > self.most_made()
    }

    /// Three quarters of the cache's budget: the rest is for reading.
    fn most_made(&self) -> u64 {
        self.space.cache().budget() / BLOCK as u64 * 3 / 4
    }

    /// A checkpoint takes over all that changed so far.
    pub(super) fn cut_load(&mut self) {
        let (now, cut) = &mut self.load;
        *cut += std::mem::take(now);
    }

    /// It is done.
    pub(super) fn drop_load(&mut self) {
        self.load.1 = Load::default();
    }
}
