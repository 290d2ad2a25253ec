//! The bytes of a view, as a pin of it reaches them.
//!
//! Every way from a window's address to a reference is in this file. A [`Reach`] is
//! got at only by borrowing a pin (`view`), so that whatever borrows it ends before
//! the pin does.

use super::copy;
use super::ledger::Access;
use super::populate::populate;
use super::shared::SharedMemory;
use super::side::{Part, Side};
use crate::medium::{BLOCK, Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What holes and unwritten blocks show; longer ones show it again and again. It is
/// read through references and never copied from as shared memory.
static ZEROES: [u8; 1 << 16] = [0; 1 << 16];

/// Bytes of the longest view: as many blocks as half a word counts.
const MOST: u64 = (BLOCK as u64) << 32;

/// Bytes that lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// First byte, in the view.
    start: u64,
    len: u64,
    /// First byte, on the medium; none reads as zeroes.
    at: Option<u64>,
}

/// Bytes of a view that lie side by side in memory.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// First byte; none for zeroes.
    at: Option<*mut u8>,
    len: usize,
}

impl Stretch {
    /// First byte. Zeroes may only be read through it.
    fn ptr(&self) -> *mut u8 {
        self.at.unwrap_or(ZEROES.as_ptr().cast_mut())
    }
}

/// The bytes of a [`View`](super::View) from 0 on, while it is pinned. What can be
/// done with them is decided by the view's [`Access`]:
///
/// | access | |
/// | --- | --- |
/// | Read | [`load`](Self::load), [`as_ptr`](Self::as_ptr) |
/// | Write | the same, [`store`](Self::store), [`as_mut_ptr`](Self::as_mut_ptr) |
/// | Stable | `load`, `as_ptr`, [`slice`](Self::slice), [`parts`](Self::parts) |
/// | Exclusive | the same; mutable through a [`ViewPinMut`](super::ViewPinMut) |
///
/// Offsets and lengths are bytes. Nothing here blocks.
#[derive(Debug)]
pub struct Reach {
    memory: Arc<SharedMemory>,
    access: Access,
    runs: Box<[Run]>,
    /// Where all of them lie side by side, if they do not by themselves.
    side: Option<Side>,
    len: u64,
    /// Blocks of the view that were written and not written back: the first in
    /// the lower half, the end in the upper. 0 for none.
    dirty: AtomicU64,
    /// A pointer to write through was given out, so what was written is not known.
    raw: AtomicBool,
}

impl Reach {
    /// Runs that were checked to lie in the memory: offset, if on the medium, and
    /// length.
    ///
    /// # Errors
    /// `Invalid` for no bytes, or more than 2^32 blocks.
    pub(super) fn new(
        memory: Arc<SharedMemory>,
        access: Access,
        pieces: impl Iterator<Item = (Option<u64>, u64)>,
    ) -> Result<Self> {
        let mut runs: Vec<Run> = Vec::with_capacity(pieces.size_hint().0);
        let mut len = 0u64;
        for (at, count) in pieces {
            let start = len;
            len = len.saturating_add(count);
            if len > MOST {
                break;
            }
            match runs.last_mut() {
                Some(last) if last.at.map(|first| first + last.len) == at => last.len += count,
                _ => runs.push(Run { start, len: count, at }),
            }
        }
        if len == 0 || len > MOST {
            let text = format!("a view of {len} bytes: from 1 to 2^44 are possible");
            return Err(Error::new(ErrorKind::Invalid, text));
        }
        let (dirty, raw) = (AtomicU64::new(0), AtomicBool::new(false));
        Ok(Self { memory, access, runs: runs.into(), side: None, len, dirty, raw })
    }

    /// Makes ready what is going to be pinned: several runs are laid side by side where that
    /// can be, and page tables are filled. One that can be [closed](Self::close) is always laid
    /// so.
    ///
    /// # Errors
    /// `Unsupported` where it cannot be laid and has to be; `Limit`, `Io` for pages that are
    /// not to be had.
    pub(super) fn settle(&mut self, closes: bool) -> Result<()> {
        let writes = self.access.writes();
        if (self.runs.len() > 1 || closes)
            && let Some(file) = self.memory.file()
        {
            let parts: Vec<Part> = self.runs.iter().map(|r| (r.start, r.len, r.at)).collect();
            self.side = Side::lay(&file, &parts, writes);
        }
        if closes && self.side.is_none() {
            let text = "this window cannot be taken away from its holder: its medium has no file \
                        to map it from, or it is in too many pieces";
            return Err(Error::new(ErrorKind::Unsupported, text));
        }
        if !self.memory.is_device() {
            // Memory of our own is there when it is touched, and is not to be there before.
            return Ok(());
        }
        if let Some(side) = &self.side {
            // SAFETY: the side was laid for this access, and is as long as the view.
            return unsafe { populate(side.first(), self.len as usize, writes) };
        }
        for run in &self.runs {
            if let Some(at) = run.at {
                // SAFETY: the run was checked to lie in the memory, which may be written if
                // such views are given.
                unsafe { populate(self.memory.place(at), run.len as usize, writes)? };
            }
        }
        Ok(())
    }

