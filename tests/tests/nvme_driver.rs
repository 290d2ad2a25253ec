//! The NVMe driver on the emulated controller: the medium contract, and what the driver
//! does when commands are late, lost, or answered wrongly.

mod nvme_driver {
    pub(crate) mod served;
    pub(crate) mod store;
    pub(crate) mod trouble;
}

use freehold_engine::OpenOptions;
use freehold_engine::bus::Counted;
use freehold_engine::counting::{Counting, allocations};
use freehold_engine::emulator::{CmbOptions, Options, Profile, RegionOptions};
use freehold_engine::medium::{Completion, Op, Queue};
use freehold_engine::memory::Buffer;
use freehold_engine::nvme::{Timeouts, open_on};
use freehold_engine::vfio_user::{Client, ClientOptions};
use freehold_tests::conformance::{MIN_BLOCKS, run_all};
use freehold_tests::nvme::served::fresh_path;
use nvme_driver::served::{Served, options};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs the suite; each medium on an emulator of its own, all of which end with it.
fn conforms(make: impl Fn() -> Options) {
    let served = Mutex::new(Vec::new());
    run_all(&|| {
        let one = Served::new(make());
        let medium = one.open();
        served.lock().expect("no holder panics").push(one);
        medium
    });
}

#[test]
fn conformance_with_a_memory_buffer() {
    // Queues, lists and bounced data; then one that has room for little, and one for data.
    let cmb = CmbOptions::new(8 << 20);
    conforms(|| Options { cmb: Some(cmb), sgl: false, ..options() });
    conforms(|| Options { cmb: Some(CmbOptions::new(64 << 10)), ..options() });
    let data = CmbOptions { sqs: false, lists: false, ..cmb };
    conforms(|| Options { cmb: Some(data), lba: 4096, ..options() });
}

/// Copies through the controller's own memory, beside a controller that goes fatal.
#[test]
fn data_go_through_the_memory_buffer() {
    let faults = vec!["fatal:nth=40".parse().expect("a fault")];
    let cmb = Some(CmbOptions::new(4 << 20));
    let served = Served::new(Options { cmb, faults, ..options() });
    let medium = served.open();
    let staging = medium.staging().expect("RDS and WDS are set");
    let mut queue = medium.queue(16).expect("a queue");
    let mut run = |op: Op| {
        queue.submit(1, op).expect("there is room");
        let mut done = Vec::new();
        while queue.poll(&mut done) == 0 {
            queue.wait(None).expect("it lives");
        }
        let one = done.remove(0);
        (one.result.map_err(|e| e.kind()), one.buf)
    };
    let mut resets = 0;
    for round in 0..64u64 {
        let (from, to) = (round * 8, 4096 + round * 8);
        let mut buf = medium.pool().take(32 << 10).expect("memory");
        buf.iter_mut().zip(0u64..).for_each(|(b, i)| *b = (i * 7 + round) as u8);
        let wanted = buf.to_vec();
        // A reset cuts one off; it is done again.
        let mut again = |make: &dyn Fn() -> Op| loop {
            match run(make()) {
                (Ok(()), buf) => break buf,
                (Err(kind), _) => {
                    assert_eq!(kind, freehold_engine::medium::ErrorKind::Reset);
                    resets += 1;
                }
            }
        };
        again(&|| {
            let mut buf = medium.pool().take(32 << 10).expect("memory");
            buf.copy_from_slice(&wanted);
            Op::Write { at: from, buf, fua: false }
        });
        let through = again(&|| {
            let buf = staging.take(32 << 10).expect("room in the buffer");
            Op::Read { at: from, buf }
        });
        assert!(through.is_some());
        drop(through);
        again(&|| {
            let mut buf = staging.take(32 << 10).expect("room in the buffer");
            buf.copy_from_slice(&wanted);
            Op::Write { at: to, buf, fua: false }
        });
        let back = again(&|| {
            let buf = medium.pool().take(32 << 10).expect("memory");
            Op::Read { at: to, buf }
        });
        assert_eq!(back.expect("a buffer")[..], wanted);
    }
    assert_eq!(resets, 1, "the fault struck");
}

