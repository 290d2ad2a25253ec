//! A view of a window, and its pins: when a reference into the storage may exist.
//!
//! Three things hold each other up. The *booking* in the window's ledger keeps out
//! whatever would write under a reference. A *pin* (of `crate::pin`) is what a
//! reference borrows. And a booking ends only when the view and all that holds it are
//! gone, so that no pin is left that could give a reference, or when the lease's
//! [`PinState`] says that there is no pin and never will be one. None of them takes
//! the word of the code above. docs/decisions/0016-references-to-storage.md is the
//! argument at length.

use super::ledger::Access;
use super::reach::Reach;
use crate::medium::{Error, ErrorKind, Result};
use crate::pin::{
    ExclusivePin, LongPin, NotHeld, PinRef, PinState, PinWeak, ShortPin, State, barrier, forked,
};
use std::cell::UnsafeCell;
use std::fmt;
use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Where a view's bytes are.
#[derive(Debug)]
struct Place {
    reach: Reach,
    ranges: Box<[Range<u64>]>,
}

/// What the view, its long pins and its booking share.
#[derive(Debug)]
struct Core {
    /// Written by `relay` alone, while `dead`. Read under a pin that found the view
    /// alive, or under `steady`.
    place: UnsafeCell<Place>,
    steady: Mutex<()>,
    /// Of the lease, which may have the booking, and must not be kept by that.
    pins: PinWeak,
    /// The ledger still has the ranges.
    booked: AtomicBool,
    /// Retired while its lease might be held again.
    dead: AtomicBool,
    /// Its bytes can be taken away.
    closes: bool,
}

const fn shared_by_threads<T: Send + Sync>() {}
const _: () = shared_by_threads::<Place>();

// SAFETY: `place` is the only field that is not `Sync` by itself, and what is in it is. It is
// written by `Core::relay` alone, which is alone with it: see there.
unsafe impl Sync for Core {}

impl Core {
    /// It was not retired. After a pin was counted.
    #[inline]
    fn alive(&self) -> std::result::Result<(), NotHeld> {
        match self.dead.load(Ordering::Acquire) {
            false => Ok(()),
            true => Err(NotHeld::Recalled),
        }
    }

    /// The bytes.
    ///
    /// # Safety
    /// A pin of `pins` was counted, found the view alive afterwards, and lasts as long as
    /// the reference.
    #[inline]
    unsafe fn pinned(&self) -> &Reach {
        // SAFETY: who writes `place` has set `dead`, has passed a barrier on every thread,
        // and has then found no pin. So the caller's pin, which is there, came after that,
        // and would have found `dead`; or it found that `relay` had unset it again, which
        // is after the write.
        unsafe { &(*self.place.get()).reach }
    }

    /// Looks at the place without a pin.
    fn steadily<R>(&self, look: impl FnOnce(&Place) -> R) -> R {
        let _steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: `relay` writes under the same lock.
        look(unsafe { &*self.place.get() })
    }

    /// Ends the booking. No pin of `pins` through which this view could be reached is
    /// there, and none comes.
    fn release(&self) {
        self.steadily(|place| {
            if self.booked.swap(false, Ordering::AcqRel) {
                let ledger = place.reach.memory().ledger();
                ledger.release(&place.ranges, place.reach.access());
            }
        });
    }

    /// The view of a retired booking shows other bytes from now on, and lives again.
    /// False if it is not retired and shows these bytes already.
    fn relay(&self, mut next: Place) -> Result<bool> {
        let _steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        let dead = self.dead.load(Ordering::Acquire);
        if !dead || self.booked.load(Ordering::Acquire) {
            // SAFETY: `relay` writes under the same lock.
            let same = !dead && unsafe { &(*self.place.get()).reach }.is_over_the_same(&next.reach);
            return match same {
                true => Ok(false),
                false => Err(Error::new(ErrorKind::Busy, "the view is in use: end its pins first")),
            };
        }
        next.reach.settle(self.closes)?;
        next.reach.memory().ledger().book(&next.ranges, next.reach.access())?;
        // SAFETY: `bury` has set `dead` and has found no pin after a barrier; it and this
        // alone change `dead`, under the lock that is held. A pin that was counted since
        // finds it set and reaches nothing. Whoever has no pin holds the lock to look.
        unsafe { *self.place.get() = next };
        self.booked.store(true, Ordering::Release);
        // Release: who finds the view alive finds its new place.
        self.dead.store(false, Ordering::Release);
        Ok(true)
    }

