//! Leases on windows whose blocks lie in many places: laid side by side, made durable before
//! anything is promised, and taken away.

use super::world::{B, World, demand, sound, text};
use crate::cases::Verdict;
use freehold_blockmap::arbiter::Access;
use freehold_blockmap::{FileHandle, LeaseCore, Volume};
use freehold_engine::memory::View;
use freehold_engine::sim::CachedMedium;
use std::sync::Arc;

const BLOCKS: u64 = 16;

/// What makes stores through a window durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// Nothing does: something is lost.
    None,
    Persist,
    Sync,
    Return,
    Taken,
    /// The stores themselves.
    Durably,
}

/// What the file has after the stores: each block its own bytes, over the edges, too.
fn expected() -> Vec<u8> {
    let mut bytes = vec![1; (BLOCKS * B) as usize];
    for (at, byte, len) in stores() {
        bytes[at as usize..at as usize + len].fill(byte);
    }
    bytes
}

fn stores() -> impl Iterator<Item = (u64, u8, usize)> {
    // Below and above what goes past the caches, across blocks that lie apart.
    (0..BLOCKS - 1).map(|i| (i * B + 3000 + i, 50 + i as u8, if i % 2 == 0 { 1500 } else { 900 }))
}

fn contents(vol: &Arc<Volume>, file: &FileHandle) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; (BLOCKS * B) as usize];
    vol.read_at(file, &mut bytes, 0).map_err(text)?;
    Ok(bytes)
}

/// One view over all of the file's pieces.
fn laid(lease: &Arc<LeaseCore>) -> Result<View, String> {
    let view = lease.view().map_err(text)?;
    let pieces = view.booking().blocks().len();
    let pin = view.pin().map_err(|e| e.to_string())?;
    let (_, len) = pin.as_ptr(0).map_err(|e| e.to_string())?;
    demand(pieces > 8, || format!("the file lies in {pieces} pieces only"))?;
    demand(len as u64 == BLOCKS * B, || format!("{len} bytes lie side by side"))?;
    drop(pin);
    Ok(view)
}

fn keeps(promise: Promise, seed: u64) -> Verdict {
    let medium = CachedMedium::new(4096).map_err(|e| e.to_string())?;
    let w = World::window(&medium)?;
    let lease = w.lease(Access::Write, 0, BLOCKS)?;
    let view = laid(&lease)?;
    let pin = view.pin().map_err(|e| e.to_string())?;
    for (at, byte, len) in stores() {
        let bytes = vec![byte; len];
        let stored = match promise {
            Promise::Durably => pin.store_durably(at, &bytes),
            _ => pin.store(at, &bytes),
        };
        stored.map_err(|e| e.to_string())?;
    }
    drop(pin);
    match promise {
        Promise::None | Promise::Durably => {}
        Promise::Persist => drop(lease.write_back().map_err(text)?),
        Promise::Sync => w.vol.sync().map_err(text)?,
        Promise::Return => drop((view, lease)),
        Promise::Taken => {
            drop(w.lease_of(&w.comer, Access::Exclusive, (0, BLOCKS * B)).map_err(text)?);
        }
    }
    let after = medium.after_crash(seed).map_err(|e| e.to_string())?;
    let vol = Volume::open(Arc::new(after), &Default::default()).map_err(text)?;
    let file = vol.open_file(b"f").map_err(text)?;
    let whole = contents(&vol, &file)? == expected();
    demand(whole != (promise == Promise::None), || {
        format!("{promise:?}: what was stored through the window is whole: {whole}")
    })?;
    sound(&vol)
}

/// R2: stores through a window are written back before anything is promised, whatever of the
/// lease's blocks lies where.
pub fn r2_stores_are_written_back_before_anything_is_promised() -> Verdict {
    use Promise::{Durably, None, Persist, Return, Sync, Taken};
    for seed in 0..3 {
        for promise in [None, Persist, Sync, Return, Taken, Durably] {
            keeps(promise, seed).map_err(|e| format!("seed {seed}: {e}"))?;
        }
    }
    Ok(())
}

/// References, too, lie side by side, and follow the file when its own session moves it.
pub fn r5_a_slice_spans_extents_that_lie_apart() -> Verdict {
    let medium = CachedMedium::new(4096).map_err(|e| e.to_string())?;
    let w = World::window(&medium)?;
    for (at, byte, len) in stores() {
        w.vol.write_at(&w.file, &vec![byte; len], at).map_err(text)?;
    }
    let lease = w.lease(Access::Stable, 0, BLOCKS)?;
    let view = laid(&lease)?;
    let bytes = view.hold().map_err(|e| e.to_string())?;
    let slice = bytes.slice(0, BLOCKS * B).map_err(|e| e.to_string())?;
    demand(slice == expected(), || "a slice shows something else".into())?;
    drop(bytes);
    // Its own session moves a block: the view is laid anew.
    w.vol.punch(&w.of(&w.holder), 4 * B, B).map_err(text)?;
    w.vol.write_at(&w.of(&w.holder), &[9; B as usize], 4 * B).map_err(text)?;
    w.vol.refresh(&lease).map_err(text)?;
    let pin = view.pin().map_err(|e| e.to_string())?;
    let mut expect = expected();
    expect[4 * B as usize..5 * B as usize].fill(9);
    let slice = pin.slice(0, BLOCKS * B).map_err(|e| e.to_string())?;
    demand(slice == expect, || "a slice shows what was there before".into())
}

/// How the pages at an address may be used, as the system says it.
fn rights(at: usize) -> Result<String, String> {
    let maps = std::fs::read_to_string("/proc/self/maps").map_err(|e| e.to_string())?;
    let here = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).ok();
        (number(from)? <= at && at < number(to)?).then(|| rest.chars().take(4).collect())
    };
    Ok(maps.lines().find_map(here).unwrap_or_default())
}

/// R4: who asked for it has the window taken away at the fence: a stale pointer faults, and
/// the addresses are nobody else's until the last pin is gone.
pub fn r4_a_window_is_taken_away_from_who_keeps_it() -> Verdict {
    let medium = CachedMedium::new(4096).map_err(|e| e.to_string())?;
    let w = World::window(&medium)?;
    let lease = w.lease(Access::Write, 0, BLOCKS)?;
    let view = lease.view_that_closes().map_err(text)?;
    let pin = view.hold().map_err(|e| e.to_string())?;
    let at = pin.as_ptr(0).map_err(|e| e.to_string())?.0.addr();
    let last = at + (BLOCKS * B) as usize - 1;
    demand(rights(at)? == "rw-s", || "the window cannot be written".into())?;
    w.hurry();
    // The fence moves the file off what is pinned.
    w.vol.punch(&w.file, 0, B).map_err(text)?;
    for place in [at, last] {
        let now = rights(place)?;
        demand(now == "---p", || format!("a stale pointer reaches pages that are {now}"))?;
    }
    w.holds(0, 0)?;
    w.holds(1, 1)?;
    drop((pin, view, lease));
    w.vol.checkpoint().map_err(text)?;
    sound(&w.vol)
}
