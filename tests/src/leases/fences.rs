//! References, part A: shared blocks, own operations, seals, the order of a fence.

use super::world::{B, LONG, World, demand, ended, finish, flush, flushed, held, holds, recalled};
use super::world::{refused, sound, text, wait};
use crate::cases::Verdict;
use freehold_blockmap::ErrorKind;
use freehold_blockmap::arbiter::{Access, Kinds};
use freehold_engine::pin::State;
use freehold_engine::sim::Survival;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Fenced means: what is in flight is over too, and nothing new goes out.
pub fn a14_a16_a_fence_waits_for_io_and_refuses_more() -> Verdict {
    let w = World::sim(14)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let mut q = w.queue()?;
    w.hold_writes();
    flush(&mut q, &lease, (0, 1), 9).map_err(text)?;
    w.hurry();
    let op = w.begin(|vol, f| vol.reflink_file(f, b"copy"));
    wait("the fence", || lease.pins().state() == State::Fencing)?;
    op.waits("a reflink beside a write in flight")?;
    let late = flushed(&mut q, &lease, (1, 1), 9);
    demand(late.is_err(), || "a flush went out through a lease that is fenced".into())?;
    w.release();
    let copy = op.end("the reflink")?.map_err(text)?;
    holds(&w.vol, &copy, 0, 9)?;
    holds(&w.vol, &copy, 1, 1)?;
    let mut done: Vec<freehold_blockmap::Finished> = Vec::new();
    wait("the flush", || q.poll(&mut done) > 0 || !done.is_empty())?;
    demand(done.iter().filter(|d| d.result.is_ok()).count() == 1, || format!("{done:?}"))?;
    ended(&lease)
}

/// A holder that dies before it syncs leaves what it had not synced undefined, no more.
pub fn a18_only_what_was_not_synced_is_undefined() -> Verdict {
    for seed in 0..12 {
        let w = World::sim(seed)?;
        let lease = w.lease(Access::Write, 2, 4)?;
        let mut q = w.queue()?;
        flushed(&mut q, &lease, (2, 2), 9).map_err(text)?;
        w.vol.sync().map_err(text)?;
        flushed(&mut q, &lease, (3, 2), 10).map_err(text)?;
        let x = w.after_crash(Survival::Random, seed)?;
        [(0, 1), (1, 1), (2, 9), (5, 1)].into_iter().try_for_each(|(b, v)| x.holds(b, v))?;
        for (block, old) in [(3, 9), (4, 1)] {
            let got = x.block(block)?;
            demand(got.iter().all(|b| *b == old || *b == 10), || {
                format!("block {block} holds what nobody wrote there")
            })?;
        }
    }
    Ok(())
}

/// A writable lease over shared blocks is over copies, and all reads see those.
pub fn a19_shared_blocks_are_unshared_for_a_writable_lease() -> Verdict {
    for access in [Access::Write, Access::Exclusive] {
        let w = World::sim(19)?;
        let copy = w.vol.reflink_file(&w.file, b"copy").map_err(text)?;
        let before = w.vol.iomap(&copy, 0, 4 * B).map_err(text)?[0].address;
        let lease = w.lease(access, 0, 4)?;
        demand(lease.pieces()[0].address != before, || "the lease is over shared blocks".into())?;
        let mut q = w.queue()?;
        flushed(&mut q, &lease, (0, 4), 9).map_err(text)?;
        let own = w.of(&w.holder);
        for block in 0..4 {
            holds(&w.vol, &copy, block, 1)?;
            holds(&w.vol, &own, block, 9)?;
        }
        sound(&w.vol)?;
    }
    Ok(())
}

