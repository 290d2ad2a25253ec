//! Recalls, taking, and the fence (laws R1 and R4).
//!
//! Who needs a range *recalls* the leases that are in its way, all at once: their state
//! words are flipped, one barrier makes every thread's pins visible, and what has no pin, no
//! registration and nothing unflushed is *taken* there and then, without its holder. The
//! others have until their deadline; their sessions are told. Whoever waits looks again each
//! time that it is driven, and takes what has become idle.
//!
//! At the deadline comes the *fence*, in its order: no more submissions, our own I/O
//! reaped, the registrations' actions run ([`super::register`]), and what can still be
//! reached put into quarantine ([`super::quarantine`]). Two who fence the same lease do
//! it once: the state says so.

use super::Volume;
use super::admit::no_barrier;
use super::file::{FileHandle, FileState};
use super::guards::Table;
use super::layout::Is;
use super::lease::LeaseCore;
use super::sessions::{Event, SessionCore};
use super::write::B;
use crate::arbiter::{Fence, Id, Ids, Recall, Request, Span, State};
use crate::error::{Error, ErrorKind, Result};
use crate::format::types::FileId;
use crate::lane::Io;
use freehold_engine::pin::{self, PinState};
use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A fence under way.
pub(super) type Fencing<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// A lease whose fence has begun. Where nobody brings it to its end (a task that is
/// forgotten, a lane that cannot be had) the lease is overdue as before.
pub(super) struct Begun {
    file: Arc<FileState>,
    lease: Option<Arc<LeaseCore>>,
}

impl Begun {
    pub(super) fn new(file: &Arc<FileState>, lease: Arc<LeaseCore>) -> Self {
        Begun { file: file.clone(), lease: Some(lease) }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            let error = Error::new(ErrorKind::Busy, "its fence was given up");
            if let Ok(vol) = lease.volume() {
                let _ = vol.end_fence(&self.file, &lease, Err(error));
            }
        }
    }
}

/// What taking leaves to be done when the lock is free.
#[derive(Default)]
pub(super) struct Taking {
    /// Their last handles must not go under the lock.
    leases: Vec<Arc<LeaseCore>>,
    /// Nor may what only they kept open.
    files: Vec<FileHandle>,
    events: Vec<(Arc<SessionCore>, Event)>,
    deadline: Option<u64>,
    taken: bool,
}

impl Taking {
    /// The holder does it himself: he is not told.
    pub(super) fn forget_events(&mut self) {
        self.events.clear();
    }

    pub(super) fn keep(&mut self, leases: impl IntoIterator<Item = Arc<LeaseCore>>) {
        self.leases.extend(leases);
    }
}

impl Volume {
    /// Asks for leases and breakable seals back and takes what is idle; those that are left.
    pub(super) fn recall(
        &self,
        t: &mut Table,
        file: FileId,
        ids: &[Id],
        asks: &[Request],
        out: &mut Taking,
    ) -> Ids {
        let leases: Vec<_> = ids.iter().filter_map(|id| t.lease(*id)).collect();
        let states: Vec<&PinState> = leases.iter().map(|l| l.pins()).collect();
        // Where the barrier fails nothing is found to be quiet, and the fence reports it.
        let _ = pin::recall(&states);
        let quiet = pin::quiet(&states);
        let mut busy: HashMap<Id, &Arc<LeaseCore>> = HashMap::new();
        let mut gone = HashSet::with_capacity(leases.len());
        for (lease, quiet) in leases.iter().zip(quiet) {
            let id = lease.id();
            if self.may_take(lease, quiet) {
                self.take(t, lease, out);
            } else if quiet && lease.is_only_dirty() && !will_flush(t, lease, asks) {
                self.revoke(t, lease, out);
            } else {
                busy.insert(id, lease);
                continue;
            }
            gone.insert(id);
        }
        let mut left = Ids::new();
        for id in ids.iter().filter(|id| !gone.contains(*id)) {
            let lease = busy.get(id).copied();
            if lease.is_none() && t.arbiter.slot(*id).is_some() {
                // Its last handle is just going.
                t.arbiter.returned(*id);
                self.in_no_way(t, *id);
                continue;
            }
            self.tell_recall(t, file, *id, (lease, asks), out);
            left.push(*id);
        }
        out.keep(leases);
        left
    }

    /// Nothing is lost and nobody is hurt if it is taken now.
    pub(super) fn is_idle(&self, lease: &LeaseCore) -> bool {
        self.may_take(lease, lease.pins().is_quiet())
    }

    fn may_take(&self, lease: &LeaseCore, quiet: bool) -> bool {
        let careless = crate::sabotage::breaks("take-pinned");
        (quiet || careless) && lease.is_spare()
    }

    /// Ends a lease that nothing can reach any more, whose unflushed bytes have nowhere to go:
    /// the whole of its range is taken away.
    fn revoke(&self, t: &mut Table, lease: &Arc<LeaseCore>, out: &mut Taking) {
        lease.pins().revoke();
        self.left_window(lease);
        lease.layout().is |= Is::GONE;
        out.files.extend(t.leave(lease));
        let id = lease.id();
        t.arbiter.fencing(id);
        t.arbiter.revoked(id);
        self.in_no_way(t, id);
        out.taken = true;
        let event = Event::Revoked { id, file: lease.file_id() };
        out.events.push((lease.session().clone(), event));
    }

