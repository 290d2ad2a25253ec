//! The examples that the format document prints.

use freehold_blockmap::format::entries::Extents;
use freehold_blockmap::format::journal::encode_group;
use freehold_blockmap::format::node::encode_leaf;
use freehold_blockmap::format::record::encode_record;
use freehold_blockmap::format::types::*;
use freehold_blockmap::format::{BLOCK, journal_header, superblock};

/// The store of the examples: 00 01 02 up to 0f.
pub(crate) const ID: [u8; 16] = 0x0f0e0d0c_0b0a0908_07060504_03020100u128.to_le_bytes();

/// The checkpoint in the example of a superblock.
pub(crate) fn superblock() -> Superblock {
    Superblock {
        refuse_features: 0,
        readonly_features: 0,
        ignore_features: 0,
        store_id: ID,
        blocks: 262_144,
        journal_start: 2,
        journal_blocks: 2048,
        checkpoint: 7,
        cut_seq: 300,
        cut_group: 41,
        cut_pos: 95,
        names: NodeRef { addr: 2060, generation: 5, level: 0 },
        files: NodeRef { addr: 2061, generation: 7, level: 1 },
        counts: NodeRef::default(),
        space: NodeRef { addr: 2050, generation: 7, level: 0 },
        share_gen: 3,
        next_file: 18,
        free: 260_000,
        apart: None,
    }
}

/// The same checkpoint with the journal on a medium of its own.
pub(crate) fn apart() -> Superblock {
    let apart = ApartJournal { id: [0xa5; 16], blocks: 4096 };
    Superblock { refuse_features: superblock::JOURNAL_APART, apart: Some(apart), ..superblock() }
}

/// The header of that journal.
pub(crate) fn journal() -> JournalHeader {
    JournalHeader { store_id: ID, journal_id: [0xa5; 16], ring_blocks: 4096, epoch: 7 }
}

/// Where the example of a leaf lies, its stamp and its entries.
pub(crate) fn leaf() -> (NodeRef, u64, [(u64, Extent); 2]) {
    let written = Extent { phys: 4096, len: 256, unwritten: false, own: true };
    let allocated = Extent { phys: 9000, len: 16, unwritten: true, own: false };
    (NodeRef { addr: 2070, generation: 6, level: 0 }, 3, [(0, written), (512, allocated)])
}

/// The example of a group.
pub(crate) fn group() -> (GroupHead, Vec<Record>) {
    let head =
        GroupHead { number: 42, pos: 96, blocks: 1, first_seq: 301, records: 2, confirmed: 40 };
    let records = records().into_iter().map(|(_, record, _)| record);
    let picked = records.filter(|r| matches!(r, Record::Create { .. } | Record::Map { .. }));
    (head, picked.collect())
}

/// The vectors by name.
pub(crate) fn vectors() -> Vec<(&'static str, Vec<u8>)> {
    let mut first = vec![0; BLOCK];
    superblock::encode(&superblock(), 1, &mut first).unwrap();
    let mut apart_block = vec![0; BLOCK];
    superblock::encode(&apart(), 1, &mut apart_block).unwrap();
    let mut header = vec![0; BLOCK];
    journal_header::encode(&journal(), 1, &mut header).unwrap();
    let (at, stamp, entries) = leaf();
    let mut node = vec![0; BLOCK];
    let pairs = entries.iter().map(|(k, v)| (k, v));
    encode_leaf::<Extents>(pairs, stamp, at, &ID, &mut node).unwrap();
    let (head, records) = group();
    let mut payload = Vec::new();
    records.iter().for_each(|record| encode_record(&mut payload, record).unwrap());
    let group = encode_group(head, &payload, &ID).unwrap();
    vec![
        ("superblock", first),
        ("superblock, journal apart", apart_block),
        ("leaf of extents", node),
        ("group", group),
        ("journal header", header),
    ]
}

/// One record of each sort, with the example's words.
pub(crate) fn records() -> Vec<(&'static str, Record, &'static str)> {
    let name = |text: &str| text.as_bytes().to_vec();
    let extent = |phys, len, unwritten| Extent { phys, len, unwritten, own: true };
    let extents = vec![(300, extent(9000, 2, false)), (303, extent(70_000, 1, true))];
    vec![
        ("Mark", Record::Mark { checkpoint: 7 }, "7"),
        ("Create", Record::Create { file: 17, name: name("wal") }, "17, \"wal\""),
        ("Remove", Record::Remove { name: name("wal") }, "\"wal\""),
        ("Rename", Record::Rename { from: name("a"), to: name("bc") }, "\"a\", \"bc\""),
        (
            "Map",
            Record::Map { file: 17, start: 300, len: 4, size: 1_245_184, extents: extents.into() },
            "17, 300, 4, 1245184, 2 extents: 300 to 9000 for 2, 303 to 70000 for 1 unwritten",
        ),
        ("Convert", Record::Convert { file: 17, start: 303, len: 1, size: 0 }, "17, 303, 1, 0"),
        ("Grow", Record::Grow { file: 17, size: 4096 }, "17, 4096"),
        ("Truncate", Record::Truncate { file: 17, size: 100, tail: 19 }, "17, 100, 19"),
        ("Punch", Record::Punch { file: 17, start: 1, len: 2, tail: 0 }, "17, 1, 2, 0"),
        (
            "Reflink",
            Record::Reflink { from: 17, to: 20, name: name("copy"), share_gen: 4 },
            "17, 20, \"copy\", 4",
        ),
        (
            "ReflinkRange",
            Record::ReflinkRange {
                from: 17,
                from_start: 0,
                to: 20,
                to_start: 128,
                len: 64,
                size: 786_432,
                share_gen: 5,
                tail: 0,
            },
            "17, 0, 20, 128, 64, 786432, 5, 0",
        ),
        ("Slice", Record::Slice { file: 19, cursor: 0 }, "19, 0"),
        ("Zero", Record::Zero { file: 17, start: 300, len: 2 }, "17, 300, 2"),
        (
            "Atomic",
            atomic(),
            "17, 0, 2 parts: 1 for 1: 1 to 9000 for 1; 300 for 2: 300 to 9001 for 2",
        ),
        ("Collapse", Record::Collapse { file: 17, start: 1, len: 2, tail: 0 }, "17, 1, 2, 0"),
        ("Insert", Record::Insert { file: 17, start: 300, len: 8 }, "17, 300, 8"),
        (
            "Data",
            Record::Data { file: 17, block: 300, bytes: b"log".to_vec() },
            "17, 300, \"log\" and 4,093 zeroes",
        ),
    ]
}

fn atomic() -> Record {
    let part = |start, len: u32, phys| {
        let extent = Extent { phys, len, unwritten: false, own: true };
        MapPart { start, len: len.into(), extents: vec![(start, extent)] }
    };
    Record::Atomic { file: 17, size: 0, parts: vec![part(1, 1, 9000), part(300, 2, 9001)] }
}
