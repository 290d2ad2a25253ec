//! A store over the driver: what it makes of resets, and of a controller that is lost.

use super::served::{Served, options};
use freehold::{Access, ErrorKind, FormatOptions, LeaseOptions, OpenOptions, Store};
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
        for block in 0..200u64 {
            let mut back = vec![0; 4 * KIB];
            files[0].read_at(&mut back, block * 4096).unwrap();
            assert!(back == bytes(3 ^ block as u8, 4 * KIB), "block {block}");
        }
        assert!(store.check().unwrap().clean());
    }
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
