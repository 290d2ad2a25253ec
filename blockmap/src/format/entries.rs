//! The entries of the five trees: how a key and its value look in a leaf, and
//! what makes them acceptable. How entries fill a node is in `node.rs`, a
//! file's record in `file_record.rs`.

use super::codec::{Reader, Writer, get_u32, get_u64, put};
use super::file_record;
use super::layout::{Layout, at, contiguous, end};
use super::types::{Addr, Extent, FileId, FileRecord, GROUP_BLOCKS, GroupDesc, Kind, NAME_MAX};
use super::{BLOCK_LIMIT, FILE_LIMIT, FIRST_BLOCK, FormatError, Result};
use std::fmt::Debug;

/// How one tree's entries lie in a node.
pub trait EntryCodec {
    /// What the tree is ordered by.
    type Key: Ord + Clone + Debug;
    /// What a leaf has for a key.
    type Val: Clone + PartialEq + Debug;
    /// The kind of the tree's nodes.
    const KIND: Kind;
    /// Leaves carry a share stamp (law B1).
    const STAMPED: bool = false;
    /// Children carry a shift, because keys are numbers that may move as one.
    const SHIFTED: bool = false;

    /// Bytes of an entry in a leaf.
    fn entry_len(key: &Self::Key, val: &Self::Val) -> usize;
    /// Bytes of a key in an inner node.
    fn key_len(key: &Self::Key) -> usize;
    /// Writes an entry of a leaf.
    fn put_entry(w: &mut Writer<'_>, key: &Self::Key, val: &Self::Val);
    /// Reads an entry of a leaf. What it says is not judged here.
    fn get_entry(r: &mut Reader<'_>) -> Result<(Self::Key, Self::Val)>;
    /// Writes a key of an inner node.
    fn put_key(w: &mut Writer<'_>, key: &Self::Key);
    /// Reads a key of an inner node. What it says is not judged here.
    fn get_key(r: &mut Reader<'_>) -> Result<Self::Key>;
    /// Whether a child may be moved by so much: the first key below it stays a key.
    fn check_shift(_key: &Self::Key, shift: u64) -> Result<()> {
        if shift == 0 { Ok(()) } else { Err(FormatError::Malformed("a shift where none can be")) }
    }
    /// Whether such a key may stand in a node.
    fn check_key(key: &Self::Key) -> Result<()>;
    /// Whether such an entry may stand in a leaf.
    fn check_entry(key: &Self::Key, val: &Self::Val) -> Result<()>;
    /// Whether an entry at `next`, which is above `key`, may follow this one.
    fn check_next(_key: &Self::Key, _val: &Self::Val, _next: &Self::Key) -> Result<()> {
        Ok(())
    }
}

/// A file's map: file block to extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extents;

/// Names to files, in the order of their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names;

/// Files' numbers to records. A condemned file's key is its number with the
/// top bit set, so that one scan of a range finds them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files;

/// Blocks to counts, where the count is above one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts;

/// Space groups to their bitmaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space;

/// So many blocks from the key on have so many owners each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CountRun {
    /// Blocks; never 0.
    pub len: u32,
    /// Owners of each; at least 2.
    pub count: u32,
}

/// An extent, in a leaf and in a file's record.
pub const EXTENT_LAYOUT: Layout = &[
    ("file_block", 0, 8),
    ("block", 8, 8),
    ("blocks", 16, 4),
    ("flags", 20, 1),
    ("reserved", 21, 3),
];

/// What stands before the bytes of a name.
pub const NAME_LAYOUT: Layout = &[("name_bytes", 0, 1)];

/// A run of counts.
pub const COUNT_LAYOUT: Layout = &[("block", 0, 8), ("blocks", 8, 4), ("count", 12, 4)];

/// A space group.
pub const SPACE_LAYOUT: Layout =
    &[("group", 0, 8), ("bitmap", 8, 8), ("generation", 16, 8), ("free", 24, 4)];

/// Bytes of an extent.
pub const EXTENT_BYTES: usize = 24;
const COUNT_BYTES: usize = end(COUNT_LAYOUT);
const SPACE_BYTES: usize = end(SPACE_LAYOUT);
const _: () = assert!(contiguous(EXTENT_LAYOUT, 0) && end(EXTENT_LAYOUT) == EXTENT_BYTES);
const _: () = assert!(contiguous(COUNT_LAYOUT, 0) && contiguous(SPACE_LAYOUT, 0));

/// Extent flag: allocated, reads as zeroes.
pub const EXTENT_UNWRITTEN: u8 = 1;
/// Extent flag: this file's own (law B1).
pub const EXTENT_OWN: u8 = 2;

pub(super) fn put_extent(w: &mut Writer<'_>, start: u64, extent: &Extent) {
    let mut e = [0; EXTENT_BYTES];
    let unwritten = if extent.unwritten { EXTENT_UNWRITTEN } else { 0 };
    let own = if extent.own { EXTENT_OWN } else { 0 };
    put(&mut e, const { at(EXTENT_LAYOUT, "file_block") }, start.to_le_bytes());
    put(&mut e, const { at(EXTENT_LAYOUT, "block") }, extent.phys.to_le_bytes());
    put(&mut e, const { at(EXTENT_LAYOUT, "blocks") }, extent.len.to_le_bytes());
    put(&mut e, const { at(EXTENT_LAYOUT, "flags") }, [unwritten | own]);
    w.bytes(&e);
}

pub(super) fn get_extent(r: &mut Reader<'_>) -> Result<(u64, Extent)> {
    let e: &[u8; EXTENT_BYTES] = r.array("extent")?;
    // Flags and reserved bytes in one.
    let flags = get_u32(e, const { at(EXTENT_LAYOUT, "flags") });
    if flags & !u32::from(EXTENT_UNWRITTEN | EXTENT_OWN) != 0 {
        return Err(FormatError::Malformed("unknown flag of an extent"));
    }
    let extent = Extent {
        phys: get_u64(e, const { at(EXTENT_LAYOUT, "block") }),
        len: get_u32(e, const { at(EXTENT_LAYOUT, "blocks") }),
        unwritten: flags & u32::from(EXTENT_UNWRITTEN) != 0,
        own: flags & u32::from(EXTENT_OWN) != 0,
    };
    Ok((get_u64(e, const { at(EXTENT_LAYOUT, "file_block") }), extent))
}

/// Whether `len` blocks from `first` on exist on some medium and hold no superblock.
pub(super) fn check_blocks(first: Addr, len: u64) -> Result<()> {
    if !(FIRST_BLOCK..BLOCK_LIMIT).contains(&first) || len > BLOCK_LIMIT - first {
        return Err(FormatError::Malformed("block address out of range"));
    }
    Ok(())
}

/// Whether a file can have blocks `start..start + len`, at least one.
pub(super) fn check_file_blocks(start: u64, len: u64) -> Result<()> {
    if len == 0 {
        return Err(FormatError::Malformed("a range of no blocks"));
    }
    if start >= BLOCK_LIMIT || len > BLOCK_LIMIT - start {
        return Err(FormatError::Malformed("file block out of range"));
    }
    Ok(())
}

pub(super) fn check_extent(start: u64, extent: &Extent) -> Result<()> {
    check_file_blocks(start, extent.len.into())?;
    check_blocks(extent.phys, extent.len.into())
}

/// Whether a file can have this name.
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(FormatError::Malformed("a name has 1 to 255 bytes"));
    }
    if name.contains(&0) {
        return Err(FormatError::Malformed("NUL in a name"));
    }
    Ok(())
}

/// Whether a file can have this number.
pub(super) fn check_file(file: FileId) -> Result<()> {
    if file == 0 || file >= FILE_LIMIT {
        return Err(FormatError::Malformed("a file's number out of range"));
    }
    Ok(())
}

impl EntryCodec for Extents {
    type Key = u64;
    type Val = Extent;
    const KIND: Kind = Kind::Extents;
    const STAMPED: bool = true;
    const SHIFTED: bool = true;

