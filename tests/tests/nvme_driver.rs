//! The NVMe driver on the emulated controller: the medium contract, and what the driver
//! does when commands are late, lost, or answered wrongly.

mod nvme_driver {
    pub(crate) mod served;
    pub(crate) mod store;
    pub(crate) mod trouble;
}

use freehold_engine::OpenOptions;
use freehold_engine::counting::{Counting, allocations};
use freehold_engine::emulator::{Options, Profile, RegionOptions};
use freehold_engine::medium::Op;
use freehold_tests::conformance::{MIN_BLOCKS, run_all};
use freehold_tests::nvme::served::fresh_path;
use nvme_driver::served::{Served, options};
use std::sync::Mutex;

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
/// nothing from the heap.
#[test]
fn the_hot_path_allocates_nothing() {
    let served = Served::new(options());
    let medium = served.open();
    let mut queue = medium.queue(64).unwrap();
    let mut done = Vec::with_capacity(64);
    let sizes = [4096, 8192, 65536, 1 << 20];
    let mut buffers: Vec<_> =
        (0..32).map(|i| medium.pool().take(sizes[i % sizes.len()]).unwrap()).collect();
    let round = |queue: &mut dyn freehold_engine::medium::Queue,
                 done: &mut Vec<_>,
                 buffers: &mut Vec<freehold_engine::memory::Buffer>| {
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
    };
    round(&mut *queue, &mut done, &mut buffers);
    // Where the emulator gets no processor for a tenth of a second, the driver asks for the
    // status by a message, which takes a buffer.
    let mut allocating = 0;
    for _ in 0..100 {
        let before = allocations();
        round(&mut *queue, &mut done, &mut buffers);
        allocating += u32::from(allocations() != before);
    }
    assert!(allocating < 20, "{allocating} of 100 rounds allocated");
}
