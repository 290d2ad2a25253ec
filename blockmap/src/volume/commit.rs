//! Group commit: one flush, one write, for all who wait (laws B4 and B5).
//!
//! A run of the task seals what waits, flushes, and then writes the groups with
//! forced unit access. The flush is submitted after the sealing, so it covers
//! all data that the sealed records make reachable: a record is pushed only when
//! its data has completed. At most one run is under way, so a group is never
//! written before the one in front of it has been.

use super::Volume;
use super::core::Core;
use super::file::FileState;
use super::guards::Table;
use crate::error::Result;
use crate::format::BLOCK;
use crate::format::journal::encode_front;
use crate::format::types::GroupHead;
use crate::journal::{Groups, Sealed};
use crate::lane::Io;
use crate::reuse::keep;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Volume {
    /// Commits until nobody wants more.
    pub(super) async fn commit_task(self: Arc<Self>, io: Io) {
        loop {
            let done = self.commit_once(&io).await;
            self.announce();
            if done.is_err() || self.wanted.load(Ordering::Acquire) <= self.durable() {
                break;
            }
        }
        self.duty.committing.store(false, Ordering::Release);
        // A wish that came after the last look is found by the next `maintain`.
        self.announce();
    }

    async fn commit_once(self: &Arc<Self>, io: &Io) -> Result<()> {
        let groups = {
            let mut core = self.core();
            core.journal.seal();
            self.take_groups(&mut core)
        };
        if groups.is_empty() {
            return Ok(());
        }
        if !crate::sabotage::breaks("no-journal-flush") {
            self.barrier(io, "a flush before a commit").await?;
        }
        // One after the other: were two under way, a torn one could be followed by a
        // whole one that a later run of the journal would take for its own.
        for g in &groups {
            let mut bytes = Vec::new();
            self.encode(g, &mut bytes)?;
            let written = self.ring.write(io, g.head.pos, bytes).await;
            written.inspect_err(|e| self.health.poison("a write to the journal", e))?;
            self.count_group(g);
        }
        self.confirm(groups, Vec::new());
        Ok(())
    }

    /// A commit by the thread that drives the maintenance lane, without a task: where the
    /// journal is in a window, so that a group is stores and a barrier, and where no data waits
    /// for a flush. False, with nothing done, elsewhere. The caller has the duty.
    pub(super) fn commit_at_once(&self) -> bool {
        if !self.ring.is_window() {
            return false;
        }
        let (groups, mut bytes) = {
            let mut core = self.core();
            core.journal.seal();
            // Before the look at what has landed: whoever makes bytes durable that landed after
            // it, and finds a record to wait for, sees that this commit flushes nothing for him.
            let late = crate::sabotage::breaks("flushing-told-late");
            if !late {
                self.flushing.fetch_max(core.journal.last_seq(), Ordering::AcqRel);
            }
            // When the records are closed: the data that they lead to has landed.
            if !self.is_flushed() && !crate::sabotage::breaks("no-journal-flush") {
                return false;
            }
            if late {
                std::thread::sleep(std::time::Duration::from_millis(300));
            }
            let groups = self.take_groups(&mut core);
            if groups.is_empty() {
                return true;
            }
            (groups, std::mem::take(&mut core.room.group))
        };
        for g in &groups {
            let encoded = self.encode(g, &mut bytes);
            let stored = encoded.and_then(|()| self.ring.store(g.head.pos, &mut bytes));
            if let Err(e) = stored {
                self.health.poison("a write to the journal", &e);
                return true;
            }
            self.count_group(g);
        }
        self.confirm(groups, bytes);
        true
    }

    /// The groups that are to be written next; all that was sealed. None where all is durable.
    fn take_groups(&self, core: &mut Core) -> Groups {
        let groups = core.journal.take_sealed();
        match groups.last() {
            Some(last) => self.flushing.fetch_max(last.last_seq, Ordering::AcqRel),
            // All that had been pushed by now is in a checkpoint or on the medium;
            // what is wanted may have been pushed since.
            None => self.durable.fetch_max(core.journal.last_seq(), Ordering::AcqRel),
        };
        groups
    }

    /// A group's bytes, without the zeroes at the end of its last block.
    fn encode(&self, g: &Sealed, bytes: &mut Vec<u8>) -> Result<()> {
        // Sealed when the group before was perhaps still under way; written, it
        // confirms all before it (law B9).
        let before = g.head.number - 1;
        let confirmed = if crate::sabotage::breaks("no-confirmation") { 0 } else { before };
        let head = GroupHead { confirmed, ..g.head };
        encode_front(head, &g.payload, &self.id, bytes)
            .map_err(|e| crate::Error::corrupt("journal group", g.head.pos, &e.to_string()))
    }

    fn count_group(&self, g: &Sealed) {
        let bytes = u64::from(g.head.blocks) * BLOCK as u64;
        self.counters.groups.fetch_add(1, Ordering::Relaxed);
        self.counters.records.fetch_add(u64::from(g.head.records), Ordering::Relaxed);
        self.counters.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// These groups are durable, with all that came before them. The room that they took is
    /// there for the next.
    fn confirm(&self, groups: Groups, encoded: Vec<u8>) {
        let Some(last) = groups.last() else { return };
        let mut core = self.core();
        core.journal.confirm(last.head.number);
        self.durable.fetch_max(last.last_seq, Ordering::AcqRel);
        self.settle(&mut core);
        if core.lowerings.len() > 1024 {
            let settled = core.settled;
            core.lowerings.prune(settled);
        }
        keep(&mut core.room.group, encoded);
        for group in groups {
            core.journal.recycle(group.payload);
        }
    }

    /// Was all that has landed by now flushed? All of it that a flush would cover.
    fn is_flushed(&self) -> bool {
        self.flushed.load(Ordering::Acquire) == self.landed() + 1
    }

    /// A flush of the store's own; its failure poisons the store.
    /// Logged writes need none: their bytes are in the journal (law B7).
    pub(super) async fn barrier(&self, io: &Io, what: &str) -> Result<()> {
        // All that has landed by now is what the flush will cover. Where nothing
        // has since the last one, there is nothing to make durable.
        if self.is_flushed() {
            return self.health.sound();
        }
        self.flush_all(io, what).await
    }

    /// As [`Volume::barrier`], whatever has landed. A checkpoint's: it ends the life
    /// of the journal that holds the logged writes, so they must be durable at home.
    pub(super) async fn flush_all(&self, io: &Io, what: &str) -> Result<()> {
        self.health.sound()?;
        let landed = self.landed();
        match io.flush().await {
            Ok(()) => drop(self.flushed.fetch_max(landed + 1, Ordering::AcqRel)),
            Err(e) => self.health.poison(what, &e),
        }
        // What another queue's flush lost is lost for all.
        self.health.sound()
    }

    /// Makes the file durable: its bytes, its map, its size, its name.
    pub(super) async fn sync_file(self: &Arc<Self>, io: &Io, file: &FileState) -> Result<()> {
        self.windows_back(file)?;
        let target = file.last_seq.load(Ordering::Acquire);
        self.sync_to(io, target).await
    }

    /// Law R2: what was written through windows of the file's leases, by pins that have
    /// ended, is made durable.
    pub(super) fn windows_back(&self, file: &FileState) -> Result<()> {
        loop {
            let of = |t: &Table| {
                let leases = t.leases();
                let all = leases.len() == t.in_force();
                (leases, all)
            };
            let Some((leases, all)) = file.guards.look(of) else { return Ok(()) };
            for lease in leases {
                if let Err(e) = lease.write_back() {
                    self.health.poison("a lease's bytes in the window", &e);
                    return Err(e);
                }
            }
            if all {
                return Ok(());
            }
            // The last handle of one is just going, and writes back before it is out of
            // the table; that waits for nothing.
            std::thread::yield_now();
        }
    }

    /// Makes durable all data that has completed, and the history up to `target`.
    pub(super) async fn sync_to(self: &Arc<Self>, io: &Io, target: u64) -> Result<()> {
        if self.health.is_read_only() {
            return Ok(());
        }
        self.health.sound()?;
        if target <= self.durable() {
            return self.barrier(io, "a flush").await;
        }
        // A commit that seals from now on flushes after this moment, and so
        // covers our data; one that sealed our record before may have flushed already.
        let early = target <= self.flushing.load(Ordering::Acquire);
        self.want(target);
        if early {
            self.barrier(io, "a flush").await?;
        }
        self.committed(io, target).await
    }

    /// Waits until the history up to `target` is durable.
    pub(super) async fn committed(self: &Arc<Self>, io: &Io, target: u64) -> Result<()> {
        io.until(|| {
            let done = self.durable() >= target;
            if !done {
                self.want(target);
            }
            done || self.health.sound().is_err()
        })
        .await;
        self.health.sound()
    }
}
