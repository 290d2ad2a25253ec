//! Round trips of every structure with plain examples, and the limits on both
//! sides. Random values and damage are in the tests crate.

use super::entries::{CountRun, Counts, EntryCodec, Extents, Files, Names, Space};
use super::header::{self, CHECKSUM_AT, NO_ID};
use super::journal::{
    GROUP_MAX_PAYLOAD, decode_group, decode_group_head, encode_group, encode_record,
};
use super::node::{Body, DecodedNode, PAYLOAD, decode, encode_inner, encode_leaf};
use super::types::*;
use super::{
    BLOCK, BLOCK_LIMIT, FILE_LIMIT, FormatError, bitmap, journal_header, node, superblock,
};
use smallvec::smallvec;

const ID: [u8; 16] = *b"sixteen byte id!";

fn at(level: u8) -> NodeRef {
    NodeRef { addr: 77, generation: 9, level }
}

fn extent(phys: Addr, len: u32) -> Extent {
    Extent { phys, len, unwritten: false, own: true }
}

fn leaf<C: EntryCodec>(entries: &[(C::Key, C::Val)], stamp: u64) -> Result<Vec<u8>, FormatError> {
    let mut block = vec![0xee; BLOCK];
    encode_leaf::<C>(entries.iter().map(|(k, v)| (k, v)), stamp, at(0), &ID, &mut block)?;
    Ok(block)
}

fn round_trip<C: EntryCodec + std::fmt::Debug + PartialEq>(
    entries: &[(C::Key, C::Val)],
    stamp: u64,
) {
    let block = leaf::<C>(entries, stamp).unwrap();
    let node: DecodedNode<C> = decode(&block, &ID, at(0)).unwrap();
    assert_eq!(node, DecodedNode { level: 0, stamp, body: Body::Leaf(entries.to_vec()) });
    assert_eq!(node.is_empty(), entries.is_empty());

    let mut room = PAYLOAD;
    let children: Vec<(C::Key, Child)> = entries
        .iter()
        .enumerate()
        .take_while(|(_, (k, _))| {
            let len = super::node::child_len::<C>(k);
            room.checked_sub(len).map(|left| room = left).is_some()
        })
        .map(|(i, (k, _))| {
            (k.clone(), NodeRef { addr: 100 + i as u64, generation: 3, level: 1 }.into())
        })
        .collect();
    let mut block = vec![0xee; BLOCK];
    let written = encode_inner::<C>(children.iter().map(|(k, c)| (k, *c)), at(2), &ID, &mut block);
    if children.is_empty() {
        assert!(written.is_err());
        return;
    }
    written.unwrap();
    let node: DecodedNode<C> = decode(&block, &ID, at(2)).unwrap();
    assert_eq!(node, DecodedNode { level: 2, stamp: 0, body: Body::Inner(children) });
}

#[test]
fn nodes_of_every_tree_round_trip() {
    let tail = Extent { phys: BLOCK_LIMIT - 9, len: 9, unwritten: true, own: false };
    round_trip::<Extents>(&[], 5);
    round_trip::<Extents>(&[(0, extent(2, 4)), (4, extent(900, 1)), (BLOCK_LIMIT - 9, tail)], 5);
    let name = |n: &[u8]| -> Box<[u8]> { n.into() };
    round_trip::<Names>(&[(name(b"a"), 1), (name(b"a/b"), 2), (name(&[255; 255]), 3)], 0);
    let tree = FileRecord { map: FileMap::Tree(at(3)), size: 1 << 60, ..Default::default() };
    let inline = FileRecord {
        extents: 2,
        blocks: 3,
        share_gen: 8,
        map: FileMap::Inline { stamp: 6, extents: vec![(0, extent(5, 2)), (2, tail)] },
        ..Default::default()
    };
    let condemned = FileRecord { condemned: true, ..Default::default() };
    round_trip::<Files>(&[(1, tree), (2, inline), (7 | FILE_LIMIT, condemned)], 0);
    round_trip::<Counts>(
        &[(2, CountRun { len: 3, count: 2 }), (5, CountRun { len: 1, count: u32::MAX })],
        0,
    );
    round_trip::<Space>(&[(0, GroupDesc { addr: 2, generation: 1, free: 31_744 })], 0);
}

