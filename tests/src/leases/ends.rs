//! The end of a file under a lease: growth over the last block, and what a lease that was
//! looked up before it knows of it.

use super::world::{B, World, demand, ended, held, refused, sound, text, wait};
use crate::cases::Verdict;
use freehold_blockmap::arbiter::{Access, Kinds};
use freehold_blockmap::{Error, ErrorKind, FileHandle, LeaseSpec, SealSpec, Volume};
use freehold_engine::sim::{Hold, OpKind};
use std::sync::Arc;
use std::time::Duration;

type Grow = fn(&Arc<Volume>, &FileHandle) -> Result<(), Error>;

/// What makes a file longer, and zeroes what lies behind its old end.
const GROWS: [(&str, Grow); 4] = [
    ("truncate", |vol, f| vol.truncate(f, 8192)),
    ("a write past the end", |vol, f| vol.write_at(f, &[3; 10], 8192)),
    ("allocate", |vol, f| vol.allocate(f, 4096, 8192)),
    ("an atomic write", |vol, f| vol.write_atomic(f, &[(8192, &[3; 10])])),
];

/// B12: a last block that is shared moves when it is zeroed behind the end: a Read lease on
/// it ends, and a seal of the layout forbids it.
pub fn b12_growth_over_a_shared_last_block_moves_it() -> Verdict {
    let w = World::memory()?;
    for (i, (what, grow)) in GROWS.into_iter().enumerate() {
        let (name, copy) = ([b's', b'0' + i as u8], [b'c', b'0' + i as u8]);
        let source = w.vol.create(&name).map_err(text)?;
        w.vol.write_at(&source, &[5; 100], 0).map_err(text)?;
        let copy = w.vol.reflink_file(&source, &copy).map_err(text)?.for_session(w.comer.id());
        let spec = LeaseSpec { access: Access::Read, max_hold: Duration::ZERO };
        let theirs = copy.clone().for_session(w.holder.id());
        let seal =
            SealSpec { kinds: Kinds::LAYOUT, breakable: false, timeout: Duration::from_secs(1) };
        let seal = w.vol.seal(&theirs, &w.holder, (0, 4096), seal).map_err(text)?;
        refused(what, ErrorKind::Sealed, grow(&w.vol, &copy))?;
        drop(seal);
        let lease = w.vol.lease(&theirs, &w.holder, (0, 100), spec).map_err(text)?;
        grow(&w.vol, &copy).map_err(text)?;
        ended(&lease).map_err(|e| format!("{what}: {e}"))?;
        // It is the file's own now, and stays where it is.
        w.vol.truncate(&copy, 100).map_err(text)?;
        w.vol.sync().map_err(text)?;
        let lease = w.vol.lease(&theirs, &w.holder, (0, 100), spec).map_err(text)?;
        grow(&w.vol, &copy).map_err(text)?;
        held(&lease).map_err(|e| format!("{what}, unshared: {e}"))?;
        let stands = w.vol.iomap(&copy, 0, 100).map_err(text)?[0].address;
        demand(lease.pieces()[0].address == stands, || format!("{what} moved the block"))?;
    }
    sound(&w.vol)
}

/// B12: a refresh that waits for its range looks again when it has it: where the file ends
/// then, the lease ends.
pub fn a23_a_refresh_goes_by_the_end_that_it_finds() -> Verdict {
    let w = World::sim(5)?;
    w.vol.truncate(&w.file, 15 * B + 100).map_err(text)?;
    w.vol.sync().map_err(text)?;
    let lease = w.lease_of(&w.holder, Access::Write, (15 * B, 100)).map_err(text)?;
    let own = w.holder.id();
    hold_all_writes(&w)?;
    let grow = w.begin(move |vol, f| vol.truncate(&f.clone().for_session(own), 15 * B + 200));
    in_flight(&w)?;
    let again = lease.clone();
    let refresh = w.begin(move |vol, _| vol.refresh(&again));
    refresh.waits("a refresh beside a change of its range")?;
    w.release();
    grow.end("the truncate")?.map_err(text)?;
    refresh.end("the refresh")?.map_err(text)?;
    held(&lease)?;
    let end = lease.range().1;
    demand(end == 15 * B + 200, || format!("the lease ends at {end}"))?;
    sound(&w.vol)
}

