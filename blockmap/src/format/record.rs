//! Journal records as bytes: a tag, then varints, names and extents. Groups
//! are in `journal.rs`; what a record does to a store is elsewhere.

use super::codec::{Reader, put_varint};
use super::entries::{check_extent, check_file, check_file_blocks, check_name};
use super::layout::same;
use super::types::{Extent, FileId, MapPart, Record};
use super::{BLOCK, BLOCK_LIMIT, FormatError, Result};

/// Every record: its name, its tag, its fields in order. All fields are
/// varints but names (a length and bytes), data (the same), extents (a number, then
/// for each the gap, the blocks with a flag, and the address), and parts (a number,
/// then for each the start, the blocks, and extents).
pub const RECORDS: &[(&str, u8, &[&str])] = &[
    ("Mark", 1, &["checkpoint"]),
    ("Create", 2, &["file", "name"]),
    ("Remove", 3, &["name"]),
    ("Rename", 4, &["from", "to"]),
    ("Map", 5, &["file", "start", "len", "size", "extents"]),
    ("Convert", 6, &["file", "start", "len", "size"]),
    ("Grow", 7, &["file", "size"]),
    ("Truncate", 8, &["file", "size", "tail"]),
    ("Punch", 9, &["file", "start", "len", "tail"]),
    ("Reflink", 10, &["from", "to", "name", "share_gen"]),
    (
        "ReflinkRange",
        11,
        &["from", "from_start", "to", "to_start", "len", "size", "share_gen", "tail"],
    ),
    ("Slice", 12, &["file", "cursor"]),
    ("Zero", 13, &["file", "start", "len"]),
    ("Atomic", 14, &["file", "size", "parts"]),
    ("Collapse", 15, &["file", "start", "len", "tail"]),
    ("Insert", 16, &["file", "start", "len"]),
    ("Data", 17, &["file", "block", "bytes"]),
];

const fn tag_of(name: &str) -> u8 {
    let mut i = 0;
    while i < RECORDS.len() {
        if same(RECORDS[i].0, name) {
            return RECORDS[i].1;
        }
        i += 1;
    }
    panic!("no such record");
}

const MARK: u8 = tag_of("Mark");
const CREATE: u8 = tag_of("Create");
const REMOVE: u8 = tag_of("Remove");
const RENAME: u8 = tag_of("Rename");
const MAP: u8 = tag_of("Map");
const CONVERT: u8 = tag_of("Convert");
const GROW: u8 = tag_of("Grow");
const TRUNCATE: u8 = tag_of("Truncate");
const PUNCH: u8 = tag_of("Punch");
const REFLINK: u8 = tag_of("Reflink");
const REFLINK_RANGE: u8 = tag_of("ReflinkRange");
const SLICE: u8 = tag_of("Slice");
const ZERO: u8 = tag_of("Zero");
const ATOMIC: u8 = tag_of("Atomic");
const COLLAPSE: u8 = tag_of("Collapse");
const INSERT: u8 = tag_of("Insert");
const DATA: u8 = tag_of("Data");

/// Appends a record, if it is one that [`decode_record`] will accept.
/// What is refused leaves `out` as it was.
pub fn encode_record(out: &mut Vec<u8>, record: &Record) -> Result<()> {
    check(record)?;
    let mut numbers = |tag: u8, values: &[u64]| {
        out.push(tag);
        values.iter().for_each(|v| put_varint(out, *v));
    };
    match record {
        Record::Mark { checkpoint } => numbers(MARK, &[*checkpoint]),
        Record::Create { file, name } => {
            numbers(CREATE, &[*file]);
            put_name(out, name);
        }
        Record::Remove { name } => {
            numbers(REMOVE, &[]);
            put_name(out, name);
        }
        Record::Rename { from, to } => {
            numbers(RENAME, &[]);
            put_name(out, from);
            put_name(out, to);
        }
        Record::Map { file, start, len, size, extents } => {
            numbers(MAP, &[*file, *start, *len, *size]);
            put_extents(out, *start, extents);
        }
        Record::Convert { file, start, len, size } => {
            numbers(CONVERT, &[*file, *start, *len, *size]);
        }
        Record::Grow { file, size } => numbers(GROW, &[*file, *size]),
        Record::Truncate { file, size, tail } => numbers(TRUNCATE, &[*file, *size, *tail]),
        Record::Punch { file, start, len, tail } => numbers(PUNCH, &[*file, *start, *len, *tail]),
        Record::Reflink { from, to, name, share_gen } => {
            numbers(REFLINK, &[*from, *to]);
            put_name(out, name);
            put_varint(out, *share_gen);
        }
        Record::ReflinkRange { from, from_start, to, to_start, len, size, share_gen, tail } => {
            let values = [*from, *from_start, *to, *to_start, *len, *size, *share_gen, *tail];
            numbers(REFLINK_RANGE, &values);
        }
        Record::Slice { file, cursor } => numbers(SLICE, &[*file, *cursor]),
        Record::Zero { file, start, len } => numbers(ZERO, &[*file, *start, *len]),
        Record::Atomic { file, size, parts } => {
            numbers(ATOMIC, &[*file, *size]);
            put_parts(out, parts);
        }
        Record::Collapse { file, start, len, tail } => {
            numbers(COLLAPSE, &[*file, *start, *len, *tail]);
        }
        Record::Insert { file, start, len } => numbers(INSERT, &[*file, *start, *len]),
        Record::Data { file, block, bytes } => {
            numbers(DATA, &[*file, *block, bytes.len() as u64]);
            out.extend_from_slice(bytes);
        }
    }
    Ok(())
}

