//! Laws of the block map, and faults that others have, in the terms of leases.

use super::world::{
    B, FLUSH, World, demand, fill, finish, flush, flushed, holds, read, sound, text, wait,
};
use crate::cases::Verdict;
use freehold_blockmap::arbiter::Access;
use freehold_engine::sim::Survival;

/// B3: what an overdue pin sees is not used again, by nobody, before it is gone.
pub fn b3_what_a_pin_sees_is_not_reused() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Stable, 0, 16)?;
    let view = lease.view().map_err(text)?;
    let bytes = view.hold().map_err(|e| e.to_string())?;
    w.hurry();
    w.vol.truncate(&w.file, 0).map_err(text)?;
    // All that is free, several times over.
    for round in 0..4u8 {
        let name = [b'g', b'a' + round];
        let other = w.vol.create(&name).map_err(text)?;
        while w.vol.write_at(&other, &[77; 16 << 10], other.size()).is_ok() {}
        w.vol.checkpoint().map_err(text)?;
        let seen = bytes.slice(0, 16 * B).map_err(|e| e.to_string())?;
        demand(seen.iter().all(|b| *b == 1), || "a pin saw the bytes of another file".into())?;
        drop(other);
        w.vol.remove(&name).map_err(text)?;
        w.vol.checkpoint().map_err(text)?;
    }
    let kept: u64 = w.vol.inflight().leases.iter().map(|f| f.quarantine).sum();
    demand(kept == 16 * B, || format!("{kept} bytes in quarantine"))?;
    drop((bytes, view, lease));
    w.vol.checkpoint().map_err(text)?;
    demand(w.vol.inflight().is_empty(), || format!("left: {:?}", w.vol.inflight()))?;
    sound(&w.vol)
}

/// R1: what is in use is not taken at once, however short its time.
pub fn r1_a_pinned_lease_is_not_taken() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Stable, 0, 4)?;
    let view = lease.view().map_err(text)?;
    let bytes = view.hold().map_err(|e| e.to_string())?;
    let op = w.begin(|vol, f| vol.write_at(f, &[2; 4096], 0));
    op.waits("a write under a reference")?;
    let seen = bytes.slice(0, B).map_err(|e| e.to_string())?;
    demand(seen.iter().all(|b| *b == 1), || "a reference saw its bytes change".into())?;
    drop(bytes);
    op.end("the write")?.map_err(text)?;
    w.holds(0, 2)
}

/// B5: a crash after a truncate, a grant and a flush keeps either all of the cut or all of
/// what was written behind it.
pub fn b5_a_truncate_is_durable_before_a_lease_on_its_block() -> Verdict {
    for seed in 0..8 {
        let w = World::sim(seed)?;
        w.vol.truncate(&w.file, 4 * B + 100).map_err(text)?;
        let lease = w.lease(Access::Write, 4, 1)?;
        let mut q = w.queue()?;
        flushed(&mut q, &lease, (4, 1), 9).map_err(text)?;
        let survival = if seed == 0 { Survival::Nothing } else { Survival::Random };
        let x = w.after_crash(survival, seed)?;
        let size = x.file.size();
        demand(size == 4 * B + 100, || format!("the file has {size} bytes after a grant"))?;
    }
    Ok(())
}

/// B6: who reads a block to write it back waits for a flush of it through another's lease.
pub fn b6_a_partial_write_waits_for_a_flush_in_flight() -> Verdict {
    let w = World::sim(6)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let mut q = w.queue()?;
    w.hold_writes();
    flush(&mut q, &lease, (1, 1), 9).map_err(text)?;
    let op = w.begin(|vol, f| vol.write_at(f, &[5; 10], B + 100));
    op.waits("a write of a part of the block")?;
    w.release();
    op.end("the write")?.map_err(text)?;
    let got = w.block(1)?;
    demand(got[100..110] == [5; 10] && got[0] == 9 && got[110] == 9, || {
        "one of them is lost".into()
    })
}

/// B7: a logged write, then a grant and a flush through the lease, then a crash: the
/// logged bytes do not come back.
pub fn b7_logged_bytes_do_not_come_back_over_a_flush() -> Verdict {
    for seed in 0..10u64 {
        let w = World::sim(seed)?;
        let f = w.of(&w.holder);
        w.vol.punch(&w.file, 4 * B, 8 * B).map_err(text)?;
        w.vol.sync().map_err(text)?;
        w.vol.write_durable_at(&f, &[4; 4096], 4 * B).map_err(text)?;
        w.vol.write_durable_at(&f, &[4; 5000], 16 * B).map_err(text)?;
        let (low, high) = (w.lease(Access::Write, 0, 5)?, w.lease(Access::Write, 12, 6)?);
        let mut q = w.queue()?;
        flushed(&mut q, &low, (4, 1), 9).map_err(text)?;
        flushed(&mut q, &high, (16, 1), 9).map_err(text)?;
        // While it is held: a write that needs a record, because of the block beside it.
        w.vol.write_durable_at(&w.file, &[6; 8192], 11 * B).map_err(text)?;
        flushed(&mut q, &high, (12, 1), 9).map_err(text)?;
        w.vol.sync().map_err(text)?;
        let survival = if seed == 0 { Survival::Nothing } else { Survival::Random };
        let x = w.after_crash(survival, seed)?;
        [4, 12, 16].into_iter().try_for_each(|block| x.holds(block, 9)).map_err(|e| {
            format!("seed {seed}: {e}: a crash brought logged bytes back over a lease's")
        })?;
    }
    Ok(())
}

