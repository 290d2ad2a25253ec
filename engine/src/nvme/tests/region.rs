//! The Persistent Memory Region of a controller that a test plays: opening, barriers, and
//! what becomes of a region that fails.

use super::fake::Fake;
use super::{drain, kind};
use crate::bus::Function;
use crate::medium::{ErrorKind, Medium, Op, Queue, Result};
use crate::memory::{Access, Piece};
use crate::nvme::controller::Controller;
use crate::nvme::spec::registers::{PmrCap, PmrSts};
use crate::nvme::{Timeouts, open_on, open_region_on, pmr};
use crate::pin::{PinState, Waiter};
use std::sync::Arc;
use std::time::Duration;

const NOT_READY: u32 = PmrSts(0).with_nrdy(1).0;
const ERROR: u32 = PmrSts(0).with_err(3).0;

fn in_health(status: u32) -> u32 {
    PmrSts(0).with_hsts(status).0
}

/// In BAR 4, with barriers by a read of PMRSTS.
fn capable() -> PmrCap {
    PmrCap(0).with_bir(4).with_pmrwbm(2).with_pmrto(1)
}

fn open(fake: &Arc<Fake>, read_only: bool, format: bool) -> Result<Arc<dyn Medium>> {
    let timeouts = Timeouts { io: Duration::from_millis(60), admin: Duration::from_secs(1) };
    open_region_on(Arc::<Fake>::clone(fake), timeouts, read_only, format)
}

fn says(fake: &Fake, values: &[u32]) {
    fake.state().pmr_status = values.iter().copied().collect();
}

fn write(medium: &dyn Medium, queue: &mut dyn Queue, at: u64, byte: u8, fua: bool) {
    let mut buf = medium.pool().take(4096).unwrap();
    buf.fill(byte);
    queue.submit(at, Op::Write { at, buf, fua }).unwrap();
}

fn flush(queue: &mut dyn Queue) -> Option<ErrorKind> {
    queue.submit(99, Op::Flush).unwrap();
    kind(&drain(queue)[0])
}

#[test]
fn a_region_is_enabled_waited_for_and_written() {
    let fake = Fake::with_region(4, capable());
    says(&fake, &[NOT_READY, NOT_READY, 0]);
    let medium = open(&fake, false, false).unwrap();
    assert_eq!(fake.state().pmr_control, [1]);
    assert_eq!((medium.geometry().blocks, medium.geometry().volatile_cache), (4, true));
    let mut queue = medium.queue(8).unwrap();
    write(&*medium, &mut *queue, 1, 7, false);
    assert_eq!(kind(&drain(&mut *queue)[0]), None);
    let region = Arc::clone(fake.state().region.as_ref().unwrap());
    assert_eq!(region.load(4096), 0x0707_0707_0707_0707);
    assert_eq!(region.load(8192), 0);
    medium.window().unwrap().store(8200, &[9; 8]).unwrap();
    assert_eq!(region.load(8200), 0x0909_0909_0909_0909);
    let mut back = [0; 8];
    medium.window().unwrap().load(8196, &mut back).unwrap();
    assert_eq!(back, [0, 0, 0, 0, 9, 9, 9, 9]);
}

/// References part D, number 6: PMRWBM names the barrier, and it is made.
#[test]
fn d6_what_is_promised_is_behind_the_barrier_that_the_region_names() {
    let fake = Fake::with_region(4, capable());
    let medium = open(&fake, false, false).unwrap();
    let mut queue = medium.queue(8).unwrap();
    let barriers = || std::mem::take(&mut fake.state().barriers);
    barriers();
    write(&*medium, &mut *queue, 1, 7, false);
    drain(&mut *queue);
    assert_eq!(barriers(), 0, "a plain write promises nothing");
    assert_eq!((flush(&mut *queue), barriers()), (None, 1));
    // What is rung together shares one.
    for block in 0..4 {
        write(&*medium, &mut *queue, block, 8, true);
    }
    queue.submit(99, Op::Flush).unwrap();
    assert_eq!(drain(&mut *queue).len(), 5);
    assert_eq!(barriers(), 1);
    medium.window().unwrap().persist(0, 8).unwrap();
    assert_eq!(barriers(), 1);
    // A lease's write-back of two extents is one, too.
    let lease = PinState::new(&Waiter::none()).shared();
    let pieces = [Piece::at(0, 4096), Piece::at(8192, 4096)];
    let view = medium.window_memory().unwrap().view(Access::Write, &pieces, &lease).unwrap();
    let pin = view.pin().unwrap();
    pin.store(4000, &[1; 200]).unwrap();
    drop(pin);
    assert!(view.write_back().unwrap());
    assert_eq!(barriers(), 1);
    assert!(!view.write_back().unwrap(), "nothing is dirty");
    assert_eq!(barriers(), 0);
}

