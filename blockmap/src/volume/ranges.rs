//! What records do to the map of a file. Pure: versions in, versions out.

use super::file::{Map, Piece, Version};
use super::shelf::owned;
use crate::format::types::Extent;
use crate::format::{BLOCK_LIMIT, Extents};
use crate::tree::{Cursor, Fault, New, Splice, Tree, floor, join, shift, slice, split};
use crate::txn::Txn;
use std::sync::Arc;

/// A range of one file and its place in another, in file blocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) len: u64,
}

/// The range gets newly allocated extents; what was there is released.
pub(super) fn map(
    txn: &mut Txn<'_>,
    v: Version,
    start: u64,
    len: u64,
    size: u64,
    extents: &[(u64, Extent)],
) -> Result<Version, Fault> {
    for (_, e) in extents {
        txn.claim(e.phys, u64::from(e.len))?;
    }
    let new = extents.iter().map(|(k, e)| (*k, owned(*e))).collect();
    let s = Splice { lo: start, hi: Some(start + len), new, release: true };
    let v = v.splice(txn, s)?;
    Ok(Version { size: v.size.max(size), ..v })
}

/// Unwritten extents in the range become written, in the same blocks.
pub(super) fn convert(
    txn: &mut Txn<'_>,
    v: Version,
    start: u64,
    len: u64,
    size: u64,
) -> Result<Version, Fault> {
    let v = rewrite(txn, v, start, len, |e| Extent { unwritten: false, ..e })?;
    Ok(Version { size: v.size.max(size), ..v })
}

/// Changes the bits of the extents in a range, nothing else.
pub(super) fn rewrite(
    txn: &mut Txn<'_>,
    v: Version,
    start: u64,
    len: u64,
    change: impl Fn(Extent) -> Extent,
) -> Result<Version, Fault> {
    let end = start + len;
    let mut new = New::<Extents>::new();
    for (k, e, current) in extents_in(&v, start, end)? {
        // A bit that is older than the last sharing says nothing any more.
        new.push((k, change(Extent { own: e.own && current, ..e })));
    }
    v.splice(txn, Splice { lo: start, hi: Some(end), new, release: false })
}

/// The extents in a range, cut at its ends, and whether their leaf's stamp is current.
pub(super) fn extents_in(
    v: &Version,
    start: u64,
    end: u64,
) -> Result<Vec<(u64, Extent, bool)>, Fault> {
    if end == start + 1 {
        return Ok(match v.lookup(start)? {
            Piece::Hole(_) => Vec::new(),
            Piece::Extent { e, current } => vec![(start, Extent { len: 1, ..e }, current)],
        });
    }
    let mut out = Vec::new();
    let mut keep = |k: u64, e: Extent, stamp: u64| {
        let (a, b) = (k.max(start), (k + u64::from(e.len)).min(end));
        if a < b {
            let e = Extent { phys: e.phys + (a - k), len: (b - a) as u32, ..e };
            out.push((a, e, stamp >= v.share_gen));
        }
        k < end
    };
    match &v.map {
        Map::Inline { stamp, extents } => {
            extents.iter().for_each(|(k, e)| {
                keep(*k, *e, *stamp);
            });
        }
        Map::Tree(t) => {
            let mut c = Cursor::seek(t, &start)?;
            while let Some((k, e, stamp)) = c.next()? {
                if !keep(k, e, stamp) {
                    break;
                }
            }
        }
    }
    Ok(out)
}

/// Takes a range away: released at once, or (`whole`) given back as a version
/// of its own that waits for its removal.
pub(super) fn cut(
    txn: &mut Txn<'_>,
    v: &Version,
    start: u64,
    end: Option<u64>,
    whole: bool,
) -> Result<(Version, Option<Version>), Fault> {
    if !whole {
        let s = Splice { lo: start, hi: end, new: New::<Extents>::new(), release: true };
        return Ok((v.clone().splice(txn, s)?, None));
    }
    let tree = v.as_tree(txn)?;
    let (left, right) = split(txn, tree, &start)?;
    let (middle, right) = match end {
        None => (right, Tree::EMPTY),
        Some(end) => split(txn, right, &end)?,
    };
    let rest = v.with_map(txn, Map::Tree(middle));
    let kept = join(txn, left, right)?;
    txn.tally_unknown();
    Ok((v.with_map(txn, Map::Tree(kept)), Some(rest)))
}

/// File blocks `start..start+len` are taken out, and what lies behind them moves
/// down; what was there is released or (`whole`) given back, as by [`cut`].
pub(super) fn collapse(
    txn: &mut Txn<'_>,
    v: &Version,
    start: u64,
    len: u64,
    whole: bool,
) -> Result<(Version, Option<Version>), Fault> {
    let (v, rest) = cut(txn, v, start, Some(start + len), whole)?;
    Ok((moved(txn, v, start, len.wrapping_neg())?, rest))
}

