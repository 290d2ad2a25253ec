//! Numbers: what the store did, how its space is used, what a file takes.

use super::Volume;
use super::copy::Copied;
use super::file::{FileState, Map};
use crate::error::Result;
use crate::format::types::{Addr, Extent};
use crate::format::{BLOCK, VERSION};
use crate::lane::Traffic;
use crate::tree::{Cursor, Fault, Link, path_nodes};
use crate::txn::Txn;
use freehold_engine::memory::Pool;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of the store's own work.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) groups: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) journal_bytes: AtomicU64,
    pub(super) checkpoints: AtomicU64,
    pub(super) nodes: AtomicU64,
    pub(super) nodes_read: AtomicU64,
    pub(super) copied: AtomicU64,
    pub(super) moved: Copied,
    pub(super) reflinks: AtomicU64,
    pub(super) atomic_writes: AtomicU64,
    pub(super) stored_writes: AtomicU64,
    pub(super) stored_bytes: AtomicU64,
    /// Sums of lanes that have ended.
    pub(super) past: Traffic,
}

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a store has done since it was opened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Stats {
            /// Each number with its name.
            pub fn fields(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

stats! {
    /// Plain reads that users submitted.
    reads,
    /// Plain writes that users submitted.
    writes,
    /// Read commands that the device was given.
    device_reads,
    /// Write commands that the device was given.
    device_writes,
    /// Flush commands that the device was given.
    device_flushes,
    /// Bytes that the device was asked to read.
    device_bytes_read,
    /// Bytes that the device was asked to write.
    device_bytes_written,
    /// Durable writes that were stored into the window of the store's medium, by no command.
    stored_writes,
    /// Bytes of them.
    stored_bytes,
    /// Journal groups written.
    journal_groups,
    /// Records in them.
    journal_records,
    /// Bytes of them.
    journal_bytes,
    /// Checkpoints completed.
    checkpoints,
    /// Nodes and bitmaps written by checkpoints.
    nodes_written,
    /// Nodes and bitmaps read: what was looked for and not in memory.
    nodes_read,
    /// Nodes and bitmaps evicted from memory.
    cache_evictions,
    /// Bytes of memory that nodes and bitmaps take.
    cache_used,
    /// How much of that is on no medium yet.
    cache_dirty,
    /// What it may be at most, but for what operations in flight hold.
    cache_budget,
    /// Blocks copied because they were shared.
    cow_blocks,
    /// Bytes that the device copied from place to place by itself.
    copied_by_device,
    /// Bytes that were copied through the device's own memory.
    copied_through_cmb,
    /// Bytes that were copied from place to place through memory of this process.
    copied_through_host,
    /// Reflinks, whole and of ranges.
    reflinks,
    /// Atomic writes.
    atomic_writes,
    /// Bytes of memory that a lost device may still reach, and that are not used again in
    /// this process (law M4).
    withheld_bytes,
}

/// How the space of a store is used, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Space {
    /// The whole store.
    pub total: u64,
    /// What can be taken now, the reserve included.
    pub free: u64,
    /// Kept for removals and checkpoints.
    pub reserved: u64,
    /// Freed, and waiting for a checkpoint.
    pub condemned: u64,
    /// The journal's room in the store; it is kept where the journal is on another medium, too.
    pub journal: u64,
    /// The journal on another medium; not a part of the store.
    pub journal_apart: u64,
    /// How much of it the next opening would read back; a checkpoint gives it up.
    pub journal_used: u64,
    /// Free but for pins of leases that were taken at their deadline.
    pub quarantined: u64,
    /// Memory, not blocks: what a device that was lost may still write to, and nobody
    /// uses again (law M4).
    pub withheld: u64,
}

/// A file's numbers, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FileStat {
    /// Its length.
    pub size: u64,
    /// What its map takes, shared or not.
    pub allocated: u64,
    /// How much of that others have too.
    pub shared: u64,
    /// Extents in its map.
    pub extents: u64,
}

/// What a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeInfo {
    /// Drawn at random when it was formatted.
    pub store_id: [u8; 16],
    /// Of the format.
    pub version: u32,
    /// Of 4 KiB.
    pub blocks: u64,
    /// Bytes.
    pub journal_bytes: u64,
    /// The last durable one.
    pub checkpoint: u64,
    /// Opened for reading only.
    pub read_only: bool,
    /// The journal, where it has a medium of its own.
    pub journal: Option<JournalInfo>,
}

