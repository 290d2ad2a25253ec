//! Reflinks: a whole file in constant time, a range of another file at the cost of
//! its edges, a range within one file at that of its extents.

use super::Volume;
use super::admit::{Ticket, asks, growth};
use super::core::Class;
use super::file::{FileHandle, FileState, Map, Version};
use super::hold::Held;
use super::names::{check_name, exists};
use super::range_ops::tail_for;
use super::stats::some_extents;
use super::write::{B, check_range};
use crate::arbiter::Change;
use crate::error::{Error, ErrorKind, Result};
use crate::format::types::Record;
use crate::lane::Io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Extents that one record of a range reflink shares one by one.
const AT_ONCE: usize = 128;

impl Volume {
    /// A new file that shares all of another one. One record, whatever the
    /// file's size; later writes to either copy. Blocks until plain writes in
    /// flight on the source have landed; durable after a sync.
    ///
    /// # Errors
    /// `NotFound` for the source, `Exists` for the target's name.
    pub fn reflink(self: &Arc<Self>, from: &[u8], to: &[u8]) -> Result<FileHandle> {
        let source = self.open_file(from)?;
        self.reflink_file(&source, to)
    }

    /// As [`Volume::reflink`], from an open file (also one whose name is gone).
    ///
    /// # Errors
    /// `Exists`.
    pub fn reflink_file(self: &Arc<Self>, source: &FileHandle, to: &[u8]) -> Result<FileHandle> {
        check_name(to)?;
        self.health.writable()?;
        let (vol, state, to) = (self.clone(), source.state().clone(), to.to_vec());
        let source = source.clone();
        self.run_as(source.session(), move |io| async move {
            let _source = source;
            let all = |_: &Version| asks(&[Change::ReflinkFrom], &[(0, u64::MAX)]);
            let _held = vol.hold_asking(&io, &state, &[(0, u64::MAX)], all).await?;
            let made = vol
                .change(&io, |core| {
                    if core.named(&to)?.is_some() {
                        return Err(exists(&to));
                    }
                    let id = core.shelf.next_file;
                    let share_gen = core.share_gen + 1;
                    let record =
                        Record::Reflink { from: state.id, to: id, name: to.clone(), share_gen };
                    core.execute(Class::Normal, &record)?;
                    Ok(FileHandle::new(&vol, &core.shelf.need(id)?))
                })
                .await?;
            vol.counters.reflinks.fetch_add(1, Ordering::Relaxed);
            Ok(made)
        })
    }

    /// Shares a range of one file with another (or another place of the same).
    ///
    /// Offsets are multiples of 4096, and so is the length, unless the range ends
    /// at the source's end and at or behind the target's. Blocks. A crash in the
    /// middle of a range of many extents within one file leaves a part done; between
    /// two files it costs the range's edges, however many extents it has.
    ///
    /// # Errors
    /// `Invalid` for offsets that are not aligned, ranges past the source's end, or
    /// ranges of one file that overlap; `NoSpace`.
    pub fn reflink_range(
        self: &Arc<Self>,
        from: &FileHandle,
        from_off: u64,
        to: &FileHandle,
        to_off: u64,
        len: u64,
    ) -> Result<()> {
        check_range(from_off, len)?;
        check_range(to_off, len)?;
        if !from_off.is_multiple_of(B) || !to_off.is_multiple_of(B) {
            return Err(invalid("the offsets of a range reflink are multiples of 4096"));
        }
        let same = Arc::ptr_eq(from.state(), to.state());
        if same && from_off < to_off + len && to_off < from_off + len && len > 0 {
            return Err(invalid("the two ranges overlap in one file"));
        }
        if !Arc::ptr_eq(from.volume(), to.volume()) {
            return Err(invalid("the two files are in different stores"));
        }
        self.health.writable()?;
        let vol = self.clone();
        let (a, b) = (from.clone(), to.clone());
        self.run_as(a.session(), move |io| async move {
            vol.range_task(&io, a.state(), from_off, b.state(), to_off, len).await
        })
    }

