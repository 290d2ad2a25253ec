//! Zeroing a range: it reads as zeroes and keeps its blocks, or gets some.
//!
//! A block that is the file's own becomes unwritten where it is, by a record and
//! without a write. Until that record is durable a crash brings its old bytes back,
//! so nothing may be written to it in place (law B5): it loses its own bit, which the
//! fast way of law B1 looks at, and is listed with the lowerings, which the exact way
//! looks at. A write that comes meanwhile goes to a new block.

use super::Volume;
use super::core::Class;
use super::file::{FileHandle, FileState, Version};
use super::range_ops::AT_ONCE;
use super::ranges::{extents_in, rewrite, unshared};
use super::stats::{shared_blocks, some_extents};
use super::write::{B, check_range};
use crate::error::Result;
use crate::format::types::{Extent, Record};
use crate::lane::Io;
use crate::tree::Fault;
use crate::txn::Txn;
use std::ops::Range;
use std::sync::Arc;

/// What is to be done with the blocks from one place on, and up to where.
enum Step {
    /// They read as zeroes and are the file's own.
    Skip(u64),
    /// Written and the file's own, at least in part.
    Zero(u64),
    /// A hole, or shared with others: unwritten blocks take their place.
    Fill(u64),
}

/// What one extent needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Nothing,
    Zero,
    Fill,
}

impl Volume {
    /// Makes a range read as zeroes; its blocks stay, holes get blocks, shared blocks
    /// are replaced by the file's own. The size stays: what lies past the file's last
    /// block is left alone. A crash in the middle leaves a part of it done. Blocks.
    ///
    /// # Errors
    /// `Invalid` past the greatest size; `NoSpace`, with what was done kept;
    /// `ReadOnly`, `Poisoned`.
    pub fn zero(self: &Arc<Self>, file: &FileHandle, off: u64, len: u64) -> Result<()> {
        check_range(off, len)?;
        self.health.writable()?;
        if len == 0 {
            return Ok(());
        }
        let (vol, state) = (self.clone(), file.state().clone());
        self.run_as(
            file.session(),
            move |io| async move { vol.zero_task(&io, &state, off, len).await },
        )
    }

    async fn zero_task(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        len: u64,
    ) -> Result<()> {
        let end = off + len;
        let _held = self.hold_to_cut(io, file, (off, end)).await?;
        let size = file.load().size;
        let end = end.min(size.next_multiple_of(B));
        if off >= size {
            return Ok(());
        }
        let whole = self.zero_edges(io, file, (off, end), size).await?;
        let (mut at, last) = (off / B, end.div_ceil(B));
        while at < last {
            let step = self.look(io, |vol| next_step(vol, &file.load(), at, last, &whole)).await?;
            at = match step {
                Step::Skip(to) => to,
                Step::Fill(to) => self.fill_hole(io, file, (at, to), 0).await?,
                Step::Zero(to) => {
                    let record = Record::Zero { file: file.id, start: at, len: to - at };
                    self.change(io, |core| core.execute(Class::Normal, &record)).await?;
                    to
                }
            };
        }
        Ok(())
    }
}

/// Blocks that only a part of the range lies in are written already: `whole` are
/// those that it covers.
fn next_step(
    vol: &Volume,
    v: &Version,
    at: u64,
    last: u64,
    whole: &Range<u64>,
) -> std::result::Result<Step, Fault> {
    let inside = whole.contains(&at);
    let zone = [whole.start, whole.end].into_iter().find(|edge| *edge > at);
    let last = zone.map_or(last, |edge| edge.min(last));
    // As many as one record changes.
    let more = some_extents(v, at + 1, AT_ONCE)?;
    let last = more.get(AT_ONCE - 1).map_or(last, |(k, _)| last.min(*k));
    let found = extents_in(v, at, last)?;
    match found.first() {
        None => return Ok(Step::Fill(last)),
        Some((k, ..)) if *k > at => return Ok(Step::Fill(*k)),
        Some(_) => {}
    }
    let mut core = vol.core();
    let txn = core.view();
    let (mut to, mut all) = (at, None);
    for (k, e, current) in found {
        if k != to {
            break;
        }
        let (need, len) = needs(&txn, v, k, e, current, inside)?;
        all = match (all, need) {
            (None, need) => Some(need),
            (Some(x), y) if x == y => all,
            (Some(Need::Fill), _) | (Some(_), Need::Fill) => break,
            _ => Some(Need::Zero),
        };
        to += len;
        if len < u64::from(e.len) {
            break;
        }
    }
    Ok(match all {
        Some(Need::Zero) => Step::Zero(to),
        Some(Need::Fill) => Step::Fill(to),
        _ => Step::Skip(to),
    })
}

/// What an extent needs, and for how many of its blocks that holds.
fn needs(
    txn: &Txn<'_>,
    v: &Version,
    k: u64,
    e: Extent,
    current: bool,
    inside: bool,
) -> std::result::Result<(Need, u64), Fault> {
    let len = u64::from(e.len);
    if e.own && current {
        return Ok((if inside && !e.unwritten { Need::Zero } else { Need::Nothing }, len));
    }
    if e.unwritten {
        // A count that is about to fall for good is as good as fallen: nothing is written.
        let shared = shared_blocks(txn, v.root(), k, &e)? > 0;
        return Ok((if shared { Need::Fill } else { Need::Nothing }, len));
    }
    if !inside {
        return Ok((Need::Nothing, len));
    }
    Ok(match unshared(txn, v, k)?.min(len) {
        0 => (Need::Fill, 1),
        alone => (Need::Zero, alone),
    })
}

/// The written extents in the range become unwritten, in the same blocks.
pub(super) fn zero(
    txn: &mut Txn<'_>,
    v: Version,
    start: u64,
    len: u64,
) -> std::result::Result<Version, Fault> {
    let careless = txn.sabotage("place-over-zero");
    for (_, e, _) in extents_in(&v, start, start + len)? {
        if !e.unwritten && !careless {
            txn.hold(e.phys, u64::from(e.len));
        }
    }
    rewrite(txn, v, start, len, |e| match e.unwritten {
        true => e,
        false => Extent { unwritten: true, own: e.own && careless, ..e },
    })
}
