//! Handles under one thread and under several.

use super::room::{GENERATION, Room};
use super::{Slot, Table, Taken};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts how often it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn a_handle_is_good_until_it_is_freed_and_never_again() {
    static TABLE: Table<u32> = Table::new(1);
    let one = TABLE.insert(|_| 7).unwrap();
    assert_eq!(TABLE.enter(one).as_deref(), Some(&7));
    assert!(TABLE.remove(one) && !TABLE.remove(one));
    assert!(TABLE.enter(one).is_none());
    let two = TABLE.insert(|_| 8).unwrap();
    assert_ne!(one, two, "the slot is the same, the handle is not");
    assert!(TABLE.enter(one).is_none());
    assert_eq!(TABLE.enter(two).as_deref(), Some(&8));
    for bad in [0, 1, u64::MAX, two ^ 0x10, two ^ 0x100, two ^ 1 << 32, two & !0xff] {
        assert!(TABLE.enter(bad).is_none(), "{bad:#x}");
        // SAFETY: what is found, if anything, is not freed here.
        assert!(unsafe { TABLE.peek(bad, || ()) }.is_err(), "{bad:#x}");
    }
}

/// A number that names a slot with nothing in it, in the generation that the slot is in.
#[test]
fn a_slot_with_nothing_in_it_has_no_handle() {
    static TABLE: Table<String> = Table::new(5);
    let handle = Room::<Slot<String>>::handle;
    let refused = |bad: u64| {
        assert!(TABLE.enter(bad).is_none(), "{bad:#x}");
        // SAFETY: what is found, if anything, is not freed here.
        let (peeked, unused) =
            unsafe { (TABLE.peek(bad, || 0), TABLE.peek_unused(bad, || 1, || 2)) };
        assert_eq!((peeked, unused), (Err(0), Err(1)), "{bad:#x}");
        assert!(!TABLE.remove(bad) && matches!(TABLE.take(bad), Taken::None), "{bad:#x}");
    };
    let all = |index| [handle(index, 5, 0), handle(index, 5, 1), !handle(index, 5, 0), !0, 0];
    // Before there is any slot.
    (0..4).flat_map(all).for_each(refused);
    let freed = TABLE.insert(|_| "object".to_owned()).unwrap();
    assert!(TABLE.remove(freed));
    refused(freed + (1 << GENERATION));
    // The slot that was freed; those that were made and never used, at the ends of that; those
    // that were not made; the last one there can be; those that no handle has room for.
    let ends = [0, 1, 1023, 1024, 1025, (1 << 20) - 1, 1 << 20, (1 << 25) - 1];
    ends.into_iter().flat_map(all).for_each(refused);
    let next = TABLE.insert(|handle| handle.to_string()).unwrap();
    assert_eq!(*TABLE.enter(next).unwrap(), next.to_string(), "it was told its handle");
    // All that differ in one bit, or have another slot's bits.
    (0..64).for_each(|bit| refused(next ^ 1 << bit));
    (1..1 << 12).for_each(|index| refused(next ^ handle(index, 0, 0) ^ 3));
}

/// Whatever is written in the memory of slots, a look-up reads no other's.
#[test]
fn any_number_is_looked_up() {
    static EMPTY: Table<u8> = Table::new(6);
    static FULL: Table<[u64; 40]> = Table::new(7);
    let good: Vec<u64> = (0..3000).map(|i| FULL.insert(|_| [i; 40]).unwrap()).collect();
    let mut number = 1_u64;
    for _ in 0..200_000 {
        // A generator of Lehmer's kind: all of its bits are used, one after the other.
        number = number.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        for bad in [number, number >> 20, number & !0xffff_ffff | number >> 40] {
            // SAFETY: what is found, if anything, is not freed here.
            let (none, found) = unsafe { (EMPTY.peek(bad, || ()), FULL.peek(bad, || ())) };
            assert!(none.is_err() && (found.is_err() || good.contains(&bad)), "{bad:#x}");
            assert!(EMPTY.enter(bad).is_none());
        }
    }
}

#[test]
fn an_object_goes_with_its_last_user() {
    static TABLE: Table<Counted> = Table::new(2);
    let dropped = Arc::new(AtomicUsize::new(0));
    let handle = TABLE.insert(|_| Counted(dropped.clone())).unwrap();
    let user = TABLE.enter(handle).unwrap();
    // SAFETY: the handle is not freed meanwhile.
    assert!(matches!(unsafe { TABLE.peek_unused(handle, || 1, || 2) }, Err(2)));
    assert!(matches!(TABLE.take(handle), Taken::Used));
    assert!(TABLE.remove(handle));
    assert!(TABLE.enter(handle).is_none());
    assert_eq!(dropped.load(Ordering::Acquire), 0);
    drop(user);
    assert_eq!(dropped.load(Ordering::Acquire), 1);
    let handle = TABLE.insert(|_| Counted(dropped.clone())).unwrap();
    let Taken::Value(value) = TABLE.take(handle) else { panic!("nobody uses it") };
    assert!(matches!(TABLE.take(handle), Taken::None));
    drop(value);
    assert_eq!(dropped.load(Ordering::Acquire), 2);
}

#[test]
fn many_more_than_are_made_at_a_time() {
    static TABLE: Table<usize> = Table::new(3);
    let handles: Vec<u64> = (0..5000).map(|i| TABLE.insert(|_| i).unwrap()).collect();
    for (i, handle) in handles.iter().enumerate() {
        assert_eq!(TABLE.enter(*handle).as_deref(), Some(&i));
    }
    assert!(handles.iter().all(|h| TABLE.remove(*h)));
    let again: Vec<u64> = (0..5000).map(|i| TABLE.insert(|_| i).unwrap()).collect();
    assert!(again.iter().all(|h| !handles.contains(h)));
}

/// Threads look at handles that others free at the same time: each object is dropped once, and
/// nobody sees one that is gone.
#[test]
fn freeing_beside_users() {
    static TABLE: Table<Counted> = Table::new(4);
    const ROUNDS: usize = 20_000;
    let dropped = Arc::new(AtomicUsize::new(0));
    let current = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                while current.load(Ordering::Acquire) != u64::MAX {
                    if let Some(used) = TABLE.enter(current.load(Ordering::Acquire)) {
                        assert!(Arc::strong_count(&used.0) >= 2);
                    }
                }
            });
        }
        for _ in 0..ROUNDS {
            let handle = TABLE.insert(|_| Counted(dropped.clone())).unwrap();
            current.store(handle, Ordering::Release);
            std::hint::spin_loop();
            assert!(TABLE.remove(handle));
        }
        current.store(u64::MAX, Ordering::Release);
    });
    assert_eq!(dropped.load(Ordering::Acquire), ROUNDS);
}
