//! Logged writes (law B7): small durable writes whose bytes travel in the journal.
//!
//! A durable write that needs a record would need a flush of its data before the
//! record is written (law B4). A small one puts its blocks into the record's own
//! group instead, and nowhere else: a durable append is one write to the journal and no
//! flush. The bytes stay in memory ([`super::late`]) until they are brought home
//! ([`super::home`]); until a checkpoint, a crash finds them in the journal and brings
//! them home again.
//!
//! What that asks for: as long as a crash would replay bytes into a block, nothing
//! newer may stand there that the journal does not hold as well. [`Logged`] knows
//! these blocks. A plain write to one goes to a new block, as if it were shared; a
//! newer logged write takes its place. [`LoggedRange`] tells the same to the fast way
//! of plain writes, by file blocks, without the lock.
//!
//! Why this is safe: docs/decisions/0011-logged-writes-go-home-late.md.

use super::Volume;
use super::core::{Class, Core};
use super::file::{FileHandle, FileState};
use super::hold::Held;
use super::plan::{copies, decide};
use super::read::CHUNK;
use super::write::{B, How, Part, Writing, check_range, records, set_aside};
use crate::error::{Error, Result};
use crate::format::types::{Addr, Record, Seq};
use crate::format::{BLOCK, FIRST_BLOCK, zeroes};
use crate::lane::{Finished, Io, all};
use crate::tree::Fault;
use freehold_engine::memory::Buffer;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The longest write that is logged.
pub(super) const LOGGED_MOST: usize = 16 << 10;

/// Blocks that recovery writes home at a time.
const SLICE: usize = 64;

/// Blocks whose bytes a journal holds that a crash would replay, and the
/// generation of the checkpoint that ends that.
#[derive(Debug, Default)]
pub(crate) struct Logged(BTreeMap<Addr, u64>);

impl Logged {
    pub(crate) fn add(&mut self, block: Addr, generation: u64) {
        self.0.insert(block, generation);
    }

    /// Is this block one of them, and how many from it on are the same?
    pub(crate) fn run(&self, start: Addr, len: u64) -> (bool, u64) {
        let mut next = start;
        for (block, _) in self.0.range(start..start + len) {
            if *block != next {
                break;
            }
            next += 1;
        }
        if next > start {
            return (true, next - start);
        }
        let first = self.0.range(start..start + len).next();
        (false, first.map_or(len, |(block, _)| block - start))
    }

    /// The checkpoint is durable and marked: no journal before it is replayed.
    pub(crate) fn supersede(&mut self, generation: u64) {
        self.0.retain(|_, g| *g > generation);
    }
}

/// Where one file has logged bytes: a range of file blocks that covers them, for
/// each of the two checkpoints that can be to come.
#[derive(Debug, Default)]
pub(crate) struct LoggedRange {
    /// The newest generation that has any; 0 for none.
    newest: AtomicU64,
    ranges: Mutex<[(u64, u64, u64); 2]>,
}

impl LoggedRange {
    /// Logged bytes in `start..end`, which the caller holds (law B6).
    pub(crate) fn add(&self, start: u64, end: u64, generation: u64) {
        let mut ranges = self.ranges.lock().expect("no holder panics");
        match ranges.iter_mut().find(|r| r.0 == generation) {
            Some(r) => *r = (generation, r.1.min(start), r.2.max(end)),
            None => {
                // One checkpoint at most is under way: what is older is superseded.
                let older = usize::from(ranges[1].0 < ranges[0].0);
                ranges[older] = (generation, start, end);
            }
        }
        self.newest.fetch_max(generation, Ordering::Release);
    }

    /// The file's blocks were moved: what is logged may now stand anywhere.
    pub(crate) fn spread(&self) {
        let mut ranges = self.ranges.lock().expect("no holder panics");
        ranges.iter_mut().filter(|r| r.0 > 0).for_each(|r| (r.1, r.2) = (0, u64::MAX));
    }

