//! What is under way when something goes: queues and handles dropped with
//! operations in flight, threads that wait for a sync when the device fails, a
//! store dropped with tasks pending.

use freehold::{ErrorKind, File, Store};
use freehold_engine::medium::Medium;
use freehold_engine::sim::{FailPlan, Hold, OpKind, SimMedium};
use freehold_tests::specimen::{B, bytes, names, open, options, pattern};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn store() -> (SimMedium, Store) {
    let sim = SimMedium::new(options());
    let store = Store::format_on(sim.medium()).unwrap();
    (sim, store)
}

fn file(store: &Store, name: &[u8], blocks: u64) -> File {
    let file = store.create(name).unwrap();
    file.write_at(&pattern(1, (blocks * B) as usize), 0).unwrap();
    file.sync().unwrap();
    file
}

/// Keeps operations of a kind in flight.
fn hold(sim: &SimMedium, kind: OpKind) {
    sim.hold(Hold { kind: Some(kind), tags: 0..u64::MAX });
}

#[test]
fn a_handle_dropped_while_its_write_is_in_flight() {
    let (sim, store) = store();
    store.create(b"bystander").unwrap().write_at(&[7; 100], 0).unwrap();
    let file = file(&store, b"f", 4);
    store.checkpoint().unwrap();
    let mut queue = store.queue(8).unwrap();
    hold(&sim, OpKind::Write);
    // Blocks of its own in place, shared ones and a hole by way of new blocks.
    for (tag, at) in [(0, 0), (1, 2 * B), (2, 900 * B)] {
        let mut buf = queue.buffer(B as usize).unwrap();
        buf.fill(9);
        queue.write(&file, at, buf, tag).map_err(|_| ()).unwrap();
    }
    let mut done = Vec::new();
    assert_eq!(queue.poll(&mut done), 0);
    drop(file);
    store.remove(b"f").unwrap();
    // Whatever removes the blocks has its chance.
    for name in [&b"a"[..], b"b", b"c"] {
        store.create(name).unwrap();
        assert_eq!(queue.poll(&mut done), 0);
    }
    sim.release();
    while done.len() < 3 {
        queue.wait(None).unwrap();
        queue.poll(&mut done);
    }
    assert!(done.iter().all(|d| d.result.is_ok()), "{done:?}");
    drop(queue);
    for _ in 0..3 {
        store.checkpoint().unwrap();
        assert_eq!(store.check().unwrap().findings, []);
    }
    assert_eq!(names(&store).unwrap(), [&b"a"[..], b"b", b"bystander", b"c"]);
    let free = store.space().free;
    drop(store);
    let store = open(&sim.reopen(1), false).unwrap();
    store.checkpoint().unwrap();
    assert_eq!(store.check().unwrap().findings, []);
    assert!(store.space().free >= free, "the removed file's blocks did not come back");
}

#[test]
fn a_queue_dropped_with_operations_in_flight() {
    for removed in [false, true] {
        let (sim, store) = store();
        let file = file(&store, b"f", 16);
        store.checkpoint().unwrap();
        let mut queue = store.queue(8).unwrap();
        for kind in [OpKind::Write, OpKind::Read, OpKind::Flush] {
            hold(&sim, kind);
        }
        for i in 0..3 {
            let mut buf = queue.buffer(B as usize).unwrap();
            buf.fill(9);
            queue.write(&file, i * 20 * B, buf, i).map_err(|_| ()).unwrap();
            let buf = queue.buffer(B as usize).unwrap();
            queue.read(&file, i * B, buf, 10 + i).map_err(|_| ()).unwrap();
        }
        queue.sync(&file, 20).map_err(|_| ()).unwrap();
        queue.poll(&mut Vec::new());
        assert!(sim.in_flight() > 0);
        drop(queue);
        sim.release();
        if removed {
            drop(file);
            store.remove(b"f").unwrap();
        } else {
            // The same blocks: whoever was there first must have left.
            for i in 0..3 {
                file.write_at(&[5; 100], i * 20 * B + 50).unwrap();
            }
            let found = bytes(&file).unwrap();
            assert_eq!(found[50..150], [5; 100]);
            assert!(found[..50] == [9; 50] || found[..50] == pattern(1, 50));
            file.sync().unwrap();
        }
        store.sync().unwrap();
        store.checkpoint().unwrap();
        assert_eq!(store.check().unwrap().findings, []);
    }
}

