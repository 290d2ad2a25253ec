//! Nodes, links to nodes, and reading a node's block.

use super::{Fault, Schema};
use crate::cache::{Cache, Charge, Evict, Hold, PLACE};
use crate::format::bitmap::WORDS;
use crate::format::header::PAYLOAD;
use crate::format::node as codec;
use crate::format::types::{self, Addr, Kind, NodeRef};
use freehold_engine::rcu::{self, Reading, Slot};
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// A node's entries or children.
#[derive(Debug)]
pub(crate) enum Body<S: Schema> {
    Leaf(Vec<(S::Key, S::Val)>),
    Inner(Vec<Child<S>>),
}

/// What is wrong with a node that its parent names wrongly.
pub(super) const FIRST_KEY: &str = "its first key is not the one that its parent has for it";

/// A child in its parent: its first key, by how much its keys are moved, and it.
///
/// The key is as the parent counts. Every key below is to be read with `shift`
/// added, modulo 2^64, and the shifts of all nodes on the way add up. So moving a
/// subtree along the keys changes its parent only, and a subtree can be shared by
/// parents that have it at different places. A node that is rewritten is
/// rewritten as its parent counts, and its new shift is 0.
pub(crate) struct Child<S: Schema> {
    pub(crate) key: S::Key,
    pub(crate) shift: u64,
    pub(crate) link: Arc<Link<S>>,
}

impl<S: Schema> Clone for Child<S> {
    fn clone(&self) -> Self {
        Child { key: self.key.clone(), shift: self.shift, link: self.link.clone() }
    }
}

impl<S: Schema> fmt::Debug for Child<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?} moved by {}", self.key, self.link, self.shift.cast_signed())
    }
}

impl<S: Schema> Child<S> {
    /// A node that was just made, in the place where it is counted from.
    pub(super) fn here(key: S::Key, link: Arc<Link<S>>) -> Self {
        Child { key, shift: 0, link }
    }

    /// A whole tree as a child; none if it is a leaf without entries.
    pub(super) fn of_root(root: Arc<Link<S>>) -> Result<Option<Self>, Fault> {
        let key = root.get()?.first_key().cloned();
        Ok(key.map(|key| Child::here(key, root)))
    }

    /// The node. That its first key is the one that stands here is what keeps
    /// the sums of keys and shifts within what a key can be.
    pub(super) fn node(&self) -> Result<Arc<Kept<S>>, Fault> {
        let node = self.link.get()?;
        self.check(&node)?;
        Ok(node)
    }

    /// Is the node's first key the one that stands here?
    pub(super) fn check(&self, node: &Kept<S>) -> Result<(), Fault> {
        let first = node.first.as_ref().or_else(|| node.first_key());
        if first.is_some_and(|k| S::moved(k, self.shift) == self.key) {
            return Ok(());
        }
        Err(Fault::corrupt(S::WHAT, self.link.at.addr, FIRST_KEY))
    }
}

/// Entries for which a list that is changed keeps room: moving a few thousand bytes
/// for each entry that comes costs more than they do.
pub(super) const SPARE: usize = 4;

impl<S: Schema> Body<S> {
    /// A copy that can grow by a few entries.
    pub(super) fn roomy(&self) -> Self {
        fn copy<T: Clone>(from: &[T]) -> Vec<T> {
            let mut to = Vec::with_capacity(from.len() + SPARE);
            to.extend_from_slice(from);
            to
        }
        match self {
            Body::Leaf(e) => Body::Leaf(copy(e)),
            Body::Inner(c) => Body::Inner(copy(c)),
        }
    }
}

/// An immutable node. `stamp` is law B1's, in nodes of file maps: the store's count of
/// shares when it was made. Whoever has the node, and was shared before that only, has
/// it alone. Leaves keep it on the medium; an inner node that was read has 0.
#[derive(Debug)]
pub(crate) struct Node<S: Schema> {
    pub(crate) stamp: u64,
    pub(crate) body: Body<S>,
}

/// A node in memory, and what it costs.
#[derive(Debug)]
pub(crate) struct Kept<S: Schema> {
    node: Node<S>,
    charge: Charge,
    /// The node's first key, where keys are small: a look-up that comes by need not load
    /// the beginning of the list for it.
    first: Option<S::Key>,
}

impl<S: Schema> Deref for Kept<S> {
    type Target = Node<S>;

    fn deref(&self) -> &Node<S> {
        &self.node
    }
}

impl<S: Schema> Kept<S> {
    /// A node and its charge.
    fn new(node: Node<S>, charge: Charge) -> Arc<Self> {
        let first = node.first_key().filter(|_| S::is_run()).cloned();
        Arc::new(Kept { node, charge, first })
    }

    /// Asks for what a look-up will load of it.
    pub(super) fn prefetch(&self) {
        rcu::prefetch(&self.node.body);
        rcu::prefetch(&self.first);
    }

