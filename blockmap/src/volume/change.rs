//! Making a change: try under the lock, fetch what is missing without it, try again.

use super::Volume;
use super::core::Core;
use crate::cache::Hold;
use crate::error::{Error, ErrorKind, Result};
use crate::lane::Io;
use crate::tree::{Fault, Filled, Load};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bitmaps that a slice of eviction looks at.
const BITMAPS: usize = 4;

/// How often a full store is given the chance to find room.
const ROOM_TRIES: u32 = 4;

/// Structures that every change depends on: damage makes the store read-only.
const VITAL: [&str; 4] = ["count tree", "space tree", "space bitmap", "name tree"];

impl Volume {
    /// Runs a step on the one history until it succeeds or is refused for good.
    ///
    /// A fault of the step leaves the history as it was, so it runs again from
    /// the beginning once the missing node is in memory, the journal has room
    /// again, or removals and a checkpoint have freed space.
    pub(super) async fn change<R>(
        self: &Arc<Self>,
        io: &Io,
        step: impl FnMut(&mut Core) -> std::result::Result<R, Fault> + Send,
    ) -> Result<R> {
        self.change_within(io, ROOM_TRIES, step).await
    }

    /// As [`Volume::change`]; a full store is given so many chances to find room.
    pub(super) async fn change_within<R>(
        self: &Arc<Self>,
        io: &Io,
        room_tries: u32,
        mut step: impl FnMut(&mut Core) -> std::result::Result<R, Fault> + Send,
    ) -> Result<R> {
        let mut tries = 0;
        // What was read stays until the step has succeeded: each try gets further.
        let mut held: Vec<Hold> = Vec::new();
        loop {
            self.health.writable()?;
            let seen = io.seen(&self.epoch);
            // The lock ends with this statement: what follows takes it again.
            let (done, dues) = {
                let mut core = self.core();
                (step(&mut core), core.dues(self.blocks))
            };
            let fault = match done {
                Ok(r) => {
                    self.after_change(dues);
                    return Ok(r);
                }
                Err(fault) => fault,
            };
            match fault {
                Fault::JournalFull => {
                    drop(seen);
                    held.clear();
                    self.next_checkpoint(io).await?;
                }
                Fault::NoSpace => {
                    drop(seen);
                    held.clear();
                    tries += 1;
                    if tries > room_tries || !Box::pin(self.make_room(io)).await? {
                        return Err(no_space());
                    }
                }
                other => held.extend(self.mend(io, other).await?),
            }
        }
    }

    /// Looks something up until all nodes on the way are in memory. Never
    /// refused because the store cannot be changed.
    pub(super) async fn look<R>(
        self: &Arc<Self>,
        io: &Io,
        mut step: impl FnMut(&Volume) -> std::result::Result<R, Fault> + Send,
    ) -> Result<R> {
        let mut held: Vec<Hold> = Vec::new();
        loop {
            let _seen = io.seen(&self.epoch);
            match step(self) {
                Ok(r) => return Ok(r),
                Err(fault) => held.extend(self.mend(io, fault).await?),
            }
        }
    }

    /// Reads what was missing, and gives what keeps it in memory; turns every other
    /// fault into its error.
    pub(super) async fn mend(self: &Arc<Self>, io: &Io, fault: Fault) -> Result<Option<Hold>> {
        match fault {
            Fault::Missing(what) => self.load(io, &what).await,
            Fault::Corrupt { what, at, why } => {
                let e = Error::corrupt(what, at, &why);
                if VITAL.contains(&what) {
                    self.health.spoil(&e);
                }
                Err(e)
            }
            Fault::Refused(e) => Err(e),
            Fault::NoSpace => Err(no_space()),
            Fault::JournalFull => {
                Err(Error::new(ErrorKind::Busy, "the journal is full until a checkpoint is done"))
            }
        }
    }

    /// Reads a node or a bitmap and puts it where the next attempt finds it.
    async fn load(self: &Arc<Self>, io: &Io, what: &Arc<dyn Load>) -> Result<Option<Hold>> {
        if what.addr() >= self.blocks {
            let name = format!("{:?}", what.kind());
            return Err(Error::corrupt(&name, what.addr(), "it lies outside the store"));
        }
        let buf = self.medium.pool().take(crate::format::BLOCK)?;
        let buf = io.read(what.addr(), buf).await?;
        self.counters.nodes_read.fetch_add(1, Ordering::Relaxed);
        let hold = match what.clone().fill(&buf, &self.id, &self.cache) {
            Ok(Filled::InPlace(hold)) => hold,
            Ok(Filled::Bitmap(group, words)) => self.core().space.install(group, &words),
            Err(Fault::Missing(_)) => return Ok(None),
            Err(fault) => return Box::pin(self.mend(io, fault)).await,
        };
        self.trim();
        Ok(Some(hold))
    }

    /// Makes room in the cache if it is over its budget: a slice of that work.
    pub(super) fn trim(&self) {
        if self.cache.trim() {
            self.core().space.trim(BITMAPS);
        }
    }

    /// Removals and a checkpoint, so that freed blocks become free. True if
    /// there is anything more to take than before.
    async fn make_room(self: &Arc<Self>, io: &Io) -> Result<bool> {
        let before = {
            let core = self.core();
            let nothing = core.deferred_blocks == 0 && core.dirty.is_empty();
            if nothing && core.shelf.condemned.is_empty() {
                return Ok(false);
            }
            core.headroom()
        };
        match self.reap_now(io).await {
            // Removals need room, too: the checkpoint may give it to them.
            Err(e) if e.kind() != ErrorKind::NoSpace => return Err(e),
            _ => {}
        }
        self.next_checkpoint(io).await?;
        Ok(self.core().headroom() > before)
    }

    /// Asks for a checkpoint and waits until one that began after this call is done.
    pub(super) async fn next_checkpoint(self: &Arc<Self>, io: &Io) -> Result<()> {
        let goal = self.core().generation;
        self.ask_checkpoint();
        io.until(|| {
            self.ask_checkpoint_again(goal);
            self.marked.load(Ordering::Acquire) >= goal || self.health.sound().is_err()
        })
        .await;
        self.health.sound()
    }
}

fn no_space() -> Error {
    Error::new(
        ErrorKind::NoSpace,
        "the store is full: remove or truncate files, or use a larger medium",
    )
}
