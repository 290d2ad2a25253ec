//! Fences that fail and are tried again, and recalls that are taken back.

use super::world::{B, World, demand, ended, held, refused, sound, text};
use crate::cases::Verdict;
use freehold_blockmap::arbiter::{Access, Kinds, State as Life};
use freehold_blockmap::{ErrorKind, Event, SealSpec};
use freehold_engine::pin::State;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A fence moves a part of a file off an overdue writer, and then meets a seal: what was moved
/// stays in quarantine, and the next fence goes on from there.
pub fn r4_a_fence_that_fails_half_way_keeps_what_it_moved() -> Verdict {
    let w = World::memory()?;
    // Block 1 lies apart from the others.
    w.vol.reflink_file(&w.file, b"copy").map_err(text)?;
    w.overwrite(1, 1)?;
    w.vol.remove(b"copy").map_err(text)?;
    w.vol.checkpoint().map_err(text)?;
    w.vol.checkpoint().map_err(text)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let view = lease.view().map_err(text)?;
    let late = view.hold().map_err(|e| e.to_string())?;
    let extents = w.vol.iomap(&w.file, 0, 4 * B).map_err(text)?.len();
    demand(extents > 1, || "the lease is over one extent: nothing can fail half-way".into())?;
    let spec = SealSpec { kinds: Kinds::LAYOUT, breakable: false, timeout: Duration::ZERO };
    let seal = w.vol.seal(&w.file, &w.comer, (3 * B, B), spec).map_err(text)?;
    w.hurry();
    let kept = || w.vol.inflight().leases.iter().map(|f| f.quarantine).sum::<u64>();
    for round in 0..2u8 {
        let name = [b'r', b'0' + round];
        refused("a reflink", ErrorKind::Busy, w.vol.reflink_file(&w.file, &name))?;
        demand(kept() == 4 * B, || format!("round {round}: {} bytes in quarantine", kept()))?;
    }
    // All that is free, and then the late writer.
    let other = w.vol.create(b"other").map_err(text)?;
    while w.vol.write_at(&other, &[77; 4 << 10], other.size()).is_ok() {}
    late.store(0, &[66; 3 * B as usize]).map_err(|e| e.to_string())?;
    for block in 0..other.size() / B {
        super::world::holds(&w.vol, &other, block, 77)?;
    }
    demand(lease.hold().is_err(), || "it is held again".into())?;
    drop((seal, other));
    w.vol.remove(b"other").map_err(text)?;
    w.vol.checkpoint().map_err(text)?;
    w.vol.checkpoint().map_err(text)?;
    w.vol.reflink_file(&w.file, b"copy").map_err(text)?;
    ended(&lease)?;
    late.store(0, &[66; 4 * B as usize]).map_err(|e| e.to_string())?;
    w.holds(0, 1)?;
    w.holds(1, 1)?;
    w.holds(3, 1)?;
    drop((late, view, lease));
    w.vol.checkpoint().map_err(text)?;
    demand(kept() == 0, || format!("{} bytes in quarantine at the end", kept()))?;
    sound(&w.vol)
}

/// A fence that fails leaves its lease recalled for everybody, and nobody is told that it is
/// held again.
pub fn r4_a_fence_that_fails_leaves_its_lease_recalled() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let action = Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        Err("not now".to_owned())
    });
    let (number, _) = lease.register(action).map_err(text)?;
    w.hurry();
    for round in 1..=2 {
        refused("a punch", ErrorKind::Busy, w.vol.punch(&w.file, 0, 4 * B))?;
        demand(calls.load(Ordering::SeqCst) == round, || format!("{calls:?} calls"))?;
        let (life, pins) = (lease.state(), lease.pins().state());
        demand(matches!(life, Some(Life::Recalled { .. })) && pins == State::Recalled, || {
            format!("it is {life:?}, and its pins say {pins:?}")
        })?;
    }
    let told = w.holder.take_events();
    demand(!told.iter().any(|e| matches!(e, Event::Withdrawn { .. })), || format!("{told:?}"))?;
    demand(lease.deregister(number), || "it cannot be taken back".into())?;
    w.vol.punch(&w.file, 0, 4 * B).map_err(text)?;
    ended(&lease)?;
    w.holds(0, 0)
}

/// A seal gives up: the lease that was in its way is held again, and its delegates are.
pub fn a21_a_recall_that_is_withdrawn_is_so_for_delegates() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let third = w.vol.new_session();
    let part = w.vol.delegate(&lease, &third, (0, 2 * B), Access::Write).map_err(text)?;
    let below = w.vol.delegate(&part, &w.vol.new_session(), (0, B), Access::Read).map_err(text)?;
    let pin = lease.hold().map_err(|e| e.to_string())?;
    let seal = w.seal(&w.comer, Kinds::WRITE, Duration::from_millis(5));
    refused("the seal", ErrorKind::Busy, seal.map(drop))?;
    held(&lease)?;
    held(&below)?;
    below.pins().pin().map(drop).map_err(|e| e.to_string())?;
    drop(pin);
    sound(&w.vol)
}
