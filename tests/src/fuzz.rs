//! Functions that take any bytes and must neither panic nor accept what has
//! two encodings. A coverage-guided fuzzer can call them; on stable they run
//! on seeded input. Where a checksum would keep all input out, the function
//! seals the input first.

mod store;
pub mod vfio_user;

pub use store::{fuzz_image, fuzz_journal, opened};

use freehold_blockmap::format::codec::Reader;
use freehold_blockmap::format::entries::{Counts, EntryCodec, Extents, Files, Names, Space};
use freehold_blockmap::format::header::{self, HEADER, HeaderFields, NO_ID};
use freehold_blockmap::format::node::{self, Body, PAYLOAD};
use freehold_blockmap::format::record::{decode_record, encode_record};
use freehold_blockmap::format::types::{GroupDesc, GroupHead, Kind, NodeRef};
use freehold_blockmap::format::{BLOCK, bitmap, journal, journal_header, superblock};

/// The store id that all functions here use.
pub const ID: [u8; 16] = [0x5a; 16];

/// A function of this file.
pub type Function = fn(&[u8]);

/// Those that are quick, by name. [`fuzz_image`] and [`fuzz_journal`] open whole stores.
pub const ALL: &[(&str, Function)] = &[
    ("fuzz_raw", fuzz_raw),
    ("fuzz_header", fuzz_header),
    ("fuzz_superblock", fuzz_superblock),
    ("fuzz_journal_header", fuzz_journal_header),
    ("fuzz_node", fuzz_node),
    ("fuzz_bitmap", fuzz_bitmap),
    ("fuzz_record", fuzz_record),
    ("fuzz_group", fuzz_group),
];

/// Bytes as they are, into every decoder.
pub fn fuzz_raw(data: &[u8]) {
    let at = NodeRef { addr: 2, generation: 1, level: 0 };
    let desc = GroupDesc { addr: 2, generation: 1, free: 0 };
    let _ = header::open(data, &ID, 2, None, Kind::Extents);
    let _ = superblock::decode(data, 0);
    let _ = journal_header::decode(data, 0);
    let _ = node::decode::<Extents>(data, &ID, at);
    let _ = bitmap::decode(data, &ID, 0, &desc);
    let _ = journal::decode_group_head(data, &ID);
    let _ = journal::decode_group(data, &ID, 0);
}

/// Any bytes as a whole block with the right checksum.
pub fn fuzz_header(data: &[u8]) {
    let mut block = block_of(data, 0);
    block[..8].copy_from_slice(b"FREEHOLD");
    for id in [&ID, &NO_ID] {
        resum(&mut block, id);
        // A generous reader first: whatever the header says of itself.
        let addr = u64::from_le_bytes(block[16..24].try_into().unwrap());
        let generation = u64::from_le_bytes(block[24..32].try_into().unwrap());
        for (level, kind) in [(0, Kind::Extents), (block[49], Kind::Names), (1, Kind::Bitmap)] {
            let at = NodeRef { addr, generation, level };
            if let Ok((head, payload)) = header::open(&block, id, addr, Some(generation), kind) {
                assert_eq!(head.payload_len as usize, payload.len());
                let mut again = block.clone();
                header::seal(&mut again, id, head).unwrap();
                assert_eq!(again, block, "one state has one encoding");
            }
            let _ = node::decode::<Files>(&block, id, at);
        }
        let _ = superblock::decode(&block, 0);
        let _ = superblock::decode(&block, 1);
    }
}

/// A block of which there are two, with any bytes as its fields: the bytes that chose, the
/// slot, the block, and what its header is to say.
fn slotted(data: &[u8], kind: Kind) -> Option<([u8; 12], u64, Vec<u8>, HeaderFields)> {
    let (front, fields) = data.split_first_chunk::<12>()?;
    let slot = u64::from(front[0] & 1);
    let head = HeaderFields {
        kind,
        addr: slot,
        generation: u64::from_le_bytes(front[4..].try_into().unwrap()),
        stamp: 0,
        entries: 0,
        payload_len: fields.len().min(PAYLOAD) as u32,
        level: 0,
    };
    Some((*front, slot, block_of(fields, HEADER), head))
}

