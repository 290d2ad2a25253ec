//! A lease: a session's right to use a range of a file directly.
//!
//! Its state (held, recalled, fenced, revoked) and its pins are one word and some counters
//! of the engine's ([`freehold_engine::pin`]); the arbiter of the file has it by its
//! number. What it may touch is its *layout*: the extents that stood behind its range
//! when it was granted. While it is held nothing moves them, so I/O through a lease
//! looks nothing up.
//!
//! A lease keeps its file alive, and gives itself back when its last handle goes; that
//! waits for nothing (law R3).
//!
//! Not here: giving ([`super::grant`]), taking ([`super::revoke`]).

use super::Volume;
use super::file::FileHandle;
use super::sessions::SessionCore;
use super::write::B;
use crate::arbiter::{Access, End, Id, State};
use crate::error::{Error, ErrorKind, Result};
use crate::format::types::Extent;
use freehold_engine::memory::{self, Booking, Piece, View, WindowMemory};
use freehold_engine::pin::{self, PinState};
use smallvec::SmallVec;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A lease and what stands behind it.
pub struct LeaseCore {
    id: Id,
    access: Access,
    /// Milliseconds.
    max_hold: u32,
    pub(super) file: FileHandle,
    pub(super) who: Arc<SessionCore>,
    pub(super) pin: Arc<PinState>,
    /// Buffers with bytes that were not flushed.
    unflushed: AtomicU32,
    /// Something uses the medium's own memory through it.
    window: AtomicBool,
    /// It was asked for back, and what is unflushed may still be flushed.
    may_flush: AtomicBool,
    /// Flushes behind a recall, which no pin shows.
    commands: AtomicU32,
    /// When it was granted, on the monotonic clock in nanoseconds.
    since: u64,
    /// The place that its grant had among those that ask; 0 for a delegate.
    ticket: AtomicU64,
    layout: Mutex<Layout>,
}

/// Where the bytes of a lease are.
#[derive(Debug, Default, Clone)]
pub(super) struct Layout {
    /// File blocks.
    pub(super) start: u64,
    pub(super) end: u64,
    /// The byte of the file at which the lease's bytes end.
    pub(super) end_byte: u64,
    /// What stands there, in order; holes are left out.
    pub(super) extents: SmallVec<[(u64, Extent); 1]>,
    /// The session changed the map itself: to be looked up again.
    pub(super) stale: bool,
    /// How often an operation of the session was let past it, stale or not.
    pub(super) changes: u64,
    /// It has been given up, or taken.
    pub(super) gone: bool,
    /// It is gone without its holder, and nothing was lost.
    pub(super) taken: bool,
    /// It is gone by its holder.
    pub(super) returned: bool,
    /// Its blocks are in quarantine: whatever still reaches them changes nobody's bytes.
    pub(super) kept: bool,
    pub(super) registered: Vec<super::register::Registered>,
    /// The medium's own memory, in use through a view.
    pub(super) booking: Option<Booking>,
}

/// A piece of a lease's range. Numbers in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeasePiece {
    /// Where in the file.
    pub offset: u64,
    /// How long.
    pub len: u64,
    /// Where on the medium; none where nothing is written: it reads as zeroes.
    pub address: Option<u64>,
}

impl LeaseCore {
    pub(super) fn new(
        (id, access, max_hold): (Id, Access, u32),
        file: FileHandle,
        who: Arc<SessionCore>,
        pin: Arc<PinState>,
        layout: Layout,
    ) -> Self {
        who.held.fetch_add(1, Ordering::AcqRel);
        LeaseCore {
            id,
            access,
            max_hold,
            file,
            who,
            pin,
            unflushed: AtomicU32::new(0),
            window: AtomicBool::new(false),
            may_flush: AtomicBool::new(false),
            commands: AtomicU32::new(0),
            since: super::clock(),
            ticket: AtomicU64::new(0),
            layout: Mutex::new(layout),
        }
    }

    /// Its number in the store; never used again.
    pub fn id(&self) -> Id {
        self.id
    }