    /// It can be closed.
    pub(super) fn closes(&self) -> bool {
        self.side.is_some() && !self.access.gives_references()
    }

    /// Replaces the bytes by pages that cannot be touched, where they have addresses of their
    /// own and the access gives no references: false elsewhere. What was written and not
    /// written back stays so: that goes by the window's own addresses.
    ///
    /// # Errors
    /// `Limit` where the system refuses.
    pub(super) fn close(&self) -> Result<bool> {
        let Some(side) = self.side.as_ref().filter(|_| self.closes()) else { return Ok(false) };
        // SAFETY: this access never gives references.
        let closed = unsafe { side.close() };
        closed.map(|()| true).map_err(|errno| {
            Error::new(ErrorKind::Limit, format!("a window cannot be taken away: {errno}"))
        })
    }

    /// The same bytes of the medium, and the same zeroes, in the same order.
    pub(super) fn is_over_the_same(&self, other: &Reach) -> bool {
        self.runs == other.runs
    }

    /// Bytes in it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: a view has at least a byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What may be done with it.
    pub fn access(&self) -> Access {
        self.access
    }

    pub(super) fn memory(&self) -> &SharedMemory {
        &self.memory
    }

    /// From a byte of the view on, what lies side by side; empty at the end.
    #[inline]
    fn stretch(&self, at: u64) -> Stretch {
        if let Some(side) = &self.side {
            let rest = self.len.saturating_sub(at);
            let at = (rest > 0).then(|| side.first().wrapping_add(at as usize));
            return Stretch { at, len: rest as usize };
        }
        let index = self.runs.partition_point(|run| run.start + run.len <= at);
        let Some(run) = self.runs.get(index) else { return Stretch { at: None, len: 0 } };
        let skip = at - run.start;
        let rest = (run.len - skip) as usize;
        let Some(first) = run.at else {
            return Stretch { at: None, len: rest.min(ZEROES.len()) };
        };
        // SAFETY: the run was checked to lie in the memory, and this is in the run.
        Stretch { at: Some(unsafe { self.memory.place(first + skip) }), len: rest }
    }

    /// Checks a range, and gives its end.
    #[inline]
    fn inside(&self, at: u64, len: u64) -> Result<u64> {
        match at.checked_add(len) {
            Some(end) if end <= self.len => Ok(end),
            _ => Err(self.outside(at, len)),
        }
    }

    #[cold]
    fn outside(&self, at: u64, len: u64) -> Error {
        let text = format!("bytes {at}..+{len} are not in a view of {} bytes", self.len);
        Error::new(ErrorKind::Invalid, text)
    }

    /// Checks a range, and gives the stretches that it is made of.
    fn stretches(&self, at: u64, len: u64) -> Result<impl Iterator<Item = Stretch>> {
        let end = self.inside(at, len)?;
        let mut at = at;
        Ok(std::iter::from_fn(move || {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let mut stretch = self.stretch(at);
            stretch.len = stretch.len.min(left);
            at += stretch.len as u64;
            (stretch.len > 0).then_some(stretch)
        }))
    }

    #[cold]
    fn refuse<T>(&self, what: &str) -> Result<T> {
        let text = format!("{:?} access gives no {what}", self.access);
        Err(Error::new(ErrorKind::Invalid, text))
    }

    /// Copies bytes out. Under Read and Write access others may write them
    /// meanwhile: what comes out may be any mixture.
    ///
    /// # Errors
    /// `Invalid` outside the view.
    pub fn load(&self, at: u64, to: &mut [u8]) -> Result<()> {
        let mut rest = to;
        for Stretch { at, len } in self.stretches(at, rest.len() as u64)? {
            let (here, more) = rest.split_at_mut(len);
            match at {
                None => here.fill(0),
                // SAFETY: the stretch is mapped and in blocks that the view has
                // booked (the pin through which this is called keeps the booking), so
                // that nobody but a pin of the view can have a `&mut` into them, and
                // that one borrows what this is called on. `here` is a reference, so
                // it does not overlap the stretch: to lie in a window it would have to
                // be exclusive, and elsewhere. The words around the stretch exist: the
                // mapping is made of whole pages.
                Some(from) => unsafe { copy::load(here.as_mut_ptr(), from, len) },
            }
            rest = more;
        }
        Ok(())
    }

