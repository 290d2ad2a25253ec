//! A place for a shared value that may be taken away.

#![cfg(not(all(loom, test)))]

use super::grave;
use super::record::{Reading, reading};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

/// A value that many read and that may come and go. It has one share of the value, as a
/// clone of the [`Arc`] would.
pub struct Slot<T> {
    /// Null, or what `Arc::into_raw` gave.
    at: AtomicPtr<T>,
    _owns: PhantomData<Arc<T>>,
}

impl<T> Slot<T> {
    /// Without a value.
    pub const fn empty() -> Self {
        Slot { at: AtomicPtr::new(ptr::null_mut()), _owns: PhantomData }
    }

    /// With a value.
    pub fn new(value: Arc<T>) -> Self {
        Slot { at: AtomicPtr::new(Arc::into_raw(value).cast_mut()), _owns: PhantomData }
    }

    /// The value, if there is one, for as long as the reading goes on.
    #[inline(always)]
    pub fn get<'a>(&'a self, _: &'a Reading) -> Option<&'a T> {
        let at = self.at.load(Acquire);
        // SAFETY: null, or a value in which this slot has a share. The share ends with
        // the slot, which is borrowed for as long, or by `evict`: then it is kept until
        // this reading, which began before the load, is over.
        unsafe { at.as_ref() }
    }

    /// A share of the value, if there is one.
    pub fn share(&self) -> Option<Arc<T>> {
        let reading = reading();
        let at: *const T = self.get(&reading)?;
        // SAFETY: `at` came from `Arc::into_raw`, and the reading keeps the slot's
        // own share of it, so the count is at least one here.
        unsafe {
            Arc::increment_strong_count(at);
            Some(Arc::from_raw(at))
        }
    }

    /// How many have a share of the value, the slot itself included; 0 if it is empty.
    /// A moment later it may be otherwise.
    pub fn shares(&self) -> usize {
        let reading = reading();
        self.get(&reading).map_or(0, |at| {
            // SAFETY: `at` came from `Arc::into_raw`, the reading keeps a share of it, and
            // the share that is made up here is never dropped.
            let borrowed = ManuallyDrop::new(unsafe { Arc::from_raw(ptr::from_ref(at)) });
            Arc::strong_count(&borrowed)
        })
    }

    /// Puts a value in.
    ///
    /// # Errors
    /// The value that is there already, which stays.
    pub fn fill(&self, value: Arc<T>) -> Result<(), Arc<T>> {
        let new = Arc::into_raw(value).cast_mut();
        loop {
            if self.at.compare_exchange(ptr::null_mut(), new, AcqRel, Acquire).is_ok() {
                return Ok(());
            }
            if let Some(there) = self.share() {
                // SAFETY: it came from `Arc::into_raw` above and was not put anywhere.
                drop(unsafe { Arc::from_raw(new) });
                return Err(there);
            }
        }
    }

    /// Takes the value out, to be freed by [`super::sweep`] when nobody reads it any
    /// more, if nobody else has a share by then. False if it is empty.
    pub fn evict(&self) -> bool
    where
        T: Send + Sync + 'static,
    {
        let at = self.at.swap(ptr::null_mut(), AcqRel);
        if at.is_null() {
            return false;
        }
        // SAFETY: it came from `Arc::into_raw`, and the slot's share is given up here, by
        // the one call that found it.
        grave::bury(unsafe { Arc::from_raw(at) });
        true
    }

    /// What it holds; nobody else reads it.
    pub fn into_inner(self) -> Option<Arc<T>> {
        ManuallyDrop::new(self).take()
    }

    fn take(&mut self) -> Option<Arc<T>> {
        let at = std::mem::replace(self.at.get_mut(), ptr::null_mut());
        // SAFETY: it came from `Arc::into_raw`, and the slot's share is given up here. The
        // slot is borrowed mutably, so no reference that `get` gave is left.
        (!at.is_null()).then(|| unsafe { Arc::from_raw(at) })
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        drop(self.take());
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.at.load(Acquire).is_null() { "empty" } else { "full" })
    }
}
