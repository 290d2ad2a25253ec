//! An exclusive pin against short ones, long ones and a revoker.

use super::super::recall;
use super::super::sync::Fault;
use super::scene::Scene;
use super::world::{Body, Form::*, holds, misses, run};
use std::sync::Arc;

fn shared(scene: &Arc<Scene>) -> Body {
    let scene = scene.clone();
    Box::new(move || scene.use_once())
}

fn alone(scene: &Arc<Scene>, reopen: bool) -> Body {
    let scene = scene.clone();
    Box::new(move || {
        if let Ok(pin) = scene.lease.pin_exclusive() {
            scene.enter_alone();
            scene.leave_alone();
            if reopen { pin.reopen() } else { drop(pin) }
        }
    })
}

fn beside_a_short_pin() {
    let scene = Scene::new();
    run(vec![shared(&scene), alone(&scene, false)]);
}

fn that_reopens() {
    let scene = Scene::new();
    run(vec![shared(&scene), alone(&scene, true)]);
}

fn two_of_them() {
    let scene = Scene::new();
    run(vec![shared(&scene), alone(&scene, true), alone(&scene, false)]);
}

fn beside_a_pin_that_grows_long() {
    let scene = Scene::new();
    let user = scene.clone();
    let long: Body = Box::new(move || {
        if let Ok(pin) = user.lease.pin() {
            user.enter();
            let pin = pin.into_long(&user.lease).ok();
            user.leave();
            drop(pin);
        }
    });
    run(vec![long, alone(&scene, false)]);
}

fn beside_a_revoker() {
    let scene = Scene::new();
    let revoker = scene.clone();
    let revokes: Body = Box::new(move || {
        recall(&[&revoker.lease]).expect("the model's barrier");
        revoker.take_if_quiet();
    });
    let user = scene.clone();
    let alone: Body = Box::new(move || {
        if let Ok(pin) = user.lease.pin_exclusive() {
            user.enter();
            user.leave();
            drop(pin);
        }
    });
    run(vec![alone, revokes]);
}

#[test]
fn law_r6_loom_an_exclusive_pin_stands_alone() {
    holds(3, beside_a_short_pin);
    holds(3, that_reopens);
    for form in [Membarrier, Fences] {
        misses(form, Fault::NoDrain, 3, beside_a_short_pin);
        misses(form, Fault::NoBarrier, 3, beside_a_short_pin);
    }
}

#[test]
fn law_r6_loom_two_exclusive_pins() {
    holds(1, two_of_them);
}

#[test]
fn law_r6_loom_an_exclusive_pin_beside_one_that_grows_long() {
    holds(3, beside_a_pin_that_grows_long);
    for form in [Membarrier, Fences] {
        misses(form, Fault::ReleaseFirst, 3, beside_a_pin_that_grows_long);
    }
}

#[test]
fn law_r6_loom_an_exclusive_pin_against_a_revoker() {
    holds(2, beside_a_revoker);
    misses(Membarrier, Fault::NoSecondLoad, 3, beside_a_revoker);
}