/// First our own I/O is reaped, then the actions run, each once; then the lease is gone.
pub fn a20_a24_io_is_reaped_then_actions_run_then_it_is_over() -> Verdict {
    let w = World::sim(20)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let ran = Arc::new(AtomicU32::new(0));
    let (count, seen) = (ran.clone(), lease.clone());
    let action = Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
        let (state, io) = (seen.pins().state(), seen.pins().counts().io);
        (state == State::Fencing && io == 0)
            .then_some(())
            .ok_or(format!("{state:?}, {io} in flight"))
    });
    let (_, pieces) = lease.register(action).map_err(text)?;
    demand(pieces == lease.pieces(), || "other blocks were registered".into())?;
    refused("a return", ErrorKind::Busy, w.vol.return_lease(&lease))?;
    let mut q = w.queue()?;
    w.hold_writes();
    flush(&mut q, &lease, (0, 1), 9).map_err(text)?;
    w.hurry();
    let op = w.begin(|vol, f| vol.truncate(f, 0));
    wait("the fence", || lease.pins().state() == State::Fencing)?;
    op.waits("a truncate beside a write in flight")?;
    demand(ran.load(Ordering::SeqCst) == 0, || "an action ran before our I/O was over".into())?;
    w.release();
    op.end("the truncate")?.map_err(text)?;
    finish(&mut q).map_err(text)?;
    demand(ran.load(Ordering::SeqCst) == 1, || format!("an action ran {ran:?} times"))?;
    ended(&lease)?;
    sound(&w.vol)
}

/// A WRITE seal: new writers wait, those that are there are waited for, with a bound; if
/// it gives up, all is as it was.
pub fn a21_a_write_seal_denies_drains_and_rolls_back() -> Verdict {
    let w = World::sim(21)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let pin = lease.hold().map_err(|e| e.to_string())?;
    let third = w.vol.new_session();
    let owner = third.clone();
    let spec = freehold_blockmap::SealSpec {
        kinds: Kinds::WRITE,
        breakable: false,
        timeout: Duration::from_millis(150),
    };
    let seal = w.begin(move |vol, f| vol.seal(f, &owner, (0, 16 * B), spec));
    wait("the recall", || seal.is_over() || recalled(&w.holder).is_some())?;
    let writer = w.begin(|vol, f| vol.write_at(f, &[4; 4096], 5 * B));
    refused("a seal that cannot drain", ErrorKind::Busy, seal.end("the seal")?)?;
    writer.end("a write that came behind it")?.map_err(text)?;
    held(&lease)?;
    demand(w.vol.holdings().len() == 1, || format!("left: {:?}", w.vol.holdings()))?;
    drop(pin);
    let seal = w.seal(&third, Kinds::WRITE, LONG).map_err(text)?;
    ended(&lease)?;
    refused("a write", ErrorKind::Sealed, w.vol.write_at(&w.file, &[5; 4096], 5 * B))?;
    drop(seal);
    w.overwrite(5, 6)
}

/// A WRITE seal is in force when it is returned: plain writes in flight have landed.
pub fn a21_a_write_seal_waits_for_plain_writes_in_flight() -> Verdict {
    let w = World::sim(23)?;
    let mut q = w.queue()?;
    w.hold_writes();
    let mut buf = q.buffer(B as usize).map_err(text)?;
    buf.fill(9);
    q.write(&w.file, 2 * B, buf, 1).map_err(|_| "refused".to_owned())?;
    let who = w.holder.clone();
    let spec = freehold_blockmap::SealSpec { kinds: Kinds::WRITE, breakable: false, timeout: LONG };
    let seal = w.begin(move |vol, f| vol.seal(f, &who, (0, 16 * B), spec));
    seal.waits("a WRITE seal beside a write in flight")?;
    w.release();
    let _seal = seal.end("the seal")?.map_err(text)?;
    w.holds(2, 9)
}

/// A reference is given when nobody writes any more, plain writes in flight included.
pub fn r5_a_stable_grant_waits_for_plain_writes_in_flight() -> Verdict {
    let w = World::sim(24)?;
    let mut q = w.queue()?;
    w.hold_writes();
    let mut buf = q.buffer(B as usize).map_err(text)?;
    buf.fill(9);
    q.write(&w.file, 2 * B, buf, 1).map_err(|_| "refused".to_owned())?;
    let who = w.holder.clone();
    let spec = freehold_blockmap::LeaseSpec { access: Access::Stable, max_hold: Duration::ZERO };
    let grant = w.begin(move |vol, f| vol.lease(f, &who, (0, 4 * B), spec));
    grant.waits("a Stable grant beside a write in flight")?;
    w.release();
    let lease = grant.end("the grant")?.map_err(text)?;
    let mut q2 = w.queue()?;
    super::world::fill(&mut q2, &lease, (2, 1)).map_err(text)?;
    let got = finish(&mut q2).map_err(text)?;
    demand(got.iter().all(|b| *b == 9), || "the lease saw bytes from before".into())
}

