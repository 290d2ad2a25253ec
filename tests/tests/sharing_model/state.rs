//! What the store holds in memory: files, nodes, counts, and the free blocks.
//!
//! Nothing here decides. Counts go up and down (law B2), and whoever takes one
//! to zero frees what is below.

use super::rules::{Break, Fault, Kind, fault};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) type Seq = u64;
pub(crate) type NodeId = usize;
pub(crate) type Block = usize;
pub(crate) type FileId = u16;

/// Blocks in the store: few, so that they are reused soon.
pub(crate) const BLOCKS: usize = 40;
/// Blocks in the largest file.
pub(crate) const FILE: i32 = 16;
/// Level of every root: a root of inner nodes of leaves.
pub(crate) const ROOT: u32 = 2;

/// A run of blocks in a leaf. `at` is relative to the leaf's base.
#[derive(Clone, Debug)]
pub(crate) struct Extent {
    pub(crate) at: i32,
    pub(crate) len: i32,
    pub(crate) block: Block,
    pub(crate) own: bool,
}

/// A leaf; `image` is what the medium holds of its stamp and bits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leaf {
    pub(crate) extents: Vec<Extent>,
    pub(crate) stamp: u64,
    pub(crate) dirty: bool,
    pub(crate) version: u64,
    pub(crate) image: (u64, Vec<bool>),
}

/// What a node holds. Bases of kids are relative to the node's own base.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Inner(Vec<(i32, NodeId)>),
    Leaf(Leaf),
}

/// A node with its counts: exact parents, and lowerings that a crash may undo.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) exact: i32,
    pub(crate) pending: i32,
    pub(crate) body: Body,
}

/// The counts of a block; `quarantine` is its volatile owner.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count {
    pub(crate) exact: i32,
    pub(crate) pending: i32,
    pub(crate) quarantine: i32,
}

/// A file record.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) root: NodeId,
    /// The share generation.
    pub(crate) share: u64,
    /// The last record that moved blocks to other offsets.
    pub(crate) shifted: Seq,
    pub(crate) condemned: bool,
}

/// What a lowering lowered.
#[derive(Clone, Copy, Debug)]
enum Lowered {
    Node(NodeId),
    Block(Block),
}

/// The whole store in memory.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<FileId, File>,
    pub(crate) nodes: Vec<Option<Node>>,
    pub(crate) blocks: Vec<Count>,
    pub(crate) free: BTreeSet<Block>,
    pub(crate) freed: Vec<(Seq, Block)>,
    /// The store-wide counter of share generations.
    pub(crate) counter: u64,
    /// The record that is being applied.
    pub(crate) now: Seq,
    pub(crate) broken: Break,
    lowerings: Vec<(Seq, Lowered)>,
    versions: u64,
}

impl State {
    pub(crate) fn new(broken: Break) -> Self {
        Self {
            files: BTreeMap::new(),
            nodes: Vec::new(),
            blocks: vec![Count::default(); BLOCKS],
            free: (0..BLOCKS).collect(),
            freed: Vec::new(),
            counter: 1,
            now: 0,
            broken,
            lowerings: Vec::new(),
            versions: 0,
        }
    }

    pub(crate) fn breaks(&self, rule: Break) -> bool {
        self.broken == rule
    }

