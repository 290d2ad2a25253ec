//! Verbs on ranges: truncate, punch, allocate.

use super::Volume;
use super::admit::{Asks, Ticket, asks, growth};
use super::core::{Class, Core};
use super::file::{FileHandle, FileState, Piece, Version};
use super::hold::Held;
use super::plan::decide;
use super::ranges::{extents_in, unshared};
use super::stats::some_extents;
use super::write::{B, How, check_range};
use crate::arbiter::Change;
use crate::error::Result;
use crate::format::BLOCK;
use crate::format::types::{FileId, Record};
use crate::lane::Io;
use crate::tree::Fault;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// More extents than this are taken away as a nameless file (law B10).
pub(super) const AT_ONCE: usize = 128;

/// Blocks that one step of `allocate` copies or sets aside at the most.
const STEP: u64 = 256;

impl Volume {
    /// Makes the file shorter or longer; what is added reads as zeroes. Blocks.
    ///
    /// # Errors
    /// `Invalid` past the greatest size; `NoSpace` only when the file grows;
    /// `ReadOnly`, `Poisoned`.
    pub fn truncate(self: &Arc<Self>, file: &FileHandle, size: u64) -> Result<()> {
        check_range(size, 0)?;
        let (vol, state) = (self.clone(), file.state().clone());
        self.run_as(
            file.session(),
            move |io| async move { vol.truncate_task(&io, &state, size).await },
        )
    }

    pub(super) async fn truncate_task(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        size: u64,
    ) -> Result<()> {
        self.resize(io, file, size, false).await
    }

    async fn resize(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        size: u64,
        only_grow: bool,
    ) -> Result<()> {
        let mut ticket = Ticket::default();
        loop {
            self.health.writable()?;
            let before = file.load().size;
            let held = self.hold(io, file, size.min(before) / B, u64::MAX).await;
            let old = file.load().size;
            if old < before {
                continue;
            }
            if only_grow && size <= old {
                return Ok(());
            }
            let wait = match file.guards.are_none() {
                true => None,
                false => {
                    let tail = self.tail_asks(io, file, size).await?;
                    let all = || size_asks(old, size).into_iter().chain(tail).collect();
                    self.may(io, file, &mut ticket, all)?
                }
            };
            if let Some(wait) = wait {
                drop(held);
                self.wait_for(io, file, wait).await?;
                continue;
            }
            if size > old {
                self.zero_tail(io, file).await?;
            }
            return self.set_size(io, file, size).await;
        }
    }

    async fn set_size(self: &Arc<Self>, io: &Io, file: &Arc<FileState>, size: u64) -> Result<()> {
        let shrinks = size < file.load().size;
        let removed = self
            .change(io, |core| {
                let v = file.load();
                if size == v.size {
                    return Ok(false);
                }
                if size > v.size {
                    core.execute(Class::Normal, &Record::Grow { file: file.id, size })?;
                    return Ok(false);
                }
                let tail = tail_for(core, &v, size.div_ceil(B), None)?;
                core.execute(Class::Removal, &Record::Truncate { file: file.id, size, tail })?;
                Ok(tail != 0)
            })
            .await?;
        if shrinks && removed {
            self.ask_reap();
        }
        Ok(())
    }

    /// Makes a range read as zeroes and frees its whole blocks; the size stays. Blocks.
    ///
    /// # Errors
    /// `Invalid` past the greatest size; `NoSpace` when an edge block is shared
    /// and must be copied; `ReadOnly`, `Poisoned`.
    pub fn punch(self: &Arc<Self>, file: &FileHandle, off: u64, len: u64) -> Result<()> {
        check_range(off, len)?;
        let (vol, state) = (self.clone(), file.state().clone());
        self.run_as(
            file.session(),
            move |io| async move { vol.punch_task(&io, &state, off, len).await },
        )
    }