    fn write_back(&self) -> Result<bool> {
        self.steadily(|Place { reach, .. }| {
            let Some(range) = reach.take_soiled() else { return Ok(false) };
            // A pin that found its bytes noted already did not note them again; this
            // makes what it had stored by then visible, and so part of what is persisted.
            let done = barrier::everywhere().map_err(|e| {
                Error::new(ErrorKind::Unsupported, format!("membarrier was refused: {e}"))
            });
            let done = done.and_then(|()| reach.persist(range.clone()));
            if done.is_err() {
                reach.soil(range);
            }
            done.map(|()| true)
        })
    }
}

/// Whoever can still pin: the view, and its long pins. The booking ends with the last.
#[derive(Debug)]
struct Ticket(Arc<Core>);

impl Drop for Ticket {
    fn drop(&mut self) {
        // A short or exclusive pin borrows the view, and so is over; a long one would
        // have this ticket. A forked child owns no booking, and some thread of its
        // parent's may have had these locks.
        if !forked() {
            self.0.release();
        }
    }
}

/// A lease's way to the bytes of a window. It is the holder's, and there is one: it
/// cannot be cloned, so that `&mut` of it is exclusive. Made by
/// [`WindowMemory::view`](super::WindowMemory::view).
///
/// A reference cannot outlive its pin:
///
/// ```compile_fail,E0505
/// # use freehold_engine::memory::View;
/// fn keep(view: &View) {
///     let pin = view.pin().unwrap();
///     let bytes = pin.slice(0, 8).unwrap();
///     drop(pin);
///     assert_eq!(bytes[0], 0);
/// }
/// ```
///
/// nor a pin its view:
///
/// ```compile_fail,E0505
/// # use freehold_engine::memory::View;
/// fn keep(view: View) {
///     let pin = view.pin().unwrap();
///     drop(view);
///     drop(pin);
/// }
/// ```
///
/// No pin is beside a mutable one:
///
/// ```compile_fail,E0502
/// # use freehold_engine::memory::View;
/// fn both(view: &mut View) {
///     let pin = view.pin().unwrap();
///     let mutable = view.pin_mut().unwrap();
///     drop((pin, mutable));
/// }
/// ```
///
/// and no reference beside a mutable one:
///
/// ```compile_fail,E0502
/// # use freehold_engine::memory::View;
/// fn both(view: &mut View) {
///     let mut pin = view.pin_mut().unwrap();
///     let shared = pin.slice(0, 8).unwrap();
///     pin.slice_mut(0, 8).unwrap()[0] = 1;
///     assert_eq!(shared[0], 0);
/// }
/// ```
///
/// ```compile_fail,E0499
/// # use freehold_engine::memory::View;
/// fn both(view: &mut View) {
///     let mut pin = view.pin_mut().unwrap();
///     let one = pin.slice_mut(0, 8).unwrap();
///     let two = pin.slice_mut(0, 8).unwrap();
///     one[0] = two[0];
/// }
/// ```
///
/// A short pin stays with its thread, and views are not copied:
///
/// ```compile_fail,E0277
/// fn sends<T: Send>() {}
/// sends::<freehold_engine::memory::ViewPin<'static>>();
/// ```
///
/// ```compile_fail,E0277
/// fn clones<T: Clone>() {}
/// clones::<freehold_engine::memory::View>();
/// ```
#[derive(Debug)]
pub struct View {
    core: Arc<Core>,
    pins: PinRef,
    ticket: Arc<Ticket>,
}

