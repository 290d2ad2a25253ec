//! Proving the map: every block is free, or owned once, or counted exactly;
//! every tree is ordered; nothing reachable is free.
//!
//! The check takes the map as it is at one moment and walks that, while others
//! go on: nodes are immutable, and nothing that it can reach is reused before it
//! ends (law B3). Nodes that are on the medium are read from there, not from
//! memory. It writes nothing.

mod ledger;
mod walk;

use super::apart::headers;
use super::file::{Map, Version};
use super::shelf::CONDEMNED;
use super::{Volume, limits};
use crate::error::Result;
use crate::format::types::{Addr, FileId, GROUP_BLOCKS, GroupDesc};
use crate::format::{BLOCK, Counts, Files, Names, bitmap, superblock};
use crate::lane::{Io, Seen};
use crate::space::Words;
use crate::tree::Tree;
use ledger::Ledger;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use walk::Walk;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Which structure.
    pub structure: String,
    /// Its block, or the block that it speaks of; a file's number for records.
    pub address: u64,
    /// What is wrong with it.
    pub what: String,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// What is wrong; empty for a sound store. At most [`MOST_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Files, condemned ones included.
    pub files: u64,
    /// Nodes and bitmaps.
    pub nodes: u64,
    /// Blocks in use.
    pub blocks: u64,
}

/// Findings after which a check stops counting.
pub const MOST_FINDINGS: usize = 1000;

impl CheckReport {
    /// Nothing is wrong.
    pub fn clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// Adds what another walk of the same map found about another part of the store.
    fn merge(&mut self, other: CheckReport) {
        for f in other.findings {
            if !self.findings.contains(&f) && self.findings.len() < MOST_FINDINGS {
                self.findings.push(f);
            }
        }
        self.files = other.files;
        self.nodes += other.nodes;
        self.blocks += other.blocks;
    }

    pub(super) fn find(&mut self, structure: &str, address: u64, what: impl Into<String>) {
        if self.findings.len() < MOST_FINDINGS {
            let structure = structure.to_owned();
            self.findings.push(Finding { structure, address, what: what.into() });
        }
    }
}

/// The map at one moment.
struct Snapshot {
    names: Tree<Names>,
    counts: Tree<Counts>,
    files: Tree<Files>,
    space: Tree<crate::format::Space>,
    /// Files in memory, which are newer than their records; none: gone.
    newer: BTreeMap<FileId, Option<Arc<Version>>>,
    logical: HashMap<u64, Arc<Words>>,
    unused: u64,
}

impl Volume {
    /// Checks the whole store. Blocks; may run while the store is used.
    ///
    /// # Errors
    /// Only what keeps it from running; what is wrong is in the report. `Poisoned`:
    /// what is in memory has parted from the medium; open the store again first.
    pub fn check(self: &Arc<Self>) -> Result<CheckReport> {
        self.health.sound()?;
        let vol = self.clone();
        self.run(move |io| async move { vol.check_task(&io).await })
    }

    async fn check_task(self: &Arc<Self>, io: &Io) -> Result<CheckReport> {
        let (_seen, snap) = self.snapshot(io).await;
        // A byte for a block may be more than there is to spend: then the map is
        // walked once for each part of the store that half the cache's budget has
        // a byte for. What is wrong with the trees is found each time.
        let part = (self.cache.budget() / 2 / GROUP_BLOCKS).max(1) * GROUP_BLOCKS;
        let mut report = CheckReport::default();
        let (mut at, mut unused) = (0, 0);
        while at < self.blocks {
            let end = at.saturating_add(part).min(self.blocks);
            let (found, free) = self.check_part(io, &snap, at..end).await?;
            report.merge(found);
            unused += free;
            at = end;
        }
        if report.clean() && unused != snap.unused {
            let what = format!("{unused} blocks are free, but {} are counted", snap.unused);
            let slot = Self::slot(self.marked.load(Ordering::Acquire));
            report.find("superblock", slot, what);
        }
        Ok(report)
    }

