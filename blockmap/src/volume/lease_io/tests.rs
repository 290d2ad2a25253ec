//! What others may see of a command through a lease, at the moment at which they see it.

use crate::arbiter::Access;
use crate::lane::{Finished, LeaseTag};
use crate::volume::{FormatSpec, LeaseSpec, Volume};
use freehold_engine::medium::Medium;
use freehold_engine::pin::{Waiter, Wake, recall};
use freehold_engine::{FormatOptions, format_target};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

/// Stands for whoever waits for the end of a pin, and looks at what has landed as he is woken.
struct Witness {
    vol: Weak<Volume>,
    seen: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Witness {
    fn wake(&self) {
        let landed = self.vol.upgrade().map(|vol| vol.landed());
        self.seen.lock().expect("no holder panics").extend(landed);
    }
}

/// Whoever finds a lease unpinned may make durable what has landed, and then counts on what
/// went through it: so it has landed before it is unpinned, on the short way and the long.
#[test]
fn a_flush_has_landed_before_its_lease_is_unpinned() {
    let medium: Arc<dyn Medium> =
        format_target("mem:16M", &FormatOptions::default()).expect("memory");
    let vol = Volume::format(medium, &FormatSpec::default()).expect("a store");
    let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
    let witness = Witness { vol: Arc::downgrade(&vol), seen: seen.clone() };
    assert!(vol.leasing.bell.set(Waiter::new(witness)).is_ok(), "nobody has leased yet");
    let file = vol.create(b"f").expect("a file");
    vol.write_at(&file, &[1; 8192], 0).expect("it writes");
    let spec = LeaseSpec { access: Access::Write, max_hold: Duration::ZERO };
    for short in [false, true] {
        let lease = vol.lease(&file, &vol.default_session(), (0, 8192), spec).expect("a lease");
        let mut queue = vol.queue(4).expect("a queue");
        let mut done: Vec<Finished> = Vec::new();
        let (mut share, mut buf) = (LeaseTag::new(lease.clone(), 0), queue.buffer(4096).unwrap());
        if short {
            queue.flush_share(share, buf, (1, false)).expect("there is room");
            queue.poll(&mut done);
            let first = done.pop().expect("memory is quick");
            (share, buf) = (first.lease.expect("its share"), first.buf.expect("its memory"));
        }
        queue.flush_share(share, buf, (2, false)).expect("there is room");
        recall(&[lease.pins()]).expect("a barrier");
        let before = vol.landed();
        seen.lock().expect("no holder panics").clear();
        queue.poll(&mut done);
        assert_eq!(*seen.lock().expect("no holder panics"), [before + 1], "short: {short}");
        assert!(done.pop().is_some_and(|f| f.result.is_ok()) && lease.pins().is_quiet());
    }
}

/// What a place was before its lease changed is not taken for it afterwards, though the lease
/// was looked at meanwhile and the place was in several extents then.
#[test]
fn b3_a_place_that_is_split_is_not_the_one_that_it_was() {
    let medium: Arc<dyn Medium> =
        format_target("mem:16M", &FormatOptions::default()).expect("memory");
    let vol = Volume::format(medium, &FormatSpec::default()).expect("a store");
    let file = vol.create(b"f").expect("a file");
    vol.write_at(&file, &[1; 8192], 0).expect("it writes");
    let spec = LeaseSpec { access: Access::Write, max_hold: Duration::ZERO };
    let lease = vol.lease(&file, &vol.default_session(), (0, 8192), spec).expect("a lease");
    let mut queue = vol.queue(4).expect("a queue");
    let mut held = Some((LeaseTag::new(lease.clone(), 0), queue.buffer(8192).unwrap()));
    let mut fill = || {
        let (share, buf) = held.take().expect("it came back");
        queue.fill_share(share, buf, 1).expect("there is room");
        let mut done: Vec<Finished> = Vec::new();
        while queue.poll(&mut done) == 0 {
            queue.wait(None).expect("memory is there");
        }
        let Finished { result, buf, lease, .. } = done.pop().expect("one was polled");
        assert_eq!(result, Ok(8192));
        let buf = buf.expect("its memory");
        let bytes = buf.to_vec();
        held = Some((lease.expect("its share"), buf));
        bytes
    };
    assert!(fill() == [1; 8192] && fill() == [1; 8192], "by the long way, and by the short");
    // The session's own change: the second block comes to lie elsewhere.
    vol.punch(&file, 4096, 4096).expect("it punches");
    for _ in 0..3 {
        assert!(fill() == [[1; 4096], [0; 4096]].concat());
    }
    assert_eq!(lease.pieces().len(), 2, "it was split");
    vol.write_at(&file, &[2; 8192], 0).expect("it writes in place");
    assert!(fill() == [2; 8192]);
}
