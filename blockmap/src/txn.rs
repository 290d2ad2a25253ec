//! One change of the block map in the making: what it took, counted and freed,
//! so that it happens wholly or not at all.
//!
//! Trees are immutable, so a transaction that is dropped leaves them as they
//! were; only bits in the space maps must be put back ([`Txn::rollback`]).
//! Lowered counts and freed blocks are listed, because until their record is
//! durable they bind others (laws B2 and B3).
//!
//! Not here: records, sequence numbers, files.

use crate::cache::Cache;
use crate::format::types::{Addr, Extent, Seq};
use crate::format::{CountRun, Counts, EntryCodec};
use crate::lowering::Lowerings;
use crate::space::{Space, SpaceUndo};
use crate::tree::{Cursor, Fault, New, Schema, Splice, Tree, floor, splice};
use smallvec::SmallVec;
use std::sync::Arc;

/// How much of a file's map changed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub(crate) blocks: i64,
    pub(crate) extents: i64,
    /// Whole subtrees came or went: only a walk can tell.
    pub(crate) unknown: bool,
}

/// A transaction's outcome.
pub(crate) struct Done {
    pub(crate) counts: Tree<Counts>,
    pub(crate) share_gen: u64,
    pub(crate) lowered: Vec<(Addr, u64)>,
    pub(crate) freed: Vec<(Addr, u64)>,
    /// What the change adds to the work of a replay, and to memory.
    pub(crate) load: Load,
}

/// What changes since a cut cost beside the journal's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Nodes of an older checkpoint that were changed: a replay must read each.
    pub(crate) reads: u64,
    /// Nodes that were made: they stay in memory until a checkpoint has written them.
    pub(crate) made: u64,
}

impl std::ops::AddAssign for Load {
    fn add_assign(&mut self, other: Load) {
        self.reads += other.reads;
        self.made += other.made;
    }
}

pub(crate) struct Txn<'a> {
    space: &'a mut Space,
    /// Counts above one, as changed so far.
    pub(crate) counts: Tree<Counts>,
    /// The checkpoint under construction.
    pub(crate) generation: u64,
    /// The store-wide counter of shares (law B1).
    pub(crate) share_gen: u64,
    /// The share generation of the file that is being changed.
    pub(crate) file_share_gen: u64,
    pub(crate) tally: Tally,
    pub(crate) lowered: Vec<(Addr, u64)>,
    pub(crate) freed: Vec<(Addr, u64)>,
    /// Lowerings whose records are not durable yet, and up to where they are.
    pending: (&'a Lowerings, Seq),
    /// All that it does is durable.
    durable: bool,
    sabotage: Option<&'static str>,
    undo: SmallVec<[SpaceUndo; 2]>,
    load: Load,
}

impl<'a> Txn<'a> {
    pub(crate) fn new(
        space: &'a mut Space,
        counts: &Tree<Counts>,
        generation: u64,
        share_gen: u64,
        pending: (&'a Lowerings, Seq),
    ) -> Self {
        Txn {
            space,
            counts: counts.clone(),
            generation,
            share_gen,
            // Until a file is named, everything may be shared.
            file_share_gen: u64::MAX,
            tally: Tally::default(),
            lowered: Vec::new(),
            freed: Vec::new(),
            pending,
            durable: false,
            sabotage: crate::sabotage::current(),
            undo: SmallVec::new(),
            load: Load::default(),
        }
    }

    /// The journal holds already what this transaction does.
    pub(crate) fn replays(&mut self) {
        self.durable = true;
    }

    /// True in a build that breaks this law on purpose.
    pub(crate) fn sabotage(&self, what: &str) -> bool {
        self.sabotage == Some(what)
    }

    /// The space maps, for the checkpoint's own work.
    pub(crate) fn space(&mut self) -> &mut Space {
        self.space
    }

    /// A block for a node; in use from now on.
    pub(crate) fn alloc_node(&mut self) -> Result<Addr, Fault> {
        let addr = self.space.alloc_node()?;
        self.load.made += 1;
        self.undo.push(SpaceUndo::Taken(addr, 1));
        Ok(addr)
    }

    /// A node that was born then is about to give way. What a replay finds in the
    /// checkpoint that it begins from, it has to read.
    pub(crate) fn reads(&mut self, generation: u64) {
        self.load.reads += u64::from(generation < self.generation);
    }

    /// The account of the nodes that are made.
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        self.space.cache()
    }

