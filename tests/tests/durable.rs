//! What durable writes cost the device: writes and flushes, counted.

use freehold::{File, OpenOptions, Stats, Store};
use freehold_blockmap::{FormatSpec, Volume};
use freehold_engine::sim::{Hold, OpKind, SimMedium, SimOptions, Survival};
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;

/// A store whose first flush is behind it, and a file in it.
fn store() -> (Store, File) {
    let sim = SimMedium::new(SimOptions { blocks: 16 << 10, ..Default::default() });
    begun(Store::format_on(sim.medium()).unwrap())
}

fn begun(store: Store) -> (Store, File) {
    let file = store.create(b"f").unwrap();
    store.sync().unwrap();
    (store, file)
}

/// Writes and flushes of the device.
fn cost(before: &Stats, after: &Stats) -> (u64, u64) {
    let writes = after.device_writes - before.device_writes;
    (writes, after.device_flushes - before.device_flushes)
}

#[test]
fn b7_a_durable_append_is_one_write_and_no_flush() {
    let (store, file) = store();
    for len in [1, 99, BLOCK - 100, BLOCK, 3 * BLOCK] {
        let before = store.stats();
        file.write_durable_at(&vec![7; len], file.size()).unwrap();
        assert_eq!(cost(&before, &store.stats()), (1, 0), "{len} bytes");
    }
}

#[test]
fn a_durable_overwrite_is_one_write() {
    let (store, file) = store();
    file.write_at(&[1; 8 * BLOCK], 0).unwrap();
    // The map is not durable yet: the data is forced through, and the map committed.
    let before = store.stats();
    file.write_durable_at(&[2; BLOCK], 0).unwrap();
    let (writes, flushes) = cost(&before, &store.stats());
    assert_eq!((writes, flushes), (2, 1));
    for (at, len) in [(0, BLOCK), (3 * BLOCK, 2 * BLOCK), (100, 50)] {
        let before = store.stats();
        file.write_durable_at(&vec![3; len], at as u64).unwrap();
        assert_eq!(cost(&before, &store.stats()), (1, 0), "{len} bytes at {at}");
    }
}

#[test]
fn writers_share_the_journal() {
    let (store, file) = store();
    let mut queue = store.queue(32).unwrap();
    let before = store.stats();
    for tag in 0..32 {
        let buf = queue.buffer(BLOCK).unwrap();
        queue.write_durable(&file, tag * BLOCK as u64, buf, tag).expect("there is room");
    }
    let mut done = Vec::new();
    while done.len() < 32 {
        queue.wait(None).unwrap();
        queue.poll(&mut done);
    }
    assert!(done.iter().all(|c| c.result.is_ok()));
    let (writes, flushes) = cost(&before, &store.stats());
    assert!((1..=4).contains(&writes), "{writes} writes for 32 appends at once");
    assert_eq!(flushes, 0);
}

/// In a window both are stores: of what is written, and of its records' group.
#[test]
fn a_durable_write_into_a_window_is_no_command() {
    let (store, file) = begun(Store::format("mem:64M", &Default::default()).unwrap());
    for (at, len) in [(0, 1), (1, 99), (100, 20_000), (4096, 4096), (7, 300 << 10)] {
        let before = store.stats();
        file.write_durable_at(&vec![at as u8; len], at).unwrap();
        let after = store.stats();
        assert_eq!(cost(&before, &after), (0, 0), "{len} bytes at {at}");
        assert_eq!(after.stored_writes - before.stored_writes, 1);
        assert_eq!(after.stored_bytes - before.stored_bytes, len as u64);
    }
    let mut back = vec![0; 300 << 10];
    assert_eq!(file.read_at(&mut back, 7).unwrap(), back.len());
    assert!(back.iter().all(|byte| *byte == 7));
}

/// What a checkpoint writes, no commit has to flush: a durable write goes on beside it, however
/// long its flush takes.
#[test]
fn a_durable_write_does_not_wait_for_a_checkpoints_flush() {
    let options = |window, blocks| SimOptions {
        blocks,
        window,
        in_order: true,
        max_delay: 0,
        ..SimOptions::default()
    };
    let (medium, journal) =
        (SimMedium::new(options(false, 2048)), SimMedium::new(options(true, 130)));
    let spec = FormatSpec::default();
    let made = Volume::format_with(medium.medium(), Some(journal.medium()), &spec);
    made.expect("two media").close().expect("a store");
    let open = |medium: &SimMedium| {
        let both = Some(journal.medium());
        Store::open_on_with(medium.medium(), both, &OpenOptions::default()).expect("it opens")
    };
    let store = open(&medium);
    let file = store.create(b"f").expect("a file");
    file.write_durable_at(&[2; BLOCK], 0).expect("room");
    store.create(b"another name, so that there are nodes to write").expect("room");
    let before = store.stats();
    medium.hold(Hold { kind: Some(OpKind::Flush), tags: 0..u64::MAX });
    let (told, hear) = std::sync::mpsc::channel();
    std::thread::scope(|s| {
        let checkpoint = s.spawn(|| store.checkpoint());
        let begun = Instant::now();
        while medium.in_flight() == 0 || store.stats().device_writes == before.device_writes {
            assert!(begun.elapsed() < Duration::from_secs(20), "no checkpoint begins");
            std::thread::yield_now();
        }
        let (store, file) = (&store, &file);
        s.spawn(move || {
            for byte in 3..9 {
                file.write_durable_at(&[byte; BLOCK], u64::from(byte) * BLOCK as u64).unwrap();
                store.create(format!("{byte}").as_bytes()).unwrap();
            }
            told.send(()).unwrap();
        });
        let went_on = hear.recv_timeout(Duration::from_secs(20));
        let checkpointed = checkpoint.is_finished();
        medium.release();
        went_on.expect("a durable write waits for the flush");
        assert!(!checkpointed, "the flush was held");
        checkpoint.join().expect("no panic").expect("a checkpoint");
    });
    // The durable ones are there whatever was not flushed.
    let left = medium.reopen_with(Survival::Nothing, 1);
    drop((file, store));
    let store = open(&left);
    let mut byte = [0];
    store.open_file(b"f").unwrap().read_at(&mut byte, 8 * BLOCK as u64).unwrap();
    assert_eq!(byte, [8]);
}
