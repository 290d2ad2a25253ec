//! The plain values that the codecs read and write. No bytes here.

use smallvec::SmallVec;

/// A block's number on the medium. Block 0 holds a superblock, so 0 stands for "none".
pub type Addr = u64;

/// A file's number: given once, never used again.
pub type FileId = u64;

/// A record's place in the store's one history (law B11). The first is 1.
pub type Seq = u64;

/// Which structure a metadata block belongs to. Part of its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// One of the two superblocks.
    Super = 1,
    /// A group of journal records.
    Group = 2,
    /// A node of a file's extent tree.
    Extents = 3,
    /// A node of the tree of names.
    Names = 4,
    /// A node of the tree of file records.
    Files = 5,
    /// A node of the tree of counts.
    Counts = 6,
    /// A node of the tree of space groups.
    Space = 7,
    /// The bitmap of one space group.
    Bitmap = 8,
    /// One of the two headers of a journal that has a medium of its own.
    Journal = 9,
}

/// Where a node is and when it was born. `addr` 0: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct NodeRef {
    /// Its block.
    pub addr: Addr,
    /// The number of the checkpoint that first contains it.
    pub generation: u64,
    /// 0 for a leaf, else its height above the leaves.
    pub level: u8,
}

/// A child of an inner node, behind its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Child {
    /// Where it is.
    pub at: NodeRef,
    /// Added, modulo 2^64, to every key below it: where its subtree stands in its
    /// parent's. 0 in all trees but those of extents.
    pub shift: u64,
}

impl From<NodeRef> for Child {
    fn from(at: NodeRef) -> Self {
        Child { at, shift: 0 }
    }
}

/// What stands behind a block of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First block on the medium.
    pub phys: Addr,
    /// Blocks; never 0.
    pub len: u32,
    /// Allocated, but reads as zeroes.
    pub unwritten: bool,
    /// Law B1: allocated by this file and not shared since, if the leaf's stamp is current.
    pub own: bool,
}

/// A file's record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileRecord {
    /// Bytes.
    pub size: u64,
    /// Blocks allocated through the map, shared ones included.
    pub blocks: u64,
    /// Extents in the map.
    pub extents: u64,
    /// Law B1: the store's share counter when the file was last reflinked from or onto.
    pub share_gen: u64,
    /// Waits in the list of the condemned for its blocks to be freed (law B10).
    pub condemned: bool,
    /// The map.
    pub map: FileMap,
}

/// The root of a file's map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileMap {
    /// At most [`INLINE_EXTENTS`] extents, in the record itself; `stamp` as in a leaf.
    Inline {
        /// The share counter when this was last modified (law B1).
        stamp: u64,
        /// Extents by file block, ascending, not overlapping.
        extents: Vec<(u64, Extent)>,
    },
    /// A tree.
    Tree(NodeRef),
}

impl Default for FileMap {
    fn default() -> Self {
        FileMap::Inline { stamp: 0, extents: Vec::new() }
    }
}

/// What a record maps anew: mostly one extent, which needs no memory of its own.
pub type NewExtents = SmallVec<[(u64, Extent); 1]>;

/// Most extents that a file's record holds by itself.
pub const INLINE_EXTENTS: usize = 4;

/// Longest name in bytes.
pub const NAME_MAX: usize = 255;

/// Blocks that one space group covers: 124 MiB, a multiple of 2 MiB.
pub const GROUP_BLOCKS: u64 = 31_744;

/// One of the two superblocks: a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Unknown bit set: refuse to open.
    pub refuse_features: u64,
    /// Unknown bit set: open for reading only.
    pub readonly_features: u64,
    /// Unknown bit set: ignore.
    pub ignore_features: u64,
    /// Drawn at random by `format`; the seed of every metadata block's checksum,
    /// except where the block carries the id itself (superblocks, groups).
    pub store_id: [u8; 16],
    /// Blocks of the medium that belong to the store.
    pub blocks: u64,
    /// First block of the journal.
    pub journal_start: Addr,
    /// Blocks of the journal.
    pub journal_blocks: u64,
    /// This checkpoint's number; the first, by `format`, is 1.
    pub checkpoint: u64,
    /// The last record that it contains.
    pub cut_seq: Seq,
    /// Number of the first group that replay reads.
    pub cut_group: u64,
    /// Where that group starts: blocks since the journal's beginning of time
    /// (place in the ring: modulo `journal_blocks`).
    pub cut_pos: u64,
    /// The tree of names.
    pub names: NodeRef,
    /// The tree of file records.
    pub files: NodeRef,
    /// The tree of counts.
    pub counts: NodeRef,
    /// The tree of space groups.
    pub space: NodeRef,
    /// Law B1: the store-wide counter of shares.
    pub share_gen: u64,
    /// The next file's number.
    pub next_file: FileId,
    /// Free blocks.
    pub free: u64,
    /// The journal is on another medium: there with the feature `JOURNAL_APART` alone.
    pub apart: Option<ApartJournal>,
}

/// What a superblock says of a journal on a medium of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApartJournal {
    /// The journal's id.
    pub id: [u8; 16],
    /// Blocks of its ring.
    pub blocks: u64,
}

/// A header of a journal that has a medium of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JournalHeader {
    /// The store that the journal belongs to.
    pub store_id: [u8; 16],
    /// The journal's own id, drawn at random by `format`.
    pub journal_id: [u8; 16],
    /// Blocks of its ring.
    pub ring_blocks: u64,
    /// The last checkpoint that the journal was told of before that was in force.
    pub epoch: u64,
}

