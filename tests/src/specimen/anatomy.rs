//! Where each structure of a store lies in an image, found with the codecs of
//! the format alone.

use freehold_blockmap::format::journal::{decode_group, decode_group_head};
use freehold_blockmap::format::node::{Body, DecodedNode, decode};
use freehold_blockmap::format::types::{
    FileId, FileMap, FileRecord, GroupDesc, GroupHead, Kind, NodeRef, Superblock,
};
use freehold_blockmap::format::{
    BLOCK, CountRun, Counts, EntryCodec, Extents, Files, Names, Space, superblock,
};
use freehold_engine::sim::SimImage;
use std::collections::BTreeSet;

/// One structure.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A superblock; the newest one's checkpoint is the store's.
    Super {
        /// Its checkpoint.
        checkpoint: u64,
        /// The newest one.
        newest: bool,
    },
    /// A block of a group that replay reads; `block` counts from its head.
    Group {
        /// The group.
        head: GroupHead,
        /// Which of its blocks.
        block: u32,
    },
    /// A node of a tree.
    Node(Kind, NodeRef),
    /// The bitmap of a space group.
    Bitmap(u64, GroupDesc),
}

/// A structure and its block.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The block.
    pub addr: u64,
    /// What lies there.
    pub what: What,
}

/// A store taken apart.
#[derive(Debug, Clone)]
pub struct Anatomy {
    /// The newest superblock.
    pub sb: Superblock,
    /// Where that lies.
    pub slot: u64,
    /// All metadata blocks that the store needs, in no order that matters.
    pub parts: Vec<Part>,
    /// The groups that replay reads, and where each begins.
    pub groups: Vec<(GroupHead, u64)>,
    /// The entries of the trees.
    pub names: Vec<(Box<[u8]>, FileId)>,
    /// By key.
    pub files: Vec<(u64, FileRecord)>,
    /// By first block.
    pub counts: Vec<(u64, CountRun)>,
    /// By group.
    pub space: Vec<(u64, GroupDesc)>,
}

impl Anatomy {
    /// Takes a sound store apart.
    ///
    /// # Panics
    /// If the image holds none.
    pub fn of(image: &SimImage) -> Self {
        let both = [0, 1].map(|slot| superblock::decode(&image.get(slot)[..], slot));
        let newest = both.iter().flatten().max_by_key(|sb| sb.checkpoint);
        let sb = newest.expect("a sound superblock").clone();
        let mut parts = Vec::new();
        let mut slot = 0;
        for (addr, found) in both.iter().enumerate() {
            let Ok(found) = found else { continue };
            let newest = found.checkpoint == sb.checkpoint;
            slot = if newest { addr as u64 } else { slot };
            let what = What::Super { checkpoint: found.checkpoint, newest };
            parts.push(Part { addr: addr as u64, what });
        }
        let groups = groups(image, &sb, &mut parts);
        let mut seen = BTreeSet::new();
        let mut walk = Walk { image, sb: &sb, parts: &mut parts, seen: &mut seen };
        let names = walk.tree::<Names>(sb.names);
        let files = walk.tree::<Files>(sb.files);
        let counts = walk.tree::<Counts>(sb.counts);
        let space = walk.tree::<Space>(sb.space);
        for (_, record) in &files {
            if let FileMap::Tree(root) = record.map {
                walk.tree::<Extents>(root);
            }
        }
        for (group, desc) in &space {
            parts.push(Part { addr: desc.addr, what: What::Bitmap(*group, *desc) });
        }
        Self { sb, slot, parts, groups, names, files, counts, space }
    }

    /// The number of the last group, or of the one before the first.
    pub fn last_group(&self) -> u64 {
        self.groups.last().map_or(self.sb.cut_group - 1, |(head, _)| head.number)
    }

    /// The highest group that another one confirms.
    pub fn confirmed(&self) -> u64 {
        self.groups.iter().map(|(head, _)| head.confirmed).max().unwrap_or(0)
    }

