//! Damage to blocks that were sound: every byte of every structure changed,
//! every truncation, every length made a lie under a right checksum.

use freehold_blockmap::format::entries::{
    CountRun, Counts, EntryCodec, Extents, Files, Names, Space,
};
use freehold_blockmap::format::header::NO_ID;
use freehold_blockmap::format::journal::{decode_group, decode_group_head, encode_group};
use freehold_blockmap::format::node::{decode, encode_inner, encode_leaf};
use freehold_blockmap::format::record::encode_record;
use freehold_blockmap::format::types::*;
use freehold_blockmap::format::{BLOCK, FormatError, VERSION, bitmap, journal_header, superblock};
use freehold_tests::fuzz::{ID, resum, resum_group};

type Check = Box<dyn Fn(&[u8]) -> Result<(), FormatError>>;

/// A sound structure, and who reads it.
struct Sample {
    name: &'static str,
    bytes: Vec<u8>,
    id: [u8; 16],
    read: Check,
}

const LEAF: NodeRef = NodeRef { addr: 77, generation: 9, level: 0 };
const INNER: NodeRef = NodeRef { addr: 77, generation: 9, level: 1 };
const DESC: GroupDesc = GroupDesc { addr: 77, generation: 9, free: 31_744 - 64 };

fn extent(phys: Addr, len: u32) -> Extent {
    Extent { phys, len, unwritten: len == 1, own: len != 1 }
}

fn leaf<C: EntryCodec + 'static>(name: &'static str, key: C::Key, val: C::Val) -> Sample {
    let mut bytes = vec![0; BLOCK];
    let stamp = if C::STAMPED { 5 } else { 0 };
    encode_leaf::<C>([(&key, &val)], stamp, LEAF, &ID, &mut bytes).unwrap();
    Sample { name, bytes, id: ID, read: Box::new(|b| decode::<C>(b, &ID, LEAF).map(drop)) }
}

fn inner<C: EntryCodec + 'static>(name: &'static str, keys: [C::Key; 2]) -> Sample {
    let mut bytes = vec![0; BLOCK];
    let child = |i: u64| NodeRef { addr: 100 + i, generation: 3, level: 0 };
    let children = [(&keys[0], child(0)), (&keys[1], child(1))];
    encode_inner::<C>(children, INNER, &ID, &mut bytes).unwrap();
    Sample { name, bytes, id: ID, read: Box::new(|b| decode::<C>(b, &ID, INNER).map(drop)) }
}

fn superblock() -> Sample {
    let sb = Superblock {
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
        names: LEAF,
        files: INNER,
        counts: NodeRef::default(),
        space: LEAF,
        share_gen: 4,
        next_file: 99,
        free: 1000,
        apart: None,
    };
    let mut bytes = vec![0; BLOCK];
    superblock::encode(&sb, 1, &mut bytes).unwrap();
    let read = Box::new(|b: &[u8]| superblock::decode(b, 1).map(drop));
    Sample { name: "superblock", bytes, id: NO_ID, read }
}

fn apart(sample: Sample) -> Sample {
    let mut sb = superblock::decode(&sample.bytes, 1).unwrap();
    sb.refuse_features = superblock::JOURNAL_APART;
    sb.apart = Some(ApartJournal { id: [7; 16], blocks: 4096 });
    let mut bytes = sample.bytes;
    superblock::encode(&sb, 1, &mut bytes).unwrap();
    Sample { name: "superblock, journal apart", bytes, ..sample }
}

fn journal_header() -> Sample {
    let journal = JournalHeader { store_id: ID, journal_id: [7; 16], ring_blocks: 4096, epoch: 12 };
    let mut bytes = vec![0; BLOCK];
    journal_header::encode(&journal, 1, &mut bytes).unwrap();
    let read = Box::new(|b: &[u8]| journal_header::decode(b, 1).map(drop));
    Sample { name: "journal header", bytes, id: NO_ID, read }
}

fn bitmap() -> Sample {
    let mut words = [0; bitmap::WORDS];
    words[3] = u64::MAX;
    let mut bytes = vec![0; BLOCK];
    bitmap::encode(&words, 8, &DESC, &ID, &mut bytes).unwrap();
    let read = Box::new(|b: &[u8]| bitmap::decode(b, &ID, 8, &DESC).map(drop));
    Sample { name: "bitmap", bytes, id: ID, read }
}

fn group() -> Sample {
    let mut payload = Vec::new();
    let mut records = 0;
    while payload.len() < 5000 {
        let name = vec![b'n'; 1 + payload.len() % 255];
        encode_record(&mut payload, &Record::Create { file: 1 << 40, name }).unwrap();
        records += 1;
    }
    let head = GroupHead { number: 7, pos: 5, blocks: 2, first_seq: 50, records, confirmed: 6 };
    let bytes = encode_group(head, &payload, &ID).unwrap();
    assert_eq!(bytes.len(), 2 * BLOCK);
    let read = Box::new(|b: &[u8]| decode_group(b, &ID, 5).map(drop));
    Sample { name: "group", bytes, id: NO_ID, read }
}