    pub(crate) fn node(&self, id: NodeId) -> Result<&Node, Fault> {
        match self.nodes.get(id) {
            Some(Some(node)) => Ok(node),
            _ => fault(Kind::Count, format!("node {id} is used after it was freed")),
        }
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> Result<&mut Node, Fault> {
        match self.nodes.get_mut(id) {
            Some(Some(node)) => Ok(node),
            _ => fault(Kind::Count, format!("node {id} is used after it was freed")),
        }
    }

    pub(crate) fn kids(&self, id: NodeId) -> Result<&[(i32, NodeId)], Fault> {
        match &self.node(id)?.body {
            Body::Inner(kids) => Ok(kids),
            Body::Leaf(_) => fault(Kind::Count, format!("node {id} is a leaf")),
        }
    }

    pub(crate) fn kids_mut(&mut self, id: NodeId) -> Result<&mut Vec<(i32, NodeId)>, Fault> {
        match &mut self.node_mut(id)?.body {
            Body::Inner(kids) => Ok(kids),
            Body::Leaf(_) => fault(Kind::Count, format!("node {id} is a leaf")),
        }
    }

    pub(crate) fn leaf(&self, id: NodeId) -> Result<&Leaf, Fault> {
        match &self.node(id)?.body {
            Body::Leaf(leaf) => Ok(leaf),
            Body::Inner(_) => fault(Kind::Count, format!("node {id} is no leaf")),
        }
    }

    pub(crate) fn leaf_mut(&mut self, id: NodeId) -> Result<&mut Leaf, Fault> {
        match &mut self.node_mut(id)?.body {
            Body::Leaf(leaf) => Ok(leaf),
            Body::Inner(_) => fault(Kind::Count, format!("node {id} is no leaf")),
        }
    }

    /// The leaf, which the caller is about to change in a way that must last.
    pub(crate) fn leaf_dirty(&mut self, id: NodeId) -> Result<&mut Leaf, Fault> {
        self.versions += 1;
        let version = self.versions;
        let leaf = self.leaf_mut(id)?;
        leaf.dirty = true;
        leaf.version = version;
        Ok(leaf)
    }

    /// A new node with one parent, the caller.
    pub(crate) fn add(&mut self, body: Body) -> NodeId {
        self.nodes.push(Some(Node { exact: 1, pending: 0, body }));
        self.nodes.len() - 1
    }

    /// A new leaf with one parent, stamped now.
    pub(crate) fn add_leaf(&mut self, extents: Vec<Extent>) -> NodeId {
        self.versions += 1;
        let (stamp, version) = (self.counter, self.versions);
        self.add(Body::Leaf(Leaf { extents, stamp, dirty: true, version, ..Leaf::default() }))
    }

    pub(crate) fn raise_node(&mut self, id: NodeId) -> Result<(), Fault> {
        self.node_mut(id)?.exact += 1;
        Ok(())
    }

    pub(crate) fn raise_block(&mut self, block: Block) {
        self.blocks[block].exact += 1;
    }

    /// Takes one parent from a node; the one who takes the last frees it and
    /// lowers all below.
    pub(crate) fn lower_node(&mut self, id: NodeId) -> Result<(), Fault> {
        let by_sum = self.breaks(Break::StructureBySum);
        let node = self.node_mut(id)?;
        node.exact -= 1;
        let last = node.exact == 0 && !(by_sum && node.pending > 0);
        node.pending += 1;
        self.lowerings.push((self.now, Lowered::Node(id)));
        if last {
            let body = self.nodes[id].take().map(|node| node.body);
            match body {
                Some(Body::Inner(kids)) => {
                    for (_, kid) in kids {
                        self.lower_node(kid)?;
                    }
                }
                Some(Body::Leaf(leaf)) => self.lower_extents(&leaf.extents)?,
                None => {}
            }
        }
        Ok(())
    }

    pub(crate) fn lower_extents(&mut self, extents: &[Extent]) -> Result<(), Fault> {
        for extent in extents {
            for i in 0..extent.len {
                self.lower_block(extent.block + i as usize)?;
            }
        }
        Ok(())
    }

    pub(crate) fn lower_block(&mut self, block: Block) -> Result<(), Fault> {
        let count = &mut self.blocks[block];
        count.exact -= 1;
        count.pending += 1;
        let exact = count.exact;
        self.lowerings.push((self.now, Lowered::Block(block)));
        if exact < 0 || self.free.contains(&block) {
            return fault(Kind::DoubleFree, format!("block {block} is freed twice"));
        }
        if exact == 0 {
            self.freed.push((self.now, block));
        }
        Ok(())
    }

    /// A node goes from one parent to another: raised there and lowered here,
    /// so that the lowerings of the old path are not forgotten with it.
    pub(crate) fn move_node(&mut self, id: NodeId) -> Result<(), Fault> {
        if !self.breaks(Break::MoveIsNeutral) {
            self.raise_node(id)?;
            self.lower_node(id)?;
        }
        Ok(())
    }

    /// The same for the blocks of extents that go from one leaf to another.
    pub(crate) fn move_extents(&mut self, extents: &[Extent]) -> Result<(), Fault> {
        if !self.breaks(Break::MoveIsNeutral) {
            for extent in extents {
                (0..extent.len).for_each(|i| self.raise_block(extent.block + i as usize));
            }
            self.lower_extents(extents)?;
        }
        Ok(())
    }

    /// Forgets lowerings that have become durable and frees what they freed.
    pub(crate) fn settle(&mut self, durable: Seq) {
        let due = self.lowerings.partition_point(|(seq, _)| *seq <= durable);
        for (_, what) in self.lowerings.drain(..due) {
            match what {
                Lowered::Node(id) => {
                    if let Some(node) = self.nodes[id].as_mut() {
                        node.pending -= 1;
                    }
                }
                Lowered::Block(block) => self.blocks[block].pending -= 1,
            }
        }
        let early = self.breaks(Break::EarlyReuse);
        let (blocks, free) = (&self.blocks, &mut self.free);
        self.freed.retain(|(seq, block)| {
            let go = (early || *seq <= durable) && blocks[*block].quarantine == 0;
            if go {
                free.insert(*block);
            }
            !go
        });
    }

    /// Takes a block that a record names: from the free ones, or in replay from
    /// those that an earlier record freed.
    pub(crate) fn take(&mut self, block: Block) -> Result<(), Fault> {
        let before = self.freed.len();
        self.freed.retain(|(_, b)| *b != block);
        if !self.free.remove(&block) && before == self.freed.len() {
            return fault(Kind::DoubleFree, format!("block {block} is taken but was not free"));
        }
        self.raise_block(block);
        Ok(())
    }
}