/// A journal on a medium of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalInfo {
    /// The name of its medium.
    pub uri: String,
    /// Drawn at random when it was formatted.
    pub id: [u8; 16],
    /// A commit is stores and a barrier, and no command.
    pub window: bool,
}

impl Volume {
    /// What the store has done since it was opened.
    pub fn stats(&self) -> Stats {
        let c = &self.counters;
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        let mut s = Stats {
            journal_groups: get(&c.groups),
            journal_records: get(&c.records),
            journal_bytes: get(&c.journal_bytes),
            checkpoints: get(&c.checkpoints),
            nodes_written: get(&c.nodes),
            nodes_read: get(&c.nodes_read),
            cache_evictions: self.cache.evictions(),
            cache_used: self.cache.used(),
            cache_dirty: self.cache.dirty(),
            cache_budget: self.cache.budget(),
            cow_blocks: get(&c.copied),
            copied_by_device: get(&c.moved.by_device),
            copied_through_cmb: get(&c.moved.through_cmb),
            copied_through_host: get(&c.moved.through_host),
            reflinks: get(&c.reflinks),
            atomic_writes: get(&c.atomic_writes),
            stored_writes: get(&c.stored_writes),
            stored_bytes: get(&c.stored_bytes),
            withheld_bytes: self.withheld(),
            ..Stats::default()
        };
        let lanes = self.live_lanes();
        s.add(&c.past);
        s.add(&self.maint.traffic);
        lanes.iter().for_each(|l| s.add(&l.traffic));
        s
    }

    /// Bytes of memory that a lost device may still reach (law M4).
    pub(crate) fn withheld(&self) -> u64 {
        let (ours, journal) = (self.medium.pool(), self.ring.elsewhere().map(|(m, _)| m.pool()));
        // Two namespaces of one controller have one.
        let other = journal.filter(|pool| !std::ptr::eq(*pool, ours));
        (ours.withheld() + other.map_or(0, Pool::withheld)) as u64
    }

    /// How the space is used.
    pub fn space(&self) -> Space {
        let core = self.core();
        let bytes = |blocks: u64| blocks * BLOCK as u64;
        Space {
            total: bytes(self.blocks),
            free: bytes(core.space.free_blocks()),
            reserved: bytes(core.reserve),
            condemned: bytes(core.deferred_blocks),
            journal: bytes(self.room.1),
            journal_apart: bytes(self.ring.elsewhere().map_or(0, |(_, j)| j.blocks)),
            journal_used: bytes(core.journal.used()),
            quarantined: bytes(core.lowerings.quarantine.blocks()),
            withheld: self.withheld(),
        }
    }

    /// What the store is.
    pub fn info(&self) -> VolumeInfo {
        VolumeInfo {
            store_id: self.id,
            version: VERSION,
            blocks: self.blocks,
            journal_bytes: self.ring.blocks() * BLOCK as u64,
            checkpoint: self.marked.load(Ordering::Acquire),
            read_only: self.health.writable().is_err(),
            journal: self.ring.elsewhere().map(|(medium, journal)| JournalInfo {
                uri: medium.uri().to_owned(),
                id: journal.id,
                window: self.ring.logs_all(),
            }),
        }
    }

    /// Counts what a file takes; with `sharing`, how much of it others have too.
    pub(super) fn count_file(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        sharing: bool,
    ) -> Result<FileStat> {
        let v = file.load();
        let known = v.known();
        let mut stat = FileStat { size: v.size, ..FileStat::default() };
        if let (Some((blocks, extents)), false) = (known, sharing) {
            stat.allocated = blocks * BLOCK as u64;
            stat.extents = extents;
            return Ok(stat);
        }
        let (vol, file) = (self.clone(), file.clone());
        self.run(move |io| async move {
            let mut at = 0;
            loop {
                // A run of extents at a time, so that others have a turn; from the
                // version as it is then, because an older one's nodes may be reused.
                let next = vol
                    .look(&io, |vol| {
                        let mut part = stat;
                        Ok((count_some(vol, &file.load(), at, sharing, &mut part)?, part))
                    })
                    .await?;
                stat = next.1;
                match next.0 {
                    Some(n) => at = n,
                    None => return Ok(stat),
                }
            }
        })
    }
}