    /// May any of these blocks have logged bytes that a crash would replay?
    pub(crate) fn overlaps(&self, start: u64, end: u64, marked: u64) -> bool {
        if self.newest.load(Ordering::Acquire) <= marked {
            return false;
        }
        let ranges = self.ranges.lock().expect("no holder panics");
        ranges.iter().any(|(generation, a, b)| *generation > marked && *a < end && start < *b)
    }
}

/// The records that carry the blocks of these parts; `data` begins at file block `first`.
fn data_records(file: u64, parts: &[Part], first: u64, data: &[u8]) -> Vec<Record> {
    if crate::sabotage::breaks("log-no-data") {
        return Vec::new();
    }
    let blocks = parts.iter().flat_map(|p| p.block..p.block + p.len);
    blocks
        .map(|block| {
            let bytes = &data[(block - first) as usize * BLOCK..][..BLOCK];
            Record::Data { file, block, bytes: bytes[..zeroes::used(bytes)].to_vec() }
        })
        .collect()
}

/// A write whose bytes go into the journal: whole blocks `first..last`; the file
/// grows up to `end`.
pub(super) struct Logging<'a> {
    pub(super) file: &'a Arc<FileState>,
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) end: u64,
    pub(super) data: &'a [u8],
    /// Also where the bytes could go straight to their blocks and no record is needed: a
    /// journal in a window takes them for stores and a barrier.
    pub(super) always: bool,
}

impl Core {
    /// Decides where each block goes, maps it there and puts all bytes into the journal:
    /// one change. Its last record, and how many blocks were copied. None, with nothing
    /// done, where the bytes can go straight to their blocks and no record is needed, unless
    /// they are to be logged always.
    pub(super) fn log(
        &mut self,
        write: &Logging<'_>,
        durable: Seq,
    ) -> std::result::Result<Option<(Seq, u64)>, Fault> {
        let file = write.file;
        let (old, mut parts) = decide(self, file, (write.first, write.last), durable, true)?;
        if !write.always && write.end <= old.size && parts.iter().all(|p| p.how == How::Place) {
            return Ok(None);
        }
        // A group is written anyway: what could go in place goes with it.
        parts.iter_mut().filter(|p| p.how == How::Place).for_each(|p| p.how = How::Again);
        let new: u64 = parts.iter().filter(|p| p.how == How::New).map(|p| p.len).sum();
        if new > 0 {
            self.admit(Class::Normal, new)?;
        }
        let copies = copies(&parts);
        let parts = set_aside(self, file, old.size, parts)?;
        let mut records = records(file.id, &parts, write.end, old.size);
        records.extend(data_records(file.id, &parts, write.first, write.data));
        match self.execute_all(Class::Normal, &records) {
            Ok(seq) => Ok(Some((seq, copies))),
            Err(fault) => {
                let new = parts.iter().filter(|p| p.how == How::New);
                new.for_each(|p| self.space.reclaim(p.phys, p.len));
                Err(fault)
            }
        }
    }
}

impl Volume {
    /// Writes the first `len` bytes of the buffer; they are durable when it is done.
    pub(super) async fn durable_task(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        buf: Buffer,
        len: usize,
    ) -> (Result<usize>, Option<Buffer>) {
        if len > LOGGED_MOST {
            let (done, buf) = self.write_task(io, file, off, buf, len).await;
            let target = file.last_seq.load(Ordering::Acquire);
            return (self.and_then(done, self.sync_to(io, target)).await, buf);
        }
        if len == 0 {
            let target = file.last_seq.load(Ordering::Acquire);
            return (self.and_then(Ok(0), self.committed(io, target)).await, Some(buf));
        }
        let (done, buf) = self.write_logged(io, file, off, buf, len).await;
        // What did not travel in the journal went through to the medium: there is
        // nothing to flush.
        let target = file.last_seq.load(Ordering::Acquire);
        (self.and_then(done, self.committed(io, target)).await, buf)
    }

    async fn and_then(
        &self,
        done: Result<usize>,
        durable: impl Future<Output = Result<()>>,
    ) -> Result<usize> {
        let n = done?;
        durable.await.map(|()| n)
    }

