//! Delegates: leases below another lease, as a rule of another session.
//!
//! A delegate's blocks are those of its parent, which keeps them where they are; so nothing
//! is looked up, made ready or committed for it. Beside a Read, Write or Stable lease
//! its delegates are just more leases. An Exclusive one gives no pins while it has any:
//! it is *suspended*, its state word recalled, its window left. When the last delegate has
//! gone, whoever next wants a pin of it finds that, and it is held again.

use super::Volume;
use super::admit::{Ticket, asks, no_barrier};
use super::grant::{LeaseSpec, Source};
use super::guards::Table;
use super::layout::{Is, Layout};
use super::lease::LeaseCore;
use super::sessions::SessionCore;
use super::write::B;
use crate::arbiter::{Access, Change, State};
use crate::error::{Error, ErrorKind, Result};
use crate::lane::Io;
use freehold_engine::pin;
use std::sync::Arc;
use std::time::Duration;

impl Volume {
    /// A lease of a session on a range of another lease. Blocks while others are in the
    /// way.
    ///
    /// # Errors
    /// `Invalid` for a range that is not whole blocks inside the lease, for an access that it
    /// cannot give on, and for a session that has ended; `Recalled`, `Revoked`; `Busy` while
    /// an Exclusive lease that is to be suspended is in use; `Sealed`; `WouldDeadlock`.
    pub fn delegate(
        self: &Arc<Self>,
        parent: &Arc<LeaseCore>,
        who: &Arc<SessionCore>,
        range: (u64, u64),
        access: Access,
    ) -> Result<Arc<LeaseCore>> {
        self.not_in_action()?;
        match access.writes() {
            true => self.health.writable()?,
            false => self.health.sound()?,
        }
        let (start, end) = parent.range();
        let whole = range.0.is_multiple_of(B) && (range.1.is_multiple_of(B) || range.1 == end);
        if !whole || range.0 < start || range.1 > end || range.0 >= range.1 || who.has_ended() {
            let name = parent.name();
            let why = format!(
                "what is delegated of {name} is not whole blocks inside it, or to a session that has ended"
            );
            return Err(Error::new(ErrorKind::Invalid, why));
        }
        if !gives(parent.access(), access) {
            let why = format!("{} gives no {access:?} access on", parent.name());
            return Err(Error::new(ErrorKind::Invalid, why));
        }
        if parent.is_stale() {
            self.refresh(parent)?;
        }
        let (vol, parent, who) = (self.clone(), parent.clone(), who.clone());
        self.run_as(who.id(), move |io| async move {
            vol.delegate_task(&io, &parent, &who, (range, access)).await
        })
    }

    async fn delegate_task(
        self: &Arc<Self>,
        io: &Io,
        parent: &Arc<LeaseCore>,
        who: &Arc<SessionCore>,
        (range, access): ((u64, u64), Access),
    ) -> Result<Arc<LeaseCore>> {
        let (start, end) = (range.0 / B, range.1.div_ceil(B));
        let file = parent.file_state();
        let mut ticket = Ticket::default();
        loop {
            // Whoever grants or seals here holds the range, too.
            let held = self.hold(io, file, start, end).await;
            let change = Change::Delegate { access, parent: parent.id() };
            let asks = asks(&[change], &[(start, end)]);
            if let Some(wait) = self.ask_arbiter(who.id(), file, &mut ticket, &asks)? {
                drop(held);
                self.wait_for(io, file, wait).await?;
                continue;
            }
            let max_hold = Duration::from_nanos(parent.max_hold_ns());
            let spec = LeaseSpec { access, max_hold };
            let part = Source::Part(parent, (start, end));
            return self.give(&parent.file()?, who, (ticket.number(self), spec), part);
        }
    }

    /// What a delegate of some blocks gets of a lease. An Exclusive one rests from now on, if
    /// nothing uses it now. None if it is not held any more, or out of date. Under the lock
    /// under which the delegate is granted: nobody finds one without the other.
    pub(super) fn part_of(
        &self,
        t: &Table,
        lease: &Arc<LeaseCore>,
        (start, end): (u64, u64),
    ) -> Result<Option<Layout>> {
        if !matches!(t.arbiter.state(lease.id()), Some(State::Held { .. })) {
            return Ok(None);
        }
        let part = {
            let l = lease.layout();
            let other = l.is.intersects(Is::GONE | Is::STALE | Is::KEPT);
            if other || start < l.start() || end > l.end() {
                return Ok(None);
            }
            l.part(start, end)
        };
        if lease.access() == Access::Exclusive {
            pin::recall(&[lease.pins()]).map_err(no_barrier)?;
            let unused = lease.pins().is_quiet() && lease.is_clean() && !lease.is_registered();
            if !unused || !self.leave_window(lease) {
                self.hold_again(t, std::slice::from_ref(lease));
                let why = format!(
                    "{} is in use: unpin it, flush its buffers and end its registrations, then \
                     delegate it",
                    lease.name()
                );
                return Err(Error::new(ErrorKind::Busy, why));
            }
        }
        Ok(part)
    }

    /// A lease whose delegates have gone is held again. False if it is not such a one.
    pub(super) fn resume(&self, lease: &Arc<LeaseCore>) -> bool {
        lease.file_state().guards.with(|t| {
            let held = matches!(t.arbiter.state(lease.id()), Some(State::Held { .. }));
            held && self.renew(t, lease)
        })
    }

    /// Lets a lease be pinned again that was recalled, unless its own session has changed
    /// the map meanwhile, or delegates have it. Its view comes back as its layout is now.
    pub(super) fn renew(&self, t: &Table, lease: &LeaseCore) -> bool {
        if t.arbiter.suspended(lease.id()) {
            return false;
        }
        let l = lease.layout();
        // What is in quarantine may not be the file's any more.
        if l.is.intersects(Is::STALE | Is::GONE | Is::KEPT) {
            return false;
        }
        if let Err(error) = l.relay(self.medium.window_memory()) {
            // Something is on its way there still: the next pin tries again.
            tracing::debug!(%error, lease = lease.id(), "its view did not come back");
            return false;
        }
        lease.pins().renew().is_some()
    }
}

/// Access that a lease can give on.
fn gives(parent: Access, child: Access) -> bool {
    parent == Access::Exclusive || child == Access::Read || parent == child
}
