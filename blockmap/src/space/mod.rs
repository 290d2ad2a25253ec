//! Free space: which blocks are in use, and which may be taken.
//!
//! The medium is divided into groups. Of each group there are two bitmaps:
//!
//! * *logical*: the block is reachable from the map as it is now. A checkpoint
//!   writes this one, as it was at the cut.
//! * *busy*: the block may not be taken. Logical blocks, blocks that were set
//!   aside for a write in flight, and freed blocks that are not reusable yet (law
//!   B3) are busy; at replay, all that the journal names (law B8).
//!
//! Only a busy bit stops the allocator; only a logical bit lands on the medium;
//! so a crash loses nothing that was merely set aside. A bitmap is read when its
//! group is first touched; a group without a descriptor is all free. It may be
//! evicted again while it is just as the medium has it. While a checkpoint is
//! being written, its own view of the logical bitmaps is kept apart ([`CutSpace`]).
//!
//! Not here: when a freed block becomes reusable (`volume::deferred`).

mod alloc;
mod bits;
mod cut;
mod evict;
#[cfg(test)]
mod tests;

pub(crate) use bits::Words;
use cut::CutSpace;
pub(crate) use cut::{Placed, count_some, place_some};

use crate::cache::{Cache, Hold};
use crate::format::types::{Addr, GROUP_BLOCKS, GroupDesc, Kind};
use crate::format::{self, bitmap};
use crate::numbered::Numbered;
use crate::tree::{Fault, Filled, Load, Tree, find};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// How to take back one step of a transaction.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SpaceUndo {
    Taken(Addr, u64),
    Claimed(Addr, u64),
    Freed(Addr, u64),
}

/// One group's bitmaps.
pub(crate) struct Group {
    logical: Arc<Words>,
    busy: Box<Words>,
    /// Clear bits in `busy`.
    free: u32,
    /// No run of clear bits is longer than this.
    longest: u32,
    /// Somebody came by since the cache last looked.
    used: bool,
    /// Who read it holds this until what it was read for is done.
    held: Arc<()>,
}

/// All space maps of a store.
pub(crate) struct Space {
    blocks: u64,
    tree: Tree<format::Space>,
    groups: Numbered<Group>,
    /// The groups in memory, in the order in which eviction looks at them.
    circle: VecDeque<u64>,
    cache: Arc<Cache>,
    /// Blocks that are not busy.
    free: u64,
    /// Blocks that are not reachable: what a checkpoint calls free.
    unused: u64,
    /// Groups whose logical bitmap changed since the last cut.
    dirty: BTreeSet<u64>,
    /// The checkpoint's view, while one is being written.
    cut: Option<CutSpace>,
    /// Where the next node should lie.
    node_goal: Addr,
    /// Where the next long run should lie.
    rotor: Addr,
    /// The stretch that small requests are filling.
    small: Addr,
    /// What files that grow may still need.
    rooms: alloc::Rooms,
    /// Nothing was freed below this since small requests looked there.
    hole: Addr,
    /// Replay: claimed blocks need not have been set aside.
    replaying: bool,
}

/// A group's bitmap that must be read.
#[derive(Debug)]
struct LoadBitmap {
    group: u64,
    desc: GroupDesc,
}

impl Load for LoadBitmap {
    fn addr(&self) -> Addr {
        self.desc.addr
    }

    fn kind(&self) -> Kind {
        Kind::Bitmap
    }

    fn fill(self: Arc<Self>, block: &[u8], id: &[u8; 16], _: &Arc<Cache>) -> Result<Filled, Fault> {
        bitmap::decode(block, id, self.group, &self.desc)
            .map(|w| Filled::Bitmap(self.group, w))
            .map_err(|e| Fault::format("space bitmap", self.desc.addr, &e))
    }
}

impl Space {
    /// The space of a store as a checkpoint left it.
    pub(crate) fn new(
        blocks: u64,
        tree: Tree<format::Space>,
        free: u64,
        cache: Arc<Cache>,
    ) -> Self {
        Space {
            blocks,
            tree,
            groups: Numbered::default(),
            circle: VecDeque::new(),
            cache,
            free,
            unused: free,
            dirty: BTreeSet::new(),
            cut: None,
            node_goal: Self::node_start(blocks),
            rotor: 0,
            small: 0,
            hole: 0,
            rooms: alloc::Rooms::default(),
            replaying: false,
        }
    }