    /// What it allows.
    pub fn access(&self) -> Access {
        self.access
    }

    /// How long its holder may take to give it back, beside the store's lease time; in
    /// nanoseconds.
    pub(super) fn max_hold_ns(&self) -> u64 {
        u64::from(self.max_hold) * 1_000_000
    }

    /// Who has it.
    pub fn session(&self) -> &Arc<SessionCore> {
        &self.who
    }

    /// The file that it is over.
    pub fn file(&self) -> &FileHandle {
        &self.file
    }

    /// Its state, and its pins.
    pub fn pins(&self) -> &Arc<PinState> {
        &self.pin
    }

    pub(super) fn layout(&self) -> MutexGuard<'_, Layout> {
        self.layout.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// First byte and the one behind the last.
    pub fn range(&self) -> (u64, u64) {
        let l = self.layout();
        (l.start * B, l.end_byte.max(l.start * B))
    }

    /// The same in blocks.
    pub(super) fn blocks(&self) -> (u64, u64) {
        let l = self.layout();
        (l.start, l.end)
    }

    /// What stands behind the range, holes included, in order.
    pub fn pieces(&self) -> Vec<LeasePiece> {
        self.layout().pieces()
    }

    /// A buffer of it has bytes that are nowhere else.
    pub fn soil(&self) {
        self.unflushed.fetch_add(1, Ordering::AcqRel);
    }

    /// The buffer was flushed, or its bytes were given up.
    pub fn clean(&self) {
        self.unflushed.fetch_sub(1, Ordering::AcqRel);
        if self.pin.state() != pin::State::Held {
            self.file.volume().announce();
        }
    }

    /// Where it is in its life; nothing once it is given back.
    pub fn state(&self) -> Option<State> {
        let state = self.file.state().guards.look(|t| t.arbiter.state(self.id)).flatten();
        let (l, seq) = (self.layout(), self.pin.seq());
        match state {
            Some(State::Held { seq }) if l.stale => Some(State::Stale { seq }),
            // The table of a file that nobody uses forgets.
            None if l.taken => Some(State::Taken { seq }),
            None if l.gone && !l.returned => Some(State::Revoked { seq }),
            state => state,
        }
    }

    /// Its delegates have it: it gives no pins while there are any.
    pub fn is_suspended(&self) -> bool {
        self.file.state().guards.look(|t| t.arbiter.suspended(self.id)).unwrap_or(false)
    }

    /// How long its holder may take to give it back, beside the store's lease time.
    pub fn max_hold(&self) -> Duration {
        Duration::from_millis(u64::from(self.max_hold))
    }

    /// Makes durable what was written through its window by pins that have ended (law R2).
    /// False if there was nothing.
    ///
    /// # Errors
    /// What the medium reports.
    pub fn write_back(&self) -> Result<bool> {
        let booking = self.layout().booking.clone();
        booking.map_or(Ok(false), |b| b.write_back().map_err(Error::from))
    }

    /// Its own session changed the map: it is refreshed before it is next used.
    pub fn is_stale(&self) -> bool {
        self.layout().stale
    }

    /// Bytes of so many from an offset on that the lease has.
    pub(super) fn valid(&self, offset: u64, bytes: usize) -> usize {
        self.layout().end_byte.saturating_sub(offset).min(bytes as u64) as usize
    }

    /// File blocks as runs of one command each: where, how many, and the block on the
    /// medium; none where nothing is written.
    pub(super) fn runs(&self, first: u64, blocks: u64, most: u64) -> Vec<(u64, u64, Option<u64>)> {
        let l = self.layout();
        let (mut at, end) = (first, first + blocks);
        let mut out = Vec::new();
        for (k, e) in l.extents.iter().filter(|(_, e)| !e.unwritten) {
            let (from, to) = ((*k).max(at), (k + u64::from(e.len)).min(end));
            if from >= to {
                continue;
            }
            if at < from {
                out.push((at, from - at, None));
            }
            at = from;
            while at < to {
                let n = (to - at).min(most);
                out.push((at, n, Some(e.phys + (at - k))));
                at += n;
            }
        }
        if at < end {
            out.push((at, end - at, None));
        }
        out
    }