#[test]
fn a_leaf_takes_what_fits_and_not_one_entry_more() {
    let full: Vec<_> = (0..168).map(|i| (i * 2, extent(10 + i, 1))).collect();
    round_trip::<Extents>(&full, 0);
    assert!(node::fits(node::leaf_len::<Extents>(full.iter().map(|(k, v)| (k, v)))));
    let more: Vec<_> = (0..169).map(|i| (i * 2, extent(10 + i, 1))).collect();
    assert!(!node::fits(node::leaf_len::<Extents>(more.iter().map(|(k, v)| (k, v)))));
    assert!(matches!(leaf::<Extents>(&more, 0), Err(FormatError::TooLong(_))));
}

#[test]
fn entries_that_make_no_sense_are_not_written() {
    let bad_extents: [&[(u64, Extent)]; 7] = [
        &[(0, extent(2, 0))],
        &[(0, extent(1, 1))],
        &[(0, extent(BLOCK_LIMIT - 1, 2))],
        &[(BLOCK_LIMIT - 1, extent(2, 2))],
        &[(u64::MAX, extent(u64::MAX, u32::MAX))],
        &[(0, extent(2, 5)), (4, extent(20, 1))],
        &[(4, extent(2, 1)), (4, extent(20, 1))],
    ];
    for entries in bad_extents {
        assert!(matches!(leaf::<Extents>(entries, 0), Err(FormatError::Malformed(_))));
    }
    for name in [&b""[..], b"a\0", &[1; 256]] {
        assert!(leaf::<Names>(&[(name.into(), 1)], 0).is_err());
    }
    assert!(leaf::<Names>(&[(b"a"[..].into(), 0)], 0).is_err());
    assert!(leaf::<Names>(&[(b"a"[..].into(), 1)], 3).is_err(), "only extents are stamped");
    assert!(leaf::<Counts>(&[(5, CountRun { len: 1, count: 1 })], 0).is_err());
    assert!(leaf::<Counts>(&[(5, CountRun { len: 0, count: 2 })], 0).is_err());
    let five = (0..5).map(|i| (i, extent(10, 1))).collect();
    let record =
        FileRecord { map: FileMap::Inline { stamp: 0, extents: five }, ..Default::default() };
    assert!(leaf::<Files>(&[(1, record)], 0).is_err());
    let condemned = FileRecord { condemned: true, ..Default::default() };
    assert!(leaf::<Files>(&[(1, condemned)], 0).is_err());
    assert!(leaf::<Files>(&[(FILE_LIMIT, FileRecord::default())], 0).is_err());
}

#[test]
fn a_child_is_older_than_its_parent_and_one_level_below() {
    let mut block = vec![0; BLOCK];
    for (addr, generation, level) in
        [(5, 10, 1), (5, 0, 1), (5, 9, 0), (5, 9, 255), (77, 9, 1), (1, 9, 1)]
    {
        let child = NodeRef { addr, generation, level };
        let written = encode_inner::<Extents>([(&0, child)], at(2), &ID, &mut block);
        assert!(matches!(written, Err(FormatError::Malformed(_))), "{child:?}");
    }
    for level in [0, 13, 255] {
        let child = NodeRef { addr: 5, generation: 9, level: level.max(1) - 1 };
        let at = NodeRef { level, ..at(0) };
        assert!(encode_inner::<Extents>([(&0, child)], at, &ID, &mut block).is_err());
    }
}

#[test]
fn a_node_elsewhere_or_of_another_time_is_named() {
    let block = leaf::<Extents>(&[(0, extent(2, 4))], 0).unwrap();
    let read = |at| decode::<Extents>(&block, &ID, at).unwrap_err();
    assert_eq!(
        read(NodeRef { addr: 78, ..at(0) }),
        FormatError::WrongAddress { found: 77, expected: 78 }
    );
    assert_eq!(
        read(NodeRef { generation: 8, ..at(0) }),
        FormatError::WrongGeneration { found: 9, expected: 8 }
    );
    assert!(matches!(read(at(1)), FormatError::Malformed(_)));
    assert_eq!(
        decode::<Counts>(&block, &ID, at(0)).unwrap_err(),
        FormatError::WrongKind { found: 3, expected: Kind::Counts }
    );
    assert!(matches!(
        decode::<Extents>(&block, &[1; 16], at(0)),
        Err(FormatError::BadChecksum { .. })
    ));
    assert_eq!(decode::<Extents>(&[0; BLOCK], &ID, at(0)), Err(FormatError::BadMagic));
}