    /// Blocks that could be taken now.
    pub(crate) fn free_blocks(&self) -> u64 {
        self.free
    }

    /// Groups whose bitmaps the next checkpoint writes.
    pub(crate) fn dirty_groups(&self) -> u64 {
        self.dirty.len() as u64
    }

    pub(crate) fn set_replaying(&mut self, on: bool) {
        self.replaying = on;
    }

    /// Puts a bitmap that was read where the next attempt finds it. It stays while
    /// the answer is held.
    pub(crate) fn install(&mut self, group: u64, words: &Words) -> Hold {
        if !self.groups.contains_key(&group) {
            self.put(group, words);
        }
        self.groups[&group].held.clone()
    }

    fn put(&mut self, group: u64, words: &Words) {
        let blocks = self.group_len(group);
        self.groups.insert(group, Group::new(*words, blocks));
        self.circle.push_back(group);
        self.cache.add(evict::GROUP_BYTES);
    }

    /// The account of what is in memory.
    pub(crate) fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    fn group_len(&self, group: u64) -> usize {
        (self.blocks - group * GROUP_BLOCKS).min(GROUP_BLOCKS) as usize
    }

    fn group(&mut self, group: u64) -> Result<&mut Group, Fault> {
        if !self.groups.contains_key(&group) {
            if let Some(desc) = find(&self.tree, &group)? {
                return Err(Fault::Missing(Arc::new(LoadBitmap { group, desc })));
            }
            self.put(group, &[0; bitmap::WORDS]);
        }
        let found = self.groups.get_mut(&group).expect("just put there");
        found.used = true;
        Ok(found)
    }

    /// Has the bitmap of a group in memory.
    pub(crate) fn touch(&mut self, group: u64) -> Result<(), Fault> {
        self.group(group).map(drop)
    }

    /// Calls `f(self, group, first bit, bits)` for each group that a range touches.
    fn each(
        &mut self,
        start: Addr,
        len: u64,
        mut f: impl FnMut(&mut Self, u64, usize, usize) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let end = start.checked_add(len).filter(|e| *e <= self.blocks).ok_or_else(|| {
            Fault::corrupt("extent", start, "it reaches past the end of the store")
        })?;
        let mut at = start;
        while at < end {
            let group = at / GROUP_BLOCKS;
            let stop = end.min((group + 1) * GROUP_BLOCKS);
            f(self, group, (at % GROUP_BLOCKS) as usize, (stop - at) as usize)?;
            at = stop;
        }
        Ok(())
    }

    /// Data blocks that were set aside are reachable from now on.
    pub(crate) fn claim(&mut self, start: Addr, len: u64) -> Result<(), Fault> {
        // First all that can fail, so that a fault leaves nothing half done.
        self.each(start, len, |s, g, bit, n| {
            let replaying = s.replaying;
            let group = s.group(g)?;
            let addr = g * GROUP_BLOCKS + bit as u64;
            if bits::count(&group.logical, bit, n) != 0 {
                return Err(Fault::corrupt("space bitmap", addr, "a block with two owners"));
            }
            if !replaying && bits::count(&group.busy, bit, n) != n {
                return Err(Fault::corrupt("space bitmap", addr, "a block that was not set aside"));
            }
            Ok(())
        })?;
        self.each(start, len, |s, g, bit, n| {
            s.set_busy(g, bit, n, true);
            s.set_logical(g, bit, n, true);
            Ok(())
        })
    }

    /// Blocks that nothing maps any more; they stay busy (law B3).
    pub(crate) fn free(&mut self, start: Addr, len: u64) -> Result<(), Fault> {
        self.each(start, len, |s, g, bit, n| {
            let group = s.group(g)?;
            if bits::count(&group.logical, bit, n) != n {
                let addr = g * GROUP_BLOCKS + bit as u64;
                return Err(Fault::corrupt("space bitmap", addr, "a block was freed twice"));
            }
            Ok(())
        })?;
        self.each(start, len, |s, g, bit, n| {
            s.set_logical(g, bit, n, false);
            Ok(())
        })
    }

