//! Reads of a queue that are looked up together: the right bytes, whatever stands behind a
//! block, whatever happens between submission and poll, and nothing left behind.

use freehold::{Access, Buffer, Completion, File, LeaseOptions, OpenOptions, Queue, Store};
use freehold_engine::medium::Medium;
use freehold_engine::mem::MemMedium;
use freehold_tests::random::Random;
use std::sync::Arc;
use std::time::Duration;

const B: u64 = 4096;
/// Enough for a tree of three levels, which is when reads are kept back.
const EXTENTS: u64 = 40_000;

fn options(cache: u64) -> OpenOptions {
    OpenOptions { cache_bytes: Some(cache), ..OpenOptions::default() }
}

/// A store on memory, and a file in which every second block is allocated and every
/// hundredth written with its own number.
fn spread(cache: u64) -> (Store, File) {
    let medium: Arc<dyn Medium> = Arc::new(MemMedium::new(EXTENTS * B * 2 + (64 << 20)).unwrap());
    Store::format_on(medium.clone()).unwrap().close().unwrap();
    let store = Store::open_on(medium, &options(cache)).unwrap();
    let file = store.create(b"f").unwrap();
    for i in 0..EXTENTS {
        file.allocate(i * 2 * B, B).unwrap();
    }
    for block in (0..EXTENTS * 2).step_by(100) {
        file.write_at(&tagged(block), block * B).unwrap();
    }
    store.checkpoint().unwrap();
    (store, file)
}

fn tagged(block: u64) -> Vec<u8> {
    let mut bytes = vec![0xa5; B as usize];
    bytes[..8].copy_from_slice(&block.to_le_bytes());
    bytes
}

/// What the file was made with.
fn expected(block: u64) -> Vec<u8> {
    if block.is_multiple_of(100) { tagged(block) } else { vec![0; B as usize] }
}

fn buffer(queue: &Queue) -> Buffer {
    let mut buf = queue.buffer(B as usize).unwrap();
    buf.fill(0xee);
    buf
}

/// Polls until so many have ended.
fn reap(queue: &mut Queue, count: usize) -> Vec<Completion> {
    let mut done = Vec::new();
    while done.len() < count {
        if queue.poll(&mut done) == 0 {
            queue.wait(None).unwrap();
        }
    }
    assert_eq!(done.len(), count);
    done
}

/// Reads these blocks, each with its number for a tag, `depth` at a time.
fn read_all(store: &Store, file: &File, blocks: &[u64], depth: usize) {
    let mut queue = store.queue(depth as u32).unwrap();
    for group in blocks.chunks(depth) {
        for block in group {
            let buf = buffer(&queue);
            queue.read(file, block * B, buf, *block).expect("the queue has room for its depth");
        }
        for c in reap(&mut queue, group.len()) {
            let n = c.result.unwrap();
            let left = file.size().saturating_sub(c.tag * B).min(B) as usize;
            assert_eq!((n, &c.buf.unwrap()[..n]), (left, &expected(c.tag)[..left]), "{}", c.tag);
        }
    }
}

/// Written blocks, unwritten ones, holes, and blocks behind the end, mixed.
fn mixed(seed: u64, count: usize) -> Vec<u64> {
    let mut random = Random::new(seed);
    let mut block = || match random.below(3) {
        0 => random.below(EXTENTS / 50) * 100,
        1 => random.below(EXTENTS * 2),
        _ => random.below(EXTENTS * 2 + 50),
    };
    (0..count).map(|_| block()).collect()
}

#[test]
fn each_read_gets_its_own_block() {
    for cache in [64 << 20, 64 << 10] {
        let (store, file) = spread(cache);
        for depth in [1, 2, 31, 32, 33, 80] {
            read_all(&store, &file, &mixed(depth as u64, 600), depth);
        }
        assert!(store.check().unwrap().clean());
    }
}

#[test]
fn files_and_sizes_take_turns() {
    let (store, file) = spread(64 << 20);
    let other = file.reflink(b"g").unwrap();
    let small = store.create(b"small").unwrap();
    small.write_at(&tagged(7), 0).unwrap();
    let mut queue = store.queue(64).unwrap();
    for round in 0..20u64 {
        for i in 0..64u64 {
            let block = (round * 64 + i) % (EXTENTS / 50) * 100;
            let buf = buffer(&queue);
            match i % 5 {
                0 => queue.read(&small, 0, buf, u64::MAX).unwrap(),
                1 | 2 => queue.read(&other, block * B, buf, block).unwrap(),
                _ => queue.read(&file, block * B, buf, block).unwrap(),
            }
        }
        for c in reap(&mut queue, 64) {
            let want = if c.tag == u64::MAX { tagged(7) } else { tagged(c.tag) };
            assert_eq!((c.result.unwrap(), &c.buf.unwrap()[..]), (B as usize, &want[..]));
        }
    }
}