/// The suite on the Persistent Memory Region of emulators of this kind.
fn region_conforms(volatile_cache: bool) {
    let served = Mutex::new(Vec::new());
    run_all(&|| {
        let path = fresh_path("pmr");
        let region = Some(RegionOptions::new(&path, MIN_BLOCKS * 4096));
        let one = Served::new(Options { region, volatile_cache, ..options() });
        let uri = format!("pmr:{}", one.uri());
        let medium = freehold_engine::open(&uri, &OpenOptions::default()).expect("it opens");
        // It is open, and nobody else needs its name.
        std::fs::remove_file(&path).expect("it was made");
        served.lock().expect("no holder panics").push(one);
        medium
    });
}

#[test]
fn conformance_of_a_region() {
    region_conforms(false);
}

#[test]
fn conformance_of_a_region_with_a_volatile_cache() {
    region_conforms(true);
}

#[test]
fn conformance_with_blocks_of_4096() {
    conforms(|| Options { lba: 4096, ..options() });
}

#[test]
fn conformance_with_blocks_of_512_and_prps() {
    conforms(|| Options { sgl: false, ..options() });
}

#[test]
fn conformance_without_shadow_doorbells() {
    conforms(|| Options { shadow_doorbells: false, volatile_cache: true, ..options() });
}

#[test]
fn conformance_as_qemu() {
    conforms(|| Options { profile: Profile::Qemu, lba: 4096, ..options() });
}

#[test]
fn conformance_as_spdk() {
    conforms(|| Options { profile: Profile::Spdk, ..options() });
}

/// Reads, writes and flushes of a healthy queue, those of several commands included, take
/// nothing from the heap. Messages do: where the emulator gets no processor it is woken by
/// one, or asked for its status after a tenth of a second. Rounds with messages say nothing.
#[test]
fn the_hot_path_allocates_nothing() {
    let served = Served::new(options());
    let counted = Client::connect(&served.socket, &ClientOptions::default()).unwrap();
    let counted = Counted::new(counted, 0);
    let messages = counted.count();
    let medium = open_on(Arc::new(counted), 1, Timeouts::default(), false).unwrap();
    let mut queue = medium.queue(64).unwrap();
    let mut done = Vec::with_capacity(64);
    let sizes = [4096, 8192, 65536, 1 << 20];
    let mut buffers: Vec<_> =
        (0..32).map(|i| medium.pool().take(sizes[i % sizes.len()]).unwrap()).collect();
    every_kind(&mut *queue, &mut done, &mut buffers);
    let mut said = 0;
    for _ in 0..2000 {
        let (begun, sent, before) = (Instant::now(), messages.load(Relaxed), allocations());
        every_kind(&mut *queue, &mut done, &mut buffers);
        let after = allocations();
        if messages.load(Relaxed) == sent && begun.elapsed() < Duration::from_millis(50) {
            assert_eq!(after, before, "a round without messages allocated");
            said += 1;
        }
        if said == 100 {
            return;
        }
    }
    assert!(said > 0, "every round of 2000 needed messages");
}

/// One round of all that a queue does, each to its end.
fn every_kind(queue: &mut dyn Queue, done: &mut Vec<Completion>, buffers: &mut Vec<Buffer>) {
    for (tag, buf) in buffers.drain(..).enumerate() {
        let (tag, at) = (tag as u64, 300 * tag as u64);
        let op = match tag % 2 {
            0 => Op::Read { at, buf },
            _ => Op::Write { at, buf, fua: tag % 4 == 1 },
        };
        queue.submit(tag, op).unwrap();
    }
    queue.submit(99, Op::Flush).unwrap();
    queue.submit(98, Op::WriteZeroes { at: 0, count: 100 }).unwrap();
    queue.ring();
    while queue.in_flight() > 0 {
        queue.poll(done);
    }
    for completion in done.drain(..) {
        completion.result.unwrap();
        buffers.extend(completion.buf);
    }
}