    /// Law B3 holds for these freed blocks, or they were set aside in vain.
    pub(crate) fn reclaim(&mut self, start: Addr, len: u64) {
        let done = self.each(start, len, |s, g, bit, n| {
            s.group(g)?;
            s.set_busy(g, bit, n, false);
            Ok(())
        });
        debug_assert!(done.is_ok(), "a group that was changed stays in memory");
    }

    /// Replay: these blocks are named in the journal, nothing else may take them.
    pub(crate) fn reserve(&mut self, start: Addr, len: u64) -> Result<(), Fault> {
        self.each(start, len, |s, g, bit, n| {
            s.group(g)?;
            s.set_busy(g, bit, n, true);
            Ok(())
        })
    }

    pub(crate) fn undo(&mut self, u: SpaceUndo) {
        let (start, len) = match u {
            SpaceUndo::Taken(a, n) | SpaceUndo::Claimed(a, n) | SpaceUndo::Freed(a, n) => (a, n),
        };
        let done = self.each(start, len, |s, g, bit, n| {
            s.set_logical(g, bit, n, matches!(u, SpaceUndo::Freed(..)));
            if matches!(u, SpaceUndo::Taken(..)) {
                s.set_busy(g, bit, n, false);
            }
            Ok(())
        });
        debug_assert!(done.is_ok(), "what was done can be undone");
    }

    fn set_busy(&mut self, g: u64, bit: usize, n: usize, on: bool) {
        let group = self.groups.get_mut(&g).expect("the caller has touched it");
        let before = bits::count(&group.busy, bit, n);
        bits::fill(&mut group.busy, bit, n, on);
        if on {
            group.free -= (n - before) as u32;
            // The superblock's sum may lie; a group's own never does.
            self.free = self.free.saturating_sub((n - before) as u64);
        } else {
            group.free += before as u32;
            self.free += before as u64;
            group.longest = GROUP_BLOCKS as u32;
            self.hole = self.hole.min(g * GROUP_BLOCKS + bit as u64);
        }
    }

    fn set_logical(&mut self, g: u64, bit: usize, n: usize, on: bool) {
        let group = self.groups.get_mut(&g).expect("the caller has touched it");
        match &mut self.cut {
            Some(cut) if cut.open => cut.set(g, &group.logical, bit, n, on),
            Some(cut) => cut.keep(g, &group.logical),
            None => {}
        }
        bits::fill(Arc::make_mut(&mut group.logical), bit, n, on);
        if on {
            self.unused = self.unused.saturating_sub(n as u64);
        } else {
            self.unused += n as u64;
        }
        self.dirty.insert(g);
    }

    /// The logical bitmaps that changed; between two checkpoints all others are as
    /// they were written.
    pub(crate) fn changed(&self) -> HashMap<u64, Arc<Words>> {
        self.dirty.iter().map(|g| (*g, self.groups[g].logical.clone())).collect()
    }

    /// Blocks that are not reachable.
    pub(crate) fn unused(&self) -> u64 {
        self.unused
    }

    /// The tree of descriptors as the last checkpoint has it.
    pub(crate) fn tree(&self) -> &Tree<format::Space> {
        &self.tree
    }
}

impl Group {
    /// Bits past the end of the medium are in use for ever.
    fn new(mut words: Words, blocks: usize) -> Self {
        let tail = GROUP_BLOCKS as usize - blocks;
        if tail > 0 {
            bits::fill(&mut words, blocks, tail, true);
        }
        let used = bits::count(&words, 0, GROUP_BLOCKS as usize);
        Group {
            logical: Arc::new(words),
            busy: Box::new(words),
            free: (GROUP_BLOCKS as usize - used) as u32,
            longest: GROUP_BLOCKS as u32,
            used: true,
            held: Arc::default(),
        }
    }
}
