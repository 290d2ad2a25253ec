//! Journal groups: records in a run of blocks under one checksum. A single
//! record's bytes are in `record.rs`; the ring is the journal's business, a
//! group is contiguous here.

use super::codec::{Reader, get, get_u32, get_u64, put};
use super::header::{self, HEADER, HeaderFields, NO_ID};
use super::layout::{Layout, at, contiguous, end};
use super::record::decode_record;
use super::types::{GroupHead, Kind, Record};
use super::zeroes::{append_zeroes, used};
use super::{BLOCK, FormatError, Result, VERSION};
use std::borrow::Cow;

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

/// What every block of a group but the first begins with, from version 2 on. No
/// bytes of a user ever begin a block of the journal, so none can be taken for
/// the head of a group (law B9).
pub const CONTINUATION: [u8; 8] = *b"+JOURNAL";

/// Most bytes of records in a group.
pub const GROUP_MAX_PAYLOAD: usize =
    BLOCK - RECORDS_AT + (GROUP_MAX_BLOCKS as usize - 1) * (BLOCK - CONTINUATION.len());

const STORE_ID_AT: usize = at(LAYOUT, "store_id");
const FIRST_SEQ_AT: usize = at(LAYOUT, "first_seq");
const CONFIRMED_AT: usize = at(LAYOUT, "confirmed");
const BLOCKS_AT: usize = at(LAYOUT, "blocks");
const HEAD_CHECKSUM_AT: usize = at(LAYOUT, "head_checksum");
const _: () = assert!(contiguous(LAYOUT, HEADER));

/// Blocks that a group with so many bytes of records takes.
pub fn group_blocks(payload: usize) -> usize {
    blocks_of(payload, VERSION)
}

/// As [`group_blocks`], for a group of any version.
fn blocks_of(payload: usize, version: u32) -> usize {
    let more = BLOCK - framing(version);
    1 + payload.saturating_sub(BLOCK - RECORDS_AT).div_ceil(more)
}

/// Bytes at the front of each block but the first that are not of the records.
fn framing(version: u32) -> usize {
    if version < 2 { 0 } else { CONTINUATION.len() }
}

/// A sealed group of the records in `payload`, whole blocks. `head.blocks` is
/// not looked at: the payload decides.
pub fn encode_group(head: GroupHead, payload: &[u8], id: &[u8; 16]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode_front(head, payload, id, &mut bytes)?;
    bytes.resize(group_blocks(payload.len()) * BLOCK, 0);
    Ok(bytes)
}

/// The same without the zeroes at the end, in place of what is in `bytes`: a commit that takes a
/// microsecond has no time for an allocator.
pub fn encode_front(
    head: GroupHead,
    payload: &[u8],
    id: &[u8; 16],
    bytes: &mut Vec<u8>,
) -> Result<()> {
    if payload.len() > GROUP_MAX_PAYLOAD {
        return Err(FormatError::TooLong("a group takes at most 256 blocks"));
    }
    let blocks = group_blocks(payload.len());
    check_head(&GroupHead { blocks: blocks as u32, ..head }, payload.len(), VERSION)?;
    // Who wants whole blocks finds room for them.
    bytes.clear();
    bytes.reserve(blocks * BLOCK);
    let (front, rest) = payload.split_at(payload.len().min(BLOCK - RECORDS_AT));
    bytes.resize(RECORDS_AT, 0);
    bytes.extend_from_slice(front);
    for part in rest.chunks(BLOCK - CONTINUATION.len()) {
        bytes.extend_from_slice(&CONTINUATION);
        bytes.extend_from_slice(part);
    }
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
    let zeroes = blocks * BLOCK - bytes.len();
    let crc = append_zeroes(checksum(bytes, VERSION), zeroes);
    bytes[header::CHECKSUM_AT..][..4].copy_from_slice(&crc.to_le_bytes());
    Ok(())
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
    let computed = checksum(group, header::version(common));
    let found = header::stored_checksum(common);
    if found != computed {
        return Err(FormatError::BadChecksum { found, computed });
    }
    let body = unframed(group, header::version(common))?;
    let (payload, rest) = body.split_at_checked(payload).ok_or(FormatError::Short("group"))?;
    if used(rest) > 0 {
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

/// The checksum of a group, or of its beginning. From version 3 on the head's own counts as
/// zero in it: a checksum over bytes and their checksum does not depend on the bytes, and a
/// torn group, an old one's records behind a new one's head, was taken for whole.
pub(super) fn checksum(bytes: &[u8], version: u32) -> u32 {
    if version < 3 {
        return header::checksum(bytes, &NO_ID);
    }
    let both = [header::CHECKSUM_AT, HEAD_CHECKSUM_AT];
    if let Some(crc) = header::checksum_of_few(bytes, &NO_ID, &both) {
        return crc;
    }
    let (head, rest) = bytes.split_at(HEAD_CHECKSUM_AT.min(bytes.len()));
    let crc = crc32c::crc32c_append(header::checksum(head, &NO_ID), &[0; 4]);
    crc32c::crc32c_append(crc, rest.get(4..).unwrap_or_default())
}

/// A group's bytes behind its head, without what each further block begins with.
fn unframed(group: &[u8], version: u32) -> Result<Cow<'_, [u8]>> {
    let body = group.get(RECORDS_AT..).ok_or(FormatError::Short("group"))?;
    if framing(version) == 0 || group.len() <= BLOCK {
        return Ok(Cow::Borrowed(body));
    }
    let (first, more) =
        body.split_at_checked(BLOCK - RECORDS_AT).ok_or(FormatError::Short("group"))?;
    let mut out = Vec::with_capacity(body.len());
    out.extend_from_slice(first);
    for block in more.chunks_exact(BLOCK) {
        let part = block
            .strip_prefix(&CONTINUATION)
            .ok_or(FormatError::Malformed("a block of a group without its mark"))?;
        out.extend_from_slice(part);
    }
    Ok(Cow::Owned(out))
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
    let version = match header::version(common) {
        0 => return Err(FormatError::Malformed("version 0")),
        version @ 1..=VERSION => version,
        version => return Err(FormatError::TooNew { version, refuse: 0 }),
    };
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
    check_head(&head, fields.payload_len as usize, version)?;
    Ok((head, fields.payload_len as usize))
}

/// Whether there can be such a group.
fn check_head(head: &GroupHead, payload: usize, version: u32) -> Result<()> {
    let bad = |what| Err(FormatError::Malformed(what));
    let blocks = blocks_of(payload, version);
    if head.blocks > GROUP_MAX_BLOCKS || head.blocks as usize != blocks {
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
