//! Registrations and their actions, ends of sessions, deadlines.

use super::world::{B, LONG, World, demand, ended, held, recalled, refused, sound, text, wait};
use crate::cases::Verdict;
use freehold_blockmap::ErrorKind;
use freehold_blockmap::arbiter::Access;
use freehold_engine::pin::State;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// An action that fails, or panics, leaves the operation busy and the lease in the way; it
/// is called again for the next one, and when it succeeds never more.
pub fn r4_a_failed_action_leaves_the_operation_busy() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Read, 0, 4)?;
    let (count, order) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let (calls, others) = (count.clone(), order.clone());
    let first = Box::new(move || match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Err("not now".to_owned()),
        1 => panic!("an action that panics, on purpose"),
        _ => Ok(()),
    });
    lease.register(first).map_err(text)?;
    lease
        .register(Box::new(move || {
            others.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }))
        .map_err(text)?;
    w.hurry();
    for round in 1..=2 {
        refused("a truncate", ErrorKind::Busy, w.vol.truncate(&w.file, 0))?;
        demand(count.load(Ordering::SeqCst) == round, || format!("{count:?} calls"))?;
        w.holds(0, 1)?;
        demand(lease.hold().is_err(), || "it is pinned again".into())?;
        demand(!w.vol.holdings().is_empty(), || "the lease is gone".into())?;
    }
    w.vol.truncate(&w.file, 0).map_err(text)?;
    ended(&lease)?;
    w.vol.truncate(&w.file, 4 * B).map_err(text)?;
    let calls = (count.load(Ordering::SeqCst), order.load(Ordering::SeqCst));
    demand(calls == (3, 1), || format!("the actions were called {calls:?} times"))?;
    sound(&w.vol)
}

/// An action holds no lock, and whatever it asks of its own store is refused.
pub fn r4_an_action_cannot_call_its_store() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Read, 0, 4)?;
    let (vol, file, who) = (w.vol.clone(), w.of(&w.holder), w.holder.clone());
    let (tell, told) = mpsc::channel();
    let mut queue = w.queue()?;
    lease
        .register(Box::new(move || {
            let mut byte = [0];
            let kind = |done: Result<(), freehold_blockmap::Error>| done.err().map(|e| e.kind());
            let spec =
                freehold_blockmap::LeaseSpec { access: Access::Read, max_hold: Duration::ZERO };
            let _ = tell.send([
                kind(vol.read_at(&file, &mut byte, 0).map(drop)),
                kind(vol.write_at(&file, &[1], 0)),
                kind(vol.write_durable_at(&file, &[1], 0)),
                kind(vol.sync()),
                kind(vol.lease(&file, &who, (0, 1), spec).map(drop)),
                kind(vol.end_session(&who)),
                kind(queue.wait(None)),
            ]);
            // What only looks is allowed, and finds no lock held.
            let _ = (vol.holdings(), vol.inflight());
            Ok(())
        }))
        .map_err(text)?;
    w.hurry();
    let op = w.begin(|vol, f| vol.truncate(f, 0));
    op.end("the truncate")?.map_err(text)?;
    let answers = told.recv_timeout(LONG).map_err(|_| "the action did not run")?;
    demand(answers == [Some(ErrorKind::WouldDeadlock); 7], || format!("it got {answers:?}"))
}

/// An action that does not return, because it waits for a thread that waits for the same
/// lease, keeps nobody for ever.
pub fn r4_an_action_that_does_not_return_keeps_nobody() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Read, 0, 4)?;
    let go = Arc::new(AtomicBool::new(false));
    let gate = go.clone();
    lease
        .register(Box::new(move || {
            while !gate.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok(())
        }))
        .map_err(text)?;
    w.hurry();
    let stuck = w.begin(|vol, f| vol.truncate(f, 0));
    wait("the fence", || lease.pins().state() == State::Fencing)?;
    let other = w.begin(|vol, f| vol.truncate(f, B));
    refused("the one it waits for", ErrorKind::Busy, other.end("the other")?)?;
    go.store(true, Ordering::SeqCst);
    // The thread that ran it was kept; its own operation may have given up meanwhile.
    let _ = stuck.end("the one that ran it")?;
    w.vol.truncate(&w.file, 0).map_err(text)?;
    ended(&lease)?;
    sound(&w.vol)
}

