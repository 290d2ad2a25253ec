//! Where each block of a write goes: in place, or to a new block (laws B1, B5, B7).

use super::admit::{Asks, growth};
use super::core::Core;
use super::file::{FileState, Piece, Version};
use super::logged::Logged;
use super::ranges::{extents_in, rewrite, unshared};
use super::write::{B, How, Part, Parts};
use crate::arbiter::{Change, Span};
use crate::format::types::{Extent, Seq};
use crate::tree::Fault;
use crate::txn::Txn;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The file as it is, and what a write to these blocks does with each.
pub(super) fn decide(
    core: &mut Core,
    file: &FileState,
    blocks: (u64, u64),
    durable: Seq,
    logged: bool,
) -> std::result::Result<(Arc<Version>, Parts), Fault> {
    let old = file.load();
    let shrunk = file.shrink_seq.load(Ordering::Acquire) > durable
        && !crate::sabotage::breaks("place-over-cut");
    // Law B5: the cut-off tail of the last block may be overwritten in place only once
    // the cut is durable, and any write to the block overwrites its tail too.
    let no_place = (shrunk && !old.size.is_multiple_of(B)).then_some(old.size / B);
    let parts = classify(core, &old, blocks, no_place, logged)?;
    Ok((old, parts))
}

/// What a write to these bytes asks for. Blocks that it covers in part are read and
/// written back (law B6).
pub(super) fn write_asks(parts: &[Part], (off, end): (u64, u64), size: u64) -> Asks {
    let mut out = growth(size, end);
    let mut ask = |change, start, end| {
        let span = Span { start, end };
        match out.iter_mut().find(|(c, _)| *c == change) {
            Some((_, spans)) => spans.push(span),
            None => out.push((change, smallvec::smallvec![span])),
        }
    };
    for p in parts {
        match p.how {
            How::Place | How::Again => ask(Change::Overwrite, p.block, p.block + p.len),
            How::Convert | How::New => ask(Change::Fill, p.block, p.block + p.len),
        }
    }
    for edge in [off, end] {
        if !edge.is_multiple_of(B) {
            ask(Change::OverwritePart, edge / B, edge / B + 1);
        }
    }
    out
}

/// New blocks that take the place of written ones.
pub(super) fn copies(parts: &[Part]) -> u64 {
    parts.iter().filter(|p| p.how == How::New && p.phys != 0).map(|p| p.len).sum()
}

/// What stands where, and so what is to be done with it. For `New` the address
/// is that of the written block that is copied away from, or 0.
fn classify(
    core: &mut Core,
    old: &Version,
    (first, last): (u64, u64),
    no_place: Option<u64>,
    logged: bool,
) -> std::result::Result<Parts, Fault> {
    let found = extents_in(old, first, last)?;
    let live = std::mem::take(&mut core.logged);
    let done = sort_out(&core.view(), &live, (old, found), (first, last), no_place, logged);
    core.logged = live;
    done
}

fn sort_out(
    txn: &Txn<'_>,
    live: &Logged,
    (old, found): (&Version, Vec<(u64, Extent, bool)>),
    (first, last): (u64, u64),
    no_place: Option<u64>,
    logged: bool,
) -> std::result::Result<Parts, Fault> {
    let mut out = Parts::new();
    let mut at = first;
    let new = |out: &mut Parts, block, len, phys| {
        if len > 0 {
            out.push(Part { block, len, phys, how: How::New });
        }
    };
    for (k, e, current) in found {
        new(&mut out, at, k - at, 0);
        let len = u64::from(e.len);
        let mut done = 0;
        while done < len {
            let block = k + done;
            let alone = match e.own && current {
                true => txn.reachable_by_none(e.phys + done, len - done),
                false => unshared(txn, old, block)?,
            };
            let mut alone = alone.min(len - done);
            if let Some(b) = no_place.filter(|b| (block..block + alone).contains(b)) {
                alone = b - block;
            }
            let (held, run) = match alone {
                0 => (false, 0),
                _ if crate::sabotage::breaks("place-over-logged") => (false, alone),
                _ => live.run(e.phys + done, alone),
            };
            alone = run;
            if alone == 0 || held && (e.unwritten || !logged) {
                let phys = if e.unwritten { 0 } else { e.phys + done };
                new(&mut out, block, 1, phys);
                done += 1;
                continue;
            }
            let how = match (e.unwritten, held) {
                (true, _) => How::Convert,
                (false, true) => How::Again,
                (false, false) => How::Place,
            };
            out.push(Part { block, len: alone, phys: e.phys + done, how });
            done += alone;
        }
        at = k + len;
    }
    new(&mut out, at, last - at, 0);
    Ok(out)
}

/// Law B1: blocks that the exact way found to be this file's alone get their own
/// bit, so that the fast way finds them next time. Only a help: a fault is no matter.
pub(super) fn remember_own(core: &mut Core, file: &Arc<FileState>, parts: &[Part]) {
    for p in parts.iter().filter(|p| p.how == How::Place) {
        let known = matches!(
            file.load().lookup(p.block),
            Ok(Piece::Extent { e, current }) if e.own && current && u64::from(e.len) >= p.len
        );
        if !known {
            let own = |e: Extent| Extent { own: true, ..e };
            let _ = core.restate(file, |txn, v| rewrite(txn, v.clone(), p.block, p.len, own));
        }
    }
}
