//! What is held, found by where it lies and by its id.
//!
//! Nodes lie in one slab. Each lane (all leases of one access, all seals of one sort)
//! is a treap ordered by (start, id), in which every node knows the greatest end below
//! it: what overlaps a range is found in the time of a look-up plus what is found,
//! however unlike the lengths are. Ids are found through chains that run through the
//! nodes. A node takes 56 bytes, its share of the chains' heads two to four, and the
//! slab has an eighth to spare at most.
//!
//! Invariants: a node that is not free is in its lane's treap and in one chain; ids are
//! unique; a treap is ordered by key and heaped by a hash of the id, so that its shape
//! is that of a random tree whatever the keys are, and the same in every run.

use super::kinds::{Id, SessionId, Span};
use super::treap;
use smallvec::SmallVec;

/// The link that leads nowhere.
pub(super) const NONE: u32 = u32::MAX;

/// One lease or seal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) id: Id,
    pub(super) span: Span,
    /// What the owner of the structure packs into it.
    pub(super) word: u64,
    /// The greatest end in the subtree.
    pub(super) reach: u64,
    pub(super) left: u32,
    pub(super) right: u32,
    /// The next one with the same hash, or the next one that is free.
    next: u32,
    session: u32,
}

const _: () = assert!(size_of::<Node>() == 56);

/// The structure.
#[derive(Debug)]
pub(super) struct Intervals {
    nodes: Vec<Node>,
    /// The first slot that is free.
    free: u32,
    len: u32,
    /// Heads of the chains, a power of two of them, or none.
    heads: Vec<u32>,
    /// Roots of the treaps that are not empty, with how many nodes each has.
    lanes: SmallVec<[Lane; 2]>,
}

#[derive(Debug, Clone, Copy)]
struct Lane {
    number: u8,
    root: u32,
    count: u32,
}

