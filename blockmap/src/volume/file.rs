//! A file in memory: its map as readers see it, and who is busy with it.

use super::Volume;
use super::guards::Guards;
use super::locks::RangeLocks;
use super::logged::LoggedRange;
use crate::arbiter::SessionId;
use crate::format::BLOCK_LIMIT;
use crate::format::types::{Extent, FileId, FileMap, FileRecord, INLINE_EXTENTS, Seq};
use crate::tree::{
    Fault, Hit, Link, Splice, Tree, build_leaf, edited, floor, floor_all, root_of, splice,
};
use crate::txn::Txn;
use arc_swap::ArcSwap;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The session that a store's own handles belong to.
pub const DEFAULT_SESSION: SessionId = 1;

/// Unknown until somebody walks the map.
pub(super) const UNKNOWN: u64 = u64::MAX;

/// The extents of a short map.
pub(crate) type Inline = SmallVec<[(u64, Extent); INLINE_EXTENTS]>;

/// The map of a file: a few extents, or a tree.
#[derive(Debug, Clone)]
pub(crate) enum Map {
    Inline { stamp: u64, extents: Arc<Inline> },
    Tree(Tree<crate::format::Extents>),
}

/// One version of a file. Immutable; a reader takes one and keeps to it.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) size: u64,
    /// Blocks through the map, or unknown.
    pub(crate) blocks: u64,
    pub(crate) extents: u64,
    /// Law B1.
    pub(crate) share_gen: u64,
    /// Law B10.
    pub(crate) condemned: bool,
    pub(crate) map: Map,
}

/// A file that is in memory. There is one of each.
#[derive(Debug)]
pub(crate) struct FileState {
    pub(crate) id: FileId,
    pub(crate) version: ArcSwap<Version>,
    pub(crate) locks: RangeLocks,
    /// Law B7.
    pub(crate) logged: LoggedRange,
    /// Seals and leases.
    pub(crate) guards: Guards,
    /// The last record that names this file.
    pub(crate) last_seq: AtomicU64,
    /// The last record that made it shorter (law B5).
    pub(crate) shrink_seq: AtomicU64,
    /// Handles that keep it alive.
    pub(crate) opens: AtomicU64,
    /// Where its next new block should lie.
    pub(crate) goal: AtomicU64,
}

/// A look-up's answer: what stands behind a file block, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Nothing, for this many blocks at least.
    Hole(u64),
    /// The extent from this block on; `current`: its leaf's stamp is (law B1).
    Extent { e: Extent, current: bool },
}

impl FileState {
    pub(crate) fn new(id: FileId, version: Version) -> Arc<Self> {
        Arc::new(FileState {
            id,
            version: ArcSwap::from_pointee(version),
            locks: RangeLocks::default(),
            logged: LoggedRange::default(),
            guards: Guards::default(),
            last_seq: AtomicU64::new(0),
            shrink_seq: AtomicU64::new(0),
            opens: AtomicU64::new(0),
            goal: AtomicU64::new(0),
        })
    }

    pub(crate) fn load(&self) -> Arc<Version> {
        self.version.load_full()
    }

    pub(crate) fn named_by(&self, seq: Seq) {
        self.last_seq.fetch_max(seq, Ordering::AcqRel);
    }
}

impl Version {
    pub(crate) fn empty(share_gen: u64) -> Self {
        Version {
            size: 0,
            blocks: 0,
            extents: 0,
            share_gen,
            condemned: false,
            map: Map::Inline { stamp: share_gen, extents: Arc::default() },
        }
    }

    pub(crate) fn from_record(r: &FileRecord) -> Self {
        let map = match &r.map {
            FileMap::Inline { stamp, extents } => {
                Map::Inline { stamp: *stamp, extents: Arc::new(Inline::from_slice(extents)) }
            }
            FileMap::Tree(at) => Map::Tree(Tree::at(*at)),
        };
        Version {
            size: r.size,
            // More than there can be is as good as unknown.
            blocks: if r.blocks > BLOCK_LIMIT { UNKNOWN } else { r.blocks },
            extents: r.extents,
            share_gen: r.share_gen,
            condemned: r.condemned,
            map,
        }
    }