    /// Copies bytes in, and notes that they were not written back. Others may read
    /// and write them meanwhile.
    ///
    /// # Errors
    /// `Invalid` outside the view, and unless the access is Write.
    pub fn store(&self, at: u64, from: &[u8]) -> Result<()> {
        self.put(at, from)?;
        self.soil(at..at + from.len() as u64);
        Ok(())
    }

    /// Copies bytes in, and makes them durable: they do not count as written and not written
    /// back. What was stored before in another way is not covered. Takes as long as the
    /// medium's fence.
    ///
    /// # Errors
    /// As [`Self::store`], and what the medium reports: then nothing is known of the bytes,
    /// and they count as written.
    pub fn store_durably(&self, at: u64, from: &[u8]) -> Result<()> {
        self.put(at, from)?;
        let range = at..at + from.len() as u64;
        let done = self.on_medium(range.clone(), SharedMemory::write_back_put);
        if done.is_err() {
            self.soil(range);
        }
        done
    }

    fn put(&self, at: u64, from: &[u8]) -> Result<()> {
        if self.access != Access::Write {
            return self.refuse("stores");
        }
        let mut rest = from;
        for stretch in self.stretches(at, rest.len() as u64)? {
            let (here, more) = rest.split_at(stretch.len);
            // SAFETY: the stretch is mapped and in blocks that the view has booked
            // for Write access, so it lies on the medium and nobody has a reference
            // into it; hence `here` is elsewhere.
            unsafe { self.memory.put(stretch.ptr(), here.as_ptr(), stretch.len) };
            rest = more;
        }
        Ok(())
    }

    /// Where a byte lies, and how many lie there side by side: for code that
    /// vouches for itself, or for another language. Good while the pin is. Others
    /// may write the bytes unless the access says that they do not; then only
    /// volatile or atomic reads are allowed.
    ///
    /// # Errors
    /// `Invalid` at the end of the view or beyond it.
    pub fn as_ptr(&self, at: u64) -> Result<(*const u8, usize)> {
        self.inside(at, 1)?;
        let stretch = self.stretch(at);
        Ok((stretch.ptr(), stretch.len))
    }

    /// The same, to write through, with volatile or atomic accesses. From then on
    /// the whole view counts as written each time that a pin of it ends.
    ///
    /// # Errors
    /// `Invalid` outside the view, and unless the access is Write. (Exclusive access
    /// gives `&mut [u8]`, and pointers from that.)
    pub fn as_mut_ptr(&self, at: u64) -> Result<(*mut u8, usize)> {
        if self.access != Access::Write {
            return self.refuse("pointers to write through");
        }
        self.ptr_to_write(at)
    }

    /// The same for any access that writes.
    ///
    /// # Errors
    /// `Invalid` outside the view, and where nothing may be written.
    pub(super) fn ptr_to_write(&self, at: u64) -> Result<(*mut u8, usize)> {
        if !self.access.writes() {
            return self.refuse("pointers to write through");
        }
        self.inside(at, 1)?;
        self.raw.store(true, Ordering::Relaxed);
        let stretch = self.stretch(at);
        Ok((stretch.ptr(), stretch.len))
    }

    /// The one stretch that a range is.
    #[inline]
    fn one(&self, at: u64, len: u64) -> Result<Stretch> {
        self.inside(at, len)?;
        let first = self.stretch(at);
        if first.len as u64 >= len {
            return Ok(Stretch { len: len as usize, ..first });
        }
        Err(Self::apart(at, len))
    }

    #[cold]
    fn apart(at: u64, len: u64) -> Error {
        let text = format!("bytes {at}..+{len} do not lie side by side: take them in parts");
        Error::new(ErrorKind::Invalid, text)
    }

    /// A range that lies side by side, in place.
    ///
    /// # Errors
    /// `Invalid` outside the view, for a range of several [`parts`](Self::parts), and
    /// unless the access is Stable or Exclusive.
    #[inline]
    pub fn slice(&self, at: u64, len: u64) -> Result<&[u8]> {
        if !self.access.gives_references() {
            return self.refuse("references: copy with `load`");
        }
        let stretch = self.one(at, len)?;
        // SAFETY: the stretch is mapped while `self.memory` lives, initialised
        // (anonymous memory is zeroed; zeroes are; a device's has whatever it has), at its own
        // address or at the one where `self.side` has it, and in blocks that the view has
        // booked for Stable or Exclusive access, so that nobody writes them but
        // through a `&mut` of the view's own pin, which `slice_mut` takes by
        // borrowing what this is called on. The booking lasts while a pin does, and
        // the reference borrows the pin.
        Ok(unsafe { std::slice::from_raw_parts(stretch.ptr(), stretch.len) })
    }