/// Takes the next record.
pub fn decode_record(r: &mut Reader<'_>) -> Result<Record> {
    let tag = r.u8("tag of a record")?;
    let record = match tag {
        MARK => Record::Mark { checkpoint: number(r)? },
        CREATE => Record::Create { file: number(r)?, name: name(r)? },
        REMOVE => Record::Remove { name: name(r)? },
        RENAME => Record::Rename { from: name(r)?, to: name(r)? },
        MAP => {
            let (file, start, len, size) = (number(r)?, number(r)?, number(r)?, number(r)?);
            Record::Map { file, start, len, size, extents: extents(r, start)?.into() }
        }
        CONVERT => Record::Convert {
            file: number(r)?,
            start: number(r)?,
            len: number(r)?,
            size: number(r)?,
        },
        GROW => Record::Grow { file: number(r)?, size: number(r)? },
        TRUNCATE => Record::Truncate { file: number(r)?, size: number(r)?, tail: number(r)? },
        PUNCH => {
            Record::Punch { file: number(r)?, start: number(r)?, len: number(r)?, tail: number(r)? }
        }
        REFLINK => Record::Reflink {
            from: number(r)?,
            to: number(r)?,
            name: name(r)?,
            share_gen: number(r)?,
        },
        REFLINK_RANGE => Record::ReflinkRange {
            from: number(r)?,
            from_start: number(r)?,
            to: number(r)?,
            to_start: number(r)?,
            len: number(r)?,
            size: number(r)?,
            share_gen: number(r)?,
            tail: number(r)?,
        },
        COLLAPSE => Record::Collapse {
            file: number(r)?,
            start: number(r)?,
            len: number(r)?,
            tail: number(r)?,
        },
        INSERT => Record::Insert { file: number(r)?, start: number(r)?, len: number(r)? },
        SLICE => Record::Slice { file: number(r)?, cursor: number(r)? },
        DATA => {
            let (file, block, len) = (number(r)?, number(r)?, number(r)?);
            let len = usize::try_from(len).map_err(|_| FormatError::Short("data in a record"))?;
            let bytes = r.bytes(len, "data in a record")?.to_vec();
            Record::Data { file, block, bytes }
        }
        ZERO => Record::Zero { file: number(r)?, start: number(r)?, len: number(r)? },
        ATOMIC => Record::Atomic { file: number(r)?, size: number(r)?, parts: parts(r)? },
        _ => return Err(FormatError::Malformed("unknown tag of a record")),
    };
    check(&record)?;
    Ok(record)
}

fn number(r: &mut Reader<'_>) -> Result<u64> {
    r.varint("number in a record")
}

fn put_name(out: &mut Vec<u8>, name: &[u8]) {
    out.push(name.len().min(255) as u8);
    out.extend_from_slice(name);
}

fn name(r: &mut Reader<'_>) -> Result<Vec<u8>> {
    let len = r.u8("name in a record")?;
    Ok(r.bytes(len.into(), "name in a record")?.to_vec())
}

/// Extents that [`check_map`] accepted.
fn put_extents(out: &mut Vec<u8>, start: u64, extents: &[(u64, Extent)]) {
    put_varint(out, extents.len() as u64);
    let mut next = start;
    for (block, extent) in extents {
        put_varint(out, block.saturating_sub(next));
        put_varint(out, u64::from(extent.len) << 1 | u64::from(extent.unwritten));
        put_varint(out, extent.phys);
        next = block.saturating_add(extent.len.into());
    }
}