impl View {
    /// Books the blocks of what is reached.
    ///
    /// # Errors
    /// `Busy`, see [`WindowMemory::view`](super::WindowMemory::view).
    pub(super) fn new(
        mut reach: Reach,
        ranges: Box<[Range<u64>]>,
        pins: PinRef,
        closes: bool,
    ) -> Result<Self> {
        reach.settle(closes)?;
        reach.memory().ledger().book(&ranges, reach.access())?;
        let core = Arc::new(Core {
            place: UnsafeCell::new(Place { reach, ranges }),
            steady: Mutex::new(()),
            pins: pins.downgrade(),
            booked: AtomicBool::new(true),
            dead: AtomicBool::new(false),
            closes,
        });
        Ok(Self { ticket: Arc::new(Ticket(Arc::clone(&core))), core, pins })
    }

    /// Bytes in it.
    pub fn len(&self) -> u64 {
        self.core.steadily(|place| place.reach.len())
    }

    /// Never: a view has at least a byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What may be done with it.
    pub fn access(&self) -> Access {
        self.core.steadily(|place| place.reach.access())
    }

    /// Pins the lease for a short use by this thread: a few nanoseconds.
    ///
    /// # Errors
    /// [`NotHeld`] says why there is no pin.
    #[inline(always)]
    pub fn pin(&self) -> std::result::Result<ViewPin<'_>, NotHeld> {
        let guard = self.pins.pin()?;
        self.core.alive()?;
        // SAFETY: `guard` was counted, the view is alive, and the pin keeps the guard.
        let reach = unsafe { self.core.pinned() };
        Ok(ViewPin { reach, _guard: guard })
    }

    /// Pins the lease for a use beside which there is no other, of this view or of the
    /// lease: see [`PinState::pin_exclusive`] for what it costs.
    ///
    /// # Errors
    /// [`NotHeld`] says why there is no pin; long pins are waited for by nobody.
    pub fn pin_mut(&mut self) -> std::result::Result<ViewPinMut<'_>, NotHeld> {
        let guard = self.pins.pin_exclusive()?;
        self.core.alive()?;
        // SAFETY: as in `pin`.
        let reach = unsafe { self.core.pinned() };
        Ok(ViewPinMut { reach, written: None, _guard: guard })
    }

    /// Pins the lease for a long use, one that moves between threads, or one that
    /// outlives the view: some 10 ns. The blocks stay booked as long as it lives.
    ///
    /// # Errors
    /// [`NotHeld`] says why there is no pin.
    pub fn hold(&self) -> std::result::Result<ViewHold, NotHeld> {
        let guard = self.pins.hold()?;
        self.core.alive()?;
        Ok(ViewHold { _guard: guard, ticket: Arc::clone(&self.ticket) })
    }

    /// The other end: for who takes the lease back.
    pub fn booking(&self) -> Booking {
        Booking { core: Arc::clone(&self.core), ticket: Arc::downgrade(&self.ticket) }
    }

    /// As [`Booking::write_back`].
    ///
    /// # Errors
    /// As [`Booking::write_back`].
    pub fn write_back(&self) -> Result<bool> {
        self.core.write_back()
    }
}

/// A view as it stands in the window's ledger: for who grants leases and takes them.
/// It reaches no byte.
#[derive(Debug, Clone)]
pub struct Booking {
    core: Arc<Core>,
    ticket: Weak<Ticket>,
}

impl Booking {
    /// Ends the booking, so that the blocks may be booked and written by others. The
    /// view may still be there, but never is pinned again. Done by itself when the
    /// view and its long pins are gone; this is for a lease that was taken from a
    /// holder who keeps the view.
    ///
    /// Returns false, and does nothing, unless the lease is quiet and not held. One that
    /// is only recalled may be held again: this view is not pinned again even then, until
    /// [`WindowMemory::relay`](super::WindowMemory::relay) gives it a place.
    pub fn retire(&self) -> bool {
        let Some(_ticket) = self.ticket.upgrade() else {
            // Whoever drops the last one releases, perhaps at this moment, perhaps much later:
            // a thread can be stopped there. Nobody else can pin any more.
            self.core.release();
            return true;
        };
        // The state before the counts: from these two no way leads back to Held, so
        // that what is quiet then is quiet for ever. A lease that is gone has no pins.
        let pins = self.core.pins.upgrade();
        let over = match pins.as_deref().map(PinState::state) {
            Some(State::Held) => false,
            Some(State::Returned | State::Revoked) => pins.is_none_or(|p| p.is_quiet()),
            _ => self.bury(pins.as_deref()),
        };
        if over {
            self.core.release();
        }
        over
    }

