//! Reads and writes through a lease: `fill` and `flush`.
//!
//! A lease knows where its blocks are, and nothing moves them while it is pinned. So a
//! command needs no look-up and no slot: it pins the lease in its lane's own counters, which
//! nobody else writes, and is off. The place of a buffer is kept with it and looked up anew
//! when the lease's number has changed.
//!
//! What is not that simple becomes a task: several extents, holes, a lease that its own
//! session has made stale, and a flush of what was written before a recall.

use super::Volume;
use super::lease::LeaseCore;
use super::queue::{Refused, VolumeQueue};
use super::write::B;
use crate::arbiter::Id;
use crate::error::{Error, ErrorKind, Result};
use crate::lane::{Finished, Io, LeaseTag, Leased, Plain, all};
use freehold_engine::memory::Buffer;
use freehold_engine::pin::LongPin;
use std::pin::Pin;
use std::sync::Arc;

/// Where in its lease a buffer lies, and where that is on the medium as far as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseAt {
    /// Byte of the file; a multiple of 4096.
    offset: u64,
    /// Which lease it was looked up in, and that lease's number then.
    seq: (Id, u64),
    /// The block, and how many follow it in one written extent.
    phys: Option<(u64, u64)>,
}

impl LeaseAt {
    /// A place in a file, not yet looked up.
    pub fn new(offset: u64) -> Self {
        LeaseAt { offset, seq: (0, 0), phys: None }
    }

    /// Byte of the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl LeaseCore {
    /// The place as the pinned lease has it, and the block if all of it is one extent.
    fn locate(&self, at: LeaseAt, bytes: usize) -> (LeaseAt, Option<u64>) {
        let at = match (self.id(), self.pin.seq()) {
            seq if seq == at.seq => at,
            seq => LeaseAt { seq, phys: self.extent_of(at.offset / B), ..at },
        };
        (at, at.phys.and_then(|(phys, n)| (bytes as u64 / B <= n).then_some(phys)))
    }

    /// Where a block stands, and how many of its extent follow from it on.
    fn extent_of(&self, block: u64) -> Option<(u64, u64)> {
        let l = self.layout();
        let i = l.extents.partition_point(|(k, _)| *k <= block);
        let (k, e) = &l.extents[i.checked_sub(1)?];
        let end = k + u64::from(e.len);
        (block < end && !e.unwritten).then(|| (e.phys + (block - k), end - block))
    }
}

impl VolumeQueue {
    /// Reads the lease's bytes at a place into the buffer, which the command owns until it
    /// completes. Short at the end of the lease, zeroes behind that.
    ///
    /// # Errors
    /// [`Refused`], with the buffer: without an error when the queue is full.
    pub fn fill(
        &mut self,
        lease: &Arc<LeaseCore>,
        at: LeaseAt,
        buf: Buffer,
        tag: u64,
    ) -> std::result::Result<(), Refused> {
        self.through(lease, at, buf, (tag, false, false))
    }

    /// Writes the buffer to the lease's place; with `durable`, through to the medium.
    ///
    /// # Errors
    /// [`Refused`], with the buffer: without an error when the queue is full; `Invalid`
    /// for a lease that does not write.
    pub fn flush(
        &mut self,
        lease: &Arc<LeaseCore>,
        at: LeaseAt,
        buf: Buffer,
        (tag, durable): (u64, bool),
    ) -> std::result::Result<(), Refused> {
        let error = match lease.access().writes() {
            true => self.vol.health.writable().err(),
            false => Some(Error::new(
                ErrorKind::Invalid,
                format!("{} does not write; take a Write or Exclusive one", lease.name()),
            )),
        };
        match error {
            Some(e) => Err(Refused { buf: Some(buf), error: Some(e) }),
            None => self.through(lease, at, buf, (tag, true, durable)),
        }
    }