fn extents(r: &mut Reader<'_>, start: u64) -> Result<Vec<(u64, Extent)>> {
    let count = number(r)?;
    // Each takes three bytes or more.
    if count > r.remaining() as u64 / 3 {
        return Err(FormatError::Short("extents of a record"));
    }
    let mut extents = Vec::with_capacity(count as usize);
    let mut next = start;
    for _ in 0..count {
        let (gap, len, phys) = (number(r)?, number(r)?, number(r)?);
        let block = next
            .checked_add(gap)
            .filter(|block| *block < BLOCK_LIMIT)
            .ok_or(FormatError::Malformed("file block out of range"))?;
        let unwritten = len & 1 != 0;
        let len = u32::try_from(len >> 1)
            .map_err(|_| FormatError::Malformed("extent of too many blocks"))?;
        next = block + u64::from(len);
        extents.push((block, Extent { phys, len, unwritten, own: true }));
    }
    Ok(extents)
}

fn put_parts(out: &mut Vec<u8>, parts: &[MapPart]) {
    put_varint(out, parts.len() as u64);
    for part in parts {
        put_varint(out, part.start);
        put_varint(out, part.len);
        put_extents(out, part.start, &part.extents);
    }
}

fn parts(r: &mut Reader<'_>) -> Result<Vec<MapPart>> {
    let count = number(r)?;
    // Each takes three bytes or more.
    if count > r.remaining() as u64 / 3 {
        return Err(FormatError::Short("parts of a record"));
    }
    let mut parts = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let (start, len) = (number(r)?, number(r)?);
        parts.push(MapPart { start, len, extents: extents(r, start)? });
    }
    Ok(parts)
}

/// Whether there can be such a record.
pub fn check(record: &Record) -> Result<()> {
    match record {
        Record::Mark { checkpoint: 0 } => {
            Err(FormatError::Malformed("checkpoints are counted from 1"))
        }
        Record::Mark { .. } => Ok(()),
        Record::Create { file, name } => {
            check_file(*file)?;
            check_name(name)
        }
        Record::Remove { name } => check_name(name),
        Record::Rename { from, to } => {
            check_name(from)?;
            check_name(to)
        }
        Record::Map { file, start, len, extents, .. } => {
            check_file(*file)?;
            check_file_blocks(*start, *len)?;
            check_map(*start, *len, extents)
        }
        Record::Convert { file, start, len, .. } | Record::Zero { file, start, len } => {
            check_file(*file)?;
            check_file_blocks(*start, *len)
        }
        Record::Grow { file, .. } => check_file(*file),
        Record::Truncate { file, tail, .. } => {
            check_file(*file)?;
            check_tail(*tail)
        }
        Record::Punch { file, start, len, tail } | Record::Collapse { file, start, len, tail } => {
            check_file(*file)?;
            check_file_blocks(*start, *len)?;
            check_tail(*tail)
        }
        Record::Insert { file, start, len } => {
            check_file(*file)?;
            check_file_blocks(*start, *len)
        }
        Record::Reflink { from, to, name, .. } => {
            check_file(*from)?;
            check_file(*to)?;
            check_name(name)
        }
        Record::ReflinkRange { from, from_start, to, to_start, len, tail, .. } => {
            check_file(*from)?;
            check_file(*to)?;
            check_file_blocks(*from_start, *len)?;
            check_file_blocks(*to_start, *len)?;
            check_tail(*tail)
        }
        Record::Slice { file, cursor } => {
            check_file(*file)?;
            check_file_blocks(*cursor, 1)
        }
        Record::Data { file, block, bytes } => {
            check_file(*file)?;
            check_file_blocks(*block, 1)?;
            if bytes.len() > BLOCK || bytes.last() == Some(&0) {
                return Err(FormatError::Malformed("data that is not one block, cut short"));
            }
            Ok(())
        }
        Record::Atomic { file, parts, .. } => {
            check_file(*file)?;
            check_parts(parts)
        }
    }
}

fn check_tail(tail: FileId) -> Result<()> {
    if tail == 0 { Ok(()) } else { check_file(tail) }
}

/// There is one or more; they ascend and do not overlap.
fn check_parts(parts: &[MapPart]) -> Result<()> {
    if parts.is_empty() {
        return Err(FormatError::Malformed("an atomic write of nothing"));
    }
    let mut next = 0;
    for part in parts {
        check_file_blocks(part.start, part.len)?;
        if part.start < next {
            return Err(FormatError::Malformed("parts of a record overlap"));
        }
        check_map(part.start, part.len, &part.extents)?;
        next = part.start + part.len;
    }
    Ok(())
}

/// Extents ascend, do not overlap, lie within the range, and are all own.
fn check_map(start: u64, len: u64, extents: &[(u64, Extent)]) -> Result<()> {
    let mut next = start;
    for (block, extent) in extents {
        check_extent(*block, extent)?;
        if *block < next {
            return Err(FormatError::Malformed("extents of a record overlap"));
        }
        if !extent.own {
            return Err(FormatError::Malformed("a record maps blocks that are not the file's own"));
        }
        next = block + u64::from(extent.len);
    }
    if next > start + len {
        return Err(FormatError::Malformed("extents of a record leave its range"));
    }
    Ok(())
}
