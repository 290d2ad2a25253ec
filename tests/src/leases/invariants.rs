//! References, part A, as far as one lease and its holder go, by number.

use super::world::{B, LONG, World, demand, ended, fill, finish, flush, flushed, held, recalled};
use super::world::{refused, sound, text, wait};
use crate::cases::Verdict;
use freehold_blockmap::arbiter::{Access, Held, Kinds, State};
use freehold_blockmap::{ErrorKind, LEASE_TIME, LeaseSpec, MOST_HOLD};
use freehold_engine::sim::Survival;
use std::time::Duration;

/// I/O goes through a lease that is held, inside of it, and as it allows.
pub fn a01_io_only_under_a_lease_that_is_held() -> Verdict {
    let w = World::sim(1)?;
    let (read, write) = (w.lease(Access::Read, 0, 4)?, w.lease(Access::Write, 4, 4)?);
    let mut q = w.queue()?;
    refused("a flush through a Read lease", ErrorKind::Invalid, flush(&mut q, &read, (0, 1), 9))?;
    refused("a fill outside", ErrorKind::Invalid, fill(&mut q, &read, (3, 2)))?;
    refused("a flush outside", ErrorKind::Invalid, flush(&mut q, &write, (3, 1), 9))?;
    w.vol.return_lease(&write).map_err(text)?;
    let late = flush(&mut q, &write, (4, 1), 9).and_then(|()| finish(&mut q).map(drop));
    refused("a flush after the return", ErrorKind::Revoked, late)?;
    for block in 0..8 {
        w.holds(block, 1)?;
    }
    Ok(())
}

/// A grant is as wide as was asked or wider. What never comes and what does not come now
/// are told apart.
pub fn a02_a_grant_is_never_narrower_and_never_is_not_later() -> Verdict {
    let w = World::memory()?;
    let of = |range| w.lease_of(&w.holder, Access::Read, range);
    let lease = of((100, 5000)).map_err(text)?;
    demand(lease.range() == (0, 2 * B), || format!("it covers {:?}", lease.range()))?;
    refused("past the end", ErrorKind::Invalid, of((15 * B, 2 * B)))?;
    refused("nothing", ErrorKind::Invalid, of((0, 0)))?;
    let _seal = w.seal(&w.comer, Kinds::WRITE, LONG).map_err(text)?;
    let write = w.lease_of(&w.holder, Access::Write, (0, B));
    refused("a Write lease under a seal", ErrorKind::Sealed, write)
}

/// Numbers begin at 1 and grow; a refreshed, a shortened, and a withdrawn lease have others.
pub fn a03_numbers_grow_and_are_never_0() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let mut last = 0;
    let mut more = |what: &str| {
        let seq = lease.pins().seq();
        demand(seq > last, || format!("{what}: {seq} after {last}")).inspect(|()| last = seq)
    };
    more("granted")?;
    w.vol.reflink_file(&w.of(&w.holder), b"c").map_err(text)?;
    w.vol.refresh(&lease).map_err(text)?;
    more("refreshed")?;
    w.vol.return_part(&lease, (0, 2 * B)).map_err(text)?;
    more("shortened")?;
    let pin = lease.hold().map_err(|e| e.to_string())?;
    let seal = w.seal(&w.comer, Kinds::WRITE, Duration::from_millis(5));
    refused("a seal beside a write pin", ErrorKind::Busy, seal)?;
    held(&lease)?;
    more("withdrawn")?;
    drop(pin);
    Ok(())
}