/// B12: a lease shows zeroes for holes, for what is set aside, and past the end.
pub fn b12_a_lease_shows_nobody_elses_bytes() -> Verdict {
    let w = World::memory()?;
    let other = w.vol.create(b"dirt").map_err(text)?;
    w.vol.write_at(&other, &[88; 1 << 20], 0).map_err(text)?;
    drop(other);
    w.vol.remove(b"dirt").map_err(text)?;
    w.vol.checkpoint().map_err(text)?;
    w.vol.checkpoint().map_err(text)?;
    w.vol.punch(&w.file, 2 * B, B).map_err(text)?;
    w.vol.truncate(&w.file, 8 * B + 10).map_err(text)?;
    w.vol.allocate(&w.file, 9 * B, 100 * B).map_err(text)?;
    let size = w.file.size();
    let lease = w.lease_of(&w.holder, Access::Read, (0, size)).map_err(text)?;
    let view = lease.view().map_err(text)?;
    let mut bytes = vec![0; view.len() as usize];
    view.pin().map_err(|e| e.to_string())?.load(0, &mut bytes).map_err(|e| e.to_string())?;
    let mut plain = vec![0; size as usize];
    w.vol.read_at(&w.file, &mut plain, 0).map_err(text)?;
    demand(bytes[..] == plain[..bytes.len()] && !bytes.contains(&88), || {
        let at = bytes.iter().zip(&plain).position(|(a, b)| a != b);
        format!("the window and the file differ at {at:?}")
    })?;
    // Filling a hole recalls who sees zeroes there.
    w.overwrite(2, 7)?;
    super::world::ended(&lease)
}

/// D2: a reflink that was reported does not change by what was in flight.
pub fn d2_a_reflink_waits_for_flushes_in_flight() -> Verdict {
    let w = World::sim(2)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let mut q = w.queue()?;
    w.hold_writes();
    flush(&mut q, &lease, (0, 1), 9).map_err(text)?;
    let op = w.begin(|vol, f| vol.reflink_file(f, b"copy"));
    op.waits("a reflink beside a flush")?;
    w.release();
    let copy = op.end("the reflink")?.map_err(text)?;
    let before = read(&w.vol, &copy, 0)?;
    finish(&mut q).map_err(text)?;
    holds(&w.vol, &copy, 0, 9)?;
    demand(before == read(&w.vol, &copy, 0)?, || "a reflink changed after it was reported".into())
}

/// D4: a command through a lease that is fenced is reported once, when the device is done
/// with its memory, and with what the device did.
pub fn d4_a_fence_reports_a_command_when_the_device_is_done() -> Verdict {
    let w = World::sim(4)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    let mut q = w.queue()?;
    w.hold_writes();
    flush(&mut q, &lease, (1, 1), 9).map_err(text)?;
    fill(&mut q, &lease, (2, 1)).map_err(text)?;
    w.hurry();
    let op = w.begin(|vol, f| vol.punch(f, 0, 4 * B));
    wait("the fence", || lease.pins().state() == freehold_engine::pin::State::Fencing)?;
    let mut done: Vec<freehold_blockmap::Finished> = Vec::new();
    for _ in 0..50 {
        q.poll(&mut done);
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    let early = done.iter().filter(|d| d.tag == FLUSH).count();
    demand(early == 0, || "a flush was reported before the device was done".into())?;
    op.waits("the punch")?;
    w.release();
    op.end("the punch")?.map_err(text)?;
    wait("both commands", || {
        q.poll(&mut done);
        done.len() == 2
    })?;
    demand(done.iter().all(|d| d.result.is_ok() && d.buf.is_some()), || format!("{done:?}"))?;
    w.holds(1, 0)
}

/// B3, B12: a growth over a last block that is shared maps that block anew, to zero what lies
/// behind the end; who has a Read lease on it gives it up, and reads on in no freed block.
pub fn b3_a_growth_that_moves_the_last_block_recalls_its_readers() -> Verdict {
    type Grow = fn(&World) -> Result<(), freehold_blockmap::Error>;
    let ways: [Grow; 4] = [
        |w| w.vol.truncate(&w.file, 20 * B),
        |w| w.vol.write_at(&w.file, &[3; 100], 18 * B),
        |w| w.vol.write_atomic(&w.file, &[(18 * B, &[3; 100])]),
        |w| w.vol.allocate(&w.file, 18 * B, B),
    ];
    for (i, grow) in ways.into_iter().enumerate() {
        let w = World::memory()?;
        w.vol.truncate(&w.file, 15 * B + 100).map_err(text)?;
        w.vol.reflink_file(&w.file, b"copy").map_err(text)?;
        let lease = w.lease_of(&w.holder, Access::Read, (15 * B, 100)).map_err(text)?;
        let before = lease.pieces()[0].address;
        grow(&w).map_err(text)?;
        let now = w.vol.iomap(&w.file, 15 * B, B).map_err(text)?[0].address;
        let held = lease.pins().state() == freehold_engine::pin::State::Held;
        demand(!held || now == before, || {
            format!("way {i}: a lease that is held says {before:?}, the map {now:?}")
        })?;
        sound(&w.vol)?;
    }
    Ok(())
}
