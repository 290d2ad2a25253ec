//! The journal's ring: on the store's own medium, or on one of its own.
//!
//! On a medium that is a window a group is stored by the CPU, and one barrier makes it
//! durable; elsewhere it is written with forced unit access. Either way [`Ring::write`] is
//! over when the bytes are durable, so whoever waits for it has the order between the two
//! media that docs/windows.md asks for.

use super::open::do_now;
use crate::error::{Error, ErrorKind, Result};
use crate::format::journal_header::RING_START;
use crate::format::types::{Addr, ApartJournal, JournalHeader, Superblock};
use crate::format::{BLOCK, zeroes};
use crate::journal::ring_runs;
use crate::lane::{Io, Joined, all};
use freehold_engine::medium::{Medium, Op, Queue, Window};
use smallvec::SmallVec;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// Bytes that memory takes as one.
const LINE: usize = 64;

/// Where the journal's groups go.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    medium: Arc<dyn Medium>,
    start: Addr,
    blocks: u64,
    apart: Option<[u8; 16]>,
    /// In a window: behind so many bytes each block is known to be zeroes, and is not stored
    /// again where a group leaves it so.
    used: Arc<[AtomicU16]>,
}

impl Ring {
    /// The ring that a superblock names on the store's own medium.
    pub(super) fn own(medium: Arc<dyn Medium>, sb: &Superblock) -> Self {
        Ring::new(medium, (sb.journal_start, sb.journal_blocks), None)
    }

    /// A ring behind the headers of a journal's medium.
    pub(super) fn apart(medium: Arc<dyn Medium>, journal: ApartJournal) -> Self {
        Ring::new(medium, (RING_START, journal.blocks), Some(journal.id))
    }

    fn new(medium: Arc<dyn Medium>, (start, blocks): (Addr, u64), apart: Option<[u8; 16]>) -> Self {
        let known = if medium.window().is_some() { blocks } else { 0 };
        let used = (0..known).map(|_| AtomicU16::new(BLOCK as u16)).collect();
        Ring { medium, start, blocks, apart, used }
    }

    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The first block, on the medium that it lies on.
    pub(super) fn start(&self) -> Addr {
        self.start
    }

    /// The journal's medium and id, where it has a medium of its own.
    pub(super) fn elsewhere(&self) -> Option<(&Arc<dyn Medium>, ApartJournal)> {
        let id = self.apart?;
        Some((&self.medium, ApartJournal { id, blocks: self.blocks }))
    }

    fn window(&self) -> Option<&dyn Window> {
        self.medium.window()
    }

    /// A group is stores and a barrier, and no command.
    pub(super) fn is_window(&self) -> bool {
        self.window().is_some()
    }

    /// Law B7: is a small durable write cheapest in the journal, whatever it overwrites? Not on
    /// a store's own window, where the bytes can be stored in their place.
    pub(super) fn logs_all(&self) -> bool {
        self.apart.is_some() && self.is_window()
    }

    /// The queue of the task that writes the journal, over a queue of the store.
    pub(super) fn joined(&self, store: Box<dyn Queue>) -> Result<Box<dyn Queue>> {
        if self.apart.is_none() || self.window().is_some() {
            return Ok(store);
        }
        let depth = (store.depth() as u32).min(self.medium.geometry().max_depth);
        let journal = self.medium.queue(depth)?;
        Ok(Box::new(Joined::new(store, journal)))
    }

    /// The journal's blocks, as they are.
    pub(super) fn read(&self) -> Result<Vec<u8>> {
        let mut queue = self.medium.queue(4)?;
        let mut ring = Vec::with_capacity(self.blocks as usize * BLOCK);
        let most = u64::from(self.medium.geometry().max_transfer) / BLOCK as u64;
        let piece = most.clamp(1, 256);
        let mut at = 0;
        while at < self.blocks {
            let n = piece.min(self.blocks - at);
            let buf = self.medium.pool().take(n as usize * BLOCK)?;
            if let Some(buf) = do_now(&mut *queue, Op::Read { at: self.start + at, buf })? {
                ring.extend_from_slice(&buf[..n as usize * BLOCK]);
            }
            at += n;
        }
        Ok(ring)
    }

