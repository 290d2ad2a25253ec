//! The memory buffer of a controller that a test plays: finding it, its address, and what is
//! put there.

use super::fake::Fake;
use super::{drain, kind, medium};
use crate::medium::{ErrorKind, Medium, Op};
use crate::nvme::spec::registers::{CmbMsc, CmbSz};
use std::sync::Arc;

/// All that QEMU's allows.
fn all() -> CmbSz {
    CmbSz(0).with_sqs(1).with_lists(1).with_rds(1).with_wds(1)
}

fn facts(medium: &dyn Medium) -> usize {
    medium.describe().unwrap().iter().filter(|fact| fact.group == "buffer").count()
}

/// References part D, number 6: the registers are asked for, and by one access of 64 bits.
#[test]
fn d6_cmbmsc_is_written_whole_and_the_buffer_is_used() {
    let fake = Fake::with_buffer(256, all());
    let medium = medium(&fake);
    let writes = fake.state().cmb_control.clone();
    assert!(writes.iter().all(|&(width, _)| width == 8), "{writes:x?}");
    let [(_, asked), (_, placed)] = writes[..] else { panic!("{writes:x?}") };
    assert_eq!(CmbMsc(asked), CmbMsc(0).with_cre(1));
    let placed = CmbMsc(placed);
    assert_eq!((placed.cre(), placed.cmse()), (1, 1));
    assert!(placed.cba() > 0);
    assert!(facts(&*medium) > 0);
    // A queue lies there, and works.
    let mut queue = medium.queue(7).unwrap();
    let ring = fake.state().ring_of(1);
    assert!(fake.state().in_buffer(ring));
    let mut buf = medium.staging().unwrap().take(4096).unwrap();
    assert!(fake.state().in_buffer(medium.staging().unwrap().device_address(&buf).unwrap()));
    buf.fill(0x77);
    queue.submit(1, Op::Read { at: 5, buf }).unwrap();
    let done = drain(&mut *queue);
    assert_eq!(kind(&done[0]), None);
    assert_eq!(done[0].buf.as_ref().unwrap()[..8], 5u64.to_le_bytes());
    assert_eq!(medium.pool().taken(), 0, "nothing was copied to host memory");
}

/// A controller that is disabled keeps CMBMSC: whoever has it next would find its memory behind
/// the buffer.
#[test]
fn a_controller_is_left_without_its_buffer_in_the_devices_addresses() {
    let fake = Fake::with_buffer(256, all());
    let medium = medium(&fake);
    let placed = CmbMsc(fake.state().cmb_control.last().unwrap().1);
    assert_eq!(placed.cmse(), 1);
    drop(medium);
    // Not under the lock, which the fake's end takes when this fails.
    let last = fake.state().cmb_control.last().copied();
    assert_eq!(last, Some((8, 0)));
}

#[test]
fn each_attribute_is_heeded() {
    let none = CmbSz(0);
    for (allows, queues, data) in [
        (none, false, false),
        (none.with_sqs(1), true, false),
        (none.with_rds(1).with_wds(1), false, true),
        (none.with_rds(1).with_lists(1), false, false),
        (none.with_wds(1), false, false),
    ] {
        let fake = Fake::with_buffer(256, allows);
        let medium = medium(&fake);
        let _queue = medium.queue(7).unwrap();
        let ring = fake.state().ring_of(1);
        assert_eq!(fake.state().in_buffer(ring), queues, "{allows:?}");
        assert_eq!(medium.staging().is_some(), data, "{allows:?}");
    }
    // Without CDPCILS a queue is there only if its lists are.
    for (allows, there) in [(none.with_sqs(1), false), (all(), true), (all().with_lists(0), false)]
    {
        let fake = Fake::with_buffer(256, allows);
        fake.state().lists_apart = false;
        let medium = medium(&fake);
        let _queue = medium.queue(7).unwrap();
        let ring = fake.state().ring_of(1);
        assert_eq!(fake.state().in_buffer(ring), there, "{allows:?}");
    }
    // A queue takes an eighth at the most: this ring has 64 entries of 64 bytes.
    let fake = Fake::with_buffer(7, all());
    let medium = medium(&fake);
    let _queue = medium.queue(63).unwrap();
    let ring = fake.state().ring_of(1);
    assert!(!fake.state().in_buffer(ring));
}

#[test]
fn a_reset_tells_the_address_again_and_queues_go_on() {
    let fake = Fake::with_buffer(256, all());
    let medium = medium(&fake);
    let mut queue = medium.queue(7).unwrap();
    fake.state().obeys = false;
    for tag in 0..3 {
        let buf = medium.staging().unwrap().take(4096).unwrap();
        queue.submit(tag, Op::Read { at: tag, buf }).unwrap();
    }
    queue.ring();
    fake.state().fatal = true;
    fake.state().obeys = true;
    let done = drain(&mut *queue);
    assert!(done.iter().all(|c| kind(c) == Some(ErrorKind::Reset) && c.buf.is_some()), "{done:?}");
    let writes = fake.state().cmb_control.clone();
    assert_eq!(writes.len(), 3, "{writes:x?}");
    assert_eq!(writes[1], writes[2]);
    let buf = medium.staging().unwrap().take(4096).unwrap();
    queue.submit(9, Op::Read { at: 9, buf }).unwrap();
    assert_eq!(kind(&drain(&mut *queue)[0]), None);
}

#[test]
fn a_buffer_that_cannot_be_used_is_done_without() {
    type Spoil = fn(&Fake);
    let cases: [(&str, Spoil); 4] = [
        ("refused", |f| f.state().cmb_refuses = true),
        ("too long", |f| f.state().cmb_size = all().with_sz(257).0),
        ("no unit", |f| f.state().cmb_size = all().with_sz(1).with_szu(9).0),
        ("no bytes", |f| f.state().cmb_size = 0),
    ];
    for (what, spoil) in cases {
        let fake = Fake::with_buffer(256, all());
        spoil(&fake);
        let medium = medium(&fake);
        assert!(medium.staging().is_none() && facts(&*medium) == 0, "{what}");
        let mut queue = medium.queue(7).unwrap();
        super::read(&*medium, &mut *queue, 4);
        assert_eq!(kind(&drain(&mut *queue)[0]), None, "{what}");
        let last = fake.state().cmb_control.last().copied();
        let off = what == "no bytes" || last == Some((8, 0));
        assert!(off, "{what}: it is not left in force: {last:?}");
    }
}

#[test]
fn the_buffer_is_small_and_says_so() {
    let fake = Fake::with_buffer(16, all());
    let medium = medium(&fake);
    let pool = medium.staging().unwrap();
    let mut taken = Vec::new();
    let error = loop {
        match pool.take(4096) {
            Ok(buf) => taken.push(buf),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert_eq!(taken.len(), 4, "a quarter is for one size");
    assert!(pool.take(8192).is_ok() && pool.take(1 << 20).is_err());
    taken.pop();
    assert!(pool.take(4096).is_ok());
    // Buffers outlive the medium.
    let mut last = taken.pop().unwrap();
    drop((medium, Arc::clone(&fake)));
    last.fill(9);
    assert_eq!(last[4095], 9);
}
