//! Rewriting structures of an image, checksums included: damage that only their
//! meaning shows.

use super::anatomy::{Anatomy, node};
use freehold_blockmap::format::node::{Body, encode_inner, encode_leaf};
use freehold_blockmap::format::types::{Child, FileRecord, GROUP_BLOCKS, Kind, NodeRef};
use freehold_blockmap::format::{
    BLOCK, Counts, EntryCodec, Extents, Files, Names, Space, bitmap, superblock,
};
use freehold_engine::sim::{Block, SimImage};
use std::sync::Arc;

/// An image that is being changed, and what it was.
#[derive(Debug, Clone)]
pub struct Surgery {
    /// As it is now.
    pub image: SimImage,
    /// As it was when this began.
    pub before: Anatomy,
}

/// A leaf's entries.
pub type Entries<C> = Vec<(<C as EntryCodec>::Key, <C as EntryCodec>::Val)>;

impl Surgery {
    /// Begins with a sound image.
    pub fn on(image: &SimImage) -> Self {
        Self { image: image.clone(), before: Anatomy::of(image) }
    }

    fn id(&self) -> [u8; 16] {
        self.before.sb.store_id
    }

    /// Replaces a block's bytes.
    pub fn put(&mut self, addr: u64, bytes: &[u8]) {
        let block: Block = bytes.try_into().expect("one block");
        self.image.set(addr, Arc::new(block));
    }

    /// Flips bits of one byte.
    pub fn flip(&mut self, addr: u64, offset: usize, bits: u8) {
        let mut bytes = *self.image.get(addr);
        bytes[offset] ^= bits;
        self.put(addr, &bytes);
    }

    /// Changes the bytes of a block that is checked with the store's id, and
    /// gives it a right checksum.
    pub fn raw(&mut self, addr: u64, change: impl FnOnce(&mut [u8])) {
        let mut bytes = self.image.get(addr).to_vec();
        change(&mut bytes);
        crate::fuzz::resum(&mut bytes, &self.id());
        self.put(addr, &bytes);
    }

    /// Changes the entries of a leaf.
    ///
    /// # Panics
    /// If there is no leaf, or the format cannot say what it is to become.
    pub fn leaf<C: EntryCodec>(&mut self, at: NodeRef, change: impl FnOnce(&mut Entries<C>)) {
        let found = node::<C>(&self.image, &self.id(), at);
        let Body::Leaf(mut entries) = found.body else { panic!("no leaf at {}", at.addr) };
        change(&mut entries);
        let mut bytes = vec![0; BLOCK];
        let pairs = entries.iter().map(|(k, v)| (k, v));
        encode_leaf::<C>(pairs, found.stamp, at, &self.id(), &mut bytes).expect("a leaf");
        self.put(at.addr, &bytes);
    }

    /// Changes the children of an inner node.
    ///
    /// # Panics
    /// If there is none, or the format cannot say what it is to become.
    pub fn inner<C: EntryCodec>(
        &mut self,
        at: NodeRef,
        change: impl FnOnce(&mut Vec<(C::Key, Child)>),
    ) {
        let found = node::<C>(&self.image, &self.id(), at);
        let Body::Inner(mut children) = found.body else { panic!("no inner node") };
        change(&mut children);
        let mut bytes = vec![0; BLOCK];
        let pairs = children.iter().map(|(k, c)| (k, *c));
        encode_inner::<C>(pairs, at, &self.id(), &mut bytes).expect("an inner node");
        self.put(at.addr, &bytes);
    }

    /// The leaf of a tree that has an entry of this kind.
    ///
    /// # Panics
    /// If there is none.
    pub fn find<C: EntryCodec>(&self, has: impl Fn(&C::Key, &C::Val) -> bool) -> NodeRef {
        let leaves = self.before.nodes(C::KIND, true);
        let found = leaves.into_iter().find(|at| {
            let Body::Leaf(entries) = node::<C>(&self.image, &self.id(), *at).body else {
                return false;
            };
            entries.iter().any(|(k, v)| has(k, v))
        });
        found.unwrap_or_else(|| panic!("no such leaf of {:?}", C::KIND))
    }

    /// Changes the entry of a name.
    pub fn name(&mut self, name: &[u8], change: impl FnOnce(&mut u64)) {
        let at = self.find::<Names>(|k, _| **k == *name);
        self.leaf::<Names>(at, |entries| {
            change(&mut entries.iter_mut().find(|(k, _)| **k == *name).expect("it is here").1);
        });
    }

