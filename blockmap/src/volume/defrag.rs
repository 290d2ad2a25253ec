//! Moving a file's blocks together.
//!
//! A run of neighbouring file blocks that lies in several places is copied to one place
//! and the map follows, slice by slice: the range is held (law B6), its blocks are as they
//! were when the place was taken, the copy has landed before its record (law B4), and the
//! old blocks wait as all freed ones do (law B3). Only what one longer run can replace is
//! moved, so it never gets worse. Shared blocks stay: moving them would take space.

use super::Volume;
use super::core::Class;
use super::file::{FileHandle, FileState, Version};
use super::range_ops::AT_ONCE;
use super::ranges::{extents_in, unshared};
use super::stats::some_extents;
use super::write::{B, How, Part, check_range};
use crate::arbiter::{Answer, Change, Request, Span};
use crate::error::{ErrorKind, Result};
use crate::format::types::{Extent, NewExtents, Record};
use crate::lane::Io;
use crate::tree::Fault;
use crate::txn::Txn;
use std::ops::Range;
use std::sync::Arc;

/// Extents this long are as good as any, and no run that is made is longer: 8 MiB.
const RUN: u64 = 2048;

/// Blocks that one record moves at the most.
const SLICE: u64 = 256;

/// What came of moving a file's blocks together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DefragReport {
    /// Places on the medium that the range lay in.
    pub extents_before: u64,
    /// Places that it lies in now.
    pub extents_after: u64,
    /// Bytes that were moved.
    pub moved: u64,
}

type Pieces = Vec<(u64, Extent)>;

/// What lies from one block on.
enum Next {
    /// Nothing to gain up to here.
    Skip(u64),
    /// Neighbouring blocks of the file's own, in several places.
    Scattered(Pieces),
}

impl Volume {
    /// Moves the blocks of a range together where free space has longer runs than they
    /// lie in, up to 8 MiB each; where it has none, leaves them. Goes round blocks that
    /// others share. A crash leaves a part of it done; the bytes never change. Blocks.
    ///
    /// # Errors
    /// `Invalid` past the greatest size; `ReadOnly`, `Io`, `Poisoned`.
    pub fn defrag(self: &Arc<Self>, file: &FileHandle, off: u64, len: u64) -> Result<DefragReport> {
        let len = len.min(super::write::MAX_SIZE.saturating_sub(off));
        check_range(off, len)?;
        self.health.writable()?;
        let (vol, state) = (self.clone(), file.clone());
        self.run_as(file.session(), move |io| async move {
            let file = state.state();
            let blocks = off / B..(off + len).div_ceil(B);
            let extents_before = vol.places(&io, file, &blocks).await?;
            let moved = vol.defrag_task(&io, file, &blocks).await? * B;
            let extents_after = vol.places(&io, file, &blocks).await?;
            Ok(DefragReport { extents_before, extents_after, moved })
        })
    }

    /// In how many places on the medium the range lies.
    async fn places(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        blocks: &Range<u64>,
    ) -> Result<u64> {
        let (mut at, mut places, mut before) = (blocks.start, 0, None);
        while at < blocks.end {
            let (found, next) = self.look(io, |_| window(&file.load(), at, blocks.end)).await?;
            for (k, e) in found {
                places += u64::from(before.is_none_or(|last| !touch(&last, &(k, e))));
                before = Some((k, e));
            }
            at = next;
            io.pause().await;
        }
        Ok(places)
    }

    /// Blocks moved.
    async fn defrag_task(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        blocks: &Range<u64>,
    ) -> Result<u64> {
        let (mut at, mut moved) = (blocks.start, 0);
        while at < blocks.end {
            at = match self.look(io, |vol| next_run(vol, &file.load(), at, blocks.end)).await? {
                Next::Skip(to) => to,
                Next::Scattered(pieces) => {
                    let end = pieces.last().map_or(blocks.end, |(k, e)| k + u64::from(e.len));
                    match self.move_run(io, file, pieces).await {
                        Ok(n) => moved += n,
                        // There is no place to move anything to.
                        Err(e) if e.kind() == ErrorKind::NoSpace => return Ok(moved),
                        Err(e) => return Err(e),
                    }
                    end
                }
            };
            io.pause().await;
        }
        Ok(moved)
    }

