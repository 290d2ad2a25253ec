//! Reads and writes through a lease: `fill` and `flush`.
//!
//! A lease knows where its blocks are, and nothing moves them while it is pinned. So a
//! command needs no look-up and no slot: it pins the lease in its lane's own counters, which
//! nobody else writes, and is off. The place of a buffer is kept with it and looked up anew
//! when the lease's number has changed.
//!
//! What is not that simple becomes a task: several extents, holes, a lease that its own
//! session has made stale, and a flush of what was written before a recall.

use super::Volume;
use super::hold::Held;
use super::layout::Layout;
use super::lease::LeaseCore;
use super::queue::{Refused, VolumeQueue};
use super::write::B;
use crate::error::{Error, ErrorKind, Result};
use crate::lane::{Finished, Io, LeaseShare, LeaseTag, Plain, all};
use freehold_engine::memory::Buffer;
use freehold_engine::pin::{CommandPin, Known, PinRef};
use std::pin::Pin;
use std::sync::Arc;

/// Where in its lease a buffer lies, and where that is on the medium as far as known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseAt {
    /// Byte of the file; a multiple of 4096.
    offset: u64,
    /// Where the buffer's bytes end, in the file. What its session wrote behind that since is
    /// not in the buffer.
    end: u64,
    /// So many bytes from the offset on are the lease's and one command; or [`NOWHERE`].
    len: usize,
    /// The block of the medium where they are.
    block: u64,
    /// What was found there when it was last looked up.
    run: Run,
}

/// The length of a place of which it is not known where it is. No buffer is so long.
const NOWHERE: usize = usize::MAX;

/// One written extent of a lease, as far as the lease has it. Bytes of the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Run {
    /// The lease when this was looked up: its number (0: never), and what pins it again.
    seq: u64,
    known: Known,
    start: u64,
    end: u64,
    /// Where the lease's bytes end.
    end_byte: u64,
    /// So many bytes from `start` on are both the extent's and the lease's.
    whole: u64,
    /// The block of the medium at `start`.
    block: u64,
}

impl LeaseAt {
    /// A place in a file, not yet looked up, of a buffer that has all bytes of its blocks.
    pub fn new(offset: u64) -> Self {
        LeaseAt { offset, end: u64::MAX, len: NOWHERE, block: 0, run: Run::default() }
    }

    /// Nothing is known of it.
    pub(crate) fn forget(&mut self) {
        (self.len, self.run) = (NOWHERE, Run::default());
    }

    /// Where the buffer's bytes end; a byte of the file.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// So many of the buffer's bytes are the file's; what may come behind them is not in it.
    pub(crate) fn has_only(&mut self, valid: usize, bytes: usize) {
        let end = self.offset.saturating_add(valid as u64);
        self.end = if valid < bytes { end } else { u64::MAX };
    }

    /// The buffer has all of so many bytes.
    fn has(&self, valid: usize) -> bool {
        self.offset + valid as u64 <= self.end
    }

    /// Another place in the same extent, for a buffer of so many bytes. False, with nothing
    /// done, where they are not all inside.
    #[inline(always)]
    fn go(&mut self, offset: u64, bytes: usize) -> bool {
        let run = &self.run;
        // A run begins with a block.
        let into = offset.wrapping_sub(run.start);
        if into >= run.whole || bytes as u64 > run.whole - into || !into.is_multiple_of(B) {
            return false;
        }
        (self.offset, self.end) = (offset, u64::MAX);
        (self.len, self.block) = (bytes, run.block + into / B);
        true
    }

    /// The block of the medium, and how many of the bytes the lease has, if that is known
    /// for this number of the lease.
    fn known(&self, seq: u64, bytes: usize) -> Option<(u64, usize)> {
        let (run, bytes) = (&self.run, bytes as u64);
        let inside = run.seq == seq
            && self.offset.is_multiple_of(B)
            && self.offset >= run.start
            && self.offset <= run.end
            && bytes <= run.end - self.offset;
        let valid = run.end_byte.saturating_sub(self.offset).min(bytes) as usize;
        inside.then(|| (run.block + (self.offset - run.start) / B, valid))
    }

    /// Byte of the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

/// A fill or flush that was not taken. Nothing happened.
#[derive(Debug)]
pub struct LeaseRefused {
    /// The buffer's share in its lease.
    pub share: LeaseTag,
    /// The buffer as it was given.
    pub buf: Buffer,
    /// None: the queue is full; poll and try again. Otherwise why not.
    pub error: Option<Error>,
}

impl LeaseRefused {
    fn plain(self) -> Refused {
        Refused { buf: Some(self.buf), error: self.error }
    }
}

impl LeaseCore {
    /// Why nothing is flushed through it.
    pub fn writes_not(&self) -> Error {
        let why = format!("{} does not write; take a Write or Exclusive one", self.name());
        Error::new(ErrorKind::Invalid, why)
    }