/// Any bytes as the fields of a superblock.
pub fn fuzz_superblock(data: &[u8]) {
    let Some((front, slot, mut block, head)) = slotted(data, Kind::Super) else { return };
    if front[2] & 1 == 0 {
        block[64..72].fill(0);
    }
    header::seal(&mut block, &NO_ID, head).unwrap();
    if let Ok(sb) = superblock::decode(&block, slot) {
        let mut again = vec![0; BLOCK];
        superblock::encode(&sb, slot, &mut again).unwrap();
        assert_eq!(superblock::decode(&again, slot), Ok(sb));
    }
}

/// Any bytes as the fields of a journal's header.
pub fn fuzz_journal_header(data: &[u8]) {
    let Some((_, slot, mut block, head)) = slotted(data, Kind::Journal) else { return };
    header::seal(&mut block, &NO_ID, head).unwrap();
    if let Ok(journal) = journal_header::decode(&block, slot) {
        let mut again = vec![0xee; BLOCK];
        journal_header::encode(&journal, slot, &mut again).unwrap();
        assert_eq!(again, block, "one state has one encoding");
    }
}

/// Any bytes as the entries of a node of any tree.
pub fn fuzz_node(data: &[u8]) {
    let Some((front, entries)) = data.split_first_chunk::<4>() else { return };
    match front[0] % 5 {
        0 => sealed_node::<Extents>(front, entries),
        1 => sealed_node::<Names>(front, entries),
        2 => sealed_node::<Files>(front, entries),
        3 => sealed_node::<Counts>(front, entries),
        _ => sealed_node::<Space>(front, entries),
    }
}

fn sealed_node<C: EntryCodec>(front: &[u8; 4], entries: &[u8]) {
    let mut block = block_of(entries, HEADER);
    let at = NodeRef { addr: 77, generation: 9, level: front[1] % 14 };
    let head = HeaderFields {
        kind: C::KIND,
        addr: at.addr,
        generation: at.generation,
        stamp: u64::from(front[2] >> 6),
        // The upper bit makes the count a lie of any size.
        entries: if front[3] < 0xf0 { u32::from(front[3]) } else { u32::MAX >> (front[3] & 15) },
        payload_len: entries.len().min(PAYLOAD) as u32,
        level: at.level,
    };
    header::seal(&mut block, &ID, head).unwrap();
    let Ok(found) = node::decode::<C>(&block, &ID, at) else { return };
    let mut again = vec![0xee; BLOCK];
    match &found.body {
        Body::Leaf(entries) => {
            let entries = entries.iter().map(|(k, v)| (k, v));
            node::encode_leaf::<C>(entries, found.stamp, at, &ID, &mut again).unwrap();
        }
        Body::Inner(children) => {
            let children = children.iter().map(|(k, c)| (k, *c));
            node::encode_inner::<C>(children, at, &ID, &mut again).unwrap();
        }
    }
    assert_eq!(again, block, "one state has one encoding");
}

/// Any bytes as the payload of a bitmap's block.
pub fn fuzz_bitmap(data: &[u8]) {
    let Some((front, payload)) = data.split_first_chunk::<8>() else { return };
    let mut block = block_of(payload, HEADER);
    // As many free blocks as the payload has, if it has a bitmap's length.
    let words = &block[HEADER + 8..HEADER + 8 + bitmap::WORDS * 8];
    let desc = GroupDesc {
        addr: 2 + u64::from(front[0]),
        generation: 1 + u64::from(front[1]),
        free: words.iter().map(|b| b.count_zeros()).sum::<u32>() ^ u32::from(front[2] >> 7),
    };
    let group = u64::from_le_bytes(block[HEADER..HEADER + 8].try_into().unwrap());
    let head = HeaderFields {
        kind: Kind::Bitmap,
        addr: desc.addr,
        generation: desc.generation,
        stamp: 0,
        entries: bitmap::WORDS as u32,
        payload_len: payload.len().min(PAYLOAD) as u32,
        level: 0,
    };
    header::seal(&mut block, &ID, head).unwrap();
    if let Ok(words) = bitmap::decode(&block, &ID, group, &desc) {
        let mut again = vec![0xee; BLOCK];
        bitmap::encode(&words, group, &desc, &ID, &mut again).unwrap();
        assert_eq!(again, block, "one state has one encoding");
    }
}

