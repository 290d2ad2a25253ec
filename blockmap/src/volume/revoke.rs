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
use super::file::FileState;
use super::guards::Table;
use super::lease::LeaseCore;
use super::sessions::{Event, SessionCore};
use super::write::B;
use crate::arbiter::{Change, Id, Ids, State};
use crate::error::{Error, ErrorKind, Result};
use crate::lane::Io;
use std::sync::Arc;
use std::time::Duration;

/// What taking leaves to be done when the lock is free.
#[derive(Default)]
pub(super) struct Taking {
    /// Their last handles must not go under the lock.
    leases: Vec<Arc<LeaseCore>>,
    events: Vec<(Arc<SessionCore>, Event)>,
    deadline: Option<u64>,
    taken: bool,
}

impl Taking {
    pub(super) fn keep(&mut self, leases: impl IntoIterator<Item = Arc<LeaseCore>>) {
        self.leases.extend(leases);
    }
}

impl Volume {
    /// Asks for leases and breakable seals back and takes what is idle; those that are left.
    pub(super) fn recall(
        &self,
        t: &mut Table,
        ids: &[Id],
        change: Change,
        out: &mut Taking,
    ) -> Ids {
        let leases: Vec<_> = ids.iter().filter_map(|id| t.lease(*id)).collect();
        freehold_engine::pin::recall(leases.iter().map(|l| &*l.pin));
        let mut left = Ids::new();
        for id in ids {
            let lease = leases.iter().find(|l| l.id() == *id);
            match lease {
                Some(lease) if self.is_idle(lease) => self.take(t, lease, out),
                _ => {
                    self.tell_recall(t, *id, lease, change, out);
                    left.extend(t.arbiter.state(*id).is_some().then_some(*id));
                }
            }
        }
        out.keep(leases);
        left
    }

    /// Nothing is lost and nobody is hurt if it is taken now.
    fn is_idle(&self, lease: &LeaseCore) -> bool {
        let careless = crate::sabotage::breaks("take-pinned");
        (lease.pin.is_quiet() || careless) && lease.is_clean() && !lease.is_registered()
    }

    /// Begins the grace of one that cannot be taken at once.
    fn tell_recall(
        &self,
        t: &mut Table,
        id: Id,
        lease: Option<&Arc<LeaseCore>>,
        change: Change,
        out: &mut Taking,
    ) {
        let now = super::clock();
        let Some(recall) = t.arbiter.recall(id, now, self.leasing.lease_time()) else { return };
        out.deadline = Some(out.deadline.map_or(recall.deadline, |d| d.min(recall.deadline)));
        if recall.again {
            return;
        }
        let grace = Duration::from_nanos(recall.deadline.saturating_sub(now));
        let may_flush = !matches!(change, Change::Cut);
        let told = match lease {
            Some(l) => Some((l.who.clone(), l.file.id(), l.range())),
            None => t.arbiter.seal(id).and_then(|s| {
                let range = (s.span.start.saturating_mul(B), s.span.end.saturating_mul(B));
                Some((self.leasing.sessions.find(s.session)?, t.file, range))
            }),
        };
        if let Some((who, file, range)) = told {
            out.events.push((who, Event::Recall { id, file, range, grace, may_flush }));
        }
    }

    /// Ends a lease that nothing can reach any more.
    fn take(&self, t: &mut Table, lease: &Arc<LeaseCore>, out: &mut Taking) {
        lease.pin.revoke();
        self.write_back(lease);
        lease.layout().gone = true;
        t.arbiter.returned(lease.id());
        t.leases.remove(&lease.id());
        out.taken = true;
        let event = Event::Revoked { id: lease.id(), file: lease.file.id() };
        out.events.push((lease.who.clone(), event));
    }

    /// Law R2: what was written through a window becomes durable when the lease goes.
    pub(super) fn write_back(&self, lease: &LeaseCore) {
        let Some(window) = self.medium.window().filter(|_| lease.access().writes()) else { return };
        for (_, e) in &lease.layout().extents {
            if let Err(e) = window.persist(e.phys * B, u64::from(e.len) * B) {
                self.health.poison("a lease's bytes in the window", &e.into());
            }
        }
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
    pub(super) async fn fence(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        id: Id,
    ) -> Result<()> {
        let mine = file.guards.with(|t| match t.arbiter.state(id) {
            Some(State::Recalled { .. }) => {
                t.arbiter.fencing(id);
                Some(t.lease(id))
            }
            _ => None,
        });
        let Some(lease) = mine else {
            // Somebody else does, or it has gone.
            let fencing = |t: &Table| matches!(t.arbiter.state(id), Some(State::Fencing { .. }));
            io.until(|| !file.guards.look(fencing).unwrap_or(false)).await;
            return Ok(());
        };
        let Some(lease) = lease else {
            // A seal that its owner did not clear; or the last handle is just going.
            file.guards.with(|t| t.arbiter.revoked(id));
            return Ok(());
        };
        let done = self.fence_lease(io, &lease).await;
        file.guards.with(|t| match done {
            Ok(()) => {
                lease.pin.revoke();
                lease.layout().gone = true;
                t.arbiter.revoked(id);
                t.leases.remove(&id);
            }
            Err(_) => t.arbiter.unfence(id, super::clock()),
        });
        if done.is_ok() {
            self.write_back(&lease);
            lease.who.tell(Event::Revoked { id, file: file.id });
        }
        self.announce();
        done
    }

    async fn fence_lease(self: &Arc<Self>, io: &Io, lease: &Arc<LeaseCore>) -> Result<()> {
        freehold_engine::pin::fence(&lease.pin);
        // 1. Our own I/O: the medium completes it, or is lost.
        io.until(|| lease.pin.counts().io == 0).await;
        // 2. Foreign DMA: by the holder's own actions.
        self.run_actions(io, lease).await?;
        // 3. What the CPU still reaches.
        if !lease.pin.is_quiet() && !crate::sabotage::breaks("no-quarantine") {
            self.quarantine(io, lease).await?;
        }
        Ok(())
    }

    /// Why an operation did not come to its end.
    pub(super) fn still_held(&self, lease: &LeaseCore, why: &str) -> Error {
        let who = lease.who.id();
        Error::new(
            ErrorKind::Busy,
            format!("{} of session {who} is overdue and {why}; try again", lease.name()),
        )
    }
}
