//! Everything at once: all names, bytes, numbers and maps against the oracle.

use super::content::{BLOCK, Content, SECTOR, describe};
use super::drive::read_same;
use super::oracle::State;
use super::{Driver, Op, Who};
use freehold::{File, IomapKind, ListEntry, Store};
use std::collections::{BTreeMap, BTreeSet};

/// Holds a file against the oracle: bytes, size, numbers, map.
///
/// # Errors
/// What differs.
pub(crate) fn look(f: &File, c: &Content, id: u32) -> Result<(), String> {
    let what = format!("file {id}");
    read_same(f, c, 0, c.size + 1, &what).map_err(|e| e.text())?;
    let stat = f.stat().map_err(|e| e.to_string())?;
    let map = f.iomap(0, u64::MAX).map_err(|e| e.to_string())?;
    let mut at = 0;
    let (mut allocated, mut shared) = (0, 0);
    for piece in &map {
        if piece.offset != at || piece.length == 0 {
            return Err(format!("{what}: its map has a gap at {at:#x}: {map:?}"));
        }
        at += piece.length;
        if piece.kind != IomapKind::Hole {
            allocated += piece.length;
            shared += if piece.shared { piece.length } else { 0 };
        }
    }
    if at != c.size.next_multiple_of(BLOCK) {
        return Err(format!("{what}: its map ends at {at:#x}, its size is {:#x}", c.size));
    }
    for b in c.blocks().filter(|b| c.block(*b).iter().any(|x| *x != 0)) {
        let i = map.partition_point(|p| p.offset <= b * BLOCK) - 1;
        if map[i].kind != IomapKind::Written {
            return Err(format!("{what}: block {b} holds data, and its map says {:?}", map[i]));
        }
    }
    // What was set aside behind the end is counted too.
    if stat.size != c.size || stat.allocated < allocated || stat.shared < shared {
        return Err(format!("{what}: {stat:?}; its map has {allocated} bytes, {shared} shared"));
    }
    Ok(())
}

/// Holds the whole store against the oracle.
///
/// # Errors
/// What differs.
pub fn verify(d: &Driver) -> Result<(), String> {
    names(d.store(), &d.state)?;
    let mut owners: BTreeMap<u64, (u32, bool)> = BTreeMap::new();
    let mut nameless = BTreeSet::new();
    for (n, id) in &d.state.names {
        let f = d.store().open_file(n).map_err(|e| format!("{id}: {e}"))?;
        look(&f, &d.state.files[id], *id)?;
        once(&f, *id, &mut owners)?;
    }
    for (slot, id) in &d.state.slots {
        let f = d.slot(*slot).ok_or_else(|| format!("slot {slot} is empty"))?;
        look(f, &d.state.files[id], *id)?;
        if !d.state.names.values().any(|named| named == id) && nameless.insert(*id) {
            once(f, *id, &mut owners)?;
        }
    }
    Ok(())
}

fn names(store: &Store, state: &State) -> Result<(), String> {
    let listing = store.list(b"", None, None, 10_000).map_err(|e| e.to_string())?;
    let mut found = BTreeMap::new();
    for e in listing.entries {
        match e {
            ListEntry::File { name, stat } => found.insert(name, stat),
            ListEntry::Prefix(p) => return Err(format!("a prefix nobody asked for: {p:?}")),
        };
    }
    if !found.keys().eq(state.names.keys()) {
        let (found, want) = (found.keys(), state.names.keys());
        return Err(format!("names are {found:?} and should be {want:?}"));
    }
    for (name, brief) in found {
        let walked = store.open_file(&name).and_then(|f| f.stat()).map_err(|e| e.to_string())?;
        if (brief.size, brief.allocated, brief.extents)
            != (walked.size, walked.allocated, walked.extents)
        {
            return Err(format!("list says {brief:?} of {name:?}, a walk {walked:?}"));
        }
    }
    Ok(())
}

/// A block that stands in two places is called shared in both.
fn once(f: &File, id: u32, owners: &mut BTreeMap<u64, (u32, bool)>) -> Result<(), String> {
    for p in f.iomap(0, u64::MAX).map_err(|e| e.to_string())? {
        let Some(address) = p.address else { continue };
        for block in 0..p.length / BLOCK {
            let at = address / BLOCK + block;
            if let Some((other, shared)) = owners.insert(at, (id, p.shared))
                && !(shared && p.shared)
            {
                return Err(format!(
                    "block {at} belongs to file {other} (shared: {shared}) and to file {id} \
                     (shared: {})",
                    p.shared
                ));
            }
        }
    }
    Ok(())
}

