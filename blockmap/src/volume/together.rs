//! Reads of a large map, looked up together.
//!
//! A look-up among millions of extents waits for memory several times, one wait after the
//! other, and between two submissions there is a fence (law B3), over which no load is
//! begun early. So a plain read that comes while others of its queue are under way, or
//! where there were several the last time, is kept back, its slot published, until there
//! are [`TOGETHER`] of them or the queue is driven: polled, waited for, or taken by a
//! waiter (law M2). Then all of them go down their map in step, and wait together. A device
//! need not begin before it is driven either. A lone read, and a read of a map that is in
//! the processor's caches, is looked up at once.
//!
//! A read that turns out not to be plain becomes a task; its place was kept
//! ([`Inner::has_room`]).

use super::Volume;
use super::file::{FileHandle, Map, Piece, Version};
use super::queue::Port;
use crate::arbiter::Flags;
use crate::format::BLOCK;
use crate::lane::{Inner, Lane, Plain};
use crate::tree::{Fault, TOGETHER};
use freehold_engine::memory::Buffer;
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// Levels above the leaves from which on reads are kept back. Below, the map is in the
/// nearer caches, and going in step costs more (20 ns a read) than it saves.
const LEVELS: u8 = 2;

/// One read that waits. Its slot is published.
#[derive(Debug)]
struct Read {
    slot: u32,
    tag: u64,
    off: u64,
    buf: Buffer,
}

/// The reads of one file that wait to be looked up.
#[derive(Debug, Default)]
pub(crate) struct Together {
    /// Theirs; while there are any.
    file: Option<FileHandle>,
    reads: Vec<Read>,
    /// The last look-up was one of several.
    company: bool,
}

impl Together {
    pub(crate) fn len(&self) -> usize {
        self.reads.len()
    }

    /// Are reads of this file being kept back?
    pub(super) fn is_of(&self, file: &FileHandle) -> bool {
        self.file
            .as_ref()
            .is_some_and(|f| Arc::ptr_eq(f.state(), file.state()) && f.session() == file.session())
    }
}

impl Inner {
    /// May a read that has its slot expect others beside it?
    pub(super) fn has_company(&self) -> bool {
        self.together.company || self.free_plain.len() + 1 < self.plain.len()
    }
}

impl Version {
    /// Does a look-up wait for memory?
    pub(super) fn is_large(&self) -> bool {
        matches!(&self.map, Map::Tree(t) if t.root.as_ref().is_some_and(|r| r.at.level >= LEVELS))
    }
}

/// Where a plain read of so many bytes goes, and how many of them the file has; none if
/// it is not that simple. To be asked when its slot is published and the map was looked at.
pub(super) fn place_of(
    vol: &Volume,
    v: &Version,
    (off, len): (u64, usize),
    found: Result<Piece, Fault>,
) -> Option<(u64, usize)> {
    let blocks = (len / BLOCK) as u64;
    let left = v.size.saturating_sub(off);
    match found {
        Ok(Piece::Extent { e, .. })
            if left > 0
                && !e.unwritten
                && u64::from(e.len) >= blocks
                // After the look-up: what is not late is at home.
                && !vol.late.may_have(e.phys, blocks) =>
        {
            Some((e.phys, left.min(len as u64) as usize))
        }
        _ => None,
    }
}

impl Port {
    /// May a read of this file be kept back, so that it becomes a task if need be?
    pub(super) fn may_keep_back(&self, inner: &Inner, file: &FileHandle) -> bool {
        inner.has_room() && Arc::ptr_eq(file.volume(), &self.vol)
    }

    /// Keeps a read back. Its slot is published.
    pub(super) fn keep_back(
        &self,
        inner: &mut Inner,
        file: &FileHandle,
        (slot, off, tag): (u32, u64, u64),
        buf: Buffer,
    ) {
        if !inner.together.is_of(file) {
            look_up(inner, &self.lane);
            inner.together.file = Some(file.clone());
        }
        inner.together.reads.push(Read { slot, tag, off, buf });
        // Whoever waits for its slot looks for it only where something is begun (law M2).
        self.lane.begin();
        if inner.together.len() == TOGETHER {
            look_up(inner, &self.lane);
        }
    }
}

/// Looks up what was kept back, and hands it to the device. True if there was anything.
pub(crate) fn look_up(inner: &mut Inner, lane: &Arc<Lane>) -> bool {
    let Some(file) = inner.together.file.take() else { return false };
    let mut reads = std::mem::take(&mut inner.together.reads);
    inner.together.company = reads.len() > 1;
    let mut places: SmallVec<[Option<(u64, usize)>; TOGETHER]> = smallvec![None; reads.len()];
    let (vol, state) = (file.volume(), file.state());
    if !state.guards.hinder(Flags::READS) {
        let v = state.version.load();
        let blocks: SmallVec<[u64; TOGETHER]> =
            reads.iter().map(|r| r.off / BLOCK as u64).collect();
        v.lookup_all(&blocks, |i, found| {
            places[i] = place_of(vol, &v, (reads[i].off, reads[i].buf.len()), found);
        });
    }
    for (read, place) in reads.drain(..).zip(places) {
        let Read { slot, tag, off, buf } = read;
        let buf = match place {
            Some((at, bytes)) => {
                match inner.begin_plain(lane, slot, Plain::read(tag, at, bytes), buf) {
                    Ok(()) => continue,
                    Err((buf, _)) => buf,
                }
            }
            None => {
                inner.give_up(lane, slot);
                buf
            }
        };
        vol.spawn_read(inner, lane, &file, (off, tag), buf);
    }
    // Its room is kept.
    inner.together.reads = reads;
    true
}

/// Forgets what was kept back; nobody waits for it.
pub(crate) fn forget(inner: &mut Inner, lane: &Lane) {
    for read in std::mem::take(&mut inner.together).reads {
        inner.give_up(lane, read.slot);
    }
}
