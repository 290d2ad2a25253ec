//! Writing: any range, in place or to new blocks.
//!
//! 1. Take the range (law B6): nobody else copies or remaps it, and plain writes
//!    to it have landed.
//! 2. Plan, under the lock: which blocks are this file's alone and written (in
//!    place), which are set aside and unwritten (in place, then converted), and
//!    which need new blocks (holes, shared blocks, and a tail that a truncate cut
//!    off whose record is not durable, law B5).
//! 3. Read what an edge block keeps; write the data.
//! 4. Publish: the records that make it reachable are pushed only now, when all
//!    data has completed (law B4).
//!
//! A crash, or an error, before step 4 leaves the old map; the new blocks were
//! never reachable.

use super::Volume;
use super::admit::Ticket;
use super::core::{Class, Core};
use super::file::{FileHandle, FileState, Version};
use super::hold::Held;
use super::plan::{copies, decide, remember_own};
use super::ranges::extents_in;
use super::read::CHUNK;
use crate::error::{Error, ErrorKind, Result};
use crate::format::BLOCK;
use crate::format::types::{Extent, Record};
use crate::lane::{Io, all};
use crate::tree::Fault;
use freehold_engine::memory::Buffer;
use smallvec::{SmallVec, smallvec};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(super) const B: u64 = BLOCK as u64;

/// The longest that a file can be: what a signed offset holds.
pub(super) const MAX_SIZE: u64 = i64::MAX as u64;

/// A range that a file can have?
pub(super) fn check_range(off: u64, len: u64) -> Result<()> {
    match off.checked_add(len) {
        Some(end) if end <= MAX_SIZE => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Invalid,
            format!("a file has at most {MAX_SIZE} bytes; {len} bytes at {off} reach past that"),
        )),
    }
}

/// Extents that one record names at the most, so that it fits into the room
/// that the journal keeps for a record.
const RECORD_EXTENTS: usize = 512;

/// Why a block is written where it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// In place; the map says so already.
    Place,
    /// In place; the map must call it written.
    Convert,
    /// To a new block.
    New,
    /// Into the journal, which holds the block's bytes already, and home later (law B7).
    Again,
}

/// A write of one run.
pub(super) type Writing<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// A run of file blocks and where its data goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) block: u64,
    pub(super) len: u64,
    pub(super) phys: u64,
    pub(super) how: How,
}

/// The runs of a write: mostly one or two.
pub(super) type Parts = SmallVec<[Part; 2]>;

/// The records of a write; mostly one.
pub(super) type Records = SmallVec<[Record; 1]>;

/// What a write will do.
pub(super) struct Plan {
    pub(super) parts: Parts,
    /// What was there: for the edges.
    old: Arc<Version>,
    /// New blocks that take the place of written ones.
    copies: u64,
}

impl Volume {
    /// Writes the first `len` bytes of the buffer.
    pub(super) async fn write_task(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        buf: Buffer,
        len: usize,
    ) -> (Result<usize>, Option<Buffer>) {
        if len == 0 {
            return (Ok(0), Some(buf));
        }
        let held = match self.hold_for_write(io, file, off, len as u64).await {
            Ok(held) => held,
            Err(e) => return (Err(e), Some(buf)),
        };
        let end = off + len as u64;
        let done = self.write_up_to(io, file, off, (buf, len), (end, false)).await;
        drop(held);
        match done {
            Ok(buf) => (Ok(len), Some(buf)),
            Err((e, buf)) => (Err(e), buf),
        }
    }

    /// Takes the range of a write; a gap between the old end and the write is
    /// made to read as zeroes first.
    pub(super) async fn hold_for_write(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        len: u64,
    ) -> Result<Held> {
        check_range(off, len)?;
        let mut ticket = Ticket::default();
        loop {
            self.health.writable()?;
            let size = file.load().size;
            // What lies behind the end in the last block will be inside the file.
            let gap = !size.is_multiple_of(B) && off / B > size / B;
            let first = if gap { size / B } else { off / B };
            let held = self.hold(io, file, first, (off + len).div_ceil(B)).await;
            let now = file.load().size;
            let zero = gap && now == size;
            if !zero && !now.is_multiple_of(B) && off / B > now / B {
                continue;
            }
            if let Some(wait) = self.may_write(io, file, &mut ticket, off, off + len).await? {
                drop(held);
                self.wait_for(io, file, wait).await?;
                continue;
            }
            if zero {
                self.zero_tail(io, file).await?;
            }
            return Ok(held);
        }
    }

