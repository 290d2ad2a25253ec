//! Atomic writes: several ranges of one file, all of them visible or none.
//!
//! Every block that any of the ranges touches gets a new block: what a range leaves
//! of it is copied, the rest is the range's. All of these are written before anything
//! points to them, and one record shows them all: a reader, who takes the file's
//! extents from one version of its map, sees all or nothing, and so does a crash.
//! The ranges are taken as one request (law B6), so two of these never wait for
//! each other.
//!
//! The limits are such that the record always fits, however scattered free space is.

use super::Volume;
use super::admit::{Ticket, asks, growth};
use super::core::Class;
use super::file::{FileHandle, FileState, Version};
use super::hold::Held;
use super::ranges;
use super::write::{B, How, Part, Parts, check_range, set_aside};
use crate::arbiter::Change;
use crate::error::{Error, ErrorKind, Result};
use crate::format::BLOCK;
use crate::format::types::{Extent, MapPart, Record};
use crate::lane::{Io, all};
use crate::tree::Fault;
use crate::txn::Txn;
use freehold_engine::memory::Buffer;
use smallvec::smallvec;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes of all ranges of one atomic write at the most.
const MAX_BYTES: u64 = 1 << 20;

/// Ranges of one atomic write at the most.
const MAX_RANGES: usize = 64;

/// Nodes that one more place of a map may need: a path in the file's tree, a path in
/// the tree of counts, splits.
const PLACE_NODES: u64 = 8;

/// What one atomic write may be, in all stores of this build on this medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AtomicLimits {
    /// Bytes of all ranges together. Any write up to this is possible, however
    /// scattered free space is, as long as there is enough of it.
    pub max_bytes: u64,
    /// Ranges.
    pub max_ranges: usize,
    /// A single range of whole blocks up to this is one write of the medium and one record,
    /// where free space has so long a run; a device may take it in several commands. Longer
    /// ones take more writes, others also read the blocks that they cover in part. What a
    /// device writes atomically by itself plays no part: all is new blocks and one record.
    pub fast_bytes: u64,
}

/// Neighbouring file blocks that get new blocks.
struct Span {
    first: u64,
    last: u64,
    /// All of their bytes; those to be kept are not there yet.
    data: Buffer,
    /// Bytes of the file that are kept, none across two blocks.
    kept: Vec<(u64, u64)>,
}

impl Volume {
    /// What an atomic write may be.
    pub fn atomic_limits(&self) -> AtomicLimits {
        let command = u64::from(self.medium.geometry().max_transfer);
        AtomicLimits {
            max_bytes: MAX_BYTES,
            max_ranges: MAX_RANGES,
            fast_bytes: command.min(MAX_BYTES),
        }
    }

    /// Writes several ranges, given by their offsets and bytes in any order, so that
    /// they are visible together or not at all, also after a crash; the file grows as
    /// needed. Ranges without bytes are ignored. Blocks; durable after a sync.
    ///
    /// # Errors
    /// `Invalid` for ranges that overlap or reach past the greatest size; `Limit` for
    /// more than [`Volume::atomic_limits`]; `NoSpace`, `ReadOnly`, `Io`, `Poisoned`. After
    /// an error nothing has changed.
    pub fn write_atomic(
        self: &Arc<Self>,
        file: &FileHandle,
        writes: &[(u64, &[u8])],
    ) -> Result<()> {
        let writes = in_order(writes)?;
        self.health.writable()?;
        let Some(end) = writes.last().map(|(off, bytes)| off + bytes.len() as u64) else {
            return Ok(());
        };
        let spans = self.spans(&writes)?;
        let (vol, state) = (self.clone(), file.state().clone());
        self.run_as(file.session(), move |io| async move {
            vol.atomic_task(&io, &state, spans, end).await
        })
    }

    /// The blocks of writes in order, with their bytes.
    fn spans(&self, writes: &[(u64, &[u8])]) -> Result<Vec<Span>> {
        let blocks = |w: &(u64, &[u8])| (w.0 / B, (w.0 + w.1.len() as u64).div_ceil(B));
        let meet = |a: &(u64, &[u8]), b: &(u64, &[u8])| blocks(b).0 <= blocks(a).1;
        let mut out = Vec::new();
        for group in writes.chunk_by(meet) {
            let (Some(head), Some(tail)) = (group.first(), group.last()) else { continue };
            let (first, last) = (blocks(head).0, blocks(tail).1);
            let mut data = self.medium.pool().take((last - first) as usize * BLOCK)?;
            data.fill(0);
            let (mut at, mut kept) = (first * B, Vec::new());
            for (off, bytes) in group {
                keep(&mut kept, at, *off);
                let skip = (off - first * B) as usize;
                data[skip..skip + bytes.len()].copy_from_slice(bytes);
                at = off + bytes.len() as u64;
            }
            keep(&mut kept, at, last * B);
            out.push(Span { first, last, data, kept });
        }
        Ok(out)
    }

