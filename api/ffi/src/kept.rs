//! What a handle keeps for its owner, and a queue has for a while.
//!
//! Between submission and completion the queue has it. A handle that is freed meanwhile stays
//! until the completion was polled, which needs what it remembers.

use crate::code::{FH_EBADF, FH_EBUSY};
use crate::fault::Fault;
use crate::object::{Object, fh_queue, not_one, number, peek};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Something that goes to queues and comes back.
pub(crate) struct Kept<T> {
    value: UnsafeCell<Option<T>>,
    /// The handle of the queue that has it, and [`DOOMED`]; 0 while it is here.
    queue: AtomicU64,
    /// What it was submitted with.
    user_data: AtomicU64,
    /// Its own handle.
    handle: u64,
}

/// Its handle was freed while the queue had it. Handles leave this bit free.
const DOOMED: u64 = 1 << 63;

// SAFETY: `value` is written by `Kept::take` and `Kept::back` alone, whose callers are alone with
// it; all else is atomic.
unsafe impl<T: Send + Sync> Sync for Kept<T> {}

/// A handle whose object is such a thing.
pub(crate) trait Lends: Object {
    /// What goes to queues.
    type Lent;
    /// Whether there may be pins, which keep it from being lent.
    const PINNED: bool;
    /// Where it is kept.
    fn kept(inner: &Self::Inner) -> &Kept<Self::Lent>;
}

impl<T> Kept<T> {
    pub(crate) fn new(value: T, handle: u64) -> Self {
        Kept {
            value: UnsafeCell::new(Some(value)),
            queue: AtomicU64::new(0),
            user_data: AtomicU64::new(0),
            handle,
        }
    }

    /// No queue has it.
    #[inline(always)]
    pub(crate) fn is_here(&self) -> bool {
        self.queue.load(Ordering::Acquire) == 0
    }

    /// Looks at it. None while a queue has it.
    ///
    /// # Safety
    /// Nobody lends it, or gets it back, as long as the reference is used.
    pub(crate) unsafe fn look(&self) -> Option<&T> {
        if !self.is_here() {
            return None;
        }
        // SAFETY: as the caller promises.
        unsafe { (*self.value.get()).as_ref() }
    }

    /// The same, to change it.
    ///
    /// # Safety
    /// Nobody else looks at it, lends it or gets it back as long as the reference is used.
    #[expect(clippy::mut_from_ref, reason = "the caller is alone with it")]
    pub(crate) unsafe fn change(&self) -> Option<&mut T> {
        if !self.is_here() {
            return None;
        }
        // SAFETY: as the caller promises.
        unsafe { (*self.value.get()).as_mut() }
    }

    /// Takes it for a queue. None where there is none.
    ///
    /// # Safety
    /// Nobody else looks at it, lends it or gets it back at the same time; no queue has it.
    #[inline(always)]
    pub(crate) unsafe fn take(&self, queue: u64, user_data: u64) -> Option<T> {
        self.user_data.store(user_data, Ordering::Relaxed);
        self.queue.store(queue, Ordering::Release);
        // SAFETY: as the caller promises.
        unsafe { self.value.get().replace(None) }
    }

    /// It comes back: what it was submitted with.
    ///
    /// # Safety
    /// As [`Kept::take`]; it was lent.
    #[inline(always)]
    pub(crate) unsafe fn back(&self, value: Option<T>) -> u64 {
        // SAFETY: as the caller promises; what was lent has left nothing to be dropped.
        unsafe { self.value.get().write(value) };
        let user_data = self.user_data.load(Ordering::Relaxed);
        self.queue.store(0, Ordering::Release);
        user_data
    }

    /// Its handle was freed while the queue had it.
    #[inline(always)]
    pub(crate) fn is_doomed(&self) -> bool {
        self.queue.load(Ordering::Relaxed) & DOOMED != 0
    }

    /// What it is known by while a queue has it: a number below 2^63, whose lowest bits are 0.
    #[inline(always)]
    pub(crate) fn tag(&self) -> u64 {
        std::ptr::from_ref(self).expose_provenance() as u64
    }

    /// What is known by a tag.
    ///
    /// # Safety
    /// The tag is one of such a thing, which a queue has had ever since.
    #[inline(always)]
    pub(crate) unsafe fn of(tag: u64) -> &'static Self {
        // SAFETY: slots stay where they are, and what a queue has is not dropped: its handle is
        // only doomed when it is freed.
        unsafe { &*std::ptr::with_exposed_provenance(tag as usize) }
    }

    /// Gives it up.
    pub(crate) fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }

    /// Why it cannot be used now.
    #[cold]
    #[inline(never)]
    pub(crate) fn away(&self, what: &str) -> Fault {
        match is_queue(self.queue.load(Ordering::Acquire)) {
            true => Fault::new(FH_EBUSY, format!("the {what} is in flight: poll its queue first")),
            false => Fault::new(
                FH_EBADF,
                format!("the {what} was in flight in a queue that was freed, and went with it"),
            ),
        }
    }
}

fn is_queue(queue: u64) -> bool {
    // SAFETY: the object is not looked at.
    unsafe { fh_queue::table().peek(queue & !DOOMED, || ()) }.is_ok()
}

/// Ends a handle: now, or when the queue that has what is behind it tells of the completion.
pub(crate) fn free<O: Lends>(handle: *mut O) {
    crate::fault::quietly(|| {
        let number = number(handle);
        // SAFETY: who frees a handle is alone with it.
        let Ok(inner) = (unsafe { O::table().peek(number, || ()) }) else { return };
        let kept = O::kept(inner);
        let queue = kept.queue.load(Ordering::Acquire);
        if queue != 0 && is_queue(queue) {
            kept.queue.fetch_or(DOOMED, Ordering::AcqRel);
        } else {
            O::table().remove(number);
        }
    });
}

/// What is behind a handle, where it can be lent.
///
/// # Safety
/// Nobody else uses the handle at the same time, but for pins, which are told.
#[inline(always)]
pub(crate) unsafe fn here<O: Lends>(handle: u64) -> Result<&'static Kept<O::Lent>, Fault> {
    let inner = if O::PINNED {
        // SAFETY: the handle is not freed meanwhile, by the caller's promise.
        unsafe { O::table().peek_unused(handle, not_one::<O>, pinned::<O>)? }
    } else {
        // SAFETY: as above.
        unsafe { peek::<O>(handle)? }
    };
    let kept = O::kept(inner);
    match kept.is_here() {
        true => Ok(kept),
        false => Err(kept.away(O::NAME)),
    }
}

/// It cannot be lent, or changed, now.
#[cold]
#[inline(never)]
pub(crate) fn pinned<O: Lends>() -> Fault {
    Fault::new(FH_EBUSY, format!("the {} is pinned: unpin it first", O::NAME))
}

/// What was freed while a queue had it goes.
#[cold]
pub(crate) fn bury<O: Lends>(kept: &Kept<O::Lent>) {
    O::table().remove(kept.handle);
}