/// A holder that takes its registration back itself is never called.
pub fn r4_what_the_holder_took_back_is_not_called() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Read, 0, 4)?;
    let ran = Arc::new(AtomicU32::new(0));
    let make = || {
        let count = ran.clone();
        Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    };
    let (one, _) = lease.register(make()).map_err(text)?;
    demand(lease.deregister(one), || "it cannot be taken back".into())?;
    let (two, _) = lease.register(make()).map_err(text)?;
    demand(two != one && !lease.deregister(one), || "a number was given twice".into())?;
    let op = w.begin(|vol, f| vol.truncate(f, 0));
    wait("the recall", || recalled(&w.holder).is_some())?;
    op.waits("a truncate beside a registration")?;
    demand(lease.deregister(two), || "it cannot be taken back after a recall".into())?;
    op.end("the truncate")?.map_err(text)?;
    demand(ran.load(Ordering::SeqCst) == 0, || "an action was called all the same".into())?;
    ended(&lease)
}

/// The end of a session gives up all that it has: what is idle at once, what is in use by
/// a fence; its pins reach nothing that is anybody's.
pub fn r3_the_end_of_a_session_takes_everything() -> Verdict {
    let w = World::memory()?;
    let (idle, pinned) = (w.lease(Access::Write, 0, 4)?, w.lease(Access::Write, 4, 4)?);
    let registered = w.lease(Access::Read, 8, 4)?;
    let ran = Arc::new(AtomicU32::new(0));
    let count = ran.clone();
    registered
        .register(Box::new(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }))
        .map_err(text)?;
    let seal = w.seal(&w.holder, freehold_blockmap::arbiter::Kinds::SHRINK, LONG).map_err(text)?;
    let view = pinned.view().map_err(text)?;
    let late = view.hold().map_err(|e| e.to_string())?;
    w.vol.end_session(&w.holder).map_err(text)?;
    [&idle, &pinned, &registered].into_iter().try_for_each(|l| ended(l))?;
    demand(!seal.is_set() && w.vol.holdings().is_empty(), || {
        format!("left: {:?}", w.vol.holdings())
    })?;
    demand(ran.load(Ordering::SeqCst) == 1, || format!("the action ran {ran:?} times"))?;
    late.store(0, &[66; 4096]).map_err(|e| e.to_string())?;
    w.holds(4, 1)?;
    w.overwrite(4, 2)?;
    w.vol.truncate(&w.file, 0).map_err(text)?;
    w.vol.end_session(&w.holder).map_err(text)?;
    drop((late, view, seal));
    w.vol.sync().map_err(text)?;
    demand(w.vol.inflight().is_empty(), || format!("left: {:?}", w.vol.inflight()))?;
    sound(&w.vol)
}

/// A holder that never polls and never looks holds nobody beyond its deadline; whoever waits
/// drives it, on its own thread, and other sessions' leases stay.
pub fn m2_deadlines_are_driven_by_who_waits() -> Verdict {
    let w = World::sim(2)?;
    let others = w.lease_of(&w.comer, Access::Read, (8 * B, B)).map_err(text)?;
    let lease = w.lease(Access::Read, 0, 4)?;
    let _pin = lease.hold().map_err(|e| e.to_string())?;
    w.hurry();
    w.vol.punch(&w.file, 0, B).map_err(text)?;
    ended(&lease)?;
    held(&others)?;
    // Through a queue, whose user only polls.
    let lease = w.lease(Access::Stable, 4, 4)?;
    let _pin = lease.hold().map_err(|e| e.to_string())?;
    let mut q = w.queue()?;
    let mut buf = q.buffer(B as usize).map_err(text)?;
    buf.fill(5);
    q.write(&w.file, 4 * B, buf, 1).map_err(|_| "refused".to_owned())?;
    super::world::finish(&mut q).map_err(text)?;
    ended(&lease)?;
    w.holds(4, 5)
}

/// A store does not close under leases: their holders are asked, and it says who has them.
pub fn a_store_closes_when_its_leases_are_given_up() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Read, 0, 4)?;
    let pin = lease.hold().map_err(|e| e.to_string())?;
    w.hurry();
    refused("closing", ErrorKind::Busy, w.vol.recall_all(w.comer.id()))?;
    drop(pin);
    w.vol.recall_all(w.comer.id()).map_err(text)?;
    ended(&lease)?;
    w.vol.close().map_err(text)
}
