//! Every structure of the format against random values, damage, truncation
//! and lies. A failure prints what runs it again; more seeds:
//! `FREEHOLD_SEEDS=0..1000 cargo test -p freehold-tests --test format_fuzz`

#[path = "format_fuzz/damage.rs"]
mod damage;
#[path = "format_fuzz/values.rs"]
mod values;

use freehold_blockmap::format::entries::{Counts, EntryCodec, Extents, Files, Names, Space};
use freehold_blockmap::format::header::HEADER;
use freehold_blockmap::format::journal::{
    RECORDS_AT, decode_group, decode_group_head, encode_group,
};
use freehold_blockmap::format::node::{self, Body, DecodedNode, decode, encode_inner, encode_leaf};
use freehold_blockmap::format::record::{decode_record, encode_record};
use freehold_blockmap::format::types::{Child, GroupDesc, GroupHead, NodeRef, Record};
use freehold_blockmap::format::{
    BLOCK, FormatError, bitmap, codec::Reader, journal_header, superblock,
};
use freehold_tests::fuzz::{self, ID};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::fmt::Debug;
use std::ops::Range;

/// The node that the tests write.
const AT: NodeRef = NodeRef { addr: 1 << 41, generation: 1000, level: 0 };

/// Seeds of a run: `FREEHOLD_SEEDS=FROM..TO`, or the first two.
fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("FREEHOLD_SEEDS") else { return 0..2 };
    let range = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    range.unwrap_or_else(|| panic!("FREEHOLD_SEEDS must be FROM..TO, not {text:?}"))
}