    /// The node, which nobody keeps any more.
    pub(super) fn into_node(self) -> Node<S> {
        self.node
    }
}

/// A node's identity, and the node where it is in memory.
pub(crate) struct Link<S: Schema> {
    pub(crate) at: NodeRef,
    node: Slot<Kept<S>>,
    written: AtomicBool,
    /// Somebody came by since the cache last looked.
    used: AtomicBool,
}

/// A tree: its root, if it has any entry.
#[derive(Debug)]
pub(crate) struct Tree<S: Schema> {
    pub(crate) root: Option<Arc<Link<S>>>,
}

/// Something that must be read from the medium before work can go on.
pub(crate) trait Load: Send + Sync + fmt::Debug {
    /// The block to read.
    fn addr(&self) -> Addr;
    /// Which structure it belongs to.
    fn kind(&self) -> Kind;
    /// Decodes the block and keeps the result where the next attempt finds it.
    fn fill(
        self: Arc<Self>,
        block: &[u8],
        store_id: &[u8; 16],
        cache: &Arc<Cache>,
    ) -> Result<Filled, Fault>;
}

/// What a [`Load`] gave back to its caller to keep.
pub(crate) enum Filled {
    /// The node is in its link, and stays there while this is held.
    InPlace(Hold),
    /// The bitmap of a space group, for `space` to install.
    Bitmap(u64, Box<[u64; WORDS]>),
}

impl<S: Schema> Tree<S> {
    pub(crate) const EMPTY: Self = Tree { root: None };

    /// The tree that a checkpoint names.
    pub(crate) fn at(at: NodeRef) -> Self {
        Tree { root: (at.addr != 0).then(|| Link::unloaded(at)) }
    }

    /// How a checkpoint names it.
    pub(crate) fn node_ref(&self) -> NodeRef {
        self.root.as_ref().map_or(NodeRef::default(), |l| l.at)
    }
}

impl<S: Schema> Clone for Tree<S> {
    fn clone(&self) -> Self {
        Tree { root: self.root.clone() }
    }
}

impl<S: Schema> Link<S> {
    /// A node that is on the medium and not yet in memory.
    pub(crate) fn unloaded(at: NodeRef) -> Arc<Self> {
        Arc::new(Link {
            at,
            node: Slot::empty(),
            written: AtomicBool::new(true),
            used: AtomicBool::new(false),
        })
    }

    /// A node that was just made and is on no medium.
    pub(crate) fn fresh(cache: &Arc<Cache>, at: NodeRef, mut node: Node<S>) -> Arc<Self> {
        let cost = node.settle();
        let charge = Charge::dirty(cache, cost);
        let node = Slot::new(Kept::new(node, charge));
        Arc::new(Link { at, node, written: AtomicBool::new(false), used: AtomicBool::new(false) })
    }

    /// The node, or the fault that names what to read.
    pub(crate) fn get(self: &Arc<Self>) -> Result<Arc<Kept<S>>, Fault> {
        self.mark();
        self.node.share().ok_or_else(|| Fault::Missing(self.clone()))
    }

    /// The node without counting a reference; for look-ups. One plain load.
    pub(crate) fn peek<'a>(&'a self, reading: &'a Reading) -> Option<&'a Kept<S>> {
        self.mark();
        self.node.get(reading)
    }

    /// Asks for what [`Link::peek`] will load.
    pub(super) fn prefetch(&self) {
        rcu::prefetch(&self.node);
    }

