//! Journal groups: records in a run of blocks under one checksum. A single
//! record's bytes are in `record.rs`; the ring is the journal's business, a
//! group is contiguous here.

use super::codec::{Reader, get, get_u32, get_u64, put};
use super::header::{self, HEADER, HeaderFields, NO_ID};
use super::layout::{Layout, at, contiguous, end};
use super::record::decode_record;
use super::types::{GroupHead, Kind, Record};
use super::{BLOCK, FormatError, Result, VERSION};

pub use super::record::{RECORDS, encode_record};

/// Most blocks of a group.
pub const GROUP_MAX_BLOCKS: u32 = 256;

/// The fields behind the header of a group's first block. The header's address
/// is the group's place, its generation the group's number, its entries the
/// records, its payload the records' bytes, all blocks together.
pub const LAYOUT: Layout = &[
    ("store_id", 64, 16),
    ("first_seq", 80, 8),
    ("confirmed", 88, 8),
    ("blocks", 96, 4),
    ("head_checksum", 100, 4),
];

/// Where the records begin.
pub const RECORDS_AT: usize = end(LAYOUT);

/// Most bytes of records in a group.
pub const GROUP_MAX_PAYLOAD: usize = GROUP_MAX_BLOCKS as usize * BLOCK - RECORDS_AT;

const STORE_ID_AT: usize = at(LAYOUT, "store_id");
const FIRST_SEQ_AT: usize = at(LAYOUT, "first_seq");
const CONFIRMED_AT: usize = at(LAYOUT, "confirmed");
const BLOCKS_AT: usize = at(LAYOUT, "blocks");
const HEAD_CHECKSUM_AT: usize = at(LAYOUT, "head_checksum");
const _: () = assert!(contiguous(LAYOUT, HEADER));

/// Blocks that a group with so many bytes of records takes.
pub fn group_blocks(payload: usize) -> usize {
    (RECORDS_AT + payload).div_ceil(BLOCK)
}

/// A sealed group of the records in `payload`, whole blocks. `head.blocks` is
/// not looked at: the payload decides.
pub fn encode_group(head: GroupHead, payload: &[u8], id: &[u8; 16]) -> Result<Vec<u8>> {
    if payload.len() > GROUP_MAX_PAYLOAD {
        return Err(FormatError::TooLong("a group takes at most 256 blocks"));
    }
    let blocks = group_blocks(payload.len());
    check_head(&GroupHead { blocks: blocks as u32, ..head }, payload.len())?;
    let mut bytes = vec![0; blocks * BLOCK];
    bytes[RECORDS_AT..RECORDS_AT + payload.len()].copy_from_slice(payload);
    let mut first = [0; RECORDS_AT];
    if let Some(common) = first.first_chunk_mut() {
        header::put_fields(
            common,
            HeaderFields {
                kind: Kind::Group,
                addr: head.pos,
                generation: head.number,
                stamp: 0,
                entries: head.records,
                payload_len: payload.len() as u32,
                level: 0,
            },
        );
    }
    put(&mut first, STORE_ID_AT, *id);
    put(&mut first, FIRST_SEQ_AT, head.first_seq.to_le_bytes());
    put(&mut first, CONFIRMED_AT, head.confirmed.to_le_bytes());
    put(&mut first, BLOCKS_AT, (blocks as u32).to_le_bytes());
    let crc = header::checksum(&first[..HEAD_CHECKSUM_AT], &NO_ID);
    put(&mut first, HEAD_CHECKSUM_AT, crc.to_le_bytes());
    bytes[..RECORDS_AT].copy_from_slice(&first);
    let crc = header::checksum(&bytes, &NO_ID);
    bytes[header::CHECKSUM_AT..][..4].copy_from_slice(&crc.to_le_bytes());
    Ok(bytes)
}

/// Reads the head of a group from its first block, or any beginning of that
/// which holds the head. The head has a checksum of its own: its length can be
/// trusted before the rest is read. Whether the place is right is for
/// [`decode_group`], or the reader, to say.
pub fn decode_group_head(block: &[u8], id: &[u8; 16]) -> Result<GroupHead> {
    head_and_payload(block, id).map(|(head, _)| head)
}