    async fn atomic_task(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        mut spans: Vec<Span>,
        end: u64,
    ) -> Result<()> {
        let _held = self.hold_spans(io, file, &spans, end).await?;
        self.read_kept(io, file, &mut spans).await?;
        let places: Vec<(u64, u64)> = spans.iter().map(|s| (s.first, s.last)).collect();
        let parts = self.take_blocks(io, file, &places).await?;
        let mut done = self.write_spans(io, spans, &parts).await;
        if done.is_ok() {
            done = self.show(io, file, &places, &parts, end).await;
        }
        match done {
            Ok(()) => drop(self.counters.atomic_writes.fetch_add(1, Ordering::Relaxed)),
            Err(_) => parts.iter().for_each(|p| self.give_back(p)),
        }
        done
    }

    /// Takes all blocks, and the file's last one where the file grows past it: what
    /// lies behind the end there is made zeroes first.
    async fn hold_spans(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        spans: &[Span],
        end: u64,
    ) -> Result<Held> {
        let tail = |size: u64| {
            let block = size / B;
            let past = !size.is_multiple_of(B) && (end - 1) / B > block;
            (past && !spans.iter().any(|s| (s.first..s.last).contains(&block))).then_some(block)
        };
        let mut ticket = Ticket::default();
        loop {
            self.health.writable()?;
            let expected = tail(file.load().size);
            let own = expected.map(|block| (block, block + 1));
            let ranges: Vec<_> = spans.iter().map(|s| (s.first, s.last)).chain(own).collect();
            let held = self.hold_all(io, file, &ranges).await;
            let now = tail(file.load().size);
            let behind = self.tail_asks(io, file, end).await?;
            let fill = || {
                let mut all = asks(&[Change::Fill], &ranges[..spans.len()]);
                all.extend(growth(file.load().size, end));
                all.extend(behind);
                all
            };
            let wait = match now {
                Some(_) if now != expected => None,
                _ => self.may(io, file, &mut ticket, fill)?,
            };
            if let Some(wait) = wait {
                drop(held);
                self.wait_for(io, file, wait).await?;
                continue;
            }
            match now {
                None => return Ok(held),
                now if now == expected => {
                    self.zero_tail(io, file).await?;
                    return Ok(held);
                }
                // The end has moved to a block that is not held.
                _ => drop(held),
            }
        }
    }

    /// What the writes leave of the blocks that they touch. They are held.
    async fn read_kept(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        spans: &mut [Span],
    ) -> Result<()> {
        let _seen = io.seen(&self.epoch);
        let old = file.load();
        for span in spans {
            for (from, to) in std::mem::take(&mut span.kept) {
                // Nothing behind the end is anybody's.
                let to = to.min(old.size);
                if from >= to {
                    continue;
                }
                let buf = self.medium.pool().take(BLOCK)?;
                let buf = self.read_blocks(io, &old, from / B, 1, buf).await.map_err(|(e, _)| e)?;
                let (at, skip, n) = (from - span.first * B, from % B, (to - from) as usize);
                let (at, skip) = (at as usize, skip as usize);
                span.data[at..at + n].copy_from_slice(&buf[skip..skip + n]);
            }
        }
        Ok(())
    }

    /// New blocks for all places, or for none.
    async fn take_blocks(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        places: &[(u64, u64)],
    ) -> Result<Vec<Parts>> {
        let blocks: u64 = places.iter().map(|(first, last)| last - first).sum();
        self.change(io, |core| {
            core.admit(Class::Normal, blocks + PLACE_NODES * places.len() as u64)?;
            let mut out: Vec<Parts> = Vec::with_capacity(places.len());
            for (first, last) in places {
                let len = last - first;
                let wanted = smallvec![Part { block: *first, len, phys: 0, how: How::New }];
                match set_aside(core, file, file.load().size, wanted) {
                    Ok(parts) => out.push(parts),
                    Err(fault) => {
                        let taken = out.iter().flatten();
                        taken.for_each(|p| core.space.reclaim(p.phys, p.len));
                        return Err(fault);
                    }
                }
            }
            Ok(out)
        })
        .await
    }

    async fn write_spans(
        self: &Arc<Self>,
        io: &Io,
        spans: Vec<Span>,
        parts: &[Parts],
    ) -> Result<()> {
        let mut writes: Vec<Pin<Box<dyn Future<Output = Result<()>> + Send>>> = Vec::new();
        for (span, parts) in spans.into_iter().zip(parts) {
            let (vol, io, parts) = (self.clone(), io.clone(), parts.clone());
            writes.push(Box::pin(async move {
                let done = vol.write_parts(&io, span.first, &parts, span.data, false).await;
                done.map(drop).map_err(|(e, _)| e)
            }));
        }
        all(writes).await.into_iter().collect()
    }

