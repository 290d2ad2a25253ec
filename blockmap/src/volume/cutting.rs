//! A checkpoint's own changes of the map, in slices: no hold of the core lock is longer
//! than some hundred microseconds, however much has changed.
//!
//! The cut itself takes over three roots, a set of files and a set of groups, whatever
//! their size. Which version of a file, and which bitmap of a group, belongs to the cut
//! is found later, slice by slice: it is the one that there is, unless the file or the
//! group has been changed since. Whoever changes one first puts the one of the cut
//! aside ([`Cutting::keep`]; for bitmaps, `CutSpace::keep`). The trees of files and of
//! descriptors are the checkpoint's alone, so what a slice has made of them stands
//! until the next.

use super::Volume;
use super::checkpoint::{Cut, SLICE};
use super::core::{Core, Deferred};
use super::file::{FileState, Version};
use super::shelf::CONDEMNED;
use crate::error::Result;
use crate::format::Files;
use crate::format::types::{FileId, GROUP_BLOCKS};
use crate::lane::Io;
use crate::numbered::Numbered;
use crate::space::{Placed, count_some, place_some};
use crate::tree::{Fault, New, Splice, Tree, find, splice};
use crate::txn::Txn;
use smallvec::smallvec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Runs, and groups in them, that become free in one slice; files that are looked at.
const MANY: u64 = 256;

/// A changed file as the cut has it; none: it is gone.
pub(super) type CutFile = (FileId, Option<Arc<Version>>);

/// The changed files of a checkpoint that has not come to them yet.
#[derive(Debug, Default)]
pub(crate) struct Cutting {
    /// Not changed since the cut.
    waiting: BTreeSet<FileId>,
    /// As they were at the cut.
    kept: BTreeMap<FileId, Arc<Version>>,
}

impl Cutting {
    /// A checkpoint is cut.
    pub(super) fn begin(&mut self, dirty: BTreeSet<FileId>) {
        *self = Cutting { waiting: dirty, kept: BTreeMap::new() };
    }

    /// The file is about to be changed, or to go.
    pub(super) fn keep(&mut self, file: &FileState) {
        if self.waiting.remove(&file.id) && !crate::sabotage::breaks("forget-the-cut") {
            self.kept.insert(file.id, file.load());
        }
    }

    /// Some of them, in order.
    fn take(&mut self, files: &Numbered<Arc<FileState>>) -> Vec<CutFile> {
        let mut out = Vec::with_capacity(SLICE);
        while out.len() < SLICE {
            let (a, b) = (self.waiting.first(), self.kept.keys().next());
            match (a, b) {
                (None, None) => break,
                (Some(id), kept) if kept.is_none_or(|k| id < k) => {
                    let id = *id;
                    self.waiting.remove(&id);
                    out.push((id, files.get(&id).map(|f| f.load())));
                }
                _ => out.extend(self.kept.pop_first().map(|(id, v)| (id, Some(v)))),
            }
        }
        out
    }
}

impl Volume {
    /// The file tree with the records of the changed files, and these files.
    pub(super) async fn put_files(
        self: &Arc<Self>,
        io: &Io,
        cut: &Cut,
    ) -> Result<(Tree<Files>, Vec<CutFile>)> {
        let (mut tree, mut files) = (self.core().shelf.tree.clone(), Vec::new());
        loop {
            let some = {
                let mut core = self.core();
                let Core { cutting, shelf, .. } = &mut *core;
                cutting.take(&shelf.files)
            };
            if some.is_empty() {
                return Ok((tree, files));
            }
            tree = self
                .cut_change(io, cut.generation, |txn| {
                    some.iter().try_fold(tree.clone(), |t, (id, v)| put_file(txn, &t, *id, v))
                })
                .await?;
            files.extend(some);
            io.pause().await;
        }
    }

    /// The tree of descriptors with a new place for each changed bitmap, and these.
    pub(super) async fn place_bitmaps(self: &Arc<Self>, io: &Io, cut: &Cut) -> Result<Placed> {
        let (mut tree, mut placed) = (self.core().space.tree().clone(), Vec::new());
        loop {
            let (next, some) =
                self.cut_change(io, cut.generation, |txn| place_some(txn, &tree, SLICE)).await?;
            tree = next;
            if some.is_empty() {
                break;
            }
            placed.extend(some);
            io.pause().await;
        }
        // All blocks are taken now. Putting the exact numbers in takes no more: the
        // nodes are of this generation and the entries keep their size.
        for some in placed.chunks_mut(SLICE) {
            let counted =
                self.cut_change(io, cut.generation, |txn| count_some(txn, &tree, some)).await?;
            tree = counted.0;
            some.copy_from_slice(&counted.1);
            io.pause().await;
        }
        Ok((tree, placed))
    }

