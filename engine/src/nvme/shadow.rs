//! Doorbells, real and shadowed (Base 1.4, 3.1 and 5.7).

use super::spec::PAGE;
use super::spec::registers::crosses_event;
use crate::bus::Register;
use crate::medium::Result;
use crate::memory::{DmaPages, Pool};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// The two pages of Doorbell Buffer Config: what the driver writes, and what the
/// controller asks for.
#[derive(Debug)]
pub(super) struct Shadows {
    pages: DmaPages,
}

impl Shadows {
    pub(super) fn new(pool: &Pool) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { pages: pool.pages(2 * PAGE)? }))
    }

    /// The addresses of both pages.
    pub(super) fn addresses(&self) -> (u64, u64) {
        (self.pages.iova(), self.pages.iova() + PAGE as u64)
    }

    /// Whether a place lies in the pages.
    pub(super) fn has(offset: u64) -> bool {
        offset + 4 <= PAGE as u64
    }
}

/// One doorbell.
#[derive(Debug)]
pub(super) struct Bell {
    register: Register,
    shadow: Option<(Arc<Shadows>, usize)>,
    /// Told by a message though it be mapped.
    by_message: bool,
}

impl Bell {
    /// One without a shadow, mapped where that is possible.
    pub(super) fn real(register: Register) -> Self {
        Self { register, shadow: None, by_message: false }
    }

    /// One without a shadow, of a queue that is seldom used: told by a message, which
    /// wakes a controller that sleeps.
    pub(super) fn seldom(register: Register) -> Self {
        Self { register, shadow: None, by_message: true }
    }

    /// One with a shadow at an offset of the pages, where there are any.
    pub(super) fn new(register: Register, shadows: Option<&Arc<Shadows>>, offset: u64) -> Self {
        let shadow = shadows
            .filter(|_| Shadows::has(offset))
            .map(|shadows| (Arc::clone(shadows), offset as usize));
        Self { register, shadow, by_message: false }
    }

    /// Before the queue is made: nothing was rung, nothing is asked for.
    pub(super) fn clear(&self) {
        if let Some((shadows, at)) = &self.shadow {
            shadows.pages.store32(*at, 0);
            shadows.pages.store32(PAGE + *at, 0);
        }
    }

    /// Tells a new value, after everything that was written before.
    ///
    /// # Errors
    /// What the bus says, where it takes a message.
    pub(super) fn write(&self, new: u32, old: u32) -> Result<()> {
        if self.put(new)? {
            full_fence();
            self.wake(new, old)?;
        }
        Ok(())
    }

    /// Tells a new value where only a controller that is awake sees it: true when, after a
    /// [`full_fence`], [`Bell::wake`] has to follow. One fence does for several doorbells.
    ///
    /// # Errors
    /// What the bus says, where it takes a message.
    #[inline]
    pub(super) fn put(&self, new: u32) -> Result<bool> {
        let Some((shadows, at)) = &self.shadow else {
            fence(Ordering::Release);
            match self.by_message {
                true => self.register.send(new)?,
                false => self.register.write(new)?,
            }
            return Ok(false);
        };
        shadows.pages.store32_release(*at, new);
        Ok(true)
    }

    /// Tells a controller that sleeps of the value that was put last.
    ///
    /// # Errors
    /// What the bus says.
    #[inline]
    pub(super) fn wake(&self, new: u32, old: u32) -> Result<()> {
        let Some((shadows, at)) = &self.shadow else { return Ok(()) };
        let event = shadows.pages.load32(PAGE + *at);
        if crosses_event(event as u16, new as u16, old as u16) {
            // By message, for a store to a mapped doorbell wakes nobody.
            return self.register.send(new);
        }
        Ok(())
    }
}

/// Between shadows and the events beside them. The other side writes its events, fences,
/// and looks at the shadows again: one of the two fences comes first.
#[inline]
pub(super) fn full_fence() {
    fence(Ordering::SeqCst);
}