    pub(crate) fn record(&self) -> FileRecord {
        let map = match &self.map {
            Map::Inline { stamp, extents } => {
                FileMap::Inline { stamp: *stamp, extents: extents.to_vec() }
            }
            Map::Tree(t) => FileMap::Tree(t.node_ref()),
        };
        FileRecord {
            size: self.size,
            blocks: self.blocks,
            extents: self.extents,
            share_gen: self.share_gen,
            condemned: self.condemned,
            map,
        }
    }

    /// What stands behind `block`. A hole's length is exact up to the next
    /// extent of the same leaf; at least one block.
    pub(crate) fn lookup(&self, block: u64) -> Result<Piece, Fault> {
        let found = match &self.map {
            Map::Inline { stamp, extents } => {
                let i = extents.partition_point(|(k, _)| *k <= block);
                i.checked_sub(1).map(|i| (extents[i].0, extents[i].1, *stamp))
            }
            Map::Tree(Tree { root: Some(root) }) => floor(root, &block)?,
            Map::Tree(Tree { root: None }) => None,
        };
        Ok(self.piece(block, found))
    }

    /// As [`Version::lookup`] of many blocks, which wait for memory together; `found`
    /// is told the number of each and its answer, in any order.
    pub(crate) fn lookup_all(
        &self,
        blocks: &[u64],
        mut found: impl FnMut(usize, Result<Piece, Fault>),
    ) {
        match self.root() {
            Some(root) => floor_all(root, blocks, |i, hit| {
                found(i, hit.map(|hit| self.piece(blocks[i], hit)));
            }),
            None => blocks.iter().enumerate().for_each(|(i, block)| found(i, self.lookup(*block))),
        }
    }

    fn piece(&self, block: u64, found: Option<Hit<crate::format::Extents>>) -> Piece {
        match found {
            Some((k, e, stamp)) if k + u64::from(e.len) > block => {
                let skip = block - k;
                let e = Extent { phys: e.phys + skip, len: e.len - skip as u32, ..e };
                Piece::Extent { e, current: stamp >= self.share_gen }
            }
            _ => Piece::Hole(1),
        }
    }

    /// The number of blocks, if it is known without a walk.
    pub(crate) fn known(&self) -> Option<(u64, u64)> {
        (self.blocks != UNKNOWN).then_some((self.blocks, self.extents))
    }

    /// Replaces a range of the map. A version that nobody else holds is changed
    /// without copies of what was made for it before.
    pub(crate) fn splice(
        mut self,
        txn: &mut Txn<'_>,
        s: Splice<crate::format::Extents>,
    ) -> Result<Version, Fault> {
        txn.begin_file(self.share_gen);
        let map = match std::mem::replace(&mut self.map, Map::Tree(Tree::EMPTY)) {
            Map::Tree(t) => Map::Tree(splice(txn, t, s)?),
            Map::Inline { stamp, extents } => {
                let e = self.unstamped(stamp, &extents);
                let (range, window) = edited(txn, &e, s)?;
                let kept = (&e[..range.start], &e[range.end..]);
                let new = kept.0.iter().chain(&window).chain(kept.1).copied();
                match kept.0.len() + window.len() + kept.1.len() <= INLINE_EXTENTS {
                    true => Map::Inline { stamp: txn.share_gen, extents: Arc::new(new.collect()) },
                    false => {
                        let nodes = build_leaf(txn, new.collect())?;
                        Map::Tree(Tree { root: root_of(txn, nodes)? })
                    }
                }
            }
        };
        Ok(self.with_map(txn, map))
    }

    /// The entries of an inline map, disowned if they are older than the last sharing.
    fn unstamped(&self, stamp: u64, extents: &[(u64, Extent)]) -> Inline {
        let mut e = Inline::from_slice(extents);
        if stamp < self.share_gen {
            e.iter_mut().for_each(|(_, x)| x.own = false);
        }
        e
    }