#[test]
fn splits_are_even_and_leave_no_side_empty() {
    assert_eq!(node::split_at(&[24; 168]), 84);
    assert_eq!(node::split_at(&[1, 1, 1, 9]), 3);
    assert_eq!(node::split_at(&[9, 1, 1, 1]), 1);
    assert_eq!(node::split_at(&[0, 9]), 1);
    assert_eq!(node::split_at(&[9, 0]), 1);
    assert_eq!(node::split_at(&[9]), 0);
    assert_eq!(node::split_at(&[]), 0);
    let mut names = vec![263; 15];
    names.extend([10; 8]);
    let i = node::split_at(&names);
    assert!(
        names[..i].iter().sum::<usize>() <= PAYLOAD && names[i..].iter().sum::<usize>() <= PAYLOAD
    );
}

pub(super) fn sample_superblock() -> Superblock {
    Superblock {
        refuse_features: 0,
        readonly_features: 0,
        ignore_features: 0,
        store_id: ID,
        blocks: 1 << 20,
        journal_start: 2,
        journal_blocks: 4096,
        checkpoint: 12,
        cut_seq: 345,
        cut_group: 67,
        cut_pos: 890,
        names: at(1),
        files: NodeRef { addr: 5000, generation: 12, level: 2 },
        counts: NodeRef::default(),
        space: at(0),
        share_gen: 4,
        next_file: 99,
        free: 1000,
        apart: None,
    }
}

#[test]
fn superblocks_round_trip_in_both_slots() {
    let sb = sample_superblock();
    for slot in [0, 1] {
        let mut block = vec![0xee; BLOCK];
        superblock::encode(&sb, slot, &mut block).unwrap();
        assert!(block.starts_with(b"FREEHOLD\x03\0\0\0"));
        assert_eq!(superblock::decode(&block, slot).as_ref(), Ok(&sb));
        assert_eq!(
            superblock::decode(&block, 1 - slot),
            Err(FormatError::WrongAddress { found: slot, expected: 1 - slot })
        );
    }
    assert!(superblock::encode(&sb, 2, &mut [0; BLOCK]).is_err());
    assert_eq!(superblock::decode(&[0; BLOCK], 0), Err(FormatError::NotAStore));
}

#[test]
fn unknown_features_refuse_make_read_only_or_do_nothing() {
    let mut block = vec![0; BLOCK];
    let sb = Superblock { readonly_features: 4, ignore_features: 8, ..sample_superblock() };
    superblock::encode(&sb, 0, &mut block).unwrap();
    assert_eq!(superblock::decode(&block, 0).as_ref(), Ok(&sb));
    assert!(sb.read_only() && !sample_superblock().read_only());
    let sb = Superblock { refuse_features: 2, ..sample_superblock() };
    superblock::encode(&sb, 0, &mut block).unwrap();
    let error = superblock::decode(&block, 0).unwrap_err();
    assert_eq!(error, FormatError::TooNew { version: super::VERSION, refuse: 2 });
    assert!(error.to_string().contains("version 3, required features 0x2"));
}

/// To who does not know us a guarded superblock is an empty table of partitions, which tools ask
/// about before they overwrite it; and it is nothing but that.
#[test]
fn a_guard_is_an_empty_table_of_partitions() {
    let apart = Some(ApartJournal { id: [3; 16], blocks: 77 });
    let plain = Superblock { ignore_features: superblock::GUARD, ..sample_superblock() };
    for sb in [plain.clone(), Superblock { refuse_features: 1, apart, ..plain }] {
        let mut block = vec![0xee; BLOCK];
        superblock::encode(&sb, 0, &mut block).unwrap();
        assert!(block[446..510].iter().all(|byte| *byte == 0));
        assert_eq!(block[510..512], [0x55, 0xaa]);
        assert_eq!(superblock::decode(&block, 0), Ok(sb));
        for (at, value) in [(300, 1), (450, 0x80), (510, 0)] {
            let mut other = block.clone();
            other[at] = value;
            let crc = header::checksum(&other, &NO_ID);
            other[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&crc.to_le_bytes());
            let why = superblock::decode(&other, 0);
            assert!(matches!(why, Err(FormatError::Malformed(_))), "{at}: {why:?}");
        }
    }
}