    /// Ends the view of a lease that may be held again at any moment. A pin is counted
    /// first and looks at `dead` afterwards; here `dead` is set first, every thread passes a
    /// barrier, and the counts are looked at afterwards: one of both sees the other.
    fn bury(&self, pins: Option<&PinState>) -> bool {
        let core = &self.core;
        let _steady = core.steady.lock().unwrap_or_else(PoisonError::into_inner);
        if core.dead.load(Ordering::Acquire) {
            return true;
        }
        core.dead.store(true, Ordering::SeqCst);
        let quiet = barrier::everywhere().is_ok() && pins.is_none_or(PinState::is_quiet);
        if !quiet {
            core.dead.store(false, Ordering::SeqCst);
        }
        quiet
    }

    /// Makes durable what was written through the view by pins that have ended (law
    /// R2), and says whether there was any. Bytes under a pin that may write and lives
    /// are not covered. On a window whose stores are durable as they are made this
    /// costs next to nothing; else a membarrier, and a write-back of each line.
    ///
    /// # Errors
    /// What the medium reports; the bytes still count as written and not durable.
    pub fn write_back(&self) -> Result<bool> {
        self.core.write_back()
    }

    /// Replaces the view's bytes by pages that cannot be touched, if it was made so that it can
    /// be ([`WindowMemory::view_that_closes`](super::WindowMemory::view_that_closes)): whoever
    /// still uses an address of it faults. For a lease that was fenced (law R4): pins that are
    /// left reach nothing any more. The addresses are nobody else's until the view and its
    /// pins are gone. False, with nothing done, for any other view.
    ///
    /// # Errors
    /// `Limit` where the system refuses.
    pub fn close(&self) -> Result<bool> {
        match self.core.closes {
            true => self.core.steadily(|place| place.reach.close()),
            false => Ok(false),
        }
    }

    /// Blocks of the medium that are booked, in the order of the view.
    pub fn blocks(&self) -> Box<[Range<u64>]> {
        self.core.steadily(|place| place.ranges.clone())
    }

    /// What was retired shows these bytes from now on; the same view can be pinned again
    /// when its lease is held. False, with nothing done, if it shows them already or its
    /// view is gone.
    pub(super) fn relay(&self, reach: Reach, ranges: Box<[Range<u64>]>) -> Result<bool> {
        // It keeps the new booking from outliving the view.
        let Some(_ticket) = self.ticket.upgrade() else { return Ok(false) };
        self.core.relay(Place { reach, ranges })
    }

    pub(super) fn access(&self) -> Access {
        self.core.steadily(|place| place.reach.access())
    }
}

/// A short use of a view. Gives a [`Reach`].
#[derive(Debug)]
#[must_use = "a pin that is dropped at once protects nothing"]
pub struct ViewPin<'a> {
    reach: &'a Reach,
    _guard: ShortPin<'a>,
}

impl Deref for ViewPin<'_> {
    type Target = Reach;

    // The reference borrows the pin, not the view: nothing that is got from it
    // outlives the guard.
    fn deref(&self) -> &Reach {
        self.reach
    }
}

impl Drop for ViewPin<'_> {
    #[inline]
    fn drop(&mut self) {
        self.reach.soil_raw();
    }
}