    /// Changes a file's record.
    pub fn record(&mut self, key: u64, change: impl FnOnce(&mut FileRecord)) {
        let at = self.find::<Files>(|k, _| *k == key);
        self.leaf::<Files>(at, |entries| {
            change(&mut entries.iter_mut().find(|(k, _)| *k == key).expect("it is here").1);
        });
    }

    /// The root of the map of a file whose map is a tree.
    ///
    /// # Panics
    /// If it is not.
    pub fn root(&self, name: &[u8]) -> NodeRef {
        match self.before.record(name).map {
            freehold_blockmap::format::types::FileMap::Tree(root) => root,
            other => panic!("an inline map: {other:?}"),
        }
    }

    /// The nodes of that map that are leaves, in order.
    pub fn leaves(&self, name: &[u8]) -> Vec<NodeRef> {
        let nodes = self.before.map_nodes(&self.image, self.root(name));
        nodes.into_iter().filter(|at| at.level == 0).collect()
    }

    /// The leaf of the tree of counts that has this block.
    pub fn count_leaf(&self, block: u64) -> NodeRef {
        self.find::<Counts>(|k, run| (*k..*k + u64::from(run.len)).contains(&block))
    }

    /// Marks a block as used or free, in the bitmap and in all sums.
    ///
    /// # Panics
    /// If it is so already.
    pub fn mark(&mut self, block: u64, used: bool) {
        let group = block / GROUP_BLOCKS;
        let found = self.before.space.iter().find(|(g, _)| *g == group);
        let mut desc = found.expect("a group with a bitmap").1;
        let id = self.id();
        // Changed before, perhaps: the sums are those of the bitmap as it is.
        let leaf = self.find::<Space>(|g, _| *g == group);
        self.leaf::<Space>(leaf, |entries| {
            desc = entries.iter().find(|(g, _)| *g == group).expect("it is here").1;
        });
        let bytes = self.image.get(desc.addr);
        let mut words = bitmap::decode(&bytes[..], &id, group, &desc).expect("a bitmap");
        let bit = (block % GROUP_BLOCKS) as usize;
        assert_ne!(words[bit / 64] >> (bit % 64) & 1 == 1, used, "block {block} is so already");
        words[bit / 64] ^= 1 << (bit % 64);
        desc.free = bitmap::free(&words);
        let mut out = vec![0; BLOCK];
        bitmap::encode(&words, group, &desc, &id, &mut out).expect("a bitmap");
        self.put(desc.addr, &out);
        self.leaf::<Space>(leaf, |entries| {
            entries.iter_mut().find(|(g, _)| *g == group).expect("it is here").1 = desc;
        });
        self.superblock(|sb| sb.free = if used { sb.free - 1 } else { sb.free + 1 });
    }

    /// Changes the newest superblock.
    ///
    /// # Panics
    /// If the format cannot say what it is to become.
    pub fn superblock(
        &mut self,
        change: impl FnOnce(&mut freehold_blockmap::format::types::Superblock),
    ) {
        let slot = self.before.slot;
        let mut sb = superblock::decode(&self.image.get(slot)[..], slot).expect("a superblock");
        change(&mut sb);
        let mut bytes = vec![0; BLOCK];
        superblock::encode(&sb, slot, &mut bytes).expect("a superblock");
        self.put(slot, &bytes);
    }

    /// A block that nothing uses.
    ///
    /// # Panics
    /// If there is none.
    pub fn free_block(&self) -> u64 {
        let (group, desc) = self.before.space.first().expect("a group");
        let bytes = self.image.get(desc.addr);
        let words = bitmap::decode(&bytes[..], &self.id(), *group, desc).expect("a bitmap");
        let bit = (0..GROUP_BLOCKS).rev().find(|i| words[*i as usize / 64] >> (i % 64) & 1 == 0);
        group * GROUP_BLOCKS + bit.expect("a free block")
    }

    /// The first extents of a leaf of a map.
    ///
    /// # Panics
    /// If it is no leaf.
    pub fn extents(&self, at: NodeRef) -> Entries<Extents> {
        assert!(self.before.nodes(Kind::Extents, true).contains(&at), "no leaf of a map");
        match node::<Extents>(&self.image, &self.id(), at).body {
            Body::Leaf(entries) => entries,
            Body::Inner(_) => panic!("no leaf at {}", at.addr),
        }
    }
}
