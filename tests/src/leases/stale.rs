//! What could reach blocks that are not its own any more: I/O in flight through a stale
//! lease, overdue pins, layouts that were looked up before the map changed.

use super::world::{
    B, World, demand, ended, fill, finish, flush, flushed, held, recalled, refused,
};
use super::world::{sound, text, wait};
use crate::cases::Verdict;
use freehold_blockmap::arbiter::{Access, Kinds};
use freehold_blockmap::{ErrorKind, LeaseAt, LeaseSpec};
use freehold_engine::pin::State;
use std::time::Duration;

/// An operation of the session makes its own lease stale and waits for a flush in flight.
/// A second one finds the lease stale, and waits for that flush too.
pub fn b6_own_operations_wait_for_what_is_in_flight_through_a_stale_lease() -> Verdict {
    let w = World::sim(1)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let mut queue = w.queue()?;
    w.hold_writes();
    flush(&mut queue, &lease, (0, 1), 9).map_err(text)?;
    let own = w.holder.id();
    let first = w.begin(move |vol, f| vol.reflink_file(&f.clone().for_session(own), b"one"));
    wait("the lease becoming stale", || lease.is_stale())?;
    let second = w.begin(move |vol, f| vol.reflink_file(&f.clone().for_session(own), b"two"));
    first.waits("a reflink beside a flush of its own session")?;
    second.waits("a second reflink beside the same flush")?;
    w.release();
    finish(&mut queue).map_err(text)?;
    for running in [first, second] {
        let copy = running.end("a reflink")?.map_err(text)?;
        super::world::holds(&w.vol, &copy, 0, 9)?;
    }
    flushed(&mut queue, &lease, (0, 1), 10).map_err(text)?;
    w.holds(0, 10)?;
    super::world::holds(&w.vol, &w.vol.open_file(b"two").map_err(text)?, 0, 9)?;
    sound(&w.vol)
}

/// A fence moves a file off an overdue Write pin: another session's Read lease on these
/// blocks is recalled first, and never reads what is not the file's any more.
pub fn r4_a_fence_that_moves_blocks_recalls_who_reads_them() -> Verdict {
    let w = World::memory()?;
    let reader = w.vol.new_session();
    let write = w.lease(Access::Write, 0, 4)?;
    let read = w.lease_of(&reader, Access::Read, (0, 4 * B)).map_err(text)?;
    let view = write.view().map_err(text)?;
    let late = view.hold().map_err(|e| e.to_string())?;
    w.hurry();
    // Recalls the Write lease and not the Read one.
    w.vol.write_at(&w.file, &[5; 100], 7).map_err(text)?;
    late.store(B, &[66; 64]).map_err(|e| e.to_string())?;
    demand(w.block(1)?[0] == 1, || "a stale writer changed its file".into())?;
    let map = w.vol.iomap(&w.file, 0, 4 * B).map_err(text)?;
    let stands: Vec<_> = map.iter().map(|p| (p.offset, p.len, p.address)).collect();
    let leased: Vec<_> = read.pieces().iter().map(|p| (p.offset, p.len, p.address)).collect();
    demand(read.pins().state() != State::Held || stands == leased, || {
        format!("a lease that is held says {leased:?}, the map {stands:?}")
    })?;
    drop(late);
    drop(view);
    w.vol.sync().map_err(text)?;
    sound(&w.vol)
}

/// The same, when the reader has it pinned: the move waits for it.
pub fn r4_a_fence_that_moves_blocks_waits_for_their_readers() -> Verdict {
    let w = World::memory()?;
    let reader = w.vol.new_session();
    let write = w.lease(Access::Write, 0, 4)?;
    let spec = LeaseSpec { access: Access::Read, max_hold: Duration::from_secs(20) };
    let read = w.vol.lease(&w.of(&reader), &reader, (0, 4 * B), spec).map_err(text)?;
    let writing = write.hold().map_err(|e| e.to_string())?;
    let view = write.view().map_err(text)?;
    let reading = read.hold().map_err(|e| e.to_string())?;
    w.hurry();
    let op = w.begin(|vol, f| vol.write_at(f, &[5; 100], 7));
    wait("the recall of the reader", || recalled(&reader).is_some())?;
    op.waits("the move")?;
    drop(reading);
    op.end("the write")?.map_err(text)?;
    ended(&read)?;
    drop((writing, view));
    sound(&w.vol)
}