    /// Into the journal, or where no record is needed straight to its place.
    async fn write_logged(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        buf: Buffer,
        len: usize,
    ) -> (Result<usize>, Option<Buffer>) {
        let held = match self.hold_for_log(io, file, off, len as u64).await {
            Ok(held) => held,
            Err(e) => return (Err(e), Some(buf)),
        };
        let end = off + len as u64;
        // Law B7: under a lease no write is deferred.
        let late = file.guards.are_none() || crate::sabotage::breaks("log-under-lease");
        let logged = match late.then(|| self.log_blocks(io, file, off, &buf[..len])) {
            Some(log) => log.await,
            None => Ok(false),
        };
        let logged = match logged {
            Ok(logged) => logged,
            Err(e) => return (Err(e), Some(buf)),
        };
        if logged {
            return (Ok(len), Some(buf));
        }
        let done = self.write_up_to(io, file, off, (buf, len), (end, true)).await;
        drop(held);
        match done {
            Ok(buf) => (Ok(len), Some(buf)),
            Err((e, buf)) => (Err(e), buf),
        }
    }

    async fn hold_for_log(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        len: u64,
    ) -> Result<Held> {
        self.late_room(io).await?;
        self.hold_for_write(io, file, off, len).await
    }

    /// The range is held. False, with nothing done, if no record is needed.
    async fn log_blocks(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        bytes: &[u8],
    ) -> Result<bool> {
        let end = off + bytes.len() as u64;
        let (first, last) = (off / B, end.div_ceil(B));
        let cut = !off.is_multiple_of(B) || !end.is_multiple_of(B);
        let around = match cut {
            true => Some(self.edges(io, file, &file.load(), (off, bytes)).await?),
            false => None,
        };
        let data = around.as_deref().unwrap_or(bytes);
        let always = self.ring.logs_all();
        let logging = Logging { file, first, last, end, data, always };
        let logged = self.change(io, |core| core.log(&logging, self.durable())).await?;
        let Some((_, copies)) = logged else { return Ok(false) };
        self.counters.copied.fetch_add(copies, Ordering::Relaxed);
        self.after_log();
        Ok(true)
    }

    /// Writes any bytes at any offset; they are durable when this returns. Blocks.
    ///
    /// # Errors
    /// As [`Volume::write_at`].
    pub fn write_durable_at(
        self: &Arc<Self>,
        file: &FileHandle,
        from: &[u8],
        off: u64,
    ) -> Result<()> {
        self.not_in_action()?;
        check_range(off, from.len() as u64)?;
        self.health.writable()?;
        let mut done = 0;
        while done < from.len() {
            let at = off + done as u64;
            let n = (from.len() - done).min(CHUNK - (at % B) as usize);
            let bytes = &from[done..done + n];
            done += n;
            if let Some(seq) = self.store_now(file.state(), at, bytes)? {
                self.await_durable(seq)?;
                continue;
            }
            let small = n <= LOGGED_MOST && self.ring.logs_all();
            // What appends is no overwrite.
            if (small || at >= file.size())
                && let Some(seq) = self.log_now(file.state(), at, bytes)?
            {
                self.await_durable(seq)?;
                continue;
            }
            let mut buf = self.medium.pool().take(n)?;
            buf[..n].copy_from_slice(bytes);
            let buf = match small {
                true => buf,
                false => match self.overwrite_now(file.state(), at, buf, n)? {
                    Some(buf) => buf,
                    None => continue,
                },
            };
            if !small && let Some(seq) = self.log_now(file.state(), at, bytes)? {
                self.await_durable(seq)?;
            } else {
                let state = file.state().clone();
                let vol = self.clone();
                self.run_as(file.session(), move |io| async move {
                    vol.durable_task(&io, &state, at, buf, n).await.0
                })?;
            }
        }
        Ok(())
    }

