//! Cases about what a medium does: lost writes, damage, flushes, reads at opening.

use super::{Verdict, demand, text};
use crate::crash::{Journal, Plan, history};
use crate::history::{BLOCK, Op, Who, tagged};
use freehold::{ErrorKind, OpenOptions, Store};
use freehold_blockmap::{Finished, FormatSpec, Volume};
use freehold_engine::medium::Medium;
use freehold_engine::sim::{CachedMedium, SimMedium, SimOptions, Survival};
use std::sync::Arc;
use std::time::Duration;

/// Blocks of a window behind a cache.
const CACHED: u64 = 2048;

fn fresh(options: SimOptions) -> Result<(SimMedium, Store), String> {
    let sim = SimMedium::new(options);
    let store = Store::format_on(sim.medium()).map_err(text)?;
    Ok((sim, store))
}

fn open(sim: &SimMedium) -> freehold::Result<Store> {
    Store::open_on(sim.medium(), &OpenOptions::default())
}

/// Law M1: on a device that says it flushed and did not, the crash test fails.
pub fn m1_a_device_that_lies_is_noticed() -> Verdict {
    let (sim, store) = fresh(SimOptions { blocks: 2048, ..Default::default() })?;
    store.checkpoint().map_err(text)?;
    sim.set_liar(true);
    let file = store.create(b"f").map_err(text)?;
    file.write_at(&tagged(1, 1, 0, 9000), 0).map_err(text)?;
    file.sync().map_err(text)?;
    drop((file, store));
    let left = open(&sim.reopen_with(Survival::Nothing, 1)).map_err(text)?;
    demand(left.open_file(b"f").is_err(), || "what was never flushed survived".into())
}

/// Law M1: what completed writes may do in a crash, a sync covers.
pub fn m1_syncs_cover_what_completed() -> Verdict {
    let write = |off: u64, tag| Op::Write { who: Who::Name(0), off, len: 3 * BLOCK, tag };
    let sync = Op::Sync { who: Who::Name(0) };
    let mut ops = vec![Op::Create { name: 0 }];
    for i in 0..6 {
        ops.extend([write(i % 3 * BLOCK, i as u32), write(BLOCK, 10 + i as u32), sync.clone()]);
    }
    for seed in 0..6 {
        let window = seed % 2 == 0;
        let (steps, outcomes) = (usize::MAX, 8);
        let plan = Plan {
            seed,
            blocks: 2048,
            window,
            steps,
            outcomes,
            again: 0,
            before: 0,
            journal: Journal::Inside,
        };
        history(&plan, &ops)?;
    }
    Ok(())
}

/// Law B9: a process that was killed had stored a group into the window of the store's own
/// medium, and its lines are in a cache still. Whoever opens the store has seen that group, so
/// from then on it is durable.
pub fn b9_what_recovery_has_read_is_durable() -> Verdict {
    let all = |medium: &CachedMedium| {
        let mut bytes = vec![0; CACHED as usize * BLOCK as usize];
        let window = medium.window().ok_or("it is a window")?;
        window.load(0, &mut bytes).map_err(text)?;
        Ok::<_, String>(bytes)
    };
    let open = |medium: &CachedMedium| {
        Store::open_on(Arc::new(medium.clone()), &OpenOptions::default()).map_err(text)
    };
    let medium = CachedMedium::new(CACHED).map_err(text)?;
    let store = Store::format_on(Arc::new(medium.clone())).map_err(text)?;
    store.sync().map_err(text)?;
    let before = all(&medium)?;
    store.create(b"f").and_then(|file| file.sync()).map_err(text)?;
    let after = all(&medium)?;
    drop(store);
    for seed in 0..8 {
        let left = CachedMedium::new(CACHED).map_err(text)?;
        let window = left.window().ok_or("it is a window")?;
        window
            .store(0, &before)
            .and_then(|()| window.persist(0, before.len() as u64))
            .map_err(text)?;
        let words = before.chunks_exact(8).zip(after.chunks_exact(8)).zip((0..).step_by(8));
        for ((_, new), at) in words.filter(|((old, new), _)| old != new) {
            window.store(at, new).map_err(text)?;
        }
        drop(open(&left)?.open_file(b"f").map_err(text)?);
        let store = open(&left.after_crash(seed).map_err(text)?)?;
        store.open_file(b"f").map_err(text)?;
        demand(store.check().map_err(text)?.findings.is_empty(), || "check finds faults".into())?;
    }
    Ok(())
}

