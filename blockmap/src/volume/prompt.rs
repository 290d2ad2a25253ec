//! Logged writes of a blocking call that have nothing to wait for but their group.
//!
//! Most small durable writes find their range free, the nodes on their way in
//! memory, and room. They are put into the journal by the calling thread itself, in one
//! hold of the core lock, without a task; then the thread waits for the commit
//! and drives it if nobody else does. Whatever is not that simple is refused here,
//! with nothing done, and takes the way of all writes ([`super::logged`]).

use super::Volume;
use super::drive::NAP;
use super::file::{FileState, Piece, Version};
use super::logged::{LOGGED_MOST, Logging};
use super::write::B;
use crate::error::Result;
use crate::format::BLOCK;
use crate::format::types::Seq;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Volume {
    /// Puts a write into the journal if that takes no waiting; its last record.
    pub(super) fn log_now(
        self: &Arc<Self>,
        file: &Arc<FileState>,
        off: u64,
        bytes: &[u8],
    ) -> Result<Option<Seq>> {
        if bytes.is_empty() || bytes.len() > LOGGED_MOST || !self.has_late_room() {
            return Ok(None);
        }
        let end = off + bytes.len() as u64;
        let (first, last) = (off / B, end.div_ceil(B));
        let Some(_held) = self.hold_now(file, first, last) else { return Ok(None) };
        // Who has a seal or a lease is asked first, and under a lease nothing is late.
        if !file.guards.are_none() && !crate::sabotage::breaks("log-under-lease") {
            return Ok(None);
        }
        let (seq, dues) = {
            let mut core = self.core();
            self.health.writable()?;
            let old = file.load();
            // A gap behind the end is to be zeroed first.
            if !old.size.is_multiple_of(B) && first > old.size / B {
                return Ok(None);
            }
            let Some(data) = self.whole_blocks(&old, off, bytes) else { return Ok(None) };
            let always = self.ring.logs_all();
            let logging = Logging { file, first, last, end, data: &data, always };
            // What a fault asks for, or what there is to report, the other way finds.
            let Ok(Some((seq, copies))) = core.log(&logging, self.durable()) else {
                return Ok(None);
            };
            self.counters.copied.fetch_add(copies, Ordering::Relaxed);
            (seq, core.dues(self.blocks))
        };
        self.after_change(dues);
        self.after_log();
        Ok(Some(seq))
    }

    /// The write with what is kept around it, if that is in memory.
    fn whole_blocks<'a>(&self, old: &Version, off: u64, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let end = off + bytes.len() as u64;
        if off.is_multiple_of(B) && end.is_multiple_of(B) {
            return Some(Cow::Borrowed(bytes));
        }
        let (first, last) = (off / B, end.div_ceil(B));
        let mut out = vec![0; (last - first) as usize * BLOCK];
        for block in [first, last - 1] {
            let cut = block * B < off || (block + 1) * B > end;
            if cut && block * B < old.size {
                let at = (block - first) as usize * BLOCK;
                // Nothing behind the old end is anybody's.
                let valid = (old.size - block * B).min(B) as usize;
                self.kept(old, block, &mut out[at..at + valid])?;
            }
        }
        let skip = (off - first * B) as usize;
        out[skip..skip + bytes.len()].copy_from_slice(bytes);
        Some(Cow::Owned(out))
    }

    /// The first bytes of a block, if they need not be read.
    fn kept(&self, old: &Version, block: u64, to: &mut [u8]) -> Option<()> {
        match old.lookup(block).ok()? {
            Piece::Extent { e, .. } if !e.unwritten => {
                let (_, bytes) = self.late.among(e.phys, 1).pop()?;
                let n = bytes.len().min(to.len());
                to[..n].copy_from_slice(&bytes[..n]);
            }
            _ => {}
        }
        Some(())
    }

    /// Waits until the history up to a record is durable, and drives the commit
    /// unless somebody does. Blocks.
    pub(super) fn await_durable(self: &Arc<Self>, seq: Seq) -> Result<()> {
        if self.durable() >= seq {
            return Ok(());
        }
        self.want(seq);
        let over = || self.durable() >= seq || self.health.sound().is_err();
        while !over() {
            if self.maintain_until(over) {
                break;
            }
            self.waiters.enter(seq);
            // Whoever gives the latch up from now on sees this thread waiting.
            if !over() && !self.maintain_until(over) {
                std::thread::park_timeout(NAP);
            }
            self.waiters.leave();
        }
        self.hand_over();
        match self.durable() >= seq {
            true => Ok(()),
            false => self.health.sound(),
        }
    }
}