    /// Moves as much of a run as one free run takes, if that is a gain.
    async fn move_run(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        mut pieces: Pieces,
    ) -> Result<u64> {
        let blocks = |p: &Pieces| p.iter().map(|(_, e)| u64::from(e.len)).sum::<u64>();
        let want = blocks(&pieces);
        // What there is, is enough: nobody is made to give up space for this.
        let (to, len) = self
            .change_within(io, 0, |core| {
                core.admit(Class::Normal, want)?;
                core.space.alloc(0, want, 0)
            })
            .await?;
        while blocks(&pieces) > len {
            pieces.pop();
        }
        let kept = if gains(&pieces) { blocks(&pieces) } else { 0 };
        let place = |from: u64, len: u64| Part { block: 0, len, phys: to + from, how: How::New };
        if kept < len {
            self.give_back(&[place(kept, len - kept)]);
        }
        let mut done = 0;
        for slice in if kept > 0 { slices(&pieces) } else { Vec::new() } {
            let n = blocks(&slice);
            match self.move_slice(io, file, &slice, to + done).await {
                Ok(true) => done += n,
                Ok(false) => break,
                Err(e) => {
                    self.give_back(&[place(done, kept - done)]);
                    return Err(e);
                }
            }
        }
        if done < kept {
            self.give_back(&[place(done, kept - done)]);
        }
        Ok(done)
    }

    /// Copies some extents to blocks that are set aside and maps them there. False,
    /// with nothing done, if they are not what they were.
    async fn move_slice(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        slice: &Pieces,
        to: u64,
    ) -> Result<bool> {
        let (Some((start, _)), Some((k, e))) = (slice.first(), slice.last()) else {
            return Ok(false);
        };
        let (start, end) = (*start, k + u64::from(e.len));
        let _held = self.hold(io, file, start, end).await;
        let same = self.look(io, |vol| unmoved(vol, &file.load(), slice, start..end)).await?;
        if !same || !may_move(file, start..end) {
            return Ok(false);
        }
        // Law B7: the medium copies what is there.
        for (_, e) in slice {
            self.blocks_home(io, e.phys, u64::from(e.len)).await?;
        }
        // The range is held: nobody frees these blocks. No longer seen than they are read,
        // because what the record may have to wait for waits for all who are (law B3).
        let seen = io.seen(&self.epoch);
        let mut extents = NewExtents::with_capacity(slice.len());
        for (k, e) in slice {
            let phys = to + (k - start);
            if !e.unwritten {
                self.copy_blocks(io, e.phys, phys, u64::from(e.len)).await?;
            }
            extents.push((*k, Extent { phys, own: true, ..*e }));
        }
        drop(seen);
        let record = Record::Map { file: file.id, start, len: end - start, size: 0, extents };
        self.change(io, |core| core.execute(Class::Normal, &record)).await?;
        Ok(true)
    }
}

/// May these blocks get other addresses? Asked while they are held, of each slice:
/// whoever needs a range to stay where it is answers here, and it is gone round.
fn may_move(file: &FileState, blocks: Range<u64>) -> bool {
    let spans = [Span { start: blocks.start, end: blocks.end }];
    let ask = Request { session: 0, change: Change::Relocate, spans: &spans, ticket: 0 };
    let free = file.guards.are_none()
        || file.guards.with(|t| t.arbiter.admit(&ask, super::clock())) == Answer::Go;
    // Of a file that is being removed nothing is worth moving.
    free && !file.load().condemned
}

/// Some extents from a block on, and where the rest begins.
fn window(v: &Version, at: u64, last: u64) -> std::result::Result<(Pieces, u64), Fault> {
    let more = some_extents(v, at + 1, AT_ONCE)?;
    let last = more.get(AT_ONCE - 1).map_or(last, |(k, _)| last.min(*k));
    let found = extents_in(v, at, last)?;
    Ok((found.into_iter().map(|(k, e, _)| (k, e)).collect(), last))
}

