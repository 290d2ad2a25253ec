//! For each rule of the format an example that breaks it and nothing else,
//! and the error that it must get. Damage to bytes is in the tests crate.

use super::codec::{Reader, put_varint};
use super::entries::{EntryCodec, Extents, Files, Names, Space};
use super::header::{self, CHECKSUM_AT, HEADER, HeaderFields, NO_ID};
use super::journal::{RECORDS_AT, checksum, decode_group, encode_group};
use super::node::{decode, encode_inner, encode_leaf};
use super::record::{decode_record, encode_record};
use super::tests::sample_superblock;
use super::types::*;
use super::{BLOCK, BLOCK_LIMIT, FormatError, VERSION, superblock};

const ID: [u8; 16] = [9; 16];
const AT: NodeRef = NodeRef { addr: 77, generation: 9, level: 0 };

fn own(phys: Addr, len: u32) -> Extent {
    Extent { phys, len, unwritten: false, own: true }
}

fn refused<T: std::fmt::Debug>(result: Result<T, FormatError>, what: &str) {
    match result {
        Err(FormatError::Malformed(said)) => assert_eq!(said, what),
        other => panic!("{other:?} instead of {what:?}"),
    }
}

fn leaf<C: EntryCodec>(entries: &[(C::Key, C::Val)]) -> Result<(), FormatError> {
    encode_leaf::<C>(entries.iter().map(|(k, v)| (k, v)), 0, AT, &ID, &mut [0; BLOCK])
}

#[test]
fn keys_that_do_not_ascend() {
    let name = |n: &[u8]| -> Box<[u8]> { n.into() };
    for second in [&b"a"[..], b"b"] {
        let keys = [name(b"b"), name(second)];
        let what = "keys do not ascend";
        refused(leaf::<Names>(&[(keys[0].clone(), 1), (keys[1].clone(), 2)]), what);
        let child = NodeRef { addr: 5, generation: 9, level: 0 };
        let at = NodeRef { level: 1, ..AT };
        let children = keys.iter().map(|k| (k, child));
        refused(encode_inner::<Names>(children, at, &ID, &mut [0; BLOCK]), what);
    }
}

#[test]
fn a_stamp_where_none_belongs() {
    let fields = HeaderFields {
        kind: Kind::Names,
        addr: AT.addr,
        generation: AT.generation,
        stamp: 1,
        entries: 0,
        payload_len: 0,
        level: 0,
    };
    let mut block = [0; BLOCK];
    header::seal(&mut block, &ID, fields).unwrap();
    refused(decode::<Names>(&block, &ID, AT), "a stamp on a node that has none");
    header::seal(&mut block, &ID, HeaderFields { kind: Kind::Extents, ..fields }).unwrap();
    assert_eq!(decode::<Extents>(&block, &ID, AT).unwrap().stamp, 1);
}

#[test]
fn space_groups_without_a_birth_or_with_too_much_free() {
    let desc = GroupDesc { addr: 2, generation: 1, free: 31_744 };
    let what = "space group without a birth, or more than all free";
    refused(leaf::<Space>(&[(0, GroupDesc { generation: 0, ..desc })]), what);
    refused(leaf::<Space>(&[(0, GroupDesc { free: 31_745, ..desc })]), what);
    let last = BLOCK_LIMIT / GROUP_BLOCKS;
    assert_eq!(leaf::<Space>(&[(last, desc)]), Ok(()));
    refused(leaf::<Space>(&[(last + 1, desc)]), "space group out of range");
}

#[test]
fn inline_maps_that_overlap_and_trees_nowhere() {
    let file = |map| leaf::<Files>(&[(1, FileRecord { map, ..Default::default() })]);
    let inline = |extents| file(FileMap::Inline { stamp: 0, extents });
    assert_eq!(inline(vec![(0, own(2, 2)), (2, own(9, 1))]), Ok(()));
    let what = "extents of a file record overlap";
    refused(inline(vec![(0, own(2, 2)), (1, own(9, 1))]), what);
    refused(inline(vec![(5, own(2, 2)), (1, own(9, 1))]), what);
    refused(inline(vec![(0, own(2, 1)); 5]), "too many extents in a file record");
    refused(file(FileMap::Tree(NodeRef::default())), "block address out of range");
    let high = NodeRef { addr: 5, generation: 1, level: 13 };
    refused(file(FileMap::Tree(high)), "a node without a birth, or too far above its leaves");
}

#[test]
fn maps_whose_extents_are_out_of_order_out_of_range_or_shared() {
    let map = |extents: Vec<_>| {
        let (mut out, extents) = (Vec::new(), extents.into());
        let record = Record::Map { file: 1, start: 10, len: 5, size: 0, extents };
        let result = encode_record(&mut out, &record);
        assert_eq!(result.is_err(), out.is_empty(), "what is refused is not half written");
        result
    };
    assert_eq!(map(vec![(10, own(2, 2)), (12, own(7, 3))]), Ok(()));
    refused(map(vec![(10, own(2, 2)), (11, own(7, 3))]), "extents of a record overlap");
    refused(map(vec![(9, own(2, 2))]), "extents of a record overlap");
    refused(map(vec![(10, own(2, 2)), (12, own(7, 4))]), "extents of a record leave its range");
    let shared = Extent { own: false, ..own(2, 2) };
    refused(map(vec![(10, shared)]), "a record maps blocks that are not the file's own");
}