    /// Leaves the mark that keeps it from being evicted next. Many may come by at
    /// once: only the first of them writes.
    fn mark(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// The node of a link that nobody else has.
    pub(super) fn into_node(self) -> Option<Arc<Kept<S>>> {
        self.node.into_inner()
    }

    /// Its bytes are on the medium.
    pub(crate) fn is_written(&self) -> bool {
        self.written.load(Ordering::Acquire)
    }

    /// Its bytes are on the medium from now on, and so are those of all below it:
    /// it may be evicted.
    pub(crate) fn set_written(self: &Arc<Self>) {
        self.written.store(true, Ordering::Release);
        if let Some(node) = self.node.share() {
            node.charge.written().enter(self.place());
        }
    }

    fn place(self: &Arc<Self>) -> Weak<dyn Evict> {
        let weak: Weak<Self> = Arc::downgrade(self);
        weak
    }

    /// The node's block, ready to be written.
    pub(crate) fn encode(&self, block: &mut [u8], id: &[u8; 16]) -> Result<(), Fault> {
        let node = self.node.share().ok_or_else(|| {
            Fault::corrupt(S::WHAT, self.at.addr, "a node that was never written is gone")
        })?;
        let done = match &node.body {
            Body::Leaf(entries) => {
                let it = entries.iter().map(|(k, v)| (k, v));
                codec::encode_leaf::<S>(it, node.stamp, self.at, id, block)
            }
            Body::Inner(children) => {
                let it = children
                    .iter()
                    .map(|c| (&c.key, types::Child { at: c.link.at, shift: c.shift }));
                codec::encode_inner::<S>(it, self.at, id, block)
            }
        };
        done.map_err(|e| Fault::format(S::WHAT, self.at.addr, &e))
    }

    /// A node as it is on the medium, children unloaded.
    pub(crate) fn decode(at: NodeRef, block: &[u8], id: &[u8; 16]) -> Result<Node<S>, Fault> {
        let d =
            codec::decode::<S>(block, id, at).map_err(|e| Fault::format(S::WHAT, at.addr, &e))?;
        let body = match d.body {
            codec::Body::Leaf(entries) => Body::Leaf(entries),
            codec::Body::Inner(children) => {
                let child = |(key, c): (S::Key, types::Child)| {
                    let link = Link::unloaded(c.at);
                    Child { key, shift: c.shift, link }
                };
                Body::Inner(children.into_iter().map(child).collect())
            }
        };
        Ok(Node { stamp: d.stamp, body })
    }
}

impl<S: Schema> Node<S> {
    /// Bytes that the entries take in a block.
    pub(crate) fn bytes(&self) -> usize {
        match &self.body {
            Body::Leaf(e) => e.iter().map(|(k, v)| S::entry_len(k, v)).sum(),
            Body::Inner(c) => c.iter().map(|c| inner_len::<S>(&c.key)).sum(),
        }
    }

    /// The key of a child, if there are so many.
    pub(super) fn child_key(&self, i: usize) -> Option<&S::Key> {
        match &self.body {
            Body::Leaf(_) => None,
            Body::Inner(c) => c.get(i).map(|c| &c.key),
        }
    }

    /// Gives back room that its lists do not need; the bytes that it takes in
    /// memory, its children's links and its place in the cache included.
    fn settle(&mut self) -> usize {
        /// What an allocation and its reference counts take besides.
        const HEAP: usize = 16;
        let lists = match &mut self.body {
            Body::Leaf(e) => {
                tighten(e);
                let apart: usize = e.iter().map(|(k, _)| S::apart(k)).sum();
                e.capacity() * size_of::<(S::Key, S::Val)>() + apart
            }
            Body::Inner(c) => {
                tighten(c);
                let apart: usize = c.iter().map(|c| S::apart(&c.key)).sum();
                let child = size_of::<Link<S>>() + 2 * HEAP;
                c.capacity() * size_of::<Child<S>>() + c.len() * child + apart
            }
        };
        lists + size_of::<Kept<S>>() + 3 * HEAP + PLACE
    }

    /// The first key, if there is any entry.
    pub(crate) fn first_key(&self) -> Option<&S::Key> {
        match &self.body {
            Body::Leaf(e) => e.first().map(|(k, _)| k),
            Body::Inner(c) => c.first().map(|c| &c.key),
        }
    }
}

/// Leaves little room that is not needed.
fn tighten<T>(list: &mut Vec<T>) {
    if list.capacity() - list.len() > 2 * SPARE {
        list.shrink_to(list.len() + SPARE);
    }
}

/// Bytes of an entry of an inner node.
pub(crate) fn inner_len<S: Schema>(k: &S::Key) -> usize {
    codec::child_len::<S>(k)
}

/// Below this a node looks for a neighbour to merge with.
pub(crate) const SMALL: usize = PAYLOAD / 4;

impl<S: Schema> Load for Link<S> {
    fn addr(&self) -> Addr {
        self.at.addr
    }

    fn kind(&self) -> Kind {
        S::KIND
    }

    fn fill(
        self: Arc<Self>,
        block: &[u8],
        id: &[u8; 16],
        cache: &Arc<Cache>,
    ) -> Result<Filled, Fault> {
        let mut node = Self::decode(self.at, block, id)?;
        let cost = node.settle();
        let node = Kept::new(node, Charge::clean(cache, cost));
        // Two readers may have read it at once: the first stays.
        let filled = self.node.fill(node.clone());
        self.mark();
        Ok(Filled::InPlace(match filled {
            Err(first) => first,
            Ok(()) => {
                cache.enter(self.place());
                node
            }
        }))
    }
}

impl<S: Schema> Evict for Link<S> {
    fn evict(&self) -> bool {
        if self.used.swap(false, Ordering::Relaxed) {
            return false;
        }
        // The link's own: while others hold it, nothing is gained.
        if self.node.shares() > 1 {
            return false;
        }
        if let Some(node) = self.node.get(&rcu::reading()) {
            node.charge.leaves();
        }
        self.node.evict();
        true
    }
}

impl<S: Schema> fmt::Debug for Link<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", S::WHAT, self.at.addr)
    }
}
