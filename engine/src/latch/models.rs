//! Latches under loom: the code itself, on loom's atomics.
//!
//! How membarrier is modelled stands at the head of `pin/models/world.rs`. Each model is
//! run in both forms and must hold; then once for each part of the protocol with that part
//! left out, and must not.

use super::{Latch, Owner};
use crate::pin::models::world::{AtomicU64, Body, Form, Mutex, holds, misses, must, run, step};
use crate::pin::sync::Fault;
use std::sync::Arc;
use std::sync::atomic::AtomicU64 as Plain;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// A latch and what is done inside. `Plain` atomics are the observer's.
struct Scene {
    latch: Latch<()>,
    inside: Plain,
    entries: Plain,
    /// One more for each entry, by a load and a store: one that did not see the one before
    /// it is lost.
    written: AtomicU64,
}

impl Scene {
    fn new() -> (Arc<Self>, Owner) {
        let (latch, owner) = Latch::owned(());
        let plain = || Plain::new(0);
        let scene = Scene { latch, inside: plain(), entries: plain(), written: AtomicU64::new(0) };
        (Arc::new(scene), owner)
    }

    fn work(&self) {
        must(self.inside.fetch_add(1, SeqCst) == 0, "two inside");
        let before = self.written.load(Relaxed);
        must(before == self.entries.load(SeqCst), "inside without what was written there");
        step();
        self.written.store(before + 1, Relaxed);
        self.entries.fetch_add(1, SeqCst);
        self.inside.fetch_sub(1, SeqCst);
    }

    fn own(&self, owner: &mut Owner) {
        let entered = self.latch.enter(owner);
        self.work();
        drop(entered);
    }

    fn visit(&self) {
        if let Some(locked) = self.latch.try_lock() {
            self.work();
            drop(locked);
        }
    }

    fn insist(&self) {
        let locked = self.latch.lock();
        must(locked.is_some(), "the model's barrier");
        self.work();
        drop(locked);
    }
}

fn owned_by(scene: &Arc<Scene>, work: impl FnOnce(&Scene) + Send + 'static) -> Body {
    let scene = scene.clone();
    Box::new(move || work(&scene))
}

/// The owner comes twice, another one once.
fn two() {
    let (scene, mut owner) = Scene::new();
    let own = owned_by(&scene, move |s| {
        s.own(&mut owner);
        s.own(&mut owner);
    });
    run(vec![own, owned_by(&scene, Scene::visit)]);
}

/// The owner comes once, another one twice: it finds the door as it left it.
fn again() {
    let (scene, mut owner) = Scene::new();
    let visits = owned_by(&scene, |s| {
        s.visit();
        s.visit();
    });
    run(vec![owned_by(&scene, move |s| s.own(&mut owner)), visits]);
}

/// Two others at once.
fn three() {
    let (scene, mut owner) = Scene::new();
    let own = owned_by(&scene, move |s| s.own(&mut owner));
    run(vec![own, owned_by(&scene, Scene::visit), owned_by(&scene, Scene::visit)]);
}

/// Another one who waits until it may come in.
fn waiting() {
    let (scene, mut owner) = Scene::new();
    let own = owned_by(&scene, move |s| s.own(&mut owner));
    run(vec![own, owned_by(&scene, Scene::insist)]);
    must(scene.entries.load(SeqCst) == 2, "somebody never came in");
}

/// The owner goes to another thread, and is used there.
fn moved() {
    let (scene, owner) = Scene::new();
    let hand = Arc::new(Mutex::new(Some(owner)));
    let own = |scene: &Arc<Scene>| {
        let hand = hand.clone();
        owned_by(scene, move |s| {
            let taken = hand.lock().expect("no panics").take();
            if let Some(mut owner) = taken {
                s.own(&mut owner);
                *hand.lock().expect("no panics") = Some(owner);
            }
        })
    };
    run(vec![own(&scene), own(&scene), owned_by(&scene, Scene::visit)]);
}

/// The owner ends.
fn ended() {
    let (scene, mut owner) = Scene::new();
    let own = owned_by(&scene, move |s| {
        s.own(&mut owner);
        s.latch.disown(&mut owner);
    });
    let visits = owned_by(&scene, |s| {
        s.visit();
        s.visit();
    });
    run(vec![own, visits]);
}

#[test]
fn one_at_a_time_is_inside() {
    holds(3, two);
    holds(3, again);
}

#[test]
fn and_among_others() {
    holds(2, three);
}

#[test]
fn who_waits_comes_in() {
    holds(2, waiting);
}

#[test]
fn an_owner_may_move() {
    holds(1, moved);
}

#[test]
fn an_owner_may_end() {
    holds(3, ended);
}

#[test]
fn without_the_barrier_there_are_two() {
    misses(Form::Membarrier, Fault::NoBarrier, 3, two);
    misses(Form::Fences, Fault::NoFence, 3, two);
    misses(Form::Membarrier, Fault::NoSecondLoad, 3, two);
}