/// Groups of all lengths go round a ring in a window many times, short ones over long ones:
/// what is left of a longer one is zeroes before the shorter one is durable.
pub fn b9_a_short_group_over_a_long_one_is_whole() -> Verdict {
    let medium = CachedMedium::new(CACHED).map_err(text)?;
    let spec = FormatSpec { journal_blocks: Some(128), ..FormatSpec::default() };
    let vol = Volume::format(Arc::new(medium.clone()), &spec).map_err(text)?;
    let names: Vec<Vec<u8>> =
        (0..60u8).map(|i| vec![b'a' + i % 26; 100 + usize::from(i)]).collect();
    for round in 0..120u64 {
        // A long group, and some short ones, so that each block of the ring has both.
        if round % 3 == 0 {
            for name in &names {
                match vol.open_file(name) {
                    Ok(_) => vol.remove(name).map_err(text)?,
                    Err(_) => drop(vol.create(name).map_err(text)?),
                }
            }
        }
        vol.sync().map_err(text)?;
        let name = round.to_le_bytes().map(|byte| byte + 1);
        vol.create(&name).map_err(text)?;
        vol.sync().map_err(text)?;
        if round % 5 == 0 {
            let left = Arc::new(medium.after_crash(round).map_err(text)?);
            let left = Volume::open(left, &Default::default()).map_err(text)?;
            left.open_file(&name).map_err(|e| format!("round {round}: {e}"))?;
        }
    }
    Ok(())
}

/// Law M1: a commit that flushes nothing tells those who make their own bytes durable so, before
/// it looks at what has landed.
pub fn m1_a_sync_beside_a_commit_flushes_its_own() -> Verdict {
    let options = SimOptions {
        blocks: 4096,
        window: true,
        in_order: true,
        max_delay: 0,
        ..Default::default()
    };
    let sim = SimMedium::new(options);
    let vol = Volume::format(sim.medium(), &FormatSpec::default()).map_err(text)?;
    let (f, g) = (vol.create(b"f").map_err(text)?, vol.create(b"g").map_err(text)?);
    for file in [&f, &g] {
        vol.write_at(file, &[1; 8 * BLOCK as usize], 0).map_err(text)?;
    }
    vol.sync().map_err(text)?;
    let mut queue = vol.queue(8).map_err(text)?;
    let mut buf = queue.buffer(BLOCK as usize).map_err(text)?;
    buf.fill(2);
    // A record that is not durable, and no data that waits for a flush.
    vol.truncate(&f, 9 * BLOCK).map_err(text)?;
    let other = {
        let (vol, g) = (vol.clone(), g.clone());
        std::thread::spawn(move || vol.write_durable_at(&g, &[3; 100], 8 * BLOCK))
    };
    std::thread::sleep(Duration::from_millis(100));
    queue.write(&f, 0, buf, 1).map_err(|_| "the write was refused")?;
    let mut done: Vec<Finished> = Vec::new();
    while done.is_empty() {
        queue.poll(&mut done);
    }
    queue.sync(&f, 2).map_err(|_| "the sync was refused")?;
    while done.len() < 2 {
        queue.poll(&mut done);
    }
    done.into_iter().try_for_each(|done| done.result.map(drop).map_err(text))?;
    let left = sim.reopen_with(Survival::Nothing, 1);
    other.join().map_err(|_| "the other thread panicked")?.map_err(text)?;
    let vol = Volume::open(left.medium(), &Default::default()).map_err(text)?;
    let mut byte = [0];
    vol.read_at(&vol.open_file(b"f").map_err(text)?, &mut byte, 10).map_err(text)?;
    demand(byte == [2], || format!("{byte:?}, and 2 was synced"))
}

/// Law M3: after completed writes were lost no flush succeeds and no sync does;
/// reads go on, and what was synced is there after opening again.
pub fn m3_after_a_loss_the_store_is_poisoned() -> Verdict {
    for seed in 0..8 {
        let (sim, store) = fresh(SimOptions { blocks: 2048, seed, ..Default::default() })?;
        let file = store.create(b"f").map_err(text)?;
        let old = tagged(1, 1, 0, 4 * BLOCK);
        file.write_at(&old, 0).map_err(text)?;
        file.sync().map_err(text)?;
        file.write_at(&tagged(1, 2, 0, BLOCK), 0).map_err(text)?;
        sim.lose(seed);
        for _ in 0..2 {
            match file.sync() {
                Err(e) if e.kind() == ErrorKind::Poisoned || e.kind() == ErrorKind::Gone => {}
                other => return Err(format!("a sync after a loss gives {other:?}")),
            }
        }
        let mut got = vec![0; old.len()];
        file.read_at(&mut got, 0).map_err(text)?;
        demand(got[BLOCK as usize..] == old[BLOCK as usize..], || "reads do not go on".into())?;
        demand(file.write_at(b"x", 0).is_err(), || "a write after a loss succeeded".into())?;
        drop((file, store));
        let store = open(&sim.reopen(seed)).map_err(text)?;
        let file = store.open_file(b"f").map_err(text)?;
        file.read_at(&mut got, 0).map_err(text)?;
        demand(got[BLOCK as usize..] == old[BLOCK as usize..], || {
            "what was synced is lost".into()
        })?;
    }
    Ok(())
}

