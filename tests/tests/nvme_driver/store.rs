//! A store over the driver: what it makes of resets, and of a controller that is lost.

use super::served::{Served, options};
use freehold::{
    Access, Completion, ErrorKind, FormatOptions, LeaseOptions, Memory, OpenOptions, Queue, Store,
};
use freehold_engine::emulator::{CmbOptions, Fault, Options};

const KIB: usize = 1024;

fn faulty(fault: &str) -> Options {
    let faults = vec![fault.parse::<Fault>().expect("a fault")];
    Options { lba: 4096, faults, ..options() }
}

/// Bytes that say what they are of.
fn bytes(salt: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7) as u8 ^ salt).collect()
}

/// The engine's own copies go by the device's Copy, else through its memory buffer, else
/// through the host's memory; nothing goes by two ways.
#[test]
fn blocks_are_copied_without_host_memory_where_the_device_can() {
    let cmb = Some(CmbOptions::new(4 << 20));
    let writes_only = cmb.map(|cmb| CmbOptions { rds: false, ..cmb });
    // Copy, buffer; which of the three ways is taken.
    let cases = [(true, cmb, 0), (false, cmb, 1), (false, writes_only, 2), (false, None, 2)];
    for (copy, cmb, way) in cases {
        let served = Served::new(Options { lba: 4096, copy, cmb, ..options() });
        let store = Store::format(&served.uri(), &FormatOptions::default()).unwrap();
        let files = [b"a", b"b"].map(|name| store.create(name).unwrap());
        for block in (0..200u64).rev() {
            for (file, salt) in files.iter().zip([3, 4]) {
                file.write_at(&bytes(salt ^ block as u8, 4 * KIB), block * 4096).unwrap();
            }
        }
        let moved = files[0].defrag(0, u64::MAX).unwrap().moved;
        assert!(moved >= 190 * 4096, "{moved} bytes moved");
        let stats = store.stats();
        let ways = [stats.copied_by_device, stats.copied_through_cmb, stats.copied_through_host];
        let mut wanted = [0; 3];
        wanted[way] = moved;
        assert_eq!(ways, wanted, "copy {copy}, {cmb:?}");

        // Blocks become a file's own in the same way: for `allocate`, and for a lease that
        // writes. Only the block in which the file ends comes through host memory.
        files[0].write_at(b"its end", 200 * 4096).unwrap();
        for (name, leased) in [(b"c", false), (b"d", true)] {
            let own = store.reflink(b"a", name).unwrap();
            let size = 200 * 4096 + 7;
            match leased {
                false => own.allocate(0, size).unwrap(),
                true => drop(own.lease(.., Access::Write, &LeaseOptions::default()).unwrap()),
            }
            wanted[way] += 200 * 4096;
            let stats = store.stats();
            let ways =
                [stats.copied_by_device, stats.copied_through_cmb, stats.copied_through_host];
            assert_eq!(ways, wanted, "{name:?}, {cmb:?}, leased {leased}");
            own.write_at(b"its own", 0).unwrap();
        }
        for (name, own) in [(b"a", false), (b"c", true), (b"d", true)] {
            let file = store.open_file(name).unwrap();
            for block in 0..200u64 {
                let mut back = vec![0; 4 * KIB];
                file.read_at(&mut back, block * 4096).unwrap();
                let mut wanted = bytes(3 ^ block as u8, 4 * KIB);
                if own && block == 0 {
                    wanted[..7].copy_from_slice(b"its own");
                }
                assert!(back == wanted, "block {block}");
            }
            let mut back = [0; 8];
            assert_eq!(file.read_at(&mut back, 200 * 4096).unwrap(), 7);
            assert_eq!(&back[..7], b"its end");
        }
        assert!(store.check().unwrap().clean());
    }
}

fn one(queue: &mut Queue) -> Completion {
    let mut done = Vec::new();
    while done.is_empty() {
        queue.wait(None).unwrap();
        queue.poll(&mut done);
    }
    done.remove(0)
}

/// Buffers may lie in the controller's own memory: of leases, and of plain I/O.
#[test]
fn buffers_lie_in_the_controllers_memory_where_it_has_some() {
    let cmb = CmbOptions { sqs: false, ..CmbOptions::new(64 << 10) };
    let served = Served::new(Options { lba: 4096, cmb: Some(cmb), ..options() });
    let store = Store::format(&served.uri(), &FormatOptions::default()).unwrap();
    let file = store.create(b"f").unwrap();
    file.write_at(&bytes(9, 64 * KIB), 0).unwrap();
    let mut queue = store.queue(8).unwrap();
    let lease = file.lease(.., Access::Write, &LeaseOptions::default()).unwrap();

    let page = lease.buffer_in(Memory::Cmb, 4096..8192).unwrap();
    queue.fill(page, 1).unwrap();
    let mut page = one(&mut queue).take_lease().unwrap();
    page.pin_mut().unwrap().store(5, b"there").unwrap();
    let mut wanted = bytes(9, 64 * KIB);
    wanted[4101..4106].copy_from_slice(b"there");
    assert!(page.pin().unwrap().slice(0, 4096).unwrap() == &wanted[4096..8192]);
    queue.flush(page, 2).unwrap();
    let page = one(&mut queue).take_lease().unwrap();

    let buf = queue.buffer_in(Memory::Cmb, 8 * KIB).unwrap();
    queue.read(&file, 0, buf, 3).unwrap();
    let buf = one(&mut queue).buf.unwrap();
    assert!(buf[..] == wanted[..8 * KIB]);
    queue.write(&file, 32 * KIB as u64, buf, 4).unwrap();
    let buf = one(&mut queue).buf.unwrap();
    wanted.copy_within(..8 * KIB, 32 * KIB);
    let mut back = vec![0; 64 * KIB];
    file.read_at(&mut back, 0).unwrap();
    assert!(back == wanted);

    // It is small, and says so.
    let full = lease.buffer(Memory::Cmb).unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Limit, "{full}");
    assert_eq!(queue.buffer_in(Memory::Window, 4096).unwrap_err().kind(), ErrorKind::Invalid);
    let part = lease.buffer_in(Memory::Window, 0..4096).unwrap_err();
    assert_eq!(part.kind(), ErrorKind::Invalid);
    drop((page, buf, lease));

    let served = Served::new(Options { lba: 4096, ..options() });
    let store = Store::format(&served.uri(), &FormatOptions::default()).unwrap();
    let none = store.queue(1).unwrap().buffer_in(Memory::Cmb, 4096).unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Unsupported, "{none}");
}