/// Blocks of the file that an overdue Stable pin still sees are not given out for writing
/// in place: a Write lease gets copies of them.
pub fn b1_a_grant_for_writing_leaves_quarantined_blocks() -> Verdict {
    let w = World::memory()?;
    let stable = w.lease(Access::Stable, 0, 4)?;
    let view = stable.view().map_err(text)?;
    let bytes = view.hold().map_err(|e| e.to_string())?;
    w.hurry();
    w.overwrite(0, 2)?;
    w.vol.sync().map_err(text)?;
    let before = w.vol.iomap(&w.file, B, B).map_err(text)?[0].address;
    let write = w.lease_of(&w.comer, Access::Write, (B, 3 * B)).map_err(text)?;
    let after = write.pieces();
    demand(after.iter().all(|p| p.address != before), || {
        format!("a Write lease over blocks that a reference sees: {after:?}")
    })?;
    let writer = write.view().map_err(text)?;
    writer.pin().map_err(|e| e.to_string())?.store(0, &[3; 4096]).map_err(|e| e.to_string())?;
    let seen = bytes.slice(0, 4 * B).map_err(|e| e.to_string())?;
    demand(seen.iter().all(|b| *b == 1), || "a reference saw its bytes change".into())?;
    w.holds(1, 3)?;
    drop((bytes, view, writer));
    sound(&w.vol)
}

/// Law R4: the move changes no byte, so a seal against writing does not forbid it.
pub fn r4_a_seal_against_writing_does_not_keep_a_file_on_its_blocks() -> Verdict {
    let w = World::memory()?;
    let write = w.lease(Access::Write, 0, 4)?;
    let view = write.view().map_err(text)?;
    let late = view.hold().map_err(|e| e.to_string())?;
    let third = w.vol.new_session();
    let seal = w.seal(&third, Kinds::FUTURE_WRITE, Duration::from_secs(1)).map_err(text)?;
    w.hurry();
    w.vol.reflink_file(&w.file, b"copy").map_err(text)?;
    late.store(0, &[66; 64]).map_err(|e| e.to_string())?;
    demand(w.block(0)?[0] == 1, || "a stale writer changed its file".into())?;
    drop((late, view, seal));
    sound(&w.vol)
}

/// D8: a place that was looked up for one lease, or for less, is not believed for another.
pub fn d8_a_place_is_good_for_its_lease_and_length_only() -> Verdict {
    let w = World::sim(2)?;
    // Every other block of `f` stands somewhere else.
    for block in [1u64, 3] {
        w.vol.punch(&w.file, block * B, B).map_err(text)?;
        let other = w.vol.create(&[b'x', block as u8]).map_err(text)?;
        w.vol.write_at(&other, &[8; 4096], 0).map_err(text)?;
    }
    for block in [1, 3] {
        w.overwrite(block, 1)?;
    }
    w.vol.sync().map_err(text)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let mut queue = w.queue()?;
    let place = |queue: &mut freehold_blockmap::VolumeQueue| -> Result<LeaseAt, String> {
        let mut done: Vec<freehold_blockmap::Finished> = Vec::new();
        wait("a fill", || queue.poll(&mut done) > 0)?;
        done.remove(0).lease.map(|t| *t.at()).ok_or_else(|| "no place".into())
    };
    fill(&mut queue, &lease, (0, 1)).map_err(text)?;
    let one = place(&mut queue)?;
    let mut buf = queue.buffer(4 * B as usize).map_err(text)?;
    buf.fill(7);
    queue.flush(&lease, one, buf, (1, false)).map_err(|_| "refused".to_owned())?;
    finish(&mut queue).map_err(text)?;
    for block in 0..4 {
        w.holds(block, 7)?;
    }
    for name in [[b'x', 1], [b'x', 3]] {
        super::world::holds(&w.vol, &w.vol.open_file(&name).map_err(text)?, 0, 8)?;
    }
    // Another lease with the same number, elsewhere in the file.
    let second = w.lease(Access::Write, 8, 4)?;
    let mut buf = queue.buffer(B as usize).map_err(text)?;
    buf.fill(6);
    match queue.flush(&second, one, buf, (2, false)) {
        Err(r) if r.error.as_ref().is_some_and(|e| e.kind() == ErrorKind::Invalid) => {}
        _ => return Err("a place outside of the lease was taken".into()),
    }
    w.holds(0, 7)
}

/// A session ends while its grant, or its seal, waits: it gets neither.
pub fn a22_nothing_is_granted_to_a_session_that_has_ended() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Exclusive, 0, 4)?;
    let pin = lease.hold().map_err(|e| e.to_string())?;
    let (who, spec) =
        (w.comer.clone(), LeaseSpec { access: Access::Read, max_hold: Duration::ZERO });
    let grant = w.begin(move |vol, f| vol.lease(f, &who, (0, B), spec));
    wait("the recall", || recalled(&w.holder).is_some())?;
    grant.waits("a grant")?;
    w.vol.end_session(&w.comer).map_err(text)?;
    drop(pin);
    refused("the grant", ErrorKind::Invalid, grant.end("the grant")?)?;
    let left = w.vol.holdings();
    demand(left.iter().all(|h| h.session != w.comer.id()), || format!("it holds {left:?}"))?;
    let (who, spec) = (
        w.comer.clone(),
        freehold_blockmap::SealSpec {
            kinds: Kinds::LAYOUT,
            breakable: false,
            timeout: Duration::from_secs(1),
        },
    );
    refused("a seal", ErrorKind::Invalid, w.vol.seal(&w.file, &who, (0, B), spec))
}

