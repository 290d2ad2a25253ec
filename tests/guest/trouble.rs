//! A controller that goes fatal, one that is reset from under us, and one that is taken out
//! under load: errors that say so, and never a hang.

use crate::place::{FIRST, ask, bound, namespace, opened, second, wait};
use crate::raw::Raw;
use freehold::{FormatOptions, OpenOptions, Store};
use freehold_engine::medium::{ErrorKind, Medium, Op};
use freehold_engine::nvme::spec::command::Command;
use freehold_engine::nvme::spec::registers as reg;
use freehold_engine::nvme::{Timeouts, open_on};
use freehold_tests::conformance::Driver;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Nothing takes longer than this, whatever the device does.
const SOON: Duration = Duration::from_secs(60);

fn impatient() -> Timeouts {
    Timeouts { io: Duration::from_secs(3), ..Timeouts::default() }
}

/// Reads until it fails; why.
fn read_until_it_fails(medium: &Arc<dyn Medium>) -> ErrorKind {
    let mut queue = medium.queue(8).expect("a queue");
    let begun = Instant::now();
    let mut done = Vec::new();
    let mut at = 0;
    loop {
        assert!(begun.elapsed() < SOON, "it goes on as if nothing had happened");
        while queue.in_flight() < 8 {
            let Ok(buf) = medium.pool().take(4096) else { return ErrorKind::Gone };
            at = (at + 1) % 1000;
            if let Err(refused) = queue.submit(at, Op::Read { at, buf }) {
                return refused.error.map_or(ErrorKind::Busy, |e| e.kind());
            }
        }
        queue.ring();
        if let Err(e) = queue.wait(Some(Duration::from_secs(1))) {
            return e.kind();
        }
        queue.poll(&mut done);
        for one in done.drain(..) {
            match one.result {
                Ok(()) => {}
                // A reset is one that the driver got over.
                Err(e) if e.kind() == ErrorKind::Reset => {}
                Err(e) => return e.kind(),
            }
        }
    }
}

/// QEMU makes a completion queue in its CMB, against what it says of itself, and then is fatal
/// when it has something to say there. Our driver never asks for that; and it brings up a
/// controller that somebody left so.
#[test]
fn vfio_a_controller_that_was_left_fatal_is_brought_up() {
    bound(FIRST);
    let mut raw = Raw::open(opened(FIRST));
    // CMBMSC: its addresses, and that the device takes them for its own memory.
    let base = 0x4000_0000;
    raw.bar.write64(reg::CMBMSC, base | 3).expect("CMBMSC");
    assert_eq!(raw.run(&Command::create_cq(1, 16, base, None)), 0, "QEMU makes it");
    let sq = raw.pool.pages(4096).expect("a page");
    assert_eq!(raw.run(&Command::create_sq(1, 16, sq.iova(), 1)), 0);
    let data = raw.pool.pages(4096).expect("a page");
    sq.store_words(0, &Command::read(1, 0, 1).with_cid(7).with_prps(data.iova(), 0).0);
    let bell = raw.bar.register(reg::sq_doorbell(1, 0)).expect("a doorbell");
    bell.write(1).expect("a doorbell");
    raw.until("goes fatal", |csts| csts.cfs() == 1);
    drop(raw);
    let uri = namespace(FIRST, 1);
    let options = FormatOptions { force: true, ..FormatOptions::default() };
    let store = Store::format(&uri, &options).expect("the driver resets it");
    store.create(b"f").expect("a file").write_at(b"well", 0).expect("it writes");
    store.close().expect("it closes");
}