    /// Begins the grace of one that cannot be taken at once.
    fn tell_recall(
        &self,
        t: &mut Table,
        file: FileId,
        id: Id,
        (lease, asks): (Option<&Arc<LeaseCore>>, &[Request]),
        out: &mut Taking,
    ) {
        let now = super::clock();
        let may_flush = may_flush(t, id, asks);
        let recall = t.arbiter.recall(id, now, self.leasing.lease_time());
        let Recall::Asked { deadline, delegates, .. } = recall else { return };
        out.deadline = Some(out.deadline.map_or(deadline, |d| d.min(deadline)));
        let grace = Duration::from_nanos(deadline.saturating_sub(now));
        let told = match lease {
            Some(l) => {
                l.allow_flush(may_flush);
                Some((l.session().clone(), l.range()))
            }
            None => t.arbiter.entry(id).and_then(|e| {
                let Span { start, end } = e.holder.span;
                let range = (start.saturating_mul(B), end.saturating_mul(B));
                Some((self.leasing.sessions.find(e.holder.session)?, range))
            }),
        };
        if let Some((who, range)) = told {
            out.events.push((who, Event::Recall { id, file, range, grace, may_flush }));
        }
        for child in delegates {
            let Some(lease) = t.lease(child) else { continue };
            let _ = pin::recall(&[lease.pins()]);
            let may_flush = self::may_flush(t, child, asks);
            lease.allow_flush(may_flush);
            let event = Event::Recall { id: child, file, range: lease.range(), grace, may_flush };
            out.events.push((lease.session().clone(), event));
            out.keep([lease]);
        }
    }

    /// Takes a recall back that nobody wants any more.
    pub(super) fn withdraw(&self, t: &mut Table, file: FileId, id: Id, out: &mut Taking) {
        if t.arbiter.withdraw(id).is_none() {
            return;
        }
        let Some(lease) = t.lease(id) else { return };
        self.renew(t, &lease);
        out.events.push((lease.session().clone(), Event::Withdrawn { id, file }));
        out.keep([lease]);
    }

    /// Ends a lease that nothing can reach any more.
    pub(super) fn take(&self, t: &mut Table, lease: &Arc<LeaseCore>, out: &mut Taking) {
        lease.pins().revoke();
        self.left_window(lease);
        lease.layout().is |= Is::GONE | Is::TAKEN;
        out.files.extend(t.leave(lease));
        t.arbiter.take(lease.id());
        self.in_no_way(t, lease.id());
        out.taken = true;
        let event = Event::Revoked { id: lease.id(), file: lease.file_id() };
        out.events.push((lease.session().clone(), event));
    }

    /// As [`Volume::leave_window`], of a lease that was found quiet: that is final, so nothing
    /// reaches its view any more, whatever is just being undone or dropped.
    fn left_window(&self, lease: &LeaseCore) {
        if !self.leave_window(lease) && !crate::sabotage::breaks("take-pinned") {
            self.health.poison("the end of a lease", &still_reached(lease));
        }
    }

    /// Law R2: what was written through a window becomes durable when the lease goes, and
    /// the blocks are everybody's again, but for those that a pin still reaches: false, and
    /// its view is as it was, where there is one, or one is just being undone.
    pub(super) fn leave_window(&self, lease: &LeaseCore) -> bool {
        let l = lease.layout();
        let Some(booking) = l.booking() else { return true };
        if let Err(e) = booking.write_back() {
            self.health.poison("a lease's bytes in the window", &e.into());
        }
        // Its view may come back with another layout ([`Volume::renew`]).
        booking.retire()
    }

    /// Tells sessions, outside of the lock.
    pub(super) fn tell_taken(&self, taking: Taking) {
        for (who, event) in taking.events {
            who.tell(event);
        }
        if let Some(deadline) = taking.deadline {
            self.arm(deadline);
        }
        if taking.taken {
            self.announce();
        }
    }

    /// Takes what has become idle. True if all of these are gone, or some are overdue,
    /// which are listed.
    pub(super) fn take_idle(&self, file: &FileState, ids: &[Id], overdue: &mut Ids) -> bool {
        let mut out = Taking::default();
        let now = super::clock();
        overdue.clear();
        let left = file.guards.with(|t| {
            let mut left = 0;
            for id in ids {
                let deadline = match t.arbiter.state(*id) {
                    Some(State::Recalled { deadline, .. }) => deadline,
                    Some(State::Fencing { .. }) => u64::MAX,
                    _ => continue,
                };
                match t.lease(*id) {
                    Some(l) if deadline < u64::MAX && self.is_idle(&l) => {
                        self.take(t, &l, &mut out);
                        out.keep([l]);
                    }
                    Some(l) if deadline < u64::MAX && l.is_lost() => {
                        self.revoke(t, &l, &mut out);
                        out.keep([l]);
                    }
                    lease => {
                        left += 1;
                        if deadline <= now {
                            overdue.push(*id);
                        }
                        out.keep(lease);
                    }
                }
            }
            left
        });
        self.tell_taken(out);
        left == 0 || !overdue.is_empty()
    }

