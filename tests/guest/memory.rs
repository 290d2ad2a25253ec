//! CMB and PMR of a controller over VFIO: queues and data in the first, a medium and a journal
//! in the second; interrupts; two controllers at once.

use crate::place::{FIRST, freehold_must, namespace, region, second};
use freehold::{Access, Completion, FormatOptions, LeaseOptions, Memory, Queue, Store};
use freehold_engine::medium::Op;
use freehold_engine::{FormatOptions as MediumFormat, format_target};
use std::time::Duration;

const KIB: usize = 1024;

fn force() -> FormatOptions {
    FormatOptions { force: true, ..FormatOptions::default() }
}

fn one(queue: &mut Queue) -> Completion {
    let mut done = Vec::new();
    while done.is_empty() {
        queue.wait(None).expect("it waits");
        queue.poll(&mut done);
    }
    done.remove(0)
}

#[test]
fn vfio_info_tells_of_both_memories() {
    let told = freehold_must(&["info", &namespace(FIRST, 1).replace("?ns=1", "")]);
    for what in ["buffer size", "buffer submission queues", "region size", "region barrier"] {
        assert!(told.contains(what), "{what} is not in\n{told}");
    }
}

/// Data of leases and of plain I/O lie in the controller's own memory, both ways.
#[test]
fn vfio_data_go_through_the_memory_buffer() {
    let store = Store::format(&namespace(FIRST, 1), &force()).expect("a store");
    let file = store.create(b"f").expect("a file");
    let mut wanted: Vec<u8> = (0..64 * KIB).map(|i| (i / 7) as u8).collect();
    file.write_at(&wanted, 0).expect("it writes");
    let mut queue = store.queue(8).expect("a queue");
    let lease = file.lease(.., Access::Write, &LeaseOptions::default()).expect("a lease");
    let page = lease.buffer_in(Memory::Cmb, 4096..8192).expect("room in the CMB");
    queue.fill(page, 1).expect("it is submitted");
    let mut page = one(&mut queue).take_lease().expect("its buffer");
    page.pin_mut().expect("a pin").store(5, b"there").expect("it stores");
    wanted[4101..4106].copy_from_slice(b"there");
    queue.flush(page, 2).expect("it is submitted");
    drop(one(&mut queue).take_lease().expect("its buffer"));
    let buf = queue.buffer_in(Memory::Cmb, 8 * KIB).expect("room in the CMB");
    queue.read(&file, 0, buf, 3).expect("it is submitted");
    let buf = one(&mut queue).buf.expect("its buffer");
    assert!(buf[..] == wanted[..8 * KIB]);
    queue.write(&file, 32 * KIB as u64, buf, 4).expect("it is submitted");
    drop(one(&mut queue).buf.expect("its buffer"));
    wanted.copy_within(..8 * KIB, 32 * KIB);
    let mut back = vec![0; 64 * KIB];
    file.read_at(&mut back, 0).expect("it reads");
    assert!(back == wanted);
    drop(lease);
    drop(queue);
    drop(file);
    store.close().expect("it closes");
}

/// Blocks become a file's own by the device's Copy: no byte goes through the host.
#[test]
fn vfio_blocks_are_copied_by_the_device() {
    let store = Store::format(&namespace(FIRST, 2), &force()).expect("a store");
    let file = store.create(b"a").expect("a file");
    let wanted: Vec<u8> = (0..800 * KIB).map(|i| (i / 11) as u8).collect();
    file.write_at(&wanted, 0).expect("it writes");
    file.sync().expect("it syncs");
    let copy = store.reflink(b"a", b"b").expect("a reflink");
    copy.allocate(0, 800 * KIB as u64).expect("its own blocks");
    let stats = store.stats();
    assert!(stats.copied_by_device >= 800 * KIB as u64, "{stats:?}");
    assert_eq!((stats.copied_through_cmb, stats.copied_through_host), (0, 0));
    let mut back = vec![0; wanted.len()];
    copy.read_at(&mut back, 0).expect("it reads");
    assert!(back == wanted);
}

/// Interrupts of VFIO for a controller's vectors so far.
fn interrupts(bdf: &str) -> u64 {
    let all = std::fs::read_to_string("/proc/interrupts").expect("procfs");
    let ours = all.lines().filter(|line| line.contains("vfio-msix") && line.contains(bdf));
    let counts =
        ours.flat_map(|line| line.split_whitespace().skip(1).map_while(|n| n.parse::<u64>().ok()));
    counts.sum()
}

/// `wait` sleeps until the controller's interrupt, and uses no processor meanwhile.
#[test]
fn vfio_waiting_is_ended_by_an_interrupt() {
    let uri = namespace(FIRST, 3);
    let options = MediumFormat { force: true, ..MediumFormat::default() };
    let medium = format_target(&uri, &options).expect("it opens");
    let mut queue = medium.queue(4).expect("a queue");
    let before = interrupts(FIRST);
    for at in 0..20 {
        let buf = medium.pool().take(4096).expect("memory");
        queue.submit(at, Op::Read { at, buf }).expect("there is room");
        let mut done = Vec::new();
        while queue.poll(&mut done) == 0 {
            queue.wait(Some(Duration::from_secs(20))).expect("it waits");
        }
        done.remove(0).result.expect("it reads");
    }
    let came = interrupts(FIRST) - before;
    assert!(came > 0, "20 reads and no interrupt");
}

/// Two controllers at once, each with its own IOMMU domain: what is read from one is written to
/// the other.
#[test]
fn vfio_two_controllers_side_by_side() {
    let stores = [namespace(FIRST, 1), namespace(&second(), 1)]
        .map(|uri| Store::format(&uri, &force()).expect("a store"));
    let files = stores.each_ref().map(|store| store.create(b"f").expect("a file"));
    let wanted: Vec<u8> = (0..300 * KIB).map(|i| (i / 5) as u8).collect();
    files[0].write_at(&wanted, 77).expect("it writes");
    let mut through = vec![0; wanted.len()];
    files[0].read_at(&mut through, 77).expect("it reads");
    files[1].write_at(&through, 99).expect("it writes");
    files.iter().for_each(|file| file.sync().expect("it syncs"));
    let mut back = vec![0; wanted.len()];
    files[1].read_at(&mut back, 99).expect("it reads");
    assert!(back == wanted);
}

/// What is in the region when the guest is booted again: a store that this boot finds from the
/// last, if there was one, and leaves for the next.
#[test]
fn vfio_a_region_outlives_its_guest() {
    use crate::place::shared;
    let told = shared().join("region-holds");
    if told.exists() {
        let store = Store::open(&region(), &Default::default()).expect("the last boot's store");
        let mut bytes = [0; 9];
        let file = store.open_file(b"kept").expect("the last boot's file");
        file.read_at(&mut bytes, 0).expect("it reads");
        assert_eq!(&bytes, b"last boot");
    }
    let store = Store::format(&region(), &force()).expect("a store");
    let file = store.create(b"kept").expect("a file");
    file.write_durable_at(b"last boot", 0).expect("it writes");
    std::fs::write(told, "").expect("the host's folder takes it");
    // Not closed: the next boot recovers it.
    std::mem::forget((file, store));
}
