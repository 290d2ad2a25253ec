//! Shared or not: the slow exact decision, the fast path, and the look-up that
//! gives a bit back.

use super::rules::{Break, Fault};
use super::state::{Block, Body, FileId, NodeId, Seq, State};

/// Where a look-up ended.
pub(crate) struct Found {
    pub(crate) leaf: NodeId,
    pub(crate) index: usize,
    pub(crate) block: Block,
    /// Every node on the path has one parent, pending lowerings included.
    pub(crate) alone: bool,
}

/// What a look-up saw that found a whole extent unshared.
#[derive(Clone, Debug)]
pub(crate) struct Looked {
    leaf: NodeId,
    index: usize,
    version: u64,
    stamp: u64,
}

impl State {
    /// Walks from a file's root to a block.
    pub(crate) fn find(&self, file: FileId, at: i32) -> Result<Option<Found>, Fault> {
        let pending = i32::from(!self.breaks(Break::PendingIgnored));
        let (mut id, mut at, mut alone) = (self.files[&file].root, at, true);
        loop {
            let node = self.node(id)?;
            alone &= node.exact + node.pending * pending == 1;
            match &node.body {
                Body::Inner(kids) => {
                    let after = kids.partition_point(|(base, _)| *base <= at);
                    if after == 0 {
                        return Ok(None);
                    }
                    at -= kids[after - 1].0;
                    id = kids[after - 1].1;
                }
                Body::Leaf(leaf) => {
                    let index = leaf.extents.iter().position(|e| e.at <= at && at < e.at + e.len);
                    return Ok(index.map(|index| {
                        let extent = &leaf.extents[index];
                        let block = extent.block + (at - extent.at) as usize;
                        Found { leaf: id, index, block, alone }
                    }));
                }
            }
        }
    }

    /// The exact decision: the path and the count, with what a crash may undo
    /// and with quarantine.
    pub(crate) fn slow(&self, file: FileId, found: &Found, durable: Seq) -> bool {
        self.settled(file, durable) && self.slow_block(found, found.block)
    }

    fn slow_block(&self, found: &Found, block: Block) -> bool {
        let count = &self.blocks[block];
        let pending = if self.breaks(Break::PendingIgnored) { 0 } else { count.pending };
        let quarantine = if self.breaks(Break::QuarantineUncounted) { 0 } else { count.quarantine };
        let one = count.exact + pending + quarantine == 1;
        (found.alone || self.breaks(Break::CountOnly)) && (one || self.breaks(Break::PathOnly))
    }

    /// Law B5: no block of the file stands at an offset that a crash may undo.
    fn settled(&self, file: FileId, durable: Seq) -> bool {
        self.files[&file].shifted <= durable || self.breaks(Break::ShiftIgnored)
    }

    /// The fast path: the own bit, in a leaf at least as young as the file's
    /// share generation.
    pub(crate) fn fast(&self, file: FileId, found: &Found, durable: Seq) -> Result<bool, Fault> {
        let leaf = self.leaf(found.leaf)?;
        let record = &self.files[&file];
        Ok(leaf.stamp >= record.share
            && leaf.extents[found.index].own
            && self.settled(file, durable))
    }

    /// Decides as a write does, and sets the bit when all of the extent is the
    /// file's own. True: may be written in place.
    pub(crate) fn look(&mut self, file: FileId, at: i32, durable: Seq) -> Result<bool, Fault> {
        let Some(found) = self.find(file, at)? else { return Ok(false) };
        if self.fast(file, &found, durable)? {
            return Ok(true);
        }
        if let Some(looked) = self.look_begin(file, at)? {
            self.look_end(&looked)?;
        }
        Ok(self.slow(file, &found, durable))
    }

    /// The first half of a look-up: stamps the leaf and walks.
    pub(crate) fn look_begin(&mut self, file: FileId, at: i32) -> Result<Option<Looked>, Fault> {
        let Some(found) = self.find(file, at)? else { return Ok(None) };
        self.touch(file, found.leaf)?;
        let leaf = self.leaf(found.leaf)?;
        let extent = &leaf.extents[found.index];
        let mut run = extent.block..extent.block + extent.len as usize;
        let own = if self.breaks(Break::BitFromOneBlock) {
            self.slow_block(&found, found.block)
        } else {
            run.all(|block| self.slow_block(&found, block))
        };
        let (version, stamp) = (leaf.version, leaf.stamp);
        Ok(own.then_some(Looked { leaf: found.leaf, index: found.index, version, stamp }))
    }

    /// The second half, perhaps much later: sets the bit if neither the leaf
    /// nor its stamp has changed since.
    pub(crate) fn look_end(&mut self, looked: &Looked) -> Result<(), Fault> {
        let late = self.breaks(Break::BitSetLate);
        let Ok(leaf) = self.leaf_mut(looked.leaf) else { return Ok(()) };
        if leaf.version == looked.version && (leaf.stamp == looked.stamp || late) {
            leaf.extents[looked.index].own = true;
        }
        Ok(())
    }

    /// A revoked lease leaves a block in quarantine: one more owner, and the
    /// bit over it goes, on the medium too.
    pub(crate) fn quarantine(&mut self, file: FileId, at: i32) -> Result<(), Fault> {
        let Some(found) = self.find(file, at)? else { return Ok(()) };
        self.blocks[found.block].quarantine += 1;
        if self.breaks(Break::QuarantineKeepsBits) {
            return Ok(());
        }
        if !self.breaks(Break::QuarantineUnwritten) {
            self.leaf_dirty(found.leaf)?;
        }
        self.leaf_mut(found.leaf)?.extents[found.index].own = false;
        Ok(())
    }

    /// A leaf leaves the cache: written if it is dirty, else its bits and stamp
    /// are again what the medium holds.
    pub(crate) fn evict(&mut self, id: NodeId) -> Result<(), Fault> {
        let leaf = self.leaf_mut(id)?;
        if leaf.dirty {
            leaf.image = leaf.bits();
            leaf.dirty = false;
        }
        leaf.stamp = leaf.image.0;
        for (extent, own) in leaf.extents.iter_mut().zip(&leaf.image.1) {
            extent.own = *own;
        }
        Ok(())
    }
}

impl super::state::Leaf {
    /// The stamp and the own bits.
    pub(crate) fn bits(&self) -> (u64, Vec<bool>) {
        (self.stamp, self.extents.iter().map(|extent| extent.own).collect())
    }
}
