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

#[cfg(test)]
mod tests {
    use super::REPLAY_READS;
    use crate::tree::Fault;
    use crate::volume::core::Class;
    use crate::volume::{FormatSpec, Volume};
    use freehold_engine::{FormatOptions, format_target};

    /// Law B8: a checkpoint begins by itself when a replay would read half of what
    /// it may; beyond all of it, changes wait for one.
    #[test]
    fn b8_replay_work_asks_for_checkpoints_and_then_holds_changes_back() {
        let medium = format_target("mem:16M", &FormatOptions::default()).expect("memory");
        let vol = Volume::format(medium, &FormatSpec::default()).expect("a store");
        let done = || vol.stats().checkpoints;
        let before = done();
        vol.core().load.0.reads = REPLAY_READS / 2 - 100;
        vol.create(b"a").expect("room");
        vol.sync().expect("memory");
        assert_eq!(done(), before, "not yet");
        vol.core().load.0.reads = REPLAY_READS / 2 + 1;
        vol.create(b"b").expect("room");
        vol.sync().expect("memory");
        vol.checkpoint().expect("memory");
        assert!(done() > before + 1, "one was asked for, and one came by itself");
        assert!(vol.core().load.0.reads < 100 && vol.core().load.1.reads == 0);
        vol.core().load.0.reads = REPLAY_READS + 1;
        assert!(matches!(vol.core().admit(Class::Normal, 0), Err(Fault::JournalFull)));
        let before = done();
        vol.create(b"c").expect("it waits, and goes on");
        assert!(done() > before);
    }

    /// A change of a node that an older checkpoint has counts, once; of one that was
    /// made since does not.
    #[test]
    fn b8_nodes_are_counted_once() {
        let medium = format_target("mem:64M", &FormatOptions::default()).expect("memory");
        let vol = Volume::format(medium, &FormatSpec::default()).expect("a store");
        let file = vol.create(b"f").expect("room");
        for i in 0..2000 {
            vol.allocate(&file, i * 8192, 4096).expect("room");
        }
        vol.checkpoint().expect("memory");
        let reads = || vol.core().load.0.reads;
        assert_eq!(reads(), 0);
        vol.allocate(&file, 4096, 4096).expect("room");
        let first = reads();
        assert!((2..6).contains(&first), "{first} nodes on the way");
        vol.allocate(&file, 3 * 4096, 4096).expect("room");
        assert_eq!(reads(), first, "the same nodes again");
        vol.allocate(&file, 1999 * 8192 - 4096, 4096).expect("room");
        assert_eq!(reads(), first + 1, "one leaf more");
    }
}