/// Law B9: a damaged group that a later one confirms is damage, not the journal's end.
pub fn b9_a_hole_in_the_journal_is_damage() -> Verdict {
    let (sim, store) = fresh(SimOptions { blocks: 2048, ..Default::default() })?;
    let journal = store.info().journal_bytes / BLOCK;
    store.checkpoint().map_err(text)?;
    let before: Vec<_> = (2..2 + journal).map(|b| sim.peek(b)).collect();
    for i in 0..8u8 {
        store.create(&[b'a' + i]).map_err(text)?;
        store.sync().map_err(text)?;
    }
    let groups: Vec<u64> =
        (2..2 + journal).filter(|b| sim.peek(*b) != before[*b as usize - 2]).collect();
    demand(groups.len() == 8, || format!("eight syncs wrote {groups:?}"))?;
    for (i, group) in groups.iter().enumerate() {
        let broken = sim.reopen_with(Survival::Nothing, 1);
        broken.corrupt(*group, 200, 0x40).map_err(text)?;
        match open(&broken) {
            Err(e) if e.kind() == ErrorKind::Corrupt && i < 7 => {}
            // Nothing confirms the last one: it might have been in flight.
            Ok(store) if i == 7 => {
                demand(store.open_file(b"g").is_ok(), || "more than the last is lost".into())?;
            }
            other => return Err(format!("with group {i} damaged, opening gives {other:?}")),
        }
    }
    Ok(())
}

/// Law B9: once a checkpoint is marked, the superblock before it is never used.
pub fn b9_an_older_superblock_is_refused_after_the_mark() -> Verdict {
    let (sim, store) = fresh(SimOptions { blocks: 2048, ..Default::default() })?;
    store.create(b"a").map_err(text)?;
    store.checkpoint().map_err(text)?;
    let newest = (store.info().checkpoint + 1) % 2;
    drop(store);
    let broken = sim.reopen_with(Survival::Everything, 1);
    broken.corrupt(newest, 60, 1).map_err(text)?;
    match open(&broken) {
        Err(e) if e.kind() == ErrorKind::Corrupt => Ok(()),
        other => Err(format!("with the newest superblock damaged, opening gives {other:?}")),
    }
}

/// References, part D, 5: a sync reaches the device's cache, also when only
/// bytes in place were written.
pub fn d5_every_sync_flushes() -> Verdict {
    let (sim, store) = fresh(SimOptions { blocks: 2048, ..Default::default() })?;
    let file = store.create(b"f").map_err(text)?;
    for i in 0..20u32 {
        file.write_at(&tagged(1, i, 0, BLOCK), 0).map_err(text)?;
        let before = sim.stats().flushes;
        file.sync().map_err(text)?;
        demand(sim.stats().flushes > before, || format!("sync {i} gave the device no flush"))?;
    }
    Ok(())
}

/// References, part D, 7: what opening reads does not grow with the store.
pub fn d7_opening_reads_no_more_of_a_large_store() -> Verdict {
    let reads = |files: u64, extents: u64| -> Result<u64, String> {
        let (sim, store) =
            fresh(SimOptions { blocks: 8192, in_order: true, ..Default::default() })?;
        for i in 0..files {
            let file = store.create(format!("file{i}").as_bytes()).map_err(text)?;
            for k in 0..extents {
                file.write_at(&[7; 4096], k * 2 * BLOCK).map_err(text)?;
            }
        }
        store.checkpoint().map_err(text)?;
        let last = store.create(b"after").map_err(text)?;
        last.sync().map_err(text)?;
        drop((last, store));
        let left = sim.reopen_with(Survival::Everything, 1);
        let store = open(&left).map_err(text)?;
        demand(store.open_file(b"after").is_ok(), || "it is not there".into())?;
        Ok(left.stats().reads)
    };
    let (small, large) = (reads(2, 1)?, reads(300, 12)?);
    demand(large <= small + 16, || {
        format!("{small} reads for a small store, {large} for a large one")
    })
}