/// Do they lie together, in the file and on the medium?
fn touch(a: &(u64, Extent), b: &(u64, Extent)) -> bool {
    let len = u64::from(a.1.len);
    a.0 + len == b.0 && a.1.phys + len == b.1.phys
}

/// Would one run be fewer places?
fn gains(pieces: &Pieces) -> bool {
    pieces.windows(2).any(|w| !touch(&w[0], &w[1]))
}

/// The file's own blocks that follow each other, as far as one run takes them.
fn next_run(vol: &Volume, v: &Version, at: u64, last: u64) -> std::result::Result<Next, Fault> {
    let more = some_extents(v, at + 1, RUN as usize)?;
    let limit = more.last().filter(|_| more.len() == RUN as usize).map_or(last, |(k, _)| *k);
    let found = extents_in(v, at, last.min(limit).min(at + 2 * RUN))?;
    let mut core = vol.core();
    let txn = core.view();
    let (mut pieces, mut blocks): (Pieces, u64) = (Vec::new(), 0);
    for (k, e, current) in found {
        let len = u64::from(e.len);
        let follows = pieces.last().is_none_or(|(p, x)| p + u64::from(x.len) == k);
        if !follows || blocks + len > RUN || !alone(&txn, v, k, &e, current)? {
            break;
        }
        pieces.push((k, e));
        blocks += len;
    }
    if gains(&pieces) {
        return Ok(Next::Scattered(pieces));
    }
    // Nothing to gain from these: on to what follows them, or the next extent.
    let to = match pieces.last() {
        Some((k, e)) => k + u64::from(e.len),
        None => match extents_in(v, at, at + 1)?.is_empty() {
            true => more.first().map_or(last, |(k, _)| *k),
            false => match v.lookup(at)? {
                super::file::Piece::Extent { e, .. } => at + u64::from(e.len),
                super::file::Piece::Hole(n) => at + n,
            },
        },
    };
    Ok(Next::Skip(to.clamp(at + 1, last)))
}

fn alone(
    txn: &Txn<'_>,
    v: &Version,
    k: u64,
    e: &Extent,
    current: bool,
) -> std::result::Result<bool, Fault> {
    let len = u64::from(e.len);
    let known = e.own && current && txn.reachable_by_none(e.phys, len) == len;
    Ok(known || unshared(txn, v, k)? >= len)
}

/// Are these extents still there, and the file's alone?
fn unmoved(
    vol: &Volume,
    v: &Version,
    slice: &Pieces,
    blocks: Range<u64>,
) -> std::result::Result<bool, Fault> {
    let found = extents_in(v, blocks.start, blocks.end)?;
    let mut core = vol.core();
    let txn = core.view();
    let mut left = slice.iter();
    for (k, e, current) in found {
        let same = left.next().is_some_and(|(l, x)| {
            (*l, x.phys, x.len, x.unwritten) == (k, e.phys, e.len, e.unwritten)
        });
        if !same || !alone(&txn, v, k, &e, current)? {
            return Ok(false);
        }
    }
    Ok(left.next().is_none())
}

/// As many extents, and blocks, as one record moves.
fn slices(pieces: &Pieces) -> Vec<Pieces> {
    let mut out: Vec<Pieces> = vec![Vec::new()];
    let mut used = 0;
    for (k, e) in pieces {
        let mut done = 0;
        while done < e.len {
            let full = out.last().is_none_or(|s| s.len() >= AT_ONCE);
            if full || used >= SLICE {
                out.push(Vec::new());
                used = 0;
            }
            let n = (e.len - done).min((SLICE - used) as u32);
            let part = Extent { phys: e.phys + u64::from(done), len: n, ..*e };
            out.last_mut().expect("just put there").push((k + u64::from(done), part));
            done += n;
            used += u64::from(n);
        }
    }
    out
}
