//! Finding entries without changing anything and without a lock.

use super::node::{Body, Child, Kept};
use super::way::Way;
use super::{Fault, Link, Schema, Tree};
use crate::format::EntryCodec;
use crate::format::types::Addr;
use freehold_engine::rcu;
use smallvec::SmallVec;
use std::sync::Arc;

/// An entry, and the stamp of its leaf.
pub(crate) type Hit<S> = (<S as EntryCodec>::Key, <S as EntryCodec>::Val, u64);

/// The child that contains `key`: the last one that starts at or before it.
pub(crate) fn child_index<S: Schema>(children: &[Child<S>], key: &S::Key) -> usize {
    let guess = S::guess(children, |c| &c.key, key, None);
    S::after(children, |c| &c.key, key, guess).saturating_sub(1)
}

/// The last entry whose key is at or before `key`, with its leaf's stamp.
pub(crate) fn floor<S: Schema>(root: &Arc<Link<S>>, key: &S::Key) -> Result<Option<Hit<S>>, Fault> {
    // One guard keeps all nodes on the way; no reference count is touched.
    let reading = rcu::reading();
    let mut way = Way::to(root, key.clone());
    loop {
        way.arrive(&reading)?;
        way.aim();
        if let Some(end) = way.step()? {
            return Ok(end.hit());
        }
    }
}

/// Look-ups that go on together.
pub(crate) const TOGETHER: usize = 32;