    /// Data blocks that were set aside become part of the map.
    pub(crate) fn claim(&mut self, start: Addr, len: u64) -> Result<(), Fault> {
        self.space.claim(start, len)?;
        self.undo.push(SpaceUndo::Claimed(start, len));
        Ok(())
    }

    /// Nothing maps these blocks any more. They are not reusable yet (law B3).
    pub(crate) fn free(&mut self, start: Addr, len: u64) -> Result<(), Fault> {
        self.space.free(start, len)?;
        self.undo.push(SpaceUndo::Freed(start, len));
        self.freed.push((start, len));
        Ok(())
    }

    /// How many own this block: its exact count (law B2).
    pub(crate) fn count(&self, addr: Addr) -> Result<u32, Fault> {
        let Some(root) = &self.counts.root else { return Ok(1) };
        Ok(match floor(root, &addr)? {
            Some((k, run, _)) if k + u64::from(run.len) > addr => run.count,
            _ => 1,
        })
    }

    /// How many blocks from `start` on have no lowering that a crash could undo,
    /// this transaction's own included.
    pub(crate) fn settled(&self, start: Addr, len: u64) -> u64 {
        if self.durable || self.sabotage("ignore-lowerings") {
            return len;
        }
        let mut len = self.pending.0.settled(start, len, self.pending.1);
        for (at, n) in &self.lowered {
            if *at < start + len && start < at + n {
                len = at.saturating_sub(start);
            }
        }
        len
    }

    /// How many blocks from `start` on no pin reaches that their owner does not know of.
    pub(crate) fn reachable_by_none(&self, start: Addr, len: u64) -> u64 {
        self.pending.0.quarantine.quiet(start, len)
    }

    /// These blocks lose an owner for good only when this change is durable,
    /// although their count stays: what lay above them was lowered and is gone.
    pub(crate) fn hold(&mut self, start: Addr, len: u64) {
        self.lowered.push((start, len));
    }

    /// The blocks have one owner more.
    pub(crate) fn raise(&mut self, start: Addr, len: u64) -> Result<(), Fault> {
        let runs = self.runs(start, len)?;
        let mut new = New::<Counts>::with_capacity(runs.len());
        for (at, len, count) in runs {
            let count = count.checked_add(1).ok_or_else(|| {
                Fault::corrupt("count tree", at, "a block with more owners than can be counted")
            })?;
            put_run(&mut new, at, len, count);
        }
        self.set_runs(start, len, new)
    }

    /// The blocks have one owner fewer; those that had one are freed.
    pub(crate) fn lower(&mut self, start: Addr, len: u64) -> Result<(), Fault> {
        let runs = self.runs(start, len)?;
        let mut new = New::<Counts>::new();
        let mut counted = false;
        for (at, len, count) in runs {
            if count == 1 {
                self.free(at, len)?;
            } else {
                counted = true;
                self.lowered.push((at, len));
                if count > 2 {
                    put_run(&mut new, at, len, count - 1);
                }
            }
        }
        if counted { self.set_runs(start, len, new) } else { Ok(()) }
    }