    /// The recall says whether its unflushed bytes may still go.
    pub(super) fn allow_flush(&self, may: bool) {
        self.may_flush.store(may, Ordering::Release);
    }

    /// Its grant asked in this place.
    pub(super) fn asked_in(&self, ticket: u64) {
        self.ticket.store(ticket, Ordering::Release);
    }

    /// For a flush behind a recall: it goes before all that waits for it.
    pub(super) fn ticket(&self) -> Option<u64> {
        Some(self.ticket.load(Ordering::Acquire)).filter(|n| *n > 0)
    }

    /// It was asked for back.
    pub(super) fn is_recalled(&self) -> bool {
        let recalled = |t: &super::guards::Table| {
            matches!(t.arbiter.state(self.id), Some(State::Recalled { .. }))
        };
        self.file.state().guards.look(recalled).unwrap_or(false)
    }

    /// May a flush go on behind a recall? Under the lock of the file's guards, as the
    /// beginning of a fence is, and with the command counted.
    pub(super) fn flush_late(&self, t: &super::guards::Table) -> bool {
        let recalled = matches!(t.arbiter.state(self.id), Some(State::Recalled { .. }));
        recalled && self.may_flush.load(Ordering::Acquire)
    }

    pub(super) fn command_begins(&self) {
        self.commands.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn command_over(&self) {
        self.commands.fetch_sub(1, Ordering::AcqRel);
        if self.pin.state() != pin::State::Held {
            self.file.volume().announce();
        }
    }

    /// No command of the store's own goes through it.
    pub(super) fn has_no_io(&self) -> bool {
        self.pin.counts().io == 0 && self.commands.load(Ordering::Acquire) == 0
    }

    /// A thread, or memory that is lent out, has it pinned.
    pub(super) fn is_in_hand(&self) -> bool {
        let c = self.pin.counts();
        c.short > 0 || c.exclusive || c.long > 0
    }

    /// Flushes behind a recall.
    pub(super) fn commands(&self) -> u64 {
        u64::from(self.commands.load(Ordering::Acquire))
    }

    /// When it was granted, in nanoseconds of the monotonic clock.
    pub(super) fn since(&self) -> u64 {
        self.since
    }

    /// The lease's bytes as memory, where the medium is such. One view at a time.
    ///
    /// # Errors
    /// `Busy` while another view of the lease is there; `Recalled`, `Revoked`;
    /// `Unsupported` on a medium that the CPU does not reach.
    pub fn view(&self) -> Result<View> {
        let medium = self.file.volume().medium();
        let memory = medium.window_memory().ok_or_else(|| {
            let why = "the CPU does not reach this medium: take memory for the lease instead";
            Error::new(ErrorKind::Unsupported, why)
        })?;
        // A pin keeps the layout as it is.
        let _pin = self.pin.hold().map_err(|_| self.refusal())?;
        let mut l = self.layout();
        if let Some(old) = &l.booking {
            // What was written through a buffer that was dropped.
            old.write_back()?;
            if !old.retire() {
                drop(l);
                let why = format!("{} has a buffer on the window already", self.name());
                return Err(Error::new(ErrorKind::Busy, why));
            }
        }
        let pieces = l.in_memory();
        let view = memory.view(in_memory(self.access), &pieces, &self.pin)?;
        l.booking = Some(view.booking());
        self.window.store(true, Ordering::Release);
        Ok(view)
    }

    pub(super) fn is_window(&self) -> bool {
        self.window.load(Ordering::Acquire)
    }

    pub(super) fn is_clean(&self) -> bool {
        self.unflushed.load(Ordering::Acquire) == 0 && self.commands.load(Ordering::Acquire) == 0
    }

    pub(super) fn is_registered(&self) -> bool {
        !self.layout().registered.is_empty()
    }

    /// Why it cannot be used now, as an error. Not under the lock of the file's guards.
    pub fn refusal(&self) -> Error {
        let age = Duration::from_nanos(super::clock().saturating_sub(self.since));
        let name = format!("{} of session {}, {age:.1?} old,", self.name(), self.who.id());
        let (kind, why) = match self.state() {
            _ if self.is_suspended() => {
                (ErrorKind::Busy, "has delegates; use it again when they have gone")
            }
            Some(State::Held { .. }) => {
                (ErrorKind::Recalled, "is just being held again; try again")
            }
            Some(State::Stale { .. }) => {
                (ErrorKind::Recalled, "is out of date, its own session changed the map; refresh it")
            }
            Some(State::Recalled { .. }) => {
                (ErrorKind::Recalled, "was asked for back; flush what is dirty, and return it")
            }
            Some(State::Taken { .. }) => {
                (ErrorKind::Recalled, "was taken while nothing used it; take it again")
            }
            Some(State::Fencing { .. } | State::Revoked { .. }) => (
                ErrorKind::Revoked,
                "was not returned in time and is taken; ordinary reads and writes go on",
            ),
            None => (ErrorKind::Revoked, "has ended; ordinary reads and writes go on"),
        };
        Error::new(kind, format!("{name} {why}"))
    }

    /// How messages call it.
    pub(super) fn name(&self) -> String {
        let (start, end) = self.range();
        let (access, file) = (self.access, self.file.id());
        format!("the {access:?} lease {} on bytes {start}..{end} of file {file}", self.id)
    }
}

impl Layout {
    fn in_memory(&self) -> Vec<Piece> {
        let piece = |p: LeasePiece| match p.address {
            Some(at) => Piece::at(at, p.len),
            None => Piece::zeroes(p.len),
        };
        self.pieces().into_iter().map(piece).collect()
    }

