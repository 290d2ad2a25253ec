//! Changes of one tree: the path is made the file's own by exact count, leaves
//! are touched before they change, kids move between nodes.

use super::rules::{Break, Fault};
use super::state::{Block, Body, Extent, FileId, NodeId, ROOT, State};

impl State {
    /// The root, copied if it has another parent.
    pub(crate) fn own_root(&mut self, file: FileId) -> Result<NodeId, Fault> {
        let root = self.files[&file].root;
        let own = self.own_node(root)?;
        if let Some(record) = self.files.get_mut(&file) {
            record.root = own;
        }
        Ok(own)
    }

    /// The kid at an index of an own node, copied if it has another parent.
    pub(crate) fn own_kid(&mut self, parent: NodeId, index: usize) -> Result<NodeId, Fault> {
        let kid = self.kids(parent)?[index].1;
        let own = self.own_node(kid)?;
        self.kids_mut(parent)?[index].1 = own;
        Ok(own)
    }

    /// Copies a node that has another parent; each child gets one more.
    fn own_node(&mut self, id: NodeId) -> Result<NodeId, Fault> {
        if self.node(id)?.exact == 1 {
            return Ok(id);
        }
        let hand = !self.breaks(Break::CopyHandsNoCounts);
        let copy = match self.node(id)?.body.clone() {
            Body::Inner(kids) => {
                for (_, kid) in kids.iter().filter(|_| hand) {
                    self.raise_node(*kid)?;
                }
                self.add(Body::Inner(kids))
            }
            Body::Leaf(leaf) => {
                let keep = self.breaks(Break::CopyKeepsBits);
                let mut extents = leaf.extents;
                for extent in &mut extents {
                    extent.own &= keep;
                    if hand {
                        (0..extent.len).for_each(|i| self.raise_block(extent.block + i as usize));
                    }
                }
                self.add_leaf(extents)
            }
        };
        self.lower_node(id)?;
        Ok(copy)
    }

    /// Stamps a leaf with the counter; if it is older than the file's share
    /// generation, all its bits go first.
    pub(crate) fn touch(&mut self, file: FileId, id: NodeId) -> Result<(), Fault> {
        let (share, counter) = (self.files[&file].share, self.counter);
        let keep = self.breaks(Break::StampKeepsBits);
        let leaf = self.leaf_mut(id)?;
        if leaf.stamp < share && !keep {
            leaf.extents.iter_mut().for_each(|extent| extent.own = false);
        }
        leaf.stamp = counter;
        Ok(())
    }

    /// The end of what a node maps, relative to its base.
    pub(crate) fn end(&self, id: NodeId) -> Result<i32, Fault> {
        match &self.node(id)?.body {
            Body::Leaf(leaf) => Ok(leaf.extents.last().map_or(0, |e| e.at + e.len)),
            Body::Inner(kids) => kids
                .iter()
                .try_fold(0, |most, (base, kid)| Ok::<_, Fault>(most.max(base + self.end(*kid)?))),
        }
    }

    /// Makes a boundary between kids at `at`, through all levels below an own node.
    pub(crate) fn split_at(&mut self, file: FileId, id: NodeId, at: i32) -> Result<(), Fault> {
        let kids = self.kids(id)?;
        let after = kids.partition_point(|(base, _)| *base < at);
        if after == 0 {
            return Ok(());
        }
        let (base, kid) = kids[after - 1];
        if base + self.end(kid)? <= at {
            return Ok(());
        }
        let kid = self.own_kid(id, after - 1)?;
        let right = match &self.node(kid)?.body {
            Body::Leaf(_) => self.split_leaf(file, kid, at - base)?,
            Body::Inner(_) => {
                self.split_at(file, kid, at - base)?;
                let cut = self.kids(kid)?.partition_point(|(b, _)| *b < at - base);
                let mut moved = self.kids_mut(kid)?.split_off(cut);
                for (b, moving) in &mut moved {
                    *b -= at - base;
                    self.move_node(*moving)?;
                }
                self.add(Body::Inner(moved))
            }
        };
        self.kids_mut(id)?.insert(after, (at, right));
        Ok(())
    }

    /// Moves what an own leaf maps from `at` on to a new leaf.
    fn split_leaf(&mut self, file: FileId, id: NodeId, at: i32) -> Result<NodeId, Fault> {
        self.touch(file, id)?;
        let leaf = self.leaf_dirty(id)?;
        let (left, mut right) = (carve(&leaf.extents, 0, at), carve(&leaf.extents, at, i32::MAX));
        leaf.extents = left;
        self.move_extents(&right)?;
        right.iter_mut().for_each(|extent| extent.at -= at);
        Ok(self.add_leaf(right))
    }