#[test]
fn a_barrier_by_a_read_of_the_region_touches_nobodys_bytes() {
    let fake = Fake::with_region(4, capable().with_pmrwbm(1));
    let medium = open(&fake, false, false).unwrap();
    assert_eq!(medium.geometry().blocks, 3, "the last block is read by barriers");
    let mut queue = medium.queue(8).unwrap();
    write(&*medium, &mut *queue, 2, 7, true);
    assert_eq!(kind(&drain(&mut *queue)[0]), None);
    says(&fake, &[ERROR]);
    assert_eq!(flush(&mut *queue), Some(ErrorKind::Io), "errors are looked for");
}

#[test]
fn a_region_that_does_not_become_ready_is_given_up() {
    let fake = Fake::with_region(4, capable());
    says(&fake, &[NOT_READY]);
    let error = open(&fake, false, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gone);
    assert!(error.message().contains("PMRTO"), "{error}");
}

#[test]
fn health_decides_how_a_region_opens() {
    // Health, and how opening ends: for writing, for reading, for formatting.
    let io = Some(ErrorKind::Io);
    let table = [
        (in_health(0), [None, None, None]),
        (in_health(1), [io, None, None]),
        (in_health(2), [Some(ErrorKind::Permission), None, Some(ErrorKind::Permission)]),
        (in_health(3), [io, None, io]),
        (in_health(4), [io, io, io]),
        (in_health(7), [io, io, io]),
        (ERROR, [io, io, io]),
        (u32::MAX, [Some(ErrorKind::Gone); 3]),
    ];
    for (status, answers) in table {
        for (use_, answer) in [(false, false), (true, false), (false, true)].iter().zip(answers) {
            let fake = Fake::with_region(4, capable());
            says(&fake, &[status]);
            let got = open(&fake, use_.0, use_.1).map_err(|e| e.kind());
            assert_eq!(got.as_ref().err().copied(), answer, "PMRSTS {status:08x}h, {use_:?}");
            let Ok(medium) = got else { continue };
            let buf = medium.pool().take(4096).unwrap();
            let mut queue = medium.queue(4).unwrap();
            let taken = queue.submit(0, Op::Write { at: 0, buf, fua: false });
            assert_eq!(taken.is_err(), use_.0);
            let stored = medium.window().unwrap().store(0, &[1]).map_err(|e| e.kind());
            assert_eq!(stored.err(), use_.0.then_some(ErrorKind::Permission));
        }
    }
}

#[test]
fn an_error_of_a_former_user_is_forgotten_by_disabling_the_region() {
    let fake = Fake::with_region(4, capable());
    says(&fake, &[ERROR, NOT_READY, 0]);
    open(&fake, false, false).unwrap();
    assert_eq!(fake.state().pmr_control, [1, 0, 1]);
}