/// What is left when everything was removed: as much free space as at the beginning.
///
/// # Errors
/// How much is missing.
pub fn all_comes_back(store: &Store, free: u64) -> Result<(), String> {
    let listing = store.list(b"", None, None, 10_000).map_err(|e| e.to_string())?;
    for e in listing.entries {
        if let ListEntry::File { name, .. } = e {
            store.remove(&name).map_err(|e| format!("remove at the end: {e}"))?;
        }
    }
    // Removals with a small cache go on a few nodes at a time, from one checkpoint to
    // the next: it ends when nothing more comes back.
    let (mut now, mut most, mut idle) = (0, 0, 0);
    while idle < 6 {
        store.checkpoint().map_err(|e| format!("checkpoint at the end: {e}"))?;
        now = store.space().free;
        if now == free {
            return Ok(());
        }
        idle = if now > most { 0 } else { idle + 1 };
        most = most.max(now);
    }
    Err(format!(
        "all files are removed, {now} bytes are free, and {free} were: {:?}",
        store.space()
    ))
}

/// `check` finds nothing.
///
/// # Errors
/// What it finds.
pub fn clean(store: &Store) -> Result<(), String> {
    let report = store.check().map_err(|e| format!("check: {e}"))?;
    let text = format!("{report:?}");
    if text.contains("findings") && !text.contains("findings: []") {
        return Err(format!("check is not clean: {text}"));
    }
    Ok(())
}

/// The most bytes that an operation may need; none for those that need none.
pub(super) fn asks_for(op: &Op, state: &State) -> Option<u64> {
    let size = |who: &Who| state.find(*who).map_or(0, |id| state.files[&id].size);
    let edges = 4 * BLOCK;
    Some(match op {
        Op::Write { len, .. } | Op::Durable { len, .. } => len + edges,
        Op::Allocate { len, .. } | Op::Zero { len, .. } => len + edges,
        Op::Scatter { count, .. } => count * BLOCK + edges,
        Op::Batch { parts, .. } | Op::Atomic { parts, .. } => {
            parts.iter().map(|(_, len)| len + edges).sum()
        }
        Op::Insert { .. } => edges,
        Op::Punch { .. } | Op::Create { .. } | Op::Reflink { .. } | Op::Rename { .. } => edges,
        Op::ReflinkRange { .. } => edges,
        Op::Truncate { who, size: new } if *new > size(who) => edges,
        _ => return None,
    })
}

/// What a file holds when an operation on it was done in part: each sector as it
/// was before or would be after, the size in between.
pub(super) fn between(f: &File, old: &Content, new: &Content) -> Result<Content, String> {
    let size = f.size();
    if size < old.size.min(new.size) || size > old.size.max(new.size) {
        return Err(format!("its size is {size}, it was {} and should be {}", old.size, new.size));
    }
    let mut got = vec![0; size as usize];
    f.read_at(&mut got, 0).map_err(|e| e.to_string())?;
    let mut now = Content::default();
    let (mut a, mut b) = ([0; SECTOR as usize], [0; SECTOR as usize]);
    for (i, sector) in got.chunks(SECTOR as usize).enumerate() {
        let at = i as u64 * SECTOR;
        old.peek(at, &mut a);
        new.peek(at, &mut b);
        if *sector != a[..sector.len()] && *sector != b[..sector.len()] {
            let text = describe(sector, at);
            return Err(format!("at {at:#x} there is {text}, neither old nor new"));
        }
        if sector.iter().any(|x| *x != 0) {
            now.write(at, sector);
        }
    }
    now.size = size;
    Ok(now)
}

/// What is told of two files covers all that differs, ascends, is joined, and lies
/// inside of them.
pub(super) fn diff(a: (File, &Content), b: (File, &Content)) -> Result<(), String> {
    let ranges = a.0.diff(&b.0).map_err(|e| format!("diff: {e}"))?;
    let (x, y) = (a.1, b.1);
    let end = x.size.max(y.size);
    let mut at = 0;
    let mut gaps: Vec<(u64, u64)> = Vec::new();
    for (i, r) in ranges.iter().enumerate() {
        if r.len == 0 || r.offset < at || (i > 0 && r.offset == at) || end - r.offset < r.len {
            return Err(format!("diff gives {ranges:?} of {} and {} bytes", x.size, y.size));
        }
        gaps.push((at, r.offset));
        at = r.offset + r.len;
    }
    gaps.push((at, end));
    for (from, to) in gaps.into_iter().filter(|(from, to)| from < to) {
        if to > x.size.min(y.size) || x.read(from, to - from) != y.read(from, to - from) {
            return Err(format!("diff gives {ranges:?}, and {from}..{to} differs"));
        }
    }
    Ok(())
}
