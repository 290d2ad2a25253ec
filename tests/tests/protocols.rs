//! Histories that once went wrong, each in its shortest form.

use freehold_blockmap::format::superblock;
use freehold_blockmap::format::types::Superblock;
use freehold_blockmap::{
    ErrorKind, FileHandle, Finished, FormatSpec, OpenSpec, Volume, VolumeQueue,
};
use freehold_engine::sim::{Hold, OpKind, SimMedium, SimOptions, Survival};
use std::sync::Arc;
use std::time::Duration;

const B: usize = 4096;
const FAR: u64 = 32 * B as u64;

/// A fresh store on a simulated medium of 16 MiB.
fn store(seed: u64) -> (SimMedium, Arc<Volume>) {
    let sim = SimMedium::new(SimOptions { seed, ..SimOptions::default() });
    let vol = Volume::format(sim.medium(), &FormatSpec::default()).expect("a store");
    (sim, vol)
}

/// The store after a crash that left what `survival` says.
fn after_crash(sim: &SimMedium, survival: Survival) -> Arc<Volume> {
    Volume::open(sim.reopen_with(survival, 7).medium(), &OpenSpec::default()).expect("it recovers")
}

fn bytes(vol: &Arc<Volume>, file: &FileHandle) -> Vec<u8> {
    let mut out = vec![0; file.size() as usize];
    let n = vol.read_at(file, &mut out, 0).expect("it reads");
    out.truncate(n);
    out
}

fn sound(vol: &Arc<Volume>) {
    let report = vol.check().expect("it can be checked");
    assert!(report.clean(), "{:?}", report.findings);
}

/// Zeroing the cut-off part of the last block is growth, not punching.
#[test]
fn a_punch_into_the_last_block_keeps_the_size() {
    let (_sim, vol) = store(1);
    let file = vol.create(b"f").expect("a file");
    vol.write_at(&file, &[7; 200], 0).expect("it writes");
    vol.punch(&file, 100, 1 << 20).expect("it punches");
    assert_eq!(file.size(), 200);
    assert_eq!(bytes(&vol, &file), [[7; 100], [0; 100]].concat());
    sound(&vol);
}

/// Law B5: what a truncate cut off stays until the truncate is durable, also
/// when the bytes before the new end are overwritten.
#[test]
fn b5_a_write_before_a_new_end_keeps_what_was_cut_off() {
    let (sim, vol) = store(2);
    let file = vol.create(b"f").expect("a file");
    vol.write_at(&file, &[b'A'; B], 0).expect("it writes");
    vol.sync().expect("it syncs");
    vol.truncate(&file, 100).expect("it shrinks");
    vol.write_at(&file, &[b'B'; 10], 0).expect("it writes");
    let vol = after_crash(&sim, Survival::Everything);
    let file = vol.open_file(b"f").expect("it is there");
    assert_eq!(file.size(), B as u64, "the truncate was not durable");
    assert!(bytes(&vol, &file)[100..].iter().all(|b| *b == b'A'), "the tail is gone");
    sound(&vol);
}

/// Runs `f` in a thread and fails if it has not ended after a while.
fn ends(what: &str, f: impl FnOnce() + Send + 'static) {
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        f();
        let _ = tx.send(());
    });
    let done = rx.recv_timeout(Duration::from_secs(20));
    assert!(done.is_ok(), "{what}: it does not end");
}

/// A write of so many blocks that stays in flight until the medium is released.
fn held_write(sim: &SimMedium, vol: &Arc<Volume>, file: &FileHandle, at: usize, n: usize) -> Held {
    let mut queue = vol.queue(4).expect("a queue");
    let buf = queue.buffer(n * B).expect("memory");
    sim.hold(Hold { kind: Some(OpKind::Write), tags: 0..u64::MAX });
    queue.write(file, (at * B) as u64, buf, 1).expect("there is room");
    while sim.in_flight() == 0 {
        queue.poll(&mut Vec::<Finished>::new());
    }
    Held { sim: sim.clone(), queue }
}

struct Held {
    sim: SimMedium,
    queue: VolumeQueue,
}

impl Held {
    fn land(mut self) {
        self.sim.release();
        let mut done: Vec<Finished> = Vec::new();
        while self.queue.poll(&mut done) == 0 {}
        assert!(done[0].result.is_ok());
    }
}

fn moment() {
    std::thread::sleep(Duration::from_millis(100));
}

/// Two ranges of one file are taken together: whoever wants both, and stands
/// between the two requests, would wait for the first and be waited for by the second.
#[test]
fn ranges_of_one_file_are_taken_together() {
    let (sim, vol) = store(3);
    let file = vol.create(b"f").expect("a file");
    vol.write_at(&file, &vec![1; 64 * B], 0).expect("it writes");
    vol.truncate(&file, 0).expect("it shrinks");
    vol.truncate(&file, 64 * B as u64).expect("it grows");
    ends("a reflink inside a file beside a write", move || {
        let first = held_write(&sim, &vol, &file, 0, 64);
        std::thread::scope(|s| {
            s.spawn(|| vol.reflink_range(&file, 0, &file, FAR, 16 * B as u64));
            moment();
            s.spawn(|| vol.write_at(&file, &vec![2; 64 * B], 0));
            moment();
            first.land();
        });
    });
}