    /// The same file with another map, and its numbers brought along.
    pub(crate) fn with_map(&self, txn: &mut Txn<'_>, map: Map) -> Version {
        let tally = txn.take_tally();
        let map = match map {
            // A record cannot name a tree without a root.
            Map::Tree(Tree { root: None }) => {
                Map::Inline { stamp: txn.share_gen, extents: Arc::default() }
            }
            map => map,
        };
        let add = |n: u64, by: i64| {
            if n == UNKNOWN || tally.unknown { UNKNOWN } else { n.saturating_add_signed(by) }
        };
        let (blocks, extents) = match &map {
            // A short map is counted as it stands.
            Map::Inline { extents, .. } => {
                (extents.iter().map(|(_, e)| u64::from(e.len)).sum(), extents.len() as u64)
            }
            Map::Tree(_) => (add(self.blocks, tally.blocks), add(self.extents, tally.extents)),
        };
        Version { blocks, extents, map, ..self.clone() }
    }

    /// The map as a tree, whatever it is; an inline map gets a leaf.
    pub(crate) fn as_tree(&self, txn: &mut Txn<'_>) -> Result<Tree<crate::format::Extents>, Fault> {
        txn.begin_file(self.share_gen);
        match &self.map {
            Map::Tree(t) => Ok(t.clone()),
            Map::Inline { stamp, extents } => {
                let nodes = build_leaf(txn, self.unstamped(*stamp, extents).into_vec())?;
                Ok(Tree { root: root_of(txn, nodes)? })
            }
        }
    }

    /// The root of the tree, if the map is one.
    pub(crate) fn root(&self) -> Option<&Arc<Link<crate::format::Extents>>> {
        match &self.map {
            Map::Tree(t) => t.root.as_ref(),
            Map::Inline { .. } => None,
        }
    }
}

/// An open file. While one exists the file keeps its blocks, name or no name.
pub struct FileHandle {
    vol: Arc<Volume>,
    state: Arc<FileState>,
    who: SessionId,
}

impl FileHandle {
    /// Counts the handle; call it under the core lock, so that no removal runs between.
    pub(super) fn new(vol: &Arc<Volume>, state: &Arc<FileState>) -> Self {
        state.opens.fetch_add(1, Ordering::AcqRel);
        FileHandle { vol: vol.clone(), state: state.clone(), who: DEFAULT_SESSION }
    }

    pub(super) fn state(&self) -> &Arc<FileState> {
        &self.state
    }

    /// The store that the file lives in.
    pub fn volume(&self) -> &Arc<Volume> {
        &self.vol
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.state.version.load().size
    }

    /// The session that it belongs to.
    pub fn session(&self) -> SessionId {
        self.who
    }

    /// The same file as a handle of another session.
    #[must_use]
    pub fn for_session(mut self, who: SessionId) -> Self {
        self.who = who;
        self
    }

    /// The file's number in its store.
    pub fn id(&self) -> FileId {
        self.state.id
    }
}

impl Clone for FileHandle {
    fn clone(&self) -> Self {
        FileHandle::new(&self.vol, &self.state).for_session(self.who)
    }
}

impl Drop for FileHandle {
    fn drop(&mut self) {
        if self.state.opens.fetch_sub(1, Ordering::AcqRel) == 1
            && self.state.version.load().condemned
        {
            self.vol.ask_reap();
        }
    }
}

impl std::fmt::Debug for FileHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "file {} of {} bytes", self.state.id, self.size())
    }
}

#[cfg(test)]
mod tests {
    use crate::volume::{FormatSpec, Volume};
    use freehold_engine::{FormatOptions, format_target};

    /// A map that was a tree and lost its last extent goes into a checkpoint.
    #[test]
    fn a_tree_that_became_empty_can_be_written() {
        let medium = format_target("mem:16M", &FormatOptions::default()).expect("memory");
        let volume = Volume::format(medium, &FormatSpec::default()).expect("a store");
        let file = volume.create(b"f").expect("a file");
        for i in 0..10 {
            volume.write_at(&file, &[1; 4096], i * 8192).expect("there is room");
        }
        volume.checkpoint().expect("a tree can be written");
        volume.truncate(&file, 0).expect("there is room");
        volume.checkpoint().expect("an empty map can be written");
    }
}