/// Blocks are given out for writing when a crash cannot give them to anybody else.
pub fn a04_blocks_for_writing_are_durable_first() -> Verdict {
    for (seed, survival) in [(1, Survival::Nothing), (2, Survival::Random)] {
        let w = World::sim(seed)?;
        w.vol.punch(&w.file, 4 * B, 4 * B).map_err(text)?;
        w.vol.allocate(&w.file, 6 * B, 2 * B).map_err(text)?;
        let lease = w.lease(Access::Write, 2, 8)?;
        let leased: Vec<_> = lease.pieces().iter().map(|p| (p.len, p.address)).collect();
        let x = w.after_crash(survival, seed)?;
        let map = x.vol.iomap(&x.file, 2 * B, 8 * B).map_err(text)?;
        let kept: Vec<_> = map.iter().map(|p| (p.len, p.address)).collect();
        demand(leased == kept && map.iter().all(|p| !p.unwritten), || {
            format!("leased {leased:?}, after a crash {map:?}")
        })?;
        for block in 4..8 {
            x.holds(block, 0)?;
        }
    }
    Ok(())
}

/// Changing bytes is no conflict with Read and Write leases.
pub fn a05_changing_bytes_recalls_stable_and_exclusive_only() -> Verdict {
    let w = World::memory()?;
    for (access, stays) in [
        (Access::Read, true),
        (Access::Write, true),
        (Access::Stable, false),
        (Access::Exclusive, false),
    ] {
        let lease = w.lease(access, 0, 4)?;
        w.overwrite(1, 7)?;
        if stays { held(&lease)? } else { ended(&lease)? }
    }
    Ok(())
}

/// The recall is told at once and stays pending until the lease is given up; before and
/// after that its holder gets errors of their own.
pub fn a06_recalled_and_revoked_are_told_apart() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Read, 0, 4)?;
    let pin = lease.hold().map_err(|e| e.to_string())?;
    let op = w.begin(|vol, f| vol.truncate(f, 0));
    wait("the recall", || recalled(&w.holder).is_some())?;
    refused("a view meanwhile", ErrorKind::Recalled, lease.view())?;
    op.waits("the truncate")?;
    drop(pin);
    op.end("the truncate")?.map_err(text)?;
    // It was taken when nothing used it any more: nothing is lost.
    refused("a view afterwards", ErrorKind::Recalled, lease.view())?;
    w.vol.truncate(&w.file, 4 * B).map_err(text)?;
    let lease = w.lease(Access::Read, 0, 4)?;
    let _pin = lease.hold().map_err(|e| e.to_string())?;
    w.hurry();
    w.vol.truncate(&w.file, 0).map_err(text)?;
    refused("a view after a fence", ErrorKind::Revoked, lease.view())
}

/// A recall says whether what is unflushed may still go, and then it may.
pub fn a07_a_recall_says_whether_to_flush() -> Verdict {
    let w = World::sim(7)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    lease.soil();
    let copy = w.begin(|vol, f| vol.reflink_file(f, b"copy"));
    let mut told = None;
    wait("the recall", || {
        told = told.or(recalled(&w.holder));
        told.is_some()
    })?;
    demand(told.is_some_and(|(_, may)| may), || "it may not flush for a reflink".into())?;
    copy.waits("the reflink")?;
    let mut q = w.queue()?;
    flushed(&mut q, &lease, (1, 1), 9).map_err(text)?;
    lease.clean();
    let copy = copy.end("the reflink")?.map_err(text)?;
    super::world::holds(&w.vol, &copy, 1, 9)?;
    let late = flushed(&mut q, &lease, (1, 1), 10);
    refused("a flush when it was taken", ErrorKind::Recalled, late)?;
    // All of it goes away: nothing is worth flushing. A part: the rest is.
    for (size, flushes) in [(0, false), (8 * B, true)] {
        let w = World::sim(8)?;
        let lease = w.lease(Access::Write, 4, 8)?;
        lease.soil();
        let pin = lease.hold().map_err(|e| e.to_string())?;
        let op = w.begin(move |vol, f| vol.truncate(f, size));
        let mut told = None;
        wait("the recall", || {
            told = told.or(recalled(&w.holder));
            told.is_some()
        })?;
        demand(told.is_some_and(|(_, may)| may == flushes), || {
            format!("truncate to {size}: told {told:?}")
        })?;
        let mut q = w.queue()?;
        let late = flushed(&mut q, &lease, (4, 1), 9);
        match flushes {
            true => late.map_err(text)?,
            false => refused("a flush of what goes away", ErrorKind::Recalled, late)?,
        }
        drop(pin);
        lease.clean();
        op.end("the truncate")?.map_err(text)?;
        if flushes {
            w.holds(4, 9)?;
        }
        sound(&w.vol)?;
    }
    Ok(())
}

