//! Holds docs/format.md against the code: tables of fields, rulers,
//! constants, kinds, records and byte vectors. Prints what the document
//! should say where it says something else.

#[path = "format_doc/parse.rs"]
mod parse;
#[path = "format_doc/samples.rs"]
mod samples;

use freehold_blockmap::format::codec::Reader;
use freehold_blockmap::format::entries::{self, Extents};
use freehold_blockmap::format::layout::Layout;
use freehold_blockmap::format::node::{self, Body, decode};
use freehold_blockmap::format::record::{RECORDS, decode_record, encode_record};
use freehold_blockmap::format::types::{GROUP_BLOCKS, INLINE_EXTENTS, Kind, NAME_MAX};
use freehold_blockmap::format::{
    self, bitmap, file_record, header, journal, journal_header, superblock,
};
use std::collections::BTreeMap;

/// Every table of fields that the code has, by its name in the document.
const LAYOUTS: &[(&str, Layout)] = &[
    ("header", header::LAYOUT),
    ("superblock", superblock::LAYOUT),
    ("superblock, journal apart", superblock::APART_LAYOUT),
    ("superblock, guard", superblock::GUARD_LAYOUT),
    ("root", superblock::ROOT_LAYOUT),
    ("child", node::CHILD_LAYOUT),
    ("shift", node::SHIFT_LAYOUT),
    ("extent", entries::EXTENT_LAYOUT),
    ("name", entries::NAME_LAYOUT),
    ("file", file_record::LAYOUT),
    ("file, inline map", file_record::INLINE_LAYOUT),
    ("file, tree", file_record::TREE_LAYOUT),
    ("count", entries::COUNT_LAYOUT),
    ("space group", entries::SPACE_LAYOUT),
    ("bitmap", bitmap::LAYOUT),
    ("group", journal::LAYOUT),
    ("journal header", journal_header::LAYOUT),
];

fn owned(layout: Layout) -> Vec<(String, usize, usize)> {
    layout.iter().map(|(name, at, size)| (name.to_string(), *at, *size)).collect()
}

#[test]
fn tables_of_fields_are_those_of_the_code() {
    let tables: BTreeMap<_, _> = parse::marked(&parse::document(), "layout").into_iter().collect();
    let names: Vec<&str> = LAYOUTS.iter().map(|(name, _)| *name).collect();
    for (name, layout) in LAYOUTS {
        let table = tables.get(*name).unwrap_or_else(|| panic!("no table of {name}"));
        assert_eq!(parse::fields(table), owned(layout), "{name}");
    }
    for name in tables.keys() {
        assert!(names.contains(&name.as_str()), "a table of {name}, which the code does not have");
    }
}

#[test]
fn no_table_of_the_code_is_left_out() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../blockmap/src/format");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        count +=
            text.lines().filter(|l| l.starts_with("pub const") && l.contains(": Layout")).count();
    }
    assert_eq!(count, LAYOUTS.len(), "LAYOUTS of this test is not all that the code has");
}

#[test]
fn rulers_are_drawn_true() {
    let rulers = parse::marked(&parse::document(), "ruler");
    for wanted in ["header", "root", "extent", "file", "count", "space group", "group"] {
        assert!(rulers.iter().any(|(name, _)| name == wanted), "no ruler of {wanted}");
    }
    for (name, lines) in rulers {
        let layout = LAYOUTS.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("{name}?"));
        assert_eq!(parse::ruler(&lines), owned(layout.1), "{name}");
    }
}

#[test]
fn constants_are_those_of_the_code() {
    let code: &[(&str, u64)] = &[
        ("BLOCK", format::BLOCK as u64),
        ("VERSION", format::VERSION.into()),
        ("HEADER", header::HEADER as u64),
        ("PAYLOAD", header::PAYLOAD as u64),
        ("BLOCK_LIMIT", format::BLOCK_LIMIT),
        ("FIRST_BLOCK", format::FIRST_BLOCK),
        ("FILE_LIMIT", format::FILE_LIMIT),
        ("MAX_LEVEL", format::MAX_LEVEL.into()),
        ("NAME_MAX", NAME_MAX as u64),
        ("INLINE_EXTENTS", INLINE_EXTENTS as u64),
        ("GROUP_BLOCKS", GROUP_BLOCKS),
        ("GROUP_MAX_BLOCKS", journal::GROUP_MAX_BLOCKS.into()),
        ("EXTENT_UNWRITTEN", entries::EXTENT_UNWRITTEN.into()),
        ("EXTENT_OWN", entries::EXTENT_OWN.into()),
        ("SHAPE_INLINE", file_record::SHAPE_INLINE.into()),
        ("SHAPE_TREE", file_record::SHAPE_TREE.into()),
        ("JOURNAL_APART", superblock::JOURNAL_APART),
        ("GUARD", superblock::GUARD),
        ("KNOWN_REFUSE", superblock::KNOWN_REFUSE),
        ("KNOWN_READONLY", superblock::KNOWN_READONLY),
        ("KNOWN_IGNORE", superblock::KNOWN_IGNORE),
    ];
    let tables = parse::marked(&parse::document(), "constants");
    let mut said = Vec::new();
    for row in tables.iter().flat_map(|(_, table)| parse::rows(table)) {
        let digits: String = row[1].chars().filter(|c| *c != ',').collect();
        let value = match digits.split_once('^') {
            Some((base, power)) => base.parse::<u64>().unwrap().pow(power.parse::<u32>().unwrap()),
            None => digits.parse().unwrap_or_else(|_| panic!("{row:?}: no number")),
        };
        said.push((row[0].clone(), value));
    }
    let code: Vec<_> = code.iter().map(|(name, value)| (name.to_string(), *value)).collect();
    assert_eq!(said, code);
}