/// A session's own operation does not break its lease by accident; with a pin of its own
/// in the way it is refused, and nothing is done.
pub fn a23_own_operations_refresh_or_refuse() -> Verdict {
    let w = World::memory()?;
    let own = w.of(&w.holder);
    let lease = w.lease(Access::Stable, 0, 4)?;
    let pin = lease.hold().map_err(|e| e.to_string())?;
    let done = w.vol.write_at(&own, &[2; 4096], 0);
    refused("an own write under an own Stable pin", ErrorKind::WouldDeadlock, done)?;
    held(&lease)?;
    w.holds(0, 1)?;
    drop(pin);
    w.vol.write_at(&own, &[2; 4096], 0).map_err(text)?;
    demand(lease.is_stale(), || "the lease did not become stale".into())?;
    w.vol.refresh(&lease).map_err(text)?;
    held(&lease)
}

/// A pin holds what the file's map says, whoever takes the name, the blocks, or the file.
pub fn a25_a_pin_holds_the_files_blocks() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Stable, 0, 16)?;
    let view = lease.view().map_err(text)?;
    let bytes = view.hold().map_err(|e| e.to_string())?;
    w.vol.remove(b"f").map_err(text)?;
    // The name is gone; the holder's session ends, and only the pin is left.
    w.hurry();
    let World { vol, holder, file, .. } = w;
    vol.truncate(&file, B).map_err(text)?;
    drop((lease, file));
    vol.end_session(&holder).map_err(text)?;
    for i in 0..40u8 {
        let name = [b'g', b'a' + i % 4];
        let _ = vol.remove(&name);
        let other = vol.create(&name).map_err(text)?;
        // Some at a time, so that each place that is free is taken.
        for at in 0..64 {
            vol.write_at(&other, &[77; 4096], at * 2 * B).map_err(text)?;
        }
        vol.checkpoint().map_err(text)?;
    }
    let seen = bytes.slice(0, 16 * B).map_err(|e| e.to_string())?;
    demand(seen.iter().all(|b| *b == 1), || "a pin reached the bytes of another file".into())?;
    drop((bytes, view));
    sound(&vol)
}

/// Sealing changes no map; two sealed reflinks stay as they are and can be compared.
pub fn a26_sealing_changes_no_map() -> Verdict {
    let w = World::sim(26)?;
    w.vol.punch(&w.file, 8 * B, B).map_err(text)?;
    let copy = w.vol.reflink_file(&w.file, b"copy").map_err(text)?;
    w.overwrite(3, 9)?;
    let maps = || -> Result<_, String> {
        let one = w.vol.iomap(&w.file, 0, 16 * B).map_err(text)?;
        Ok((one, w.vol.iomap(&copy, 0, 16 * B).map_err(text)?))
    };
    let before = maps()?;
    let spec =
        freehold_blockmap::SealSpec { kinds: Kinds::LAYOUT, breakable: false, timeout: LONG };
    let _a = w.vol.seal(&w.file, &w.holder, (0, 16 * B), spec).map_err(text)?;
    let _b = w.vol.seal(&copy, &w.holder, (0, 16 * B), spec).map_err(text)?;
    demand(maps()? == before, || "a seal changed a map".into())?;
    refused("a write to shared blocks", ErrorKind::Sealed, w.vol.write_at(&w.file, &[8; 10], 0))?;
    w.overwrite(3, 10)?;
    w.vol.defrag(&w.file, 0, 16 * B).map_err(text)?;
    w.vol.checkpoint().map_err(text)?;
    demand(maps()? == before, || "a map changed under a seal".into())?;
    let diff = w.vol.diff(&w.file, &copy).map_err(text)?;
    let ranges: Vec<_> = diff.iter().map(|d| (d.offset, d.len)).collect();
    demand(ranges == [(3 * B, B)], || format!("they differ at {ranges:?}"))?;
    w.after_crash(Survival::Random, 1).map(drop)
}