/// What is recalled and gone counts as answered; returning twice does no harm.
pub fn a08_what_is_gone_counts_as_returned() -> Verdict {
    let w = World::memory()?;
    let (one, two) = (w.lease(Access::Stable, 0, 4)?, w.lease(Access::Stable, 2, 4)?);
    w.vol.return_lease(&one).map_err(text)?;
    w.vol.return_lease(&one).map_err(text)?;
    drop(two);
    w.overwrite(3, 2)?;
    refused("returning a part of nothing", ErrorKind::Revoked, w.vol.return_part(&one, (0, B)))?;
    demand(w.vol.holdings().is_empty(), || format!("{:?}", w.vol.holdings()))
}

/// Nothing is returned with I/O in flight, and none goes out afterwards.
pub fn a09_nothing_is_returned_with_io_outstanding() -> Verdict {
    let w = World::sim(9)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let mut q = w.queue()?;
    w.hold_writes();
    flush(&mut q, &lease, (0, 1), 9).map_err(text)?;
    refused("a return", ErrorKind::Busy, w.vol.return_lease(&lease))?;
    refused("a return of a part", ErrorKind::Busy, w.vol.return_part(&lease, (0, B)))?;
    held(&lease)?;
    w.release();
    finish(&mut q).map_err(text)?;
    w.vol.return_lease(&lease).map_err(text)?;
    refused("a flush", ErrorKind::Revoked, flushed(&mut q, &lease, (0, 1), 10))?;
    w.holds(0, 9)
}

/// What was flushed through a lease, and synced, is durable, before the lease goes.
pub fn a10_a_flush_that_was_synced_is_durable() -> Verdict {
    let w = World::sim(10)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let mut q = w.queue()?;
    flushed(&mut q, &lease, (0, 3), 9).map_err(text)?;
    w.vol.sync_handle(&w.file).map_err(text)?;
    flushed(&mut q, &lease, (2, 2), 10).map_err(text)?;
    let x = w.after_crash(Survival::Nothing, 3)?;
    [(0, 9), (1, 9), (2, 9), (3, 1)].into_iter().try_for_each(|(b, v)| x.holds(b, v))?;
    // One that is durable by itself needs no sync.
    let w = World::sim(11)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let mut q = w.queue()?;
    let mut buf = q.buffer(B as usize).map_err(text)?;
    buf.fill(5);
    let at = freehold_blockmap::LeaseAt::new(B);
    q.flush(&lease, at, buf, (1, true)).map_err(|_| "refused".to_owned())?;
    finish(&mut q).map_err(text)?;
    w.after_crash(Survival::Nothing, 4)?.holds(1, 5)
}

/// A part that is given back lets go on who wanted it, and renews the time of the rest.
pub fn a11_partial_returns_are_progress() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Stable, 0, 8)?;
    lease.soil();
    let op = w.begin(|vol, f| vol.write_at(f, &[2; 4096], 6 * B));
    wait("the recall", || recalled(&w.holder).is_some())?;
    let left = |w: &World| w.vol.holdings().first().and_then(|h| h.left);
    op.waits("the write")?;
    let before = left(&w).ok_or("no deadline")?;
    w.vol.return_part(&lease, (0, 7 * B)).map_err(text)?;
    let now = left(&w);
    demand(now.is_some_and(|now| now >= before), || "its time was not renewed".into())?;
    op.waits("the write of what was kept")?;
    w.vol.return_part(&lease, (0, 4 * B)).map_err(text)?;
    op.end("the write")?.map_err(text)?;
    held(&lease)?;
    demand(lease.range() == (0, 4 * B), || format!("{:?} is left", lease.range()))?;
    lease.clean();
    Ok(())
}