/// A part that is returned while the lease is looked up again is not given back by that.
pub fn a11_what_is_returned_during_a_refresh_stays_returned() -> Verdict {
    let w = World::sim(6)?;
    let lease = w.lease(Access::Write, 0, 4)?;
    w.vol.reflink_file(&w.of(&w.holder), b"copy").map_err(text)?;
    hold_all_writes(&w)?;
    let again = lease.clone();
    let refresh = w.begin(move |vol, _| vol.refresh(&again));
    in_flight(&w)?;
    w.vol.return_part(&lease, (0, B)).map_err(text)?;
    w.release();
    refresh.end("the refresh")?.map_err(text)?;
    held(&lease)?;
    demand(lease.range() == (0, B), || format!("the lease has bytes {:?}", lease.range()))?;
    let other = w.lease_of(&w.comer, Access::Exclusive, (B, 3 * B)).map_err(text)?;
    held(&other).and(held(&lease))?;
    sound(&w.vol)
}

/// Keeps writes of tasks in flight, too.
fn hold_all_writes(w: &World) -> Verdict {
    let sim = w.sim.as_ref().ok_or("no simulated medium")?;
    sim.hold(Hold { kind: Some(OpKind::Write), tags: 0..u64::MAX });
    Ok(())
}

fn in_flight(w: &World) -> Verdict {
    wait("a write", || w.sim.as_ref().is_some_and(|sim| sim.in_flight() > 0))
}

/// Who goes on waits for nobody: another session may wait for what he holds.
pub fn a_wait_that_is_over_closes_no_circle() -> Verdict {
    let w = World::sim(7)?;
    w.vol.truncate(&w.file, 15 * B + 100).map_err(text)?;
    w.vol.sync().map_err(text)?;
    let mine = w.lease_of(&w.comer, Access::Exclusive, (0, B)).map_err(text)?;
    let pin = mine.hold().map_err(|e| e.to_string())?;
    let lease = w.lease_of(&w.holder, Access::Write, (15 * B, 100)).map_err(text)?;
    let theirs = lease.hold().map_err(|e| e.to_string())?;
    hold_all_writes(&w)?;
    let grow = w.begin(|vol, f| vol.truncate(f, 15 * B + 200));
    wait("the recall", || super::world::recalled(&w.holder).is_some())?;
    drop(theirs);
    in_flight(&w)?;
    // The truncate has waited for the holder, and goes on.
    let own = w.holder.id();
    let write = w.begin(move |vol, f| vol.write_at(&f.clone().for_session(own), &[4; 4096], 0));
    write.waits("a write beside an Exclusive pin")?;
    drop(pin);
    w.release();
    grow.end("the truncate")?.map_err(text)?;
    write.end("the write")?.map_err(text)?;
    w.holds(0, 4)
}

/// B7: a store that is read only brings no logged bytes home: a lease over them is refused.
pub fn b7_a_lease_over_logged_bytes_of_a_read_only_store_is_refused() -> Verdict {
    let w = World::sim(8)?;
    w.vol.write_durable_at(&w.file, &[4; 4096], 16 * B).map_err(text)?;
    let sim = w.sim.as_ref().ok_or("no simulated medium")?;
    let sim = sim.reopen_with(freehold_engine::sim::Survival::Nothing, 8);
    let spec = freehold_blockmap::OpenSpec { read_only: true, ..Default::default() };
    let vol = Volume::open(sim.medium(), &spec).map_err(text)?;
    let file = vol.open_file(b"f").map_err(text)?;
    let who = vol.new_session();
    let (mine, session) = (file.clone().for_session(who.id()), who.clone());
    let lease = w.begin(move |_, _| {
        let spec = LeaseSpec { access: Access::Read, max_hold: Duration::ZERO };
        mine.volume().clone().lease(&mine, &session, (0, 17 * B), spec)
    });
    refused("a lease over logged bytes", ErrorKind::ReadOnly, lease.end("the lease")?)?;
    let spec = LeaseSpec { access: Access::Read, max_hold: Duration::ZERO };
    let home = vol.lease(&file, &who, (0, 16 * B), spec).map_err(text)?;
    held(&home)?;
    super::world::holds(&vol, &file, 16, 4)
}

