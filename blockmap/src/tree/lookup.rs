//! Finding entries without changing anything and without a lock.

use super::node::{Body, Kept};
use super::{Fault, Link, Schema, Tree};
use crate::format::EntryCodec;
use crate::format::types::Addr;
use std::sync::Arc;

/// An entry, and the stamp of its leaf.
pub(crate) type Hit<S> = (<S as EntryCodec>::Key, <S as EntryCodec>::Val, u64);

/// The child that contains `key`: the last one that starts at or before it.
pub(crate) fn child_index<S: Schema>(children: &[(S::Key, Arc<Link<S>>)], key: &S::Key) -> usize {
    S::after(children, key, None).saturating_sub(1)
}

/// The last entry whose key is at or before `key`, with its leaf's stamp.
pub(crate) fn floor<S: Schema>(root: &Arc<Link<S>>, key: &S::Key) -> Result<Option<Hit<S>>, Fault> {
    let mut bounds: Option<(u64, u64)> = None;
    // A guard keeps the node that it was loaded for; no reference count is touched.
    let mut guard = root.peek();
    if guard.is_none() {
        return Err(Fault::Missing(root.clone()));
    }
    while let Some(node) = guard.as_ref() {
        match &node.body {
            Body::Leaf(e) => {
                let i = S::after(e, key, bounds);
                return Ok(i.checked_sub(1).map(|i| (e[i].0.clone(), e[i].1.clone(), node.stamp)));
            }
            Body::Inner(c) => {
                let i = S::after(c, key, bounds).saturating_sub(1);
                let link = &c[i].1;
                let end = c.get(i + 1).map(|(k, _)| S::number(k)).or(bounds.map(|(_, hi)| hi));
                bounds = end.map(|hi| (S::number(&c[i].0), hi));
                let below = link.peek();
                if below.is_none() {
                    return Err(Fault::Missing(link.clone()));
                }
                guard = below;
            }
        }
    }
    Ok(None)
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
    let mut link = root.clone();
    loop {
        out.push(link.at.addr);
        let node = link.get()?;
        match &node.body {
            Body::Leaf(_) => return Ok(()),
            Body::Inner(c) => link = c[child_index(c, key)].1.clone(),
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
    let mut key = None;
    loop {
        if shared(link.at.addr)? {
            // The root's own start is the start of everything.
            return Ok(key);
        }
        let node = link.get()?;
        match &node.body {
            Body::Leaf(_) => return Ok(key.or_else(|| node.first_key().cloned())),
            Body::Inner(c) => {
                let (k, l) = c.last().ok_or_else(|| {
                    Fault::corrupt(S::WHAT, link.at.addr, "an inner node without children")
                })?;
                key = Some(k.clone());
                link = l.clone();
            }
        }
    }
}

/// Walks entries in order of keys. Holds one path; nothing it holds changes.
pub(crate) struct Cursor<S: Schema> {
    stack: Vec<(Arc<Kept<S>>, usize)>,
    pending: Option<Arc<Link<S>>>,
    /// The leaf before.
    before: Option<Arc<Kept<S>>>,
}

impl<S: Schema> Cursor<S> {
    /// Starts at the last entry at or before `key` (so a run that contains it
    /// is not missed), or at the first entry.
    pub(crate) fn seek(tree: &Tree<S>, key: &S::Key) -> Result<Self, Fault> {
        let mut c = Cursor { stack: Vec::new(), pending: None, before: None };
        let Some(root) = &tree.root else { return Ok(c) };
        let mut link = root.clone();
        loop {
            let node = link.get()?;
            let (i, next) = match &node.body {
                Body::Leaf(e) => (e.partition_point(|(k, _)| k <= key).saturating_sub(1), None),
                Body::Inner(ch) => {
                    let i = child_index(ch, key);
                    (i, Some(ch[i].1.clone()))
                }
            };
            c.stack.push((node, i));
            match next {
                Some(l) => link = l,
                None => return Ok(c),
            }
        }
    }

    /// The entry here and its leaf's stamp; then moves on. A fault leaves the
    /// cursor where it was: call again when the node has been read.
    pub(crate) fn next(&mut self) -> Result<Option<Hit<S>>, Fault> {
        loop {
            if let Some(link) = self.pending.take() {
                match link.get() {
                    Ok(node) => {
                        self.in_order(&link, &node)?;
                        self.stack.push((node, 0));
                    }
                    Err(f) => {
                        self.pending = Some(link);
                        return Err(f);
                    }
                }
            }
            let Some((node, i)) = self.stack.last_mut() else { return Ok(None) };
            match &node.body {
                Body::Leaf(e) => {
                    if let Some((k, v)) = e.get(*i) {
                        *i += 1;
                        return Ok(Some((k.clone(), v.clone(), node.stamp)));
                    }
                }
                Body::Inner(c) => {
                    if let Some((_, l)) = c.get(*i) {
                        // Leaves of the path that `seek` took are on the stack already.
                        self.pending = Some(l.clone());
                        continue;
                    }
                }
            }
            let left = self.stack.pop();
            if let Some((leaf, _)) = left.filter(|(n, _)| matches!(n.body, Body::Leaf(_))) {
                self.before = Some(leaf);
            }
            if let Some((_, i)) = self.stack.last_mut() {
                *i += 1;
            }
        }
    }

    /// Does a leaf begin where the one before ends, or behind it? Whoever walks
    /// entries relies on it, and no node can show it by itself.
    fn in_order(&self, link: &Link<S>, node: &super::Node<S>) -> Result<(), Fault> {
        let (Some(before), Body::Leaf(entries)) = (&self.before, &node.body) else { return Ok(()) };
        let Body::Leaf(earlier) = &before.body else { return Ok(()) };
        match (earlier.last(), entries.first()) {
            (Some((k, v)), Some((next, _))) if k >= next || S::reaches(k, v, next) => {
                let why = "its entries do not follow those of the leaf before";
                Err(Fault::corrupt(S::WHAT, link.at.addr, why))
            }
            _ => Ok(()),
        }
    }
}