    /// The number of the file of this name.
    ///
    /// # Panics
    /// If the checkpoint has none.
    pub fn file(&self, name: &[u8]) -> FileId {
        let found = self.names.iter().find(|(n, _)| **n == *name);
        found.unwrap_or_else(|| panic!("no file {}", name.escape_ascii())).1
    }

    /// The record of the file of this name.
    ///
    /// # Panics
    /// If the checkpoint has none.
    pub fn record(&self, name: &[u8]) -> FileRecord {
        let id = self.file(name);
        self.files.iter().find(|(key, _)| *key == id).expect("a record").1.clone()
    }

    /// The nodes of a tree, leaves or inner ones.
    pub fn nodes(&self, kind: Kind, leaf: bool) -> Vec<NodeRef> {
        let fits = |part: &Part| match part.what {
            What::Node(k, at) if k == kind && (at.level == 0) == leaf => Some(at),
            _ => None,
        };
        self.parts.iter().filter_map(fits).collect()
    }

    /// The nodes of a file's map, root first.
    pub fn map_nodes(&self, image: &SimImage, root: NodeRef) -> Vec<NodeRef> {
        let (mut parts, mut seen) = (Vec::new(), BTreeSet::new());
        let mut walk = Walk { image, sb: &self.sb, parts: &mut parts, seen: &mut seen };
        walk.tree::<Extents>(root);
        let at = parts.iter().filter_map(|p| match p.what {
            What::Node(_, at) => Some(at),
            _ => None,
        });
        at.collect()
    }
}

/// Follows the journal from the cut to its end.
fn groups(image: &SimImage, sb: &Superblock, parts: &mut Vec<Part>) -> Vec<(GroupHead, u64)> {
    let place = |pos: u64| sb.journal_start + pos % sb.journal_blocks;
    let mut found = Vec::new();
    let (mut pos, mut number) = (sb.cut_pos, sb.cut_group);
    while let Ok(head) = decode_group_head(&image.get(place(pos))[..], &sb.store_id) {
        let blocks: Vec<u64> = (0..u64::from(head.blocks)).map(|i| place(pos + i)).collect();
        let bytes: Vec<u8> = blocks.iter().flat_map(|b| *image.get(*b)).collect();
        if head.number != number || decode_group(&bytes, &sb.store_id, pos).is_err() {
            break;
        }
        for (block, addr) in blocks.iter().enumerate() {
            parts.push(Part { addr: *addr, what: What::Group { head, block: block as u32 } });
        }
        found.push((head, place(pos)));
        pos += u64::from(head.blocks);
        number += 1;
    }
    found
}

/// The node at a place of a sound store.
///
/// # Panics
/// If it is not sound.
pub fn node<C: EntryCodec>(image: &SimImage, id: &[u8; 16], at: NodeRef) -> DecodedNode<C> {
    decode::<C>(&image.get(at.addr)[..BLOCK], id, at)
        .unwrap_or_else(|e| panic!("{:?} at {}: {e}", C::KIND, at.addr))
}

struct Walk<'a> {
    image: &'a SimImage,
    sb: &'a Superblock,
    parts: &'a mut Vec<Part>,
    seen: &'a mut BTreeSet<u64>,
}

impl Walk<'_> {
    /// Adds a tree's nodes, each once, and gives the entries of those that are new.
    fn tree<C: EntryCodec>(&mut self, root: NodeRef) -> Vec<(C::Key, C::Val)> {
        let mut entries = Vec::new();
        let mut stack = vec![root];
        while let Some(at) = stack.pop() {
            if at.addr == 0 || !self.seen.insert(at.addr) {
                continue;
            }
            self.parts.push(Part { addr: at.addr, what: What::Node(C::KIND, at) });
            match node::<C>(self.image, &self.sb.store_id, at).body {
                Body::Leaf(leaf) => entries.extend(leaf),
                Body::Inner(children) => {
                    stack.extend(children.into_iter().map(|(_, c)| c.at).rev())
                }
            }
        }
        entries
    }
}
