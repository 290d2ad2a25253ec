//! A lease: a session's right to use a range of a file directly.
//!
//! Its state (held, recalled, fenced, revoked) and its pins are one word and some counters
//! of the engine's ([`freehold_engine::pin`]); the arbiter of the file has it by its
//! number. What it may touch is its *layout*: the extents that stood behind its range
//! when it was granted. While it is held nothing moves them, so I/O through a lease
//! looks nothing up.
//!
//! A lease keeps its file alive as long as it is in force, and gives itself back when its last
//! handle goes; that waits for nothing (law R3).
//!
//! Not here: giving ([`super::grant`]), taking ([`super::revoke`]).

use super::Volume;
use super::file::{FileHandle, FileState};
use super::grant::LeaseSpec;
use super::layout::{Is, Layout};
use super::sessions::SessionCore;
use super::tenancy::Tenancy;
use super::write::B;
use crate::arbiter::{Access, End, Id, State};
use crate::error::{Error, ErrorKind, Result};
use freehold_engine::memory::{self, Piece, View, WindowMemory};
use freehold_engine::pin::{self, LongPin, NotHeld, PinRef, PinState};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// A lease and what stands behind it.
pub struct LeaseCore {
    pin: PinState,
    id: Id,
    tenancy: Arc<Tenancy>,
    /// When it was granted, on the monotonic clock in nanoseconds.
    since: u64,
    layout: Mutex<Layout>,
    /// Buffers with bytes that were not flushed.
    unflushed: AtomicU32,
    /// Milliseconds.
    max_hold: u16,
    access: Access,
    /// It was asked for back, and what is unflushed may still be flushed.
    may_flush: AtomicBool,
}

