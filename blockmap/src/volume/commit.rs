//! Group commit: one flush, one write, for all who wait (laws B4 and B5).
//!
//! A run of the task seals what waits, flushes, and then writes the groups with
//! forced unit access. The flush is submitted after the sealing, so it covers
//! all data that the sealed records make reachable: a record is pushed only when
//! its data has completed. At most one run is under way, so a group is never
//! written before the one in front of it has been.

use super::Volume;
use super::file::FileState;
use super::guards::Table;
use crate::error::Result;
use crate::format::journal::encode_group;
use crate::format::types::GroupHead;
use crate::journal::Sealed;
use crate::lane::Io;
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
        let (groups, pushed) = {
            let mut core = self.core();
            core.journal.seal();
            let groups = core.journal.take_sealed();
            if let Some(last) = groups.last() {
                self.flushing.fetch_max(last.last_seq, Ordering::AcqRel);
            }
            (groups, core.journal.last_seq())
        };
        let Some(last) = groups.last() else {
            // All that had been pushed by then is in a checkpoint or on the medium;
            // what is wanted by now may have been pushed since.
            self.durable.fetch_max(pushed, Ordering::AcqRel);
            return Ok(());
        };
        let (group, seq) = (last.head.number, last.last_seq);
        if !crate::sabotage::breaks("no-journal-flush") {
            self.barrier(io, "a flush before a commit").await?;
        }
        self.write_groups(io, &groups).await?;
        let mut core = self.core();
        core.journal.confirm(group);
        self.durable.fetch_max(seq, Ordering::AcqRel);
        self.settle(&mut core);
        if core.lowerings.len() > 1024 {
            let settled = core.settled;
            core.lowerings.prune(settled);
        }
        Ok(())
    }

    /// One after the other: were two under way, a torn one could be followed by a
    /// whole one that a later run of the journal would take for its own.
    async fn write_groups(self: &Arc<Self>, io: &Io, groups: &[Sealed]) -> Result<()> {
        for g in groups {
            self.write_group(io, g)
                .await
                .inspect_err(|e| self.health.poison("a write to the journal", e))?;
        }
        Ok(())
    }

    async fn write_group(self: &Arc<Self>, io: &Io, g: &Sealed) -> Result<()> {
        // Sealed when the group before was perhaps still under way; written, it
        // confirms all before it (law B9).
        let before = g.head.number - 1;
        let confirmed = if crate::sabotage::breaks("no-confirmation") { 0 } else { before };
        let head = GroupHead { confirmed, ..g.head };
        let bytes = encode_group(head, &g.payload, &self.id)
            .map_err(|e| crate::Error::corrupt("journal group", g.head.pos, &e.to_string()))?;
        self.ring.write(io, g.head.pos, &bytes).await?;
        self.counters.groups.fetch_add(1, Ordering::Relaxed);
        self.counters.records.fetch_add(u64::from(g.head.records), Ordering::Relaxed);
        self.counters.journal_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// A flush of the store's own; its failure poisons the store.
    /// Logged writes need none: their bytes are in the journal (law B7).
    pub(super) async fn barrier(&self, io: &Io, what: &str) -> Result<()> {
        // All that has landed by now is what the flush will cover. Where nothing
        // has since the last one, there is nothing to make durable.
        if *self.flushed.lock().expect("no holder panics") == Some(self.landed()) {
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
            Ok(()) => {
                let mut flushed = self.flushed.lock().expect("no holder panics");
                *flushed = (*flushed).max(Some(landed));
            }
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