fn rng(seed: u64) -> TestRng {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

/// Runs `test` on `cases` values of each seed.
fn each<S: Strategy>(cases: u32, values: S, test: impl Fn(S::Value) -> Result<(), TestCaseError>)
where
    S::Value: Debug,
{
    for seed in seeds() {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let outcome = TestRunner::new_with_rng(config, rng(seed)).run(&values, &test);
        if let Err(error) = outcome {
            panic!(
                "{error}\nagain: FREEHOLD_SEEDS={seed}..{} cargo test -p freehold-tests \
                 --test format_fuzz {}",
                seed + 1,
                std::thread::current().name().unwrap_or_default(),
            );
        }
    }
}

fn leaf<C: EntryCodec + Debug + PartialEq>(
    entries: Vec<(C::Key, C::Val)>,
    stamp: u64,
) -> Result<(), TestCaseError> {
    let pairs = || entries.iter().map(|(k, v)| (k, v));
    let mut block = vec![0xee; BLOCK];
    let written = encode_leaf::<C>(pairs(), stamp, AT, &ID, &mut block);
    let fits = node::fits(node::leaf_len::<C>(pairs()));
    prop_assert_eq!(written.is_ok(), fits, "{:?}", written);
    if fits {
        let read: DecodedNode<C> = decode(&block, &ID, AT).unwrap();
        prop_assert_eq!(read, DecodedNode { level: 0, stamp, body: Body::Leaf(entries) });
    }
    Ok(())
}

#[test]
fn leaves_of_every_tree_round_trip() {
    each(200, (values::extents(180), any::<u64>()), |(list, stamp)| leaf::<Extents>(list, stamp));
    each(200, values::names(), |list| leaf::<Names>(list, 0));
    each(200, values::files(), |list| leaf::<Files>(list, 0));
    each(200, values::counts(), |list| leaf::<Counts>(list, 0));
    each(200, values::space(), |list| leaf::<Space>(list, 0));
}

#[test]
fn inner_nodes_round_trip() {
    let names = proptest::collection::btree_map(values::name(), values::node_ref(0), 1..30);
    each(300, (names, 1..=12u8), |(names, level)| {
        let child = |c| NodeRef { level: level - 1, ..c }.into();
        let children: Vec<(Box<[u8]>, Child)> =
            names.into_iter().map(|(k, c)| (k.into(), child(c))).collect();
        let at = NodeRef { level, ..AT };
        let mut block = vec![0xee; BLOCK];
        let list = children.iter().map(|(k, c)| (k, *c));
        let written = encode_inner::<Names>(list, at, &ID, &mut block);
        let fits = node::fits(node::inner_len::<Names>(children.iter().map(|(k, _)| k)));
        prop_assert_eq!(written.is_ok(), fits);
        if fits {
            let read: DecodedNode<Names> = decode(&block, &ID, at).unwrap();
            prop_assert_eq!(read, DecodedNode { level, stamp: 0, body: Body::Inner(children) });
        }
        Ok(())
    });
}

#[test]
fn superblocks_headers_and_bitmaps_round_trip() {
    each(500, (values::superblock(), 0..2u64), |(sb, slot)| {
        let mut block = vec![0xee; BLOCK];
        superblock::encode(&sb, slot, &mut block).unwrap();
        prop_assert_eq!(superblock::decode(&block, slot), Ok(sb));
        Ok(())
    });
    each(500, (values::journal_header(), 0..2u64), |(journal, slot)| {
        let mut block = vec![0xee; BLOCK];
        journal_header::encode(&journal, slot, &mut block).unwrap();
        prop_assert_eq!(journal_header::decode(&block, slot), Ok(journal));
        Ok(())
    });
    each(100, (values::bitmap(), 0..1000u64), |(words, group)| {
        let desc = GroupDesc { addr: 5, generation: 6, free: bitmap::free(&words) };
        let mut block = vec![0xee; BLOCK];
        bitmap::encode(&words, group, &desc, &ID, &mut block).unwrap();
        prop_assert_eq!(*bitmap::decode(&block, &ID, group, &desc).unwrap(), words);
        Ok(())
    });
}

#[test]
fn records_round_trip_and_no_shorter_piece_is_a_record() {
    each(2000, values::record(), |record| {
        let mut bytes = Vec::new();
        encode_record(&mut bytes, &record).unwrap();
        let mut r = Reader::new(&bytes);
        prop_assert_eq!(decode_record(&mut r), Ok(record));
        prop_assert_eq!(r.remaining(), 0);
        for cut in 0..bytes.len() {
            let error = decode_record(&mut Reader::new(&bytes[..cut])).unwrap_err();
            prop_assert!(matches!(error, FormatError::Short(_)), "{} {:?}", cut, error);
        }
        Ok(())
    });
}

#[test]
fn groups_round_trip_and_refuse_every_truncation() {
    let records = proptest::collection::vec(values::record(), 0..300);
    let head = (1..=u64::MAX, 0..1u64 << 60, 1..1u64 << 60, any::<u64>());
    each(40, (records, head), |(list, (number, pos, first_seq, confirmed))| {
        let mut payload = Vec::new();
        list.iter().for_each(|record: &Record| encode_record(&mut payload, record).unwrap());
        let (records, confirmed) = (list.len() as u32, confirmed % number);
        let head = GroupHead { number, pos, blocks: 0, first_seq, records, confirmed };
        let bytes = encode_group(head, &payload, &ID).unwrap();
        let head = GroupHead { blocks: (bytes.len() / BLOCK) as u32, ..head };
        prop_assert_eq!(bytes.len() % BLOCK, 0);
        prop_assert_eq!(decode_group_head(&bytes[..BLOCK], &ID), Ok(head));
        prop_assert_eq!(decode_group(&bytes, &ID, pos), Ok((head, list)));
        for cut in 0..bytes.len() {
            let error = decode_group(&bytes[..cut], &ID, pos).unwrap_err();
            prop_assert!(matches!(error, FormatError::Short(_)), "{} {:?}", cut, error);
            let head_is_there = decode_group_head(&bytes[..cut], &ID).is_ok();
            prop_assert_eq!(head_is_there, cut >= RECORDS_AT);
        }
        Ok(())
    });
}

#[test]
fn any_bytes_end_in_an_error_or_a_value_with_one_encoding() {
    let lengths = prop_oneof![3 => 0..200usize, 1 => 3900..4200usize, 1 => 0..10_000usize];
    // Bytes that look like small numbers and lengths get further than uniform ones.
    let byte = prop_oneof![2 => 0..20u8, 1 => any::<u8>(), 2 => Just(0)];
    let data = lengths.prop_flat_map(move |len| proptest::collection::vec(byte.clone(), len));
    each(3000, data, |data| {
        fuzz::ALL.iter().for_each(|(_, function)| function(&data));
        Ok(())
    });
}

/// A node's payload with a few bytes changed, as `fuzz_node` wants it.
fn changed_leaf<C: EntryCodec>(tree: u8, entries: &[(C::Key, C::Val)], changes: &[(u16, u8)]) {
    let pairs = || entries.iter().map(|(k, v)| (k, v));
    let len = node::leaf_len::<C>(pairs());
    let mut block = vec![0; BLOCK];
    if entries.is_empty() || encode_leaf::<C>(pairs(), 0, AT, &ID, &mut block).is_err() {
        return;
    }
    let mut data = vec![tree, 0, 0, entries.len() as u8];
    data.extend_from_slice(&block[HEADER..][..len]);
    fuzz::fuzz_node(&data);
    for (at, bits) in changes {
        let at = 4 + usize::from(*at) % len;
        data[at] ^= bits;
        fuzz::fuzz_node(&data);
    }
}

#[test]
fn leaves_with_a_few_bytes_changed_do_not_confuse_the_decoder() {
    let changes = || proptest::collection::vec((any::<u16>(), any::<u8>()), 1..6);
    each(300, (values::extents(12), values::names(), values::files(), changes()), |t| {
        changed_leaf::<Extents>(0, &t.0, &t.3);
        changed_leaf::<Names>(1, &t.1, &t.3);
        changed_leaf::<Files>(2, &t.2, &t.3);
        Ok(())
    });
    each(300, (values::counts(), values::space(), changes()), |t| {
        changed_leaf::<Counts>(3, &t.0, &t.2);
        changed_leaf::<Space>(4, &t.1, &t.2);
        Ok(())
    });
    each(1000, (values::superblock(), changes()), |(sb, changes)| {
        let mut block = vec![0; BLOCK];
        superblock::encode(&sb, 0, &mut block).unwrap();
        // Slot 0, refused features cleared or kept, the checkpoint; then the fields.
        let mut data = vec![0, 0, sb.apart.is_some().into(), 0];
        data.extend_from_slice(&sb.checkpoint.to_le_bytes());
        data.extend_from_slice(&block[64..296]);
        fuzz::fuzz_superblock(&data);
        for (at, bits) in changes {
            let at = 12 + usize::from(at) % 232;
            data[at] ^= bits;
            fuzz::fuzz_superblock(&data);
        }
        Ok(())
    });
    each(1000, (values::journal_header(), changes()), |(journal, changes)| {
        let mut block = vec![0; BLOCK];
        journal_header::encode(&journal, 0, &mut block).unwrap();
        let mut data = vec![0; 4];
        data.extend_from_slice(&journal.epoch.to_le_bytes());
        data.extend_from_slice(&block[64..104]);
        fuzz::fuzz_journal_header(&data);
        for (at, bits) in changes {
            let at = 12 + usize::from(at) % 40;
            data[at] ^= bits;
            fuzz::fuzz_journal_header(&data);
        }
        Ok(())
    });
}

#[test]
fn records_with_a_few_bytes_changed_do_not_confuse_the_decoder() {
    let records = proptest::collection::vec(values::record(), 1..6);
    let changes = proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4);
    each(3000, (records, changes), |(records, changes)| {
        let mut bytes = vec![0, 1, records.len() as u8, 0];
        records.iter().for_each(|record| encode_record(&mut bytes, record).unwrap());
        fuzz::fuzz_group(&bytes);
        for (at, value) in changes {
            let at = 4 + usize::from(at) % (bytes.len() - 4);
            bytes[at] = value;
        }
        fuzz::fuzz_record(&bytes[4..]);
        fuzz::fuzz_group(&bytes);
        Ok(())
    });
}