/// R3: what a dropped handle leaves in the arbiter is nothing.
pub fn r3_dropping_waits_for_nothing_and_leaves_nothing() -> Verdict {
    let w = World::sim(3)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let mut queue = w.queue()?;
    w.hold_writes();
    flush(&mut queue, &lease, (0, 1), 9).map_err(text)?;
    // The command has the lease: it goes when that is reaped, by whoever waits.
    drop(lease);
    demand(w.vol.holdings().len() == 1, || "a lease with I/O in flight is gone".into())?;
    drop(queue);
    let op = w.begin(|vol, f| vol.truncate(f, 0));
    op.waits("a truncate beside a flush of nobody")?;
    w.release();
    op.end("the truncate")?.map_err(text)?;
    demand(w.vol.holdings().is_empty() && w.vol.inflight().is_empty(), || {
        format!("left: {:?}, {:?}", w.vol.holdings(), w.vol.inflight())
    })?;
    let idle = w.vol.lease(
        &w.file,
        &w.comer,
        (0, 1),
        LeaseSpec { access: Access::Read, max_hold: Duration::ZERO },
    );
    refused("a lease past the end", ErrorKind::Invalid, idle)?;
    sound(&w.vol)
}

/// A recall of a lease that is stale gives way to its own session's refresh, or ends it.
pub fn a23_a_stale_lease_is_good_again_when_it_is_refreshed() -> Verdict {
    let w = World::sim(4)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let seq = lease.pins().seq();
    let own = w.of(&w.holder);
    w.vol.reflink_file(&own, b"copy").map_err(text)?;
    demand(lease.is_stale(), || "an own reflink left its Write lease as it was".into())?;
    let mut queue = w.queue()?;
    flushed(&mut queue, &lease, (0, 4), 9).map_err(text)?;
    held(&lease)?;
    demand(lease.pins().seq() > seq, || "the number did not grow".into())?;
    super::world::holds(&w.vol, &w.vol.open_file(b"copy").map_err(text)?, 0, 1)?;
    w.holds(0, 9)?;
    sound(&w.vol)
}

/// The move off an overdue Write pin does not queue behind the grant that waits for it.
pub fn r4_a_move_does_not_wait_for_who_waits_for_it() -> Verdict {
    for access in [Access::Write, Access::Exclusive, Access::Stable] {
        let w = World::memory()?;
        let write = w.lease(Access::Write, 0, 4)?;
        let view = write.view().map_err(text)?;
        let late = view.hold().map_err(|e| e.to_string())?;
        w.hurry();
        let who = w.comer.clone();
        let spec = LeaseSpec { access, max_hold: Duration::ZERO };
        let grant = w.begin(move |vol, f| vol.lease(f, &who, (0, 4 * B), spec));
        let lease = grant.end("the grant")?.map_err(text)?;
        late.store(0, &[66; 64]).map_err(|e| e.to_string())?;
        held(&lease)?;
        drop(lease);
        w.holds(0, 1)?;
        drop((late, view));
        sound(&w.vol)?;
    }
    Ok(())
}

/// Two leases of one session on the same blocks, both overdue: neither fence waits for the
/// other, whichever comes first, and whoever drives them.
pub fn r4_two_overdue_leases_of_one_session_are_fenced() -> Verdict {
    let w = World::memory()?;
    let (one, two) = (w.lease(Access::Write, 0, 4)?, w.lease(Access::Write, 2, 4)?);
    let views = [one.view().map_err(text)?, two.view().map_err(text)?];
    let late: Vec<_> = views.iter().filter_map(|v| v.hold().ok()).collect();
    demand(late.len() == 2, || "they are not pinned".into())?;
    w.hurry();
    let ops: Vec<_> =
        [0u8, 1, 2].map(|i| w.begin(move |vol, f| vol.reflink_file(f, &[b'c', b'a' + i]))).into();
    for op in ops {
        op.end("a reflink")?.map_err(text)?;
    }
    for pin in &late {
        pin.store(0, &[66; 4096]).map_err(|e| e.to_string())?;
        pin.store(2 * B, &[66; 4096]).map_err(|e| e.to_string())?;
    }
    for block in 0..6 {
        w.holds(block, 1)?;
    }
    drop((late, views));
    sound(&w.vol)
}