/// Any bytes as records.
pub fn fuzz_record(data: &[u8]) {
    let mut r = Reader::new(data);
    while r.remaining() > 0 {
        let from = data.len() - r.remaining();
        let Ok(record) = decode_record(&mut r) else { return };
        let mut again = Vec::new();
        encode_record(&mut again, &record).unwrap();
        assert_eq!(again, data[from..data.len() - r.remaining()], "one record has one encoding");
    }
}

/// Any bytes as the records of a sealed group, and as a head with the right checksum.
pub fn fuzz_group(data: &[u8]) {
    let Some((front, payload)) = data.split_first_chunk::<4>() else { return };
    let head = GroupHead {
        number: 7,
        pos: u64::from(front[0]),
        blocks: 0,
        first_seq: u64::from(front[1]),
        records: if front[2] < 0xf0 { u32::from(front[2]) } else { u32::MAX >> (front[2] & 15) },
        confirmed: u64::from(front[3]),
    };
    let Ok(bytes) = journal::encode_group(head, payload, &ID) else { return };
    assert_eq!(journal::decode_group_head(&bytes, &ID).map(|h| h.pos), Ok(head.pos));
    if let Ok((found, records)) = journal::decode_group(&bytes, &ID, head.pos) {
        assert_eq!(found.records as usize, records.len());
        let mut again = Vec::new();
        records.iter().for_each(|record| encode_record(&mut again, record).unwrap());
        assert_eq!(again, payload, "one state has one encoding");
    }
    let mut lie = bytes;
    let at = 8 + usize::from(front[0]) % (journal::RECORDS_AT - 8);
    lie[at] ^= front[1];
    let mut head = lie[..journal::RECORDS_AT - 4].to_vec();
    head[12..16].fill(0);
    let crc = seeded(&NO_ID, &head);
    lie[journal::RECORDS_AT - 4..journal::RECORDS_AT].copy_from_slice(&crc.to_le_bytes());
    resum_group(&mut lie);
    if let Ok(head) = journal::decode_group_head(&lie, &ID) {
        assert!(head.blocks >= 1 && head.blocks <= journal::GROUP_MAX_BLOCKS);
        let _ = journal::decode_group(&lie, &ID, head.pos);
    }
}

/// `data` at offset `at` of a block of zeroes, as much as fits.
fn block_of(data: &[u8], at: usize) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let len = data.len().min(BLOCK - at);
    block[at..at + len].copy_from_slice(&data[..len]);
    block
}

/// Gives altered bytes the checksum that the specification says.
pub fn resum(bytes: &mut [u8], id: &[u8; 16]) {
    bytes[12..16].fill(0);
    let crc = seeded(id, bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// The same for a group: from version 3 on its head's own checksum counts as zero.
pub fn resum_group(bytes: &mut [u8]) {
    let mut summed = bytes.to_vec();
    if u32::from_le_bytes(bytes[8..12].try_into().unwrap()) >= 3 {
        summed[journal::RECORDS_AT - 4..journal::RECORDS_AT].fill(0);
    }
    resum(&mut summed, &NO_ID);
    bytes[12..16].copy_from_slice(&summed[12..16]);
}

fn seeded(id: &[u8; 16], bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(id), bytes)
}
