//! Plain operations: one command, one completion, nothing else.

use super::{Finished, Inner, Lane, LeaseTag, RETRIES, Traffic, bump, landed};
use crate::error::Error;
use freehold_engine::medium::{self, Op, Rejected};
use freehold_engine::memory::Buffer;
use freehold_engine::pin::IoPin;

/// The place of a plain operation. Its number is also its slot's, and its tag at the device.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Plain {
    /// The user's tag.
    tag: u64,
    at: u64,
    /// Bytes of the file that the buffer holds; zeroes behind them on reads.
    bytes: usize,
    /// Through a lease: pinned by it, and in no slot. None in a place that is free.
    lease: Option<Leased>,
    kind: Kind,
    tries: u8,
    /// While the place is free: the next that is.
    next: u32,
}

const _: () = assert!(size_of::<Plain>() == 64);

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Kind {
    /// Reads.
    #[default]
    Read,
    /// Writes; durable after a flush.
    Write,
    /// Writes with forced unit access.
    Durable,
    /// Reads less than the buffer has room for.
    Short,
}

impl Kind {
    pub(crate) fn write(durable: bool) -> Self {
        if durable { Kind::Durable } else { Kind::Write }
    }

    #[inline(always)]
    pub(crate) fn writes(self) -> bool {
        matches!(self, Kind::Write | Kind::Durable)
    }

    #[inline(always)]
    pub(crate) fn op(self, at: u64, buf: Buffer) -> Op {
        match self.writes() {
            true => Op::Write { at, buf, fua: self == Kind::Durable },
            false => Op::Read { at, buf },
        }
    }
}

/// What pins a lease for a command.
#[derive(Debug)]
struct Leased {
    tag: LeaseTag,
    pin: IoPin,
}

impl Plain {
    /// A free place, before the one behind it.
    pub(super) fn before(i: u32) -> Self {
        Plain { next: i + 1, ..Plain::default() }
    }

    /// So many bytes into a buffer of a length.
    #[inline(always)]
    pub(crate) fn read(tag: u64, at: u64, (bytes, len): (usize, usize)) -> Self {
        let kind = if bytes < len { Kind::Short } else { Kind::Read };
        Plain { tag, at, bytes, kind, ..Plain::default() }
    }

    #[inline(always)]
    pub(crate) fn write(tag: u64, at: u64, bytes: usize, fua: bool) -> Self {
        Plain { tag, at, bytes, kind: Kind::write(fua), ..Plain::default() }
    }

    /// Begins here, in a place that was free.
    #[inline(always)]
    fn begin(&mut self, plain: Plain) {
        // Not all at once, which would look for a lease to drop.
        let before = std::mem::replace(&mut self.lease, plain.lease);
        debug_assert!(before.is_none(), "it was free");
        std::mem::forget(before);
        (self.tag, self.at, self.bytes) = (plain.tag, plain.at, plain.bytes);
        (self.kind, self.tries) = (plain.kind, plain.tries);
    }

    #[inline(always)]
    fn op(&self, buf: Buffer) -> Op {
        self.kind.op(self.at, buf)
    }
}

/// A pinned lease, and a free place for a command through it.
pub(crate) struct Ready<'a> {
    i: u32,
    place: &'a mut Plain,
    free: &'a mut u32,
    pin: IoPin,
}

impl Ready<'_> {
    /// Writes down the read or write of the share's known place, which is submitted next, with
    /// the tag that this gives: little has to be kept over that call.
    #[inline(always)]
    pub(crate) fn note(self, share: LeaseTag, (tag, kind): (u64, Kind)) -> u64 {
        let Ready { i, place, free, pin } = self;
        let (at, bytes) = (share.at.block(), share.at.bytes());
        *free = place.next;
        let lease = Some(Leased { tag: share, pin });
        place.begin(Plain { tag, at, bytes, lease, kind, tries: 0, next: 0 });
        u64::from(i)
    }
}

/// Plain commands that have completed, not counted yet.
#[derive(Debug, Default)]
pub(super) struct Ended {
    reads: u64,
    writes: u64,
    bytes_read: u64,
    bytes_written: u64,
}

