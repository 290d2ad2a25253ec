//! Bringing late blocks home (law B7): many at a time, neighbours as one write.
//!
//! A duty of the maintenance lane. It begins when enough are late, and when somebody asks
//! who needs them at home: a checkpoint, which ends the journal that holds them; a
//! move, which copies on the medium; a writer, when too many are late. A write home
//! that fails poisons the store: its bytes were promised. They stay in the journal, and
//! readers go on finding them here.

use super::Volume;
use super::late::Bytes;
use super::write::Writing;
use crate::error::Result;
use crate::format::BLOCK;
use crate::format::types::Addr;
use crate::lane::{Io, all};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// So many late blocks are worth bringing home.
const MANY: usize = 128;

/// So many are the most; who writes more waits.
const MOST: usize = 512;

/// Blocks of one write home, and writes at a time.
const RUN: usize = 32;
const WRITES: usize = 4;

impl Volume {
    pub(super) async fn home_task(self: Arc<Self>, io: Io) {
        loop {
            self.duty.home.store(false, Ordering::Release);
            if let Err(e) = self.bring_home(&io).await {
                self.health.poison("a write of logged bytes to their place", &e);
                break;
            }
            self.announce();
            if !self.duty.home.load(Ordering::Acquire) {
                break;
            }
        }
        self.duty.homing.store(false, Ordering::Release);
        self.announce();
    }

    /// All that is late now, in the order of its places.
    async fn bring_home(self: &Arc<Self>, io: &Io) -> Result<()> {
        let most = (self.medium.geometry().max_transfer as usize / BLOCK).min(RUN);
        let mut from = 0;
        loop {
            let mut writes: Vec<Writing<()>> = Vec::with_capacity(WRITES);
            while writes.len() < WRITES
                && let Some((at, run)) = self.late.leave(from, most)
            {
                from = at + run.len() as u64;
                writes.push(self.write_run(io, at, &run)?);
            }
            if writes.is_empty() {
                return Ok(());
            }
            all(writes).await.into_iter().collect::<Result<Vec<()>>>()?;
        }
    }

    fn write_run(self: &Arc<Self>, io: &Io, at: Addr, run: &[Bytes]) -> Result<Writing<()>> {
        let mut buf = self.medium.pool().take(run.len() * BLOCK)?;
        for (to, bytes) in buf.chunks_exact_mut(BLOCK).zip(run) {
            let (front, rest) = to.split_at_mut(bytes.len());
            front.copy_from_slice(bytes);
            rest.fill(0);
        }
        let (vol, io, len) = (self.clone(), io.clone(), run.len() as u64);
        Ok(Box::pin(async move {
            io.write_for_checkpoint(at, buf).await?;
            vol.late.landed(at, len);
            Ok(())
        }))
    }

    fn ask_home(&self) {
        self.duty.home.store(true, Ordering::Release);
        self.duty.any.store(true, Ordering::Release);
    }

    /// After a logged write: are there enough of them?
    pub(super) fn after_log(&self) {
        if self.late.len() >= MANY && !self.duty.homing.load(Ordering::Acquire) {
            self.ask_home();
        }
    }

    /// Is there room for one more late write?
    pub(super) fn has_late_room(&self) -> bool {
        self.late.len() < MOST
    }

    /// Waits for that room.
    pub(super) async fn late_room(self: &Arc<Self>, io: &Io) -> Result<()> {
        self.until_home(io, |vol| vol.has_late_room()).await
    }

    /// Waits until none of these blocks is late. The caller keeps others from
    /// writing there.
    pub(super) async fn blocks_home(self: &Arc<Self>, io: &Io, at: Addr, len: u64) -> Result<()> {
        self.until_home(io, |vol| vol.late.among(at, len).is_empty()).await
    }

    /// Waits until all is home that only a journal before this checkpoint's cut holds.
    pub(super) async fn cut_home(self: &Arc<Self>, io: &Io, generation: u64) -> Result<()> {
        if crate::sabotage::breaks("checkpoint-before-home") {
            return Ok(());
        }
        self.until_home(io, |vol| vol.late.none_until(generation)).await
    }

    async fn until_home(
        self: &Arc<Self>,
        io: &Io,
        done: impl Fn(&Volume) -> bool + Send + Sync,
    ) -> Result<()> {
        io.until(|| {
            let over = done(self);
            if !over && !self.duty.homing.load(Ordering::Acquire) {
                self.ask_home();
            }
            over || self.health.sound().is_err()
        })
        .await;
        self.health.sound()
    }
}