/// Until a queue that nobody polls is driven its reads hold back what they may find
/// (law B3); whoever waits for that drives it (law M2).
#[test]
fn m2_what_is_kept_back_is_driven_by_who_waits() {
    let (store, file) = spread(64 << 20);
    let mut random = Random::new(3);
    for _ in 0..10 {
        let mut queue = store.queue(16).unwrap();
        let blocks: Vec<u64> = (0..12).map(|_| random.below(EXTENTS / 50) * 100).collect();
        for block in &blocks {
            let buf = buffer(&queue);
            queue.read(&file, block * B, buf, *block).unwrap();
        }
        // Blocks are copied away from, freed, and given to another.
        let copy = file.reflink(b"copy").unwrap();
        for block in &blocks {
            file.write_at(&tagged(*block), block * B).unwrap();
        }
        drop(copy);
        store.remove(b"copy").unwrap();
        store.checkpoint().unwrap();
        let thief = store.create(b"thief").unwrap();
        thief.write_at(&vec![0x77; 1 << 20], 0).unwrap();
        for c in reap(&mut queue, blocks.len()) {
            assert_eq!(c.result.unwrap(), B as usize);
            assert_eq!(&c.buf.unwrap()[..], &tagged(c.tag)[..], "a stranger's bytes");
        }
        drop(thief);
        store.remove(b"thief").unwrap();
    }
    assert!(store.check().unwrap().clean());
}

/// A lone read that is kept back, because reads before it had company, in a queue that is
/// otherwise idle: who takes the file for itself drives it, and does not wait for ever.
#[test]
fn m2_a_lone_read_that_is_kept_back_is_found() {
    let (store, file) = spread(64 << 20);
    let mut queue = store.queue(16).unwrap();
    for block in (0..1200).step_by(100) {
        let buf = buffer(&queue);
        queue.read(&file, block * B, buf, block).unwrap();
    }
    reap(&mut queue, 12);
    let buf = buffer(&queue);
    queue.read(&file, 500 * B, buf, 500).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let taker = file.clone();
    std::thread::spawn(move || {
        let lease = taker.lease(.., Access::Exclusive, &LeaseOptions::default());
        tell.send(lease.map(drop).map_err(|e| e.to_string())).unwrap();
    });
    let granted = told.recv_timeout(Duration::from_secs(20)).expect("it waits for ever");
    granted.unwrap();
    let read = reap(&mut queue, 1).remove(0);
    assert_eq!(&read.buf.unwrap()[..], &tagged(500)[..]);
}

/// The handle that a read was submitted with goes, and so does the name.
#[test]
fn b10_a_read_keeps_its_file() {
    let (store, file) = spread(64 << 20);
    let mut queue = store.queue(16).unwrap();
    for i in 0..10 {
        let buf = buffer(&queue);
        queue.read(&file, i * 100 * B, buf, i * 100).unwrap();
    }
    store.remove(b"f").unwrap();
    drop(file);
    for c in reap(&mut queue, 10) {
        assert_eq!(c.result.unwrap(), B as usize);
        assert_eq!(&c.buf.unwrap()[..], &tagged(c.tag)[..]);
    }
    store.checkpoint().unwrap();
    assert!(store.check().unwrap().clean());
}

/// A queue that goes with reads in it leaves nothing: no hold on the file, none on the
/// store.
#[test]
fn r3_a_queue_that_goes_forgets_them() {
    let (store, file) = spread(64 << 20);
    let free = |store: &Store| store.space().free;
    let before = free(&store);
    for _ in 0..3 {
        let mut queue = store.queue(16).unwrap();
        for i in 0..10 {
            let buf = buffer(&queue);
            queue.read(&file, i * 100 * B, buf, i).unwrap();
        }
    }
    store.remove(b"f").unwrap();
    drop(file);
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    assert!(free(&store) >= before + EXTENTS * B, "{before} {}", free(&store));
    store.close().unwrap();
}
