//! What a view gives, what it keeps away, and when that ends.

use super::*;
use crate::medium::{BLOCK, Completion, Medium, Op, Queue};
use crate::mem::MemMedium;
use crate::memory::{Piece, WindowMemory};
use crate::pin::{Waiter, recall};
use std::sync::atomic::AtomicU64;

const B: u64 = BLOCK as u64;

struct Stage {
    medium: MemMedium,
    memory: WindowMemory,
    queue: Box<dyn Queue>,
    lease: PinRef,
}

impl Stage {
    fn new() -> Self {
        let medium = MemMedium::new(64 * B).unwrap();
        let memory = medium.window_memory().unwrap();
        let queue = medium.queue(4).unwrap();
        Self { memory, queue, lease: PinState::new(&Waiter::none()).shared(), medium }
    }

    fn view(&self, access: Access, from: u64, to: u64) -> Result<View> {
        self.memory.view(access, &[Piece::at(from * B, (to - from) * B)], &self.lease)
    }

    fn run(&mut self, op: Op) -> Result<()> {
        self.queue.submit(1, op).unwrap();
        let mut done: Vec<Completion> = Vec::new();
        self.queue.poll(&mut done);
        done.pop().unwrap().result
    }

    fn write(&mut self, at: u64, byte: u8) -> Result<()> {
        let mut buf = self.medium.pool().take(BLOCK).unwrap();
        buf.fill(byte);
        self.run(Op::Write { at, buf, fua: false })
    }

    fn read(&mut self, at: u64) -> Result<()> {
        let buf = self.medium.pool().take(BLOCK).unwrap();
        self.run(Op::Read { at, buf })
    }

    fn take_back(&self) {
        recall(&[&self.lease]).unwrap();
        assert!(self.lease.give_back());
    }
}

fn busy<T: fmt::Debug>(result: Result<T>) -> bool {
    match result {
        Ok(_) => false,
        Err(e) if e.kind() == ErrorKind::Busy => true,
        Err(e) => panic!("{e:?}"),
    }
}

#[test]
fn r5_each_access_gives_what_it_may() {
    use Access::{Exclusive, Read, Stable, Write};
    for access in [Read, Write, Stable, Exclusive] {
        let mut stage = Stage::new();
        stage.write(3, 7).unwrap();
        let mut view = stage.view(access, 3, 5).unwrap();
        let (refers, writes) = (access.gives_references(), access == Write);
        {
            let pin = view.pin().unwrap();
            let mut back = [0; 3];
            pin.load(1, &mut back).unwrap();
            assert_eq!(back, [7; 3]);
            assert_eq!(pin.slice(0, 8).is_ok(), refers);
            assert_eq!(pin.parts().count(), usize::from(refers));
            assert_eq!(pin.store(8, &[8]).is_ok(), writes);
            assert_eq!(pin.as_mut_ptr(8).is_ok(), writes);
            assert_eq!(pin.as_ptr(8).unwrap().1, 2 * BLOCK - 8);
        }
        {
            let hold = view.hold().unwrap();
            assert_eq!(hold.into_bytes(0, 4).is_ok(), refers);
        }
        let mut pin = view.pin_mut().unwrap();
        assert_eq!(pin.slice_mut(B, 4).is_ok(), access == Exclusive);
        assert_eq!(pin.parts_mut().count(), usize::from(access == Exclusive));
        if access == Exclusive {
            pin.slice_mut(B, 4).unwrap().copy_from_slice(b"here");
            assert_eq!(pin.slice(B, 4).unwrap(), b"here");
        }
    }
}

#[test]
fn r5_nothing_writes_under_a_stable_view_and_nothing_reads_under_an_exclusive_one() {
    for access in [Access::Read, Access::Write, Access::Stable, Access::Exclusive] {
        let mut stage = Stage::new();
        let window = |stage: &Stage, at: u64| {
            (
                busy(stage.medium.window().unwrap().load(at, &mut [0; 2])),
                busy(stage.medium.window().unwrap().store(at, &[0; 2])),
            )
        };
        let view = stage.view(access, 4, 8).unwrap();
        let no_write = access.gives_references();
        let no_read = access == Access::Exclusive;
        for at in [4, 7] {
            assert_eq!(busy(stage.read(at)), no_read);
            assert_eq!(busy(stage.write(at, 1)), no_write);
            assert_eq!(busy(stage.run(Op::WriteZeroes { at, count: 1 })), no_write);
            assert_eq!(busy(stage.run(Op::Deallocate { at: at - 1, count: 2 })), no_write);
            assert_eq!(busy(stage.run(Op::Copy { from: 20, to: at, count: 1 })), no_write);
            assert_eq!(busy(stage.run(Op::Copy { from: at, to: 20, count: 1 })), no_read);
            assert_eq!(window(&stage, at * B), (no_read, no_write));
        }
        assert!(!busy(stage.run(Op::Flush)));
        for at in [3, 8] {
            assert!(!busy(stage.write(at, 1)) && !busy(stage.read(at)));
        }
        assert_eq!(window(&stage, 4 * B - 1), (no_read, no_write));
        assert_eq!(window(&stage, 8 * B), (false, false));
        drop(view);
        assert!(!busy(stage.write(4, 1)) && !busy(stage.read(4)));
    }
}