    /// The lease's view, if it has one that was retired, shows the blocks as they are now.
    pub(super) fn relay(&self, memory: Option<WindowMemory>) -> Result<()> {
        if let (Some(booking), Some(memory)) = (&self.booking, memory) {
            memory.relay(booking, &self.in_memory())?;
        }
        Ok(())
    }

    pub(super) fn pieces(&self) -> Vec<LeasePiece> {
        let mut out = Vec::with_capacity(self.extents.len());
        let mut at = self.start;
        let piece = |from: u64, to: u64, address: Option<u64>| {
            let end = (to * B).min(self.end_byte);
            (from * B < end).then(|| LeasePiece { offset: from * B, len: end - from * B, address })
        };
        for (k, e) in self.extents.iter().filter(|(_, e)| !e.unwritten) {
            out.extend(piece(at, *k, None));
            at = k + u64::from(e.len);
            out.extend(piece(*k, at, Some(e.phys * B)));
        }
        out.extend(piece(at, self.end, None));
        out
    }
}

fn in_memory(access: Access) -> memory::Access {
    match access {
        Access::Read => memory::Access::Read,
        Access::Write => memory::Access::Write,
        Access::Stable => memory::Access::Stable,
        Access::Exclusive => memory::Access::Exclusive,
    }
}

impl Drop for LeaseCore {
    fn drop(&mut self) {
        if super::not_forked().is_err() {
            // Nor does the store's end come in a child.
            std::mem::forget(self.file.clone());
            return;
        }
        self.who.held.fetch_sub(1, Ordering::AcqRel);
        self.file.volume().forget_lease(self);
    }
}

impl std::fmt::Debug for LeaseCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl Volume {
    /// The last handle of a lease is gone: so is the lease.
    fn forget_lease(&self, lease: &LeaseCore) {
        self.leave_window(lease);
        let guards = &lease.file.state().guards;
        let (parent, waited) = guards.with(|t| {
            t.leases.remove(&lease.id);
            (t.arbiter.returned(lease.id), t.arbiter.claims().next().is_some())
        });
        if waited || matches!(parent, End::Gone(Some(_))) {
            self.announce();
        }
    }
}
