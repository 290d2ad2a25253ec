//! The ledger under loom: a queue's copy against bookings, the code itself on loom's atomics.
//!
//! As with pins (`crate::pin::models`): each model must hold in both forms of the barrier, and
//! must not where the barrier, or the fence in its place, is left out.

use super::{Access, Ledger, Touch};
use crate::pin::barrier::step;
use crate::pin::models::world::{Body, Fault, Form, holds, misses, must, run};
use loom::sync::atomic::AtomicU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64 as Plain, Ordering::Relaxed, Ordering::SeqCst};

/// What a booking adds to the bytes; a copy adds one.
const BOOKED: u64 = 100;

/// A block, and who is at it. `Plain` atomics are the observer's: loom does not order by
/// them, nor switch threads there.
struct Block {
    ledger: Ledger,
    /// Its bytes.
    bytes: AtomicU64,
    /// Who is about to change them now.
    copies: Plain,
    owners: Plain,
    /// What has been added to them by those who are done.
    sum: Plain,
}

impl Block {
    fn new() -> Arc<Self> {
        let plain = || Plain::new(0);
        let (ledger, bytes) = (Ledger::default(), AtomicU64::new(0));
        Arc::new(Self { ledger, bytes, copies: plain(), owners: plain(), sum: plain() })
    }

    /// Changes the bytes, beside nobody, and with all that was done to them before.
    fn change(&self, by: u64, here: &Plain, others: &Plain) {
        here.fetch_add(1, SeqCst);
        must(others.load(SeqCst) == 0, "a reference beside a copy that does not suffer it");
        let (before, found) = (self.sum.load(SeqCst), self.bytes.load(Relaxed));
        must(found >= before, "what was done before is not seen");
        step();
        self.bytes.store(found + by, Relaxed);
        step();
        must(others.load(SeqCst) == 0, "a reference that came beside a copy");
        self.sum.fetch_add(by, SeqCst);
        here.fetch_sub(1, SeqCst);
    }

    fn copy(&self, touch: &Touch) {
        let change = || self.change(1, &self.copies, &self.owners);
        let _ = self.ledger.touch(touch, (0..1, Access::Write), None, change);
    }

    fn book(&self) {
        let range = std::slice::from_ref(&(0..1));
        if self.ledger.book(range, Access::Exclusive).is_ok() {
            step();
            self.change(BOOKED, &self.owners, &self.copies);
            self.ledger.release(range, Access::Exclusive);
        }
    }
}

fn copies(block: &Arc<Block>, times: usize) -> Body {
    let (block, touch) = (block.clone(), block.ledger.enlist());
    Box::new(move || (0..times).for_each(|_| block.copy(&touch)))
}

fn books(block: &Arc<Block>) -> Body {
    let block = block.clone();
    Box::new(move || block.book())
}

/// A queue that copies twice, and one who books the block meanwhile.
fn a_copy_and_a_booking() {
    let block = Block::new();
    run(vec![copies(&block, 2), books(&block)]);
}

/// Two who book it: the first has counted, and is about to pass the barrier, when the second
/// finds the count above zero and passes none.
fn a_copy_and_two_bookings() {
    let block = Block::new();
    run(vec![copies(&block, 1), books(&block), books(&block)]);
}

/// Two queues: a booking looks at what each touches.
fn two_copies_and_a_booking() {
    let block = Block::new();
    // Queues exclude each other by other means; here they touch other bytes of the block.
    let mine = |block: &Arc<Block>| -> Body {
        let (block, touch) = (block.clone(), block.ledger.enlist());
        Box::new(move || {
            let look = || must(block.owners.load(SeqCst) == 0, "a copy beside a reference");
            let _ = block.ledger.touch(&touch, (0..1, Access::Read), None, look);
        })
    };
    run(vec![copies(&block, 1), mine(&block), books(&block)]);
}

#[test]
fn law_r5_loom_a_copy_meets_a_booking() {
    holds(3, a_copy_and_a_booking);
    misses(Form::Membarrier, Fault::NoBarrier, 3, a_copy_and_a_booking);
    misses(Form::Fences, Fault::NoFence, 3, a_copy_and_a_booking);
}

#[test]
fn law_r5_loom_two_bookings() {
    holds(2, a_copy_and_two_bookings);
}

#[test]
fn law_r5_loom_two_queues() {
    holds(2, two_copies_and_a_booking);
    misses(Form::Membarrier, Fault::NoBarrier, 2, two_copies_and_a_booking);
}