/// What lies at `start` or behind it moves up by `len` blocks; between is a hole.
pub(super) fn insert(
    txn: &mut Txn<'_>,
    v: &Version,
    start: u64,
    len: u64,
) -> Result<Version, Fault> {
    moved(txn, v.clone(), start, len)
}

/// What lies at `start` or behind it moves by so many blocks, modulo 2^64.
fn moved(txn: &mut Txn<'_>, v: Version, start: u64, by: u64) -> Result<Version, Fault> {
    if last_end(&v)?.is_some_and(|end| end > start && end.wrapping_add(by) > BLOCK_LIMIT) {
        return Err(Fault::corrupt("journal", start, "blocks moved past the end of all files"));
    }
    let tree = v.as_tree(txn)?;
    let (left, right) = split(txn, tree, &start)?;
    let right = shift(txn, right, by)?;
    let tree = join(txn, left, right)?;
    txn.tally_unknown();
    Ok(v.with_map(txn, Map::Tree(tree)))
}

/// Where the last extent ends.
pub(super) fn last_end(v: &Version) -> Result<Option<u64>, Fault> {
    let last = match &v.map {
        Map::Inline { extents, .. } => extents.last().map(|(k, e)| (*k, *e)),
        Map::Tree(Tree { root: None }) => None,
        Map::Tree(Tree { root: Some(root) }) => floor(root, &BLOCK_LIMIT)?.map(|(k, e, _)| (k, e)),
    };
    Ok(last.map(|(k, e)| k + u64::from(e.len)))
}

/// A whole map gets a second owner: its root is counted once more, or its few
/// extents are. Both sides forget what they owned (law B1).
pub(super) fn reflink(txn: &mut Txn<'_>, v: &Version) -> Result<(Version, Version), Fault> {
    let share_gen = txn.share_gen;
    let source = Version { share_gen, ..v.clone() };
    let map = match &v.map {
        Map::Inline { extents, .. } => {
            let mut copy = (**extents).clone();
            for (_, e) in &mut copy {
                txn.raise(e.phys, u64::from(e.len))?;
                e.own = false;
            }
            Map::Inline { stamp: share_gen, extents: Arc::new(copy) }
        }
        Map::Tree(t) => {
            if let Some(root) = &t.root {
                txn.raise(root.at.addr, 1)?;
            }
            Map::Tree(t.clone())
        }
    };
    let copy = Version { map, condemned: false, ..source.clone() };
    Ok((source, copy))
}

/// A range of the target shares the blocks of a range of the source. With
/// `whole`, subtrees are shared, and what the target had comes back as a version of
/// its own.
pub(super) fn reflink_range(
    txn: &mut Txn<'_>,
    source: &Version,
    target: &Version,
    span: Span,
    whole: bool,
) -> Result<(Version, Option<Version>), Fault> {
    let (lo, hi) = (span.to, span.to + span.len);
    if whole && let Map::Tree(t) = &source.map {
        txn.begin_file(source.share_gen);
        let shared = slice(txn, t, &span.from, &(span.from + span.len))?;
        let shared = shift(txn, shared, span.to.wrapping_sub(span.from))?;
        let tree = target.as_tree(txn)?;
        let (left, rest) = split(txn, tree, &lo)?;
        let (old, right) = split(txn, rest, &hi)?;
        let old = target.with_map(txn, Map::Tree(old));
        let left = join(txn, left, shared)?;
        let tree = join(txn, left, right)?;
        txn.tally_unknown();
        return Ok((target.with_map(txn, Map::Tree(tree)), Some(old)));
    }
    // However the source is held in memory, a record that names a tail makes one.
    let (target, rest) =
        if whole { cut(txn, target, lo, Some(hi), true)? } else { (target.clone(), None) };
    let mut new = New::<Extents>::new();
    for (k, e, _) in extents_in(source, span.from, span.from + span.len)? {
        txn.raise(e.phys, u64::from(e.len))?;
        new.push((k - span.from + span.to, Extent { own: false, ..e }));
    }
    Ok((target.splice(txn, Splice { lo, hi: Some(hi), new, release: true })?, rest))
}

/// How many blocks from `block` on are this file's alone, so that they may be
/// written in place (law B1, the slow and exact way).
pub(super) fn unshared(txn: &Txn<'_>, v: &Version, block: u64) -> Result<u64, Fault> {
    let Piece::Extent { e, .. } = v.lookup(block)? else { return Ok(0) };
    if let Some(root) = v.root() {
        let alone = |node, stamp| {
            Ok(stamp >= v.share_gen || txn.count(node)? == 1 && txn.settled(node, 1) == 1)
        };
        if !crate::tree::path_all(root, &block, alone)? {
            return Ok(0);
        }
    }
    let mut alone = 0;
    for (at, len, count) in txn.runs(e.phys, u64::from(e.len))? {
        if count > 1 {
            break;
        }
        let n = txn.settled(at, len);
        alone += n;
        if n < len {
            break;
        }
    }
    Ok(alone)
}
