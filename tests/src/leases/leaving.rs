//! What a lease leaves behind that is not in force any more: nothing that anybody waits for.

use super::world::{B, LONG, World, demand, ended, finish, refused, sound, text, wait};
use crate::cases::Verdict;
use freehold_blockmap::arbiter::{Access, State};
use freehold_blockmap::{Event, FormatSpec, LeaseSpec, Volume};
use freehold_engine::{FormatOptions, format_target};
use std::sync::Arc;
use std::time::Duration;

/// What was not flushed has nowhere to go when the whole range is taken away, so nobody waits for
/// it: not where the lease is quiet, nor longer than until its last pin has gone.
pub fn r1_unflushed_bytes_of_what_is_cut_wholly_are_not_waited_for() -> Verdict {
    let w = World::memory()?;
    let cut = |w: &World| w.begin(|vol, f| vol.punch(f, 2 * B, 8 * B));
    for pinned in [false, true] {
        w.holder.take_events();
        let lease = w.lease(Access::Write, 4, 2)?;
        let pin = pinned.then(|| lease.hold()).transpose().map_err(|e| e.to_string())?;
        lease.soil();
        let op = cut(&w);
        if pinned {
            op.waits("a punch under a pin")?;
        }
        drop(pin);
        // The holder has far longer, were there anything to wait for.
        op.end("the punch")?.map_err(text)?;
        ended(&lease)?;
        demand(matches!(lease.state(), Some(State::Revoked { .. })), || {
            format!("bytes were lost, and {lease:?} is {:?}", lease.state())
        })?;
        let told = |e: &Event| matches!(e, Event::Revoked { id, .. } if *id == lease.id());
        demand(w.holder.take_events().iter().any(told), || "the holder was not told".into())?;
        lease.clean();
    }
    // A part of it is left: that may be flushed, and is waited for.
    let lease = w.lease(Access::Write, 8, 4)?;
    lease.soil();
    let op = cut(&w);
    op.waits("a punch of a part")?;
    // Whoever comes to cut all of it does not take that away.
    let all = w.begin(|vol, f| vol.truncate(f, 0));
    all.waits("a truncate behind it")?;
    lease.clean();
    op.end("the punch")?.map_err(text)?;
    all.end("the truncate")?.map_err(text)?;
    sound(&w.vol)
}

/// Who gives back what he was asked for may ask for it anew at once: he waits his turn behind whoever
/// wanted it, who does not wait for him any more, though nobody has driven that one's operation since.
pub fn who_gave_a_lease_back_may_ask_again_at_once() -> Verdict {
    let w = World::memory()?;
    for part in [false, true] {
        let lease = w.lease(Access::Exclusive, 0, 8)?;
        let pin = lease.hold().map_err(|e| e.to_string())?;
        // Another session's write, which nobody drives after it was submitted.
        let mut q = w.queue()?;
        let mut buf = q.buffer(B as usize).map_err(text)?;
        buf.fill(2);
        q.write(&w.file, 4 * B, buf, 1).map_err(|_| "refused".to_owned())?;
        let mut none: Vec<freehold_blockmap::Finished> = Vec::new();
        demand(q.poll(&mut none) == 0, || "a write went on under a pin".into())?;
        drop(pin);
        match part {
            false => w.vol.return_lease(&lease).map_err(text)?,
            true => drop(lease),
        }
        let (holder, vol) = (w.holder.clone(), w.vol.clone());
        let file = w.of(&w.holder);
        let again = w.begin(move |_, _| {
            let spec = LeaseSpec { access: Access::Exclusive, max_hold: Duration::ZERO };
            vol.lease(&file, &holder, (0, 8 * B), spec).map(drop)
        });
        finish(&mut q).map_err(text)?;
        again.end("the new lease")?.map_err(text)?;
    }
    sound(&w.vol)
}

/// The handle of a lease that was taken or revoked keeps neither its file's blocks nor the store.
pub fn b10_a_lease_that_is_over_keeps_nothing() -> Verdict {
    let medium = format_target("mem:16M", &FormatOptions::default()).map_err(|e| e.to_string())?;
    let vol = Volume::format(medium, &FormatSpec::default()).map_err(text)?;
    vol.set_lease_time(LONG);
    let (holder, comer) = (vol.new_session(), vol.new_session());
    let file = vol.create(b"f").map_err(text)?.for_session(comer.id());
    vol.write_at(&file, &[1; 64 * B as usize], 0).map_err(text)?;
    let theirs = file.clone().for_session(holder.id());
    let grant = |access, blocks: u64| {
        let spec = LeaseSpec { access, max_hold: Duration::ZERO };
        vol.lease(&theirs, &holder, (0, blocks * B), spec).map_err(text)
    };
    let (idle, dirty, mine) = (grant(Access::Read, 64)?, grant(Access::Write, 8)?, {
        let lease = grant(Access::Read, 8)?;
        vol.return_lease(&lease).map_err(text)?;
        lease
    });
    dirty.soil();
    vol.truncate(&file, 0).map_err(text)?;
    vol.write_at(&file, &[1; 64 * B as usize], 0).map_err(text)?;
    let over = [&idle, &dirty, &mine];
    demand(over.iter().all(|l| l.file().is_ok()), || "the file is there still".into())?;
    let free = vol.space().free;
    vol.remove(b"f").map_err(text)?;
    let id = file.id();
    drop((file, theirs));
    wait("the file's blocks", || {
        let _ = vol.sync();
        let _ = vol.checkpoint();
        vol.space().free >= free + 64 * B
    })?;
    for lease in over {
        refused("its file", freehold_blockmap::ErrorKind::NotFound, lease.file())?;
        demand(lease.file_id() == id, || "it does not know its file".into())?;
    }
    sound(&vol)?;
    vol.close().map_err(text)?;
    let weak = Arc::downgrade(&vol);
    drop(vol);
    demand(weak.upgrade().is_none(), || "a lease that is over keeps the store".into())?;
    for lease in over {
        refused("its store", freehold_blockmap::ErrorKind::Revoked, lease.volume())?;
        refused("a view", freehold_blockmap::ErrorKind::Revoked, lease.view())?;
    }
    dirty.clean();
    Ok(())
}