    /// One record, and so one new version, for all places.
    async fn show(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        places: &[(u64, u64)],
        parts: &[Parts],
        end: u64,
    ) -> Result<()> {
        let part = |((first, last), parts): (&(u64, u64), &Parts)| MapPart {
            start: *first,
            len: last - first,
            extents: parts.iter().map(|p| (p.block, written(p))).collect(),
        };
        let parts: Vec<MapPart> = places.iter().zip(parts).map(part).collect();
        let split = crate::sabotage::breaks("split-atomic");
        let records: Vec<Record> = if split {
            let one = |p: MapPart| Record::Map {
                file: file.id,
                start: p.start,
                len: p.len,
                size: end.min((p.start + p.len) * B),
                extents: p.extents.into(),
            };
            parts.into_iter().map(one).collect()
        } else {
            vec![Record::Atomic { file: file.id, size: end, parts }]
        };
        for record in records {
            self.change(io, |core| {
                core.admit(Class::Normal, PLACE_NODES * places.len() as u64)?;
                core.execute(Class::Normal, &record)?;
                if split {
                    core.journal.seal();
                }
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

fn written(p: &Part) -> Extent {
    Extent { phys: p.phys, len: p.len as u32, unwritten: false, own: true }
}

/// The writes that have bytes, by their offsets.
fn in_order<'a>(writes: &[(u64, &'a [u8])]) -> Result<Vec<(u64, &'a [u8])>> {
    let mut out: Vec<_> = writes.iter().filter(|(_, bytes)| !bytes.is_empty()).copied().collect();
    let sum: u64 = out.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    if sum > MAX_BYTES || out.len() > MAX_RANGES {
        return Err(Error::new(
            ErrorKind::Limit,
            format!(
                "an atomic write has at most {MAX_BYTES} bytes in {MAX_RANGES} ranges, this one \
                 has {sum} in {}; split it, or write to a reflink and rename that",
                out.len()
            ),
        ));
    }
    for (off, bytes) in &out {
        check_range(*off, bytes.len() as u64)?;
    }
    out.sort_by_key(|(off, _)| *off);
    if out.windows(2).any(|w| w[0].0 + w[0].1.len() as u64 > w[1].0) {
        return Err(Error::new(ErrorKind::Invalid, "two ranges of an atomic write overlap"));
    }
    Ok(out)
}

/// Bytes `from..to` are kept, block by block.
fn keep(kept: &mut Vec<(u64, u64)>, mut from: u64, to: u64) {
    while from < to {
        let end = to.min((from / B + 1) * B);
        kept.push((from, end));
        from = end;
    }
}

/// All parts get their extents; what was there is released.
pub(super) fn map_all(
    txn: &mut Txn<'_>,
    mut v: Version,
    size: u64,
    parts: &[MapPart],
) -> std::result::Result<Version, Fault> {
    for p in parts {
        v = ranges::map(txn, v, p.start, p.len, size, &p.extents)?;
    }
    Ok(v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::record::encode_record;
    use crate::journal::RECORD_ROOM;

    /// The limits promise that the record fits, with every block in a place of its own.
    #[test]
    fn the_record_of_the_largest_atomic_write_fits() {
        let far = crate::format::BLOCK_LIMIT - 100_000;
        // Each range may begin and end inside a block.
        let blocks = MAX_BYTES / B / MAX_RANGES as u64 + 2;
        let part = |i: u64| {
            let start = far + i * 1000;
            let one = |k| {
                (
                    start + k,
                    Extent { phys: far - (i * 99 + k) * 7, len: 1, unwritten: false, own: true },
                )
            };
            MapPart { start, len: blocks, extents: (0..blocks).map(one).collect() }
        };
        let parts: Vec<MapPart> = (0..MAX_RANGES as u64).map(part).collect();
        let record = Record::Atomic { file: 1 << 62, size: super::super::write::MAX_SIZE, parts };
        let mut bytes = Vec::new();
        encode_record(&mut bytes, &record).expect("a record");
        assert!(bytes.len() <= RECORD_ROOM, "{} bytes", bytes.len());
    }

    #[test]
    fn writes_are_put_in_order_and_checked() {
        let (a, b) = ([1; 10], [2; 20]);
        assert_eq!(
            in_order(&[(50, &a), (7, &[]), (0, &b)]).expect("sound"),
            [(0, &b[..]), (50, &a)]
        );
        assert_eq!(
            in_order(&[(0, &b), (19, &a)]).expect_err("they overlap").kind(),
            ErrorKind::Invalid
        );
        assert!(in_order(&[(0, &b), (20, &a)]).is_ok());
        let large = vec![0; MAX_BYTES as usize];
        assert!(in_order(&[(3, &large)]).is_ok());
        let more = in_order(&[(3, &large), (MAX_BYTES + 3, &a)]);
        assert_eq!(more.expect_err("too many bytes").kind(), ErrorKind::Limit);
        let many: Vec<(u64, &[u8])> = (0..65).map(|i| (i * 100, &a[..])).collect();
        assert!(in_order(&many[..64]).is_ok() && in_order(&many).is_err());
    }
}
