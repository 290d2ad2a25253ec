//! Leases that are overdue and still pinned, on media that the CPU reaches (law R4, 3).
//!
//! What pins a *window* may read or write the blocks until it lets go. So the blocks get
//! one more owner, which is on no medium ([`crate::quarantine`]): nobody overwrites them
//! in place or uses them again. No node changes for it, which a full store could not do:
//! while a file has such blocks its guard keeps plain writes from the fast way, and the
//! exact way asks for them. That is all for pins that only read. A pin that may write
//! would change its file behind everybody's back: the file moves off first. Its
//! bytes are copied to fresh blocks, which may tear what is being written, and the late
//! writer goes on in blocks that are nobody's.
//!
//! DMA memory is the holder's own: nothing is kept from anybody but that memory, which
//! stays with its pins.

use super::Volume;
use super::admit::{Ticket, refused};
use super::core::Class;
use super::hold::Held;
use super::layout::Is;
use super::lease::LeaseCore;
use super::ranges::extents_in;
use super::revoke::Taking;
use super::write::{B, How, Part};
use crate::arbiter::{Change, Ids, Request, Span};
use crate::error::{ErrorKind, Result};
use crate::format::types::{Addr, Extent, Record};
use crate::lane::Io;
use smallvec::smallvec;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Blocks that are moved at a time.
const SLICE: u64 = 256;

/// A session's leases keep at most this part of the store in quarantine.
const MOST: u64 = 8;

/// A lease that has been taken and is pinned still.
pub(crate) struct Kept {
    lease: Arc<LeaseCore>,
    blocks: Vec<(Addr, u64)>,
}

/// Leases in quarantine, as [`Volume::inflight`] shows them.
impl Kept {
    pub(super) fn lease(&self) -> &Arc<LeaseCore> {
        &self.lease
    }

    pub(super) fn bytes(&self) -> u64 {
        self.blocks.iter().map(|(_, n)| n * B).sum()
    }
}

impl Volume {
    /// Sees to it that the lease's pins reach nothing that belongs to anybody.
    pub(super) async fn quarantine(
        self: &Arc<Self>,
        io: &Io,
        lease: &Arc<LeaseCore>,
    ) -> Result<()> {
        if !lease.is_window() {
            return Ok(());
        }
        let (extents, kept): (Vec<(u64, Extent)>, bool) = {
            let l = lease.layout();
            (l.extents().collect(), l.is.contains(Is::KEPT))
        };
        // A fence before this one may have moved a part, and failed then: what its pins
        // reach has stayed in quarantine.
        if !kept {
            let blocks: Vec<(Addr, u64)> =
                extents.iter().map(|(_, e)| (e.phys, u64::from(e.len))).collect();
            let sum: u64 = blocks.iter().map(|(_, n)| n).sum();
            if lease.session().quarantined.load(Ordering::Acquire) + sum > self.blocks / MOST {
                let why = "its session has too much in quarantine already";
                return Err(self.still_held(lease, why));
            }
            self.enter_quarantine(io, Kept { lease: lease.clone(), blocks }, sum).await;
        }
        if lease.access().writes() && !crate::sabotage::breaks("stay-under-writers") {
            self.move_off(io, lease, &extents).await?;
        }
        Ok(())
    }

    /// The blocks get their one more owner. The range is held: who has asked whether it may
    /// overwrite them in place must not find afterwards that it has to map others, which
    /// it has not asked for.
    async fn enter_quarantine(self: &Arc<Self>, io: &Io, kept: Kept, sum: u64) {
        let lease = kept.lease.clone();
        let (file, (start, end)) = (lease.file_state(), lease.blocks());
        let _held = self.hold(io, file, start, end).await;
        {
            let mut core = self.core();
            kept.blocks.iter().for_each(|(at, n)| core.lowerings.quarantine.add(*at, *n));
        }
        lease.session().quarantined.fetch_add(sum, Ordering::AcqRel);
        file.guards.with(|t| t.kept += 1);
        lease.layout().is |= Is::KEPT;
        self.leasing.kept.lock().expect("no holder panics").push(kept);
        // Its pins may have gone meanwhile, and told nobody who listened.
        self.look_at_kept();
    }

    /// Copies the file's blocks in the lease to fresh ones, and maps those.
    async fn move_off(
        self: &Arc<Self>,
        io: &Io,
        lease: &Arc<LeaseCore>,
        extents: &[(u64, Extent)],
    ) -> Result<()> {
        for (k, e) in extents {
            let mut done = 0;
            while done < u64::from(e.len) {
                let n = (u64::from(e.len) - done).min(SLICE);
                let moved = self.move_blocks(io, lease, (k + done, e.phys + done, n)).await;
                done += match moved {
                    Ok(n) => n,
                    Err(e) if e.kind() == ErrorKind::NoSpace => {
                        return Err(self.still_held(lease, "there is no space to move its blocks"));
                    }
                    Err(e) if e.kind() == ErrorKind::Sealed => {
                        return Err(self.still_held(lease, "a seal forbids to move its blocks"));
                    }
                    Err(e) => return Err(e),
                };
            }
        }
        Ok(())
    }