/// Resets are the driver's and the block map's business: nothing of them reaches a caller.
#[test]
fn a_store_lives_through_resets() {
    for fault in ["duplicate:op=io,every=211", "fatal:op=write,nth=90"] {
        let served = Served::new(faulty(fault));
        let store = Store::format(&served.uri(), &FormatOptions::default()).unwrap();
        let file = store.create(b"f").unwrap();
        for round in 0..60u8 {
            file.write_at(&bytes(round, 40 * KIB), u64::from(round) * 4096).unwrap();
            file.sync().unwrap();
            let mut back = vec![0; 40 * KIB];
            file.read_at(&mut back, u64::from(round) * 4096).unwrap();
            assert!(back == bytes(round, 40 * KIB), "{fault}: round {round}");
        }
        assert!(store.check().unwrap().clean(), "{fault}");
        drop(file);
        store.close().unwrap();
        let store = Store::open(&served.uri(), &OpenOptions::default()).unwrap();
        let file = store.open_file(b"f").unwrap();
        let mut back = vec![0; 4096];
        file.read_at(&mut back, 0).unwrap();
        assert!(back == bytes(0, 40 * KIB)[..4096], "{fault}");
    }
}

/// Nor of one that comes while it is looked at what the medium carries, before a format.
#[test]
fn what_a_medium_carries_is_read_again_after_a_reset() {
    for nth in 1..=6 {
        let served = Served::new(faulty(&format!("fatal:op=read,nth={nth}")));
        let store = Store::format(&served.uri(), &FormatOptions::default()).unwrap();
        store.close().unwrap();
    }
}

/// Part D, 3, and laws M3 and M4, from the top: plain I/O and I/O through a lease end in
/// errors, some of it without its buffers; the store is poisoned, and opens again with
/// what was synced.
#[test]
fn d3_m3_m4_a_store_whose_controller_vanishes_is_poisoned() {
    let served = Served::new(faulty("vanish:op=write,nth=500"));
    let store = Store::format(&served.uri(), &FormatOptions::default()).unwrap();
    let (safe, busy) = (store.create(b"safe").unwrap(), store.create(b"busy").unwrap());
    safe.write_at(&bytes(1, 256 * KIB), 0).unwrap();
    busy.write_at(&bytes(2, 256 * KIB), 0).unwrap();
    store.sync().unwrap();
    let lease = busy.lease(.., Access::Write, &LeaseOptions::default()).unwrap();
    let mut queue = store.queue(16).unwrap();
    let (mut done, mut lost, mut tag) = (Vec::new(), 0, 0);
    while lost == 0 {
        for _ in 0..4 {
            tag += 1;
            if let Ok(buf) = queue.buffer(4096) {
                let _ = queue.write(&safe, (1 << 20) + tag % 50 * 4096, buf, tag);
            }
            let place = tag % 32 * 8192;
            if let Ok(buffer) = lease.buffer_at(place..place + 8192) {
                let _ = queue.flush(buffer, tag);
            }
        }
        if queue.poll(&mut done) == 0 && queue.wait(None).is_err() {
            queue.poll(&mut done);
        }
        lost += done.drain(..).filter(|c| c.result.is_err()).count();
    }
    // What is in flight still ends.
    for _ in 0..10_000 {
        let _ = queue.wait(Some(std::time::Duration::from_millis(1)));
        if queue.poll(&mut done) == 0 {
            break;
        }
    }
    let poisoned = store.sync().unwrap_err();
    assert!(matches!(poisoned.kind(), ErrorKind::Poisoned | ErrorKind::Gone), "{poisoned}");
    let withheld = store.stats().withheld_bytes;
    assert!(withheld > 0, "{:?}", store.stats());
    // Law M4: whoever asks what may still reach memory of the store is told.
    assert_eq!((store.space().withheld, store.inflight().withheld), (withheld, withheld));
    assert!(!store.inflight().is_empty());
    assert!(safe.write_at(b"more", 0).is_err());
    assert!(safe.read_at(&mut [0; 4096], 0).is_err());
    drop((done, lease, queue, safe, busy, store));
    let store = Store::open(&served.uri(), &OpenOptions::default()).unwrap();
    let mut back = vec![0; 256 * KIB];
    store.open_file(b"safe").unwrap().read_at(&mut back, 0).unwrap();
    assert!(back == bytes(1, 256 * KIB));
    assert!(store.check().unwrap().clean());
    assert_eq!((store.stats().withheld_bytes, store.inflight().withheld), (0, 0));
}