    /// Looks the place up in the lease, of which it was read before how it is.
    fn locate(&self, l: &Layout, at: &mut LeaseAt, (known, seq): (Known, u64)) {
        at.run = l.extent_before(at.offset / B).map_or(Run::default(), |(k, e)| {
            let (start, end) = (k * B, (k + u64::from(e.len)) * B);
            let end_byte = l.end_byte();
            let whole = end.min(end_byte).saturating_sub(start);
            Run { seq, known, start, end, end_byte, whole, block: e.phys }
        });
    }
}

impl LeaseShare {
    /// Another place of the lease for a buffer of so many bytes, and how many of them the
    /// lease has. Nothing happens where that is not whole blocks inside the lease. In the
    /// extent of the last command no lock is taken.
    #[inline]
    pub fn move_to(&mut self, offset: u64, bytes: usize) -> Option<usize> {
        let near = self.lease().pins().is_still(self.at.run.known);
        if near && self.at.go(offset, bytes) {
            return Some(bytes);
        }
        self.move_far(offset, bytes)
    }

    fn move_far(&mut self, offset: u64, bytes: usize) -> Option<usize> {
        let now = self.lease().pins().known();
        if now.1 == self.at.run.seq && self.at.go(offset, bytes) {
            return Some(bytes);
        }
        let mut at = LeaseAt::new(offset);
        let lease = self.lease();
        let l = lease.layout();
        let (start, end) = (l.start() * B, l.end_byte());
        let to = offset.checked_add(bytes as u64)?;
        let inside = start <= offset && offset < end && to <= end.next_multiple_of(B);
        if !inside || !offset.is_multiple_of(B) {
            return None;
        }
        lease.locate(&l, &mut at, now);
        let valid = (end - offset).min(bytes as u64) as usize;
        drop(l);
        if !at.go(offset, bytes) {
            at.has_only(valid, bytes);
        }
        self.at = at;
        Some(valid)
    }
}

impl VolumeQueue {
    /// Reads the lease's bytes at a place into the buffer, which the command owns until it
    /// completes. Short at the end of the lease, zeroes behind that.
    ///
    /// # Errors
    /// [`Refused`], with the buffer: without an error when the queue is full.
    pub fn fill(
        &mut self,
        lease: &Arc<LeaseCore>,
        at: LeaseAt,
        buf: Buffer,
        tag: u64,
    ) -> std::result::Result<(), Refused> {
        let share = LeaseTag::new_at(lease.clone(), at);
        self.fill_share(share, buf, tag).map_err(LeaseRefused::plain)
    }

    /// Writes the buffer to the lease's place; with `durable`, through to the medium.
    ///
    /// # Errors
    /// [`Refused`], with the buffer: without an error when the queue is full; `Invalid`
    /// for a lease that does not write.
    pub fn flush(
        &mut self,
        lease: &Arc<LeaseCore>,
        at: LeaseAt,
        buf: Buffer,
        (tag, durable): (u64, bool),
    ) -> std::result::Result<(), Refused> {
        let share = LeaseTag::new_at(lease.clone(), at);
        self.flush_share(share, buf, (tag, durable)).map_err(LeaseRefused::plain)
    }

    /// As [`VolumeQueue::fill`], of a buffer with its share.
    ///
    /// # Errors
    /// As there, with both.
    #[inline]
    pub fn fill_share(
        &mut self,
        mut share: LeaseTag,
        buf: Buffer,
        tag: u64,
    ) -> std::result::Result<(), LeaseRefused> {
        share.write = false;
        self.through(share, buf, (tag, false))
    }

    /// As [`VolumeQueue::flush`], of a buffer with its share, which is clean when that has
    /// succeeded.
    ///
    /// # Errors
    /// As there, with both.
    #[inline]
    pub fn flush_share(
        &mut self,
        mut share: LeaseTag,
        buf: Buffer,
        (tag, durable): (u64, bool),
    ) -> std::result::Result<(), LeaseRefused> {
        share.write = true;
        if !share.lease().access().writes() || !self.port.vol.health.is_writable() {
            let error = match share.lease().access().writes() {
                true => self.port.vol.health.writable().err(),
                false => Some(share.lease().writes_not()),
            };
            if error.is_some() {
                return Err(LeaseRefused { share, buf, error });
            }
        }
        self.through(share, buf, (tag, durable))
    }