/// A check waits for the checkpoint under way before it holds back reuse, which
/// is what that checkpoint waits for at its end.
#[test]
fn a_check_beside_checkpoints_ends() {
    let (_sim, vol) = store(4);
    let file = vol.create(b"f").expect("a file");
    ends("a check beside checkpoints", move || {
        std::thread::scope(|s| {
            s.spawn(|| {
                for i in 0..150 {
                    vol.write_at(&file, &[i as u8; B], i % 9 * B as u64).expect("it writes");
                    vol.checkpoint().expect("a checkpoint");
                }
            });
            s.spawn(|| (0..150).for_each(|_| sound(&vol)));
        });
    });
}

/// Allocating never takes away what somebody appended meanwhile.
#[test]
fn allocate_beside_an_append_does_not_shrink() {
    let (sim, vol) = store(5);
    let file = vol.create(b"f").expect("a file");
    let append = held_write(&sim, &vol, &file, 1, 2);
    std::thread::scope(|s| {
        s.spawn(|| vol.allocate(&file, 0, B as u64).expect("it allocates"));
        moment();
        append.land();
    });
    assert_eq!(file.size(), 3 * B as u64);
    sound(&vol);
}

/// Law B10: a write in flight keeps its file, as an open handle does.
#[test]
fn b10_a_write_in_flight_keeps_a_removed_file() {
    let (sim, vol) = store(6);
    let file = vol.create(b"f").expect("a file");
    vol.write_at(&file, &[1; B], 0).expect("it writes");
    vol.checkpoint().expect("a checkpoint");
    let write = held_write(&sim, &vol, &file, 1, 1);
    drop(file);
    vol.remove(b"f").expect("it goes");
    std::thread::scope(|s| {
        // Drives the removal, and gets no further itself: all writes are held.
        s.spawn(|| vol.sync().expect("it syncs"));
        moment();
        write.land();
    });
    sound(&vol);
    vol.checkpoint().expect("a checkpoint");
    sound(&vol);
}

/// A journal group may be longer than what the device takes at once.
#[test]
fn a_long_group_is_written_in_pieces() {
    let options = SimOptions { max_transfer: 8 << 10, ..SimOptions::default() };
    let sim = SimMedium::new(options);
    let vol = Volume::format(sim.medium(), &FormatSpec::default()).expect("a store");
    for i in 0..200 {
        vol.create(format!("{i:0>200}").as_bytes()).expect("a file");
    }
    vol.sync().expect("it syncs");
    let vol = after_crash(&sim, Survival::Nothing);
    assert_eq!(vol.list(b"", None, None, 999).expect("a listing").entries.len(), 200);
    sound(&vol);
}

/// A full store gives back what is removed, whatever it is full of.
#[test]
fn a_full_store_of_many_files_can_be_emptied() {
    let options = SimOptions { blocks: 2048, in_order: true, max_delay: 0, ..Default::default() };
    let sim = SimMedium::new(options);
    let spec = FormatSpec { journal_blocks: Some(512), ..FormatSpec::default() };
    let vol = Volume::format(sim.medium(), &spec).expect("a store");
    let name = |i: usize| format!("{i:0>240}").into_bytes();
    let mut made = 0;
    while vol.create(&name(made)).is_ok() {
        made += 1;
    }
    assert!(made > 1000, "{made}");
    vol.checkpoint().expect("a checkpoint finds room");
    for i in 0..made {
        vol.remove(&name(i)).expect("a removal finds room");
    }
    vol.checkpoint().expect("a checkpoint finds room");
    vol.checkpoint().expect("a checkpoint finds room");
    sound(&vol);
    vol.create(b"again").expect("there is room again");
}

/// A superblock that counts so far that adding to it overflows, or whose journal
/// would take all memory, is damaged, whatever its checksum says.
#[test]
fn superblocks_that_no_store_writes_are_refused() {
    type Damage = fn(&mut Superblock);
    let cases: [(&str, Damage); 4] = [
        ("place", |sb| sb.cut_pos = u64::MAX - 1),
        ("records", |sb| sb.cut_seq = u64::MAX),
        ("groups", |sb| sb.cut_group = u64::MAX),
        ("shares", |sb| sb.share_gen = u64::MAX),
    ];
    for (what, damage) in cases {
        let (sim, vol) = store(7);
        drop(vol);
        for slot in 0..2 {
            let mut block = *sim.peek(slot);
            let mut sb = superblock::decode(&block, slot).expect("a superblock");
            damage(&mut sb);
            superblock::encode(&sb, slot, &mut block).expect("it can be written");
            sim.poke(slot, &block).expect("there is such a block");
        }
        let Err(refused) = Volume::open(sim.medium(), &OpenSpec::default()) else {
            panic!("{what}: it opened");
        };
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{what}: {refused}");
    }
}

/// A store that is made again with the same id finds nothing of its former life.
#[test]
fn a_store_made_again_with_its_id_is_empty() {
    let sim = SimMedium::new(SimOptions::default());
    let spec = FormatSpec { id: Some([5; 16]), ..FormatSpec::default() };
    let vol = Volume::format(sim.medium(), &spec).expect("a store");
    for name in [b"a", b"b", b"c"] {
        vol.create(name).expect("a file");
        vol.sync().expect("it syncs");
    }
    drop(vol);
    drop(Volume::format(sim.medium(), &spec).expect("a store"));
    let vol = Volume::open(sim.medium(), &OpenSpec::default()).expect("it opens");
    assert_eq!(vol.list(b"", None, None, 9).expect("a listing").entries.len(), 0);
    sound(&vol);
}