impl Ended {
    /// Counts one, of so many bytes.
    #[inline(always)]
    fn count(&mut self, t: &Traffic, kind: Kind, bytes: usize) {
        if !kind.writes() {
            self.reads += 1;
            self.bytes_read += bytes as u64;
            return;
        }
        self.writes += 1;
        self.bytes_written += bytes as u64;
        // Before its slot is retired or its lease unpinned: who finds the write over, and
        // makes durable what has landed, must find it here.
        if kind == Kind::Write {
            landed(t);
        }
    }

    /// Before the latch is left, and before any task goes on: nobody has learnt of them yet.
    #[inline(always)]
    pub(super) fn publish(&self, t: &Traffic) {
        if self.reads > 0 {
            bump(&t.reads, self.reads);
            bump(&t.user_reads, self.reads);
            bump(&t.bytes_read, self.bytes_read);
        }
        if self.writes > 0 {
            bump(&t.writes, self.writes);
            bump(&t.user_writes, self.writes);
            bump(&t.bytes_written, self.bytes_written);
        }
    }
}

impl Inner {
    /// Submits a plain operation whose slot is published. On refusal the slot
    /// is retired, and the buffer comes back; without an error, the queue is full.
    #[inline(always)]
    pub(crate) fn begin_plain(
        &mut self,
        lane: &Lane,
        i: u32,
        plain: Plain,
        buf: Buffer,
    ) -> Result<(), (Buffer, Option<Error>)> {
        let Err(r) = self.start(lane, i, plain, buf) else { return Ok(()) };
        self.give_up(lane, i);
        Err((given_back(r.op), r.error.map(Error::from)))
    }

    /// A place for a plain operation, unless all are taken.
    #[inline(always)]
    pub(crate) fn take_place(&mut self) -> Option<u32> {
        let i = self.free_plain;
        self.free_plain = self.plain.get(i as usize)?.next;
        Some(i)
    }

    /// Gives back a place that was taken for a plain operation which is none.
    pub(crate) fn give_place(&mut self, i: u32) {
        if let Some(plain) = self.plain.get_mut(i as usize) {
            plain.next = self.free_plain;
            self.free_plain = i;
        }
    }

    /// The same, with its slot that was published.
    pub(crate) fn give_up(&mut self, lane: &Lane, i: u32) {
        lane.slots.retire(i as usize);
        self.give_place(i);
    }