#[test]
fn extents_of_a_record_behind_the_end_of_numbers() {
    let decode = |numbers: &[u64]| {
        let mut bytes = vec![5];
        numbers.iter().for_each(|n| put_varint(&mut bytes, *n));
        decode_record(&mut Reader::new(&bytes))
    };
    let far = "file block out of range";
    // Tag 5 is Map: file, start, len, size, one extent, gap, twice the length, address.
    assert!(decode(&[1, 0, 5, 0, 1, 0, 2, 2]).is_ok());
    refused(decode(&[1, 0, 5, 0, 1, u64::MAX, 2, 2]), far);
    refused(decode(&[1, 3, 5, 0, 1, u64::MAX, 2, 2]), far);
    refused(decode(&[1, 0, 5, 0, 2, 0, 2, 2, u64::MAX, 2, 2]), far);
    refused(decode(&[1, u64::MAX, 5, 0, 1, 0, 2, 2]), far);
    refused(decode(&[1, 3, u64::MAX, 0, 1, 0, 2, 2]), far);
    refused(decode(&[1, 0, 5, 0, 1, 0, 1 << 33, 2]), "extent of too many blocks");
    assert_eq!(decode(&[1, 0, 5, 0, u64::MAX]), Err(FormatError::Short("extents of a record")));
    refused(decode_record(&mut Reader::new(&[0, 0])), "unknown tag of a record");
    refused(decode_record(&mut Reader::new(&[200, 0])), "unknown tag of a record");
}

#[test]
fn atomic_writes_that_cannot_be() {
    // Tag 14: file, size, parts, then for each start, len, extents.
    let decode = |numbers: &[u64]| {
        let mut bytes = vec![14];
        numbers.iter().for_each(|n| put_varint(&mut bytes, *n));
        decode_record(&mut Reader::new(&bytes))
    };
    assert!(decode(&[1, 0, 2, 3, 1, 0, 4, 1, 0]).is_ok());
    refused(decode(&[1, 0, 0]), "an atomic write of nothing");
    refused(decode(&[1, 0, 2, 3, 2, 0, 4, 1, 0]), "parts of a record overlap");
    refused(decode(&[1, 0, 2, 4, 1, 0, 3, 1, 0]), "parts of a record overlap");
    assert_eq!(decode(&[1, 0, u64::MAX]), Err(FormatError::Short("parts of a record")));
}

#[test]
fn groups_that_cannot_be() {
    let head = GroupHead { number: 7, pos: 5, blocks: 0, first_seq: 50, records: 1, confirmed: 6 };
    let payload = [1, 7];
    let sealed = |head| encode_group(head, &payload, &ID);
    let good = sealed(head).unwrap();
    assert!(decode_group(&good, &ID, 5).is_ok());
    let itself = "a group confirms itself, or a later one";
    refused(sealed(GroupHead { confirmed: 7, ..head }), itself);
    refused(sealed(GroupHead { confirmed: u64::MAX, ..head }), itself);
    let counted = "groups and records are counted from 1";
    refused(sealed(GroupHead { number: 0, confirmed: 0, ..head }), counted);
    refused(sealed(GroupHead { first_seq: 0, ..head }), counted);
    refused(sealed(GroupHead { records: 2, ..head }), "more records than bytes for them");
    let end = "a group behind the end of time";
    refused(sealed(GroupHead { pos: u64::MAX, ..head }), end);
    refused(sealed(GroupHead { first_seq: u64::MAX, ..head }), end);

    let mut block = good.clone();
    for at in [RECORDS_AT + payload.len(), BLOCK - 1] {
        block.copy_from_slice(&good);
        block[at] = 1;
        let crc = checksum(&block, VERSION);
        block[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&crc.to_le_bytes());
        refused(decode_group(&block, &ID, 5), "bytes behind the records are not zero");
    }
}

#[test]
fn checkpoints_that_cannot_be() {
    let write = |change: &dyn Fn(&mut Superblock)| {
        let mut sb = sample_superblock();
        change(&mut sb);
        superblock::encode(&sb, 0, &mut [0; BLOCK])
    };
    assert_eq!(write(&|_| ()), Ok(()));
    assert_eq!(write(&|sb| sb.blocks = BLOCK_LIMIT), Ok(()));
    refused(write(&|sb| sb.store_id = [0; 16]), "a store's id is not zero");
    refused(write(&|sb| sb.blocks = BLOCK_LIMIT + 1), "more blocks than can be");
    refused(write(&|sb| sb.free = sb.blocks + 1), "more blocks than can be");
    refused(write(&|sb| sb.journal_blocks = 0), "a store without a journal");
    refused(write(&|sb| sb.journal_start = 1), "block address out of range");
    refused(write(&|sb| sb.journal_blocks = u64::MAX), "block address out of range");
    refused(write(&|sb| sb.journal_blocks = sb.blocks - 1), "the journal ends behind the store");
    refused(write(&|sb| sb.cut_group = 0), "checkpoints and groups are counted from 1");
    refused(write(&|sb| sb.checkpoint = 0), "checkpoints and groups are counted from 1");
    refused(write(&|sb| sb.next_file = 0), "a file's number out of range");
    let root = "a root behind the store's end, or younger than its checkpoint";
    refused(write(&|sb| sb.names.addr = sb.blocks), root);
    refused(write(&|sb| sb.space.generation = sb.checkpoint + 1), root);
    refused(write(&|sb| sb.counts.generation = 1), "block address out of range");
}

#[test]
fn reserved_bytes_of_a_root() {
    let mut block = [0; BLOCK];
    superblock::encode(&sample_superblock(), 0, &mut block).unwrap();
    let (fields, payload) = header::open(&block, &NO_ID, 0, None, Kind::Super).unwrap();
    let mut again = [0; BLOCK];
    again[HEADER..HEADER + payload.len()].copy_from_slice(payload);
    again[199] = 1;
    header::seal(&mut again, &NO_ID, fields).unwrap();
    refused(superblock::decode(&again, 0), "reserved bytes of a root are not zero");
}
