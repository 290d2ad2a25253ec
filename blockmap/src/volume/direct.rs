//! Durable writes of a blocking call to a store on a window: the calling thread stores the
//! bytes into their blocks, makes them durable there, and maps them. No command, no task, and
//! no copy of the bytes in the journal.
//!
//! The steps and their order are those of [`super::write`]. The range is held (law B6). Places
//! are decided, and new blocks set aside, in a first hold of the core lock; the bytes are
//! durable before the record that leads to them is pushed, in a second one (law B4), so a crash
//! between the two leaves blocks that nobody owns. What is overwritten in place, within the
//! file, needs no record and is stored as it is, not by whole blocks. A journal that holds
//! logged bytes of a block makes it a new one (law B7), as for all writes in place.
//!
//! Whatever is not that simple (a lease, a range that is taken, a node that is not in memory, a
//! full store or journal) is refused here with nothing done, and takes the way of all writes.

use super::Volume;
use super::core::Class;
use super::file::{FileState, Piece, Version};
use super::plan::{copies, decide, remember_own};
use super::write::{B, How, Part, Parts, records, set_aside};
use crate::error::Result;
use crate::format::BLOCK;
use crate::format::types::{Addr, Seq};
use freehold_engine::medium::Window;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What is written where.
struct Stores<'a> {
    off: u64,
    bytes: &'a [u8],
    parts: Parts,
    old: Arc<Version>,
    copies: u64,
}

impl Volume {
    /// Writes into the window, if the store is on one and that takes no waiting. The record
    /// that the caller has to wait for: all before it is durable then, the write among them.
    pub(super) fn store_now(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        off: u64,
        bytes: &[u8],
    ) -> Result<Option<Seq>> {
        let Some(window) = self.medium.window() else { return Ok(None) };
        let end = off + bytes.len() as u64;
        let (first, last) = (off / B, end.div_ceil(B));
        let Some(_held) = self.hold_now(file, first, last) else { return Ok(None) };
        if !file.guards.are_none() {
            return Ok(None);
        }
        let Some(stores) = self.places_now(file, off, bytes)? else { return Ok(None) };
        let early = crate::sabotage::breaks("publish-before-data");
        if early && self.map_now(file, &stores) {
            self.await_durable(file.last_seq.load(Ordering::Acquire))?;
        }
        match self.store_all(window, &stores) {
            Ok(true) => {}
            refused => {
                self.give_back(&stores.parts);
                return refused.map(|_| None);
            }
        }
        let count = &self.counters;
        count.stored_writes.fetch_add(1, Ordering::Relaxed);
        count.stored_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if !early && !self.map_now(file, &stores) {
            self.give_back(&stores.parts);
            return Ok(None);
        }
        count.copied.fetch_add(stores.copies, Ordering::Relaxed);
        Ok(Some(file.last_seq.load(Ordering::Acquire)))
    }

