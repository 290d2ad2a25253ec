//! Pins, long pins, exits and commands against one revoker or two.

use super::super::sync::Fault;
use super::super::table::Exit;
use super::super::{IoPins, recall};
use super::scene::Scene;
use super::world::{Body, Form::*, Mutex, holds, misses, must, run};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

fn body(f: impl FnOnce() + Send + 'static) -> Body {
    Box::new(f)
}

/// Recalls, looks once; at the end either that look was enough or a wake came.
fn revoker(scene: &Arc<Scene>, quiet: &Arc<AtomicBool>) -> Body {
    let (scene, quiet) = (scene.clone(), quiet.clone());
    body(move || {
        recall(&[&scene.lease]).expect("the model's barrier");
        quiet.store(scene.take_if_quiet(), SeqCst);
    })
}

fn against_a_revoker(scene: &Arc<Scene>, mut bodies: Vec<Body>) {
    let quiet = Arc::new(AtomicBool::new(false));
    bodies.push(revoker(scene, &quiet));
    run(bodies);
    scene.woken_unless(quiet.load(SeqCst));
}

fn pin() {
    let scene = Scene::new();
    let user = scene.clone();
    against_a_revoker(&scene, vec![body(move || user.use_once())]);
}

fn two_pins() {
    let scene = Scene::new();
    let user = scene.clone();
    let twice = body(move || {
        user.use_once();
        user.use_once();
    });
    against_a_revoker(&scene, vec![twice]);
}

/// While one pin is in use the same thread tries another.
fn nested() {
    let scene = Scene::new();
    let user = scene.clone();
    let nests = body(move || {
        if let Ok(pin) = user.lease.pin() {
            user.enter();
            drop(user.lease.pin());
            user.leave();
            drop(pin);
        }
    });
    against_a_revoker(&scene, vec![nests]);
}

/// A short pin becomes a long one and ends on another thread.
fn moved() {
    let scene = Scene::new();
    let (from, to) = (scene.clone(), scene.clone());
    let post = Arc::new(Mutex::new(None));
    let (put, get) = (post.clone(), post.clone());
    let from = body(move || {
        if let Ok(pin) = from.lease.pin() {
            from.enter();
            *put.lock().expect("no panics") = pin.into_long(&from.lease).ok();
        }
    });
    let fetch = move || {
        let pin = get.lock().expect("no panics").take();
        if let Some(pin) = pin {
            to.leave();
            drop(pin);
        }
    };
    let fetches = fetch.clone();
    let quiet = Arc::new(AtomicBool::new(false));
    run(vec![from, body(fetches), revoker(&scene, &quiet)]);
    // If that came too early, now.
    fetch();
    scene.woken_unless(quiet.load(SeqCst));
}

/// A short pin becomes a long one on the same thread.
fn lengthened() {
    let scene = Scene::new();
    let user = scene.clone();
    let long = body(move || {
        if let Ok(pin) = user.lease.pin() {
            user.enter();
            let pin = pin.into_long(&user.lease).ok();
            let more = pin.clone();
            drop(pin);
            user.leave();
            drop(more);
        }
    });
    against_a_revoker(&scene, vec![long]);
}

fn held() {
    let scene = Scene::new();
    let user = scene.clone();
    let long = body(move || {
        if let Ok(pin) = user.lease.hold() {
            user.enter();
            user.leave();
            drop(pin);
        }
    });
    against_a_revoker(&scene, vec![long]);
}

fn two_users() {
    let scene = Scene::new();
    let (a, b) = (scene.clone(), scene.clone());
    against_a_revoker(&scene, vec![body(move || a.use_once()), body(move || b.use_once())]);
}

/// A thread pins and exits; its counters go to one that begins then, and pins.
/// (Its end and the other's beginning are one thread's here, since the lock of the
/// lists orders them in any case.)
fn exit() {
    let scene = Scene::new();
    let user = scene.clone();
    let both = body(move || {
        user.use_once();
        drop(Exit);
        user.use_once();
    });
    against_a_revoker(&scene, vec![both]);
}