    fn entry_len(_: &u64, _: &Extent) -> usize {
        EXTENT_BYTES
    }
    fn key_len(_: &u64) -> usize {
        8
    }
    fn put_entry(w: &mut Writer<'_>, key: &u64, val: &Extent) {
        put_extent(w, *key, val);
    }
    fn get_entry(r: &mut Reader<'_>) -> Result<(u64, Extent)> {
        get_extent(r)
    }
    fn put_key(w: &mut Writer<'_>, key: &u64) {
        w.u64(*key);
    }
    fn get_key(r: &mut Reader<'_>) -> Result<u64> {
        r.u64("key")
    }
    fn check_shift(key: &u64, shift: u64) -> Result<()> {
        match key.wrapping_sub(shift) {
            below if below < BLOCK_LIMIT => Ok(()),
            _ => Err(FormatError::Malformed("a shift that no key can bear")),
        }
    }

    fn check_key(key: &u64) -> Result<()> {
        check_file_blocks(*key, 1)
    }
    fn check_entry(key: &u64, val: &Extent) -> Result<()> {
        check_extent(*key, val)
    }
    fn check_next(key: &u64, val: &Extent, next: &u64) -> Result<()> {
        if next.saturating_sub(*key) < u64::from(val.len) {
            return Err(FormatError::Malformed("extents overlap"));
        }
        Ok(())
    }
}

impl EntryCodec for Names {
    type Key = Box<[u8]>;
    type Val = FileId;
    const KIND: Kind = Kind::Names;