    /// What the checkpoint before alone named is reusable now.
    pub(super) async fn reclaim_all(self: &Arc<Self>, io: &Io, ready: Vec<Deferred>) {
        let mut slice = Vec::new();
        let mut work = 0;
        for d in ready {
            let mut done = 0;
            while done < d.len {
                let len = (d.len - done).min(MANY * GROUP_BLOCKS);
                slice.push(Deferred { start: d.start + done, len });
                work += 1 + len / GROUP_BLOCKS;
                done += len;
                if work >= MANY {
                    self.core().reclaim(&std::mem::take(&mut slice));
                    work = 0;
                    io.pause().await;
                }
            }
        }
        self.core().reclaim(&slice);
    }

    /// Files that are gone are no longer in the tree that the checkpoint wrote.
    pub(super) async fn forget_gone(self: &Arc<Self>, io: &Io, files: &[CutFile]) {
        let gone: Vec<FileId> =
            files.iter().filter(|(_, v)| v.is_none()).map(|(id, _)| *id).collect();
        for some in gone.chunks(MANY as usize) {
            {
                let mut core = self.core();
                some.iter().for_each(|id| {
                    core.shelf.gone.remove(id);
                });
            }
            io.pause().await;
        }
    }

    /// Files that nobody has open and that a checkpoint holds leave memory.
    pub(super) async fn forget_idle_files(self: &Arc<Self>, io: &Io) {
        let all = self.core().shelf.circle.len();
        for _ in 0..all.div_ceil(MANY as usize) {
            self.core().forget_some_files();
            io.pause().await;
        }
    }
}

impl Core {
    fn forget_some_files(&mut self) {
        let Core { shelf, dirty, .. } = self;
        for _ in 0..shelf.circle.len().min(MANY as usize) {
            let Some(id) = shelf.circle.pop_front() else { return };
            let Some(file) = shelf.files.get(&id) else { continue };
            let needed = dirty.contains(&id) || shelf.condemned.contains(&id);
            if needed || Arc::strong_count(file) > 1 {
                shelf.circle.push_back(id);
            } else {
                shelf.files.remove(&id);
            }
        }
    }
}

/// A file's record into the tree, under the key that says whether it is condemned.
fn put_file(
    txn: &mut Txn<'_>,
    tree: &Tree<Files>,
    id: FileId,
    version: &Option<Arc<Version>>,
) -> std::result::Result<Tree<Files>, Fault> {
    let mut tree = tree.clone();
    let condemned = version.as_ref().is_some_and(|v| v.condemned);
    for (key, mine) in [(id, !condemned), (id | CONDEMNED, condemned)] {
        let new = match version {
            Some(v) if mine => smallvec![(key, v.record())],
            _ if find(&tree, &key)?.is_some() => New::<Files>::new(),
            _ => continue,
        };
        tree = splice(txn, tree, Splice { lo: key, hi: Some(key + 1), new, release: false })?;
    }
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(id: FileId, size: u64) -> Arc<FileState> {
        FileState::new(id, Version { size, ..Version::empty(1) })
    }

    /// What is changed between two slices is in the checkpoint as it was at the cut.
    #[test]
    fn files_are_as_they_were_at_the_cut() {
        let files: Numbered<_> = (1..=40).map(|id| (id, file(id, id))).collect();
        let mut cutting = Cutting::default();
        cutting.begin((1..=41).collect());
        let change = |cutting: &mut Cutting, id: FileId| {
            let f = &files[&id];
            cutting.keep(f);
            f.version.store(Arc::new(Version { size: 1000, ..Version::empty(1) }));
        };
        change(&mut cutting, 3);
        change(&mut cutting, 30);
        change(&mut cutting, 30);
        let mut all = Vec::new();
        loop {
            let some = cutting.take(&files);
            if some.is_empty() {
                break;
            }
            assert!(some.len() <= SLICE);
            all.extend(some);
            // One that was taken already, and one that was not.
            change(&mut cutting, 1);
            change(&mut cutting, 40);
        }
        let sizes: Vec<_> = all.iter().map(|(id, v)| (*id, v.as_ref().map(|v| v.size))).collect();
        let want: Vec<_> = (1..=41).map(|id| (id, (id <= 40).then_some(id))).collect();
        assert_eq!(sizes, want);
    }
}
