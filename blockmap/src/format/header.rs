//! The header that every metadata block begins with, and its checksum. What
//! follows it is the business of each structure's own file.

use super::codec::{get, get_u32, get_u64, put};
use super::layout::{Layout, at, contiguous, end};
use super::types::{Addr, Kind};
use super::{BLOCK, FormatError, MAGIC, Result, VERSION, zeroes};

/// Bytes of the header.
pub const HEADER: usize = 64;

/// Bytes of a block behind its header.
pub const PAYLOAD: usize = BLOCK - HEADER;

/// The header's fields.
pub const LAYOUT: Layout = &[
    ("magic", 0, 8),
    ("version", 8, 4),
    ("checksum", 12, 4),
    ("address", 16, 8),
    ("generation", 24, 8),
    ("stamp", 32, 8),
    ("entries", 40, 4),
    ("payload_bytes", 44, 4),
    ("kind", 48, 1),
    ("level", 49, 1),
    ("reserved", 50, 14),
];

const VERSION_AT: usize = at(LAYOUT, "version");
pub(super) const CHECKSUM_AT: usize = at(LAYOUT, "checksum");
const ADDRESS_AT: usize = at(LAYOUT, "address");
const GENERATION_AT: usize = at(LAYOUT, "generation");
const STAMP_AT: usize = at(LAYOUT, "stamp");
const ENTRIES_AT: usize = at(LAYOUT, "entries");
const PAYLOAD_AT: usize = at(LAYOUT, "payload_bytes");
const KIND_AT: usize = at(LAYOUT, "kind");
const LEVEL_AT: usize = at(LAYOUT, "level");
const RESERVED_AT: usize = at(LAYOUT, "reserved");
const _: () = assert!(contiguous(LAYOUT, 0) && end(LAYOUT) == HEADER);

/// The seed of a structure that carries the store's id in itself, so that it
/// can be verified by somebody who does not know the store yet.
pub const NO_ID: [u8; 16] = [0; 16];

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderFields {
    /// The structure.
    pub kind: Kind,
    /// Its own block; a group's place in the journal's time.
    pub addr: Addr,
    /// The checkpoint that first contains it; a group's number.
    pub generation: u64,
    /// The share stamp of an extent leaf (law B1); else 0.
    pub stamp: u64,
    /// Entries or records in the payload.
    pub entries: u32,
    /// Bytes of the payload that mean something; the others are zero.
    pub payload_len: u32,
    /// A node's height above its leaves; else 0.
    pub level: u8,
}

/// The CRC32C of `id`, then of `bytes` with the checksum's own four bytes as zero.
pub(super) fn checksum(bytes: &[u8], id: &[u8; 16]) -> u32 {
    if let Some(crc) = checksum_of_few(bytes, id, &[CHECKSUM_AT]) {
        return crc;
    }
    let seed = crc32c::crc32c(id);
    let (before, rest) = bytes.split_at(CHECKSUM_AT.min(bytes.len()));
    let crc = crc32c::crc32c_append(seed, before);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, rest.get(4..).unwrap_or_default())
}

/// The same of a few bytes, with zeroes at these places: put together and aligned first, which
/// the processor's instruction goes through many times faster than through pieces.
pub(super) fn checksum_of_few(bytes: &[u8], id: &[u8; 16], zeroes: &[usize]) -> Option<u32> {
    #[repr(align(8))]
    struct Room([u8; 16 + FEW]);
    const FEW: usize = 496;
    if zeroes.iter().any(|at| at + 4 > bytes.len()) {
        return None;
    }
    let whole = 16 + bytes.len();
    let mut room = Room([0; 16 + FEW]);
    room.0[..16].copy_from_slice(id);
    room.0.get_mut(16..whole)?.copy_from_slice(bytes);
    for &at in zeroes {
        room.0[16 + at..16 + at + 4].fill(0);
    }
    Some(crc32c::crc32c(&room.0[..whole]))
}

/// Fills the header, checksum zero.
pub(super) fn put_fields(head: &mut [u8; HEADER], fields: HeaderFields) {
    *head = [0; HEADER];
    put(head, 0, MAGIC);
    put(head, VERSION_AT, VERSION.to_le_bytes());
    put(head, ADDRESS_AT, fields.addr.to_le_bytes());
    put(head, GENERATION_AT, fields.generation.to_le_bytes());
    put(head, STAMP_AT, fields.stamp.to_le_bytes());
    put(head, ENTRIES_AT, fields.entries.to_le_bytes());
    put(head, PAYLOAD_AT, fields.payload_len.to_le_bytes());
    put(head, KIND_AT, [fields.kind as u8]);
    put(head, LEVEL_AT, [fields.level]);
}

