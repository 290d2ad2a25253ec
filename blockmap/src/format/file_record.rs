//! A file's record as it lies in a leaf of the tree of files. The tree itself
//! is not known here.

use super::codec::{Reader, Writer, get, get_u64};
use super::entries::{EXTENT_BYTES, check_blocks, check_extent, get_extent, put_extent};
use super::layout::{Layout, at, contiguous, end};
use super::types::{FileMap, FileRecord, INLINE_EXTENTS, NodeRef};
use super::{FILE_LIMIT, FormatError, MAX_LEVEL, Result};

/// What every record begins with. `count` is the number of inline extents, or
/// the level of the root.
pub const LAYOUT: Layout = &[
    ("key", 0, 8),
    ("size", 8, 8),
    ("blocks", 16, 8),
    ("extents", 24, 8),
    ("share_generation", 32, 8),
    ("shape", 40, 1),
    ("count", 41, 1),
];

/// What follows where the shape is [`SHAPE_INLINE`]; then the extents.
pub const INLINE_LAYOUT: Layout = &[("stamp", 42, 8)];

/// What follows where the shape is [`SHAPE_TREE`].
pub const TREE_LAYOUT: Layout = &[("root", 42, 8), ("root_generation", 50, 8)];

/// The map is in the record.
pub const SHAPE_INLINE: u8 = 0;
/// The map is a tree.
pub const SHAPE_TREE: u8 = 1;

const FIXED: usize = end(LAYOUT);
const _: () = assert!(contiguous(LAYOUT, 0));
const _: () = assert!(contiguous(INLINE_LAYOUT, FIXED) && contiguous(TREE_LAYOUT, FIXED));

/// Bytes of a record with its key.
pub(super) fn len(record: &FileRecord) -> usize {
    match &record.map {
        FileMap::Inline { extents, .. } => end(INLINE_LAYOUT) + extents.len() * EXTENT_BYTES,
        FileMap::Tree(_) => end(TREE_LAYOUT),
    }
}

/// Writes a record; what [`check`] accepts fits.
pub(super) fn put(w: &mut Writer<'_>, key: u64, record: &FileRecord) {
    w.u64(key);
    w.u64(record.size);
    w.u64(record.blocks);
    w.u64(record.extents);
    w.u64(record.share_gen);
    match &record.map {
        FileMap::Inline { stamp, extents } => {
            w.u8(SHAPE_INLINE);
            w.u8(extents.len().min(255) as u8);
            w.u64(*stamp);
            for (start, extent) in extents {
                put_extent(w, *start, extent);
            }
        }
        FileMap::Tree(root) => {
            w.u8(SHAPE_TREE);
            w.u8(root.level);
            w.u64(root.addr);
            w.u64(root.generation);
        }
    }
}

/// Reads a record and its key.
pub(super) fn take(r: &mut Reader<'_>) -> Result<(u64, FileRecord)> {
    let fixed: &[u8; FIXED] = r.array("file record")?;
    let [count] = get(fixed, const { at(LAYOUT, "count") });
    let map = match get(fixed, const { at(LAYOUT, "shape") }) {
        [SHAPE_INLINE] => {
            let stamp = r.u64("stamp of a file record")?;
            let extents = (0..count).map(|_| get_extent(r)).collect::<Result<_>>()?;
            FileMap::Inline { stamp, extents }
        }
        [SHAPE_TREE] => {
            let (addr, generation) = (r.u64("root of a file")?, r.u64("root of a file")?);
            FileMap::Tree(NodeRef { addr, generation, level: count })
        }
        _ => return Err(FormatError::Malformed("unknown shape of a file's map")),
    };
    let key = get_u64(fixed, const { at(LAYOUT, "key") });
    let record = FileRecord {
        size: get_u64(fixed, const { at(LAYOUT, "size") }),
        blocks: get_u64(fixed, const { at(LAYOUT, "blocks") }),
        extents: get_u64(fixed, const { at(LAYOUT, "extents") }),
        share_gen: get_u64(fixed, const { at(LAYOUT, "share_generation") }),
        condemned: key & FILE_LIMIT != 0,
        map,
    };
    Ok((key, record))
}

/// Whether a record may stand under `key`.
pub(super) fn check(key: u64, record: &FileRecord) -> Result<()> {
    if record.condemned != (key & FILE_LIMIT != 0) {
        return Err(FormatError::Malformed(
            "a condemned file under a living one's key, or the reverse",
        ));
    }
    match &record.map {
        FileMap::Inline { extents, .. } => check_inline(extents),
        FileMap::Tree(root) => check_node(root),
    }
}

fn check_inline(extents: &[(u64, super::types::Extent)]) -> Result<()> {
    if extents.len() > INLINE_EXTENTS {
        return Err(FormatError::Malformed("too many extents in a file record"));
    }
    let mut next = 0;
    for (start, extent) in extents {
        check_extent(*start, extent)?;
        if *start < next {
            return Err(FormatError::Malformed("extents of a file record overlap"));
        }
        next = start + u64::from(extent.len);
    }
    Ok(())
}

/// Whether a node can be where `node` says.
pub(super) fn check_node(node: &NodeRef) -> Result<()> {
    check_blocks(node.addr, 1)?;
    if node.generation == 0 || node.level > MAX_LEVEL {
        return Err(FormatError::Malformed("a node without a birth, or too far above its leaves"));
    }
    Ok(())
}
