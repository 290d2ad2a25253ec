//! Checkpoints: the map as it was at one record, written beside what goes on.
//!
//! 1. *Cut*, under the lock: close the journal group, take the roots, the set of files
//!    that changed and a view of the space maps; the next generation begins.
//! 2. Put the changed files' records into the file tree, and the changed groups'
//!    bitmaps into the space tree. These nodes belong to the cut ([`super::cutting`]).
//! 3. Write all nodes and bitmaps of the cut, a few at a time. They go to blocks
//!    that no checkpoint names; the map changes meanwhile by making new nodes.
//! 4. Barrier, then the superblock into the other slot.
//! 5. A mark in the journal (law B9). When it is durable, the checkpoint before
//!    is superseded: its journal can be overwritten, and the blocks that were
//!    freed up to the cut are reusable once nothing in flight can reach them (law B3).

use super::Volume;
use super::core::Core;
use crate::cache::Hold;
use crate::error::Result;
use crate::format::types::{FileId, GroupDesc, NodeRef, Record, Seq, Superblock};
use crate::format::{BLOCK, Counts, Names, bitmap, superblock};
use crate::lane::{Io, all};
use crate::tree::{Body, Fault, Link, Schema, Tree};
use crate::txn::Txn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Nodes written at a time; also the longest a slice keeps others waiting.
pub(super) const SLICE: usize = 16;

/// Nodes looked at before others have a turn.
const LOOKS: usize = 512;

/// The map at one record.
pub(super) struct Cut {
    pub(super) generation: u64,
    seq: Seq,
    group: u64,
    pos: u64,
    names: Tree<Names>,
    counts: Tree<Counts>,
    share_gen: u64,
    next_file: FileId,
}

type Write = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

impl Volume {
    /// One checkpoint.
    pub(super) async fn checkpoint_task(self: Arc<Self>, io: Io) {
        if let Err(e) = self.checkpoint_once(&io).await {
            // What is half written is named by nothing; but the next cut would
            // build on nodes that never reached the medium.
            self.core().space.abandon_cut();
            self.health.poison("a checkpoint", &e);
        }
        self.duty.checkpointing.store(false, Ordering::Release);
        self.announce();
    }

    async fn checkpoint_once(self: &Arc<Self>, io: &Io) -> Result<()> {
        let cut = self.cut();
        let (files, changed) = self.put_files(io, &cut).await?;
        let (space, placed) = self.place_bitmaps(io, &cut).await?;
        self.core().pledged = 0;
        self.write_tree(io, &cut.names).await?;
        self.write_tree(io, &cut.counts).await?;
        for (_, version) in &changed {
            if let Some(root) = version.as_ref().and_then(|v| v.root()) {
                self.write_tree(io, &Tree { root: Some(root.clone()) }).await?;
            }
        }
        self.write_tree(io, &files).await?;
        self.write_tree(io, &space).await?;
        self.write_bitmaps(io, &placed).await?;
        // Law B7: the journal before the cut is about to go.
        self.cut_home(io, cut.generation).await?;
        // This flush may cover less than what a sync that comes now must cover: the
        // sync sees that, as with a commit's flush.
        self.flushing.fetch_max(cut.seq, Ordering::AcqRel);
        if !crate::sabotage::breaks("no-checkpoint-barrier") {
            self.flush_all(io, "a checkpoint's flush").await?;
        }
        // A journal on another medium knows of the checkpoint before it is in force.
        self.ring.tell(io, self.id, cut.generation).await?;
        self.write_superblock(io, &cut, files.node_ref(), space.node_ref()).await?;
        let mark = {
            let mut core = self.core();
            core.shelf.tree = files;
            core.space.end_cut(space);
            self.durable.fetch_max(cut.seq, Ordering::AcqRel);
            core.push_mark(cut.generation)
        };
        self.want(mark);
        if !crate::sabotage::breaks("no-mark") {
            io.until(|| self.durable() >= mark || self.health.sound().is_err()).await;
        }
        self.health.sound()?;
        self.forget_gone(io, &changed).await;
        self.supersede(io, &cut).await;
        Ok(())
    }