#[test]
fn a_journal_apart_and_its_headers_round_trip() {
    let apart = Some(ApartJournal { id: [3; 16], blocks: 77 });
    let sb = Superblock { refuse_features: 1, apart, ..sample_superblock() };
    let mut block = vec![0xee; BLOCK];
    superblock::encode(&sb, 0, &mut block).unwrap();
    assert_eq!(superblock::decode(&block, 0), Ok(sb.clone()));
    // The feature and what it appends go together.
    for wrong in [Superblock { apart: None, ..sb.clone() }, Superblock { refuse_features: 0, ..sb }]
    {
        assert!(superblock::encode(&wrong, 0, &mut block).is_err());
    }
    let journal = JournalHeader { store_id: ID, journal_id: [3; 16], ring_blocks: 77, epoch: 12 };
    for slot in [0, 1] {
        journal_header::encode(&journal, slot, &mut block).unwrap();
        assert_eq!(journal_header::decode(&block, slot), Ok(journal));
        assert!(journal_header::decode(&block, 1 - slot).is_err());
    }
    assert!(journal_header::encode(&journal, 2, &mut block).is_err());
    let none = [0; 16];
    for wrong in [
        JournalHeader { store_id: none, ..journal },
        JournalHeader { journal_id: none, ..journal },
        JournalHeader { ring_blocks: 0, ..journal },
        JournalHeader { ring_blocks: BLOCK_LIMIT, ..journal },
        JournalHeader { epoch: 0, ..journal },
    ] {
        assert!(journal_header::encode(&wrong, 0, &mut block).is_err(), "{wrong:?}");
    }
}

#[test]
fn bitmaps_round_trip() {
    let mut words = [0; bitmap::WORDS];
    words[0] = 5;
    words[495] = u64::MAX;
    let desc = GroupDesc { addr: 4, generation: 2, free: bitmap::free(&words) };
    assert_eq!(desc.free, 31_744 - 66);
    let mut block = vec![0xee; BLOCK];
    bitmap::encode(&words, 8, &desc, &ID, &mut block).unwrap();
    assert_eq!(*bitmap::decode(&block, &ID, 8, &desc).unwrap(), words);
    assert!(bitmap::decode(&block, &ID, 9, &desc).is_err());
    let other = GroupDesc { free: desc.free - 1, ..desc };
    assert!(bitmap::decode(&block, &ID, 8, &other).is_err());
    assert!(bitmap::encode(&words, 8, &other, &ID, &mut block).is_err());
}

fn head() -> GroupHead {
    GroupHead { number: 7, pos: 1000, blocks: 0, first_seq: 50, records: 0, confirmed: 6 }
}

#[test]
fn groups_round_trip_and_begin_where_they_say() {
    let map = Record::Map {
        file: 1000,
        start: 100_000,
        len: 1,
        size: 500_000_000,
        extents: smallvec![(100_000, extent(20_000_000, 1))],
    };
    let mut payload = Vec::new();
    encode_record(&mut payload, &map).unwrap();
    assert!(payload.len() < 32, "{} bytes", payload.len());
    let bytes = encode_group(GroupHead { records: 1, ..head() }, &payload, &ID).unwrap();
    let expect = GroupHead { records: 1, blocks: 1, ..head() };
    assert_eq!(decode_group_head(&bytes, &ID), Ok(expect));
    assert_eq!(decode_group(&bytes, &ID, 1000), Ok((expect, vec![map])));
    assert_eq!(
        decode_group(&bytes, &ID, 1001),
        Err(FormatError::WrongAddress { found: 1000, expected: 1001 })
    );
    let error = decode_group_head(&bytes, &[0xab; 16]).unwrap_err();
    assert_eq!(error, FormatError::WrongStore { found: ID });
    assert!(
        error
            .to_string()
            .ends_with("73697874 65656e20 62797465 20696421".replace(' ', "").as_str())
    );
}