    /// Zeroes behind the end in the last block, so that the file may grow without
    /// showing what lay there (laws B5 and B12). It does not grow yet: what is to
    /// grow it may still be refused. The last block is held.
    pub(super) async fn zero_tail(self: &Arc<Self>, io: &Io, file: &Arc<FileState>) -> Result<()> {
        let last = |v: Arc<Version>| Ok((extents_in(&v, v.size / B, v.size / B + 1)?, v));
        let (found, v) = self.look(io, |_| last(file.load())).await?;
        let block = v.size / B;
        if v.size.is_multiple_of(B) || found.iter().all(|(_, e, _)| e.unwritten) {
            return Ok(());
        }
        let mut buf = self.medium.pool().take(BLOCK)?;
        buf.fill(0);
        let len = ((block + 1) * B - v.size) as usize;
        let done = self.write_up_to(io, file, v.size, (buf, len), (v.size, false)).await;
        done.map(drop).map_err(|(e, _)| e)
    }

    /// Plans, writes and publishes; the range is held.
    pub(super) async fn write_held(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        buf: Buffer,
        len: usize,
    ) -> std::result::Result<Buffer, (Error, Option<Buffer>)> {
        self.write_up_to(io, file, off, (buf, len), (off + len as u64, false)).await
    }

    /// As [`Volume::write_held`]; the file grows up to `end` at the most. With forced
    /// unit access, if that is asked for: then the data needs no flush.
    pub(super) async fn write_up_to(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        (buf, len): (Buffer, usize),
        (end, fua): (u64, bool),
    ) -> std::result::Result<Buffer, (Error, Option<Buffer>)> {
        let (first, last) = (off / B, (off + len as u64).div_ceil(B));
        let plan = match self.plan(io, file, first, last).await {
            Ok(plan) => plan,
            Err(e) => return Err((e, Some(buf))),
        };
        let whole = off.is_multiple_of(B) && len == buf.len();
        let (data, back) = if whole {
            (Ok(buf), None)
        } else {
            (self.edges(io, file, &plan.old, (off, &buf[..len])).await, Some(buf))
        };
        let data = match data {
            Ok(data) => data,
            Err(e) => {
                self.give_back(&plan.parts);
                return Err((e, back));
            }
        };
        let early = crate::sabotage::breaks("publish-before-data");
        let units = records(file.id, &plan.parts, end, plan.old.size);
        let units: Vec<_> = units.into_iter().map(|r| vec![r]).collect();
        if early && let Err(e) = self.publish(io, &plan, units.clone()).await {
            return Err((e, back));
        }
        let data = match self.write_parts(io, first, &plan.parts, data, fua).await {
            Ok(data) => data,
            Err((e, data)) => {
                self.give_back(&plan.parts);
                return Err((e, back.or(data)));
            }
        };
        if !early && let Err(e) = self.publish(io, &plan, units).await {
            return Err((e, back.or(Some(data))));
        }
        self.counters.copied.fetch_add(plan.copies, Ordering::Relaxed);
        Ok(back.unwrap_or(data))
    }

    /// Decides for each block where it is written, and sets new blocks aside.
    async fn plan(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        first: u64,
        last: u64,
    ) -> Result<Plan> {
        let vol = self.clone();
        self.change(io, move |core| {
            let (old, wanted) = decide(core, file, (first, last), vol.durable(), false)?;
            let new: u64 = wanted.iter().filter(|p| p.how == How::New).map(|p| p.len).sum();
            if new > 0 {
                core.admit(Class::Normal, new)?;
            }
            remember_own(core, file, &wanted);
            let copies = copies(&wanted);
            let parts = set_aside(core, file, old.size, wanted)?;
            Ok(Plan { parts, old, copies })
        })
        .await
    }