    fn cut(&self) -> Cut {
        let mut core = self.core();
        core.journal.seal();
        let (group, pos) = core.journal.cut();
        core.pledged = core.checkpoint_needs();
        let dirty = std::mem::take(&mut core.dirty);
        core.cutting.begin(dirty);
        core.space.begin_cut();
        core.generation += 1;
        core.cut_load();
        Cut {
            generation: core.generation - 1,
            seq: core.journal.last_seq(),
            group,
            pos,
            names: core.shelf.names.clone(),
            counts: core.counts.clone(),
            share_gen: core.share_gen,
            next_file: core.shelf.next_file,
        }
    }

    /// A change that belongs to the cut: its nodes are of its generation, and
    /// its blocks are in its view of the space maps.
    pub(super) async fn cut_change<R>(
        self: &Arc<Self>,
        io: &Io,
        generation: u64,
        mut step: impl FnMut(&mut Txn<'_>) -> std::result::Result<R, Fault> + Send,
    ) -> Result<R> {
        let mut held: Vec<Hold> = Vec::new();
        loop {
            let _seen = io.seen(&self.epoch);
            let done = self.core().in_cut(generation, &mut step);
            match done {
                Ok(r) => return Ok(r),
                Err(fault) => held.extend(self.mend(io, fault).await?),
            }
        }
    }

    /// Writes every node below a root that is not on the medium yet, children
    /// before parents: a written node may be evicted, and its children with it.
    async fn write_tree<S: Schema>(self: &Arc<Self>, io: &Io, tree: &Tree<S>) -> Result<()> {
        let mut stack: Vec<Arc<Link<S>>> = tree.root.iter().cloned().collect();
        let mut found: Vec<Arc<Link<S>>> = Vec::new();
        while let Some(link) = stack.pop() {
            if link.is_written() {
                continue;
            }
            if let Ok(node) = link.get()
                && let Body::Inner(children) = &node.body
            {
                stack.extend(children.iter().map(|c| c.link.clone()).filter(|l| !l.is_written()));
            }
            found.push(link);
            if found.len().is_multiple_of(LOOKS) {
                io.pause().await;
            }
        }
        found.reverse();
        for batch in found.chunks(SLICE) {
            self.write_nodes(io, batch).await?;
            self.trim();
        }
        Ok(())
    }

    async fn write_nodes<S: Schema>(
        self: &Arc<Self>,
        io: &Io,
        batch: &[Arc<Link<S>>],
    ) -> Result<()> {
        let mut writes: Vec<Write> = Vec::with_capacity(batch.len());
        for link in batch {
            let mut buf = self.medium.pool().take(BLOCK)?;
            if let Err(fault) = link.encode(&mut buf, &self.id) {
                self.mend(io, fault).await?;
            }
            let (at, io) = (link.at.addr, io.clone());
            writes.push(Box::pin(async move { io.write_for_checkpoint(at, buf).await.map(drop) }));
        }
        all(writes).await.into_iter().collect::<Result<Vec<()>>>()?;
        batch.iter().for_each(|l| l.set_written());
        self.counters.nodes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    async fn write_bitmaps(self: &Arc<Self>, io: &Io, placed: &[(u64, GroupDesc)]) -> Result<()> {
        for slice in placed.chunks(SLICE) {
            let mut writes: Vec<Write> = Vec::with_capacity(slice.len());
            for (g, desc) in slice {
                let mut buf = self.medium.pool().take(BLOCK)?;
                let image = self.core().space.cut_image(*g);
                let Some(words) = image else { continue };
                bitmap::encode(&words, *g, desc, &self.id, &mut buf).map_err(|e| {
                    crate::Error::corrupt("space bitmap", desc.addr, &e.to_string())
                })?;
                let (at, io) = (desc.addr, io.clone());
                writes.push(Box::pin(
                    async move { io.write_for_checkpoint(at, buf).await.map(drop) },
                ));
            }
            all(writes).await.into_iter().collect::<Result<Vec<()>>>()?;
            self.counters.nodes.fetch_add(slice.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn write_superblock(
        self: &Arc<Self>,
        io: &Io,
        cut: &Cut,
        files: NodeRef,
        space: NodeRef,
    ) -> Result<()> {
        let apart = self.ring.elsewhere().map(|(_, journal)| journal);
        let sb = Superblock {
            refuse_features: apart.map_or(0, |_| superblock::JOURNAL_APART),
            readonly_features: 0,
            ignore_features: superblock::GUARD,
            store_id: self.id,
            blocks: self.blocks,
            journal_start: self.room.0,
            journal_blocks: self.room.1,
            checkpoint: cut.generation,
            cut_seq: cut.seq,
            cut_group: cut.group,
            cut_pos: cut.pos,
            names: cut.names.node_ref(),
            files,
            counts: cut.counts.node_ref(),
            space,
            share_gen: cut.share_gen,
            next_file: cut.next_file,
            free: self.core().space.cut_free(),
            apart,
        };
        let slot = Self::slot(cut.generation);
        let mut buf = self.medium.pool().take(BLOCK)?;
        superblock::encode(&sb, slot, &mut buf)
            .map_err(|e| crate::Error::corrupt("superblock", slot, &e.to_string()))?;
        io.write(slot, buf, true).await.map(drop)
    }

    /// The checkpoint before is history: what only it named becomes free.
    async fn supersede(self: &Arc<Self>, io: &Io, cut: &Cut) {
        let (ready, durable) = {
            let mut core = self.core();
            core.journal.trim(cut.pos, cut.seq + 1);
            core.logged.supersede(cut.generation);
            (core.take_deferred(cut.generation), self.durable())
        };
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        let lanes = self.all_lanes();
        if !crate::sabotage::breaks("no-epochs") {
            io.until(|| lanes.iter().all(|l| l.slots.quiet(epoch))).await;
        }
        {
            let mut core = self.core();
            core.settled = core.settled.max(durable);
            let settled = core.settled;
            core.lowerings.prune(settled);
            core.drop_load();
        }
        self.reclaim_all(io, ready).await;
        self.marked.fetch_max(cut.generation, Ordering::AcqRel);
        if !self.core().shelf.condemned.is_empty() {
            // A removal that stopped on a full store has room now.
            self.ask_reap();
        }
        self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.forget_idle_files(io).await;
    }
}

impl Core {
    /// A change of the checkpoint's own.
    fn in_cut<R>(
        &mut self,
        generation: u64,
        step: &mut impl FnMut(&mut Txn<'_>) -> std::result::Result<R, Fault>,
    ) -> std::result::Result<R, Fault> {
        self.space.open_cut(true);
        // These trees are not shared: counts play no part.
        let pending = (&self.lowerings, self.settled);
        let mut txn = Txn::new(&mut self.space, &Tree::EMPTY, generation, 0, pending);
        let done = match step(&mut txn) {
            Ok(r) => Ok((r, txn.finish().freed)),
            Err(fault) => {
                txn.rollback();
                Err(fault)
            }
        };
        self.space.open_cut(false);
        let (r, freed) = done?;
        self.defer_at(generation, &freed);
        Ok(r)
    }

    /// The first record after a checkpoint (law B9). Room for it is kept.
    pub(super) fn push_mark(&mut self, checkpoint: u64) -> Seq {
        debug_assert!(self.journal.has_room_for_mark());
        let mut bytes = Vec::new();
        // A mark is a tag and a number: there is nothing in it to refuse.
        let _ = crate::format::record::encode_record(&mut bytes, &Record::Mark { checkpoint });
        self.journal.push(&bytes, 1)
    }
}