/// Spreads ids over chains and heaps: the finisher of splitmix64.
pub(super) fn spread(id: Id) -> u64 {
    let x = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Intervals {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many nodes a lane has.
    pub(super) fn count(&self, lane: u8) -> u32 {
        self.lanes.iter().find(|l| l.number == lane).map_or(0, |l| l.count)
    }

    /// The lanes that have nodes.
    pub(super) fn lanes(&self) -> impl Iterator<Item = u8> {
        self.lanes.iter().map(|l| l.number)
    }

    pub(super) fn get(&self, id: Id) -> Option<&Node> {
        self.slot(id).map(|slot| self.node(slot))
    }

    /// To change what is packed into a node; its span and id stay as they are.
    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Node> {
        self.slot(id).map(|slot| &mut self.nodes[slot as usize])
    }

    /// All nodes, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Node> {
        // A node that is free has the empty span.
        self.nodes.iter().filter(|node| !node.span.is_empty())
    }

    fn node(&self, slot: u32) -> &Node {
        &self.nodes[slot as usize]
    }

    /// Where in the slab it is, for as long as it is held.
    pub(super) fn slot(&self, id: Id) -> Option<u32> {
        let mut at = *self.heads.get(self.chain(id))?;
        while at != NONE {
            let node = self.node(at);
            if node.id == id {
                return Some(at);
            }
            at = node.next;
        }
        None
    }

    fn chain(&self, id: Id) -> usize {
        // The heap goes by the high bits, the chains by the low ones.
        spread(id) as usize & self.heads.len().wrapping_sub(1)
    }

    /// Adds a node. False, and nothing is changed, if its id is there, its span is
    /// empty or the slab is full.
    pub(super) fn insert(&mut self, lane: u8, mut node: Node) -> bool {
        if node.span.is_empty() || self.slot(node.id).is_some() {
            return false;
        }
        let Some(slot) = self.vacant() else { return false };
        if self.len as usize >= self.heads.len() * 2 {
            self.rehash();
        }
        let chain = self.chain(node.id);
        node.next = std::mem::replace(&mut self.heads[chain], slot);
        self.nodes[slot as usize] = node;
        self.len += 1;
        self.hang(lane, slot);
        true
    }

    /// Takes a node out.
    pub(super) fn remove(&mut self, lane: u8, id: Id) -> Option<Node> {
        let slot = self.slot(id)?;
        self.unhang(lane, slot);
        let node = *self.node(slot);
        let chain = self.chain(id);
        if self.heads[chain] == slot {
            self.heads[chain] = node.next;
        } else {
            let mut at = self.heads[chain];
            while self.node(at).next != slot {
                at = self.node(at).next;
            }
            self.nodes[at as usize].next = node.next;
        }
        self.len -= 1;
        if self.len == 0 {
            *self = Self::default();
            return Some(node);
        }
        self.nodes[slot as usize].span = Span { start: 0, end: 0 };
        self.nodes[slot as usize].next = std::mem::replace(&mut self.free, slot);
        Some(node)
    }

    /// Gives a node another span, which is not empty.
    pub(super) fn resize(&mut self, lane: u8, id: Id, span: Span) {
        let Some(slot) = self.slot(id).filter(|_| !span.is_empty()) else { return };
        self.unhang(lane, slot);
        self.nodes[slot as usize].span = span;
        self.hang(lane, slot);
    }

    /// Shows every node of a lane that has a block in the span, in order, until told to
    /// stop.
    pub(super) fn find(&self, lane: u8, span: Span, mut stop: impl FnMut(&Node) -> bool) {
        if let Some(lane) = self.lanes.iter().find(|l| l.number == lane && !span.is_empty()) {
            treap::find(&self.nodes, lane.root, span, &mut stop);
        }
    }

    fn hang(&mut self, number: u8, slot: u32) {
        let at = self.lanes.iter().position(|l| l.number == number).unwrap_or_else(|| {
            self.lanes.push(Lane { number, root: NONE, count: 0 });
            self.lanes.len() - 1
        });
        let lane = &mut self.lanes[at];
        lane.root = treap::insert(&mut self.nodes, lane.root, slot);
        lane.count += 1;
    }

    fn unhang(&mut self, number: u8, slot: u32) {
        let Some(at) = self.lanes.iter().position(|l| l.number == number) else { return };
        let lane = &mut self.lanes[at];
        lane.root = treap::remove(&mut self.nodes, lane.root, slot);
        lane.count -= 1;
        if lane.count == 0 {
            self.lanes.swap_remove(at);
        }
    }

    /// A slot for a node. The slab grows by an eighth and not to twice its size, which
    /// would be most of what a lease may take.
    fn vacant(&mut self) -> Option<u32> {
        if self.free != NONE {
            let slot = self.free;
            self.free = self.node(slot).next;
            return Some(slot);
        }
        let slot = u32::try_from(self.nodes.len()).ok().filter(|slot| *slot != NONE)?;
        if self.nodes.len() == self.nodes.capacity() {
            self.nodes.reserve_exact((self.nodes.len() / 8).max(1));
        }
        self.nodes.extend(Node::new(0, 0, Span { start: 0, end: 0 }));
        Some(slot)
    }

    /// Twice as many chains.
    fn rehash(&mut self) {
        self.heads = vec![NONE; (self.heads.len() * 2).max(1)];
        for slot in 0..self.nodes.len() {
            if !self.nodes[slot].span.is_empty() {
                let chain = self.chain(self.nodes[slot].id);
                self.nodes[slot].next = std::mem::replace(&mut self.heads[chain], slot as u32);
            }
        }
    }
}

impl Default for Intervals {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: NONE, len: 0, heads: Vec::new(), lanes: SmallVec::new() }
    }
}

impl Node {
    /// Nothing for a session whose number has more than 32 bits.
    pub(super) fn new(id: Id, session: SessionId, span: Span) -> Option<Self> {
        let session = u32::try_from(session).ok()?;
        let (left, right, next) = (NONE, NONE, NONE);
        Some(Self { id, span, word: 0, reach: 0, left, right, next, session })
    }

    pub(super) fn session(&self) -> SessionId {
        self.session.into()
    }
}

#[cfg(test)]
impl Intervals {
    /// Memory that grows with what is held.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.heads.capacity() * size_of::<u32>()
    }

    /// The longest way down a lane.
    pub(super) fn depth(&self, lane: u8) -> usize {
        let root = self.lanes.iter().find(|l| l.number == lane).map_or(NONE, |l| l.root);
        let (mut level, mut depth) = (vec![root], 0);
        while level.iter().any(|slot| *slot != NONE) {
            let nodes = level.iter().filter_map(|slot| self.nodes.get(*slot as usize));
            level = nodes.flat_map(|node| [node.left, node.right]).collect();
            depth += 1;
        }
        depth
    }
}