    fn through(
        &mut self,
        lease: &Arc<LeaseCore>,
        at: LeaseAt,
        buf: Buffer,
        (tag, write, durable): (u64, bool, bool),
    ) -> std::result::Result<(), Refused> {
        if let Err(e) = self.may_go_through(lease, at, &buf) {
            return Err(Refused { buf: Some(buf), error: Some(e) });
        }
        let mut inner = self.lane.lock();
        let mut buf = buf;
        if buf.len() <= self.max_transfer
            && let Some(i) = inner.free_plain.pop()
        {
            let pinned = inner.pins.submit(lease.pins());
            let found = pinned.ok().map(|pin| (pin, lease.locate(at, buf.len())));
            match found {
                Some((pin, (at, Some(phys)))) => {
                    let bytes = lease.valid(at.offset, buf.len());
                    let plain = match write {
                        true => Plain::write(tag, phys, buf.len(), durable),
                        false => Plain::read(tag, phys, bytes),
                    };
                    let tag = LeaseTag { lease: lease.clone(), at, write };
                    let leased = Leased { tag, pin };
                    let begun = inner.begin_leased(&self.lane, i, plain, buf, leased);
                    return begun.map_err(|(buf, error)| Refused { buf: Some(buf), error });
                }
                Some((pin, _)) => inner.pins.complete(lease.pins(), pin),
                None => {}
            }
            inner.free_plain.push(i);
        }
        if !inner.has_room() {
            return Err(Refused { buf: Some(buf), error: None });
        }
        let (vol, lease) = (self.vol.clone(), lease.clone());
        inner.spawn(&self.lane, |io| async move {
            let io = io.of(lease.session().id());
            let result = vol.command_task(&io, &lease, at.offset, &mut buf, (write, durable)).await;
            let lease = Some(LeaseTag { lease, at, write });
            io.finish(Finished { tag, result, buf: Some(buf), lease });
        });
        Ok(())
    }

    fn may_go_through(&self, lease: &LeaseCore, at: LeaseAt, buf: &Buffer) -> Result<()> {
        self.vol.not_in_action()?;
        let (start, end) = lease.range();
        let inside = at.offset >= start && at.offset < end.max(start + 1);
        let reach = at.offset.checked_add(buf.len() as u64);
        if !Arc::ptr_eq(lease.file().volume(), &self.vol)
            || !at.offset.is_multiple_of(B)
            || !inside
            || reach.is_none_or(|reach| reach > end.next_multiple_of(B))
        {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "{} bytes at {} are not whole blocks inside {}",
                    buf.len(),
                    at.offset,
                    lease.name()
                ),
            ));
        }
        Ok(())
    }
}

/// Keeps a task's lease as it is; none pins it where the flush is behind a recall.
struct Using<'a> {
    lease: &'a LeaseCore,
    pin: Option<LongPin>,
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        self.lease.command_over();
    }
}

impl Volume {
    /// A read or write through a lease that is no single command.
    async fn command_task(
        self: &Arc<Self>,
        io: &Io,
        lease: &Arc<LeaseCore>,
        offset: u64,
        buf: &mut Buffer,
        (write, durable): (bool, bool),
    ) -> Result<usize> {
        let _using = self.use_lease(io, lease, write).await?;
        let (first, blocks) = (offset / B, buf.len() as u64 / B);
        let runs = lease.runs(first, blocks, u64::from(self.medium.geometry().max_transfer) / B);
        let mut rest = self.medium.pool().take(1)?;
        std::mem::swap(&mut rest, buf);
        let mut parts: Vec<Pin<Box<dyn Future<Output = Result<Buffer>> + Send>>> = Vec::new();
        for (at, _, phys) in runs.into_iter().rev() {
            let mut part = rest.split_off(((at - first) * B) as usize);
            let io = io.clone();
            parts.push(Box::pin(async move {
                match (phys, write) {
                    (Some(phys), true) => io.write(phys, part, durable).await,
                    (Some(phys), false) => io.read(phys, part).await,
                    (None, false) => {
                        part.fill(0);
                        Ok(part)
                    }
                    (None, true) => Err(Error::new(
                        ErrorKind::Invalid,
                        "a part of the lease has no blocks to write to",
                    )),
                }
            }));
        }
        parts.reverse();
        let done = super::read::rejoin(all(parts).await, None);
        let valid = lease.valid(offset, (blocks * B) as usize);
        match done {
            Ok(whole) => {
                *buf = whole;
                if !write {
                    buf[valid..].fill(0);
                }
                Ok(if write { buf.len() } else { valid })
            }
            Err((e, part)) => {
                if let Some(part) = part {
                    *buf = part;
                }
                Err(e)
            }
        }
    }

    /// Pins the lease, refreshes it first where that is called for, or lets a flush go
    /// behind a recall that allows it.
    async fn use_lease<'a>(
        self: &Arc<Self>,
        io: &Io,
        lease: &'a Arc<LeaseCore>,
        write: bool,
    ) -> Result<Using<'a>> {
        loop {
            // Counted first: who finds the pin finds the command.
            lease.command_begins();
            let using = Using { lease, pin: lease.pin.hold().ok() };
            if using.pin.is_some() {
                return Ok(using);
            }
            if lease.is_stale() {
                drop(using);
                self.refresh_task(io, lease).await?;
                continue;
            }
            let late = lease.file.state().guards.with(|t| write && lease.flush_late(t));
            return match late {
                true => Ok(using),
                false => Err(lease.refusal()),
            };
        }
    }
}
