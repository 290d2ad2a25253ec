//! A checkpoint's own view of the space maps.
//!
//! From the cut until its bitmaps are written, the map goes on changing. The
//! view keeps each group as it was at the cut, by taking a reference before its
//! first change. What the checkpoint itself allocates and frees (nodes of the
//! file tree and the space tree, the bitmaps) is *open* work: it changes both.

use super::{Space, Words, bits};
use crate::format;
use crate::format::types::{GROUP_BLOCKS, GroupDesc};
use crate::tree::{Fault, Splice, Tree, find, splice};
use crate::txn::Txn;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The logical bitmaps of one checkpoint.
#[derive(Default)]
pub(crate) struct CutSpace {
    images: BTreeMap<u64, Arc<Words>>,
    dirty: BTreeSet<u64>,
    /// The change being made belongs to the checkpoint.
    pub(super) open: bool,
    /// Free blocks by the logical bitmaps.
    pub(crate) free: u64,
}

impl CutSpace {
    /// Called before a group changes that is none of the checkpoint's business.
    pub(super) fn keep(&mut self, g: u64, now: &Arc<Words>) {
        self.images.entry(g).or_insert_with(|| now.clone());
    }

    /// The group is part of the view.
    pub(super) fn has(&self, g: u64) -> bool {
        self.images.contains_key(&g) || self.dirty.contains(&g)
    }

    /// The checkpoint's own change.
    pub(super) fn set(&mut self, g: u64, now: &Arc<Words>, bit: usize, n: usize, on: bool) {
        let image = self.images.entry(g).or_insert_with(|| now.clone());
        bits::fill(Arc::make_mut(image), bit, n, on);
        self.dirty.insert(g);
        if on {
            self.free = self.free.saturating_sub(n as u64);
        } else {
            self.free += n as u64;
        }
    }
}

impl Space {
    /// Begins a checkpoint's view: the logical bitmaps as they are now.
    pub(crate) fn begin_cut(&mut self) {
        let dirty = std::mem::take(&mut self.dirty);
        let images = dirty.iter().map(|g| (*g, self.groups[g].logical.clone())).collect();
        self.cut = Some(CutSpace { images, dirty, open: false, free: self.unused });
    }

    /// What follows belongs to the checkpoint (`true`) or no longer does.
    pub(crate) fn open_cut(&mut self, on: bool) {
        if let Some(cut) = &mut self.cut {
            cut.open = on;
        }
    }

    /// Ends the view; the store goes on with the new tree of descriptors.
    pub(crate) fn end_cut(&mut self, tree: Tree<format::Space>) {
        self.cut = None;
        self.tree = tree;
    }

    /// Drops a view whose checkpoint failed; its groups are dirty again.
    pub(crate) fn abandon_cut(&mut self) {
        if let Some(cut) = self.cut.take() {
            self.dirty.extend(cut.dirty);
        }
    }

    /// Free blocks of the view.
    pub(crate) fn cut_free(&self) -> u64 {
        self.cut.as_ref().map_or(0, |c| c.free)
    }

    /// The bitmap of one group of the view.
    pub(crate) fn cut_image(&self, g: u64) -> Option<Arc<Words>> {
        self.cut.as_ref().and_then(|c| c.images.get(&g)).cloned()
    }

    /// The next group of the view that has changed and is not in `done`.
    pub(crate) fn cut_next(&self, done: &BTreeMap<u64, GroupDesc>) -> Option<u64> {
        self.cut.as_ref()?.dirty.iter().find(|g| !done.contains_key(g)).copied()
    }
}

/// Gives each changed group of the view a new place and puts that into the tree
/// of descriptors. Doing so takes blocks, which may change another group: it ends
/// because a group is placed once and new nodes of this generation stay.
pub(crate) fn place_bitmaps(
    txn: &mut Txn<'_>,
    tree: &Tree<format::Space>,
) -> Result<(Tree<format::Space>, BTreeMap<u64, GroupDesc>), Fault> {
    let mut tree = tree.clone();
    let mut done = BTreeMap::new();
    while let Some(g) = txn.space().cut_next(&done) {
        if let Some(old) = find(&tree, &g)? {
            txn.free(old.addr, 1)?;
        }
        let addr = txn.alloc_node()?;
        let desc = GroupDesc { addr, generation: txn.generation, free: 0 };
        tree = describe(txn, &tree, g, desc)?;
        done.insert(g, desc);
    }
    // All blocks are taken now. Putting the exact numbers in takes no more: the
    // nodes are of this generation and the entries keep their size.
    for (g, desc) in &mut done {
        let image = txn.space().cut_image(*g);
        let used = image.map_or(0, |w| bits::count(&w, 0, GROUP_BLOCKS as usize));
        desc.free = (GROUP_BLOCKS as usize - used) as u32;
        tree = describe(txn, &tree, *g, *desc)?;
    }
    Ok((tree, done))
}

fn describe(
    txn: &mut Txn<'_>,
    tree: &Tree<format::Space>,
    g: u64,
    desc: GroupDesc,
) -> Result<Tree<format::Space>, Fault> {
    splice(
        txn,
        tree.clone(),
        Splice { lo: g, hi: Some(g + 1), new: vec![(g, desc)], release: false },
    )
}
