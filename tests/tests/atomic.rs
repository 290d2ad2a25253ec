//! Atomic writes beside others: readers and writers in other threads, a store whose
//! free space is in pieces, and the limits.

use freehold::{ErrorKind, File, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const B: usize = 4096;

/// Where each write puts its bytes: parts of blocks, whole blocks, several extents.
const PLACES: [(u64, usize); 4] =
    [(100, 50), (3 * B as u64 - 10, 6000), (40 * B as u64, 9 * B), (100 * B as u64 + 7, B)];

const REACH: usize = 102 * B;

fn store(size: &str) -> Store {
    Store::format(&format!("mem:{size}"), &Default::default()).expect("memory")
}

fn put(file: &File, byte: u8) {
    let bytes: Vec<_> = PLACES.iter().map(|(off, len)| (*off, vec![byte; *len])).collect();
    let writes: Vec<_> = bytes.iter().map(|(off, bytes)| (*off, &bytes[..])).collect();
    file.write_atomic(&writes).expect("there is room");
}

/// The one byte that all places hold.
fn one(bytes: &[u8]) -> u8 {
    let byte = bytes[PLACES[0].0 as usize];
    for (off, len) in PLACES {
        let place = &bytes[off as usize..off as usize + len];
        assert!(place.iter().all(|b| *b == byte), "{byte} at {}, and others at {off}", PLACES[0].0);
    }
    byte
}

#[test]
fn readers_see_all_of_an_atomic_write_or_nothing() {
    let store = store("64M");
    let file = store.create(b"f").expect("a name");
    put(&file, 1);
    let over = AtomicBool::new(false);
    std::thread::scope(|s| {
        for queued in [false, true] {
            let (store, file, over) = (&store, &file, &over);
            s.spawn(move || {
                let mut queue = store.queue(2).expect("a queue");
                let (mut last, mut seen) = (0, 0);
                while !over.load(Ordering::Relaxed) || seen < 3 {
                    let byte = if queued {
                        let buf = queue.buffer(REACH).expect("memory");
                        queue.read(file, 0, buf, 1).expect("there is room");
                        let mut done = Vec::new();
                        while queue.poll(&mut done) == 0 {
                            queue.wait(None).expect("memory stays");
                        }
                        one(done.remove(0).buf.as_deref().expect("a buffer"))
                    } else {
                        let mut bytes = vec![0; REACH];
                        file.read_at(&mut bytes, 0).expect("it reads");
                        one(&bytes)
                    };
                    seen += usize::from(byte != last);
                    last = byte;
                    // The writer has ended: there is nothing new to be seen.
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                }
            });
        }
        // Two writers: each write is whole whichever comes last.
        std::thread::scope(|w| {
            for start in [0u8, 100] {
                let file = &file;
                w.spawn(move || (0..150u8).for_each(|i| put(file, start + i % 90 + 1)));
            }
        });
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(store.stats().atomic_writes, 301);
    assert!(store.check().expect("it can be checked").clean());
}

/// Plain writes of others to the same blocks are neither lost nor torn apart.
#[test]
fn b6_writes_to_other_bytes_of_the_blocks_survive() {
    let store = store("64M");
    let file = Arc::new(store.create(b"f").expect("a name"));
    file.write_at(&vec![9; REACH], 0).expect("there is room");
    let other = file.clone();
    let beside = std::thread::spawn(move || {
        for i in 0..200u8 {
            // In the blocks that the atomic writes cover in part.
            other.write_at(&[i; 20], 500).expect("there is room");
            other.write_at(&[i; 20], 100 * B as u64 + 7 + B as u64).expect("there is room");
            let mut back = [0; 20];
            other.read_at(&mut back, 500).expect("it reads");
            assert_eq!(back, [i; 20], "a write was lost");
        }
    });
    (0..200u8).for_each(|i| put(&file, i));
    beside.join().expect("no write was lost");
    let mut bytes = vec![0; REACH];
    file.read_at(&mut bytes, 0).expect("it reads");
    assert_eq!(one(&bytes), 199);
    assert!(bytes[500..520].iter().all(|b| *b == 199));
    assert!(bytes[60 * B..99 * B].iter().all(|b| *b == 9));
}

/// The limits hold where no two free blocks are neighbours.
#[test]
fn the_largest_atomic_write_fits_into_scattered_space() {
    let store = store("64M");
    let limits = store.atomic_limits();
    assert!(limits.fast_bytes <= limits.max_bytes);
    let file = store.create(b"f").expect("a name");
    file.write_at(&vec![1; 32 << 20], 0).expect("there is room");
    let fill = store.create(b"fill").expect("a name");
    let mut at = 0;
    while fill.write_at(&[2; 64 * B], at).is_ok() {
        at += 64 * B as u64;
    }
    for i in 0..4096 {
        file.punch((2 * i + 1) * B as u64, B as u64).expect("punching needs no space");
    }
    store.checkpoint().expect("it is written");
    store.checkpoint().expect("it is written");
    // What runs there are go to somebody else, until no two blocks lie together.
    for n in [128, 32, 8, 2] {
        loop {
            fill.write_at(&vec![4; n * B], at).expect("what was punched is free");
            at += (n * B) as u64;
            if fill.iomap(at - (n * B) as u64, (n * B) as u64).expect("it is sound").len() > 1 {
                break;
            }
        }
    }
    let each = limits.max_bytes as usize / limits.max_ranges;
    let bytes = vec![3; each];
    let target = store.create(b"target").expect("a name");
    let writes: Vec<_> =
        (0..limits.max_ranges as u64).map(|i| (i * 100_000 + 33, &bytes[..])).collect();
    target.write_atomic(&writes).expect("the limits promise it");
    assert!(target.stat().expect("it is sound").extents > 200);
    for (off, _) in &writes {
        let mut back = vec![0; each];
        target.read_at(&mut back, *off).expect("it reads");
        assert_eq!(back, bytes);
    }
    assert!(store.check().expect("it can be checked").clean());
}

#[test]
fn what_is_refused_changes_nothing() {
    let store = store("16M");
    let limits = store.atomic_limits();
    let file = store.create(b"f").expect("a name");
    let refused = |writes: &[(u64, &[u8])]| file.write_atomic(writes).expect_err("refused").kind();
    let large = vec![1; limits.max_bytes as usize + 1];
    assert_eq!(refused(&[(0, &large)]), ErrorKind::Limit);
    let many: Vec<(u64, &[u8])> =
        (0..=limits.max_ranges as u64).map(|i| (i * 9, &b"x"[..])).collect();
    assert_eq!(refused(&many), ErrorKind::Limit);
    assert_eq!(refused(&[(0, b"abc"), (2, b"d")]), ErrorKind::Invalid);
    assert_eq!(refused(&[(0, b"abc"), (i64::MAX as u64, b"d")]), ErrorKind::Invalid);
    assert_eq!(file.size(), 0);
    file.write_atomic(&[]).expect("nothing is to be done");
    file.write_atomic(&[(1 << 40, b"")]).expect("nothing is to be done");
    assert_eq!((file.size(), store.stats().atomic_writes), (0, 0));
    file.write_atomic(&many[..limits.max_ranges]).expect("as many as can be");
    assert_eq!(file.size(), (limits.max_ranges as u64 - 1) * 9 + 1);
}

/// A store without room for all of it writes none of it.
#[test]
fn a_full_store_keeps_what_it_has() {
    let store = store("16M");
    let file = store.create(b"f").expect("a name");
    file.write_at(&[1; 3 * B], 0).expect("there is room");
    let fill = store.create(b"fill").expect("a name");
    let mut at = 0;
    while fill.write_at(&[2; 16 * B], at).is_ok() {
        at += 16 * B as u64;
    }
    let large = vec![7; 900 << 10];
    let e = file.write_atomic(&[(10, b"xyz"), (2 * B as u64, &large)]).expect_err("it is full");
    assert_eq!(e.kind(), ErrorKind::NoSpace);
    let mut bytes = vec![0; 4 * B];
    assert_eq!(file.read_at(&mut bytes, 0).expect("it reads"), 3 * B);
    assert!(bytes[..3 * B].iter().all(|b| *b == 1));
    store.remove(b"fill").expect("it goes");
    drop(fill);
    file.write_atomic(&[(10, b"xyz"), (2 * B as u64, &large)]).expect("there is room again");
    assert!(store.check().expect("it can be checked").clean());
}