/// Its queues are taken away from under the driver: it sees the fatal status, tries a reset,
/// and gives up with an error.
#[test]
fn vfio_a_controller_that_goes_fatal_under_load_ends_in_an_error() {
    bound(FIRST);
    let function = opened(FIRST);
    let medium = open_on(Arc::clone(&function), 1, impatient(), false).expect("a namespace");
    let buffer = medium.pool().take(4096).expect("memory");
    let iova = medium.pool().device_address(&buffer).expect("an address");
    let ended = std::thread::scope(|scope| {
        let ended = scope.spawn(|| read_until_it_fails(&medium));
        std::thread::sleep(Duration::from_millis(500));
        // All memory that the driver has given it, whose pieces are not known here.
        let mut gone = 0;
        for at in (0..1024u64).map(|i| i << 21).chain([iova & !0xf_ffff]) {
            let sizes = (12..28).map(|bits| 1u64 << bits);
            gone += sizes.filter(|len| function.unmap(at, *len).is_ok()).count();
        }
        assert!(gone > 0, "there was nothing to take away");
        ended.join().expect("it does not panic")
    });
    assert!(matches!(ended, ErrorKind::Gone | ErrorKind::Io), "{ended:?}");
    drop(buffer);
}

/// A function level reset behind the driver's back: nothing that came before is believed. While
/// nothing is in flight: QEMU's controller (7.2) looks at queues that such a reset has freed if a
/// doorbell was rung just before, and ends with a segmentation fault now and then.
#[test]
fn vfio_m3_a_function_reset_is_no_controller_reset() {
    bound(FIRST);
    let function = opened(FIRST);
    let medium = open_on(Arc::clone(&function), 1, impatient(), false).expect("a namespace");
    let mut driver = Driver::new(&medium, 8);
    driver.write(0, 8, 1);
    driver.expect(0, 8, 1);
    let losses = medium.losses();
    function.reset().expect("the function can be reset");
    drop(driver);
    let ended = read_until_it_fails(&medium);
    assert!(matches!(ended, ErrorKind::Gone | ErrorKind::Io), "{ended:?}");
    assert!(medium.losses() > losses, "writes count as lost");
}

/// The host takes the device out while a store works on it. The kernel asks for it back, gets
/// it, and the store ends in errors; the device is put in again, and the store recovers.
#[test]
fn vfio_z_removal_under_load_ends_in_errors() {
    let bdf = second();
    let uri = namespace(&bdf, 1);
    let options = FormatOptions { force: true, ..FormatOptions::default() };
    let store = Store::format(&uri, &options).expect("a store");
    let file = store.create(b"f").expect("a file");
    file.write_at(b"before", 0).expect("it writes");
    file.sync().expect("it syncs");
    let ended = std::thread::scope(|scope| {
        let ended = scope.spawn(|| {
            let begun = Instant::now();
            for i in 0.. {
                let bytes = [i as u8; 8192];
                let done = file.write_at(&bytes, 4096 * (1 + i % 64)).and_then(|()| file.sync());
                if let Err(e) = done {
                    return e;
                }
                assert!(begun.elapsed() < SOON, "it goes on as if nothing had happened");
            }
            unreachable!("the loop has no end")
        });
        std::thread::sleep(Duration::from_secs(1));
        ask("device_del second");
        ended.join().expect("it does not panic")
    });
    let kind = ended.kind();
    assert!(
        matches!(
            kind,
            freehold::ErrorKind::Gone | freehold::ErrorKind::Poisoned | freehold::ErrorKind::Io
        ),
        "{kind:?}: {ended}"
    );
    let path = format!("/sys/bus/pci/devices/{bdf}");
    wait("the end of the device", || !Path::new(&path).exists());
    drop(file);
    drop(store);

    // The host may still be about to forget the old one.
    let mut asked = Instant::now() - SOON;
    wait("the device", || {
        if asked.elapsed() > Duration::from_secs(5) {
            ask("device_add nvme,id=second,serial=second,drive=b1,bus=port0");
            asked = Instant::now();
        }
        // The slot's news may have come while it was being emptied.
        let _ = std::fs::write("/sys/bus/pci/rescan", "1");
        Path::new(&path).exists()
    });
    bound(&bdf);
    let store = Store::open(&uri, &OpenOptions::default()).expect("it recovers");
    let mut bytes = [0; 6];
    let file = store.open_file(b"f").expect("the file is there");
    assert_eq!(file.read_at(&mut bytes, 0).expect("it reads"), 6);
    assert_eq!(&bytes, b"before");
    assert!(store.check().expect("it can be checked").clean());
}