    /// The whole blocks of an unaligned write: what is kept around it, and it.
    pub(super) async fn edges(
        self: &Arc<Self>,
        io: &Io,
        file: &FileState,
        old: &Version,
        (off, data): (u64, &[u8]),
    ) -> Result<Buffer> {
        let end = off + data.len() as u64;
        let (first, last) = (off / B, end.div_ceil(B));
        let mut out = self.medium.pool().take(((last - first) * B) as usize)?;
        out.fill(0);
        let mut edges = vec![first];
        if last - 1 != first && !end.is_multiple_of(B) {
            edges.push(last - 1);
        }
        // The range is held, so that the map of today has the same blocks there; but
        // the nodes of an older one may have been evicted, and their blocks reused.
        let _seen = io.seen(&self.epoch);
        let now = file.load();
        for block in edges {
            let full = block * B >= off && (block + 1) * B <= end;
            if full || block * B >= old.size {
                continue;
            }
            let buf = self.medium.pool().take(BLOCK)?;
            let buf = self.read_blocks(io, &now, block, 1, buf).await.map_err(|(e, _)| e)?;
            // Nothing behind the old end is anybody's.
            let known = if crate::sabotage::breaks("keep-cut-tail") { u64::MAX } else { old.size };
            let valid = (known - block * B).min(B) as usize;
            let at = ((block - first) * B) as usize;
            out[at..at + valid].copy_from_slice(&buf[..valid]);
        }
        let skip = (off - first * B) as usize;
        out[skip..skip + data.len()].copy_from_slice(data);
        Ok(out)
    }

    /// Writes whole blocks, each run to its place.
    pub(super) async fn write_parts(
        self: &Arc<Self>,
        io: &Io,
        first: u64,
        parts: &[Part],
        mut data: Buffer,
        fua: bool,
    ) -> std::result::Result<Buffer, (Error, Option<Buffer>)> {
        let most = u64::from(self.medium.geometry().max_transfer) / B;
        if let [p] = parts
            && p.len <= most
        {
            return io.write(p.phys, data, fua).await.map_err(|e| (e, None));
        }
        let mut runs = Vec::new();
        for p in parts {
            let mut done = 0;
            while done < p.len {
                let n = (p.len - done).min(most);
                runs.push((p.block + done, p.phys + done));
                done += n;
            }
        }
        let mut writes: Vec<Writing<Buffer>> = Vec::new();
        for (block, phys) in runs.into_iter().rev() {
            let part = data.split_off(((block - first) * B) as usize);
            let io = io.clone();
            writes.push(Box::pin(async move { io.write(phys, part, fua).await }));
        }
        writes.reverse();
        super::read::rejoin(all(writes).await, None)
    }

    /// Writes any bytes at any offset. Blocks.
    ///
    /// # Errors
    /// `NoSpace`, `Invalid` past the greatest size, `ReadOnly`, `Io`, `Poisoned`. On
    /// `Io`, the range holds old or new bytes; nothing else changed.
    pub fn write_at(self: &Arc<Self>, file: &FileHandle, from: &[u8], off: u64) -> Result<()> {
        check_range(off, from.len() as u64)?;
        self.health.writable()?;
        let mut done = 0;
        while done < from.len() {
            let at = off + done as u64;
            // Chunks end at block boundaries, so that no block is written twice.
            let n = (from.len() - done).min(CHUNK - (at % B) as usize);
            let mut buf = self.medium.pool().take(n)?;
            buf[..n].copy_from_slice(&from[done..done + n]);
            let (vol, state) = (self.clone(), file.state().clone());
            self.run_as(file.session(), move |io| async move {
                let (result, _) = vol.write_task(&io, &state, at, buf, n).await;
                result
            })?;
            done += n;
        }
        Ok(())
    }
}