    /// What was read may be in a cache only, if the process before was killed: makes it
    /// durable, before anything relies on it. On the store's own medium its first flush does,
    /// where that is no window: a window's flush knows nothing of what another process stored.
    pub(super) fn settle(&self, read: &[u8]) -> Result<()> {
        if self.apart.is_some() {
            let mut queue = self.medium.queue(1)?;
            do_now(&mut *queue, Op::Flush)?;
        }
        let Some(window) = self.window() else { return Ok(()) };
        if !crate::sabotage::breaks("no-settling") {
            let first = if self.apart.is_some() { 0 } else { self.start };
            let bytes = |blocks: u64| blocks * BLOCK as u64;
            window.persist(bytes(first), bytes(self.start + self.blocks - first))?;
        }
        for (used, block) in self.used.iter().zip(read.chunks_exact(BLOCK)) {
            used.store(zeroes::used(block) as u16, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Writes a group, which begins at a position, and zeroes up to its last block's end; it is
    /// durable when this is over.
    pub(super) async fn write(&self, io: &Io, pos: u64, mut bytes: Vec<u8>) -> Result<()> {
        if self.store(pos, &mut bytes)? {
            return Ok(());
        }
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        self.put(io, &self.runs(pos, &bytes), !crate::sabotage::breaks("no-journal-barrier")).await
    }

    /// The same at once, where the ring is in a window. False, with nothing done, elsewhere.
    /// One thread at a time.
    pub(super) fn store(&self, pos: u64, bytes: &mut Vec<u8>) -> Result<bool> {
        let Some(window) = self.window() else { return Ok(false) };
        bytes.resize(self.needed(pos, bytes.len()), 0);
        // The stores' outcome, and in it the barrier's.
        let put = |bytes: &[u8]| -> Result<Result<()>> {
            let runs = self.runs(pos, bytes);
            store(window, &runs)?;
            Ok(persist(window, &runs, !crate::sabotage::breaks("no-journal-barrier")))
        };
        let barrier = match put(bytes) {
            Ok(barrier) => barrier,
            Err(_) => {
                // Damaged memory is mended by writing all of a block. A barrier is not tried again.
                bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
                put(bytes)?
            }
        };
        barrier.map(|()| true)
    }

    /// So many bytes have to be stored for a group of so many to end in zeroes.
    fn needed(&self, pos: u64, len: usize) -> usize {
        let mut needed = len;
        for (i, at) in (0..len).step_by(BLOCK).enumerate() {
            let mine = (len - at).min(BLOCK);
            let known = &self.used[((pos + i as u64) % self.blocks) as usize];
            let theirs = known.swap(mine as u16, Ordering::Relaxed);
            needed = at + mine.max(theirs.into());
        }
        if crate::sabotage::breaks("keep-ring-ends") {
            needed = len;
        }
        needed.next_multiple_of(LINE)
    }

    /// Which bytes of a group go where.
    fn runs<'b>(&self, pos: u64, bytes: &'b [u8]) -> SmallVec<[(Addr, &'b [u8]); 2]> {
        let blocks = bytes.len().div_ceil(BLOCK) as u64;
        let part = |(at, skip, n): (u64, u64, u64)| {
            let (from, to) = (skip as usize * BLOCK, (skip + n) as usize * BLOCK);
            (at, &bytes[from..to.min(bytes.len())])
        };
        ring_runs(self.start, self.blocks, pos, blocks).into_iter().map(part).collect()
    }

    /// Tells a journal of its own of the checkpoint that is to be in force next.
    pub(super) async fn tell(&self, io: &Io, store_id: [u8; 16], epoch: u64) -> Result<()> {
        let Some((_, journal)) = self.elsewhere() else { return Ok(()) };
        let header =
            JournalHeader { store_id, journal_id: journal.id, ring_blocks: journal.blocks, epoch };
        let slot = super::Volume::slot(epoch);
        let mut block = vec![0; BLOCK];
        crate::format::journal_header::encode(&header, slot, &mut block)
            .map_err(|e| Error::corrupt("journal header", slot, &e.to_string()))?;
        let durable = !crate::sabotage::breaks("no-journal-header-barrier");
        self.put(io, &[(slot, &block)], durable).await
    }

    async fn put(&self, io: &Io, parts: &[(Addr, &[u8])], durable: bool) -> Result<()> {
        if let Some(window) = self.window() {
            store(window, parts)?;
            return persist(window, parts, durable);
        }
        let most = (self.medium.geometry().max_transfer as usize / BLOCK * BLOCK).max(BLOCK);
        let base = if self.apart.is_some() { Joined::BASE } else { 0 };
        let mut writes: Vec<Pin<Box<dyn Future<Output = Result<()>> + Send>>> = Vec::new();
        for (block, bytes) in parts {
            for (i, part) in bytes.chunks(most).enumerate() {
                let at = base + block + (i * most / BLOCK) as u64;
                let mut buf = self.medium.pool().take(part.len())?;
                buf.copy_from_slice(part);
                let io = io.clone();
                writes.push(Box::pin(async move { io.write(at, buf, durable).await.map(drop) }));
            }
        }
        all(writes).await.into_iter().collect()
    }
}

fn store(window: &dyn Window, parts: &[(Addr, &[u8])]) -> Result<()> {
    for (block, bytes) in parts {
        window.store_nodrain(*block * BLOCK as u64, bytes)?;
    }
    Ok(())
}

/// Makes durable what this thread has stored there; the window asks for one thread.
fn persist(window: &dyn Window, parts: &[(Addr, &[u8])], durable: bool) -> Result<()> {
    if !durable {
        return Ok(());
    }
    let range = |(block, bytes): &(Addr, &[u8])| (*block * BLOCK as u64, bytes.len() as u64);
    let ranges: SmallVec<[(u64, u64); 2]> = parts.iter().map(range).collect();
    Ok(window.drain(&ranges)?)
}

/// Blocks of the ring of a journal's medium that has so many: those that are asked for, or
/// what is there up to a default.
pub(super) fn ring_blocks(there: u64, asked: Option<u64>) -> Result<u64> {
    use super::format::{JOURNAL_LIMIT, MAX_JOURNAL, MIN_JOURNAL};
    let room = there.saturating_sub(RING_START);
    let blocks = asked.unwrap_or(room.min(MAX_JOURNAL));
    if blocks < MIN_JOURNAL || blocks > room.min(JOURNAL_LIMIT) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "a journal on a medium of its own has {MIN_JOURNAL} blocks at least and \
                 {JOURNAL_LIMIT} at most, behind two for its headers; the medium has {there}"
            ),
        ));
    }
    Ok(blocks)
}
