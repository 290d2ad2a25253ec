//! How leases end otherwise than by a recall: returned wholly or in part, with their
//! session, with the store.

use super::Volume;
use super::admit::{Ticket, asks, no_barrier};
use super::file::FileState;
use super::layout::Is;
use super::lease::LeaseCore;
use super::revoke::{Begun, Taking};
use super::sessions::SessionCore;
use super::write::B;
use crate::arbiter::{Change, Entry, Id, Partial, SessionId, Span, State};
use crate::error::{Error, ErrorKind, Result};
use crate::lane::Io;
use freehold_engine::pin;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

impl Volume {
    /// Gives a lease back before its last handle goes. Waits for nothing.
    ///
    /// # Errors
    /// `Busy` while it is pinned, registered or has I/O in flight: then it stays.
    pub fn return_lease(&self, lease: &Arc<LeaseCore>) -> Result<()> {
        self.not_in_action()?;
        let mut out = Taking::default();
        let file = lease.file_state();
        let done = file.guards.with(|t| {
            if lease.layout().is.contains(Is::GONE) {
                return Ok(());
            }
            pin::recall(&[lease.pins()]).map_err(no_barrier)?;
            if !lease.pins().is_quiet() || lease.is_registered() || !lease.has_no_io() {
                self.hold_again(t, std::slice::from_ref(lease));
                return Err(in_use(lease));
            }
            self.take(t, lease, &mut out);
            {
                let mut l = lease.layout();
                l.is = (l.is - Is::TAKEN) | Is::RETURNED;
            }
            t.arbiter.returned(lease.id());
            Ok(())
        });
        // Its holder knows.
        out.forget_events();
        self.tell_taken(out);
        done
    }

    /// Gives a beginning or an end of a lease back; what is kept lies inside it, in whole
    /// blocks. Counts as progress where it was asked for back.
    ///
    /// # Errors
    /// `Busy` while it is pinned, registered or has I/O in flight; `Invalid` for a range that is not
    /// inside; `Revoked`.
    pub fn return_part(&self, lease: &Arc<LeaseCore>, keep: (u64, u64)) -> Result<()> {
        self.not_in_action()?;
        let (start, end) = lease.range();
        let inside = keep.0 >= start && keep.1 <= end && keep.0 < keep.1;
        if !inside || !keep.0.is_multiple_of(B) || !(keep.1.is_multiple_of(B) || keep.1 == end) {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("what is kept of {} is not whole blocks inside it", lease.name()),
            ));
        }
        let span = Span { start: keep.0 / B, end: keep.1.div_ceil(B) };
        let file = lease.file_state();
        let kept = file.guards.with(|t| {
            pin::recall(&[lease.pins()]).map_err(no_barrier)?;
            if !lease.pins().is_quiet() || lease.is_registered() || !lease.has_no_io() {
                self.hold_again(t, std::slice::from_ref(lease));
                return Err(in_use(lease));
            }
            if lease.layout().is.contains(Is::KEPT) {
                // A fence has moved the file off it, or a part of it.
                return Ok(false);
            }
            if !self.leave_window(lease) {
                self.hold_again(t, std::slice::from_ref(lease));
                return Err(in_use(lease));
            }
            match t.arbiter.partial(lease.id(), span, super::clock()) {
                Partial::Kept { span, state } => {
                    lease.layout().trim(span.start, span.end);
                    if matches!(state, State::Held { .. }) {
                        self.renew(t, lease);
                    }
                    Ok(true)
                }
                Partial::All(_) | Partial::Nothing => Ok(false),
            }
        })?;
        self.announce();
        if kept { Ok(()) } else { Err(lease.refusal()) }
    }

    /// Ends a session: its seals are cleared, its leases are fenced at once, and nothing is
    /// granted to it any more. Blocks for its I/O in flight and the actions of its
    /// registrations.
    ///
    /// # Errors
    /// `Busy` where a fence did not come to its end: who needs the range tries again.
    pub fn end_session(self: &Arc<Self>, who: &Arc<SessionCore>) -> Result<()> {
        self.not_in_action()?;
        if !who.end() {
            return Ok(());
        }
        let mut left = Vec::new();
        let mut out = Taking::default();
        // Each is looked at under its lock, also where there seems to be nothing: who grants
        // asks there whether the session goes on.
        for file in self.files_in_memory() {
            if file.guards.is_empty() {
                continue;
            }
            file.guards.with(|t| {
                // Somebody else sees to these.
                let fencing = |e: Entry| matches!(e.state, State::Fencing { .. });
                let theirs: HashSet<Id> =
                    t.arbiter.leases().filter(|e| fencing(*e)).map(|e| e.holder.id).collect();
                for id in t.arbiter.end_session(who.id()) {
                    if theirs.contains(&id) {
                        continue;
                    }
                    let Some(lease) = t.lease(id) else {
                        let _ = t.arbiter.revoked(id);
                        self.in_no_way(t, id);
                        continue;
                    };
                    let _ = pin::recall(&[lease.pins()]);
                    // Nothing is unflushed that anybody could still flush.
                    let quiet = lease.pins().is_quiet() && lease.has_no_io();
                    match quiet && !lease.is_registered() {
                        true => self.take(t, &lease, &mut out),
                        false => left.push(Begun::new(&file, lease.clone())),
                    }
                    out.keep([lease]);
                }
            });
        }
        out.forget_events();
        self.tell_taken(out);
        self.announce();
        let vol = self.clone();
        self.run_as(who.id(), move |io| async move {
            let mut done = Ok(());
            for begun in left {
                let fenced = vol.fence_begun(&io, begun).await;
                done = done.and(fenced);
            }
            done
        })
    }

    /// Asks for all leases and breakable seals back, so that a session can close the store.
    /// Its own seals are not in its way. Blocks for as long as holders may take.
    ///
    /// # Errors
    /// `Busy`, with the holder, where one is not given up, or was taken and is pinned still.
    pub fn recall_all(self: &Arc<Self>, who: SessionId) -> Result<()> {
        let grace = Duration::from_nanos(2 * self.leasing.lease_time());
        for file in self.files_in_memory() {
            if file.guards.is_empty() {
                continue;
            }
            let vol = self.clone();
            self.run_as(who, move |io| async move { vol.empty(&io, &file, grace).await })?;
        }
        self.none_is_kept()
    }

    async fn empty(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        grace: Duration,
    ) -> Result<()> {
        let end = super::clock().saturating_add(grace.as_nanos() as u64);
        let mut ticket = Ticket::default();
        loop {
            let asks = asks(&[Change::Close], &[(0, u64::MAX)]);
            let Some(wait) = self.ask_arbiter(io.who, file, &mut ticket, &asks)? else {
                return Ok(());
            };
            self.wait_until(io, file, wait, end, "the store was not closed").await?;
        }
    }

    pub(super) fn files_in_memory(&self) -> Vec<Arc<FileState>> {
        self.core().shelf.files.values().cloned().collect()
    }
}

fn in_use(lease: &LeaseCore) -> Error {
    Error::new(
        ErrorKind::Busy,
        format!("{} is in use: unpin it, and poll its I/O to its end, first", lease.name()),
    )
}