/// Law B9: of an old group and a new one at the same place, with each aligned 8 bytes from
/// either, only those are groups that are one of the two. (Version 2 took the records of the
/// old one for those of the new one.)
#[test]
fn b9_a_group_that_is_torn_at_8_bytes_is_none() {
    let group = |number: u64, start, phys| {
        let map = Record::Map {
            file: 1,
            start,
            len: 1,
            size: 0,
            extents: smallvec![(start, extent(phys, 1))],
        };
        let mut payload = Vec::new();
        encode_record(&mut payload, &map).unwrap();
        let head = GroupHead {
            number,
            pos: number - 1,
            blocks: 0,
            first_seq: 2 * number,
            records: 1,
            confirmed: number - 1,
        };
        (encode_group(head, &payload, &ID).unwrap(), vec![map])
    };
    let ((old, was), (new, is)) = (group(70, 17, 218), group(198, 8, 388));
    let words: Vec<usize> =
        (0..BLOCK).step_by(8).filter(|at| old[*at..at + 8] != new[*at..at + 8]).collect();
    assert!((6..12).contains(&words.len()), "{words:?}");
    let mut whole = 0;
    for choice in 0..1 << words.len() {
        let mut torn = old.clone();
        for (_, at) in words.iter().enumerate().filter(|(i, _)| choice >> i & 1 == 1) {
            torn[*at..at + 8].copy_from_slice(&new[*at..at + 8]);
        }
        for (pos, records) in [(69, &was), (197, &is)] {
            let Ok((_, found)) = decode_group(&torn, &ID, pos) else { continue };
            assert_eq!(&found, records, "words {choice:b} of {words:?}");
            whole += 1;
        }
    }
    assert_eq!(whole, 2);
}

#[test]
fn a_group_takes_256_blocks_and_not_one_more() {
    let names = |n: usize| Record::Remove { name: vec![b'n'; n] };
    let mut payload = Vec::new();
    let mut records = 0;
    while payload.len() < GROUP_MAX_PAYLOAD - 600 {
        encode_record(&mut payload, &names(255)).unwrap();
        records += 1;
    }
    while payload.len() < GROUP_MAX_PAYLOAD {
        let rest = GROUP_MAX_PAYLOAD - payload.len();
        let len = if rest > 257 { 200 } else { rest - 2 };
        encode_record(&mut payload, &names(len)).unwrap();
        records += 1;
    }
    assert_eq!(payload.len(), GROUP_MAX_PAYLOAD);
    let head = GroupHead { records, ..head() };
    let bytes = encode_group(head, &payload, &ID).unwrap();
    assert_eq!(bytes.len(), 256 * BLOCK);
    let (found, list) = decode_group(&bytes, &ID, 1000).unwrap();
    assert_eq!((found.blocks, list.len()), (256, records as usize));
    payload.push(0);
    assert!(matches!(encode_group(head, &payload, &ID), Err(FormatError::TooLong(_))));
}

/// Law B9: a user's bytes that are a whole group, wherever they come to lie in a
/// group that carries them, are the head of none.
#[test]
fn b9_no_bytes_of_a_user_begin_a_block_of_the_journal() {
    let mut mark = Vec::new();
    encode_record(&mut mark, &Record::Mark { checkpoint: 1 }).unwrap();
    let forged = encode_group(GroupHead { records: 1, ..head() }, &mark, &ID).unwrap();
    assert!(decode_group_head(&forged, &ID).is_ok());
    let mut at_front = 0;
    for shift in 0..BLOCK {
        let mut block = vec![9; shift];
        block.extend_from_slice(&forged[..BLOCK - shift]);
        let data = Record::Data { file: 1, block: 0, bytes: [vec![9; 5], block].concat() };
        let Record::Data { bytes, .. } = &data else { unreachable!() };
        let bytes = bytes[..BLOCK].to_vec();
        let len = bytes.iter().rposition(|b| *b != 0).unwrap() + 1;
        let mut payload = Vec::new();
        let data = Record::Data { file: 1, block: 0, bytes: bytes[..len].to_vec() };
        encode_record(&mut payload, &data).unwrap();
        encode_record(&mut payload, &data).unwrap();
        let group = encode_group(GroupHead { records: 2, ..head() }, &payload, &ID).unwrap();
        for block in group.chunks_exact(BLOCK).skip(1) {
            assert!(decode_group_head(block, &ID).is_err(), "shifted by {shift}");
            // Without the mark it would have been one.
            at_front += usize::from(decode_group_head(&block[8..], &ID).is_ok());
        }
    }
    assert!(at_front > 0, "no forged head came to lie at the front of a block");
}