    async fn punch_task(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        len: u64,
    ) -> Result<()> {
        self.health.writable()?;
        if len == 0 {
            return Ok(());
        }
        let end = off + len;
        let held = self.hold_to_cut(io, file, (off, end)).await?;
        let size = file.load().size;
        let end = end.min(size.next_multiple_of(B));
        if off >= size {
            return Ok(());
        }
        let whole = self.zero_edges(io, file, (off, end), size).await?;
        let removed = match whole.is_empty() {
            true => false,
            false => self.punch_blocks(io, file, whole.start, whole.end).await?,
        };
        drop(held);
        if removed {
            self.ask_reap();
        }
        Ok(())
    }

    /// Takes a range of bytes to take away what is in it, as far as the file reaches.
    pub(super) async fn hold_to_cut(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        (off, end): (u64, u64),
    ) -> Result<Held> {
        let range = (off / B, end.div_ceil(B));
        self.hold_asking(io, file, &[range], |v| {
            let last = range.1.min(v.size.div_ceil(B));
            asks(&[Change::Cut], &[(range.0, last)])
        })
        .await
    }

    /// Zeroes what a range covers of blocks that it does not cover wholly, and says
    /// which it does. The range is held, begins in the file, and ends in its last
    /// block at the most.
    pub(super) async fn zero_edges(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        (off, end): (u64, u64),
        size: u64,
    ) -> Result<Range<u64>> {
        // A block that lies inside up to the file's end goes whole.
        let first = off.div_ceil(B);
        let last = if end >= size { size.div_ceil(B) } else { end / B };
        let edges = [(off, end.min(first * B).min(size)), (off.max(last * B), end.min(size))];
        for (from, to) in edges {
            let inside = from < to && !(first..last).contains(&(from / B));
            if inside {
                self.zero_edge(io, file, from, to).await?;
                if first > last {
                    break;
                }
            }
        }
        Ok(first..last.max(first))
    }

    /// Zeroes a part of a block, if anything is written there. The range is held.
    async fn zero_edge(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        from: u64,
        to: u64,
    ) -> Result<()> {
        let found = self.look(io, |_| extents_in(&file.load(), from / B, from / B + 1)).await?;
        if found.iter().all(|(_, e, _)| e.unwritten) {
            return Ok(());
        }
        let mut buf = self.medium.pool().take(BLOCK)?;
        buf.fill(0);
        let len = (to - from) as usize;
        self.write_held(io, file, from, buf, len).await.map(drop).map_err(|(e, _)| e)
    }

    async fn punch_blocks(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        first: u64,
        last: u64,
    ) -> Result<bool> {
        self.change(io, |core| {
            let v = file.load();
            if extents_in(&v, first, last.min(first + 1))?.is_empty()
                && some_extents(&v, first, 1)?.first().is_none_or(|(k, _)| *k >= last)
            {
                return Ok(false);
            }
            let tail = tail_for(core, &v, first, Some(last))?;
            let record = Record::Punch { file: file.id, start: first, len: last - first, tail };
            core.execute(Class::Removal, &record)?;
            Ok(tail != 0)
        })
        .await
    }

    /// Sets blocks aside for a range: writes to it will find space. Holes become
    /// unwritten extents, shared blocks become the file's own; the file grows to the
    /// range's end. A crash in the middle leaves a part of it done. Blocks.
    ///
    /// # Errors
    /// `NoSpace`, with what was done kept; `Invalid`, `ReadOnly`, `Poisoned`.
    pub fn allocate(self: &Arc<Self>, file: &FileHandle, off: u64, len: u64) -> Result<()> {
        check_range(off, len)?;
        self.health.writable()?;
        if len == 0 {
            return Ok(());
        }
        let (vol, state) = (self.clone(), file.state().clone());
        self.run_as(file.session(), move |io| async move {
            vol.allocate_task(&io, &state, off, len).await
        })
    }

