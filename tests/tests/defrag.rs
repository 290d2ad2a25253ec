//! Moving a file's blocks together: the bytes stay, places get fewer, never more.

use freehold::{File, OpenOptions, Store};
use freehold_engine::mem::MemMedium;
use std::sync::{Arc, mpsc};
use std::time::Duration;

const B: usize = 4096;

fn bytes(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.size() as usize];
    file.read_at(&mut bytes, 0).expect("it reads");
    bytes
}

/// Two files whose blocks lie in turns.
fn in_turns(store: &Store, blocks: u64) -> [File; 2] {
    let files = [b"a", b"b"].map(|name| store.create(name).expect("a name"));
    // From the end on, so that no block lies behind the one before it.
    for i in (0..blocks).rev() {
        for file in &files {
            file.write_at(&[i as u8 | 1; B], i * B as u64).expect("there is room");
        }
    }
    files
}

fn clean(store: &Store) {
    assert!(store.check().expect("it can be checked").clean());
}

#[test]
fn what_is_scattered_is_moved_together_once() {
    let store = Store::format("mem:64M", &Default::default()).expect("memory");
    let [a, b] = in_turns(&store, 700);
    a.allocate(650 * B as u64, 100 * B as u64).expect("there is room");
    let (was, other) = (bytes(&a), bytes(&b));
    let done = a.defrag(0, u64::MAX).expect("there is room");
    assert!(done.extents_before > 500 && done.extents_after <= 2, "{done:?}");
    assert!(done.moved >= 690 * B as u64);
    assert!(bytes(&a) == was && bytes(&b) == other);
    let again = a.defrag(0, u64::MAX).expect("there is room");
    assert_eq!((again.moved, again.extents_after), (0, done.extents_after));
    a.write_at(&[7; 100], 5).expect("it is its own");
    assert_eq!(store.stats().cow_blocks, 0);
    clean(&store);
    let part = b.defrag(100 * B as u64 + 5, 50 * B as u64).expect("there is room");
    assert!(part.moved == 51 * B as u64 && part.extents_after == 1, "{part:?}");
    assert!(bytes(&b) == other);
    clean(&store);
}

#[test]
fn shared_blocks_and_a_full_store_are_left() {
    let store = Store::format("mem:16M", &Default::default()).expect("memory");
    let [a, b] = in_turns(&store, 300);
    let copy = a.reflink(b"copy").expect("a name");
    let was = bytes(&a);
    let done = a.defrag(0, u64::MAX).expect("nothing is to be done");
    assert_eq!((done.moved, done.extents_after), (0, done.extents_before));
    drop(copy);
    store.remove(b"copy").expect("it goes");
    let fill = store.create(b"fill").expect("a name");
    let mut at = 0;
    while fill.write_at(&[2; 8 * B], at).is_ok() {
        at += 8 * B as u64;
    }
    let full = b.defrag(0, u64::MAX).expect("a lack of space is no error");
    assert!(full.extents_after <= full.extents_before, "{full:?}");
    assert!(bytes(&a) == was && bytes(&b) == was);
    clean(&store);
}

/// Others write while blocks move: nothing is lost.
#[test]
fn b6_writes_beside_it_survive() {
    let store = Store::format("mem:64M", &Default::default()).expect("memory");
    let [a, _b] = in_turns(&store, 1500);
    std::thread::scope(|s| {
        s.spawn(|| {
            for i in (0..1500u64).rev().chain(0..1500) {
                a.write_at(&[9; 50], i * B as u64 + 100).expect("there is room");
            }
        });
        for _ in 0..3 {
            a.defrag(0, u64::MAX).expect("there is room");
        }
    });
    for (i, block) in bytes(&a).chunks(B).enumerate() {
        assert!(block[100..150].iter().all(|x| *x == 9), "a write to block {i} is lost");
        assert!(block[..100].iter().chain(&block[150..]).all(|x| *x == i as u8 | 1), "{i}");
    }
    clean(&store);
}

/// With a cache of a few nodes nearly each slice waits for a checkpoint: nothing of
/// the move holds that up (law B3).
#[test]
fn b3_it_never_holds_up_the_checkpoint_that_it_waits_for() {
    let (done, came) = mpsc::channel();
    std::thread::spawn(move || {
        let medium = Arc::new(MemMedium::new(64 << 20).expect("memory"));
        Store::format_on(medium.clone()).expect("a store").close().expect("memory");
        let options = OpenOptions { cache_bytes: Some(16 << 10), ..Default::default() };
        let store = Store::open_on(medium, &options).expect("a store");
        let [a, b] = in_turns(&store, 1000);
        let was = bytes(&a);
        let before = store.stats().checkpoints;
        let report = a.defrag(0, u64::MAX).expect("there is room");
        assert!(report.extents_after < report.extents_before / 2, "{report:?}");
        assert!(store.stats().checkpoints > before, "it waited for none");
        assert!(bytes(&a) == was && bytes(&b) == was);
        clean(&store);
        done.send(()).expect("somebody waits");
    });
    came.recv_timeout(Duration::from_secs(120)).expect("it ends");
}
