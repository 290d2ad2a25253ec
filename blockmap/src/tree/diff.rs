//! Where two maps differ, at the cost of what differs.
//!
//! Both maps are walked side by side. A subtree that stands next on both sides, the same
//! node moved by the same shift, is passed over unseen; everything else is looked into
//! only when the other side has come to its first key.

use super::node::{Body, FIRST_KEY, Link};
use super::{Fault, Schema, Tree};
use crate::format::Extents;
use crate::format::types::{Extent, NodeRef};
use std::sync::Arc;

/// What comes next on one side.
enum Item {
    /// A subtree, its first key, and by how much its keys are moved. Of a root the
    /// first key is not known before it is read: 0.
    Below { key: u64, shift: u64, link: Arc<Link<Extents>>, root: bool },
    /// An extent, or what is left of it.
    Extent(u64, Extent),
}

/// One side: what has not been passed yet, the next last.
pub(crate) struct Walker {
    stack: Vec<Item>,
    /// Where the last extent that was passed ends.
    reached: u64,
}

impl Walker {
    /// All of a tree.
    pub(crate) fn of_tree(tree: &Tree<Extents>) -> Self {
        let root = |link: &Arc<Link<Extents>>| Item::Below {
            key: 0,
            shift: 0,
            link: link.clone(),
            root: true,
        };
        Walker { stack: tree.root.iter().map(root).collect(), reached: 0 }
    }

    /// A map without a tree.
    pub(crate) fn of_extents(extents: &[(u64, Extent)]) -> Self {
        let stack = extents.iter().rev().map(|(k, e)| Item::Extent(*k, *e)).collect();
        Walker { stack, reached: 0 }
    }

    fn key(&self) -> u64 {
        match self.stack.last() {
            Some(Item::Below { key, .. } | Item::Extent(key, _)) => *key,
            None => u64::MAX,
        }
    }

    /// Which subtree comes next, if one does.
    fn subtree(&self) -> Option<(NodeRef, u64)> {
        match self.stack.last() {
            Some(Item::Below { link, shift, .. }) => Some((link.at, *shift)),
            _ => None,
        }
    }

    /// Looks into the subtree that comes next. A fault leaves all as it was.
    fn open(&mut self) -> Result<(), Fault> {
        let Some(Item::Below { key, shift, link, root }) = self.stack.last() else { return Ok(()) };
        let node = link.get()?;
        let first = node.first_key().map(|k| Extents::moved(k, *shift));
        let wrong = |why: &str| Err(Fault::corrupt(Extents::WHAT, link.at.addr, why));
        if !root && first != Some(*key) {
            return wrong(FIRST_KEY);
        }
        let shift = *shift;
        let items: Vec<Item> = match &node.body {
            Body::Leaf(entries) => {
                if first.is_some_and(|first| first < self.reached) {
                    return wrong("its entries do not follow those of the leaf before");
                }
                let item = |(k, e): &(u64, Extent)| Item::Extent(Extents::moved(k, shift), *e);
                entries.iter().rev().map(item).collect()
            }
            Body::Inner(children) => children
                .iter()
                .rev()
                .map(|c| Item::Below {
                    key: Extents::moved(&c.key, shift),
                    shift: shift.wrapping_add(c.shift),
                    link: c.link.clone(),
                    root: false,
                })
                .collect(),
        };
        self.stack.pop();
        self.stack.extend(items);
        Ok(())
    }

    /// The extent that comes next, if one does.
    fn extent(&self) -> Option<(u64, Extent)> {
        match self.stack.last() {
            Some(Item::Extent(k, e)) => Some((*k, *e)),
            _ => None,
        }
    }

    /// Passes so many blocks of the extent that comes next.
    fn pass(&mut self, blocks: u64) {
        let Some(Item::Extent(k, e)) = self.stack.last_mut() else { return };
        self.reached = k.saturating_add(blocks);
        if blocks >= u64::from(e.len) {
            self.stack.pop();
        } else {
            *k += blocks;
            *e = Extent { phys: e.phys + blocks, len: e.len - blocks as u32, ..*e };
        }
    }
}

/// Two maps, walked side by side.
pub(crate) struct Diff {
    a: Walker,
    b: Walker,
}

impl Diff {
    pub(crate) fn new(a: Walker, b: Walker) -> Self {
        Diff { a, b }
    }

    /// The next run of file blocks, start and length, behind which other blocks stand.
    /// A hole and unwritten blocks are the same. After a fault, call again.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, u64)>, Fault> {
        loop {
            let (here, there) = (self.a.subtree(), self.b.subtree());
            if here.is_some() && here == there {
                self.a.stack.pop();
                self.b.stack.pop();
                continue;
            }
            let (ka, kb) = (self.a.key(), self.b.key());
            let level = |s: Option<(NodeRef, u64)>| s.map(|(at, _)| at.level);
            // Who comes first, or stands higher, is looked into first.
            if here.is_some() && (ka < kb || ka == kb && level(here) >= level(there)) {
                self.a.open()?;
                continue;
            }
            if there.is_some() && kb <= ka {
                self.b.open()?;
                continue;
            }
            if ka == u64::MAX && kb == u64::MAX {
                return Ok(None);
            }
            if let Some(found) = self.compare(ka, kb) {
                return Ok(Some(found));
            }
        }
    }

    /// Passes what comes next: extents at the same place, or one before the other.
    fn compare(&mut self, ka: u64, kb: u64) -> Option<(u64, u64)> {
        let key = ka.min(kb);
        let of = |w: &Walker, k: u64| w.extent().filter(|_| k == key).map(|(_, e)| e);
        let (x, y) = (of(&self.a, ka), of(&self.b, kb));
        let gap = if ka == kb { u64::MAX } else { ka.max(kb) - key };
        let lens = [x, y].into_iter().flatten().map(|e| u64::from(e.len));
        let len = lens.min().unwrap_or(0).min(gap);
        if x.is_some() {
            self.a.pass(len);
        }
        if y.is_some() {
            self.b.pass(len);
        }
        let data = |e: Option<Extent>| e.filter(|e| !e.unwritten).map(|e| e.phys);
        (data(x) != data(y)).then_some((key, len))
    }
}
