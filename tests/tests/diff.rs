//! Where two files differ: against their bytes, and at what cost.

use freehold::{File, OpenOptions, Store};
use freehold_engine::medium::Medium;
use freehold_engine::mem::MemMedium;
use freehold_tests::random::Random;
use std::sync::Arc;

const B: u64 = 4096;

fn bytes(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.size() as usize];
    file.read_at(&mut bytes, 0).expect("it reads");
    bytes
}

/// What is told covers all that differs, ascends, is joined, and lies in the files.
fn holds(a: &File, b: &File) -> u64 {
    let ranges = a.diff(b).expect("it is sound");
    assert_eq!(b.diff(a).expect("it is sound"), ranges, "it depends on who asks");
    let (x, y) = (bytes(a), bytes(b));
    let mut at = 0;
    for r in &ranges {
        assert!(r.len > 0 && (r.offset > at || at == 0), "{ranges:?}");
        same(&x, &y, at, r.offset);
        at = r.offset + r.len;
    }
    assert!(at <= a.size().max(b.size()), "{ranges:?}");
    same(&x, &y, at, a.size().max(b.size()));
    ranges.iter().map(|r| r.len).sum()
}

fn same(x: &[u8], y: &[u8], from: u64, to: u64) {
    if from == to {
        return;
    }
    let part = |b: &'_ [u8]| b.get(from as usize..to as usize).map(<[u8]>::to_vec);
    assert!(part(x).is_some() && part(x) == part(y), "{from}..{to} differs and was not told");
}

/// A file of so many extents of one block each.
fn scattered(store: &Store, name: &[u8], extents: u64) -> File {
    let file = store.create(name).expect("a name");
    for i in 0..extents {
        file.write_at(&[i as u8 | 1; B as usize], 2 * i * B).expect("there is room");
    }
    file
}

#[test]
fn what_is_told_is_what_differs() {
    for seed in 0..40 {
        let mut random = Random::new(seed);
        let store = Store::format("mem:64M", &Default::default()).expect("memory");
        let a = scattered(&store, b"a", [3, 60, 900][seed as usize % 3]);
        let b = a.reflink(b"b").expect("a name");
        assert_eq!(holds(&a, &b), 0);
        let reach = a.size();
        for step in 0..6 {
            let file = if random.one_in(2) { &a } else { &b };
            let (off, len) = (random.below(reach), 1 + random.below(5 * B));
            let blocks = (off / B * B, len.next_multiple_of(B));
            match random.below(7) {
                0 => file.punch(off, len),
                1 => file.zero(off, len),
                2 => file.truncate(off),
                3 => file.allocate(off, len),
                4 if blocks.0 < file.size() => file.insert(blocks.0, blocks.1),
                5 if blocks.0 + blocks.1 < file.size() => file.collapse(blocks.0, blocks.1),
                _ => file.write_at(&vec![step + 3; len as usize], off),
            }
            .expect("there is room");
            holds(&a, &b);
        }
        assert_eq!(holds(&a, &a), 0);
    }
}

#[test]
fn holes_and_unwritten_blocks_are_the_same() {
    let store = Store::format("mem:16M", &Default::default()).expect("memory");
    let (a, b) = (store.create(b"a").expect("a name"), store.create(b"b").expect("a name"));
    a.truncate(9 * B + 5).expect("it grows");
    b.allocate(0, 9 * B + 5).expect("there is room");
    assert_eq!(holds(&a, &b), 0);
    b.truncate(11 * B).expect("it grows");
    assert_eq!(holds(&a, &b), 2 * B - 5);
    b.write_at(&[0; 10], 4 * B).expect("there is room");
    assert_eq!(holds(&a, &b), B + 2 * B - 5);
}

/// Only what differs is read: a few nodes, however many the file has.
#[test]
fn the_cost_is_in_what_differs() {
    let medium: Arc<dyn Medium> = Arc::new(MemMedium::new(512 << 20).expect("memory"));
    let store = Store::format_on(medium.clone()).expect("a store");
    let a = scattered(&store, b"a", 30_000);
    let b = a.reflink(b"b").expect("a name");
    let shared = a.reflink(b"c").expect("a name");
    for i in 0..3 {
        b.write_at(&[0xbb; 100], i * 20_000 * B).expect("there is room");
    }
    // Moved as a whole, its subtrees are still those of the others.
    shared.collapse(0, 2 * B).expect("it is long");
    shared.insert(0, 2 * B).expect("it is long");
    drop((a, b, shared));
    store.close().expect("it closes");
    for (other, ranges, most) in [(&b"b"[..], 3, 24), (b"c", 1, 16)] {
        let store = Store::open_on(medium.clone(), &OpenOptions::default()).expect("it opens");
        let a = store.open_file(b"a").expect("it is there");
        let b = store.open_file(other).expect("it is there");
        let before = store.stats().nodes_read;
        assert_eq!(a.diff(&b).expect("it is sound").len(), ranges);
        let read = store.stats().nodes_read - before;
        assert!(read <= most, "{read} of some 400 nodes were read");
        drop((a, b));
        store.close().expect("it closes");
    }
}

#[test]
fn files_of_two_stores_are_not_compared() {
    let store = || Store::format("mem:16M", &Default::default()).expect("memory");
    let (x, y) = (store(), store());
    let (a, b) = (x.create(b"a").expect("a name"), y.create(b"a").expect("a name"));
    assert_eq!(a.diff(&b).expect_err("two stores").kind(), freehold::ErrorKind::Invalid);
}