/// After a revocation the ordinary way works, and a new lease is given.
pub fn a12_a17_the_ordinary_way_always_works() -> Verdict {
    let w = World::memory()?;
    for access in Access::ALL {
        w.vol.set_lease_time(LONG);
        let lease = w.lease(access, 0, 4)?;
        let view = lease.view().map_err(text)?;
        let pin = view.hold().map_err(|e| e.to_string())?;
        w.hurry();
        w.vol.truncate(&w.file, 2 * B).map_err(text)?;
        w.vol.set_lease_time(LONG);
        refused("the lease", ErrorKind::Revoked, lease.view())?;
        let own = w.of(&w.holder);
        w.vol.write_at(&own, &[3; 16 * 4096], 0).map_err(text)?;
        w.holds(1, 3)?;
        let next = w.lease(access, 0, 4)?;
        if access != Access::Exclusive {
            drop(next.view().map_err(text)?);
        }
        drop((pin, view));
    }
    sound(&w.vol)
}

/// A holder gets the lease time and what it declared, no more and no less.
pub fn a13_a15_a_holder_has_the_time_that_it_was_promised() -> Verdict {
    let w = World::memory()?;
    w.vol.set_lease_time(Duration::from_secs(7));
    let max_hold = Duration::from_secs(3);
    let spec = LeaseSpec { access: Access::Read, max_hold };
    let lease = w.vol.lease(&w.of(&w.holder), &w.holder, (0, B), spec).map_err(text)?;
    let pin = lease.hold().map_err(|e| e.to_string())?;
    let op = w.begin(|vol, f| vol.punch(f, 0, B));
    let mut told = None;
    wait("the recall", || {
        told = told.or(recalled(&w.holder));
        told.is_some()
    })?;
    let grace = told.map(|(grace, _)| grace);
    demand(grace == Some(Duration::from_secs(10)), || format!("it has {grace:?}"))?;
    op.waits("the punch")?;
    drop(pin);
    op.end("the punch")?.map_err(text)?;
    demand(LEASE_TIME >= Duration::from_secs(1), || "the lease time is short".into())?;
    // What nobody would wait for is refused before, not later.
    let spec = LeaseSpec { access: Access::Read, max_hold: MOST_HOLD + Duration::from_secs(1) };
    let long = w.vol.lease(&w.of(&w.holder), &w.holder, (0, B), spec);
    refused("an unbounded hold", ErrorKind::Invalid, long)
}

/// Leases belong to sessions: any thread returns them, and the death of a thread that has
/// a pin or commands of one takes nothing away and leaves nothing behind.
pub fn a22_holders_are_sessions() -> Verdict {
    let w = World::sim(22)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let (one, vol) = (lease.clone(), w.vol.clone());
    let worker = std::thread::spawn(move || -> Verdict {
        let mut q = vol.queue(4).map_err(text)?;
        let _pin = one.pins().pin().map_err(|e| e.to_string())?;
        flush(&mut q, &one, (0, 1), 9).map_err(text)
    });
    worker.join().map_err(|_| "it panicked")??;
    held(&lease)?;
    let states: Vec<_> =
        w.vol.holdings().into_iter().map(|h| (h.session, h.what, h.state)).collect();
    let want = (w.holder.id(), Held::Lease(Access::Write), State::Held { seq: 1 });
    demand(states == [want], || format!("{states:?}"))?;
    w.vol.reflink_file(&w.file, b"copy").map_err(text)?;
    ended(&lease)?;
    w.holds(0, 9)
}