    /// Decides where each block goes.
    fn places_now<'a>(
        &self,
        file: &Arc<FileState>,
        off: u64,
        bytes: &'a [u8],
    ) -> Result<Option<Stores<'a>>> {
        let end = off + bytes.len() as u64;
        let blocks = (off / B, end.div_ceil(B));
        let mut core = self.core();
        self.health.writable()?;
        let decided = decide(&mut core, file, blocks, self.durable(), false);
        let Ok((old, parts)) = decided else { return Ok(None) };
        // A gap behind the end is to be zeroed first.
        if !old.size.is_multiple_of(B) && blocks.0 > old.size / B {
            return Ok(None);
        }
        let new: u64 = parts.iter().filter(|p| p.how == How::New).map(|p| p.len).sum();
        if new > 0 && core.admit(Class::Normal, new).is_err() {
            return Ok(None);
        }
        remember_own(&mut core, file, &parts);
        let copies = copies(&parts);
        let Ok(parts) = set_aside(&mut core, file, old.size, parts) else { return Ok(None) };
        Ok(Some(Stores { off, bytes, parts, old, copies }))
    }

    /// Stores all of it and makes it durable. False where what an edge keeps is not at hand.
    fn store_all(&self, window: &dyn Window, stores: &Stores<'_>) -> Result<bool> {
        let mut ranges: SmallVec<[(u64, u64); 2]> = SmallVec::new();
        for part in &stores.parts {
            let Some(range) = self.store_part(window, stores, part)? else { return Ok(false) };
            ranges.push(range);
        }
        if crate::sabotage::breaks("no-store-barrier") {
            return Ok(true);
        }
        window.drain(&ranges).inspect_err(|e| self.health.saw(e))?;
        Ok(true)
    }

    /// Stores the bytes of a part; which of the window's bytes they are.
    fn store_part(
        &self,
        window: &dyn Window,
        stores: &Stores<'_>,
        part: &Part,
    ) -> Result<Option<(u64, u64)>> {
        let Stores { off, bytes, .. } = *stores;
        let (start, end) = (part.block * B, (part.block + part.len) * B);
        let (from, to) = (off.max(start), (off + bytes.len() as u64).min(end));
        let inside = &bytes[(from - off) as usize..(to - off) as usize];
        let put = |at: u64, bytes: &[u8]| -> Result<(u64, u64)> {
            let at = part.phys * B + at - start;
            window.store_nodrain(at, bytes).inspect_err(|e| self.health.saw(e))?;
            Ok((at, bytes.len() as u64))
        };
        // In place what is beside it stays; between the old end and it there may be anything.
        let beside = part.how == How::Place && off <= stores.old.size;
        if beside || (from, to) == (start, end) {
            return put(from, inside).map(Some);
        }
        let mut whole = vec![0; (end - start) as usize];
        for block in [part.block, part.block + part.len - 1] {
            let (a, b) = (block * B, (block + 1) * B);
            let cut = a < from || b > to;
            let skip = (a - start) as usize;
            if cut && !self.load_kept(window, &stores.old, block, &mut whole[skip..skip + BLOCK])? {
                return Ok(None);
            }
        }
        whole[(from - start) as usize..(to - start) as usize].copy_from_slice(inside);
        put(start, &whole).map(Some)
    }

    /// What a file's block holds, up to the file's end. False where the map is not in memory.
    fn load_kept(
        &self,
        window: &dyn Window,
        old: &Version,
        block: u64,
        to: &mut [u8],
    ) -> Result<bool> {
        // Nothing behind the old end is anybody's.
        let known = if crate::sabotage::breaks("keep-cut-tail") { u64::MAX } else { old.size };
        let valid = known.saturating_sub(block * B).min(B) as usize;
        let at: Addr = match old.lookup(block) {
            _ if valid == 0 => return Ok(true),
            Ok(Piece::Extent { e, .. }) if !e.unwritten => e.phys,
            Ok(_) => return Ok(true),
            Err(_) => return Ok(false),
        };
        match self.late.among(at, 1).pop() {
            Some((_, bytes)) => {
                let n = bytes.len().min(valid);
                to[..n].copy_from_slice(&bytes[..n]);
            }
            None => window.load(at * B, &mut to[..valid]).inspect_err(|e| self.health.saw(e))?,
        }
        Ok(true)
    }

    /// Pushes the records of what is durable in the window. False, with nothing done, if that
    /// is not possible at once.
    fn map_now(self: &Arc<Self>, file: &Arc<FileState>, stores: &Stores<'_>) -> bool {
        let end = stores.off + stores.bytes.len() as u64;
        let (done, dues) = {
            let mut core = self.core();
            // Somebody may have made the file longer, behind this range.
            let size = file.version.load().size;
            let records = records(file.id, &stores.parts, end, size);
            if records.is_empty() {
                return true;
            }
            (core.execute_all(Class::Normal, &records), core.dues(self.blocks))
        };
        self.after_change(dues);
        done.is_ok()
    }
}