    /// Pins the lease for a whole transfer of a share's known place: if the lease is still as
    /// it is known, and there is room. Otherwise nothing was done.
    #[inline(always)]
    pub(crate) fn ready(&mut self, share: &LeaseTag, write: bool) -> Option<Ready<'_>> {
        let i = self.free_plain;
        let place = self.plain.get_mut(i as usize)?;
        if write && !self.health.is_writable() {
            return None;
        }
        let seat = &share.seats[usize::from(write)];
        let pin = self.pins.again(share.lease().pins(), seat, share.at.held())?;
        Some(Ready { i, place, free: &mut self.free_plain, pin })
    }

    /// Takes back what was noted and then refused. Without an error, the queue is full.
    #[cold]
    pub(crate) fn not_begun(&mut self, tag: u64, r: Rejected) -> (Buffer, Option<Error>, LeaseTag) {
        let leased = self.plain[tag as usize].lease.take();
        self.give_place(tag as u32);
        let Leased { tag, pin } = leased.expect("it was noted with its lease");
        self.pins.complete(tag.lease().pins(), pin);
        (given_back(r.op), r.error.map(Error::from), tag)
    }

    /// Submits a command through a lease that it has pinned, in a place that it has taken.
    pub(crate) fn begin_leased(
        &mut self,
        lane: &Lane,
        i: u32,
        plain: Plain,
        buf: Buffer,
        (tag, pin): (LeaseTag, IoPin),
    ) -> Result<(), (Buffer, Option<Error>, LeaseTag)> {
        let lease = Some(Leased { tag, pin });
        let begun = self.start(lane, i, Plain { lease, ..plain }, buf);
        begun.map_err(|refused| self.not_begun(u64::from(i), refused))
    }

    /// Writes an operation down, and gives its command to the device. What that refuses stays
    /// written down.
    #[inline(always)]
    fn start(&mut self, lane: &Lane, i: u32, plain: Plain, buf: Buffer) -> Result<(), Rejected> {
        let op = plain.op(buf);
        self.plain[i as usize].begin(plain);
        lane.begin();
        self.dev.submit(u64::from(i), op)
    }

    /// A plain operation has succeeded.
    #[inline(always)]
    pub(super) fn end_plain<T: From<Finished>>(
        &mut self,
        lane: &Lane,
        i: usize,
        buf: Option<Buffer>,
        ended: &mut Ended,
        out: &mut Vec<T>,
    ) {
        let plain = &mut self.plain[i];
        let (mut buf, mut moved) = (buf, plain.bytes);
        match plain.kind {
            Kind::Read => ended.count(&lane.traffic, Kind::Read, moved),
            Kind::Write => ended.count(&lane.traffic, Kind::Write, moved),
            kind => {
                if kind == Kind::Short {
                    (buf, moved) = clear_behind(buf, moved);
                }
                ended.count(&lane.traffic, kind, moved);
            }
        }
        let lease = match plain.lease.take() {
            Some(Leased { mut tag, pin }) => {
                self.pins.complete(tag.lease().pins(), pin);
                if tag.is_soiled() && plain.kind.writes() {
                    tag.wash();
                }
                Some(tag)
            }
            None => {
                lane.slots.retire(i);
                None
            }
        };
        plain.next = self.free_plain;
        self.free_plain = i as u32;
        put(out, plain.tag, plain.bytes, buf, lease);
    }

    /// A plain operation failed: ends it, or issues it again after a reset.
    #[cold]
    pub(super) fn fail_plain(
        &mut self,
        lane: &Lane,
        i: usize,
        (e, buf): (medium::Error, Option<Buffer>),
        ended: &mut Ended,
    ) -> Option<Finished> {
        let (result, buf) = self.failed(i, e, buf)?;
        let plain = self.plain.get_mut(i)?;
        ended.count(&lane.traffic, plain.kind, buf.as_ref().map_or(plain.bytes, |b| b.len()));
        let tag = plain.tag;
        let lease = match plain.lease.take() {
            Some(Leased { tag, pin }) => {
                self.pins.complete(tag.lease().pins(), pin);
                Some(tag)
            }
            None => {
                lane.slots.retire(i);
                None
            }
        };
        self.give_place(i as u32);
        Some(Finished { tag, result: Err(result), buf, lease })
    }

    /// Why a plain operation is over; none if it was issued again.
    fn failed(
        &mut self,
        i: usize,
        e: medium::Error,
        buf: Option<Buffer>,
    ) -> Option<(Error, Option<Buffer>)> {
        self.health.saw(&e);
        let plain = self.plain.get_mut(i)?;
        match buf {
            Some(buf)
                if e.kind() == medium::ErrorKind::Reset && u32::from(plain.tries) < RETRIES =>
            {
                let r = match self.dev.submit(i as u64, plain.op(buf)) {
                    Ok(()) => {
                        plain.tries += 1;
                        return None;
                    }
                    Err(r) => r,
                };
                let buf = match r.op {
                    Op::Read { buf, .. } | Op::Write { buf, .. } => Some(buf),
                    _ => None,
                };
                Some((r.error.unwrap_or(e).into(), buf))
            }
            buf => Some((e.into(), buf)),
        }
    }
}

/// The buffer of a plain operation that was not taken.
#[cold]
fn given_back(op: Op) -> Buffer {
    op.into_buffer().expect("a plain operation carries a buffer")
}

/// Zeroes behind the bytes of a short read; with it, how many were read in all.
#[cold]
fn clear_behind(mut buf: Option<Buffer>, bytes: usize) -> (Option<Buffer>, usize) {
    let len = buf.as_mut().map_or(bytes, |b| {
        b[bytes..].fill(0);
        b.len()
    });
    (buf, len)
}

/// Adds what has finished. Built in its place: there is room but for users who poll into
/// less than they have submitted.
#[inline(always)]
fn put<T: From<Finished>>(
    out: &mut Vec<T>,
    tag: u64,
    bytes: usize,
    buf: Option<Buffer>,
    lease: Option<LeaseTag>,
) {
    if out.len() == out.capacity() {
        put_more(out, tag, bytes, buf, lease);
    } else {
        out.push(T::from(Finished { tag, result: Ok(bytes), buf, lease }));
    }
}

#[cold]
#[inline(never)]
fn put_more<T: From<Finished>>(
    out: &mut Vec<T>,
    tag: u64,
    bytes: usize,
    buf: Option<Buffer>,
    lease: Option<LeaseTag>,
) {
    out.push(T::from(Finished { tag, result: Ok(bytes), buf, lease }));
}