    /// Law R4: a lease whose deadline has passed ends, whatever its holder does. No range
    /// is held by the caller.
    ///
    /// # Errors
    /// `Busy` where an action has not succeeded, or what is pinned for writing cannot be
    /// moved: the lease stays overdue.
    pub(super) fn fence<'a>(
        self: &'a Arc<Self>,
        io: &'a Io,
        file: &'a Arc<FileState>,
        id: Id,
    ) -> Fencing<'a> {
        // A move off a lease's blocks may have to fence others.
        Box::pin(self.fence_now(io, file, id))
    }

    async fn fence_now(self: &Arc<Self>, io: &Io, file: &Arc<FileState>, id: Id) -> Result<()> {
        let (begun, lease) = file.guards.with(|t| (t.arbiter.fencing(id), t.lease(id)));
        match begun {
            Fence::Cleared(session) => {
                if let Some(who) = self.leasing.sessions.find(session) {
                    who.tell(Event::Revoked { id, file: file.id });
                }
                return Ok(());
            }
            Fence::Nothing => {
                // Somebody else does, or it has gone.
                let fencing =
                    |t: &Table| matches!(t.arbiter.state(id), Some(State::Fencing { .. }));
                io.until(|| !file.guards.look(fencing).unwrap_or(false)).await;
                return Ok(());
            }
            Fence::Begun(_) => {}
        }
        let Some(lease) = lease else {
            // Its last handle is just going.
            file.guards.with(|t| {
                t.arbiter.revoked(id);
                self.in_no_way(t, id);
            });
            return Ok(());
        };
        self.fence_begun(io, Begun::new(file, lease)).await
    }

    /// Brings a fence that has begun to its end.
    pub(super) async fn fence_begun(self: &Arc<Self>, io: &Io, mut begun: Begun) -> Result<()> {
        let Some(lease) = begun.lease.clone() else { return Ok(()) };
        let done = self.fence_lease(io, &lease).await;
        begun.lease = None;
        self.end_fence(&begun.file, &lease, done)
    }

    /// What a fence has come to.
    fn end_fence(&self, file: &FileState, lease: &Arc<LeaseCore>, done: Result<()>) -> Result<()> {
        let id = lease.id();
        let open = file.guards.with(|t| match done {
            Ok(()) => {
                lease.pins().revoke();
                if !self.leave_window(lease) {
                    lease.close_view();
                }
                lease.layout().is |= Is::GONE;
                let open = t.leave(lease);
                let _ = t.arbiter.revoked(id);
                self.in_no_way(t, id);
                open
            }
            Err(_) => {
                lease.pins().unfence();
                t.arbiter.unfence(id, super::clock());
                None
            }
        });
        if done.is_ok() {
            lease.session().tell(Event::Revoked { id, file: file.id });
        }
        self.announce();
        // The caller keeps the store.
        drop(open);
        done
    }

    /// Makes it true that nothing reaches the lease's blocks as somebody's.
    async fn fence_lease(self: &Arc<Self>, io: &Io, lease: &Arc<LeaseCore>) -> Result<()> {
        pin::recall(&[lease.pins()]).map_err(no_barrier)?;
        lease.pins().fence();
        // Also if this fence fails: the file may have moved by then.
        lease.allow_flush(false);
        // 1. Our own I/O: the medium completes it, or is lost.
        io.until(|| lease.has_no_io()).await;
        // 2. Foreign DMA: by the holder's own actions.
        self.run_actions(io, lease).await?;
        // 3. What the CPU still reaches.
        if !lease.pins().is_quiet() && !crate::sabotage::breaks("no-quarantine") {
            self.quarantine(io, lease).await?;
        }
        Ok(())
    }

    /// Why an operation did not come to its end.
    pub(super) fn still_held(&self, lease: &LeaseCore, why: &str) -> Error {
        let who = lease.session().id();
        Error::new(
            ErrorKind::Busy,
            format!("{} of session {who} is overdue and {why}; try again", lease.name()),
        )
    }
}

/// Are unflushed bytes of a lease that is asked for, or was before, worth waiting for? Who was
/// told so first may flush them.
fn will_flush(t: &Table, lease: &LeaseCore, asks: &[Request]) -> bool {
    match t.arbiter.state(lease.id()) {
        Some(State::Recalled { .. }) => lease.may_flush(),
        Some(State::Held { .. } | State::Stale { .. }) => may_flush(t, lease.id(), asks),
        _ => true,
    }
}

/// No change of an operation takes away all that a lease is over.
fn may_flush(t: &Table, id: Id, asks: &[Request]) -> bool {
    asks.iter().all(|r| t.arbiter.may_flush(r, id))
}

fn still_reached(lease: &LeaseCore) -> Error {
    let why = format!("{} has ended, and its memory is in use still", lease.name());
    Error::new(ErrorKind::Busy, why)
}