    async fn range_task(
        self: &Arc<Self>,
        io: &Io,
        from: &Arc<FileState>,
        from_off: u64,
        to: &Arc<FileState>,
        to_off: u64,
        len: u64,
    ) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        // Before anything is done: what is refused changes nothing.
        fits(from.load().size, to.load().size, from_off, to_off, len)?;
        let size = to.load().size;
        let gap = !size.is_multiple_of(B) && to_off > size;
        let end = (to_off + len).div_ceil(B);
        let first = if gap { size / B } else { to_off / B };
        let a = (from, from_off / B, (from_off + len).div_ceil(B));
        let b = (to, first, end.max(to_off / B + 1));
        let _held = self.hold_to_share(io, a, b, to_off + len).await?;
        let (source, target) = (from.load().size, to.load().size);
        fits(source, target, from_off, to_off, len)?;
        if !target.is_multiple_of(B) && to_off > target {
            if !gap || target != size {
                return Err(Error::new(ErrorKind::Busy, "the target's end moved; try again"));
            }
            self.zero_tail(io, to).await?;
        }
        let span = (from_off / B, to_off / B, len.div_ceil(B));
        self.share_span(io, from, to, span, to_off + len).await?;
        self.counters.reflinks.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes both ranges when nothing is in the way of sharing them.
    async fn hold_to_share(
        self: &Arc<Self>,
        io: &Io,
        a: (&Arc<FileState>, u64, u64),
        b: (&Arc<FileState>, u64, u64),
        end: u64,
    ) -> Result<(Held, Option<Held>)> {
        let (mut from, mut onto) = (Ticket::default(), Ticket::default());
        loop {
            let held = self.hold_both(io, a, b).await;
            let tail = self.tail_asks(io, b.0, end).await?;
            let source = || asks(&[Change::ReflinkFrom], &[(a.1, a.2)]);
            let target = || {
                let mut all = asks(&[Change::ReflinkOnto], &[(b.1, b.2)]);
                all.extend(growth(b.0.load().size, end));
                all.extend(tail);
                all
            };
            let (file, wait) = match self.may(io, a.0, &mut from, source)? {
                Some(wait) => (a.0, wait),
                None => match self.may(io, b.0, &mut onto, target)? {
                    Some(wait) => (b.0, wait),
                    None => return Ok(held),
                },
            };
            drop(held);
            self.wait_for(io, file, wait).await?;
        }
    }

    /// Takes two ranges so that two of these never wait for each other: in one
    /// order, or, of one file, as a single range. (Requests are granted in their
    /// order: one for both ranges, made between the two, would never be.)
    async fn hold_both(
        self: &Arc<Self>,
        io: &Io,
        a: (&Arc<FileState>, u64, u64),
        b: (&Arc<FileState>, u64, u64),
    ) -> (Held, Option<Held>) {
        if a.0.id == b.0.id {
            return (self.hold(io, a.0, a.1.min(b.1), a.2.max(b.2)).await, None);
        }
        let (x, y) = if a.0.id < b.0.id { (a, b) } else { (b, a) };
        let first = self.hold(io, x.0, x.1, x.2).await;
        let second = self.hold(io, y.0, y.1, y.2).await;
        (first, Some(second))
    }

    /// Shares file blocks, as many as one record takes, until all are done.
    async fn share_span(
        self: &Arc<Self>,
        io: &Io,
        from: &Arc<FileState>,
        to: &Arc<FileState>,
        (from_start, to_start, blocks): (u64, u64, u64),
        end: u64,
    ) -> Result<()> {
        let mut done = 0;
        let mut tails = false;
        while done < blocks {
            let (a, b) = (from_start + done, to_start + done);
            done += self
                .change(io, |core| {
                    let left = blocks - done;
                    let source = from.load();
                    let some = some_extents(&source, a, AT_ONCE + 1)?;
                    let many = some.get(AT_ONCE).filter(|(k, _)| *k < a + left);
                    let trees = matches!(source.map, Map::Tree(_)) && from.id != to.id;
                    let whole = many.is_some() && trees;
                    let len = match many {
                        Some((k, _)) if !whole => k - a,
                        _ => left,
                    };
                    let target = to.load();
                    let tail = if whole {
                        core.shelf.next_file
                    } else {
                        tail_for(core, &target, b, Some(b + len))?
                    };
                    tails |= tail != 0;
                    let record = Record::ReflinkRange {
                        from: from.id,
                        from_start: a,
                        to: to.id,
                        to_start: b,
                        len,
                        // Nothing may lie behind the end that a growth would show.
                        size: end.min((b + len) * B),
                        share_gen: core.share_gen + 1,
                        tail,
                    };
                    core.execute(Class::Normal, &record)?;
                    Ok(len)
                })
                .await?;
        }
        if tails {
            self.ask_reap();
        }
        Ok(())
    }
}

/// May a range of this length be shared, as long as the files are now?
fn fits(source: u64, target: u64, from_off: u64, to_off: u64, len: u64) -> Result<()> {
    if from_off + len > source {
        return Err(invalid("the range reaches past the end of the source"));
    }
    let at_end = from_off + len == source && to_off + len >= target;
    if !len.is_multiple_of(B) && !at_end {
        return Err(invalid(
            "the length of a range reflink is a multiple of 4096, unless the range ends both files",
        ));
    }
    Ok(())
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::Invalid, why)
}
