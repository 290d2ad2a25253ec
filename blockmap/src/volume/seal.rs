//! Setting and clearing seals.
//!
//! A seal is set under a hold of its whole range, so that what was under way there has
//! come to its end: plain writes in flight have landed, changes of the map are published.
//! It is set wholly or not at all. What is in its way and can be asked for back is;
//! setting a seal never fences, but gives up with `Busy` when the time is over.

use super::Volume;
use super::admit::{Ticket, Wait, asks};
use super::file::{FileHandle, FileState};
use super::sessions::SessionCore;
use super::write::B;
use crate::arbiter::{Change, Id, Ids, Kinds, SealEntry, Span};
use crate::error::{Error, ErrorKind, Result};
use crate::lane::Io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a seal is to be.
#[derive(Debug, Clone, Copy)]
pub struct SealSpec {
    /// What it forbids.
    pub kinds: Kinds,
    /// Who needs the range may ask for it back.
    pub breakable: bool,
    /// How long setting it may wait for others.
    pub timeout: Duration,
}

/// A seal that is set; cleared when this goes.
pub struct SealCore {
    id: Id,
    kinds: Kinds,
    file: FileHandle,
    who: Arc<SessionCore>,
}

impl Volume {
    /// Sets a seal on a range, rounded out to whole blocks; kinds that speak of the
    /// file take all of it. In force when this returns. Blocks while others are in the way.
    ///
    /// # Errors
    /// `Invalid` for no kinds; `Sealed` where a seal forbids more; `Busy` when the time is
    /// over, with no seal set; `WouldDeadlock`.
    pub fn seal(
        self: &Arc<Self>,
        file: &FileHandle,
        who: &Arc<SessionCore>,
        (off, len): (u64, u64),
        spec: SealSpec,
    ) -> Result<SealCore> {
        self.not_in_action()?;
        self.health.sound()?;
        who.may_hold()?;
        who.goes_on()?;
        if spec.kinds.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "a seal of no kind"));
        }
        let end = off.saturating_add(len).div_ceil(B);
        let span = match spec.kinds.intersects(Kinds::OF_FILE) || off.checked_add(len).is_none() {
            true => Span::WHOLE,
            false => Span { start: off / B, end },
        };
        if span.is_empty() {
            return Err(Error::new(ErrorKind::Invalid, "a seal on an empty range"));
        }
        let (vol, state, id) = (self.clone(), file.state().clone(), self.leasing.next_number());
        let owner = who.clone();
        self.run_as(who.id(), move |io| async move {
            vol.seal_task(&io, &state, &owner, (id, span), spec).await
        })?;
        who.held.fetch_add(1, Ordering::AcqRel);
        Ok(SealCore { id, kinds: spec.kinds, file: file.clone(), who: who.clone() })
    }

    async fn seal_task(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        who: &SessionCore,
        (id, span): (Id, Span),
        spec: SealSpec,
    ) -> Result<()> {
        let end = super::clock().saturating_add(spec.timeout.as_nanos().min(1 << 62) as u64);
        let mut ticket = Ticket::default();
        let SealSpec { kinds, breakable, .. } = spec;
        loop {
            let held = self.hold(io, file, span.start, span.end).await;
            let asks = asks(&[Change::Seal { kinds, breakable }], &[(span.start, span.end)]);
            let Some(wait) = self.ask_arbiter(io.who, file, &mut ticket, &asks)? else {
                // What is logged cannot be overwritten in place, which a LAYOUT seal allows.
                if kinds.contains(Kinds::LAYOUT) {
                    self.unlog(io, file, span.start, span.end).await?;
                }
                return file.guards.with(|t| {
                    who.goes_on()?;
                    let entry = SealEntry { id, session: io.who, kinds, span, breakable };
                    match t.arbiter.seal(entry) {
                        true => Ok(()),
                        false => Err(Error::new(ErrorKind::Invalid, "a seal that forbids nothing")),
                    }
                });
            };
            drop(held);
            self.wait_until(io, file, wait, end, "the seal was not set").await?;
        }
    }

    /// Waits until there is a point in asking again, but no longer than to that time, and
    /// fences nobody.
    pub(super) async fn wait_until(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        wait: Wait,
        end: u64,
        what: &str,
    ) -> Result<()> {
        let ids = match wait {
            Wait::For(ids) | Wait::Own(ids) => ids,
            Wait::Turn(_) => Ids::new(),
        };
        let mut overdue = Ids::new();
        let mut late = false;
        let mut first = true;
        io.until(|| {
            let over = self.take_idle(file, &ids, &mut overdue) && overdue.is_empty();
            late = super::clock() >= end || !overdue.is_empty();
            // One turn of others at least.
            !std::mem::take(&mut first) && (over || late) || self.health.sound().is_err()
        })
        .await;
        self.health.sound()?;
        match late {
            false => Ok(()),
            true => Err(Error::new(
                ErrorKind::Busy,
                format!(
                    "{what}: {} holds the range; have it returned, or try again",
                    self.holders(file, &ids)
                ),
            )),
        }
    }

    /// Who they are, for a message.
    fn holders(&self, file: &FileState, ids: &[Id]) -> String {
        let names = file.guards.look(|t| {
            let name = |id: &Id| t.arbiter.entry(*id).map(|e| e.holder.to_string());
            ids.iter().filter_map(name).collect::<Vec<_>>()
        });
        match names.filter(|n| !n.is_empty()) {
            Some(names) => names.join(", "),
            None => "another operation".to_owned(),
        }
    }
}

impl SealCore {
    /// Its number in the store; never used again.
    pub fn id(&self) -> Id {
        self.id
    }

    /// What it forbids, implied kinds left out.
    pub fn kinds(&self) -> Kinds {
        self.kinds
    }

    /// Its owner.
    pub fn session(&self) -> &Arc<SessionCore> {
        &self.who
    }

    /// It is in force still: nobody has asked for it back and taken it.
    pub fn is_set(&self) -> bool {
        self.file.state().guards.look(|t| t.arbiter.entry(self.id).is_some()).unwrap_or(false)
    }
}

impl Drop for SealCore {
    fn drop(&mut self) {
        if super::not_forked().is_err() {
            return;
        }
        self.who.held.fetch_sub(1, Ordering::AcqRel);
        self.file.state().guards.with(|t| {
            let _ = t.arbiter.clear(self.id, self.who.id());
            self.file.volume().in_no_way(t, self.id);
        });
        self.file.volume().announce();
    }
}

impl std::fmt::Debug for SealCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seal {} on file {}", self.id, self.file.id())
    }
}
