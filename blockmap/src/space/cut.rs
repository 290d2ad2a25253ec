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
use smallvec::smallvec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The logical bitmaps of one checkpoint.
#[derive(Default)]
pub(crate) struct CutSpace {
    /// Groups that have changed since the cut, as the view has them.
    images: BTreeMap<u64, Arc<Words>>,
    /// Groups of the view that its checkpoint writes: those whose bitmaps have a new
    /// place, and the others.
    placed: BTreeSet<u64>,
    unplaced: BTreeSet<u64>,
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
        [&self.placed, &self.unplaced].iter().any(|s| s.contains(&g))
            || self.images.contains_key(&g)
    }

    /// The checkpoint's own change.
    pub(super) fn set(&mut self, g: u64, now: &Arc<Words>, bit: usize, n: usize, on: bool) {
        let image = self.images.entry(g).or_insert_with(|| now.clone());
        bits::fill(Arc::make_mut(image), bit, n, on);
        if !self.placed.contains(&g) {
            self.unplaced.insert(g);
        }
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
        let unplaced = std::mem::take(&mut self.dirty);
        self.cut = Some(CutSpace { unplaced, free: self.unused, ..CutSpace::default() });
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
            self.dirty.extend(cut.placed);
            self.dirty.extend(cut.unplaced);
        }
    }

    /// Free blocks of the view.
    pub(crate) fn cut_free(&self) -> u64 {
        self.cut.as_ref().map_or(0, |c| c.free)
    }

    /// The bitmap of one group of the view.
    pub(crate) fn cut_image(&self, g: u64) -> Option<Arc<Words>> {
        let cut = self.cut.as_ref()?;
        let image = || self.groups.get(&g).map(|now| now.logical.clone());
        cut.images.get(&g).cloned().or_else(image)
    }

    /// The next group of the view that has changed, has no new place and is not in `done`.
    fn cut_next(&self, done: &[(u64, GroupDesc)]) -> Option<u64> {
        let mut left = self.cut.as_ref()?.unplaced.iter();
        left.find(|g| done.iter().all(|(d, _)| d != *g)).copied()
    }

    fn cut_placed(&mut self, g: u64) {
        if let Some(cut) = &mut self.cut {
            cut.unplaced.remove(&g);
            cut.placed.insert(g);
        }
    }
}

/// A tree of descriptors, and what has just been put into it.
pub(crate) type Placed = (Tree<format::Space>, Vec<(u64, GroupDesc)>);

/// Gives some changed groups of the view new places and puts these into the tree of
/// descriptors. Doing so takes blocks, which may change another group: it ends because
/// a group is placed once and new nodes of this generation stay.
pub(crate) fn place_some(
    txn: &mut Txn<'_>,
    tree: &Tree<format::Space>,
    most: usize,
) -> Result<Placed, Fault> {
    let mut tree = tree.clone();
    let mut done = Vec::with_capacity(most);
    while done.len() < most
        && let Some(g) = txn.space().cut_next(&done)
    {
        if let Some(old) = find(&tree, &g)? {
            txn.free(old.addr, 1)?;
        }
        let addr = txn.alloc_node()?;
        let desc = GroupDesc { addr, generation: txn.generation, free: 0 };
        tree = describe(txn, &tree, g, desc)?;
        done.push((g, desc));
    }
    done.iter().for_each(|(g, _)| txn.space().cut_placed(*g));
    Ok((tree, done))
}

/// Puts the free blocks of some groups into the tree, when all have been placed.
pub(crate) fn count_some(
    txn: &mut Txn<'_>,
    tree: &Tree<format::Space>,
    some: &[(u64, GroupDesc)],
) -> Result<Placed, Fault> {
    let mut tree = tree.clone();
    let mut out = Vec::with_capacity(some.len());
    for (g, desc) in some {
        let image = txn.space().cut_image(*g);
        let used = image.map_or(0, |w| bits::count(&w, 0, GROUP_BLOCKS as usize));
        let desc = GroupDesc { free: (GROUP_BLOCKS as usize - used) as u32, ..*desc };
        tree = describe(txn, &tree, *g, desc)?;
        out.push((*g, desc));
    }
    Ok((tree, out))
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
        Splice { lo: g, hi: Some(g + 1), new: smallvec![(g, desc)], release: false },
    )
}