// With the two counts of its `Arc` it fills a piece of memory of 128 bytes, of which
// allocators take 8 for themselves.
const _: () = assert!(size_of::<LeaseCore>() <= 104);

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
        id: Id,
        spec: LeaseSpec,
        tenancy: Arc<Tenancy>,
        pin: PinState,
        layout: Layout,
    ) -> Self {
        tenancy.who().held.fetch_add(1, Ordering::AcqRel);
        LeaseCore {
            pin,
            id,
            tenancy,
            since: super::clock(),
            layout: Mutex::new(layout),
            unflushed: AtomicU32::new(0),
            max_hold: spec.max_hold.as_millis().min(u128::from(u16::MAX)) as u16,
            access: spec.access,
            may_flush: AtomicBool::new(false),
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
        self.tenancy.who()
    }

    pub(super) fn tenancy(&self) -> &Arc<Tenancy> {
        &self.tenancy
    }

    pub(super) fn file_state(&self) -> &Arc<FileState> {
        self.tenancy.state()
    }

    /// The number of the file that it is over.
    pub fn file_id(&self) -> u64 {
        self.file_state().id
    }

    /// The store, unless it is gone and so is the lease.
    ///
    /// # Errors
    /// `Revoked`.
    pub fn volume(&self) -> Result<Arc<Volume>> {
        self.tenancy.volume().ok_or_else(|| {
            let why = format!("{} has ended, and its store was closed", self.name());
            Error::new(ErrorKind::Revoked, why)
        })
    }

    /// It is one of this store's.
    pub fn is_in(&self, vol: &Arc<Volume>) -> bool {
        self.tenancy.is_in(vol)
    }

    /// One more handle of the file that it is over.
    ///
    /// # Errors
    /// `Revoked` if the store is gone; `NotFound` if the lease is, and the file.
    pub fn file(&self) -> Result<FileHandle> {
        self.volume()?.open_again(self.file_state())
    }

    fn announce(&self) {
        if let Some(vol) = self.tenancy.volume() {
            vol.announce();
        }
    }

    /// Its state, and its pins.
    pub fn pins(&self) -> &PinState {
        &self.pin
    }

    /// Pins it for a use that may last, or move between threads.
    ///
    /// # Errors
    /// Why there is no pin.
    pub fn hold(self: &Arc<Self>) -> std::result::Result<LongPin, NotHeld> {
        PinRef::new(self).hold()
    }

    pub(super) fn layout(&self) -> MutexGuard<'_, Layout> {
        self.layout.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// First byte and the one behind the last.
    pub fn range(&self) -> (u64, u64) {
        let l = self.layout();
        (l.start() * B, l.end_byte())
    }

    /// The same in blocks.
    pub(super) fn blocks(&self) -> (u64, u64) {
        let l = self.layout();
        (l.start(), l.end())
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
            self.announce();
        }
    }

    /// Where it is in its life; nothing once it is given back.
    pub fn state(&self) -> Option<State> {
        let state = self.file_state().guards.look(|t| t.arbiter.state(self.id)).flatten();
        let (l, seq) = (self.layout(), self.pin.seq());
        match state {
            Some(State::Held { seq }) if l.is.contains(Is::STALE) => Some(State::Stale { seq }),
            // The table of a file that nobody uses forgets.
            None if l.is.contains(Is::TAKEN) => Some(State::Taken { seq }),
            None if l.is.contains(Is::GONE) && !l.is.contains(Is::RETURNED) => {
                Some(State::Revoked { seq })
            }
            state => state,
        }
    }

    /// Its delegates have it: it gives no pins while there are any.
    pub fn is_suspended(&self) -> bool {
        self.file_state().guards.look(|t| t.arbiter.suspended(self.id)).unwrap_or(false)
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
        let booking = self.layout().booking().cloned();
        booking.map_or(Ok(false), |b| b.write_back().map_err(Error::from))
    }

    /// Its own session changed the map: it is refreshed before it is next used.
    pub fn is_stale(&self) -> bool {
        self.layout().is.contains(Is::STALE)
    }

    /// Bytes of so many from an offset on that the lease has.
    pub(super) fn valid(&self, offset: u64, bytes: usize) -> usize {
        self.layout().end_byte().saturating_sub(offset).min(bytes as u64) as usize
    }

    /// File blocks as runs of one command each: where, how many, and the block on the
    /// medium; none where nothing is written.
    pub(super) fn runs(&self, first: u64, blocks: u64, most: u64) -> Vec<(u64, u64, Option<u64>)> {
        let l = self.layout();
        let (mut at, end) = (first, first + blocks);
        let mut out = Vec::new();
        for (k, e) in l.extents() {
            let (from, to) = (k.max(at), (k + u64::from(e.len)).min(end));
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

    /// Its grant's place among those that ask, for a flush behind a recall: that goes before
    /// all that waits for it. A grant gives its own number to its lease. Delegates have none.
    pub(super) fn ticket(&self) -> Option<u64> {
        (!self.layout().is.contains(Is::PART)).then_some(self.id)
    }

    /// It was asked for back.
    pub(super) fn is_recalled(&self) -> bool {
        let recalled = |t: &super::guards::Table| {
            matches!(t.arbiter.state(self.id), Some(State::Recalled { .. }))
        };
        self.file_state().guards.look(recalled).unwrap_or(false)
    }

    /// May a flush go on behind a recall? Under the lock of the file's guards, as the
    /// beginning of a fence is, and with the command counted.
    pub(super) fn flush_late(&self, t: &super::guards::Table) -> bool {
        let recalled = matches!(t.arbiter.state(self.id), Some(State::Recalled { .. }));
        recalled && self.may_flush()
    }

    pub(super) fn command_begins(&self) {
        self.layout().rare_mut().commands += 1;
    }

    pub(super) fn command_over(&self) {
        self.layout().rare_mut().commands -= 1;
        if self.pin.state() != pin::State::Held {
            self.announce();
        }
    }

    /// No command of the store's own goes through it.
    pub(super) fn has_no_io(&self) -> bool {
        self.pin.counts().io == 0 && self.commands() == 0
    }

    /// A thread, or memory that is lent out, has it pinned.
    pub(super) fn is_in_hand(&self) -> bool {
        let c = self.pin.counts();
        c.short > 0 || c.exclusive || c.long > 0
    }

    /// Flushes behind a recall.
    pub(super) fn commands(&self) -> u64 {
        self.layout().commands()
    }

    /// When it was granted, in nanoseconds of the monotonic clock.
    pub(super) fn since(&self) -> u64 {
        self.since
    }

    /// The lease's bytes as memory, where the medium is such. One view at a time.
    ///
    /// # Errors
    /// `Busy` while another view of the lease is there; `Recalled`, `Revoked`;
    /// `Unsupported` on a medium that the CPU does not reach, or that does not give such
    /// views.
    pub fn view(self: &Arc<Self>) -> Result<View> {
        self.view_by(WindowMemory::view)
    }

    /// The same, at addresses that become inaccessible when the lease is fenced with a pin left
    /// (law R4): for holders who would rather fault than reach what is not theirs any more. For
    /// Read and Write access.
    ///
    /// # Errors
    /// As [`Self::view`]; `Unsupported` where the medium has no file that could be mapped once
    /// more, or the lease has more than 64 extents; `Invalid` for Stable and Exclusive access.
    pub fn view_that_closes(self: &Arc<Self>) -> Result<View> {
        self.view_by(WindowMemory::view_that_closes)
    }

    fn view_by(self: &Arc<Self>, make: MakeView) -> Result<View> {
        let vol = self.volume()?;
        let memory = vol.medium().window_memory().ok_or_else(|| {
            let why = "the CPU does not reach this medium: take memory for the lease instead";
            Error::new(ErrorKind::Unsupported, why)
        })?;
        // A pin keeps the layout as it is.
        let _pin = self.hold().map_err(|_| self.refusal())?;
        let mut l = self.layout();
        if let Some(old) = l.booking() {
            // What was written through a buffer that was dropped.
            old.write_back()?;
            if !old.retire() {
                drop(l);
                let why = format!("{} has a buffer on the window already", self.name());
                return Err(Error::new(ErrorKind::Busy, why));
            }
        }
        let pieces = l.in_memory();
        let view = make(&memory, in_memory(self.access), &pieces, &PinRef::new(self))?;
        l.rare_mut().booking = Some(view.booking());
        Ok(view)
    }

    /// A fence has come to its end: a window that can be taken away is.
    pub(super) fn close_view(&self) {
        let booking = self.layout().booking().cloned();
        if let Some(Err(error)) = booking.map(|b| b.close()) {
            // Quarantine keeps its blocks from being anybody else's all the same.
            tracing::warn!(%error, lease = self.id, "a window stays where it was");
        }
    }

    /// Whether the medium has memory that a view with this access can be of.
    ///
    /// # Errors
    /// As [`Self::volume`].
    pub fn has_window(&self) -> Result<bool> {
        let memory = self.volume()?.medium().window_memory();
        Ok(memory.is_some_and(|memory| memory.gives(in_memory(self.access))))
    }

    /// The medium's own memory was used through it.
    pub(super) fn is_window(&self) -> bool {
        self.layout().booking().is_some()
    }

    pub(super) fn is_clean(&self) -> bool {
        self.unflushed.load(Ordering::Acquire) == 0 && self.commands() == 0
    }

    pub(super) fn is_registered(&self) -> bool {
        !self.layout().registered().is_empty()
    }

    /// Neither unflushed bytes, nor a command behind a recall, nor a registration.
    pub(super) fn is_spare(&self) -> bool {
        let l = self.layout();
        self.unflushed.load(Ordering::Acquire) == 0
            && l.commands() == 0
            && l.registered().is_empty()
    }

    /// Nothing uses it but what a buffer has that was not flushed. Pins are not looked at.
    pub(super) fn is_only_dirty(&self) -> bool {
        let l = self.layout();
        l.commands() == 0 && l.registered().is_empty()
    }

    /// It was asked for back with all that it is over, and nothing uses it any more but
    /// unflushed bytes: there is nowhere to write them to.
    pub(super) fn is_lost(&self) -> bool {
        !self.may_flush() && self.is_only_dirty() && self.pin.is_quiet()
    }

    /// What is unflushed may be flushed behind the recall.
    pub(super) fn may_flush(&self) -> bool {
        self.may_flush.load(Ordering::Acquire)
    }

    /// Why it cannot be used now, as an error. Not under the lock of the file's guards.
    pub fn refusal(&self) -> Error {
        let age = Duration::from_nanos(super::clock().saturating_sub(self.since));
        let name = format!("{} of session {}, {age:.1?} old,", self.name(), self.session().id());
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
        let (access, file) = (self.access, self.file_id());
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
        if let (Some(booking), Some(memory)) = (self.booking(), memory) {
            memory.relay(booking, &self.in_memory())?;
        }
        Ok(())
    }
}

/// How a view is made.
type MakeView =
    fn(&WindowMemory, memory::Access, &[Piece], &PinRef) -> freehold_engine::medium::Result<View>;

fn in_memory(access: Access) -> memory::Access {
    match access {
        Access::Read => memory::Access::Read,
        Access::Write => memory::Access::Write,
        Access::Stable => memory::Access::Stable,
        Access::Exclusive => memory::Access::Exclusive,
    }
}

impl AsRef<PinState> for LeaseCore {
    fn as_ref(&self) -> &PinState {
        &self.pin
    }
}

impl Drop for LeaseCore {
    fn drop(&mut self) {
        if super::not_forked().is_err() {
            // Nor does the store's end come in a child.
            std::mem::forget(self.tenancy.clone());
            return;
        }
        self.session().held.fetch_sub(1, Ordering::AcqRel);
        // There is none only for a lease that has ended, and so has nothing in a window.
        let vol = self.tenancy.volume();
        if let Some(vol) = &vol {
            vol.leave_window(self);
        }
        let (open, end, waited) = self.file_state().guards.with(|t| {
            let open = t.leave(self);
            let end = t.arbiter.returned(self.id);
            if let (Some(vol), End::Gone(_)) = (&vol, &end) {
                vol.in_no_way(t, self.id);
            }
            (open, end, t.arbiter.claims().next().is_some())
        });
        if let Some(vol) = vol
            && (waited || matches!(end, End::Gone(Some(_))))
        {
            vol.announce();
        }
        drop(open);
    }
}

impl std::fmt::Debug for LeaseCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}
