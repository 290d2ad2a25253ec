//! Blocks that become a file's own before anybody writes to them: what `allocate` and the
//! grant of a lease do with shared ones. Whole blocks go from place to place on the medium,
//! by whichever way it has ([`Volume::copy_blocks`]); only the one in which the file ends
//! comes through memory here, because the rest of it becomes zeroes.
//!
//! Whether they have to be copied at all is asked elsewhere (`plan`, `allocate`).

use super::Volume;
use super::core::Class;
use super::file::FileState;
use super::range_ops::AT_ONCE;
use super::ranges::extents_in;
use super::write::{B, How, Part, Parts, set_aside};
use crate::error::Result;
use crate::format::BLOCK;
use crate::format::types::{Extent, Record};
use crate::lane::Io;
use smallvec::smallvec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Volume {
    /// Gives the file blocks of its own in place of extents from the first block on, as far
    /// as they follow each other: the bytes up to the file's `end` are what they were. Says
    /// up to where it came. The range is held, and may be changed.
    ///
    /// # Errors
    /// As a write. What was done is kept.
    pub(super) async fn own_extents(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        (first, last): (u64, u64),
        end: u64,
    ) -> Result<u64> {
        let mut at = first;
        while at < last {
            let found = self.look(io, |_| extents_in(&file.load(), at, last)).await?;
            match found.first() {
                Some((k, e, _)) if *k == at => {
                    at = self.own_extent(io, file, (at, *e), end).await?
                }
                _ => break,
            }
        }
        Ok(at)
    }

    /// The same of a part of one extent, which begins at the file's block `k`.
    async fn own_extent(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        (k, e): (u64, Extent),
        end: u64,
    ) -> Result<u64> {
        let len = u64::from(e.len);
        if e.unwritten {
            let parts = self.new_places(io, file, k, len).await?;
            return self.take_places(io, file, &parts, (true, 0)).await;
        }
        let whole = len.min((end / B).saturating_sub(k));
        if whole == 0 {
            // What lies behind the end is nobody's, and is not kept.
            let bytes = B.min(end.saturating_sub(k * B)) as usize;
            return match bytes {
                0 => Ok(k + len),
                _ => self.own_end(io, file, k, bytes).await,
            };
        }
        // Law B7: the medium copies what is there.
        self.blocks_home(io, e.phys, whole).await?;
        let parts = self.new_places(io, file, k, whole).await?;
        if let Err(error) = self.copy_to(io, (k, e.phys), &parts).await {
            self.give_back(&parts);
            return Err(error);
        }
        let to = self.take_places(io, file, &parts, (false, 0)).await?;
        self.counters.copied.fetch_add(to - k, Ordering::Relaxed);
        Ok(to)
    }

    /// New blocks for some of the file, for as many as one record has room for.
    pub(super) async fn new_places(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        k: u64,
        len: u64,
    ) -> Result<Parts> {
        self.change(io, |core| {
            core.admit(Class::Normal, len)?;
            let wanted = smallvec![Part { block: k, len, phys: 0, how: How::New }];
            let mut parts = set_aside(core, file, file.load().size, wanted)?;
            for p in parts.drain(parts.len().min(AT_ONCE)..) {
                core.space.reclaim(p.phys, p.len);
            }
            Ok(parts)
        })
        .await
    }

    /// Copies from where the blocks from `k` on lie side by side.
    async fn copy_to(
        self: &Arc<Self>,
        io: &Io,
        (k, from): (u64, u64),
        parts: &[Part],
    ) -> Result<()> {
        // The range is held: the file keeps these blocks. No longer seen than they are read
        // (law B3).
        let _seen = io.seen(&self.epoch);
        for p in parts {
            self.copy_blocks(io, from + (p.block - k), p.phys, p.len).await?;
        }
        Ok(())
    }

    /// Maps the file's blocks there, or gives the places back; the file grows with them up to
    /// `end`. Says where they end.
    pub(super) async fn take_places(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        parts: &[Part],
        (unwritten, end): (bool, u64),
    ) -> Result<u64> {
        let start = parts.first().map_or(0, |p| p.block);
        let len: u64 = parts.iter().map(|p| p.len).sum();
        let extent = |p: &Part| Extent { phys: p.phys, len: p.len as u32, unwritten, own: true };
        let extents = parts.iter().map(|p| (p.block, extent(p))).collect();
        let size = end.min((start + len) * B);
        let record = Record::Map { file: file.id, start, len, size, extents };
        let taken = self.change(io, |core| core.execute(Class::Normal, &record)).await;
        if taken.is_err() {
            self.give_back(parts);
        }
        taken.map(|_| start + len)
    }

    /// The block in which the file ends: writing its bytes to it copies it.
    async fn own_end(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        k: u64,
        bytes: usize,
    ) -> Result<u64> {
        let buf = self.medium.pool().take(BLOCK)?;
        let seen = io.seen(&self.epoch);
        let read = self.read_blocks(io, &file.load(), k, 1, buf).await;
        drop(seen);
        let buf = read.map_err(|(e, _)| e)?;
        self.write_held(io, file, k * B, buf, bytes).await.map_err(|(e, _)| e)?;
        Ok(k + 1)
    }
}