fn samples() -> Vec<Sample> {
    let name = |n: &[u8]| -> Box<[u8]> { n.into() };
    let inline = FileMap::Inline { stamp: 6, extents: vec![(0, extent(5, 2)), (2, extent(9, 1))] };
    let desc = GroupDesc { addr: 9, generation: 1, free: 8 };
    vec![
        superblock(),
        apart(superblock()),
        journal_header(),
        bitmap(),
        group(),
        leaf::<Extents>("leaf of extents", 3, extent(4, 2)),
        leaf::<Names>("leaf of names", name(b"a name"), 12),
        leaf::<Files>("leaf of files", 7, FileRecord { map: inline, ..Default::default() }),
        leaf::<Counts>("leaf of counts", 9, CountRun { len: 1, count: 2 }),
        leaf::<Space>("leaf of space groups", 3, desc),
        inner::<Extents>("inner node of extents", [0, 100]),
        inner::<Names>("inner node of names", [name(b"a"), name(b"b")]),
        inner::<Files>("inner node of files", [1, 1 << 63 | 5]),
        inner::<Counts>("inner node of counts", [2, 3]),
        inner::<Space>("inner node of space groups", [0, 4]),
    ]
}

#[test]
fn every_change_of_one_byte_is_detected() {
    for Sample { name, mut bytes, read, .. } in samples() {
        read(&bytes).unwrap();
        for at in 0..bytes.len() {
            let bits = (0..8).map(|bit| 1 << bit);
            for pattern in bits.chain([0xff, 0x55, 0xaa, 0x0f, 0xf0]) {
                bytes[at] ^= pattern;
                assert!(read(&bytes).is_err(), "{name}: byte {at} xor {pattern:#x} was accepted");
                bytes[at] ^= pattern;
            }
        }
        read(&bytes).unwrap();
    }
}

#[test]
fn a_block_torn_at_any_512_bytes_is_detected() {
    for Sample { name, bytes, read, .. } in samples() {
        for sectors in 1..(1u32 << 8) - 1 {
            for old in [0, 0xff] {
                let mut torn = bytes.clone();
                for sector in (0..8).filter(|s| sectors & 1 << s != 0) {
                    torn[sector * 512..][..512].fill(old);
                }
                assert!(torn == bytes || read(&torn).is_err(), "{name}: sectors {sectors:#b}");
            }
        }
    }
}

#[test]
fn every_truncation_and_every_longer_block_is_refused() {
    for Sample { name, bytes, read, .. } in samples() {
        for cut in 0..bytes.len() {
            assert!(read(&bytes[..cut]).is_err(), "{name}: {cut} bytes were accepted");
        }
        let longer = [&bytes[..], &[0; BLOCK]].concat();
        // What follows a group is the next group.
        assert_eq!(read(&longer).is_err(), name != "group", "{name}");
    }
}

#[test]
fn lengths_that_lie_are_refused_under_a_right_checksum() {
    for Sample { name, bytes, id, read } in samples() {
        for (field, at) in [("entries", 40), ("payload_bytes", 44)] {
            let truth = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            let lies = [0, 1, 2, 4031, 4032, 4033, 4096, 1 << 20, 1 << 31, u32::MAX];
            let near = [truth.wrapping_sub(1), truth + 1];
            for lie in lies.into_iter().chain(near).filter(|lie| *lie != truth) {
                let mut block = bytes.clone();
                block[at..at + 4].copy_from_slice(&lie.to_le_bytes());
                match name {
                    "group" => resum_group(&mut block),
                    _ => resum(&mut block, &id),
                }
                let accepted = read(&block).is_ok();
                // Whoever ignores a feature reads on past the fields that it appended.
                let longer =
                    name.starts_with("superblock") && field == "payload_bytes" && lie > truth;
                assert_eq!(accepted, longer && lie <= 4032, "{name}: {field} {lie}");
            }
        }
    }
}

#[test]
fn other_kinds_versions_and_reserved_bytes_are_refused_under_a_right_checksum() {
    for Sample { name, bytes, id, read } in samples().into_iter().filter(|s| s.name != "group") {
        let altered = |at: usize, value: u8| {
            let mut block = bytes.clone();
            block[at] = value;
            resum(&mut block, &id);
            read(&block).unwrap_err()
        };
        let newer = VERSION + 1;
        let error = altered(8, newer as u8);
        assert!(matches!(error, FormatError::TooNew { version, .. } if version == newer), "{name}");
        assert!(matches!(altered(8, 0), FormatError::Malformed(_)), "{name}");
        for kind in (0..=255).filter(|kind| *kind != bytes[48]) {
            let error = altered(48, kind);
            assert!(
                matches!(error, FormatError::WrongKind { found, .. } if found == kind),
                "{name}"
            );
        }
        for at in (50..64).chain([BLOCK - 1]) {
            assert!(matches!(altered(at, 1), FormatError::Malformed(_)), "{name}: byte {at}");
        }
    }
}

#[test]
fn the_head_of_a_group_is_checked_before_its_length_is_believed() {
    let bytes = group().bytes;
    for at in (0..104).filter(|at| !(12..16).contains(at)) {
        let mut block = bytes[..BLOCK].to_vec();
        block[at] ^= 1;
        // Even if the group's own checksum were right.
        resum_group(&mut block);
        assert!(decode_group_head(&block, &ID).is_err(), "byte {at}");
    }
}
