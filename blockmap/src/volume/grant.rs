//! Giving leases (design section 5).
//!
//! A lease is given over blocks that are where the map, durably, says: nothing of the
//! range is late (law B7), the last record of the file is durable, and for writing all of it
//! is written and the file's alone. The range is held meanwhile, so that no
//! write is in flight (law B6) and nobody changes the map between the look and the grant.
//!
//! Most leases need none of that work: the map is in memory, durable, and says that all is
//! well. These are given at once, without a task ([`Volume::lease_now`]).

use super::Volume;
use super::admit::{Asks, Ticket, asks};
use super::file::{FileHandle, FileState};
use super::layout::{Found, Is, Layout};
use super::lease::LeaseCore;
use super::plan::decide;
use super::ranges::extents_in;
use super::sessions::SessionCore;
use super::write::{B, How, Part, check_range};
use crate::arbiter::{self, Access, Change, Id, LeaseEntry};
use crate::error::{Error, ErrorKind, Result};
use crate::format::types::Extent;
use crate::lane::Io;
use crate::tree::Fault;
use freehold_engine::pin::{PinState, State};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Blocks that are made ready for a lease at a time.
const STEP: u64 = 256;

/// The longest time that a holder can declare.
pub const MOST_HOLD: Duration = Duration::from_secs(30);

/// What a lease is asked for.
#[derive(Debug, Clone, Copy)]
pub struct LeaseSpec {
    /// What it is to allow.
    pub access: Access,
    /// How long the holder may need to return it, beside the store's lease time.
    pub max_hold: Duration,
}

/// What a lease that is given is over.
pub(super) enum Source<'a> {
    /// Blocks of the file, as they stand there.
    File(Layout),
    /// Blocks of another lease.
    Part(&'a Arc<LeaseCore>, (u64, u64)),
}

/// File blocks and the byte at which they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    start: u64,
    end: u64,
    end_byte: u64,
}