/// Where a space group's bitmap is. A group without a descriptor is all free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupDesc {
    /// The bitmap's block.
    pub addr: Addr,
    /// The checkpoint that wrote it.
    pub generation: u64,
    /// Free blocks in it.
    pub free: u32,
}

/// One step of the store's history. Applied in order, from a checkpoint's
/// state, records give back the state that they were written from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Checkpoint `checkpoint` is durable (law B9).
    Mark {
        /// Its number.
        checkpoint: u64,
    },
    /// A new empty file. With `replaces`, the file of that name is condemned.
    Create {
        /// The new file.
        file: FileId,
        /// Its name.
        name: Vec<u8>,
    },
    /// The name goes; its file is condemned.
    Remove {
        /// The name.
        name: Vec<u8>,
    },
    /// `from` becomes `to`; a file that was called `to` is condemned.
    Rename {
        /// The old name.
        from: Vec<u8>,
        /// The new name.
        to: Vec<u8>,
    },
    /// File blocks `start..start+len` get the extents given, all of them newly
    /// allocated; what was there before is released. Parts of the range
    /// without an extent become holes. The size becomes `size` if that is greater.
    Map {
        /// The file.
        file: FileId,
        /// First file block replaced.
        start: u64,
        /// File blocks replaced.
        len: u64,
        /// Bytes, or 0 to leave the size as it is.
        size: u64,
        /// New extents by file block (`own` is not stored: new ones are own).
        extents: NewExtents,
    },
    /// The unwritten extents in the range are written now, in the same blocks.
    Convert {
        /// The file.
        file: FileId,
        /// First file block.
        start: u64,
        /// File blocks.
        len: u64,
        /// Bytes, or 0 to leave the size as it is.
        size: u64,
    },
    /// The size, in bytes, without a change to the map (growth).
    Grow {
        /// The file.
        file: FileId,
        /// The new size.
        size: u64,
    },
    /// Shrinks to `size`; blocks past it go to the condemned nameless file
    /// `tail`, or are released at once where `tail` is 0.
    Truncate {
        /// The file.
        file: FileId,
        /// The new size in bytes.
        size: u64,
        /// The nameless file, or 0.
        tail: FileId,
    },
    /// File blocks become a hole; they go to `tail` or are released, as in `Truncate`.
    Punch {
        /// The file.
        file: FileId,
        /// First file block.
        start: u64,
        /// File blocks.
        len: u64,
        /// The nameless file, or 0.
        tail: FileId,
    },
    /// File blocks are taken out of the file, and what lies behind them moves down
    /// by as many; the size, in bytes, becomes smaller by as much. They go to
    /// `tail` or are released, as in `Truncate`.
    Collapse {
        /// The file.
        file: FileId,
        /// First file block taken out.
        start: u64,
        /// File blocks.
        len: u64,
        /// The nameless file, or 0.
        tail: FileId,
    },
    /// What lies at file block `start` or behind it moves up; between is a hole. The
    /// size becomes greater by as much.
    Insert {
        /// The file.
        file: FileId,
        /// First file block of the hole.
        start: u64,
        /// File blocks.
        len: u64,
    },
    /// A new file `to` called `name` shares the whole map of `from`; the share counter becomes `gen`.
    Reflink {
        /// The source.
        from: FileId,
        /// The new file.
        to: FileId,
        /// Its name.
        name: Vec<u8>,
        /// The counter's new value.
        share_gen: u64,
    },
    /// File blocks of `to` share those of `from`; what `to` had there is
    /// released or goes to `tail`; the share counter becomes `gen`.
    ReflinkRange {
        /// The source.
        from: FileId,
        /// First file block of the source.
        from_start: u64,
        /// The target.
        to: FileId,
        /// First file block of the target.
        to_start: u64,
        /// File blocks.
        len: u64,
        /// The target's size in bytes, or 0 to leave it as it is.
        size: u64,
        /// The counter's new value.
        share_gen: u64,
        /// The nameless file, or 0.
        tail: FileId,
    },
    /// A slice of a removal (law B10): the condemned file loses its extents
    /// from file block `cursor` on; with 0 the file itself goes as well.
    Slice {
        /// The condemned file.
        file: FileId,
        /// First file block released.
        cursor: u64,
    },
    /// A logged write (law B7): what a block of a file holds as of this record,
    /// wherever its map, as of this record, has put it.
    Data {
        /// The file.
        file: FileId,
        /// File block; it is written and not shared.
        block: u64,
        /// The block's bytes without the zeroes at its end.
        bytes: Vec<u8>,
    },
    /// The written extents in the range read as zeroes now, in the same blocks.
    Zero {
        /// The file.
        file: FileId,
        /// First file block.
        start: u64,
        /// File blocks.
        len: u64,
    },
    /// As a `Map` of each part, all at once; the size becomes `size` if that is greater.
    Atomic {
        /// The file.
        file: FileId,
        /// Bytes, or 0 to leave the size as it is.
        size: u64,
        /// One or more, ascending, not overlapping.
        parts: Vec<MapPart>,
    },
}

/// File blocks that get extents, newly allocated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapPart {
    /// First file block replaced.
    pub start: u64,
    /// File blocks replaced.
    pub len: u64,
    /// New extents by file block, as in `Map`.
    pub extents: Vec<(u64, Extent)>,
}

/// The head of a journal group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupHead {
    /// Its number; consecutive, the first is 1.
    pub number: u64,
    /// Its place: blocks since the journal's beginning of time.
    pub pos: u64,
    /// Blocks that it takes, this header's block included.
    pub blocks: u32,
    /// Its first record's number.
    pub first_seq: Seq,
    /// How many records.
    pub records: u32,
    /// Law B9: the highest group that was known to be durable when this one was sealed.
    pub confirmed: u64,
}