#[test]
fn a_store_dropped_with_tasks_pending_lets_the_medium_go() {
    let sim = SimMedium::new(options());
    let medium: Arc<dyn Medium> = sim.medium();
    let before = Arc::strong_count(&medium);
    let store = Store::format_on(medium.clone()).unwrap();
    let file = file(&store, b"f", 4);
    file.sync().unwrap();
    let mut queue = store.queue(8).unwrap();
    hold(&sim, OpKind::Write);
    hold(&sim, OpKind::Flush);
    for i in 0..4 {
        let buf = queue.buffer(2 * B as usize).unwrap();
        queue.write(&file, i * 3 * B, buf, i).map_err(|_| ()).unwrap();
    }
    queue.sync(&file, 9).map_err(|_| ()).unwrap();
    queue.poll(&mut Vec::new());
    assert!(sim.in_flight() > 0 && Arc::strong_count(&medium) > before);
    drop((file, queue, store));
    assert_eq!(Arc::strong_count(&medium), before, "something still holds the medium");
    sim.release();
    let store = open(&sim, false).unwrap();
    let found = bytes(&store.open_file(b"f").unwrap()).unwrap();
    assert_eq!(found[B as usize * 2..][..100], pattern(1, 2 * B as usize + 100)[2 * B as usize..]);
    assert_eq!(store.check().unwrap().findings, []);
}

/// What ends the wait of a sync.
#[derive(Debug, Clone, Copy)]
enum End {
    Error,
    Crash,
    Loss,
    Success,
}

#[test]
fn threads_that_wait_for_a_sync_all_hear_how_it_ended() {
    for end in [End::Error, End::Crash, End::Loss, End::Success] {
        let (sim, store) = store();
        let files: Vec<File> = (0..6u8).map(|i| file(&store, &[b'a' + i], 4)).collect();
        for file in &files {
            // New blocks, so that each sync needs a record.
            file.write_at(&[3; 9000], 40 * B).unwrap();
        }
        if matches!(end, End::Error) {
            sim.fail(FailPlan::sticky(OpKind::Flush, 0));
        }
        hold(&sim, OpKind::Flush);
        std::thread::scope(|scope| {
            let waiting: Vec<_> =
                files.iter().map(|file| scope.spawn(move || file.sync())).collect();
            while sim.in_flight() == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            match end {
                End::Crash => sim.crash_now(),
                End::Loss => sim.lose(1),
                End::Error | End::Success => {}
            }
            sim.release();
            for thread in waiting {
                let done = thread.join().unwrap();
                assert_eq!(done.is_ok(), matches!(end, End::Success), "{end:?}: {done:?}");
            }
        });
        let poisoned = !matches!(end, End::Success);
        for done in [store.sync(), files[0].sync(), files[0].write_at(b"x", 0)] {
            assert_eq!(done.err().map(|e| e.kind()), poisoned.then_some(ErrorKind::Poisoned));
        }
        if matches!(end, End::Error | End::Loss) {
            assert_eq!(bytes(&files[0]).unwrap().len() as u64, 40 * B + 9000);
        }
    }
}

#[test]
fn listing_and_opening_while_files_go() {
    let (_sim, store) = store();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    store.list(b"", None, None, 1000).unwrap();
                    for name in names(&store).unwrap() {
                        match store.open_file(&name) {
                            Ok(file) => drop(bytes(&file).unwrap()),
                            Err(e) => assert_eq!(e.kind(), ErrorKind::NotFound, "{e}"),
                        }
                    }
                }
            });
        }
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..150u64 {
                let name = |i: u64| format!("{i}").into_bytes();
                (0..8).for_each(|i| drop(file(&store, &name(i), 2)));
                store.checkpoint().unwrap();
                (0..8).for_each(|i| store.remove(&name(i)).unwrap());
                if round % 10 == 9 {
                    assert_eq!(store.check().unwrap().findings, [], "round {round}");
                }
            }
        }));
        stop.store(true, Ordering::Relaxed);
        work.unwrap();
    });
    store.checkpoint().unwrap();
    store.checkpoint().unwrap();
    assert_eq!(store.check().unwrap().findings, []);
    assert_eq!(names(&store).unwrap(), [b""; 0]);
}