    /// An overwrite in place as one write with forced unit access, and nothing
    /// else. Gives the buffer back when it is not that simple.
    fn overwrite_now(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        at: u64,
        buf: Buffer,
        n: usize,
    ) -> Result<Option<Buffer>> {
        if n != buf.len() {
            return Ok(Some(buf));
        }
        let lane = self.blocking_lane()?;
        let begun = {
            let mut inner = lane.lock();
            let begun = self.plain_write(&lane, &mut inner, (file, at), buf, (0, true));
            inner.dev.ring();
            begun
        };
        let done: Option<Finished> = match begun {
            Ok(()) => Some(self.drive(&lane, |inner| inner.done.pop())),
            Err(buf) => {
                self.idle.lock().expect("no holder panics").push(lane);
                return Ok(Some(buf));
            }
        };
        self.idle.lock().expect("no holder panics").push(lane);
        done.map_or(Ok(None), |done| done.result.map(|_| None))
    }

    /// After replay: the bytes that the journal holds go home. They are logged
    /// still: the next crash finds the same journal.
    pub(super) async fn write_homes(self: &Arc<Self>, io: &Io) -> Result<()> {
        let homes = std::mem::take(&mut self.core().homes);
        for slice in homes.iter().collect::<Vec<_>>().chunks(SLICE) {
            let mut writes: Vec<Writing<()>> = Vec::new();
            for (block, bytes) in slice {
                let mut buf = self.medium.pool().take(BLOCK)?;
                buf.fill(0);
                buf[..bytes.len()].copy_from_slice(bytes);
                let (io, at) = (io.clone(), **block);
                writes.push(Box::pin(
                    async move { io.write_for_checkpoint(at, buf).await.map(drop) },
                ));
            }
            all(writes).await.into_iter().collect::<Result<Vec<()>>>()?;
        }
        Ok(())
    }

    /// After replay of a store that must not be written: readers find the logged
    /// bytes in memory, and nobody brings them home.
    pub(super) fn keep_homes(&self) {
        let mut core = self.core();
        for (at, bytes) in std::mem::take(&mut core.homes) {
            self.late.put(at, bytes, core.generation);
        }
    }

    /// Law B8 writes nowhere but where a file's data can be.
    pub(super) fn check_homes(&self) -> Result<()> {
        let journal = self.room.0..self.room.0 + self.room.1;
        let bad = |at: &&Addr| **at < FIRST_BLOCK || **at >= self.blocks || journal.contains(*at);
        match self.core().homes.keys().find(bad) {
            Some(at) => {
                Err(Error::corrupt("journal", *at, "logged bytes for a block that is not data"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b7_blocks_are_logged_until_their_checkpoint() {
        let mut l = Logged::default();
        l.add(10, 3);
        l.add(11, 4);
        l.add(14, 3);
        assert_eq!(l.run(10, 9), (true, 2));
        assert_eq!(l.run(12, 9), (false, 2));
        assert_eq!(l.run(15, 9), (false, 9));
        l.supersede(3);
        assert_eq!((l.run(10, 9), l.run(14, 1)), ((false, 1), (false, 1)));
        l.add(11, 5);
        l.supersede(4);
        assert_eq!(l.run(11, 1), (true, 1), "a newer write is logged for longer");
    }

    #[test]
    fn b7_a_file_forgets_by_checkpoints() {
        let r = LoggedRange::default();
        assert!(!r.overlaps(0, 100, 1));
        r.add(5, 6, 2);
        r.add(9, 10, 2);
        r.add(50, 51, 3);
        assert!(r.overlaps(7, 8, 1) && r.overlaps(50, 60, 1) && !r.overlaps(20, 30, 1));
        assert!(!r.overlaps(7, 8, 2) && r.overlaps(50, 60, 2));
        r.add(70, 71, 4);
        assert!(r.overlaps(50, 51, 2) && r.overlaps(70, 71, 3) && !r.overlaps(50, 51, 3));
        assert!(!r.overlaps(0, 100, 4));
        r.spread();
        assert!(!r.overlaps(0, 100, 4), "there was nothing to move");
        assert!(r.overlaps(0, 20, 3), "what was logged at 70 may stand anywhere");
    }
}