    /// All bytes in order, in parts that lie side by side. Empty unless the access
    /// is Stable or Exclusive. A hole longer than 64 KiB comes in several parts.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let len = if self.access.gives_references() { self.len } else { 0 };
        let stretches = self.stretches(0, len).into_iter().flatten();
        // SAFETY: as in `slice`.
        stretches.map(|part| unsafe { std::slice::from_raw_parts(part.ptr(), part.len) })
    }

    /// A range that lies side by side, in place, to be written.
    ///
    /// # Safety
    /// The caller has the view's exclusive pin and borrows it mutably for as long as
    /// the reference lives, and no other reference that this gave lives then.
    ///
    /// # Errors
    /// As [`Self::slice`], and unless the access is Exclusive.
    #[expect(clippy::mut_from_ref, reason = "the caller borrows the pin mutably")]
    pub(super) unsafe fn slice_mut(&self, at: u64, len: u64) -> Result<&mut [u8]> {
        if self.access != Access::Exclusive {
            return self.refuse("mutable references");
        }
        let stretch = self.one(at, len)?;
        // SAFETY: as in `slice`; the blocks are booked for Exclusive access, so they
        // lie on the medium and nobody else reads or writes them, and what the view's
        // own pin gave does not live beside this, by the caller's promise.
        Ok(unsafe { std::slice::from_raw_parts_mut(stretch.ptr(), stretch.len) })
    }

    /// All bytes in order, in parts that lie side by side, to be written. Empty
    /// unless the access is Exclusive.
    ///
    /// # Safety
    /// As [`Self::slice_mut`].
    pub(super) unsafe fn parts_mut(&self) -> impl Iterator<Item = &mut [u8]> {
        let len = if self.access == Access::Exclusive { self.len } else { 0 };
        let stretches = self.stretches(0, len).into_iter().flatten();
        // SAFETY: as in `slice_mut`. The parts do not overlap: an exclusive booking
        // has no block twice.
        stretches.map(|part| unsafe { std::slice::from_raw_parts_mut(part.ptr(), part.len) })
    }

    /// Notes that bytes were written and not written back.
    pub(super) fn soil(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (first, end) = (range.start / BLOCK as u64, range.end.div_ceil(BLOCK as u64));
        let mut old = self.dirty.load(Ordering::Relaxed);
        loop {
            let (low, high) = if old == 0 { (first, end) } else { (old & LOW, old >> 32) };
            let new = low.min(first) | high.max(end).min(LOW) << 32;
            if new == old {
                return;
            }
            // Release: who takes the note sees what was written.
            match self.dirty.compare_exchange_weak(old, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => old = now,
            }
        }
    }

    /// After a pin through which others may have been given pointers.
    pub(super) fn soil_raw(&self) {
        if self.raw.load(Ordering::Relaxed) {
            self.soil(0..self.len);
        }
    }

    /// Takes the note: the bytes that were written and not written back.
    pub(super) fn take_soiled(&self) -> Option<Range<u64>> {
        let word = self.dirty.swap(0, Ordering::AcqRel);
        let end = if word >> 32 == LOW { u64::MAX } else { (word >> 32) * BLOCK as u64 };
        (word != 0).then(|| (word & LOW) * BLOCK as u64..end.min(self.len))
    }

    /// Makes a range durable, as far as it lies on the medium.
    ///
    /// # Errors
    /// `Invalid` outside the view; what the medium reports.
    pub(super) fn persist(&self, range: Range<u64>) -> Result<()> {
        self.on_medium(range, SharedMemory::write_back)
    }

    /// Writes a range back, run by run, and fences once for all of them.
    fn on_medium(
        &self,
        range: Range<u64>,
        write_back: impl Fn(&SharedMemory, u64, u64) -> Result<()>,
    ) -> Result<()> {
        if crate::sabotage::breaks("no-window-write-back") {
            return Ok(());
        }
        let first = self.runs.partition_point(|run| run.start + run.len <= range.start);
        for run in self.runs.iter().skip(first).take_while(|run| run.start < range.end) {
            let (from, to) = (range.start.max(run.start), range.end.min(run.start + run.len));
            if let (Some(at), true) = (run.at, from < to) {
                write_back(&self.memory, at + (from - run.start), to - from)?;
            }
        }
        self.memory.persistence().fence()
    }
}

/// The lower half of a note of what is dirty.
const LOW: u64 = (1 << 32) - 1;