#[test]
fn views_exclude_each_other_as_their_accesses_do() {
    let stage = Stage::new();
    let kinds = [Access::Read, Access::Write, Access::Stable, Access::Exclusive];
    for one in kinds {
        let view = stage.view(one, 4, 8).unwrap();
        for other in kinds {
            assert_eq!(busy(stage.view(other, 7, 9)), !one.suffers(other), "{one:?} {other:?}");
            assert!(!busy(stage.view(other, 8, 9)));
        }
        drop(view);
    }
    let twice = [Piece::at(0, 100), Piece::at(200, 100)];
    assert!(busy(stage.memory.view(Access::Exclusive, &twice, &stage.lease)));
    assert!(stage.memory.view(Access::Stable, &twice, &stage.lease).is_ok());
}

/// Whoever drops the view can be stopped before it has ended the booking.
#[test]
fn a_booking_whose_view_is_just_going_is_retired_by_others() {
    let mut stage = Stage::new();
    let view = stage.view(Access::Exclusive, 0, 2).unwrap();
    let booking = view.booking();
    let View { core, pins, ticket } = view;
    drop((core, pins));
    let going = Arc::into_inner(ticket).unwrap();
    assert!(busy(stage.write(0, 1)));
    stage.take_back();
    assert!(booking.retire() && !busy(stage.write(0, 1)));
    let next = stage.lease.clone();
    stage.lease = PinState::new(&Waiter::none()).shared();
    let other = stage.view(Access::Exclusive, 0, 2).unwrap();
    drop((going, next));
    assert!(busy(stage.write(0, 1)), "it has ended the booking of another");
    drop(other);
}

/// A lease may be gone before what it is told by.
#[test]
fn a_lease_that_is_gone_has_no_pins() {
    let mut stage = Stage::new();
    let view = stage.view(Access::Exclusive, 0, 1).unwrap();
    let booking = view.booking();
    let View { core, pins, ticket } = view;
    stage.lease = PinState::new(&Waiter::none()).shared();
    assert!(!booking.retire());
    drop(pins);
    assert!(booking.retire() && !busy(stage.write(0, 1)));
    drop((core, ticket));
}

#[test]
fn a_booking_is_retired_when_no_pin_is_left_and_none_can_come() {
    let mut stage = Stage::new();
    let view = stage.view(Access::Stable, 0, 2).unwrap();
    let booking = view.booking();
    assert_eq!(booking.blocks().first(), Some(&(0..2)));
    assert!(!booking.retire(), "it is held");
    let bytes = view.hold().unwrap().into_bytes(0, 8).unwrap();
    let pin = view.pin().unwrap();
    recall(&[&stage.lease]).unwrap();
    assert!(!booking.retire() && busy(stage.write(0, 1)), "it is pinned");
    drop(pin);
    assert!(!booking.retire(), "it has a long pin");
    assert_eq!(bytes.as_ref(), [0; 8]);
    drop(bytes);
    assert!(stage.memory.relay(&booking, &[Piece::at(0, 8)]).is_err(), "it is not retired");
    assert!(!stage.memory.relay(&booking, &[Piece::at(0, 2 * B)]).unwrap(), "it is there");
    assert!(booking.retire() && booking.retire());
    assert!(!busy(stage.write(0, 1)) && stage.lease.renew().is_some());
    assert_eq!(view.pin().unwrap_err(), NotHeld::Recalled, "its place is gone");
    recall(&[&stage.lease]).unwrap();
    assert!(stage.memory.relay(&booking, &[Piece::at(B, B)]).unwrap());
    assert!(stage.lease.renew().is_some() && view.pin().is_ok());
    assert!(!busy(stage.write(0, 1)) && busy(stage.write(1, 1)), "it lies elsewhere");
    stage.take_back();
    assert!(booking.retire() && booking.retire());
    assert!(!busy(stage.write(0, 1)));
    assert_eq!(view.pin().unwrap_err(), NotHeld::Returned);
    assert!(view.hold().is_err());
    let mut view = view;
    assert!(view.pin_mut().is_err());
    drop(view);
    assert!(booking.retire());
}

