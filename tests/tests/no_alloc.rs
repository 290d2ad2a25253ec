//! The data path of a queue: polled reads and in-place overwrites of a store on
//! memory allocate nothing once they have begun. Durable appends there allocate what the map
//! needs.

use freehold::{Buffer, Completion, File, Queue, Store};
use freehold_engine::counting::{Counting, allocations};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const B: u64 = 4096;
const BLOCKS: u64 = 256;

/// Keeps `buffers` operations in flight until so many have ended; how many bytes
/// they moved.
fn churn(
    queue: &mut Queue,
    file: &File,
    buffers: &mut Vec<Buffer>,
    done: &mut Vec<Completion>,
    write: bool,
    rounds: u64,
) -> usize {
    let (mut next, mut bytes, mut flying) = (0, 0, 0);
    while next < rounds || flying > 0 {
        while next < rounds
            && let Some(buf) = buffers.pop()
        {
            let at = next * 7 % BLOCKS * B;
            let taken = match write {
                true => queue.write(file, at, buf, next),
                false => queue.read(file, at, buf, next),
            };
            taken.map_err(|_| ()).expect("the queue has room for all buffers");
            next += 1;
            flying += 1;
        }
        queue.poll(done);
        for c in done.drain(..) {
            bytes += c.result.expect("memory does not fail");
            buffers.extend(c.buf);
            flying -= 1;
        }
    }
    bytes
}

#[test]
fn polled_reads_and_overwrites_allocate_nothing() {
    let store = Store::format("mem:32M", &Default::default()).unwrap();
    let file = store.create(b"f").unwrap();
    file.write_at(&vec![1; (BLOCKS * B) as usize], 0).unwrap();
    let many = store.create(b"many").unwrap();
    for i in (0..BLOCKS).rev() {
        many.write_at(&[2; B as usize], i * B).unwrap();
    }
    // A map that was shared and is not any more.
    drop(file.reflink(b"copy").unwrap());
    store.remove(b"copy").unwrap();
    store.checkpoint().unwrap();
    file.write_at(&vec![3; (BLOCKS * B) as usize], 0).unwrap();
    store.checkpoint().unwrap();
    assert!(many.stat().unwrap().extents > 0);
    for depth in [1, 32] {
        let mut queue = store.queue(depth).unwrap();
        let mut buffers: Vec<Buffer> =
            (0..depth).map(|_| queue.buffer(B as usize).unwrap()).collect();
        let mut done = Vec::with_capacity(2 * depth as usize);
        for file in [&file, &many] {
            for write in [false, true] {
                churn(&mut queue, file, &mut buffers, &mut done, write, 100);
                let (was, before) = (store.stats(), allocations());
                assert!(before > 0, "nothing is counted");
                let rounds = 2000;
                let bytes = churn(&mut queue, file, &mut buffers, &mut done, write, rounds);
                let after = allocations();
                let stats = store.stats();
                assert_eq!(bytes as u64, rounds * B);
                assert_eq!(after, before, "depth {depth}, write {write}");
                // They went the short way: one command each, nothing beside it.
                let [reads, writes] = match write {
                    true => [0, rounds],
                    false => [rounds, 0],
                };
                assert_eq!(stats.reads - was.reads, reads);
                assert_eq!(stats.writes - was.writes, writes);
                assert_eq!(stats.device_reads - was.device_reads, reads);
                assert_eq!(stats.device_writes - was.device_writes, writes);
            }
        }
    }
}

/// A version of the file and the list of its few extents, for each; now and then something
/// grows.
#[test]
fn a_durable_append_takes_memory_for_the_map_alone() {
    let store = Store::format("mem:1G", &Default::default()).unwrap();
    let file = store.create(b"f").unwrap();
    let append = |blocks: std::ops::Range<u64>| {
        let before = allocations();
        for i in blocks {
            file.write_durable_at(&[i as u8; B as usize], i * B).unwrap();
        }
        allocations() - before
    };
    append(0..100);
    let was = store.stats();
    let (rounds, some) = (500, 20);
    let took = append(100..100 + rounds);
    assert_eq!(store.stats().checkpoints, was.checkpoints, "checkpoints take memory");
    assert_eq!(store.stats().stored_writes - was.stored_writes, rounds);
    assert!((rounds..=2 * rounds + some).contains(&took), "{took} for {rounds} appends");
}