    fn entry_len(key: &Box<[u8]>, _: &FileId) -> usize {
        Self::key_len(key) + 8
    }
    fn key_len(key: &Box<[u8]>) -> usize {
        end(NAME_LAYOUT) + key.len()
    }
    fn put_entry(w: &mut Writer<'_>, key: &Box<[u8]>, val: &FileId) {
        Self::put_key(w, key);
        w.u64(*val);
    }
    fn get_entry(r: &mut Reader<'_>) -> Result<(Box<[u8]>, FileId)> {
        Ok((Self::get_key(r)?, r.u64("file of a name")?))
    }
    fn put_key(w: &mut Writer<'_>, key: &Box<[u8]>) {
        w.u8(key.len().min(NAME_MAX) as u8);
        w.bytes(key);
    }
    fn get_key(r: &mut Reader<'_>) -> Result<Box<[u8]>> {
        let len = r.u8("length of a name")?;
        Ok(r.bytes(len.into(), "name")?.into())
    }
    fn check_key(key: &Box<[u8]>) -> Result<()> {
        check_name(key)
    }
    fn check_entry(key: &Box<[u8]>, val: &FileId) -> Result<()> {
        check_name(key)?;
        check_file(*val)
    }
}

impl EntryCodec for Files {
    type Key = u64;
    type Val = FileRecord;
    const KIND: Kind = Kind::Files;

    fn entry_len(_: &u64, val: &FileRecord) -> usize {
        file_record::len(val)
    }
    fn key_len(_: &u64) -> usize {
        8
    }
    fn put_entry(w: &mut Writer<'_>, key: &u64, val: &FileRecord) {
        file_record::put(w, *key, val);
    }
    fn get_entry(r: &mut Reader<'_>) -> Result<(u64, FileRecord)> {
        file_record::take(r)
    }
    fn put_key(w: &mut Writer<'_>, key: &u64) {
        w.u64(*key);
    }
    fn get_key(r: &mut Reader<'_>) -> Result<u64> {
        r.u64("key")
    }
    fn check_key(key: &u64) -> Result<()> {
        check_file(*key & !FILE_LIMIT)
    }
    fn check_entry(key: &u64, val: &FileRecord) -> Result<()> {
        Self::check_key(key)?;
        file_record::check(*key, val)
    }
}

impl EntryCodec for Counts {
    type Key = u64;
    type Val = CountRun;
    const KIND: Kind = Kind::Counts;