#[test]
fn long_pins_outlive_the_view_and_keep_its_blocks() {
    let mut stage = Stage::new();
    stage.write(1, 9).unwrap();
    let view = stage.view(Access::Stable, 0, 2).unwrap();
    let bytes = view.hold().unwrap().into_bytes(B, 4).unwrap();
    let booking = view.booking();
    drop(view);
    assert!(busy(stage.write(1, 1)) && !booking.retire());
    let bytes = std::thread::spawn(move || {
        assert_eq!(bytes.as_ref(), [9; 4]);
        bytes
    });
    drop(bytes.join().unwrap());
    assert!(booking.retire() && !busy(stage.write(1, 1)));
    let memory = stage.memory.view(Access::Stable, &[Piece::at(B, 4)], &stage.lease).unwrap();
    let bytes = memory.hold().unwrap().into_bytes(0, 4).unwrap();
    drop((memory, stage));
    assert_eq!(bytes.as_ref(), [1; 4], "bytes outlive the medium");
}

#[test]
fn a_mutable_pin_has_no_other_beside_it() {
    let stage = Stage::new();
    let mut view = stage.view(Access::Exclusive, 0, 1).unwrap();
    let hold = view.hold().unwrap();
    assert_eq!(view.pin_mut().unwrap_err(), NotHeld::Pinned);
    drop(hold);
    drop(view.pin_mut().unwrap());
    std::mem::forget(view.pin_mut().unwrap());
    assert!(view.pin().is_err() && view.hold().is_err() && view.pin_mut().is_err());
    let booking = view.booking();
    stage.take_back();
    assert!(!booking.retire(), "a forgotten pin is there for ever");
    drop(view);
    assert!(booking.retire(), "but gives nothing any more");
}

