//! Records and what each does to the store. Replay runs the same code.

use super::rules::{Break, Fault};
use super::state::{Block, Body, Extent, File, FileId, NodeId, Seq, State};
use super::tree::carve;

/// A journal record: logical, with the blocks that were chosen.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    Create { file: FileId },
    Write { file: FileId, blocks: Vec<(i32, Block)> },
    Reflink { from: FileId, to: FileId },
    Range { from: FileId, at: i32, len: i32, to: FileId, dest: i32, trees: bool },
    Punch { file: FileId, at: i32, len: i32 },
    Collapse { file: FileId, at: i32, len: i32 },
    Condemn { file: FileId },
    Slice { file: FileId },
    Split { file: FileId, at: i32 },
    Merge { file: FileId, index: usize, leaves: bool },
}

/// A part of a source that a range reflink shares: a subtree or some extents.
enum Piece {
    Tree { level: u32, id: NodeId, base: i32 },
    Extents(Vec<Extent>),
}

impl State {
    /// Does what a record says.
    pub(crate) fn apply(&mut self, seq: Seq, record: &Record) -> Result<(), Fault> {
        self.now = seq;
        match *record {
            Record::Create { file } => {
                let root = self.add(Body::Inner(Vec::new()));
                self.files.insert(file, File { root, share: 0, shifted: 0, condemned: false });
            }
            Record::Write { file, ref blocks } => {
                for (at, block) in blocks {
                    self.place(file, *at, *block)?;
                }
            }
            Record::Reflink { from, to } => {
                self.counter += 1;
                let root = self.files[&from].root;
                self.raise_node(root)?;
                let copy = File { root, share: 0, shifted: 0, condemned: false };
                self.files.insert(to, copy);
                self.shared(from, Break::SourceGeneration);
                self.shared(to, Break::CloneGeneration);
            }
            Record::Range { from, at, len, to, dest, trees } => {
                self.reflink_range((from, at), len, (to, dest), trees)?;
            }
            Record::Punch { file, at, len } => {
                self.clear(file, at, at + len)?;
            }
            Record::Collapse { file, at, len } => self.collapse(file, at, len)?,
            Record::Condemn { file } => self.record(file, |f| f.condemned = true),
            Record::Slice { file } => self.slice(file)?,
            Record::Split { file, at } => {
                let root = self.own_root(file)?;
                self.split_at(file, root, at)?;
            }
            Record::Merge { file, index, leaves } => self.merge_in(file, index, leaves)?,
        }
        Ok(())
    }

    fn record(&mut self, file: FileId, change: impl FnOnce(&mut File)) {
        if let Some(record) = self.files.get_mut(&file) {
            change(record);
        }
    }

    /// The file takes part in a reflink: its leaves are stale from here on.
    fn shared(&mut self, file: FileId, unless: Break) {
        if !self.breaks(unless) {
            let counter = self.counter;
            self.record(file, |f| f.share = counter);
        }
    }

    fn reflink_range(
        &mut self,
        (from, at): (FileId, i32),
        len: i32,
        (to, dest): (FileId, i32),
        trees: bool,
    ) -> Result<(), Fault> {
        self.counter += 1;
        let late = self.breaks(Break::GenerationsRaisedLate);
        if !late {
            self.both_shared(from, to);
        }
        let mut pieces = Vec::new();
        let root = self.files[&from].root;
        self.pieces(root, 2, 0, (at, at + len), trees, &mut pieces)?;
        let root = self.clear(to, dest, dest + len)?;
        for piece in pieces {
            let (base, kid) = match piece {
                Piece::Tree { level: 1, id, base } => (base, id),
                Piece::Tree { id, base, .. } => (base, self.add(Body::Inner(vec![(0, id)]))),
                Piece::Extents(mut extents) => {
                    let base = extents[0].at;
                    extents.iter_mut().for_each(|extent| extent.at -= base);
                    let leaf = self.add_leaf(extents);
                    (base, self.add(Body::Inner(vec![(0, leaf)])))
                }
            };
            let base = base - at + dest;
            let kids = self.kids_mut(root)?;
            let index = kids.partition_point(|(b, _)| *b < base);
            kids.insert(index, (base, kid));
        }
        if late {
            self.both_shared(from, to);
        }
        Ok(())
    }

    fn both_shared(&mut self, from: FileId, to: FileId) {
        self.shared(from, Break::SourceGeneration);
        if from != to {
            self.shared(to, Break::TargetGeneration);
        }
    }

    /// What of a subtree lies in a range, with one more count for each piece.
    fn pieces(
        &mut self,
        id: NodeId,
        level: u32,
        base: i32,
        range: (i32, i32),
        trees: bool,
        out: &mut Vec<Piece>,
    ) -> Result<(), Fault> {
        let (from, to) = range;
        let end = base + self.end(id)?;
        if end <= from || base >= to || end == base {
            return Ok(());
        }
        if trees && level < 2 && base >= from && end <= to {
            self.raise_node(id)?;
            out.push(Piece::Tree { level, id, base });
            return Ok(());
        }
        match self.node(id)?.body.clone() {
            Body::Inner(kids) => {
                for (b, kid) in kids {
                    self.pieces(kid, level - 1, base + b, range, trees, out)?;
                }
            }
            Body::Leaf(leaf) => {
                let mut extents = carve(&leaf.extents, from - base, to - base);
                for extent in &mut extents {
                    extent.at += base;
                    extent.own = false;
                    (0..extent.len).for_each(|i| self.raise_block(extent.block + i as usize));
                }
                if !extents.is_empty() {
                    out.push(Piece::Extents(extents));
                }
            }
        }
        Ok(())
    }

    /// Removes a range and moves what follows down: only bases change.
    fn collapse(&mut self, file: FileId, at: i32, len: i32) -> Result<(), Fault> {
        let root = self.clear(file, at, at + len)?;
        for (base, _) in self.kids_mut(root)? {
            if *base >= at + len {
                *base -= len;
            }
        }
        let now = self.now;
        self.record(file, |f| f.shifted = now);
        Ok(())
    }

    fn merge_in(&mut self, file: FileId, index: usize, leaves: bool) -> Result<(), Fault> {
        let mut parent = self.own_root(file)?;
        if leaves {
            let count = self.kids(parent)?.len();
            if count == 0 {
                return Ok(());
            }
            parent = self.own_kid(parent, index % count)?;
        }
        let count = self.kids(parent)?.len();
        if count >= 2 { self.merge(file, parent, index % (count - 1)) } else { Ok(()) }
    }

    /// One slice of a removal: lowers one edge, or the blocks of one extent.
    fn slice(&mut self, file: FileId) -> Result<(), Fault> {
        let root = self.files[&file].root;
        if self.node(root)?.exact > 1 || self.kids(root)?.is_empty() {
            self.files.remove(&file);
            return self.lower_node(root);
        }
        let inner = self.kids(root)?[0].1;
        if self.node(inner)?.exact == 1 && !self.kids(inner)?.is_empty() {
            let leaf = self.kids(inner)?[0].1;
            if self.node(leaf)?.exact == 1 && !self.leaf(leaf)?.extents.is_empty() {
                let extent = self.leaf_dirty(leaf)?.extents.remove(0);
                return self.lower_extents(&[extent]);
            }
            self.kids_mut(inner)?.remove(0);
            return self.lower_node(leaf);
        }
        self.kids_mut(root)?.remove(0);
        self.lower_node(inner)
    }
}
