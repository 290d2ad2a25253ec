//! Handles under one thread and under several.

use super::{Peeked, Table, Taken};
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
    let one = TABLE.insert(7).unwrap();
    assert_eq!(TABLE.enter(one).as_deref(), Some(&7));
    assert!(TABLE.remove(one) && !TABLE.remove(one));
    assert!(TABLE.enter(one).is_none());
    let two = TABLE.insert(8).unwrap();
    assert_ne!(one, two, "the slot is the same, the handle is not");
    assert!(TABLE.enter(one).is_none());
    assert_eq!(TABLE.enter(two).as_deref(), Some(&8));
    for bad in [0, 1, u64::MAX, two ^ 0x10, two ^ 0x100, two ^ 1 << 32, two & !0xff] {
        assert!(TABLE.enter(bad).is_none(), "{bad:#x}");
        // SAFETY: what is found, if anything, is not freed here.
        assert!(unsafe { TABLE.peek(bad, 1) }.is_none(), "{bad:#x}");
    }
}

/// A number that names a slot with nothing in it, in the generation that the slot is in.
#[test]
fn a_slot_with_nothing_in_it_has_no_handle() {
    static TABLE: Table<String> = Table::new(5);
    let freed = TABLE.insert("object".to_owned()).unwrap();
    assert!(TABLE.remove(freed));
    // The slot that was freed, one that was made and never used, one that was not made.
    for bad in [freed + (1 << 32), 0x15f, 0x3f5f, 0x405f, 0x4_0000 | 0x5f] {
        assert!(TABLE.enter(bad).is_none(), "{bad:#x}");
        // SAFETY: what is found, if anything, is not freed here.
        let (peeked, unused) = unsafe { (TABLE.peek(bad, 5), TABLE.peek_unused(bad, 5)) };
        assert!(peeked.is_none() && matches!(unused, Peeked::None), "{bad:#x}");
        assert!(!TABLE.remove(bad) && matches!(TABLE.take(bad), Taken::None), "{bad:#x}");
    }
    assert_eq!(TABLE.enter(TABLE.insert("next".to_owned()).unwrap()).unwrap().as_str(), "next");
}

#[test]
fn an_object_goes_with_its_last_user() {
    static TABLE: Table<Counted> = Table::new(2);
    let dropped = Arc::new(AtomicUsize::new(0));
    let handle = TABLE.insert(Counted(dropped.clone())).unwrap();
    let user = TABLE.enter(handle).unwrap();
    // SAFETY: the handle is not freed meanwhile.
    assert!(matches!(unsafe { TABLE.peek_unused(handle, 2) }, Peeked::Used));
    assert!(matches!(TABLE.take(handle), Taken::Used));
    assert!(TABLE.remove(handle));
    assert!(TABLE.enter(handle).is_none());
    assert_eq!(dropped.load(Ordering::Acquire), 0);
    drop(user);
    assert_eq!(dropped.load(Ordering::Acquire), 1);
    let handle = TABLE.insert(Counted(dropped.clone())).unwrap();
    let Taken::Value(value) = TABLE.take(handle) else { panic!("nobody uses it") };
    assert!(matches!(TABLE.take(handle), Taken::None));
    drop(value);
    assert_eq!(dropped.load(Ordering::Acquire), 2);
}

#[test]
fn many_more_than_a_chunk() {
    static TABLE: Table<usize> = Table::new(3);
    let handles: Vec<u64> = (0..5000).map(|i| TABLE.insert(i).unwrap()).collect();
    for (i, handle) in handles.iter().enumerate() {
        assert_eq!(TABLE.enter(*handle).as_deref(), Some(&i));
    }
    assert!(handles.iter().all(|h| TABLE.remove(*h)));
    let again: Vec<u64> = (0..5000).map(|i| TABLE.insert(i).unwrap()).collect();
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
            let handle = TABLE.insert(Counted(dropped.clone())).unwrap();
            current.store(handle, Ordering::Release);
            std::hint::spin_loop();
            assert!(TABLE.remove(handle));
        }
        current.store(u64::MAX, Ordering::Release);
    });
    assert_eq!(dropped.load(Ordering::Acquire), ROUNDS);
}