pub(super) fn has_magic(head: &[u8; HEADER]) -> bool {
    get(head, 0) == MAGIC
}

pub(super) fn stored_checksum(head: &[u8; HEADER]) -> u32 {
    get_u32(head, CHECKSUM_AT)
}

pub(super) fn version(head: &[u8; HEADER]) -> u32 {
    get_u32(head, VERSION_AT)
}

/// The version that a verified block was written by.
pub(super) fn version_of(block: &[u8]) -> u32 {
    block.first_chunk().map_or(0, version)
}

/// What a header says whose checksum was found right, and whose version is known.
pub(super) fn get_fields(head: &[u8; HEADER], kind: Kind) -> Result<HeaderFields> {
    let found: [u8; 1] = get(head, KIND_AT);
    if found[0] != kind as u8 {
        return Err(FormatError::WrongKind { found: found[0], expected: kind });
    }
    if get(head, RESERVED_AT) != [0u8; 14] {
        return Err(FormatError::Malformed("reserved bytes of the header are not zero"));
    }
    Ok(HeaderFields {
        kind,
        addr: get_u64(head, ADDRESS_AT),
        generation: get_u64(head, GENERATION_AT),
        stamp: get_u64(head, STAMP_AT),
        entries: get_u32(head, ENTRIES_AT),
        payload_len: get_u32(head, PAYLOAD_AT),
        level: get::<HEADER, 1>(head, LEVEL_AT)[0],
    })
}

/// Completes a block whose payload is in place: header, zeroes behind the
/// payload's length, checksum seeded with the store's id.
pub fn seal(block: &mut [u8], id: &[u8; 16], fields: HeaderFields) -> Result<()> {
    let block: &mut [u8; BLOCK] =
        block.try_into().map_err(|_| FormatError::Malformed("not one block of bytes"))?;
    let len = fields.payload_len as usize;
    if len > PAYLOAD {
        return Err(FormatError::TooLong("the payload does not fit into one block"));
    }
    block[HEADER + len..].fill(0);
    if let Some(head) = block.first_chunk_mut() {
        put_fields(head, fields);
    }
    let crc = checksum(block, id);
    put(block, CHECKSUM_AT, crc.to_le_bytes());
    Ok(())
}

/// Verifies a block that was read at `expect`: magic, checksum, version, kind,
/// address, generation (where the reader knows it), length; in this order.
/// Gives what the header says, and the payload.
pub fn open<'a>(
    block: &'a [u8],
    id: &[u8; 16],
    expect: Addr,
    generation: Option<u64>,
    kind: Kind,
) -> Result<(HeaderFields, &'a [u8])> {
    let head = verify(block, id)?;
    match version(head) {
        0 => return Err(FormatError::Malformed("version 0")),
        1..=VERSION => {}
        version => return Err(FormatError::TooNew { version, refuse: 0 }),
    }
    let fields = get_fields(head, kind)?;
    if fields.addr != expect {
        return Err(FormatError::WrongAddress { found: fields.addr, expected: expect });
    }
    if let Some(expected) = generation.filter(|g| *g != fields.generation) {
        return Err(FormatError::WrongGeneration { found: fields.generation, expected });
    }
    let payload = block.get(HEADER..).unwrap_or_default();
    let (payload, rest) = payload
        .split_at_checked(fields.payload_len as usize)
        .ok_or(FormatError::Malformed("the payload is longer than its block"))?;
    if zeroes::used(rest) > 0 {
        return Err(FormatError::Malformed("bytes behind the payload are not zero"));
    }
    Ok((fields, payload))
}

/// The header of a block whose magic and checksum are right.
pub(super) fn verify<'a>(block: &'a [u8], id: &[u8; 16]) -> Result<&'a [u8; HEADER]> {
    let block: &[u8; BLOCK] =
        block.try_into().map_err(|_| FormatError::Malformed("not one block of bytes"))?;
    let head = block.first_chunk().ok_or(FormatError::Short("header"))?;
    if !has_magic(head) {
        return Err(FormatError::BadMagic);
    }
    let (found, computed) = (stored_checksum(head), checksum(block, id));
    if found != computed {
        return Err(FormatError::BadChecksum { found, computed });
    }
    Ok(head)
}