    /// What is where it was when the lease was last looked at, and one command, goes without
    /// a second look.
    #[inline(always)]
    fn through(
        &mut self,
        share: LeaseTag,
        buf: Buffer,
        how: (u64, bool),
    ) -> std::result::Result<(), LeaseRefused> {
        let VolumeQueue { port, owner, .. } = self;
        let (at, len, write) = (share.at, buf.len(), share.write);
        // A share that has a seat in this queue went through it before. In a forked child
        // nothing is pinned by this way.
        let near = at.len == len
            && len <= port.max_transfer
            && (!write || at.end == u64::MAX)
            && !Volume::acts();
        if near
            && let Some(seat) = &share.seat
            && let Some(mut inner) = port.lane.enter_if_open(owner)
            && let Some(i) = inner.free_plain.pop()
        {
            if let Some(pin) = inner.pins.again(share.lease().pins(), seat, at.run.known) {
                let plain = match write {
                    true => Plain::write(how.0, at.block, len, how.1),
                    false => Plain::read(how.0, at.block, len),
                };
                let (mut share, end) = (share, at.end);
                share.at.end = u64::MAX;
                let begun = inner.begin_leased(&port.lane, i, plain, buf, (share, pin));
                return begun.map_err(|(buf, error, mut share)| {
                    share.at.end = end;
                    LeaseRefused { share, buf, error }
                });
            }
            inner.free_plain.push(i);
        }
        self.through_looked_up(share, buf, how)
    }

    #[inline(never)]
    fn through_looked_up(
        &mut self,
        mut share: LeaseTag,
        buf: Buffer,
        (tag, durable): (u64, bool),
    ) -> std::result::Result<(), LeaseRefused> {
        let VolumeQueue { port, owner, .. } = self;
        let (write, len) = (share.write, buf.len());
        if let Err(e) = port.vol.not_in_action() {
            return Err(LeaseRefused { share, buf, error: Some(e) });
        }
        let mut inner = port.lane.enter(owner);
        if len <= port.max_transfer
            && share.lease().is_in(&port.vol)
            && let Some(i) = inner.free_plain.pop()
        {
            if let Ok(pin) = inner.pins.submit(share.lease().pins()) {
                let now = share.lease().pins().known();
                if share.at.known(now.1, len).is_none() && is_its_own(&port.vol, &share, len) {
                    let (lease, at) = share.parts();
                    lease.locate(&lease.layout(), at, now);
                }
                share.at.run.known = now.0;
                // Where pins have fences, or come by the gate, nothing is known.
                share.seat = (now.0 != Known::default()).then(|| inner.pins.seat(&pin));
                let place = share.at.known(now.1, len);
                if let Some((at, valid)) = place.filter(|(_, n)| !write || share.at.has(*n)) {
                    let end = share.at.end;
                    (share.at.len, share.at.block) = (if valid == len { len } else { NOWHERE }, at);
                    if !write {
                        share.at.has_only(valid, len);
                    }
                    let plain = match write {
                        true => Plain::write(tag, at, len, durable),
                        false => Plain::read(tag, at, valid),
                    };
                    let begun = inner.begin_leased(&port.lane, i, plain, buf, (share, pin));
                    return begun.map_err(|(buf, error, mut share)| {
                        share.at.end = end;
                        LeaseRefused { share, buf, error }
                    });
                }
                inner.pins.complete(share.lease().pins(), pin);
            }
            inner.free_plain.push(i);
        }
        if let Err(e) = may_go_through(&port.vol, &share, len) {
            return Err(LeaseRefused { share, buf, error: Some(e) });
        }
        if !inner.has_room() {
            return Err(LeaseRefused { share, buf, error: None });
        }
        let (vol, mut buf) = (port.vol.clone(), buf);
        inner.spawn(&port.lane, |io| async move {
            let io = io.of(share.lease().session().id());
            let (lease, at) = share.parts();
            let command = (write, durable);
            let result = vol.command_task(&io, lease, at, &mut buf, command).await;
            if result.is_ok() {
                share.done();
            }
            io.finish(Finished { tag, result, buf: Some(buf), lease: Some(share) });
        });
        Ok(())
    }
}

/// Is it a lease of this store, and the place of so many bytes inside it?
fn is_its_own(vol: &Arc<Volume>, share: &LeaseTag, len: usize) -> bool {
    let (at, (start, end)) = (share.at.offset, share.lease().range());
    share.lease().is_in(vol)
        && at.is_multiple_of(B)
        && at >= start
        && at < end.max(start + 1)
        && at.checked_add(len as u64).is_some_and(|to| to <= end.next_multiple_of(B))
}

fn may_go_through(vol: &Arc<Volume>, share: &LeaseTag, len: usize) -> Result<()> {
    if is_its_own(vol, share, len) {
        return Ok(());
    }
    let (lease, at) = (share.lease(), share.at.offset);
    let why = format!("{len} bytes at {at} are not whole blocks inside {}", lease.name());
    Err(Error::new(ErrorKind::Invalid, why))
}

/// Keeps a task's lease as it is; none pins it where the flush is behind a recall.
struct Using<'a> {
    lease: &'a LeaseCore,
    _pin: Option<CommandPin>,
    late: bool,
}