impl Stats {
    fn add(&mut self, t: &Traffic) {
        let get = |a: &AtomicU64| a.load(Ordering::Relaxed);
        self.reads += get(&t.user_reads);
        self.writes += get(&t.user_writes);
        self.device_reads += get(&t.reads);
        self.device_writes += get(&t.writes);
        self.device_flushes += get(&t.flushes);
        self.device_bytes_read += get(&t.bytes_read);
        self.device_bytes_written += get(&t.bytes_written);
    }
}

/// Extents counted under one hold of the core lock.
const RUN: usize = 1024;

fn count_some(
    vol: &Volume,
    v: &super::file::Version,
    from: u64,
    sharing: bool,
    stat: &mut FileStat,
) -> std::result::Result<Option<u64>, Fault> {
    let some = some_extents(v, from, RUN)?;
    let mut core = vol.core();
    let txn = core.view();
    for (k, e) in &some {
        stat.extents += 1;
        stat.allocated += u64::from(e.len) * BLOCK as u64;
        if sharing {
            stat.shared += shared_blocks(&txn, v.root(), *k, e)? * BLOCK as u64;
        }
    }
    let next = some.last().map(|(k, e)| k + u64::from(e.len));
    Ok(next.filter(|_| some.len() == RUN))
}

/// Up to `most` extents that start at or after a file block.
pub(super) fn some_extents(
    v: &super::file::Version,
    from: u64,
    most: usize,
) -> std::result::Result<Vec<(u64, Extent)>, Fault> {
    match &v.map {
        Map::Inline { extents, .. } => {
            Ok(extents.iter().filter(|(k, _)| *k >= from).take(most).copied().collect())
        }
        Map::Tree(t) => {
            let mut out = Vec::new();
            let mut c = Cursor::seek(t, &from)?;
            while out.len() < most {
                match c.next()? {
                    Some((k, e, _)) if k >= from => out.push((k, e)),
                    Some(_) => {}
                    None => break,
                }
            }
            Ok(out)
        }
    }
}

/// How many blocks of an extent have more than one owner (law B1, exactly).
pub(super) fn shared_blocks(
    txn: &Txn<'_>,
    root: Option<&Arc<Link<crate::format::Extents>>>,
    key: u64,
    e: &Extent,
) -> std::result::Result<u64, Fault> {
    if let Some(root) = root {
        let mut path: Vec<Addr> = Vec::new();
        path_nodes(root, &key, &mut path)?;
        for node in path {
            if txn.count(node)? > 1 {
                return Ok(u64::from(e.len));
            }
        }
    }
    let runs = txn.runs(e.phys, u64::from(e.len))?;
    Ok(runs.iter().filter(|(_, _, c)| *c > 1).map(|(_, n, _)| n).sum())
}

#[cfg(test)]
mod tests {
    use crate::volume::{FormatSpec, Volume};
    use freehold_engine::medium::Medium;
    use freehold_engine::{FormatOptions, format_target};
    use std::sync::Arc;

    /// The numbers of a queue outlive it: differences never go below zero.
    #[test]
    fn a_queue_that_ends_leaves_its_numbers() {
        let medium: Arc<dyn Medium> =
            format_target("mem:16M", &FormatOptions::default()).expect("memory");
        let volume = Volume::format(medium, &FormatSpec::default()).expect("a store");
        let file = volume.create(b"f").expect("a file");
        let mut queue = volume.queue(4).expect("a queue");
        let buf = queue.buffer(4096).expect("memory");
        queue.write(&file, 0, buf, 1).expect("there is room");
        let mut done: Vec<crate::lane::Finished> = Vec::new();
        while queue.poll(&mut done) == 0 {
            queue.wait(None).expect("memory does not vanish");
        }
        let before = volume.stats();
        drop(queue);
        let after = volume.stats();
        assert!(before.device_writes >= 1);
        for ((name, before), (_, after)) in before.fields().into_iter().zip(after.fields()) {
            assert!(after >= before, "{name} went from {before} to {after}");
        }
    }
}