    async fn allocate_task(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        len: u64,
    ) -> Result<()> {
        let end = off + len;
        let mut at = off / B;
        let last = end.div_ceil(B);
        let mut ticket = Ticket::default();
        while at < last {
            let size = file.load().size;
            let first = if size < end { at.min(size / B) } else { at };
            let held = self.hold(io, file, first, last).await;
            if file.load().size != size {
                continue;
            }
            let step = self.next_step(io, file, at, last).await?;
            let tail = self.tail_asks(io, file, end).await?;
            let fill = || {
                let mut all = match step {
                    Step::Skip(_) => Asks::new(),
                    Step::Fill(to) | Step::Unshare(to) => asks(&[Change::Allocate], &[(at, to)]),
                };
                all.extend(growth(size, end));
                all.extend(tail);
                all
            };
            let grows = size < end && (end - 1) / B > size / B;
            if let Some(wait) = self.may(io, file, &mut ticket, fill)? {
                drop(held);
                self.wait_for(io, file, wait).await?;
                continue;
            }
            if grows {
                // The records below make the file grow over this block.
                self.zero_tail(io, file).await?;
            }
            at = match step {
                Step::Skip(to) => to,
                Step::Fill(to) => self.fill_hole(io, file, (at, to), end).await?,
                Step::Unshare(to) => self.unshare(io, file, at, to).await?,
            };
        }
        if file.load().size < end {
            // Under the lock from the end on, as any change of the size. Whoever
            // appends meanwhile may have come further: then nothing is to be done.
            self.resize(io, file, end, true).await?;
        }
        Ok(())
    }

    async fn next_step(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        at: u64,
        last: u64,
    ) -> Result<Step> {
        self.look(io, |vol| {
            let v = file.load();
            let found = extents_in(&v, at, at + 1)?;
            let Some((_, e, current)) = found.first() else {
                let next = some_extents(&v, at, 1)?.first().map_or(last, |(k, _)| *k);
                return Ok(Step::Fill(next.min(last)));
            };
            if e.own && *current {
                // One look-up, however many extents follow.
                let len = match v.lookup(at)? {
                    Piece::Extent { e, .. } => u64::from(e.len),
                    Piece::Hole(len) => len,
                };
                return Ok(Step::Skip((at + len).min(last)));
            }
            let alone = unshared(&vol.core().view(), &v, at)?;
            Ok(if alone > 0 {
                Step::Skip((at + alone).min(last))
            } else {
                Step::Unshare(last.min(at + STEP))
            })
        })
        .await
    }

    /// Unwritten extents in place of whatever is there, as long as space and one
    /// record allow; the file grows with them up to `end`.
    pub(super) async fn fill_hole(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        (at, to): (u64, u64),
        end: u64,
    ) -> Result<u64> {
        let parts = self.new_places(io, file, at, (to - at).min(u64::from(u32::MAX))).await?;
        // No block lies behind the end, whatever record a crash comes after.
        self.take_places(io, file, &parts, (true, end)).await
    }

    /// Makes some of the blocks that are there the file's own, from the first on. The range
    /// is held, and an extent begins it. Says up to where that is done.
    async fn unshare(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        at: u64,
        to: u64,
    ) -> Result<u64> {
        let first = self
            .look(io, |vol| {
                let (_, parts) = decide(&mut vol.core(), file, (at, to), vol.durable(), false)?;
                Ok(parts.first().map(|p| (p.block + p.len, p.how == How::New)))
            })
            .await?;
        match first {
            Some((last, true)) => self.own_extents(io, file, (at, last), file.load().size).await,
            Some((last, false)) => Ok(last),
            None => Ok(to),
        }
    }
}

enum Step {
    /// Nothing to do up to here.
    Skip(u64),
    /// A hole up to here.
    Fill(u64),
    /// Shared blocks up to here at least in part.
    Unshare(u64),
}

/// What a new size asks for: the blocks that go, or the last one, whose bytes behind the
/// old end become a part of the file.
fn size_asks(old: u64, new: u64) -> Asks {
    match new.cmp(&old) {
        Ordering::Less => asks(&[Change::Cut, Change::Shrink], &[(new / B, u64::MAX)]),
        _ => growth(old, new),
    }
}

/// The number of a nameless file for what is taken away, or 0 where it is little
/// enough to be released at once.
pub(super) fn tail_for(
    core: &mut Core,
    v: &Version,
    from: u64,
    to: Option<u64>,
) -> std::result::Result<FileId, Fault> {
    let some = some_extents(v, from, AT_ONCE + 1)?;
    let many = some.len() > AT_ONCE && to.is_none_or(|to| some[AT_ONCE].0 < to);
    Ok(if many { core.shelf.next_file } else { 0 })
}