impl Drop for Using<'_> {
    fn drop(&mut self) {
        if self.late {
            self.lease.command_over();
        }
    }
}

impl Volume {
    /// A read or write through a lease that is no single command.
    async fn command_task(
        self: &Arc<Self>,
        io: &Io,
        lease: &Arc<LeaseCore>,
        place: &mut LeaseAt,
        buf: &mut Buffer,
        (write, durable): (bool, bool),
    ) -> Result<usize> {
        let _using = self.use_lease(io, lease, write).await?;
        let offset = place.offset;
        let valid = lease.valid(offset, buf.len());
        let _held = match write && !place.has(valid) {
            true => Some(self.take_behind(io, lease, (place, valid), buf).await?),
            false => None,
        };
        let (first, blocks) = (offset / B, buf.len() as u64 / B);
        let runs = lease.runs(first, blocks, u64::from(self.medium.geometry().max_transfer) / B);
        let mut rest = self.medium.pool().take(1)?;
        std::mem::swap(&mut rest, buf);
        let mut parts: Vec<Pin<Box<dyn Future<Output = Result<Buffer>> + Send>>> = Vec::new();
        for (at, _, phys) in runs.into_iter().rev() {
            let mut part = rest.split_off(((at - first) * B) as usize);
            let io = io.clone();
            parts.push(Box::pin(async move {
                match (phys, write) {
                    (Some(phys), true) => io.write(phys, part, durable).await,
                    (Some(phys), false) => io.read(phys, part).await,
                    (None, false) => {
                        part.fill(0);
                        Ok(part)
                    }
                    (None, true) => Err(Error::new(
                        ErrorKind::Invalid,
                        "a part of the lease has no blocks to write to",
                    )),
                }
            }));
        }
        parts.reverse();
        let done = super::read::rejoin(all(parts).await, None);
        match done {
            Ok(whole) => {
                *buf = whole;
                if !write {
                    buf[valid..].fill(0);
                    place.has_only(valid, buf.len());
                }
                Ok(if write { buf.len() } else { valid })
            }
            Err((e, part)) => {
                if let Some(part) = part {
                    *buf = part;
                }
                Err(e)
            }
        }
    }

    /// What was written behind the buffer's end, in its last block, comes into the buffer
    /// that is to be written over it. Nobody else writes there until that is done (law B6).
    async fn take_behind(
        self: &Arc<Self>,
        io: &Io,
        lease: &LeaseCore,
        (place, valid): (&mut LeaseAt, usize),
        buf: &mut Buffer,
    ) -> Result<Held> {
        let end = place.end.max(place.offset);
        let block = end / B;
        let held = self.hold(io, lease.file_state(), block, block + 1).await;
        let Some((_, _, Some(phys))) = lease.runs(block, 1, 1).pop() else { return Ok(held) };
        let last = io.read(phys, self.medium.pool().take(B as usize)?).await?;
        let (from, skip) = ((end - place.offset) as usize, (end % B) as usize);
        let n = valid.saturating_sub(from).min(B as usize - skip);
        buf[from..from + n].copy_from_slice(&last[skip..skip + n]);
        place.has_only(valid, buf.len());
        Ok(held)
    }

    /// Pins the lease, refreshes it first where that is called for, or lets a flush go
    /// behind a recall that allows it.
    async fn use_lease<'a>(
        self: &Arc<Self>,
        io: &Io,
        lease: &'a Arc<LeaseCore>,
        write: bool,
    ) -> Result<Using<'a>> {
        loop {
            if let Ok(pin) = PinRef::new(lease).hold_for_io() {
                return Ok(Using { lease, _pin: Some(pin), late: false });
            }
            if lease.is_stale() {
                let done = self.refresh_task(io, lease).await;
                match done {
                    // Behind a recall it gives no pins, but may be flushed.
                    Err(e) if lease.is_stale() => return Err(e),
                    _ => continue,
                }
            }
            // Counted first: a fence that begins afterwards finds it.
            lease.command_begins();
            let using = Using { lease, _pin: None, late: true };
            let late = lease.file_state().guards.with(|t| write && lease.flush_late(t));
            return match late {
                true => Ok(using),
                false => Err(lease.refusal()),
            };
        }
    }
}