    fn entry_len(_: &u64, _: &CountRun) -> usize {
        COUNT_BYTES
    }
    fn key_len(_: &u64) -> usize {
        8
    }
    fn put_entry(w: &mut Writer<'_>, key: &u64, val: &CountRun) {
        let mut e = [0; COUNT_BYTES];
        put(&mut e, const { at(COUNT_LAYOUT, "block") }, key.to_le_bytes());
        put(&mut e, const { at(COUNT_LAYOUT, "blocks") }, val.len.to_le_bytes());
        put(&mut e, const { at(COUNT_LAYOUT, "count") }, val.count.to_le_bytes());
        w.bytes(&e);
    }
    fn get_entry(r: &mut Reader<'_>) -> Result<(u64, CountRun)> {
        let e: &[u8; COUNT_BYTES] = r.array("count")?;
        let len = get_u32(e, const { at(COUNT_LAYOUT, "blocks") });
        let count = get_u32(e, const { at(COUNT_LAYOUT, "count") });
        Ok((get_u64(e, const { at(COUNT_LAYOUT, "block") }), CountRun { len, count }))
    }
    fn put_key(w: &mut Writer<'_>, key: &u64) {
        w.u64(*key);
    }
    fn get_key(r: &mut Reader<'_>) -> Result<u64> {
        r.u64("key")
    }
    fn check_key(key: &u64) -> Result<()> {
        check_blocks(*key, 1)
    }
    fn check_entry(key: &u64, val: &CountRun) -> Result<()> {
        check_blocks(*key, val.len.into())?;
        if val.len == 0 || val.count < 2 {
            return Err(FormatError::Malformed("a count below two, or of no blocks"));
        }
        Ok(())
    }
    fn check_next(key: &u64, val: &CountRun, next: &u64) -> Result<()> {
        if next.saturating_sub(*key) < u64::from(val.len) {
            return Err(FormatError::Malformed("counts overlap"));
        }
        Ok(())
    }
}

impl EntryCodec for Space {
    type Key = u64;
    type Val = GroupDesc;
    const KIND: Kind = Kind::Space;

    fn entry_len(_: &u64, _: &GroupDesc) -> usize {
        SPACE_BYTES
    }
    fn key_len(_: &u64) -> usize {
        8
    }
    fn put_entry(w: &mut Writer<'_>, key: &u64, val: &GroupDesc) {
        let mut e = [0; SPACE_BYTES];
        put(&mut e, const { at(SPACE_LAYOUT, "group") }, key.to_le_bytes());
        put(&mut e, const { at(SPACE_LAYOUT, "bitmap") }, val.addr.to_le_bytes());
        put(&mut e, const { at(SPACE_LAYOUT, "generation") }, val.generation.to_le_bytes());
        put(&mut e, const { at(SPACE_LAYOUT, "free") }, val.free.to_le_bytes());
        w.bytes(&e);
    }
    fn get_entry(r: &mut Reader<'_>) -> Result<(u64, GroupDesc)> {
        let e: &[u8; SPACE_BYTES] = r.array("space group")?;
        let desc = GroupDesc {
            addr: get_u64(e, const { at(SPACE_LAYOUT, "bitmap") }),
            generation: get_u64(e, const { at(SPACE_LAYOUT, "generation") }),
            free: get_u32(e, const { at(SPACE_LAYOUT, "free") }),
        };
        Ok((get_u64(e, const { at(SPACE_LAYOUT, "group") }), desc))
    }
    fn put_key(w: &mut Writer<'_>, key: &u64) {
        w.u64(*key);
    }
    fn get_key(r: &mut Reader<'_>) -> Result<u64> {
        r.u64("key")
    }
    fn check_key(key: &u64) -> Result<()> {
        if *key >= BLOCK_LIMIT.div_ceil(GROUP_BLOCKS) {
            return Err(FormatError::Malformed("space group out of range"));
        }
        Ok(())
    }
    fn check_entry(key: &u64, val: &GroupDesc) -> Result<()> {
        Self::check_key(key)?;
        check_blocks(val.addr, 1)?;
        if val.generation == 0 || u64::from(val.free) > GROUP_BLOCKS {
            return Err(FormatError::Malformed(
                "space group without a birth, or more than all free",
            ));
        }
        Ok(())
    }
}
