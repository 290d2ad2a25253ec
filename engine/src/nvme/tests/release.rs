//! A controller whose transport can let it go, as the kernel's VFIO does: what becomes of
//! memory then, and that nobody has to be awake for it.

use super::fake::Fake;
use super::{drain, kind, medium, read};
use crate::medium::{ErrorKind, Op};
use crate::memory::Page;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

fn ours() -> Vec<Page> {
    vec![Page::default(); 4]
}

/// A controller that is reached through an IOMMU.
fn through_iommu() -> Arc<Fake> {
    let fake = Fake::with_alarm();
    fake.state().foreign = true;
    fake.state().releases = true;
    fake
}

fn readable(fd: BorrowedFd<'_>) -> bool {
    let limit = Timespec { tv_sec: 2, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

#[test]
fn m4_the_callers_memory_is_reached_where_it_is_and_comes_back_after_the_unmap() {
    let fake = through_iommu();
    let medium = medium(&fake);
    let pages = ours();
    let place = pages.as_ptr().addr();
    let before = fake.state().mapped();
    let adopted = medium.pool().adopt(pages).unwrap();
    assert_eq!(fake.state().mapped(), before + 1);
    let buffer = adopted.buffer().unwrap();
    let iova = medium.pool().device_address(&buffer).expect("it is mapped");
    assert_eq!((fake.state().place_of(iova), buffer.as_ptr().addr()), (place, place));
    let mut queue = medium.queue(7).unwrap();
    queue.submit(9, Op::Read { at: 9, buf: buffer }).unwrap();
    let done = drain(&mut *queue).pop().unwrap();
    assert_eq!(kind(&done), None);
    let (adopted, why) = adopted.into_inner().unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Busy, "a buffer of it is out");
    drop(done);
    // The IOMMU keeps it: so does the medium.
    fake.state().clings = true;
    let (adopted, why) = adopted.into_inner().unwrap_err();
    assert_eq!((why.kind(), fake.state().mapped()), (ErrorKind::Gone, before + 1));
    fake.state().clings = false;
    let pages = adopted.into_inner().unwrap();
    assert_eq!((pages.as_ptr().addr(), fake.state().mapped()), (place, before));
    assert_eq!(pages[0].0[..8], 9u64.to_le_bytes(), "read into it, without a copy");
}

#[test]
fn m4_memory_that_no_unmap_has_freed_is_never_given_back() {
    let fake = through_iommu();
    let medium = medium(&fake);
    let pool = medium.pool().clone();
    let adopted = pool.adopt(ours()).unwrap();
    fake.state().clings = true;
    drop(adopted);
    assert_eq!(pool.withheld(), 4 * 4096);
    // Nor when the function has ended without a proof.
    let adopted = pool.adopt(ours()).unwrap();
    drop((medium, fake));
    let (adopted, why) = adopted.into_inner().unwrap_err();
    assert_eq!(why.kind(), ErrorKind::Gone);
    drop(adopted);
    assert_eq!(pool.withheld(), 8 * 4096);
}

#[test]
fn m4_a_function_that_has_let_go_gives_memory_back() {
    let fake = through_iommu();
    let medium = medium(&fake);
    let pool = medium.pool().clone();
    let adopted = pool.adopt(ours()).unwrap();
    drop((medium, fake));
    adopted.into_inner().map_err(|(_, why)| why).unwrap();
    assert_eq!(pool.withheld(), 0);
}

/// Law M3: what was completed counts as lost; law M4: nothing is withheld, because the IOMMU
/// proves that the device reaches nothing.
#[test]
fn m3_a_device_that_is_wanted_back_is_let_go_and_its_memory_with_it() {
    let fake = through_iommu();
    let medium = medium(&fake);
    let mut queue = medium.queue(7).unwrap();
    fake.state().obeys = false;
    read(&*medium, &mut *queue, 1);
    fake.alarm();
    let done = drain(&mut *queue);
    assert_eq!(kind(&done[0]), Some(ErrorKind::Gone));
    assert!(done[0].buf.is_some(), "the buffer comes back");
    assert!(fake.state().released && fake.state().mapped() == 0);
    assert_eq!(medium.losses(), 1);
    drop(done);
    assert_eq!((medium.pool().taken(), medium.pool().withheld()), (0, 0));
}

/// One that keeps memory is as a lost peer is.
#[test]
fn m4_a_device_that_keeps_memory_when_it_is_let_go_has_it_for_good() {
    let fake = through_iommu();
    let medium = medium(&fake);
    let mut queue = medium.queue(7).unwrap();
    fake.state().obeys = false;
    fake.state().stuck = true;
    read(&*medium, &mut *queue, 1);
    fake.state().clings = true;
    fake.alarm();
    let done = drain(&mut *queue);
    assert_eq!(kind(&done[0]), Some(ErrorKind::Gone));
    drop(done);
    assert!(medium.pool().withheld() > 0);
}

#[test]
fn m2_who_has_nothing_in_flight_lets_a_device_go_as_well() {
    let fake = through_iommu();
    fake.state().vectors = 4;
    let medium = medium(&fake);
    let mut queue = medium.queue(7).unwrap();
    let mut done = Vec::new();
    assert_eq!(queue.poll(&mut done), 0);
    fake.alarm();
    // By its descriptor, which somebody watches: one poll is enough, a few ms after the last.
    assert!(readable(queue.event_fd().unwrap()), "nobody is told");
    for _ in 0..1000 {
        if fake.state().released {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        queue.poll(&mut done);
    }
    assert!(fake.state().released, "it is kept, and whoever unbinds it waits for ever");
    let buf = medium.pool().take(4096).unwrap();
    let refused = queue.submit(1, Op::Read { at: 1, buf });
    assert_eq!(refused.unwrap_err().error.unwrap().kind(), ErrorKind::Gone);
}