    /// The range cut into runs of equal count, those of count one included.
    pub(crate) fn runs(&self, start: Addr, len: u64) -> Result<Vec<(Addr, u64, u32)>, Fault> {
        if len == 1 {
            return Ok(vec![(start, 1, self.count(start)?)]);
        }
        let end = start + len;
        let mut out = Vec::new();
        let mut at = start;
        let mut cursor = Cursor::seek(&self.counts, &start)?;
        while at < end {
            match cursor.next()? {
                Some((k, run, _)) if k < end => {
                    let stop = k + u64::from(run.len);
                    if stop <= at {
                        continue;
                    }
                    if k > at {
                        out.push((at, k - at, 1));
                    }
                    let from = k.max(at);
                    out.push((from, stop.min(end) - from, run.count));
                    at = stop.min(end);
                }
                _ => {
                    out.push((at, end - at, 1));
                    at = end;
                }
            }
        }
        Ok(out)
    }

    fn set_runs(&mut self, start: Addr, len: u64, new: New<Counts>) -> Result<(), Fault> {
        let s = Splice { lo: start, hi: Some(start + len), new, release: false };
        let tree = std::mem::replace(&mut self.counts, Tree::EMPTY);
        self.counts = splice(self, tree, s)?;
        Ok(())
    }

    /// The stamp of a leaf that is made now.
    pub(crate) fn stamp<S: Schema>(&self) -> u64 {
        if S::SHARED { self.share_gen } else { 0 }
    }

    /// An entry came (+1) or went (-1).
    pub(crate) fn tally<S: EntryCodec + 'static>(&mut self, _: &S::Key, v: &S::Val, sign: i64) {
        if let Some(e) = as_extent::<S>(v) {
            self.tally.blocks += sign * i64::from(e.len);
        }
    }

    /// The number of entries changed.
    pub(crate) fn tally_entries<S: Schema>(&mut self, by: i64) {
        if S::SHARED {
            self.tally.extents += by;
        }
    }

    /// Whole subtrees came or went.
    pub(crate) fn tally_unknown(&mut self) {
        self.tally.unknown = true;
    }

    /// The file that is changed next was last shared then (law B1).
    pub(crate) fn begin_file(&mut self, share_gen: u64) {
        self.file_share_gen = share_gen;
        self.tally = Tally::default();
    }

    /// What changed since [`Txn::begin_file`], or since the last call.
    pub(crate) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// What the store must remember of it.
    pub(crate) fn finish(self) -> Done {
        Done {
            counts: self.counts,
            share_gen: self.share_gen,
            lowered: self.lowered,
            freed: self.freed,
            load: self.load,
        }
    }

    /// Puts the space maps back as they were.
    pub(crate) fn rollback(&mut self) {
        for u in self.undo.drain(..).rev() {
            self.space.undo(u);
        }
    }
}

fn as_extent<S: EntryCodec + 'static>(v: &S::Val) -> Option<&Extent>
where
    S::Val: 'static,
{
    (v as &dyn std::any::Any).downcast_ref::<Extent>()
}

/// A run is at most `u32::MAX` blocks long.
fn put_run(out: &mut New<Counts>, mut at: Addr, mut len: u64, count: u32) {
    while len > 0 {
        let n = len.min(u64::from(u32::MAX));
        out.push((at, CountRun { len: n as u32, count }));
        at += n;
        len -= n;
    }
}

#[cfg(test)]
mod tests {
    use crate::volume::{FormatSpec, Volume};
    use freehold_engine::{FormatOptions, format_target};

    /// What a transaction has lowered itself is not settled for what it does next; what
    /// the journal holds already is.
    #[test]
    fn b2_its_own_lowerings_count() {
        let medium = format_target("mem:16M", &FormatOptions::default()).expect("memory");
        let vol = Volume::format(medium, &FormatSpec::default()).expect("a store");
        vol.look_at_changes(|txn| {
            assert_eq!(txn.settled(98, 10), 10);
            txn.hold(100, 4);
            assert_eq!((txn.settled(98, 10), txn.settled(103, 1), txn.settled(104, 6)), (2, 0, 6));
            txn.replays();
            assert_eq!(txn.settled(98, 10), 10);
        });
    }
}