/// Law M3: what no barrier covered is lost, and nothing is promised any more.
#[test]
fn m3_a_barrier_that_failed_fails_for_ever_and_reads_go_on() {
    let bad = [ERROR, NOT_READY, in_health(1), in_health(2), in_health(3), in_health(5)];
    for status in bad {
        let fake = Fake::with_region(4, capable());
        let medium = open(&fake, false, false).unwrap();
        let mut queue = medium.queue(8).unwrap();
        write(&*medium, &mut *queue, 1, 7, false);
        drain(&mut *queue);
        assert_eq!(medium.losses(), 0);
        says(&fake, &[status, 0]);
        write(&*medium, &mut *queue, 2, 8, true);
        write(&*medium, &mut *queue, 3, 8, false);
        let done = drain(&mut *queue);
        let kinds: Vec<_> = done.iter().map(kind).collect();
        assert_eq!(kinds, [Some(ErrorKind::Io), None], "PMRSTS {status:08x}h");
        assert_eq!(medium.losses(), 1);
        // The register is sound again; the region is not.
        let buf = medium.pool().take(4096).unwrap();
        assert!(queue.submit(0, Op::Write { at: 0, buf, fua: false }).is_err());
        assert!(queue.submit(0, Op::Flush).is_err());
        assert!(medium.window().unwrap().store(0, &[1]).is_err());
        assert!(medium.window().unwrap().persist(0, 1).is_err());
        let mut back = [0; 4];
        medium.window().unwrap().load(4096, &mut back).unwrap();
        assert_eq!(back, [7; 4]);
    }
}

#[test]
fn a_region_that_was_not_restored_can_be_formatted_and_promises_again() {
    let fake = Fake::with_region(4, capable());
    says(&fake, &[in_health(1)]);
    let medium = open(&fake, false, true).unwrap();
    let mut queue = medium.queue(8).unwrap();
    write(&*medium, &mut *queue, 1, 7, true);
    assert_eq!(kind(&drain(&mut *queue)[0]), None);
}

#[test]
fn m3_a_reset_that_disables_the_region_is_found_by_the_next_barrier() {
    for forgets in [false, true] {
        let fake = Fake::with_region(4, capable());
        fake.state().pmr_forgets = forgets;
        let function: Arc<dyn Function> = Arc::<Fake>::clone(&fake);
        let controller = Controller::open(function, Timeouts::default()).unwrap();
        let medium = pmr::open(&controller, "pmr:fake", pmr::Use::Write).unwrap();
        let again = pmr::open(&controller, "pmr:fake", pmr::Use::Read).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Busy, "one window over a region");
        let mut queue = medium.queue(8).unwrap();
        assert_eq!(flush(&mut *queue), None);
        let starts = fake.state().starts;
        controller.reset(Controller::generation_of(controller.news()), "a test wants it");
        assert_eq!(fake.state().starts, starts + 1);
        assert_eq!(flush(&mut *queue).is_some(), forgets);
        assert_eq!(medium.losses(), u64::from(forgets));
    }
}

#[test]
fn a_vanished_controller_ends_the_region() {
    for cut in [false, true] {
        let fake = Fake::with_region(4, capable());
        let medium = open(&fake, false, false).unwrap();
        let mut queue = medium.queue(8).unwrap();
        match cut {
            true => fake.state().cut = true,
            false => fake.state().vanished = true,
        }
        says(&fake, &[u32::MAX]);
        assert_eq!(flush(&mut *queue), Some(ErrorKind::Gone));
        assert!(medium.losses() > 0);
        let buf = medium.pool().take(4096).unwrap();
        let refused = queue.submit(0, Op::Read { at: 0, buf }).unwrap_err();
        assert_eq!(refused.error.unwrap().kind(), ErrorKind::Gone);
        assert_eq!(medium.window().unwrap().load(0, &mut [0]).unwrap_err().kind(), ErrorKind::Gone);
    }
}

#[test]
fn what_is_no_region_is_refused_by_name() {
    let none = Fake::new();
    let error = open(&none, false, false).unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.message().contains("CAP.PMRS"));
    let fake = Fake::with_region(4, capable());
    fake.state().region = None;
    let error = open(&fake, false, false).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Unsupported && error.message().contains("mapped"),
        "{error}"
    );
    // Without a region its namespaces open as ever.
    let timeouts = Timeouts::default();
    open_on(none, 1, timeouts, false).unwrap();
}
