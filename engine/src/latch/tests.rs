//! Latches on the machine itself.

use super::Latch;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The value is no atomic: an entry that did not see the one before it is lost.
fn race(latch: &Latch<u64>, mut owner: super::Owner) {
    let (stop, others) = (AtomicBool::new(false), AtomicU64::new(0));
    const OWN: u64 = 200_000;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    if let Some(mut locked) = latch.try_lock() {
                        *locked += 1;
                        others.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        for _ in 0..OWN {
            *latch.enter(&mut owner) += 1;
        }
        stop.store(true, Relaxed);
    });
    latch.disown(&mut owner);
    assert_eq!(*latch.try_lock().unwrap(), OWN + others.load(Relaxed));
}

#[test]
fn no_entry_is_lost() {
    let (latch, owner) = Latch::owned(0);
    race(&latch, owner);
    let (latch, owner) = Latch::owned_with_fences(0);
    race(&latch, owner);
}

#[test]
fn who_is_inside_keeps_others_out() {
    let (latch, mut owner) = Latch::owned(());
    let entered = latch.enter(&mut owner);
    assert!(latch.try_lock().is_none());
    drop(entered);
    let locked = latch.try_lock().unwrap();
    assert!(latch.try_lock().is_none());
    assert!(latch.enter_if_open(&mut owner).is_none() && latch.try_enter(&mut owner).is_none());
    drop(locked);
    assert!(latch.enter_if_open(&mut owner).is_some());
    let waits = std::thread::scope(|scope| {
        let entered = latch.enter(&mut owner);
        let waits = scope.spawn(|| latch.lock().is_some());
        drop(entered);
        waits.join()
    });
    assert!(waits.unwrap());
}

#[test]
fn an_owner_that_came_by_the_lock_keeps_others_out() {
    let (latch, mut owner) = Latch::owned(0);
    std::thread::scope(|scope| {
        let mut locked = latch.try_lock().unwrap();
        let own = scope.spawn(|| {
            let mut entered = latch.enter(&mut owner);
            *entered += 1;
            assert!(latch.try_lock().is_none());
        });
        *locked += 1;
        std::thread::yield_now();
        drop(locked);
        own.join().unwrap();
    });
    assert_eq!(*latch.lock().unwrap(), 2);
}

#[test]
fn nobodys_is_a_lock() {
    let latch = Latch::new(1);
    let locked = latch.try_lock().unwrap();
    assert!(latch.try_lock().is_none());
    drop(locked);
    assert_eq!(*latch.lock().unwrap(), 1);
}

#[test]
#[should_panic(expected = "the owner of another latch")]
fn another_ones_owner_stays_out() {
    let ((latch, _own), (_other, mut owner)) = (Latch::owned(()), Latch::owned(()));
    drop(latch.enter(&mut owner));
}

#[test]
fn a_panic_inside_leaves_it_open() {
    let (latch, mut owner) = Latch::owned(0);
    let inside = std::panic::AssertUnwindSafe(|| {
        let _entered = latch.enter(&mut owner);
        panic!("inside");
    });
    assert!(std::panic::catch_unwind(inside).is_err());
    assert!(latch.try_lock().is_some() && latch.enter_if_open(&mut owner).is_some());
}

#[cfg(feature = "sim")]
#[test]
fn in_a_forked_child_nothing_waits_that_need_not() {
    crate::fork::remember();
    let (latch, mut owner) = Latch::owned(());
    let locked = latch.try_lock().unwrap();
    // Who has the lock is not there.
    let child = || latch.try_enter(&mut owner).is_none() && latch.try_lock().is_none();
    assert!(crate::fork::holds_in_child(child).unwrap());
    drop(locked);
    assert!(latch.try_enter(&mut owner).is_some());
}
