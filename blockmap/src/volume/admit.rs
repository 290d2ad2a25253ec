//! Asking before the map or the bytes change.
//!
//! Every operation that changes a range holds it first (law B6), then asks the file's
//! arbiter, and changes nothing before the answer is "go". Seals are set and leases are
//! granted under the same hold, so that "go" stays true until the range is given up.
//! Where something has to be recalled, the range is given up meanwhile: the holder may need
//! it to come to an end. The operation stays listed with the arbiter, and no grant or
//! seal that would stop it again overtakes it; then it begins anew.
//!
//! Reads hold nothing. They are seen first and ask afterwards; whoever gets an Exclusive
//! lease says so first and waits for those that are seen.
//!
//! Whoever waits drives what it waits for: it looks after idle leases, and at the deadline it
//! fences. There is no thread for it.

use super::Volume;
use super::file::{FileState, Version};
use super::guards::Table;
use super::hold::Held;
use super::layout::Is;
use super::lease::LeaseCore;
use super::plan::{decide, write_asks};
use super::revoke::Taking;
use super::write::{B, How};
use crate::arbiter::{
    Answer, Cause, Change, Edge, Flags, Id, Ids, Refusal, Request, SessionId, Span, State,
};
use crate::error::{Error, ErrorKind, Result};
use crate::lane::{Io, Seen};
use freehold_engine::pin::{self, PinState};
use smallvec::SmallVec;
use std::sync::Arc;

/// Changes that one operation makes, and where.
pub(super) type Asks = SmallVec<[(Change, SmallVec<[Span; 2]>); 3]>;

/// An operation's place among those that wait; given up when this goes. Costs nothing
/// before the arbiter is asked.
#[derive(Default)]
pub(super) struct Ticket {
    number: u64,
    /// The arbiter of this file has it in its list.
    listed: Option<(Arc<Volume>, Arc<FileState>)>,
}

/// What an operation has to wait for.
pub(super) enum Wait {
    /// These leases and seals, until they are gone.
    For(Ids),
    /// An older operation.
    Turn(u64),
    /// Its own session's I/O through a lease.
    Own(Ids),
}

impl Ticket {
    fn list(&mut self, vol: &Arc<Volume>, file: &Arc<FileState>) {
        self.listed.get_or_insert_with(|| (vol.clone(), file.clone()));
    }

    /// Its number, from now on.
    pub(super) fn number(&mut self, vol: &Volume) -> u64 {
        if self.number == 0 {
            self.number = vol.leasing.next_number();
        }
        self.number
    }

    /// Takes the place of an operation that is over, for what that still needs.
    pub(super) fn comes_again(&mut self, number: u64) {
        if self.number != number {
            *self = Ticket::default();
            self.number = number;
        }
    }

    /// Lists who asks without a place in the queue, and what was recalled for him.
    pub(super) fn recalls(
        &mut self,
        (vol, file): (&Arc<Volume>, &Arc<FileState>),
        t: &mut Table,
        ask: &Request,
    ) {
        self.list(vol, file);
        t.arbiter.wait(ask);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some((vol, file)) = self.listed.take() {
            vol.leave(&file, self.number);
        }
    }
}

impl Volume {
    /// Takes ranges, when nothing is in the way of what is to be changed there. That is
    /// asked for anew each time, by the file as it is while the ranges are held.
    pub(super) async fn hold_asking(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        ranges: &[(u64, u64)],
        asks: impl Fn(&Version) -> Asks + Send,
    ) -> Result<Held> {
        let mut ticket = Ticket::default();
        loop {
            let held = self.hold_all(io, file, ranges).await;
            let Some(wait) = self.may(io, file, &mut ticket, || asks(&file.load()))? else {
                return Ok(held);
            };
            drop(held);
            self.wait_for(io, file, wait).await?;
        }
    }

    /// May the operation go on, whose range is held? If not, what it has to wait for.
    pub(super) fn may(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        ticket: &mut Ticket,
        asks: impl FnOnce() -> Asks,
    ) -> Result<Option<Wait>> {
        if file.guards.are_none() {
            return Ok(None);
        }
        self.ask_arbiter(io.who, file, ticket, &asks())
    }

