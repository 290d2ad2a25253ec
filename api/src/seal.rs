//! Seals: what may not happen to a file while they are set.

use crate::file::bounds;
use crate::{File, Kinds, Result};
use freehold_blockmap::{SealCore, SealSpec, not_forked};
use std::ops::RangeBounds;
use std::time::Duration;

/// How a seal is set. By default: for good, and after at most a second of waiting.
///
/// ```
/// let o = freehold::SealOptions { breakable: true, ..Default::default() };
/// # assert_eq!(o.timeout.as_secs(), 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealOptions {
    /// Who needs the range may ask for the seal back: its session gets an
    /// [`Event::Recall`](crate::Event::Recall), and it is cleared at the deadline. Otherwise
    /// whatever it forbids fails with `Sealed`.
    pub breakable: bool,
    /// How long setting it may wait for others: for leases and breakable seals that are in
    /// the way, and for writes under way.
    pub timeout: Duration,
}

impl Default for SealOptions {
    fn default() -> Self {
        SealOptions { breakable: false, timeout: Duration::from_secs(1) }
    }
}

/// A seal that is set. It is cleared when this is dropped, with its session, and by a crash;
/// nothing of it is on the medium. It keeps its file, and its session, alive. Any thread may
/// have it.
#[derive(Debug)]
#[must_use = "a seal that is dropped at once seals nothing"]
pub struct Seal {
    core: SealCore,
}

impl File {
    /// Sets a seal on a range of bytes, rounded out to whole blocks. [`Kinds::SHRINK`],
    /// [`Kinds::GROW`] and [`Kinds::SEAL`] speak of the whole file, and so does a seal that has
    /// one of them. It is set wholly or not at all, and in force when this returns. It
    /// binds its own session, too. Blocks while others are in the way; never takes by force
    /// what is in use.
    ///
    /// ```
    /// use freehold::{ErrorKind, Kinds, SealOptions, Store};
    /// let store = Store::format("mem:16M", &Default::default())?;
    /// let file = store.create(b"f")?;
    /// file.write_at(&[1; 8192], 0)?;
    ///
    /// let seal = file.seal(Kinds::LAYOUT | Kinds::SHRINK, .., &SealOptions::default())?;
    /// file.write_at(&[2; 8192], 0)?; // bytes may change; where they lie may not
    /// assert_eq!(file.truncate(0).unwrap_err().kind(), ErrorKind::Sealed);
    /// assert!(seal.clear());
    /// file.truncate(0)?;
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for no kinds or an empty range; `Sealed` where [`Kinds::SEAL`] is set by
    /// another session; `Busy` when the time is over, with no seal set; `WouldDeadlock`;
    /// `ReadOnly` on a store that cannot be written; `ForkedChild`.
    pub fn seal(
        &self,
        kinds: Kinds,
        range: impl RangeBounds<u64>,
        options: &SealOptions,
    ) -> Result<Seal> {
        let volume = self.volume()?;
        if volume.info().read_only {
            let why = "only who may write a file may seal it: the store is open for reading only";
            return Err(crate::Error::new(crate::ErrorKind::ReadOnly, why));
        }
        let (start, end) = bounds(range, u64::MAX);
        let &SealOptions { breakable, timeout } = options;
        let range = (start, end.saturating_sub(start));
        let spec = SealSpec { kinds, breakable, timeout };
        Ok(Seal { core: volume.seal(&self.handle, self.who(), range, spec)? })
    }
}

impl Seal {
    /// Its number in the store; never used again.
    pub fn id(&self) -> u64 {
        self.core.id()
    }

    /// What it forbids. (`WRITE` implies `FUTURE_WRITE`.)
    pub fn kinds(&self) -> Kinds {
        self.core.kinds()
    }

    /// It is in force still. A breakable one may have been asked for and taken meanwhile.
    pub fn is_set(&self) -> bool {
        not_forked().is_ok() && self.core.is_set()
    }

    /// Clears it. True if it was in force until now. Waits for nothing.
    pub fn clear(self) -> bool {
        self.is_set()
    }
}