    /// Merges the kid after `index` of an own node into the kid at `index`.
    pub(crate) fn merge(&mut self, file: FileId, id: NodeId, index: usize) -> Result<(), Fault> {
        let shift = self.kids(id)?[index + 1].0 - self.kids(id)?[index].0;
        let (left, right) = (self.own_kid(id, index)?, self.own_kid(id, index + 1)?);
        if matches!(self.node(left)?.body, Body::Inner(_)) {
            let mut moved = std::mem::take(self.kids_mut(right)?);
            for (base, kid) in &mut moved {
                *base += shift;
                self.move_node(*kid)?;
            }
            self.kids_mut(left)?.append(&mut moved);
        } else {
            self.touch(file, left)?;
            if !self.breaks(Break::MergeKeepsStaleBits) {
                self.touch(file, right)?;
            }
            let mut moved = std::mem::take(&mut self.leaf_dirty(right)?.extents);
            self.move_extents(&moved)?;
            moved.iter_mut().for_each(|extent| extent.at += shift);
            self.leaf_dirty(left)?.extents.append(&mut moved);
            self.join_extents(left)?;
        }
        self.kids_mut(id)?.remove(index + 1);
        self.lower_node(right)
    }

    /// Makes one extent of neighbours that follow each other on the medium too.
    fn join_extents(&mut self, id: NodeId) -> Result<(), Fault> {
        let or = self.breaks(Break::ExtentsTakeOr);
        let leaf = self.leaf_mut(id)?;
        leaf.extents.sort_by_key(|extent| extent.at);
        let mut joined: Vec<Extent> = Vec::with_capacity(leaf.extents.len());
        for extent in leaf.extents.drain(..) {
            match joined.last_mut() {
                Some(last)
                    if last.at + last.len == extent.at
                        && last.block + last.len as usize == extent.block =>
                {
                    last.len += extent.len;
                    last.own = if or { last.own | extent.own } else { last.own & extent.own };
                }
                _ => joined.push(extent),
            }
        }
        leaf.extents = joined;
        Ok(())
    }

    /// Puts a fresh block at an offset of a file, in place of what was there.
    pub(crate) fn place(&mut self, file: FileId, at: i32, block: Block) -> Result<(), Fault> {
        self.take(block)?;
        let mut id = self.own_root(file)?;
        let mut at = at;
        for level in (0..ROOT).rev() {
            let index = self.kid_for(id, at, level)?;
            at -= self.kids(id)?[index].0;
            id = self.own_kid(id, index)?;
        }
        self.touch(file, id)?;
        let leaf = self.leaf_dirty(id)?;
        let old = carve(&leaf.extents, at, at + 1);
        let mut extents = carve(&leaf.extents, 0, at);
        extents.push(Extent { at, len: 1, block, own: true });
        extents.extend(carve(&leaf.extents, at + 1, i32::MAX));
        leaf.extents = extents;
        self.lower_extents(&old)?;
        self.join_extents(id)
    }

    /// The kid that maps `at` or has room to, made if there is none.
    fn kid_for(&mut self, id: NodeId, at: i32, level: u32) -> Result<usize, Fault> {
        let span = 4 << level;
        let after = self.kids(id)?.partition_point(|(base, _)| *base <= at);
        if after > 0 {
            let (base, kid) = self.kids(id)?[after - 1];
            if at - base < span || base + self.end(kid)? > at {
                return Ok(after - 1);
            }
        }
        let kid =
            if level == 0 { self.add_leaf(Vec::new()) } else { self.add(Body::Inner(vec![])) };
        self.kids_mut(id)?.insert(after, (at, kid));
        Ok(after)
    }

    /// Drops what a file maps in a range; the root gets a boundary at both ends.
    pub(crate) fn clear(&mut self, file: FileId, from: i32, to: i32) -> Result<NodeId, Fault> {
        let root = self.own_root(file)?;
        self.split_at(file, root, from)?;
        self.split_at(file, root, to)?;
        let kids = std::mem::take(self.kids_mut(root)?);
        let (gone, kept) = kids.into_iter().partition(|(base, _)| (from..to).contains(base));
        *self.kids_mut(root)? = kept;
        let gone: Vec<(i32, NodeId)> = gone;
        for (_, kid) in gone {
            self.lower_node(kid)?;
        }
        Ok(root)
    }
}

/// The parts of extents that lie in a range, with their bits.
pub(crate) fn carve(extents: &[Extent], from: i32, to: i32) -> Vec<Extent> {
    let mut parts = Vec::new();
    for extent in extents {
        let (start, end) = (extent.at.max(from), (extent.at + extent.len).min(to));
        if start < end {
            let block = extent.block + (start - extent.at) as usize;
            parts.push(Extent { at: start, len: end - start, block, own: extent.own });
        }
    }
    parts
}