/// As [`floor`] for many keys. They go down level by level in step: what one of them will
/// load next is asked for before the turn of the others, so that the waits for memory of
/// [`TOGETHER`] look-ups are one. `found` is told the number of a key and its answer, in
/// any order.
pub(crate) fn floor_all<S: Schema>(
    root: &Arc<Link<S>>,
    keys: &[S::Key],
    mut found: impl FnMut(usize, Result<Option<Hit<S>>, Fault>),
) {
    for (g, group) in keys.chunks(TOGETHER).enumerate() {
        let reading = rcu::reading();
        let mut ways: SmallVec<[Way<'_, S>; TOGETHER]> =
            group.iter().map(|key| Way::to(root, key.clone())).collect();
        // All leaves are at one level, so nearly all ways end in the same round.
        let mut open = ways.len();
        while open > 0 {
            for (i, way) in ways.iter_mut().enumerate().filter(|(_, way)| way.is_open()) {
                if let Err(fault) = way.arrive(&reading) {
                    way.close();
                    open -= 1;
                    found(g * TOGETHER + i, Err(fault));
                }
            }
            ways.iter_mut().for_each(Way::aim);
            for (i, way) in ways.iter_mut().enumerate().filter(|(_, way)| way.is_open()) {
                let ended = match way.step() {
                    Ok(None) => continue,
                    Ok(Some(end)) => Ok(end.hit()),
                    Err(fault) => Err(fault),
                };
                way.close();
                open -= 1;
                found(g * TOGETHER + i, ended);
            }
        }
    }
}

/// The entry with exactly this key.
pub(crate) fn find<S: Schema>(tree: &Tree<S>, key: &S::Key) -> Result<Option<S::Val>, Fault> {
    let Some(root) = &tree.root else { return Ok(None) };
    Ok(floor(root, key)?.filter(|(k, _, _)| k == key).map(|(_, v, _)| v))
}

/// The blocks of the nodes on the way to `key`, root first.
pub(crate) fn path_nodes<S: Schema>(
    root: &Arc<Link<S>>,
    key: &S::Key,
    out: &mut Vec<Addr>,
) -> Result<(), Fault> {
    path_all(root, key, |at, _| {
        out.push(at);
        Ok(true)
    })?;
    Ok(())
}

/// Is it so for all nodes on the way to `key`, by their blocks and stamps? Root first.
pub(crate) fn path_all<S: Schema>(
    root: &Arc<Link<S>>,
    key: &S::Key,
    mut all: impl FnMut(Addr, u64) -> Result<bool, Fault>,
) -> Result<bool, Fault> {
    let (mut link, mut shift) = (root.clone(), 0u64);
    loop {
        let node = link.get()?;
        if !all(link.at.addr, node.stamp)? {
            return Ok(false);
        }
        match &node.body {
            Body::Leaf(_) => return Ok(true),
            Body::Inner(c) => {
                let here = S::moved(key, shift.wrapping_neg());
                let child = &c[child_index(c, &here)];
                shift = shift.wrapping_add(child.shift);
                link = child.link.clone();
            }
        }
    }
}

/// First key of what the next slice of a removal takes (law B10): the last leaf,
/// or the highest shared node on the way to it, which goes by one lowering.
pub(crate) fn last_leaf_start<S: Schema>(
    root: &Arc<Link<S>>,
    mut shared: impl FnMut(Addr) -> Result<bool, Fault>,
) -> Result<Option<S::Key>, Fault> {
    let mut link = root.clone();
    let (mut key, mut shift) = (None, 0u64);
    loop {
        if shared(link.at.addr)? {
            // The root's own start is the start of everything.
            return Ok(key);
        }
        let node = link.get()?;
        match &node.body {
            Body::Leaf(_) => return Ok(key.or_else(|| node.first_key().cloned())),
            Body::Inner(c) => {
                let last = c.last().ok_or_else(|| {
                    Fault::corrupt(S::WHAT, link.at.addr, "an inner node without children")
                })?;
                key = Some(S::moved(&last.key, shift));
                shift = shift.wrapping_add(last.shift);
                link = last.link.clone();
            }
        }
    }
}

/// Walks entries in order of keys. Holds one path; nothing it holds changes.
pub(crate) struct Cursor<S: Schema> {
    /// Nodes, where in each, and by how much their keys are moved.
    stack: Vec<(Arc<Kept<S>>, usize, u64)>,
    pending: Option<Child<S>>,
    /// The last entry of the leaf before, as the tree counts.
    before: Option<(S::Key, S::Val)>,
}

impl<S: Schema> Cursor<S> {
    /// Starts at the last entry at or before `key` (so a run that contains it
    /// is not missed), or at the first entry.
    pub(crate) fn seek(tree: &Tree<S>, key: &S::Key) -> Result<Self, Fault> {
        let mut c = Cursor { stack: Vec::new(), pending: None, before: None };
        let Some(root) = &tree.root else { return Ok(c) };
        let (mut node, mut shift) = (root.get()?, 0u64);
        loop {
            let here = S::moved(key, shift.wrapping_neg());
            let (i, next) = match &node.body {
                Body::Leaf(e) => (e.partition_point(|(k, _)| *k <= here).saturating_sub(1), None),
                Body::Inner(ch) => {
                    let i = child_index(ch, &here);
                    (i, Some(ch[i].clone()))
                }
            };
            c.stack.push((node, i, shift));
            let Some(child) = next else { return Ok(c) };
            if child.key > here {
                // All of it lies behind; the keys below must not be moved back past 0.
                c.pending = Some(child);
                return Ok(c);
            }
            shift = shift.wrapping_add(child.shift);
            node = child.node()?;
        }
    }

    /// The entry here and its leaf's stamp; then moves on. A fault leaves the
    /// cursor where it was: call again when the node has been read.
    pub(crate) fn next(&mut self) -> Result<Option<Hit<S>>, Fault> {
        loop {
            if let Some(child) = self.pending.take()
                && let Err(f) = self.enter(&child)
            {
                self.pending = Some(child);
                return Err(f);
            }
            let Some((node, i, shift)) = self.stack.last_mut() else { return Ok(None) };
            match &node.body {
                Body::Leaf(e) => {
                    if let Some((k, v)) = e.get(*i) {
                        *i += 1;
                        return Ok(Some((S::moved(k, *shift), v.clone(), node.stamp)));
                    }
                }
                Body::Inner(c) => {
                    if let Some(child) = c.get(*i) {
                        // Leaves of the path that `seek` took are on the stack already.
                        self.pending = Some(child.clone());
                        continue;
                    }
                }
            }
            if let Some((node, _, shift)) = self.stack.pop()
                && let Body::Leaf(e) = &node.body
                && let Some((k, v)) = e.last()
            {
                self.before = Some((S::moved(k, shift), v.clone()));
            }
            if let Some((_, i, _)) = self.stack.last_mut() {
                *i += 1;
            }
        }
    }

    /// Goes down to a child of the node on top.
    fn enter(&mut self, child: &Child<S>) -> Result<(), Fault> {
        let node = child.node()?;
        let above = self.stack.last().map_or(0, |(_, _, shift)| *shift);
        let shift = above.wrapping_add(child.shift);
        self.in_order(&child.link, &node, shift)?;
        self.stack.push((node, 0, shift));
        Ok(())
    }

    /// Does a leaf begin where the one before ends, or behind it? Whoever walks
    /// entries relies on it, and no node can show it by itself.
    fn in_order(&self, link: &Link<S>, node: &super::Node<S>, shift: u64) -> Result<(), Fault> {
        let (Some((k, v)), Body::Leaf(entries)) = (&self.before, &node.body) else { return Ok(()) };
        match entries.first().map(|(next, _)| S::moved(next, shift)) {
            Some(next) if *k >= next || S::reaches(k, v, &next) => {
                let why = "its entries do not follow those of the leaf before";
                Err(Fault::corrupt(S::WHAT, link.at.addr, why))
            }
            _ => Ok(()),
        }
    }
}