/// A call that waits while the store's last handle goes comes to an end.
pub fn a_call_ends_when_its_store_is_given_up() -> Verdict {
    let w = World::memory()?;
    let lease = w.lease(Access::Exclusive, 0, 4)?;
    let pin = lease.hold().map_err(|e| e.to_string())?;
    let read = w.begin(|vol, f| vol.read_at(f, &mut [0; 10], 0));
    wait("the recall", || super::world::recalled(&w.holder).is_some())?;
    wait("the end of the read", || {
        w.vol.abandon();
        read.is_over()
    })?;
    drop(pin);
    refused("the read", ErrorKind::Invalid, read.end("the read")?)
}

/// A commit, or a checkpoint, that its store gave up in the middle is not waited for, and nothing
/// is written behind it; where there was none, whoever has a lease still goes on.
pub fn m2_nothing_waits_for_what_its_store_gave_up() -> Verdict {
    for seed in 0..4 {
        let w = World::sim(40 + seed)?;
        let lease = w.lease(Access::Read, 0, 4)?;
        let refresh = |w: &World| {
            let own = w.of(&w.holder);
            w.vol.write_at(&own, &[3; 100], 20 * B + seed * B)?;
            w.vol.punch(&own, 0, B)?;
            demand(lease.is_stale(), || "it is not stale".into()).expect("a punch of its own");
            w.vol.refresh(&lease)
        };
        w.vol.abandon();
        refresh(&w).map_err(text)?;
        held(&lease)?;
        w.vol.write_at(&w.file, &[4; 100], 30 * B).map_err(text)?;
        hold_all_writes(&w)?;
        let ends: fn(&Arc<Volume>) -> Result<(), Error> =
            if seed % 2 == 0 { |vol| vol.sync() } else { |vol| vol.checkpoint() };
        let ending = w.begin(move |vol, _| ends(vol));
        in_flight(&w)?;
        w.vol.abandon();
        demand(ending.end("the sync")?.is_err(), || "it was given up, and came to an end".into())?;
        w.release();
        let vol = w.vol.clone();
        refused("a sync", ErrorKind::Poisoned, vol.sync())?;
        let again = w.begin({
            let lease = lease.clone();
            move |vol, f| vol.punch(f, 0, B).and_then(|()| vol.refresh(&lease))
        });
        refused("a refresh", ErrorKind::Poisoned, again.end("the refresh")?)?;
        let after = w.after_crash(freehold_engine::sim::Survival::Everything, seed)?;
        sound(&after.vol)?;
    }
    Ok(())
}

/// Who waits for whom is known of sessions. A thread without a pin is refused where another of its
/// session has one that is waited for; with a session of its own it waits.
pub fn a_circle_is_one_of_sessions_and_not_of_threads() -> Verdict {
    let w = World::memory()?;
    let (mine, theirs) =
        (w.lease(Access::Exclusive, 0, 2)?, w.lease_of(&w.comer, Access::Exclusive, (8 * B, B)));
    let theirs = theirs.map_err(text)?;
    let pins = [mine.hold(), theirs.hold()].map(|pin| pin.map_err(|e| e.to_string()));
    let [my_pin, their_pin] = pins;
    let (my_pin, their_pin) = (my_pin?, their_pin?);
    let waits = w.begin(|vol, f| vol.read_at(f, &mut [0; 10], 0));
    wait("the recall", || super::world::recalled(&w.holder).is_some())?;
    let read = |who| w.vol.read_at(&w.of(who), &mut [0; 10], 8 * B);
    refused("another thread of the session", ErrorKind::WouldDeadlock, read(&w.holder))?;
    // Nothing was done.
    held(&theirs)?;
    let third = w.vol.new_session();
    let id = third.id();
    let other = w.begin(move |vol, f| vol.read_at(&f.clone().for_session(id), &mut [0; 10], 8 * B));
    other.waits("a session that nobody waits for")?;
    drop(their_pin);
    other.end("the read of the third")?.map_err(text)?;
    drop(my_pin);
    waits.end("the read")?.map_err(text)?;
    sound(&w.vol)
}