#[test]
fn pieces_lie_one_behind_the_other_and_holes_are_zeroes() {
    let mut stage = Stage::new();
    for at in 0..8 {
        stage.write(at, at as u8 + 1).unwrap();
    }
    let pieces = [
        Piece::at(6 * B, B),
        Piece::zeroes(100_000),
        Piece::at(2 * B, 2 * B),
        Piece::at(4 * B, 100),
        Piece::at(0, 50),
    ];
    let view = stage.memory.view(Access::Stable, &pieces, &stage.lease).unwrap();
    let pin = view.pin().unwrap();
    let hole = 100_000usize;
    let mut expect = vec![7; BLOCK];
    expect.extend(vec![0; hole]);
    expect.extend([[3; BLOCK], [4; BLOCK]].concat());
    expect.extend([5; 100]);
    expect.extend([1; 50]);
    assert_eq!(view.len(), expect.len() as u64);
    assert_eq!(pin.parts().collect::<Vec<_>>().concat(), expect);
    let lengths: Vec<usize> = pin.parts().map(<[u8]>::len).collect();
    assert_eq!(lengths, [BLOCK, 65536, hole - 65536, 2 * BLOCK + 100, 50]);
    let mut random = 1usize;
    for _ in 0..2_000 {
        random = random.wrapping_mul(25_214_903_917).wrapping_add(11) & 0xffff_ffff;
        let at = random % expect.len();
        let len = (random >> 7) % (expect.len() - at + 1);
        let mut back = vec![0xee; len];
        pin.load(at as u64, &mut back).unwrap();
        assert!(back == expect[at..at + len], "{at}..+{len}");
        if let Ok(slice) = pin.slice(at as u64, len as u64) {
            assert!(slice == &expect[at..at + len], "{at}..+{len}");
        }
    }
    let start = (BLOCK + hole) as u64;
    assert_eq!(pin.slice(start, 2 * B + 100).unwrap().len(), 2 * BLOCK + 100);
    for (at, len) in [(start - 1, 2), (0, B + 1), (view.len(), 1), (u64::MAX, 2)] {
        assert_eq!(pin.slice(at, len).unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert_eq!(pin.slice(view.len(), 0).unwrap(), [0u8; 0]);
    assert!(pin.load(view.len(), &mut [0]).is_err() && pin.as_ptr(view.len()).is_err());
    for (access, pieces) in [
        (Access::Write, vec![Piece::zeroes(B)]),
        (Access::Exclusive, vec![Piece::at(0, B), Piece::zeroes(B)]),
        (Access::Read, vec![]),
        (Access::Read, vec![Piece::at(0, 0)]),
        (Access::Read, vec![Piece::at(64 * B - 1, 2)]),
        (Access::Read, vec![Piece::zeroes(1 << 45)]),
        (Access::Read, vec![Piece::zeroes(u64::MAX), Piece::zeroes(2)]),
    ] {
        let refused = stage.memory.view(access, &pieces, &stage.lease).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{access:?} {pieces:?}");
    }
}

#[test]
fn r2_what_a_pin_wrote_is_written_back_once() {
    let stage = Stage::new();
    let view = stage.view(Access::Write, 0, 4).unwrap();
    let booking = view.booking();
    assert!(!booking.write_back().unwrap());
    let pin = view.pin().unwrap();
    pin.store(B + 5, b"x").unwrap();
    assert_eq!(view.core.steadily(|place| place.reach.take_soiled()), Some(B..2 * B));
    pin.store(3 * B, b"x").unwrap();
    pin.store(B - 1, b"yy").unwrap();
    pin.store(0, b"").unwrap();
    assert!(booking.write_back().unwrap() && !booking.write_back().unwrap());
    let (at, len) = pin.as_mut_ptr(0).unwrap();
    assert_eq!((len, at.is_null()), (4 * BLOCK, false));
    assert!(!booking.write_back().unwrap(), "the pin that writes is still there");
    drop(pin);
    assert_eq!(view.core.steadily(|place| place.reach.take_soiled()), Some(0..4 * B));
    drop(view.hold().unwrap());
    assert!(view.write_back().unwrap());
    drop(view);
    let mut view = stage.view(Access::Exclusive, 0, 4).unwrap();
    let mut pin = view.pin_mut().unwrap();
    pin.slice_mut(B, 1).unwrap()[0] = 1;
    pin.slice_mut(2 * B - 1, 1).unwrap()[0] = 1;
    drop(pin);
    assert_eq!(view.core.steadily(|place| place.reach.take_soiled()), Some(B..2 * B));
    drop(view.pin_mut().unwrap().parts_mut());
    assert!(view.booking().write_back().unwrap());
}

#[test]
#[cfg_attr(miri, ignore = "Miri has no process_vm_readv")]
fn bytes_under_an_overdue_pin_can_be_salvaged() {
    let stage = Stage::new();
    let mut view = stage.view(Access::Exclusive, 0, 2).unwrap();
    let mut pin = view.pin_mut().unwrap();
    let bytes = pin.slice_mut(B, 4).unwrap();
    bytes.copy_from_slice(b"last");
    let mut back = [0; 4];
    assert!(busy(stage.medium.window().unwrap().load(B, &mut back)));
    stage.memory.salvage(B, &mut back).unwrap();
    assert_eq!(&back, b"last");
    assert!(stage.memory.salvage(64 * B - 3, &mut back).is_err());
    assert!(stage.memory.salvage(B + 2, bytes).is_err(), "onto itself");
    bytes[0] = b'!';
}

/// Readers look at each byte twice under a pin, while queues write the same blocks
/// whenever they are let. Without the ledger the two looks differ.
#[test]
fn r5_a_reference_never_sees_a_change() {
    let medium = MemMedium::new(4 * B).unwrap();
    let memory = medium.window_memory().unwrap();
    // Looks that were the same, and whether two were not.
    let (looked, changed) = (AtomicU64::new(0), AtomicBool::new(false));
    let over = || looked.load(Ordering::Relaxed) >= 300 || changed.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        for seed in 0..2u8 {
            let (medium, looked, changed, over) = (&medium, &looked, &changed, &over);
            scope.spawn(move || {
                let mut queue = medium.queue(1).unwrap();
                let mut done = Vec::new();
                let mut buf = medium.pool().take(4 * BLOCK).unwrap();
                for round in 0u32.. {
                    buf.fill(round as u8 ^ seed);
                    queue.submit(1, Op::Write { at: 0, buf, fua: false }).unwrap();
                    queue.poll(&mut done);
                    buf = done.pop().unwrap().buf.unwrap();
                    if over() {
                        break;
                    }
                    std::thread::yield_now();
                }
            });
            let memory = memory.clone();
            scope.spawn(move || {
                while !over() {
                    let lease = PinState::new(&Waiter::none()).shared();
                    let piece = [Piece::at(0, 4 * B)];
                    let Ok(view) = memory.view(Access::Stable, &piece, &lease) else { continue };
                    let pin = view.pin().unwrap();
                    let bytes = pin.slice(0, 4 * B).unwrap();
                    let first = bytes.to_vec();
                    std::thread::yield_now();
                    changed.fetch_or(first != bytes, Ordering::Relaxed);
                    looked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert!(!changed.into_inner(), "the bytes under a reference changed");
}