/// Reads a whole group that begins at `expect_pos`, its blocks put together.
/// Bytes behind it do not matter.
pub fn decode_group(
    bytes: &[u8],
    id: &[u8; 16],
    expect_pos: u64,
) -> Result<(GroupHead, Vec<Record>)> {
    let (head, payload) = head_and_payload(bytes, id)?;
    if head.pos != expect_pos {
        return Err(FormatError::WrongAddress { found: head.pos, expected: expect_pos });
    }
    let group = bytes.get(..head.blocks as usize * BLOCK).ok_or(FormatError::Short("group"))?;
    let common: &[u8; HEADER] = group.first_chunk().ok_or(FormatError::Short("group"))?;
    let (found, computed) = (header::stored_checksum(common), header::checksum(group, &NO_ID));
    if found != computed {
        return Err(FormatError::BadChecksum { found, computed });
    }
    let (payload, rest) = group
        .get(RECORDS_AT..)
        .and_then(|rest| rest.split_at_checked(payload))
        .ok_or(FormatError::Short("group"))?;
    if rest.iter().any(|b| *b != 0) {
        return Err(FormatError::Malformed("bytes behind the records are not zero"));
    }
    let mut r = Reader::new(payload);
    // A record takes two bytes or more.
    let mut records = Vec::with_capacity((head.records as usize).min(payload.len() / 2));
    for _ in 0..head.records {
        records.push(decode_record(&mut r)?);
    }
    if r.remaining() != 0 {
        return Err(FormatError::Malformed("bytes behind the last record"));
    }
    Ok((head, records))
}

/// The head, and the number of bytes of records.
fn head_and_payload(bytes: &[u8], id: &[u8; 16]) -> Result<(GroupHead, usize)> {
    let first: &[u8; RECORDS_AT] = bytes.first_chunk().ok_or(FormatError::Short("group head"))?;
    let common: &[u8; HEADER] = first.first_chunk().ok_or(FormatError::Short("group head"))?;
    if !header::has_magic(common) {
        return Err(FormatError::BadMagic);
    }
    let found = get_u32(first, HEAD_CHECKSUM_AT);
    let computed = header::checksum(&first[..HEAD_CHECKSUM_AT], &NO_ID);
    if found != computed {
        return Err(FormatError::BadChecksum { found, computed });
    }
    match header::version(common) {
        0 => return Err(FormatError::Malformed("version 0")),
        1..=VERSION => {}
        version => return Err(FormatError::TooNew { version, refuse: 0 }),
    }
    let fields = header::get_fields(common, Kind::Group)?;
    let store: [u8; 16] = get(first, STORE_ID_AT);
    if store != *id {
        return Err(FormatError::WrongStore { found: store });
    }
    if fields.stamp != 0 || fields.level != 0 {
        return Err(FormatError::Malformed("a group has no stamp or level"));
    }
    let head = GroupHead {
        number: fields.generation,
        pos: fields.addr,
        blocks: get_u32(first, BLOCKS_AT),
        first_seq: get_u64(first, FIRST_SEQ_AT),
        records: fields.entries,
        confirmed: get_u64(first, CONFIRMED_AT),
    };
    check_head(&head, fields.payload_len as usize)?;
    Ok((head, fields.payload_len as usize))
}

/// Whether there can be such a group.
fn check_head(head: &GroupHead, payload: usize) -> Result<()> {
    let bad = |what| Err(FormatError::Malformed(what));
    if payload > GROUP_MAX_PAYLOAD || head.blocks as usize != group_blocks(payload) {
        return bad("a group of other blocks than its records need");
    }
    if head.number == 0 || head.first_seq == 0 {
        return bad("groups and records are counted from 1");
    }
    if head.confirmed >= head.number {
        return bad("a group confirms itself, or a later one");
    }
    if head.first_seq.checked_add(head.records.into()).is_none()
        || head.pos.checked_add(head.blocks.into()).is_none()
    {
        return bad("a group behind the end of time");
    }
    if head.records as usize > payload / 2 {
        return bad("more records than bytes for them");
    }
    Ok(())
}
