//! The caller's own memory as buffers, page by page.
//!
//! Its owner gives it up for the time, and gets it back when no buffer of it is left
//! and no device can reach it.

use super::buffer::Buffer;
use super::pool::{Inner, Pool};
use super::slab::Slabs;
use crate::medium::{BLOCK, Error, ErrorKind, Result};
use rustix::mm::Advice;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// A page of memory that a program has anywhere it likes.
#[derive(Debug, Clone)]
#[repr(C, align(4096))]
pub struct Page(pub [u8; BLOCK]);

impl Default for Page {
    fn default() -> Self {
        Self([0; BLOCK])
    }
}

/// Memory that can be adopted: something that owns whole pages.
///
/// # Safety
/// [`pages`](Self::pages) gives one range that is mapped, readable and writable, and
/// initialised. From that call on, until the value is dropped or used again, the
/// range stays so, at the same address wherever the value is moved to, and nobody
/// else reads or writes it: no thread, no reference, no other process, no device.
pub unsafe trait Pages: Send + 'static {
    /// First byte and length.
    fn pages(&mut self) -> (NonNull<u8>, usize);
}

// SAFETY: a vector owns its elements, which do not move while it is not used, and
// pages are initialised bytes.
unsafe impl Pages for Vec<Page> {
    fn pages(&mut self) -> (NonNull<u8>, usize) {
        let len = self.len() * BLOCK;
        (NonNull::from(self.as_mut_slice()).cast(), len)
    }
}

/// Memory of the caller, adopted by a medium's pool: a buffer at a time, for commands
/// like any other buffer. On kernel VFIO the device reaches it where it is; a peer over
/// vfio-user never does (law M4), and bytes are copied by the queue.
///
/// Dropped while buffers of it are out, or when the device does not let go of it, the
/// memory stays until neither is so.
///
/// # Examples
/// ```
/// use freehold_engine::memory::{Page, Pool};
///
/// let pool = Pool::new(); // or that of a medium
/// let adopted = pool.adopt(vec![Page::default(); 4])?;
/// let mut buffer = adopted.buffer()?;
/// buffer[0] = 7;
/// let adopted = adopted.into_inner().unwrap_err().0; // the buffer is out
/// drop(buffer);
/// let pages = adopted.into_inner().unwrap();
/// assert_eq!(pages[0].0[0], 7);
/// # Ok::<(), freehold_engine::medium::Error>(())
/// ```
pub struct Adopted<P: Pages> {
    inner: Arc<Inner>,
    kind: PhantomData<fn() -> P>,
}

impl Pool {
    /// Adopts memory of the caller for this pool's device.
    ///
    /// # Errors
    /// `Invalid` when it is not made of whole pages of the system; what the transport
    /// says when it maps it. The memory is dropped then.
    pub fn adopt<P: Pages>(&self, pages: P) -> Result<Adopted<P>> {
        // Boxed first, so that the value stays where it is.
        let mut owner = Box::new(pages);
        let (base, len) = owner.pages();
        let page = rustix::param::page_size();
        if len == 0
            || len / BLOCK > u32::MAX as usize
            || !len.is_multiple_of(page.max(BLOCK))
            || !base.addr().get().is_multiple_of(page)
        {
            let text = format!("memory of {len} bytes at {base:p} is not made of whole pages");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let mut keeper = Keeper {
            owner: Mutex::new(Some(owner)),
            base,
            len,
            iova: None,
            slabs: self.slabs().cloned(),
        };
        // A child that had the pages would take them from a device that writes to
        // them: its first write, or the parent's, gives the writer a page of its own.
        keeper.advise(Advice::LinuxDontFork)?;
        if let Some(slabs) = self.slabs() {
            keeper.iova = slabs.backing().adopted(base.addr().get(), len)?;
        }
        let slabs = self.slabs().cloned();
        Ok(Adopted { inner: Inner::over(keeper, slabs), kind: PhantomData })
    }
}

impl<P: Pages> Adopted<P> {
    /// All of the memory as one buffer, which can be cut and joined as others.
    ///
    /// # Errors
    /// `Busy` while any of it is out.
    pub fn buffer(&self) -> Result<Buffer> {
        self.inner.whole().ok_or_else(|| out("a buffer of adopted memory is out already"))
    }