/// Takes blocks for all new parts, in as few runs as the space allows. The file has so many
/// bytes.
pub(super) fn set_aside(
    core: &mut Core,
    file: &FileState,
    size: u64,
    mut wanted: Parts,
) -> std::result::Result<Parts, Fault> {
    let mut out = Parts::new();
    let mut taken: SmallVec<[(u64, u64); 2]> = SmallVec::new();
    let mut goal = file.goal.load(Ordering::Relaxed);
    merge_new(&mut wanted);
    for p in wanted {
        if p.how != How::New {
            out.push(p);
            continue;
        }
        let mut done = 0;
        while done < p.len {
            match core.space.alloc(goal, p.len - done, size / B) {
                Ok((phys, len)) => {
                    taken.push((phys, len));
                    out.push(Part { block: p.block + done, len, phys, how: How::New });
                    done += len;
                    goal = phys + len;
                }
                Err(fault) => {
                    taken.iter().for_each(|(s, n)| core.space.reclaim(*s, *n));
                    return Err(fault);
                }
            }
        }
    }
    if !taken.is_empty() {
        file.goal.store(goal, Ordering::Relaxed);
    }
    Ok(out)
}

/// Neighbouring new parts are one.
fn merge_new(parts: &mut Parts) {
    parts.dedup_by(|p, before| {
        let both = before.how == How::New && p.how == How::New;
        if both {
            before.len += p.len;
        }
        both
    });
}

/// The records of a write whose data has landed. Each carries the size as far as
/// it reaches: if it is the last that takes effect, nothing lies behind the end
/// that a later growth would show (law B5).
pub(super) fn records(file: u64, parts: &[Part], end: u64, old_size: u64) -> Records {
    let mut out = Records::new();
    for p in parts {
        let e = Extent { phys: p.phys, len: p.len as u32, unwritten: false, own: true };
        match (p.how, out.last_mut()) {
            (How::Place | How::Again, _) => {}
            (How::New, Some(Record::Map { start, len, extents, .. }))
                if *start + *len == p.block && extents.len() < RECORD_EXTENTS =>
            {
                extents.push((p.block, e));
                *len += p.len;
            }
            (How::New, _) => out.push(Record::Map {
                file,
                start: p.block,
                len: p.len,
                size: 0,
                extents: smallvec![(p.block, e)],
            }),
            (How::Convert, Some(Record::Convert { start, len, .. }))
                if *start + *len == p.block =>
            {
                *len += p.len;
            }
            (How::Convert, _) => {
                out.push(Record::Convert { file, start: p.block, len: p.len, size: 0 });
            }
        }
    }
    if end > old_size {
        for r in &mut out {
            if let Record::Map { start, len, size, .. } | Record::Convert { start, len, size, .. } =
                r
            {
                *size = Some((*start + *len) * B)
                    .filter(|reach| *reach > old_size)
                    .unwrap_or(0)
                    .min(end);
            }
        }
        match out.last_mut() {
            Some(Record::Map { size, .. } | Record::Convert { size, .. }) => *size = end,
            _ => out.push(Record::Grow { file, size: end }),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Law B5: if only the first of several records takes effect, the file ends
    /// where that one does.
    #[test]
    fn b5_each_record_of_a_write_carries_its_size() {
        let part = |block, how| Part { block, len: 2, phys: 100 + block, how };
        let parts = [part(0, How::Convert), part(2, How::New), part(4, How::Convert)];
        let sizes = |old| -> Vec<u64> {
            records(1, &parts, 5 * B + 10, old)
                .iter()
                .map(|r| match r {
                    Record::Map { size, .. }
                    | Record::Convert { size, .. }
                    | Record::Grow { size, .. } => *size,
                    _ => u64::MAX,
                })
                .collect()
        };
        assert_eq!(sizes(0), [2 * B, 4 * B, 5 * B + 10]);
        assert_eq!(sizes(3 * B), [0, 4 * B, 5 * B + 10]);
        assert_eq!(sizes(6 * B), [0, 0, 0]);
    }
}
