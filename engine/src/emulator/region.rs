//! The Persistent Memory Region (Base 1.4, 4.8): registers, and what a barrier makes durable.
//!
//! Without a volatile cache clients map the file itself: a store is in the system's page
//! cache, where a kill of this process does not reach it. With one they map memory of this
//! process, and a barrier (a read of PMRSTS, PMRWBM bit 1) puts what differs into the file.
//! A kill loses what no barrier covered; so that it also tears and reorders, words of 8 bytes
//! are put down early, chosen at random among those that changed near the last ones. A
//! barrier looks at the whole region: with a cache, keep it small.

use super::aperture::Aperture;
use super::random::Random;
use crate::medium::{BLOCK, Error, ErrorKind, Result};
use crate::nvme::spec::registers::{PmrCap, PmrCtl, PmrSts};
use rustix::fs::{FallocateFlags, FlockOperation};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The BAR that the region is, as with QEMU.
pub(super) const BAR: u32 = 4;
/// Bytes of the largest region.
const LARGEST: u64 = 1 << 36;
/// Bytes that a store changes all or nothing.
const WORD: usize = 8;
/// Pages beyond one that changed in which early words are looked for.
const NEAR: usize = 4;

/// A Persistent Memory Region to be emulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionOptions {
    /// Where it is kept; made if it is not there.
    pub file: PathBuf,
    /// Bytes: a power of two, from 4096 on.
    pub size: u64,
    /// What PMRSTS.HSTS says: 0 sound, 1 not restored, 2 read only, 3 unreliable. Nothing
    /// else follows from it.
    pub health: u8,
    /// How long it takes to become ready after it was enabled.
    pub ready_after: Duration,
    /// Clients may map it.
    pub shared: bool,
}

impl RegionOptions {
    /// A sound region that is ready at once.
    pub fn new(file: impl Into<PathBuf>, size: u64) -> Self {
        let ready_after = Duration::ZERO;
        Self { file: file.into(), size, health: 0, ready_after, shared: true }
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// `Invalid`, saying what to give instead.
    pub(super) fn check(&self) -> Result<()> {
        let sized = self.size.is_power_of_two() && (BLOCK as u64..=LARGEST).contains(&self.size);
        let text = match (sized, self.health) {
            (true, 0..=7) => return Ok(()),
            (true, other) => format!("a region's health of {other}: give 0 to 3"),
            (false, _) => format!(
                "a region of {} bytes: give a power of two from 4096 to {LARGEST}",
                self.size
            ),
        };
        Err(Error::new(ErrorKind::Invalid, text))
    }
}

/// The region.
#[derive(Debug)]
pub(super) struct Region {
    aperture: Aperture,
    /// The lock on the file. Not of the descriptor that clients get: their mappings would
    /// keep it.
    _lock: Option<Locked>,
    shared: bool,
    /// What is durable, where that is less than what was stored.
    kept: Option<Kept>,
    ready_after: Duration,
    control: PmrCtl,
    /// Since when it has been enabled.
    enabled: Option<Instant>,
    error: u8,
    health: u8,
}

/// A file with a lock on it, which is given up with it: also where a child that was just
/// forked still has the descriptor.
#[derive(Debug)]
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

/// What a kill leaves.
#[derive(Debug)]
struct Kept {
    file: Locked,
    /// What the file has.
    bytes: Vec<u8>,
    /// One page of what was stored.
    page: Box<[u8; BLOCK]>,
    /// The last page that was found changed.
    last: usize,
    random: Random,
}

impl Region {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// What the system refuses; `Busy` when another emulator has it; `Invalid` for another
    /// size than it has.
    pub(super) fn new(options: &RegionOptions, volatile: bool, seed: u64) -> Result<Self> {
        let (path, len) = (&options.file, options.size);
        let file = open(path, len)?;
        let (aperture, lock, kept) = match volatile {
            false => {
                let link = format!("/proc/self/fd/{}", file.0.as_raw_fd());
                let again = File::options().read(true).write(true).open(link);
                let again = again.map_err(|e| failed(path, "open again", &e))?;
                (Aperture::of(again.into(), len)?, Some(file), None)
            }
            true => {
                let mut bytes = vec![0; len as usize];
                file.0.read_exact_at(&mut bytes, 0).map_err(|e| failed(path, "read", &e))?;
                let aperture = Aperture::new(len)?;
                aperture.memory().write(0, &bytes)?;
                let (page, random) = (Box::new([0; BLOCK]), Random::new(seed));
                (aperture, None, Some(Kept { file, bytes, page, last: 0, random }))
            }
        };
        Ok(Self {
            aperture,
            _lock: lock,
            shared: options.shared,
            kept,
            ready_after: options.ready_after,
            control: PmrCtl(0),
            enabled: None,
            error: 0,
            health: options.health,
        })
    }

    /// Its bytes.
    pub(super) fn aperture(&self) -> &Aperture {
        &self.aperture
    }

