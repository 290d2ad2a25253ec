//! The protocol of readings under loom: the records themselves, on loom's atomics.
//!
//! How membarrier is modelled stands at the head of `pin/models/world.rs`. Each model is
//! run in both forms and must hold; then with the barrier left out, and must not.

use super::record::{Record, Roll};
use crate::pin::models::world::{AtomicU64, Body, Form, holds, misses, must, run, step};
use crate::pin::sync::Fault;
use std::sync::Arc;
use std::sync::atomic::AtomicU64 as Plain;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};

/// One slot and what was in it. `Plain` atomics are the observer's.
struct Scene {
    roll: Roll,
    slot: AtomicU64,
    freed: AtomicU64,
    reads: Plain,
    /// What the readings write, one each.
    written: AtomicU64,
    ended: Plain,
}

impl Scene {
    fn new() -> Arc<Self> {
        Arc::new(Scene {
            roll: Roll::new(),
            slot: AtomicU64::new(1),
            freed: AtomicU64::new(0),
            reads: Plain::new(0),
            written: AtomicU64::new(0),
            ended: Plain::new(0),
        })
    }

    /// Reads the slot, and uses what it found there for a while.
    fn read(&self, record: &'static Record) {
        record.enter();
        step();
        if self.slot.load(Acquire) == 1 {
            self.reads.fetch_add(1, SeqCst);
            must(self.freed.load(Relaxed) == 0, "read what was freed");
            step();
            self.written.fetch_add(1, Relaxed);
            self.reads.fetch_sub(1, SeqCst);
            self.ended.fetch_add(1, SeqCst);
        }
        step();
        record.leave();
    }

    /// Takes it away and frees it if nobody reads, now or at a second look.
    fn evict(&self) {
        self.slot.swap(0, AcqRel);
        let mut readers = self.roll.readers().expect("the model's barrier");
        for _ in 0..2 {
            if readers.gone() {
                must(self.reads.load(SeqCst) == 0, "freed under a reader");
                let written = self.written.load(Relaxed);
                must(written >= self.ended.load(SeqCst), "freed before a reader's end");
                self.freed.store(1, Relaxed);
                return;
            }
            step();
        }
    }
}

fn against_an_evictor(mut bodies: Vec<Body>, scene: &Arc<Scene>) {
    let scene = scene.clone();
    bodies.push(Box::new(move || scene.evict()));
    run(bodies);
}

fn once() {
    let scene = Scene::new();
    let user = scene.clone();
    let reads = Box::new(move || user.read(user.roll.join()));
    against_an_evictor(vec![reads], &scene);
}

/// The thread is known before, reads, and reads again.
fn twice() {
    let scene = Scene::new();
    let (user, record) = (scene.clone(), scene.roll.join());
    let reads = Box::new(move || {
        user.read(record);
        user.read(record);
    });
    against_an_evictor(vec![reads], &scene);
}

/// A reading inside another.
fn nested() {
    let scene = Scene::new();
    let (user, record) = (scene.clone(), scene.roll.join());
    let reads = Box::new(move || {
        record.enter();
        user.read(record);
        record.leave();
    });
    against_an_evictor(vec![reads], &scene);
}

/// A thread ends, and another one gets its record.
fn handed_on() {
    let scene = Scene::new();
    let reads = |user: Arc<Scene>| -> Body {
        Box::new(move || {
            let record = user.roll.join();
            user.read(record);
            user.roll.hand_on(record);
        })
    };
    let bodies = vec![reads(scene.clone()), reads(scene.clone())];
    against_an_evictor(bodies, &scene);
}

#[test]
fn nobody_reads_what_was_freed() {
    holds(3, once);
    holds(3, twice);
    holds(3, nested);
    holds(1, handed_on);
}

#[test]
fn without_the_barrier_somebody_does() {
    misses(Form::Membarrier, Fault::NoBarrier, 3, twice);
    misses(Form::Fences, Fault::NoFence, 3, twice);
}