    /// Gives the memory back, with whatever the buffers left in it.
    ///
    /// # Errors
    /// Itself, and why: `Busy` while a buffer of it is out, which one in flight is;
    /// what the transport says while the device may still reach it.
    pub fn into_inner(self) -> std::result::Result<P, (Self, Error)> {
        let mut inner = match Arc::try_unwrap(self.inner) {
            Ok(inner) => inner,
            Err(inner) => {
                let why = out("buffers of adopted memory are still out");
                return Err((Self { inner, kind: PhantomData }, why));
            }
        };
        let taken = match inner.keeper() {
            Some(keeper) => keeper.give_back(),
            None => Err(out("adopted memory is gone")),
        };
        let owner = taken.and_then(|owner| {
            owner.downcast::<P>().map_err(|_| out("adopted memory is of another kind"))
        });
        match owner {
            Ok(owner) => Ok(*owner),
            Err(why) => Err((Self { inner: Arc::new(inner), kind: PhantomData }, why)),
        }
    }
}

impl<P: Pages> fmt::Debug for Adopted<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adopted").finish_non_exhaustive()
    }
}

fn out(text: &str) -> Error {
    Error::new(ErrorKind::Busy, text)
}

/// Owns adopted memory, and takes it back from the device.
pub(super) struct Keeper {
    /// In a mutex so that it can be shared; it is used by its one owner alone.
    owner: Mutex<Option<Box<dyn Any + Send>>>,
    base: NonNull<u8>,
    len: usize,
    /// Where the device has it.
    iova: Option<u64>,
    slabs: Option<Arc<Slabs>>,
}

// SAFETY: the address is that of memory that the owner, which is `Send`, has; the
// keeper itself never touches the bytes.
unsafe impl Send for Keeper {}
// SAFETY: as above: `&Keeper` only tells where the memory lies.
unsafe impl Sync for Keeper {}

impl Keeper {
    pub(super) fn place(&self) -> (NonNull<u8>, usize) {
        (self.base, self.len)
    }

    pub(super) fn iova(&self) -> Option<u64> {
        self.iova
    }

    fn advise(&self, advice: Advice) -> Result<()> {
        // SAFETY: the range is whole pages that the owner has, so nothing else lies on
        // them. The advice changes only what a forked child inherits.
        unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), self.len, advice) }.map_err(|e| {
            let text = format!("cannot keep adopted memory from a forked child: {e}");
            Error::new(ErrorKind::Limit, text)
        })
    }

    /// Takes the memory from the device.
    fn unmap(&mut self) -> Result<()> {
        if let (Some(iova), Some(slabs)) = (self.iova, &self.slabs) {
            slabs.backing().removed(iova, self.len)?;
            self.iova = None;
        }
        Ok(())
    }

    /// The owner, once no device reaches the memory. No buffer may be left.
    fn give_back(&mut self) -> Result<Box<dyn Any + Send>> {
        self.unmap()?;
        self.advise(Advice::LinuxDoFork)?;
        let owner = self.owner.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        owner.ok_or_else(|| out("adopted memory was given back already"))
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let unmapped = self.unmap();
        let owner = self.owner.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(owner) = owner else { return };
        match unmapped {
            Ok(()) => {
                let _ = self.advise(Advice::LinuxDoFork);
                drop(owner);
            }
            Err(error) => {
                // The device may still write there: nobody else gets the memory.
                tracing::warn!(len = self.len, %error, "adopted memory stays with the device");
                if let Some(slabs) = &self.slabs {
                    slabs.withhold(self.len);
                }
                std::mem::forget(owner);
            }
        }
    }
}