    /// Moves some blocks, or as many as one free run takes.
    async fn move_blocks(
        self: &Arc<Self>,
        io: &Io,
        lease: &Arc<LeaseCore>,
        (block, from, len): (u64, Addr, u64),
    ) -> Result<u64> {
        let file = lease.file_state();
        let _held = self.hold_to_move(io, lease, Span { start: block, end: block + len }).await?;
        let found = self.look(io, |_| extents_in(&file.load(), block, block + len)).await?;
        // A part of it was moved already, by a fence that did not come to its end.
        // Or its file is shorter now.
        let e = match found.iter().find(|(k, e, _)| e.phys == from + (k - block)) {
            None => return Ok(len),
            Some((k, ..)) if *k > block => return Ok(k - block),
            Some((_, e, _)) => e,
        };
        let len = len.min(u64::from(e.len));
        let (to, len) = self
            .change(io, |core| {
                core.admit(Class::Normal, len)?;
                core.space.alloc(0, len, 0)
            })
            .await?;
        let done = match self.copy_pinned(io, from, to, len).await {
            Ok(()) => {
                let extents =
                    smallvec![(block, Extent { phys: to, len: len as u32, own: true, ..*e })];
                let record = Record::Map { file: file.id, start: block, len, size: 0, extents };
                self.change(io, |core| core.execute(Class::Normal, &record)).await.map(drop)
            }
            Err(e) => Err(e),
        };
        if let Err(e) = done {
            self.give_back(&[Part { block, len, phys: to, how: How::New }]);
            return Err(e);
        }
        Ok(len)
    }

    /// Takes blocks off which the file is to be moved. Whoever else has a lease on them gives
    /// it up first, or is fenced in turn: its layout is not true any more. What is in
    /// quarantine itself waits for nobody, so that of two neither waits for the other.
    async fn hold_to_move(
        self: &Arc<Self>,
        io: &Io,
        lease: &Arc<LeaseCore>,
        span: Span,
    ) -> Result<Held> {
        let file = lease.file_state();
        let mut ticket = Ticket::default();
        loop {
            let held = self.hold(io, file, span.start, span.end).await;
            let mut out = Taking::default();
            let left: Result<Ids> = file.guards.with(|t| {
                let spans = [span];
                // No byte changes by it.
                let change = Change::Allocate;
                let ask =
                    Request { session: 0, change, spans: &spans, ticket: ticket.number(self) };
                let mut ids = t.arbiter.recalls(&ask).map_err(|why| refused(&why))?;
                let others: Vec<_> = ids.iter().filter_map(|id| t.lease(*id)).collect();
                ids.retain(|id| {
                    !others.iter().any(|l| l.id() == *id && l.layout().is.contains(Is::KEPT))
                });
                out.keep(others);
                if !ids.is_empty() {
                    ids = self.recall(t, file.id, &ids, &[ask], &mut out);
                    ticket.recalls((self, file), t, &ask);
                }
                Ok(ids)
            });
            self.tell_taken(out);
            let left = left?;
            if left.is_empty() {
                return Ok(held);
            }
            drop(held);
            let mut overdue = Ids::new();
            io.until(|| self.take_idle(file, &left, &mut overdue) || self.health.sound().is_err())
                .await;
            self.health.sound()?;
            for id in overdue {
                // Theirs may move blocks, too.
                self.fence(io, file, id).await?;
            }
        }
    }

    /// Does a pin of a lease that was taken reach any of these?
    pub(super) fn any_in_quarantine(&self, extents: &[(u64, Extent)]) -> bool {
        let core = self.core();
        let quarantine = &core.lowerings.quarantine;
        extents.iter().any(|(_, e)| quarantine.quiet(e.phys, u64::from(e.len)) < u64::from(e.len))
    }

    /// Copies blocks that somebody may be writing as memory: they may come out torn.
    async fn copy_pinned(self: &Arc<Self>, io: &Io, from: Addr, to: Addr, len: u64) -> Result<()> {
        let Some(memory) = self.medium.window_memory() else {
            return self.copy_blocks(io, from, to, len).await;
        };
        let mut buf = self.medium.pool().take((len * B) as usize)?;
        memory.salvage(from * B, &mut buf)?;
        io.write(to, buf, false).await.map(drop)
    }

    /// Lets go of what nothing reaches any more.
    pub(super) fn release_quiet(&self) {
        let quiet: Vec<Kept> = {
            let mut kept = self.leasing.kept.lock().expect("no holder panics");
            kept.extract_if(.., |k| k.lease.pins().is_quiet()).collect()
        };
        for kept in &quiet {
            self.let_go(kept);
        }
    }

    /// No handle is left: the leases that are kept must not keep the store, which has them.
    /// What is in quarantine stays there for as long as its pins keep the store.
    pub(super) fn forget_kept(&self) {
        let kept = std::mem::take(&mut *self.leasing.kept.lock().expect("no holder panics"));
        let left = std::mem::take(&mut *self.leasing.left.lock().expect("no holder panics"));
        drop((kept, left));
    }

    /// Fails while pins of leases that were taken reach blocks.
    pub(super) fn none_is_kept(&self) -> Result<()> {
        self.release_quiet();
        let first = {
            let kept = self.leasing.kept.lock().expect("no holder panics");
            kept.first().map(|k| k.lease.clone())
        };
        first.map_or(Ok(()), |lease| Err(self.still_held(&lease, "is pinned still")))
    }

    /// The maintenance lane looks after it.
    pub(super) fn look_at_kept(&self) {
        self.duty.kept.store(true, Ordering::Release);
        self.duty.any.store(true, Ordering::Release);
    }

    fn let_go(&self, kept: &Kept) {
        self.leave_window(&kept.lease);
        let sum: u64 = kept.blocks.iter().map(|(_, n)| n).sum();
        kept.lease.session().quarantined.fetch_sub(sum, Ordering::AcqRel);
        kept.lease.file_state().guards.with(|t| t.kept -= 1);
        let mut core = self.core();
        for (at, n) in &kept.blocks {
            for (start, len) in core.lowerings.quarantine.remove(*at, *n) {
                core.space.reclaim(start, len);
            }
        }
    }
}
