//! Slots and readings by themselves, and under threads that read and evict.

use super::{Slot, reading, sweep};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What was evicted is freed for the whole process, and a reading holds back all of it: so
/// one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says when it is gone, and is not what it was from then on.
struct Watched {
    value: AtomicU64,
    gone: Arc<AtomicU64>,
}

impl Watched {
    fn new(value: u64, gone: &Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Watched { value: AtomicU64::new(value), gone: gone.clone() })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.value.store(u64::MAX, Ordering::Relaxed);
        self.gone.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_reading_keeps_what_it_found() {
    let _alone = alone();
    let gone = Arc::default();
    let slot = Slot::new(Watched::new(5, &gone));
    let (outer, inner) = (reading(), reading());
    let found = slot.get(&outer).expect("it is there");
    assert!(slot.evict() && !slot.evict());
    assert!(slot.get(&inner).is_none() && slot.share().is_none() && slot.shares() == 0);
    assert!(sweep() > 0 && found.value.load(Ordering::Relaxed) == 5);
    // The guard that was taken first goes first.
    let other = Slot::new(Watched::new(6, &gone));
    let kept = other.get(&inner).expect("it is there");
    drop(outer);
    other.evict();
    sweep();
    assert_eq!((kept.value.load(Ordering::Relaxed), gone.load(Ordering::Relaxed)), (6, 0));
    drop(inner);
    sweep();
    assert_eq!(gone.load(Ordering::Relaxed), 2);
}

#[test]
fn shares_are_counted() {
    let _alone = alone();
    let gone = Arc::default();
    let slot = Slot::empty();
    assert!(slot.shares() == 0 && !slot.evict());
    slot.fill(Watched::new(1, &gone)).ok().expect("it was empty");
    let there = slot.fill(Watched::new(2, &gone)).expect_err("it is full");
    assert_eq!((there.value.load(Ordering::Relaxed), slot.shares()), (1, 2));
    assert_eq!(gone.load(Ordering::Relaxed), 1, "what found no place is gone");
    slot.evict();
    sweep();
    assert_eq!(there.value.load(Ordering::Relaxed), 1, "others have a share");
    drop(there);
    assert_eq!(gone.load(Ordering::Relaxed), 2);
    slot.fill(Watched::new(3, &gone)).ok().expect("it is empty again");
    let inner = slot.into_inner().expect("it has a value");
    assert_eq!(Arc::strong_count(&inner), 1);
    drop((inner, Slot::new(Watched::new(4, &gone))));
    assert_eq!(gone.load(Ordering::Relaxed), 4, "a slot that goes takes its value along");
}

#[test]
fn another_thread_holds_it_back() {
    let _alone = alone();
    let gone: Arc<AtomicU64> = Arc::default();
    let slot = Slot::new(Watched::new(5, &gone));
    let (there, back) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let reading = reading();
            let found = slot.get(&reading).expect("it is there");
            there.wait();
            back.wait();
            assert_eq!(found.value.load(Ordering::Relaxed), 5);
        });
        there.wait();
        slot.evict();
        assert!(sweep() > 0 && gone.load(Ordering::Relaxed) == 0);
        // What is evicted later waits behind it, and goes with it.
        slot.fill(Watched::new(6, &gone)).ok().expect("it is empty");
        slot.evict();
        assert!(sweep() > 1 && gone.load(Ordering::Relaxed) == 0);
        back.wait();
    });
    sweep();
    assert_eq!(gone.load(Ordering::Relaxed), 2);
}

/// Reads in the destructor of a thread's local, when the thread's record is gone.
#[test]
fn a_thread_that_ends_may_read() {
    struct Last(Arc<Slot<Watched>>, Arc<AtomicU64>);
    impl Drop for Last {
        fn drop(&mut self) {
            let reading = reading();
            let found = self.0.get(&reading).map(|w| w.value.load(Ordering::Relaxed));
            self.1.store(found.unwrap_or(0), Ordering::Relaxed);
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
    }
    let _alone = alone();
    let (gone, found) = (Arc::default(), Arc::new(AtomicU64::new(0)));
    let slot = Arc::new(Slot::new(Watched::new(5, &gone)));
    let last = Last(slot.clone(), found.clone());
    let thread = std::thread::spawn(move || {
        LAST.with(|l| *l.borrow_mut() = Some(last));
        drop(reading());
    });
    thread.join().expect("it ends well");
    assert_eq!(found.load(Ordering::Relaxed), 5);
}

#[test]
fn readers_never_see_what_was_freed() {
    let _alone = alone();
    const SLOTS: usize = 16;
    let rounds = if cfg!(miri) { 50 } else { 20_000 };
    let gone: Arc<AtomicU64> = Arc::default();
    let slots: Vec<Slot<Watched>> =
        (0..SLOTS).map(|i| Slot::new(Watched::new(i as u64, &gone))).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (slots, over) = (&slots, &over);
            scope.spawn(move || {
                let mut at = seed;
                while !over.load(Ordering::Relaxed) {
                    let reading = reading();
                    let found = [0, 5, 11].map(|n| ((at + n) % SLOTS, (at + n) % SLOTS));
                    let found = found.map(|(i, want)| (slots[i].get(&reading), want as u64));
                    for (watched, want) in found {
                        let is = watched.map_or(want, |w| w.value.load(Ordering::Relaxed));
                        assert_eq!(is, want);
                    }
                    if let Some(share) = slots[at % SLOTS].share() {
                        drop(reading);
                        assert_eq!(share.value.load(Ordering::Relaxed), (at % SLOTS) as u64);
                    }
                    at = at.wrapping_add(7);
                }
            });
        }
        for i in 0..rounds {
            let slot = &slots[i * 3 % SLOTS];
            slot.evict();
            if i % 4 == 0 {
                sweep();
            }
            slot.fill(Watched::new((i * 3 % SLOTS) as u64, &gone)).ok().expect("it is empty");
        }
        over.store(true, Ordering::Relaxed);
    });
    sweep();
    assert_eq!(gone.load(Ordering::Relaxed), rounds as u64, "all that was evicted was freed");
}