/// A use of a view beside which there is no other. Gives a [`Reach`], and `&mut [u8]`
/// where the access is Exclusive.
#[derive(Debug)]
#[must_use = "a pin that is dropped at once protects nothing"]
pub struct ViewPinMut<'a> {
    reach: &'a Reach,
    /// What was given out to be written.
    written: Option<Range<u64>>,
    _guard: ExclusivePin<'a>,
}

impl ViewPinMut<'_> {
    fn note(&mut self, range: Range<u64>) {
        let old = self.written.take().unwrap_or(range.clone());
        self.written = Some(old.start.min(range.start)..old.end.max(range.end));
    }

    /// A range that lies side by side, to be written in place. It counts as written
    /// when the pin ends.
    ///
    /// # Errors
    /// `Invalid` outside the view, for a range of several parts, and unless the access
    /// is Exclusive.
    pub fn slice_mut(&mut self, at: u64, len: u64) -> Result<&mut [u8]> {
        self.note(at..at.saturating_add(len));
        // SAFETY: this is the exclusive pin, and `self` is borrowed mutably for as
        // long as the reference lives.
        unsafe { self.reach.slice_mut(at, len) }
    }

    /// All bytes in order, in parts that lie side by side, to be written in place.
    /// Empty unless the access is Exclusive.
    pub fn parts_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.note(0..self.reach.len());
        // SAFETY: as in `slice_mut`; the parts do not overlap each other.
        unsafe { self.reach.parts_mut() }
    }
}

impl Deref for ViewPinMut<'_> {
    type Target = Reach;

    fn deref(&self) -> &Reach {
        self.reach
    }
}

impl Drop for ViewPinMut<'_> {
    fn drop(&mut self) {
        if let Some(Range { start, end }) = self.written.take() {
            self.reach.soil(start..end.min(self.reach.len()));
        }
        self.reach.soil_raw();
    }
}

/// A long use of a view: it may be sent and outlive the view. Gives a [`Reach`].
#[derive(Debug)]
pub struct ViewHold {
    /// Before the ticket: the pin ends first, then, perhaps, the booking.
    _guard: LongPin,
    ticket: Arc<Ticket>,
}

impl ViewHold {
    /// Where a byte lies, to be written through by code in another language, and how many lie
    /// there side by side: under Write access by volatile or atomic accesses; under Exclusive
    /// access the caller sees to it that no reference into the view is there meanwhile. From
    /// then on the whole view counts as written each time that a pin of it ends.
    ///
    /// # Errors
    /// `Invalid` outside the view, and unless the access writes.
    pub fn as_mut_ptr(&self, at: u64) -> Result<(*mut u8, usize)> {
        self.ptr_to_write(at)
    }

    /// Turns it into bytes that lie side by side, to be given away:
    /// `bytes::Bytes::from_owner` takes them.
    ///
    /// # Errors
    /// As [`Reach::slice`]; the use is over then.
    pub fn into_bytes(self, at: u64, len: u64) -> Result<HeldBytes> {
        self.slice(at, len)?;
        Ok(HeldBytes { hold: self, at, len })
    }
}

impl Deref for ViewHold {
    type Target = Reach;

    fn deref(&self) -> &Reach {
        // SAFETY: the guard was counted before the view was found alive, and the reference
        // borrows what has it.
        unsafe { self.ticket.0.pinned() }
    }
}

impl Drop for ViewHold {
    fn drop(&mut self) {
        self.soil_raw();
    }
}

/// Bytes of a window that nobody writes while this lives: a long use of a Stable (or
/// Exclusive) view that may be sent anywhere.
///
/// ```
/// fn goes_anywhere<T: AsRef<[u8]> + Send + Sync + 'static>() {}
/// goes_anywhere::<freehold_engine::memory::HeldBytes>();
/// ```
pub struct HeldBytes {
    hold: ViewHold,
    at: u64,
    len: u64,
}

impl AsRef<[u8]> for HeldBytes {
    fn as_ref(&self) -> &[u8] {
        // It was asked for once, and what lies side by side does not change.
        self.hold.slice(self.at, self.len).unwrap_or_default()
    }
}

impl fmt::Debug for HeldBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldBytes").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
