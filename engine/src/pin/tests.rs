//! Pins on one thread: what each state admits, and what is counted.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

struct Bell(Arc<AtomicUsize>);

impl Wake for Bell {
    fn wake(&self) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn both() -> [PinRef; 2] {
    [PinState::new(&Waiter::none()).shared(), PinState::with_fences(&Waiter::none()).shared()]
}

#[test]
fn a_lease_that_is_held_is_pinned_and_a_recalled_one_is_not() {
    for lease in both() {
        let (a, b) = (lease.pin().unwrap(), lease.pin().unwrap());
        assert_eq!(lease.counts(), Counts { short: 2, ..Counts::default() });
        assert!(!lease.is_quiet(), "a lease that is held is never quiet");
        recall(&[&*lease]).unwrap();
        assert_eq!(lease.pin().unwrap_err(), NotHeld::Recalled);
        assert_eq!(lease.hold().unwrap_err(), NotHeld::Recalled);
        assert_eq!(lease.pin_exclusive().unwrap_err(), NotHeld::Recalled);
        drop(a);
        assert!(!lease.is_quiet());
        drop(b);
        assert!(lease.is_quiet());
        assert!(lease.counts().is_empty());
        assert_eq!(lease.renew(), Some(2));
        assert!(!lease.is_quiet());
        drop(lease.pin().unwrap());
    }
}

/// A thread that counted too late can be stopped before it undoes that.
#[test]
fn what_was_quiet_stays_so_until_it_is_held_again() {
    for lease in both() {
        drop(lease.pin().unwrap());
        recall(&[&lease]).unwrap();
        assert!(lease.is_quiet());
        let pair = table::own_published(lease.slot).unwrap();
        table::add(pair, table::ACQUIRED);
        assert!(lease.is_quiet() && quiet(&[&lease]) == [true] && lease.give_back());
        assert!(lease.is_quiet());
        table::add(pair, table::RELEASED);
        let [next, _] = both();
        recall(&[&next]).unwrap();
        assert!(next.is_quiet() && next.renew().is_some());
        let pin = next.pin().unwrap();
        recall(&[&next]).unwrap();
        assert!(!next.is_quiet() && quiet(&[&next]) == [false]);
        drop(pin);
        assert!(next.is_quiet());
    }
}

#[test]
fn states_follow_each_other_in_one_order() {
    let [lease, other] = both();
    assert!(!lease.fence() && !lease.revoke() && !lease.give_back() && lease.renew().is_none());
    recall(&[&lease, &other]).unwrap();
    assert!(lease.fence() && !lease.fence() && lease.renew().is_none());
    assert_eq!(lease.pin().unwrap_err(), NotHeld::Revoked);
    assert!(lease.unfence() && !lease.unfence() && lease.is_quiet());
    assert_eq!(lease.pin().unwrap_err(), NotHeld::Recalled);
    assert!(lease.fence());
    assert!(lease.revoke() && !lease.give_back());
    assert_eq!((lease.state(), lease.seq()), (State::Revoked, 1));
    assert!(lease.is_quiet());
    assert!(other.give_back() && !other.revoke());
    assert_eq!(other.pin().unwrap_err(), NotHeld::Returned);
    recall(&[&lease, &other]).unwrap();
    assert_eq!(lease.state(), State::Revoked, "a recall changes only what is held");
}

#[test]
fn long_pins_move_and_are_counted_one_by_one() {
    for lease in both() {
        let other = PinState::new(&Waiter::none()).shared();
        let short = lease.pin().unwrap();
        let short = short.into_long(&other).unwrap_err();
        recall(&[&lease]).unwrap();
        let long = short.into_long(&lease).unwrap();
        let more = long.clone();
        assert_eq!(lease.counts(), Counts { long: 2, ..Counts::default() });
        std::thread::spawn(move || drop(long)).join().unwrap();
        assert!(!lease.is_quiet());
        drop(more);
        assert!(lease.is_quiet());
    }
}

#[test]
fn an_exclusive_pin_stands_alone() {
    for lease in both() {
        let short = lease.pin().unwrap();
        assert_eq!(lease.pin_exclusive().unwrap_err(), NotHeld::Pinned);
        drop(short);
        let long = lease.hold().unwrap();
        assert_eq!(lease.pin_exclusive().unwrap_err(), NotHeld::Pinned);
        drop(long);
        let mut io = IoPins::new();
        let command = io.submit(&lease).unwrap();
        assert_eq!(lease.pin_exclusive().unwrap_err(), NotHeld::Pinned);
        io.complete(&lease, command);
        let pin = lease.pin_exclusive().unwrap();
        assert_eq!(lease.pin().unwrap_err(), NotHeld::Excluded);
        assert_eq!(lease.hold().unwrap_err(), NotHeld::Excluded);
        assert_eq!(io.submit(&lease).unwrap_err(), NotHeld::Excluded);
        assert_eq!(lease.pin_exclusive().unwrap_err(), NotHeld::Excluded);
        recall(&[&lease]).unwrap();
        assert!(lease.counts().exclusive && !lease.is_quiet());
        drop(pin);
        assert!(lease.is_quiet());
        lease.renew().unwrap();
        lease.pin_exclusive().unwrap().reopen();
        let short = lease.pin().unwrap();
        assert_eq!(lease.counts(), Counts { short: 1, ..Counts::default() });
        drop(short);
    }
}

#[test]
fn commands_are_counted_by_their_queue() {
    for lease in both() {
        let (mut ours, mut other) = (IoPins::new(), IoPins::new());
        let (a, b) = (ours.submit(&lease).unwrap(), other.submit(&lease).unwrap());
        assert_eq!(lease.counts(), Counts { io: 2, ..Counts::default() });
        recall(&[&lease]).unwrap();
        assert_eq!(ours.submit(&lease).unwrap_err(), NotHeld::Recalled);
        ours.complete(&lease, a);
        ours.complete(&lease, b);
        assert!(!lease.is_quiet(), "the pin of another queue stays");
    }
    let [lease, other] = both();
    drop((lease.pin_exclusive().unwrap(), other.pin_exclusive().unwrap()));
    let mut pins = IoPins::new();
    let (a, b) = (pins.submit(&lease).unwrap(), pins.submit(&other).unwrap());
    pins.complete(&other, a);
    assert_eq!(other.counts().io, 1, "the pin of another lease ends nothing here");
    pins.complete(&other, b);
    assert!(other.counts().is_empty());
}

#[test]
fn a_state_takes_thirty_two_bytes() {
    assert_eq!(size_of::<PinState>(), 32);
    assert_eq!(size_of::<Waiter>(), 8);
}

#[test]
fn a_command_that_outlives_its_lease_ends_nothing_of_the_next() {
    let mut pins = IoPins::new();
    for gated in [false, true] {
        let lease = PinState::new(&Waiter::none()).shared();
        if gated {
            drop(lease.pin_exclusive().unwrap());
        }
        let pin = pins.submit(&lease).unwrap();
        let place = std::ptr::from_ref(&*lease).addr();
        drop(lease);
        let next: Vec<_> = (0..100).map(|_| PinState::new(&Waiter::none()).shared()).collect();
        let held: Vec<_> = next.iter().map(|lease| lease.hold().unwrap()).collect();
        let same = next.iter().find(|lease| std::ptr::from_ref(&***lease).addr() == place);
        let lease = same.unwrap_or(&next[0]);
        pins.complete(lease, pin);
        assert_eq!(lease.counts(), Counts { long: 1, ..Counts::default() });
        drop(held);
    }
}

#[test]
fn who_waits_is_woken_by_each_pin_that_ends_after_the_recall() {
    let count = Arc::new(AtomicUsize::new(0));
    let waiter = Waiter::new(Bell(count.clone()));
    for lease in [PinState::new(&waiter).shared(), PinState::with_fences(&waiter).shared()] {
        let mut io = IoPins::new();
        drop(lease.pin().unwrap());
        let (short, command) = (lease.pin().unwrap(), io.submit(&lease).unwrap());
        let long = lease.hold().unwrap();
        assert_eq!(count.swap(0, SeqCst), 0, "nobody is woken while it is held");
        recall(&[&lease]).unwrap();
        drop(short);
        assert_eq!(count.load(SeqCst), 1);
        drop(long);
        assert_eq!(count.load(SeqCst), 2);
        io.complete(&lease, command);
        assert_eq!(count.swap(0, SeqCst), 3);
    }
}

/// Who waits for the commands of a lease must find each, wherever it is counted.
#[test]
fn commands_at_the_gate_are_commands() {
    for lease in both() {
        drop(lease.pin_exclusive().unwrap());
        let mut queue = IoPins::new();
        let command = queue.submit(&lease).unwrap();
        let task = lease.hold_for_io().unwrap();
        let long = lease.hold().unwrap();
        assert_eq!(lease.counts(), Counts { long: 1, io: 2, ..Counts::default() });
        assert_eq!(lease.pin_exclusive().unwrap_err(), NotHeld::Pinned);
        drop(long);
        recall(&[&*lease]).unwrap();
        assert!(!lease.is_quiet());
        queue.complete(&lease, command);
        assert_eq!(lease.counts(), Counts { io: 1, ..Counts::default() });
        drop(task);
        assert!(lease.is_quiet() && lease.counts().is_empty());
    }
}

/// A lease that is as it was is pinned without a second look; any other is not.
#[test]
fn what_is_known_holds_until_the_lease_changes() {
    let [lease, fenced] = both();
    let other = PinState::new(&Waiter::none()).shared();
    let (mut pins, mut others) = (IoPins::new(), IoPins::new());
    let (known, seq) = lease.known();
    assert!(seq == 1 && lease.is_still(known));
    let first = pins.submit(&lease).unwrap();
    let seat = pins.seat(&first);
    let second = pins.again(&lease, &seat, known).unwrap();
    assert_eq!(lease.counts(), Counts { io: 2, ..Counts::default() });
    assert!(others.again(&lease, &seat, known).is_none(), "the seat is another queue's");
    assert!(pins.again(&other, &seat, known).is_none(), "the seat is another lease's");
    let third = pins.submit(&fenced).unwrap();
    let (seat_there, there) = (pins.seat(&third), fenced.known().0);
    assert!(pins.again(&fenced, &seat_there, there).is_none(), "one with fences");
    pins.complete(&fenced, third);
    assert!(fenced.counts().is_empty() && other.counts().is_empty());
    recall(&[&lease]).unwrap();
    assert!(pins.again(&lease, &seat, known).is_none() && !lease.is_still(known));
    pins.complete(&lease, first);
    pins.complete(&lease, second);
    assert!(lease.is_quiet());
    lease.renew().unwrap();
    assert!(pins.again(&lease, &seat, known).is_none(), "another number");
    let (known, _) = lease.known();
    let pin = pins.again(&lease, &seat, known).unwrap();
    pins.complete(&lease, pin);
    drop(lease.pin_exclusive().unwrap());
    assert!(pins.again(&lease, &seat, known).is_none(), "behind the gate");
    assert!(lease.counts().is_empty());
}