impl Volume {
    /// A lease on a range of a file, rounded up to whole blocks. Blocks while
    /// others are in the way, and for what has to be allocated, written or made durable.
    ///
    /// # Errors
    /// `Invalid` for a range that is empty or not inside the file, for a hold that is longer
    /// than [`MOST_HOLD`], and where the session has ended; `Sealed`; `Busy` where a
    /// holder that is overdue cannot be fenced; `WouldDeadlock`; for writing `NoSpace`
    /// and `ReadOnly`.
    pub fn lease(
        self: &Arc<Self>,
        file: &FileHandle,
        who: &Arc<SessionCore>,
        (off, len): (u64, u64),
        spec: LeaseSpec,
    ) -> Result<Arc<LeaseCore>> {
        self.not_in_action()?;
        check_range(off, len)?;
        who.may_hold()?;
        who.goes_on()?;
        if spec.max_hold > MOST_HOLD {
            let text = format!("a lease is held back for {MOST_HOLD:?} at the most: ask for less");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        match spec.access.writes() {
            true => self.health.writable()?,
            false => self.health.sound()?,
        }
        // What was recalled for it stays recalled if it has to wait.
        let mut ticket = Ticket::default();
        if let Some(lease) = self.lease_now(file, who, (off, len), spec, &mut ticket)? {
            if spec.access == Access::Exclusive && !self.nobody_reads() {
                let vol = self.clone();
                self.run_as(who.id(), move |io| async move {
                    vol.readers_gone(&io).await;
                    Ok(())
                })?;
            }
            return Ok(lease);
        }
        let (vol, file, who) = (self.clone(), file.clone(), who.clone());
        self.run_as(who.id(), move |io| async move {
            vol.lease_task(&io, &file, &who, (off, len), spec, ticket).await
        })
    }

    /// As [`Volume::lease`], if there is nothing to wait for.
    fn lease_now(
        self: &Arc<Self>,
        file: &FileHandle,
        who: &Arc<SessionCore>,
        (off, len): (u64, u64),
        spec: LeaseSpec,
        ticket: &mut Ticket,
    ) -> Result<Option<Arc<LeaseCore>>> {
        let state = file.state();
        let place = self.place(state, off, len)?;
        let Some(_held) = self.hold_now(state, place.start, place.end) else { return Ok(None) };
        if self.place(state, off, len)?.end_byte != place.end_byte {
            return Ok(None);
        }
        // The fault, if there is one, is for the other way.
        let Ok(Some(layout)) = self.ready(state, place, spec.access) else { return Ok(None) };
        let ask = grant_asks(spec.access, false, place);
        if self.ask_arbiter(who.id(), state, ticket, &ask)?.is_some() {
            return Ok(None);
        }
        let number = ticket.number(self);
        self.give(file, who, (number, spec), Source::File(layout)).map(Some)
    }

    async fn lease_task(
        self: &Arc<Self>,
        io: &Io,
        file: &FileHandle,
        who: &Arc<SessionCore>,
        (off, len): (u64, u64),
        spec: LeaseSpec,
        mut ticket: Ticket,
    ) -> Result<Arc<LeaseCore>> {
        let state = file.state();
        loop {
            let place = self.place(state, off, len)?;
            let held = self.hold(io, state, place.start, place.end).await;
            if self.place(state, off, len)?.end_byte != place.end_byte {
                continue;
            }
            let fit = self.look(io, |vol| vol.ready(state, place, spec.access)).await?;
            let wants = fit.is_none() && spec.access.writes();
            let asks = grant_asks(spec.access, wants, place);
            // A grant asks although there is nothing yet: it queues behind who waits.
            if let Some(wait) = self.ask_arbiter(who.id(), state, &mut ticket, &asks)? {
                drop(held);
                self.wait_for(io, state, wait).await?;
                continue;
            }
            let layout = self.make_ready(io, state, place, spec.access).await?;
            let number = ticket.number(self);
            let lease = self.give(file, who, (number, spec), Source::File(layout))?;
            drop(held);
            if spec.access == Access::Exclusive {
                self.readers_gone(io).await;
            }
            return Ok(lease);
        }
    }

    /// Looks a lease up again whose own session changed the map. Blocks.
    ///
    /// # Errors
    /// `Revoked` if it is gone, `Recalled` while it is asked for back; as [`Volume::lease`].
    pub fn refresh(self: &Arc<Self>, lease: &Arc<LeaseCore>) -> Result<()> {
        self.not_in_action()?;
        if !lease.is_stale() {
            return match lease.pins().state() == State::Held || self.resume(lease) {
                true => Ok(()),
                false => Err(lease.refusal()),
            };
        }
        if lease.is_recalled() {
            return Err(lease.refusal());
        }
        let (vol, lease) = (self.clone(), lease.clone());
        self.run_as(
            lease.session().id(),
            move |io| async move { vol.refresh_task(&io, &lease).await },
        )
    }

    pub(super) async fn refresh_task(
        self: &Arc<Self>,
        io: &Io,
        lease: &Arc<LeaseCore>,
    ) -> Result<()> {
        let file = lease.file_state();
        let mut ticket = Ticket::default();
        loop {
            let (start, end) = lease.range();
            let place = self.place(file, start, end - start)?;
            let held = self.hold(io, file, place.start, place.end).await;
            if lease.layout().is.contains(Is::GONE) {
                return Err(lease.refusal());
            }
            // The file's end, or what the lease has, may be another than before the wait.
            if lease.range() != (start, end) || self.place(file, start, end - start)? != place {
                continue;
            }
            let fit = self.look(io, |vol| vol.ready(file, place, lease.access())).await?;
            if lease.is_recalled()
                && let Some(number) = lease.ticket()
            {
                // What is flushed so that it can be returned.
                ticket.comes_again(number);
            }
            if fit.is_none() && lease.access().writes() {
                let asks = asks(&[Change::Fill], &[(place.start, place.end)]);
                if let Some(wait) = self.ask_arbiter(io.who, file, &mut ticket, &asks)? {
                    drop(held);
                    self.wait_for(io, file, wait).await?;
                    continue;
                }
            }
            // What it has just asked for is a change of its own, too.
            let changes = lease.layout().changes();
            let layout = self.make_ready(io, file, place, lease.access()).await?;
            let mut held = Some(held);
            if lease.access() == Access::Exclusive {
                held = None;
                // It gives no pins before. Whoever begins meanwhile is seen in `changes`.
                self.readers_gone(io).await;
            }
            let installed = self.install(lease, layout, changes);
            drop(held);
            match installed && (self.resume(lease) || lease.pins().state() == State::Held) {
                true => return Ok(()),
                // Its session has gone on changing the map.
                false if lease.is_stale() => io.pause().await,
                false => return Err(lease.refusal()),
            }
        }
    }

    /// A lease is where its layout says, unless it has ended, was returned in part, or an
    /// operation of its own session has begun since that was looked up.
    fn install(&self, lease: &LeaseCore, layout: Layout, changes: u64) -> bool {
        lease.file_state().guards.with(|t| {
            let mut l = lease.layout();
            let range = (layout.start(), layout.end());
            let same = (l.start(), l.end()) == range && l.changes() == changes;
            let ends =
                matches!(t.arbiter.state(lease.id()), None | Some(arbiter::State::Fencing { .. }));
            if l.is.contains(Is::GONE) || ends || !same {
                return false;
            }
            l.install(&layout);
            t.arbiter.refresh(lease.id());
            true
        })
    }

    /// Which blocks a range is.
    fn place(&self, file: &FileState, off: u64, len: u64) -> Result<Place> {
        let size = file.load().size;
        let end = off + len;
        if len == 0 || end > size.next_multiple_of(B) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "a lease lies inside its file: bytes {off}..{end} of {size}; \
                     allocate or truncate the file to its size first"
                ),
            ));
        }
        if len.div_ceil(B) >= u64::from(u32::MAX) {
            return Err(too_long());
        }
        // Law B12: nothing of a block past the end of the file.
        let blocks = end.next_multiple_of(B);
        Ok(Place { start: off / B, end: blocks / B, end_byte: blocks.min(size) })
    }

    /// What stands there, if a lease may be given over it as it is. The range is held.
    fn ready(
        &self,
        file: &FileState,
        place: Place,
        access: Access,
    ) -> std::result::Result<Option<Layout>, Fault> {
        let careless = crate::sabotage::breaks("lease-over-logged");
        let marked = if careless { u64::MAX } else { self.marked.load(Ordering::Acquire) };
        if file.last_seq.load(Ordering::Acquire) > self.durable()
            || file.logged.overlaps(place.start, place.end, marked)
        {
            return Ok(None);
        }
        let v = file.load();
        let mut extents = Found::new();
        let mut at = place.start;
        for (k, e, current) in extents_in(&v, place.start, place.end)? {
            let writable = k == at && !e.unwritten && e.own && current;
            if access.writes() && !writable {
                return Ok(None);
            }
            at = k + u64::from(e.len);
            if self.late.may_have(e.phys, u64::from(e.len)) && !careless {
                return Ok(None);
            }
            push(&mut extents, k, e);
        }
        if access.writes() && (at < place.end || self.any_in_quarantine(&extents)) {
            return Ok(None);
        }
        Ok(Layout::new((place.start, place.end), place.end_byte, &extents))
    }

    /// Brings the range into a state in which a lease can be given. It is held, and the
    /// arbiter has said that it may be changed.
    async fn make_ready(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        place: Place,
        access: Access,
    ) -> Result<Layout> {
        self.unlog(io, file, place.start, place.end).await?;
        if access.writes() {
            let mut at = place.start;
            while at < place.end {
                let to = place.end.min(at + STEP);
                self.own_blocks(io, file, (at, to), place.end_byte).await?;
                at = to;
            }
        }
        let last = file.last_seq.load(Ordering::Acquire);
        if last > self.durable() {
            self.committed(io, last).await?;
        }
        let found = self.look(io, |_| extents_in(&file.load(), place.start, place.end)).await?;
        let mut extents = Found::new();
        for (k, e, _) in found {
            // Law B7: the medium is read from now on.
            if !self.late.among(e.phys, u64::from(e.len)).is_empty() {
                self.health.writable()?;
            }
            self.blocks_home(io, e.phys, u64::from(e.len)).await?;
            push(&mut extents, k, e);
        }
        Layout::new((place.start, place.end), place.end_byte, &extents).ok_or_else(too_long)
    }

    /// Law B7: no journal that a crash would replay holds bytes for blocks of the range. A
    /// checkpoint brings them home and ends that; the range is held, and nobody defers a
    /// write any more. Asked by address: they may have been logged through another file.
    pub(super) async fn unlog(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        start: u64,
        end: u64,
    ) -> Result<()> {
        let logged = self
            .look(io, |vol| {
                let found = extents_in(&file.load(), start, end)?;
                let core = vol.core();
                let run = |e: &Extent| core.logged.run(e.phys, u64::from(e.len));
                Ok(found.iter().any(|(_, e, _)| run(e) != (false, u64::from(e.len))))
            })
            .await?;
        match logged && !crate::sabotage::breaks("lease-over-logged") {
            // Where nothing is written, nothing comes home.
            true => {
                self.health.writable()?;
                self.next_checkpoint(io).await
            }
            false => Ok(()),
        }
    }

    /// Makes blocks written and the file's alone: what is not is written anew, with its own
    /// bytes or zeroes.
    async fn own_blocks(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        (first, last): (u64, u64),
        end_byte: u64,
    ) -> Result<()> {
        let parts = self
            .look(io, |vol| {
                let mut core = vol.core();
                decide(&mut core, file, (first, last), vol.durable(), false).map(|(_, parts)| parts)
            })
            .await?;
        self.change(io, |core| {
            super::plan::remember_own(core, file, &parts);
            Ok(())
        })
        .await?;
        for Part { block, len, how, phys } in parts.into_iter().filter(|p| p.how != How::Place) {
            if how == How::New && phys != 0 {
                self.own_extents(io, file, (block, block + len), end_byte).await?;
                continue;
            }
            let mut buf = self.medium.pool().take((len * B) as usize)?;
            buf.fill(0);
            let bytes = (len * B).min(end_byte.saturating_sub(block * B)) as usize;
            if bytes > 0 {
                self.write_held(io, file, block * B, buf, bytes).await.map_err(|(e, _)| e)?;
            }
        }
        Ok(())
    }

    /// Enters the lease; nothing may stand in its way, and the session must go on: who ends
    /// it says so before it looks here.
    pub(super) fn give(
        self: &Arc<Self>,
        file: &FileHandle,
        who: &Arc<SessionCore>,
        (id, spec): (Id, LeaseSpec),
        source: Source<'_>,
    ) -> Result<Arc<LeaseCore>> {
        let pin = PinState::new(self.bell());
        let parent = match &source {
            Source::File(_) => None,
            Source::Part(parent, _) => Some(*parent),
        };
        let given = file.state().guards.with(|t| {
            who.goes_on()?;
            let layout = match source {
                Source::File(layout) => Some(layout),
                Source::Part(parent, at) => self.part_of(t, parent, at)?,
            };
            let Some(layout) = layout else { return Ok(None) };
            let span = crate::arbiter::Span { start: layout.start(), end: layout.end() };
            let tenancy = t.tenancy(file, who);
            let lease = Arc::new(LeaseCore::new(id, spec, tenancy, pin, layout));
            let given = t.arbiter.grant(LeaseEntry {
                id,
                session: who.id(),
                access: spec.access,
                span,
                seq: 1,
                max_hold_ns: lease.max_hold_ns(),
                parent: parent.map(|p| p.id()),
            });
            if given {
                t.enter(&lease);
            }
            // Its last handle does not go under the lock.
            Ok::<_, Error>(Some((lease, given)))
        });
        match (given?, parent) {
            (Some((lease, true)), _) => Ok(lease),
            (_, Some(parent)) => Err(parent.refusal()),
            (Some((lease, false)), None) => Err(lease.refusal()),
            (None, None) => Err(too_long()),
        }
    }
}

fn grant_asks(access: Access, unshares: bool, place: Place) -> Asks {
    asks(&[Change::Grant { access, unshares }], &[(place.start, place.end)])
}

fn too_long() -> Error {
    Error::new(ErrorKind::Limit, "a lease has fewer than 2^32 blocks: take several")
}

/// Neighbours in the file and on the medium are one extent.
pub(super) fn push(extents: &mut Found, k: u64, e: Extent) {
    if let Some((at, last)) = extents.last_mut() {
        let len = u64::from(last.len);
        let joins = *at + len == k && last.phys + len == e.phys && last.unwritten == e.unwritten;
        if let Some(sum) = last.len.checked_add(e.len).filter(|_| joins) {
            last.len = sum;
            return;
        }
    }
    extents.push((k, e));
}
