//! Plain operations: one command, one completion, nothing else.

use super::{Finished, Inner, Lane, LeaseTag, RETRIES, Traffic, bump, landed};
use crate::error::Error;
use freehold_engine::medium::{self, Op};
use freehold_engine::memory::Buffer;
use freehold_engine::pin::IoPin;

/// A plain operation in flight. Its number is also its slot's and its tag.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    /// The user's tag.
    tag: u64,
    at: u64,
    /// Bytes of the file that the buffer holds; zeroes behind them on reads.
    bytes: usize,
    write: bool,
    /// With forced unit access.
    fua: bool,
    tries: u8,
    /// Through a lease: pinned by it, and in no slot.
    lease: Option<LeaseTag>,
}

impl Plain {
    #[inline(always)]
    pub(crate) fn read(tag: u64, at: u64, bytes: usize) -> Self {
        Plain { tag, at, bytes, write: false, fua: false, tries: 0, lease: None }
    }

    #[inline(always)]
    pub(crate) fn write(tag: u64, at: u64, bytes: usize, fua: bool) -> Self {
        Plain { tag, at, bytes, write: true, fua, tries: 0, lease: None }
    }

    #[inline(always)]
    fn op(&self, buf: Buffer) -> Op {
        if self.write {
            Op::Write { at: self.at, buf, fua: self.fua }
        } else {
            Op::Read { at: self.at, buf }
        }
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
    #[inline(always)]
    fn count(&mut self, t: &Traffic, plain: &Plain, buf: &Option<Buffer>) {
        let bytes = buf.as_ref().map_or(plain.bytes, |b| b.len()) as u64;
        if plain.write {
            self.writes += 1;
            self.bytes_written += bytes;
            // Before its slot is retired or its lease unpinned: who finds the write over, and
            // makes durable what has landed, must find it here.
            if !plain.fua {
                landed(t);
            }
        } else {
            self.reads += 1;
            self.bytes_read += bytes;
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
    #[inline]
    pub(crate) fn begin_plain(
        &mut self,
        lane: &Lane,
        i: u32,
        plain: Plain,
        buf: Buffer,
    ) -> Result<(), (Buffer, Option<Error>)> {
        let begun = self.start(lane, i, plain, buf);
        begun.map_err(|(plain, refused)| {
            drop(plain);
            self.give_up(lane, i);
            refused
        })
    }

    /// Gives back a slot that was published for a plain operation which is none.
    pub(crate) fn give_up(&mut self, lane: &Lane, i: u32) {
        lane.slots.retire(i as usize);
        self.free_plain.push(i);
    }

    /// Submits a command through a lease that it has pinned.
    #[inline(always)]
    pub(crate) fn begin_leased(
        &mut self,
        lane: &Lane,
        i: u32,
        plain: Plain,
        buf: Buffer,
        (mut tag, pin): (LeaseTag, IoPin),
    ) -> Result<(), (Buffer, Option<Error>, LeaseTag)> {
        tag.pin = Some(pin);
        match self.start(lane, i, Plain { lease: Some(tag), ..plain }, buf) {
            Ok(()) => Ok(()),
            Err((plain, (buf, error))) => {
                let mut tag = plain.lease.expect("it was given above");
                self.unpin(&mut tag);
                self.free_plain.push(i);
                Err((buf, error, tag))
            }
        }
    }

    /// Gives a command to the device, or its place and its buffer back.
    #[inline(always)]
    fn start(
        &mut self,
        lane: &Lane,
        i: u32,
        plain: Plain,
        buf: Buffer,
    ) -> Result<(), (Plain, (Buffer, Option<Error>))> {
        let Err(r) = self.dev.submit(u64::from(i), plain.op(buf)) else {
            self.plain[i as usize] = plain;
            lane.begin();
            return Ok(());
        };
        match r.op {
            Op::Read { buf, .. } | Op::Write { buf, .. } => {
                Err((plain, (buf, r.error.map(Error::from))))
            }
            _ => unreachable!("a plain operation carries a buffer"),
        }
    }

    /// The command that a lease was pinned for is over, or was none.
    #[inline(always)]
    fn unpin(&mut self, tag: &mut LeaseTag) {
        if let Some(pin) = tag.pin.take() {
            self.pins.complete(tag.lease().pins(), pin);
        }
    }

    /// A plain operation has succeeded.
    #[inline(always)]
    pub(super) fn end_plain(
        &mut self,
        lane: &Lane,
        i: usize,
        mut buf: Option<Buffer>,
        ended: &mut Ended,
    ) -> Finished {
        let plain = &mut self.plain[i];
        let (tag, bytes) = (plain.tag, plain.bytes);
        ended.count(&lane.traffic, plain, &buf);
        if let Some(b) = &mut buf
            && bytes < b.len()
            && !plain.write
        {
            b[bytes..].fill(0);
        }
        let lease = match plain.lease.take() {
            Some(mut tag) => {
                self.unpin(&mut tag);
                tag.done();
                Some(tag)
            }
            None => {
                lane.slots.retire(i);
                None
            }
        };
        self.free_plain.push(i as u32);
        Finished { tag, result: Ok(bytes), buf, lease }
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
        ended.count(&lane.traffic, plain, &buf);
        let (tag, mut lease) = (plain.tag, plain.lease.take());
        match &mut lease {
            Some(tag) => self.unpin(tag),
            None => lane.slots.retire(i),
        }
        self.free_plain.push(i as u32);
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