    /// Whether clients may map it.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// PMRCAP (3.1.18).
    pub(super) fn capabilities(&self) -> PmrCap {
        let units = self.ready_after.as_millis().div_ceil(500).clamp(1, 255) as u32;
        PmrCap(0).with_bir(BAR).with_pmrwbm(0b10).with_pmrto(units)
    }

    /// PMRCTL (3.1.19).
    pub(super) fn control(&self) -> PmrCtl {
        self.control
    }

    /// A write of PMRCTL. Disabling forgets errors of former writes.
    pub(super) fn set_control(&mut self, value: u32) {
        let new = PmrCtl(0).with_en(PmrCtl(value).en());
        match (self.control.en(), new.en()) {
            (0, 1) => self.enabled = Some(Instant::now()),
            (1, 0) => (self.enabled, self.error) = (None, 0),
            _ => {}
        }
        self.control = new;
    }

    fn is_ready(&self) -> bool {
        self.enabled.is_some_and(|since| since.elapsed() >= self.ready_after)
    }

    /// PMRSTS (3.1.20).
    pub(super) fn status(&self) -> PmrSts {
        let ready = u32::from(!self.is_ready());
        let status = PmrSts(0).with_nrdy(ready).with_hsts(self.health.into());
        status.with_err(self.error.into())
    }

    /// Makes durable what was stored before. What the file does not take is told by ERR.
    pub(super) fn barrier(&mut self) {
        if self.is_ready() && self.put_down().is_err() {
            self.error = 1;
        }
    }

    /// Says that writes went wrong, from now on.
    pub(super) fn spoil(&mut self, error: u8, health: u8) {
        self.error = self.error.max(error);
        self.health = self.health.max(health);
    }

    /// Puts all that was stored into the file.
    ///
    /// # Errors
    /// What the file does not take.
    pub(super) fn put_down(&mut self) -> Result<()> {
        let Some(kept) = &mut self.kept else { return Ok(()) };
        for page in 0..kept.bytes.len() / BLOCK {
            if let Some(old) = kept.look(&self.aperture, page)? {
                let new = *kept.page;
                kept.write(old.start, &new)?;
                kept.last = page;
            }
        }
        Ok(())
    }

    /// Now and then puts a few words down early. What the file does not take stays.
    pub(super) fn put_some_down(&mut self, often: bool) {
        let Some(kept) = &mut self.kept else { return };
        if !often && kept.random.below(4) != 0 {
            return;
        }
        let (pages, first) = (kept.bytes.len() / BLOCK, kept.last);
        for page in (first..first + NEAR).map(|page| page % pages) {
            let Ok(Some(old)) = kept.look(&self.aperture, page) else { continue };
            for word in 0..BLOCK / WORD {
                let (at, new) = (word * WORD, *kept.page);
                let place = old.start + at;
                let bytes = &new[at..at + WORD];
                if kept.bytes[place..place + WORD] != *bytes
                    && kept.random.below(2) == 0
                    && kept.write(place, bytes).is_err()
                {
                    return;
                }
            }
        }
    }

    /// A function reset: it is disabled. What was stored stays stored.
    pub(super) fn reset(&mut self) {
        self.set_control(0);
    }
}

impl Kept {
    /// Where a page lies, if what was stored there is not what the file has; `page` then
    /// has it.
    fn look(&mut self, from: &Aperture, page: usize) -> Result<Option<std::ops::Range<usize>>> {
        let place = page * BLOCK..(page + 1) * BLOCK;
        from.memory().read(place.start as u64, &mut self.page[..])?;
        Ok((self.page[..] != self.bytes[place.clone()]).then_some(place))
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        self.file
            .0
            .write_all_at(bytes, at as u64)
            .map_err(|e| Error::new(ErrorKind::Io, format!("the region's file: {e}")))?;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

fn failed(path: &Path, what: &str, error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
        std::io::ErrorKind::StorageFull => ErrorKind::NoSpace,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("cannot {what} the region's file {}: {error}", path.display()))
}

/// The file with its size, locked and allocated: a store to a hole that cannot be filled is
/// a signal in the client.
fn open(path: &Path, len: u64) -> Result<Locked> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(path).map_err(|e| failed(path, "open", &e))?;
    let name = path.display();
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error::new(ErrorKind::Busy, format!("{name} is in use: end the emulator that has it"))
    })?;
    let locked = Locked(file);
    let file = &locked.0;
    let meta = file.metadata().map_err(|e| failed(path, "look at", &e))?;
    let invalid = |what: String| Err(Error::new(ErrorKind::Invalid, what));
    if !meta.is_file() {
        return invalid(format!("{name} is no regular file: name a file"));
    }
    match meta.len() {
        0 => file.set_len(len).map_err(|e| failed(path, "set the size of", &e))?,
        have if have != len => {
            return invalid(format!("{name} has {have} bytes: give that size, or another file"));
        }
        _ => {}
    }
    loop {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, len) {
            Ok(()) => return Ok(locked),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(path, "allocate", &errno.into())),
        }
    }
}