    /// Asks for all of it, takes what is idle, and lists what is not.
    pub(super) fn ask_arbiter(
        self: &Arc<Self>,
        who: SessionId,
        file: &Arc<FileState>,
        ticket: &mut Ticket,
        asks: &Asks,
    ) -> Result<Option<Wait>> {
        if crate::sabotage::breaks("no-ask") {
            return Ok(None);
        }
        let mut taken = Taking::default();
        ticket.number(self);
        let wait = file.guards.with(|t| self.ask_locked(t, (who, file), ticket, asks, &mut taken));
        if matches!(wait, Ok(None)) && ticket.listed.is_some() {
            // It keeps its place among those that ask, and waits for nobody.
            self.leasing.waits().remove(ticket.number);
        }
        // Their last handles may go here, outside of the lock.
        self.tell_taken(taken);
        wait
    }

    fn ask_locked(
        self: &Arc<Self>,
        t: &mut Table,
        (who, file): (SessionId, &Arc<FileState>),
        ticket: &mut Ticket,
        asks: &Asks,
        taken: &mut Taking,
    ) -> Result<Option<Wait>> {
        let number = ticket.number;
        let all: SmallVec<[Request<'_>; 3]> = asks
            .iter()
            .map(|(change, spans)| Request { session: who, change: *change, spans, ticket: number })
            .collect();
        loop {
            let ids = match t.arbiter.admit_all(&all, super::clock()) {
                Answer::Go | Answer::Round(_) => return Ok(None),
                Answer::Refused(why) => return Err(refused(&why)),
                Answer::Behind(older) => {
                    ticket.list(self, file);
                    // Who is in front may wait for leases of this session, and that for
                    // what this session's thread would do if it did not wait here.
                    let front = t.arbiter.claimant(older).map(|who| (who, Cause::Turn(older)));
                    self.wait_on(number, who, front.as_slice())?;
                    return Ok(Some(Wait::Turn(older)));
                }
                Answer::Own(ids) => {
                    let left = self.suspend(t, &ids, taken)?;
                    return Ok((!left.is_empty()).then_some(Wait::Own(left)));
                }
                Answer::Take(ids) => {
                    self.take_own(t, &ids, taken)?;
                    continue;
                }
                Answer::Recall(ids) => ids,
            };
            let seals = |r: &Request<'_>| matches!(r.change, Change::Seal { .. });
            if all.iter().any(seals) && crate::sabotage::breaks("seal-undrained") {
                return Ok(None);
            }
            ticket.list(self, file);
            let left = self.recall(t, file.id, &ids, &all, taken);
            if !left.is_empty() {
                self.enlist(t, number, who, &left)?;
                return Ok(Some(Wait::For(left)));
            }
        }
    }

    /// Whoever waits for whom is noted, and a circle refused.
    fn enlist(&self, t: &Table, ticket: u64, who: SessionId, holders: &[Id]) -> Result<()> {
        let edge = |id: &Id| Some((t.arbiter.entry(*id)?.holder.session, Cause::Held(*id)));
        let edges: SmallVec<[Edge; 4]> = holders.iter().filter_map(edge).collect();
        self.wait_on(ticket, who, &edges)
    }

    fn wait_on(&self, ticket: u64, who: SessionId, edges: &[Edge]) -> Result<()> {
        self.leasing.waits().add(ticket, who, edges).map_err(|by| {
            Error::new(
                ErrorKind::WouldDeadlock,
                format!(
                    "session {} holds a lease that is in the way and waits for this session in \
                     turn; return a lease and try again",
                    by.holder
                ),
            )
        })
    }

    /// A lease or seal of this table is in nobody's way any more.
    pub(super) fn in_no_way(&self, t: &Table, id: Id) {
        // Whoever waits is listed.
        if t.arbiter.claims().next().is_some() {
            self.leasing.waits().over(Cause::Held(id));
        }
    }

    /// Waits until there is a point in asking again. No range is held.
    pub(super) async fn wait_for(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        wait: Wait,
    ) -> Result<()> {
        let ids = match wait {
            Wait::Turn(older) => {
                let waits = |t: &Table| t.arbiter.claimant(older).is_some();
                io.until(|| !file.guards.look(waits).unwrap_or(false)).await;
                return Ok(());
            }
            Wait::Own(ids) => {
                io.until(|| self.own_use_over(file, &ids)).await;
                return Ok(());
            }
            Wait::For(ids) => ids,
        };
        let mut overdue = Ids::new();
        io.until(|| self.take_idle(file, &ids, &mut overdue) || self.health.sound().is_err()).await;
        self.health.sound()?;
        for id in overdue {
            self.fence(io, file, id).await?;
        }
        Ok(())
    }

    /// May bytes `off..end` be written, whose blocks are held? If not, what to wait for.
    pub(super) async fn may_write(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        ticket: &mut Ticket,
        off: u64,
        end: u64,
    ) -> Result<Option<Wait>> {
        if file.guards.are_none() {
            return Ok(None);
        }
        let (first, last) = (off / B, end.div_ceil(B));
        let asks = self
            .look(io, |vol| {
                let mut core = vol.core();
                let (old, parts) = decide(&mut core, file, (first, last), vol.durable(), false)?;
                Ok(write_asks(&parts, (off, end), old.size))
            })
            .await?;
        let mut asks = asks;
        asks.extend(self.tail_asks(io, file, end).await?);
        self.ask_arbiter(io.who, file, ticket, &asks)
    }

    /// What a growth asks for besides: where zeroing behind the old end cannot be done in
    /// place, the last block is mapped anew, and who looks at it must know. It is held.
    pub(super) async fn tail_asks(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        end: u64,
    ) -> Result<Asks> {
        let size = file.load().size;
        if end <= size || size.is_multiple_of(B) || file.guards.are_none() {
            return Ok(Asks::new());
        }
        let last = (size / B, size / B + 1);
        let moves = self
            .look(io, |vol| {
                let (_, parts) = decide(&mut vol.core(), file, last, vol.durable(), false)?;
                Ok(parts.iter().any(|p| p.how == How::New && p.phys != 0))
            })
            .await?;
        // No byte of the file changes.
        Ok(if moves { asks(&[Change::Allocate], &[last]) } else { Asks::new() })
    }

    /// A read that is seen; it begins when nobody has the bytes for himself alone.
    pub(super) async fn seen_to_read(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        (first, last): (u64, u64),
    ) -> Result<Seen> {
        let mut ticket = Ticket::default();
        loop {
            let seen = io.seen(&self.epoch);
            if !file.guards.hinder(Flags::READS) {
                return Ok(seen);
            }
            let ranges = [(first, last)];
            let asks = || asks(&[Change::Read], &ranges);
            let Some(wait) = self.may(io, file, &mut ticket, asks)? else { return Ok(seen) };
            drop(seen);
            self.wait_for(io, file, wait).await?;
        }
    }

    /// Leases of this session that are in the way of its own change: they are looked up
    /// again when they are next used. Those that have I/O in flight come back, also where
    /// an operation before this one has made them stale.
    fn suspend(&self, t: &mut Table, ids: &[Id], taken: &mut Taking) -> Result<Ids> {
        let leases: SmallVec<[Arc<LeaseCore>; 4]> =
            ids.iter().filter_map(|id| t.lease(*id)).collect();
        let fresh: SmallVec<[Arc<LeaseCore>; 4]> =
            leases.iter().filter(|l| !l.is_stale()).cloned().collect();
        let busy = match fresh.is_empty() {
            true => Ok(None),
            false => self.used_by_cpu(t, &fresh),
        };
        let mut left = Ids::new();
        if let Ok(None) = busy {
            // Who looks a stale one up again hears of it.
            leases.iter().for_each(|lease| lease.layout().rare_mut().changes += 1);
            for lease in &fresh {
                lease.layout().is |= Is::STALE;
                t.arbiter.stale(lease.id());
            }
            left.extend(leases.iter().filter(|l| !self.unused_by_itself(l)).map(|l| l.id()));
        }
        taken.keep(leases);
        taken.keep(fresh);
        busy?.map_or(Ok(left), |name| Err(pinned_itself(&name)))
    }

    /// Leases of this session that a grant of its own takes the place of.
    fn take_own(&self, t: &mut Table, ids: &[Id], taken: &mut Taking) -> Result<()> {
        let leases: SmallVec<[Arc<LeaseCore>; 4]> =
            ids.iter().filter_map(|id| t.lease(*id)).collect();
        let used = self.used_by_cpu(t, &leases);
        let none_used = matches!(used, Ok(None));
        let mut busy = used.as_ref().ok().cloned().flatten();
        for lease in leases.iter().filter(|_| none_used) {
            match self.is_idle(lease) {
                true => self.take(t, lease, taken),
                false => busy = Some(lease.name()),
            }
        }
        for id in ids {
            // The last handle of one may just be going.
            if leases.iter().all(|l| l.id() != *id) {
                t.arbiter.returned(*id);
                self.in_no_way(t, *id);
            }
        }
        self.hold_again(t, &leases);
        taken.keep(leases);
        used?;
        busy.map_or(Ok(()), |name| Err(pinned_itself(&name)))
    }

    /// Stops new pins of these leases. If a thread has one of them pinned, or a device
    /// may reach it, which; then they are as they were.
    fn used_by_cpu(&self, t: &Table, leases: &[Arc<LeaseCore>]) -> Result<Option<String>> {
        let states: SmallVec<[&PinState; 4]> = leases.iter().map(|l| l.pins()).collect();
        pin::recall(&states).map_err(no_barrier)?;
        let used = leases.iter().find(|l| l.is_in_hand() || l.is_registered());
        let used = used.map(|l| l.name());
        if used.is_some() {
            self.hold_again(t, leases);
        }
        Ok(used)
    }

    /// Lets those go on that nobody has asked for back, and that are up to date.
    pub(super) fn hold_again(&self, t: &Table, leases: &[Arc<LeaseCore>]) {
        for lease in leases {
            let held = matches!(t.arbiter.state(lease.id()), Some(State::Held { .. }));
            if held {
                self.renew(t, lease);
            }
        }
    }

    /// An operation waits no more; what was recalled for it alone is held again, and the
    /// delegates that were recalled with that.
    fn leave(&self, file: &FileState, ticket: u64) {
        let mut out = Taking::default();
        file.guards.with(|t| {
            t.arbiter.leave(ticket);
            let mut waits = self.leasing.waits();
            waits.remove(ticket);
            waits.over(Cause::Turn(ticket));
            drop(waits);
            for id in t.arbiter.recalled() {
                self.withdraw(t, file.id, id, &mut out);
            }
        });
        self.tell_taken(out);
        self.announce();
    }

    fn own_use_over(&self, file: &FileState, ids: &[Id]) -> bool {
        let leases: Vec<_> = file
            .guards
            .look(|t| ids.iter().filter_map(|id| t.lease(*id)).collect())
            .unwrap_or_default();
        // One that is held again was refreshed meanwhile.
        leases.iter().all(|l: &Arc<LeaseCore>| !l.is_stale() || self.unused_by_itself(l))
    }

    /// Nothing that its own session began goes through a stale lease any more, and its view
    /// is over: it comes back with the layout of the next refresh.
    fn unused_by_itself(&self, lease: &LeaseCore) -> bool {
        lease.has_no_io() && self.leave_window(lease)
    }
}

fn pinned_itself(name: &str) -> Error {
    Error::new(
        ErrorKind::WouldDeadlock,
        format!("this session uses {name} itself; unpin or return it first"),
    )
}

/// The system did not let other threads pass a barrier.
pub(super) fn no_barrier(e: std::io::Error) -> Error {
    Error::new(ErrorKind::Unsupported, format!("leases cannot be recalled here: membarrier: {e}"))
}

/// The same changes to each of some ranges.
pub(super) fn asks(changes: &[Change], ranges: &[(u64, u64)]) -> Asks {
    let spans = ranges.iter().map(|(start, end)| Span { start: *start, end: *end });
    let spans: SmallVec<[Span; 2]> = spans.collect();
    changes.iter().map(|c| (*c, spans.clone())).collect()
}

/// What an operation asks for that ends behind the end of the file: bytes of the last block
/// become a part of it.
pub(super) fn growth(size: u64, end: u64) -> Asks {
    match end > size {
        true => asks(&[Change::Grow], &[(size / B, size / B + 1)]),
        false => Asks::new(),
    }
}

/// A refusal as an error that says who is in the way.
pub(super) fn refused(why: &Refusal) -> Error {
    match why {
        Refusal::Sealed(by) => {
            Error::new(ErrorKind::Sealed, format!("{by} forbids it; ask its owner to clear it"))
        }
        Refusal::Recalled(by) => {
            Error::new(ErrorKind::Recalled, format!("{by} was asked for back; return it"))
        }
        Refusal::Busy(by) => {
            Error::new(ErrorKind::Busy, format!("{by} is in the way; have it returned first"))
        }
        Refusal::NoLease(id) | Refusal::Ended(id) => Error::new(
            ErrorKind::Revoked,
            format!("lease {id} is gone, or smaller than what was asked for"),
        ),
    }
}