#[test]
fn kinds_are_those_of_the_code() {
    let code = [
        Kind::Super,
        Kind::Group,
        Kind::Extents,
        Kind::Names,
        Kind::Files,
        Kind::Counts,
        Kind::Space,
        Kind::Bitmap,
        Kind::Journal,
    ];
    let code: Vec<_> = code.iter().map(|k| (format!("{}", *k as u8), format!("{k:?}"))).collect();
    let tables = parse::marked(&parse::document(), "kinds");
    let rows = tables.iter().flat_map(|(_, table)| parse::rows(table));
    let said: Vec<_> = rows.map(|row| (row[0].clone(), row[1].clone())).collect();
    assert_eq!(said, code);
}

#[test]
fn records_have_the_tags_fields_and_bytes_of_the_code() {
    let tables = parse::marked(&parse::document(), "records");
    let rows: Vec<_> = tables.iter().flat_map(|(_, table)| parse::rows(table)).collect();
    let said: Vec<_> =
        rows.iter().map(|row| (row[1].clone(), row[0].clone(), row[2].clone())).collect();
    let code: Vec<_> = RECORDS
        .iter()
        .map(|(name, tag, fields)| (name.to_string(), tag.to_string(), fields.join(", ")))
        .collect();
    assert_eq!(said, code);

    let examples = parse::marked(&parse::document(), "examples");
    let examples: Vec<_> = examples.iter().flat_map(|(_, table)| parse::rows(table)).collect();
    let samples = samples::records();
    assert_eq!(samples.len(), RECORDS.len(), "one sample of each record");
    let mut wanted = String::new();
    for ((name, record, words), (known, tag, _)) in samples.iter().zip(RECORDS) {
        assert_eq!(name, known);
        let mut bytes = Vec::new();
        encode_record(&mut bytes, record).unwrap();
        let found = examples.iter().find(|e| e[0] == *name);
        if found.is_none_or(|e| e[1] != *words || parse::hex(&e[2]) != bytes) {
            let hex: Vec<_> = bytes.iter().map(|b| format!("{b:02x}")).collect();
            wanted += &format!("| {name} | {words} | `{}` |\n", hex.join(" "));
        }
        assert_eq!(bytes[0], *tag);
        assert_eq!(decode_record(&mut Reader::new(&bytes)).as_ref(), Ok(record));
    }
    assert!(wanted.is_empty(), "the examples must be\n{wanted}");
    assert_eq!(examples.len(), samples.len(), "an example that is not tested");
}

#[test]
fn vectors_are_what_the_code_writes_and_reads() {
    let said: BTreeMap<_, _> = parse::marked(&parse::document(), "vector").into_iter().collect();
    let vectors = samples::vectors();
    assert_eq!(said.len(), vectors.len());
    let mut wanted = String::new();
    for (name, bytes) in vectors {
        if said.get(name).is_none_or(|lines| parse::vector(lines) != bytes) {
            wanted += &format!("{name}:\n{}", parse::dump(&bytes));
        }
    }
    assert!(wanted.is_empty(), "the vectors must be\n{wanted}");
    let read = |name: &str| parse::vector(&said[name]);
    assert_eq!(superblock::decode(&read("superblock"), 1), Ok(samples::superblock()));
    let apart = superblock::decode(&read("superblock, journal apart"), 1);
    assert_eq!(apart, Ok(samples::apart()));
    let journal = journal_header::decode(&read("journal header"), 1);
    assert_eq!(journal, Ok(samples::journal()));
    let (at, stamp, entries) = samples::leaf();
    let node = decode::<Extents>(&read("leaf of extents"), &samples::ID, at).unwrap();
    assert_eq!((node.stamp, node.body), (stamp, Body::Leaf(entries.to_vec())));
    let group = journal::decode_group(&read("group"), &samples::ID, 96);
    assert_eq!(group, Ok(samples::group()));
}