    /// Walks the whole map, and counts the owners of the blocks of one part of the
    /// store; also gives its free blocks.
    async fn check_part(
        self: &Arc<Self>,
        io: &Io,
        snap: &Snapshot,
        part: Range<Addr>,
    ) -> Result<(CheckReport, u64)> {
        let mut walk = Walk::new(self, io, part.clone());
        walk.ledger.add(0, 2 + self.room.1);
        self.check_superblocks(io, &mut walk.report).await?;
        let names = walk.entries(&snap.names).await?;
        let records = walk.entries(&snap.files).await?;
        let groups = walk.entries(&snap.space).await?;
        let counts = walk
            .entries_that(&snap.counts, |ledger, k, run| {
                ledger.covers(*k, u64::from(run.len)) || *k >= self.blocks
            })
            .await?;
        let mut files: BTreeMap<FileId, Arc<Version>> = BTreeMap::new();
        let mut recorded = BTreeSet::new();
        for (key, record) in records {
            let id = key & !CONDEMNED;
            if record.condemned != (key & CONDEMNED != 0) {
                walk.report.find("file tree", id, "a file's record stands in the wrong list");
            }
            if limits::file(id, &record).is_err() {
                walk.report.find("file record", id, "one of its numbers is beyond what can be");
            }
            if !recorded.insert(id) {
                walk.report.find("file tree", id, "a file has two records");
            }
            files.insert(id, Arc::new(Version::from_record(&record)));
        }
        files.retain(|id, _| !snap.newer.contains_key(id));
        files.extend(snap.newer.iter().filter_map(|(id, v)| Some((*id, v.clone()?))));
        check_names(&mut walk.report, &names, &files);
        for (id, v) in &files {
            check_file(&mut walk, *id, v).await?;
        }
        walk.check_sums(&files);
        if part.start > 0 {
            // The first walk has counted them.
            walk.report.nodes = 0;
        }
        let unused = self.check_space(&mut walk, snap, &groups, part).await?;
        let Walk { mut report, ledger, .. } = walk;
        ledger.check_counts(&counts, self.blocks, &mut report);
        report.files = files.len() as u64;
        report.blocks = ledger.owned();
        Ok((report, unused))
    }

    /// The map as it is now. A checkpoint's half-built trees are no part of it, so
    /// it is taken between two of them.
    /// Reuse is held back (law B3) only from then on, because a checkpoint ends
    /// by waiting for those that hold it back.
    async fn snapshot(self: &Arc<Self>, io: &Io) -> (Seen, Snapshot) {
        let flag = &self.duty.checkpointing;
        io.until(|| !flag.swap(true, Ordering::AcqRel)).await;
        let seen = io.seen(&self.epoch);
        let snap = {
            let core = self.core();
            let newer = core
                .shelf
                .files
                .iter()
                .map(|(id, f)| (*id, Some(f.load())))
                .chain(core.shelf.gone.iter().map(|id| (*id, None)))
                .collect();
            Snapshot {
                names: core.shelf.names.clone(),
                counts: core.counts.clone(),
                files: core.shelf.tree.clone(),
                space: core.space.tree().clone(),
                newer,
                logical: core.space.changed(),
                unused: core.space.unused(),
            }
        };
        flag.store(false, Ordering::Release);
        self.duty.any.store(true, Ordering::Release);
        (seen, snap)
    }

    async fn check_superblocks(self: &Arc<Self>, io: &Io, report: &mut CheckReport) -> Result<()> {
        for slot in 0..2 {
            let buf = io.read(slot, self.medium.pool().take(BLOCK)?).await?;
            match superblock::decode(&buf, slot) {
                Ok(sb) if sb.store_id != self.id => {
                    report.find("superblock", slot, "it belongs to another store");
                }
                Ok(_) => {}
                Err(e) => report.find("superblock", slot, e.to_string()),
            }
        }
        self.check_journal_header(report)
    }

    /// A journal apart must be known as this store's at the next opening.
    fn check_journal_header(&self, report: &mut CheckReport) -> Result<()> {
        let Some((medium, journal)) = self.ring.elsewhere() else { return Ok(()) };
        // The slot of the checkpoint in force is not written while that is in force.
        let marked = self.marked.load(Ordering::Acquire);
        let found = headers(&**medium)?;
        let right = found.iter().flatten().any(|h| {
            (h.store_id, h.journal_id, h.ring_blocks) == (self.id, journal.id, journal.blocks)
                && h.epoch >= marked
        });
        if !right {
            let what = "neither header says that this is the store's journal";
            report.find("journal header", Self::slot(marked), what);
        }
        Ok(())
    }

