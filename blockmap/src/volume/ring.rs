//! The journal's ring: on the store's own medium, or on one of its own.
//!
//! On a medium that is a window a group is stored by the CPU, and one barrier makes it
//! durable; elsewhere it is written with forced unit access. Either way [`Ring::write`] is
//! over when the bytes are durable, so whoever waits for it has the order between the two
//! media that docs/windows.md asks for.

use super::open::do_now;
use crate::error::{Error, ErrorKind, Result};
use crate::format::BLOCK;
use crate::format::journal_header::RING_START;
use crate::format::types::{Addr, ApartJournal, JournalHeader, Superblock};
use crate::journal::ring_runs;
use crate::lane::{Io, Joined, all};
use freehold_engine::medium::{Medium, Op, Queue, Window};
use std::pin::Pin;
use std::sync::Arc;

/// Where the journal's groups go.
#[derive(Debug, Clone)]
pub(super) struct Ring {
    medium: Arc<dyn Medium>,
    start: Addr,
    blocks: u64,
    apart: Option<[u8; 16]>,
}

impl Ring {
    /// The ring that a superblock names on the store's own medium.
    pub(super) fn own(medium: Arc<dyn Medium>, sb: &Superblock) -> Self {
        Ring { medium, start: sb.journal_start, blocks: sb.journal_blocks, apart: None }
    }

    /// A ring behind the headers of a journal's medium.
    pub(super) fn apart(medium: Arc<dyn Medium>, journal: ApartJournal) -> Self {
        Ring { medium, start: RING_START, blocks: journal.blocks, apart: Some(journal.id) }
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
        self.apart.and_then(|_| self.medium.window())
    }

    /// Law B7: is a small durable write cheapest in the journal, whatever it overwrites?
    pub(super) fn logs_all(&self) -> bool {
        self.window().is_some()
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
    /// durable, before anything relies on it. On the store's own medium its first flush does.
    pub(super) fn settle(&self) -> Result<()> {
        if self.apart.is_none() {
            return Ok(());
        }
        let mut queue = self.medium.queue(1)?;
        do_now(&mut *queue, Op::Flush)?;
        if let Some(window) = self.window() {
            window.persist(0, (self.start + self.blocks) * BLOCK as u64)?;
        }
        Ok(())
    }

    /// Writes a whole group, which begins at a position; it is durable when this is over.
    pub(super) async fn write(&self, io: &Io, pos: u64, bytes: &[u8]) -> Result<()> {
        let runs = ring_runs(self.start, self.blocks, pos, (bytes.len() / BLOCK) as u64);
        let parts = runs.into_iter().map(|(at, skip, n)| {
            let from = skip as usize * BLOCK;
            (at, &bytes[from..from + n as usize * BLOCK])
        });
        self.put(io, &parts.collect::<Vec<_>>(), !crate::sabotage::breaks("no-journal-barrier"))
            .await
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
            // Stores and barrier by one thread, without a pause: the window asks for that.
            let at = |block: Addr| block * BLOCK as u64;
            for (block, bytes) in parts {
                window.store(at(*block), bytes)?;
            }
            for (block, bytes) in parts.iter().filter(|_| durable) {
                window.persist(at(*block), bytes.len() as u64)?;
            }
            return Ok(());
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