/// The thread exits, but a pin of its goes on.
fn exit_with_a_pin() {
    let scene = Scene::new();
    let user = scene.clone();
    let quiet = Arc::new(AtomicBool::new(false));
    let forgets = body(move || {
        if let Ok(pin) = user.lease.pin() {
            user.enter();
            std::mem::forget(pin);
        }
    });
    run(vec![forgets, revoker(&scene, &quiet)]);
}

fn two_revokers() {
    let scene = Scene::new();
    let (user, other) = (scene.clone(), scene.clone());
    let second = body(move || {
        recall(&[&other.lease]).expect("the model's barrier");
        other.take_if_quiet();
    });
    against_a_revoker(&scene, vec![body(move || user.use_once()), second]);
}

/// A WRITE seal is set on a lease through which commands are submitted: when the
/// drain has ended nothing is in flight, and when it gives up the lease goes on.
fn seal() {
    let scene = Scene::new();
    let queue = scene.clone();
    let submits = body(move || {
        let mut pins = IoPins::new();
        let (known, _) = queue.lease.known();
        let mut seat = None;
        for _ in 0..2 {
            let pin = seat.and_then(|seat| pins.again(&queue.lease, &seat, known)).ok_or(());
            if let Ok(pin) = pin.or_else(|()| pins.submit(&queue.lease)) {
                seat = Some(pins.seat(&pin));
                queue.enter();
                queue.leave();
                pins.complete(&queue.lease, pin);
            }
        }
    });
    let sealer = scene.clone();
    let seals = body(move || {
        recall(&[&sealer.lease]).expect("the model's barrier");
        if !sealer.take_if_quiet() {
            // In flight: the seal is not set, and the lease is as it was.
            must(sealer.lease.renew() == Some(2), "held again");
        }
    });
    run(vec![submits, seals]);
}

#[test]
fn law_r6_loom_a_pin_against_a_revoker() {
    holds(3, pin);
    holds(2, two_pins);
    for fault in [Fault::NoSecondLoad, Fault::NoBarrier] {
        misses(Membarrier, fault, 3, pin);
    }
    for fault in [Fault::NoSecondLoad, Fault::NoBarrier, Fault::NoFence] {
        misses(Fences, fault, 3, pin);
    }
}

/// A thread that was held up in the middle of a pin is counted for a moment after the
/// lease was found quiet. What was true of it stays true.
#[test]
fn law_r6_loom_quiet_is_for_ever() {
    holds(3, pin);
    for form in [Membarrier, Fences] {
        misses(form, Fault::Forgetful, 3, pin);
    }
}

#[test]
fn law_r6_loom_released_is_read_first() {
    holds(3, nested);
    for form in [Membarrier, Fences] {
        misses(form, Fault::AcquiredFirst, 3, nested);
    }
}

#[test]
fn law_r6_loom_a_long_pin_ends_elsewhere() {
    holds(2, moved);
    holds(3, lengthened);
    holds(3, held);
    for form in [Membarrier, Fences] {
        misses(form, Fault::ReleaseFirst, 3, lengthened);
        misses(form, Fault::NoSecondLoad, 3, held);
    }
}

#[test]
fn law_r6_loom_a_thread_exits_during_a_revocation() {
    holds(3, exit);
    holds(3, exit_with_a_pin);
    for form in [Membarrier, Fences] {
        misses(form, Fault::Forget, 3, exit_with_a_pin);
    }
}

#[test]
fn law_r6_loom_two_threads_pin() {
    holds(1, two_users);
    misses(Membarrier, Fault::NoBarrier, 2, two_users);
}

#[test]
fn law_r6_loom_two_revokers() {
    holds(1, two_revokers);
    misses(Membarrier, Fault::NoBarrier, 2, two_revokers);
}

#[test]
fn law_r6_loom_a_seal_drains_what_is_submitted() {
    holds(3, seal);
    misses(Membarrier, Fault::NoBarrier, 3, seal);
    misses(Fences, Fault::NoFence, 3, seal);
}