    /// The bitmaps of a part of the store against what was found to be in use; gives
    /// its free blocks.
    async fn check_space(
        self: &Arc<Self>,
        walk: &mut Walk<'_>,
        snap: &Snapshot,
        groups: &[(u64, GroupDesc)],
        part: Range<Addr>,
    ) -> Result<u64> {
        let descs: BTreeMap<u64, GroupDesc> = groups.iter().copied().collect();
        for (g, desc) in &descs {
            walk.ledger.add(desc.addr, 1);
            if *g >= self.blocks.div_ceil(GROUP_BLOCKS) {
                walk.report.find("space tree", desc.addr, "a group past the end of the store");
            }
        }
        let mut unused = 0;
        let every: BTreeSet<u64> =
            descs.keys().chain(snap.logical.keys()).copied().chain(walk.ledger.groups()).collect();
        let mut touched = 0;
        for g in every.range(part.start / GROUP_BLOCKS..part.end.div_ceil(GROUP_BLOCKS)).copied() {
            let start = g * GROUP_BLOCKS;
            let Some(len) = self.blocks.checked_sub(start).filter(|n| *n > 0) else { continue };
            let len = len.min(GROUP_BLOCKS);
            touched += len;
            let mut bits = snap.logical.get(&g).cloned();
            if let Some(desc) = descs.get(&g) {
                let read = self.read_bitmap(walk, g, desc).await?;
                bits = bits.or(read);
                if bits.is_none() {
                    continue;
                }
            }
            let bits = bits.unwrap_or_else(|| Arc::new([0; bitmap::WORDS]));
            unused += walk.ledger.check_group(g, len, &bits, &mut walk.report);
        }
        Ok(unused + (part.end - part.start) - touched)
    }

    /// A bitmap as it is on the medium; none, with a finding, if it is damaged.
    async fn read_bitmap(
        self: &Arc<Self>,
        walk: &mut Walk<'_>,
        g: u64,
        desc: &GroupDesc,
    ) -> Result<Option<Arc<Words>>> {
        walk.report.nodes += 1;
        let Some(buf) = walk.read(desc.addr, "space bitmap").await? else { return Ok(None) };
        match bitmap::decode(&buf, &self.id, g, desc) {
            Ok(words) => Ok(Some(Arc::from(words))),
            Err(e) => {
                walk.report.find("space bitmap", desc.addr, e.to_string());
                Ok(None)
            }
        }
    }
}

fn check_names(
    report: &mut CheckReport,
    names: &[(Box<[u8]>, FileId)],
    files: &BTreeMap<FileId, Arc<Version>>,
) {
    let mut seen = BTreeSet::new();
    for (name, id) in names {
        let shown = super::names::shown(name);
        match files.get(id) {
            None => report.find("name tree", *id, format!("the name {shown} leads to no file")),
            Some(v) if v.condemned => {
                report.find("name tree", *id, format!("the name {shown} leads to a removed file"));
            }
            Some(_) => {}
        }
        if !seen.insert(*id) {
            report.find("name tree", *id, format!("the file {shown} has two names"));
        }
    }
    for (id, _) in files.iter().filter(|(id, v)| !v.condemned && !seen.contains(id)) {
        report.find("file tree", *id, "a file without a name that is not being removed");
    }
}

async fn check_file(walk: &mut Walk<'_>, id: FileId, v: &Version) -> Result<()> {
    let end = if v.condemned { u64::MAX } else { v.size.div_ceil(BLOCK as u64) };
    let past = match &v.map {
        Map::Inline { extents, .. } => {
            for (_, e) in extents.iter() {
                walk.claim("file record", id, e);
            }
            extents.last().map(|(k, e)| k + u64::from(e.len))
        }
        Map::Tree(tree) => walk.map(tree).await?,
    };
    if past.is_some_and(|p| p > end) {
        let what = format!("it has blocks past its size of {} bytes", v.size);
        walk.report.find("file record", id, what);
    }
    Ok(())
}
