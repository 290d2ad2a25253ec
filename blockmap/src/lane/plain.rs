//! Plain operations: one command, one completion, nothing else.

use super::{Finished, Inner, Lane, LeaseTag, Leased, RETRIES, bump, count};
use crate::error::Error;
use freehold_engine::medium::{self, Op};
use freehold_engine::memory::Buffer;

/// A plain operation in flight. Its number is also its slot's and its tag.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Plain {
    /// The user's tag.
    pub(crate) tag: u64,
    /// Bytes of the file that the buffer holds; zeroes behind them on reads.
    pub(crate) bytes: usize,
    pub(crate) at: u64,
    pub(crate) write: bool,
    /// With forced unit access.
    fua: bool,
    tries: u32,
    /// Through a lease: pinned, and in no slot.
    leased: bool,
}

impl Plain {
    pub(crate) fn read(tag: u64, at: u64, bytes: usize) -> Self {
        Plain { tag, bytes, at, write: false, fua: false, tries: 0, leased: false }
    }

    pub(crate) fn write(tag: u64, at: u64, bytes: usize, fua: bool) -> Self {
        Plain { tag, bytes, at, write: true, fua, tries: 0, leased: false }
    }

    fn op(&self, buf: Buffer) -> Op {
        if self.write {
            Op::Write { at: self.at, buf, fua: self.fua }
        } else {
            Op::Read { at: self.at, buf }
        }
    }
}

impl Inner {
    /// Submits a plain operation whose slot is published. On refusal the slot
    /// is retired, and the buffer comes back; without an error, the queue is full.
    pub(crate) fn begin_plain(
        &mut self,
        lane: &Lane,
        i: u32,
        plain: Plain,
        buf: Buffer,
    ) -> Result<(), (Buffer, Option<Error>)> {
        self.start(lane, i, plain, buf).inspect_err(|_| lane.slots.retire(i as usize))
    }

    /// Gives back a slot that was published for a plain operation which is none.
    pub(crate) fn give_up(&mut self, lane: &Lane, i: u32) {
        lane.slots.retire(i as usize);
        self.free_plain.push(i);
    }

    /// Submits a command through a lease that it has pinned.
    pub(crate) fn begin_leased(
        &mut self,
        lane: &Lane,
        i: u32,
        plain: Plain,
        buf: Buffer,
        leased: Leased,
    ) -> Result<(), (Buffer, Option<Error>, LeaseTag)> {
        match self.start(lane, i, Plain { leased: true, ..plain }, buf) {
            Ok(()) => {
                self.leased[i as usize] = Some(leased);
                Ok(())
            }
            Err((buf, error)) => {
                self.pins.complete(leased.tag.lease.pins(), leased.pin);
                Err((buf, error, leased.tag))
            }
        }
    }

    /// Gives a command to the device, or its place and its buffer back.
    #[inline]
    fn start(
        &mut self,
        lane: &Lane,
        i: u32,
        plain: Plain,
        buf: Buffer,
    ) -> Result<(), (Buffer, Option<Error>)> {
        let op = plain.op(buf);
        count(&lane.traffic, &op);
        let Err(r) = self.dev.submit(u64::from(i), op) else {
            self.plain[i as usize] = plain;
            let t = &lane.traffic;
            bump(if plain.write { &t.user_writes } else { &t.user_reads }, 1);
            return Ok(());
        };
        super::uncount(&lane.traffic, &r.op);
        self.free_plain.push(i);
        match r.op {
            Op::Read { buf, .. } | Op::Write { buf, .. } => Err((buf, r.error.map(Error::from))),
            _ => unreachable!("a plain operation carries a buffer"),
        }
    }

    /// Unpins what a command went through, or retires its slot.
    fn release(&mut self, lane: &Lane, i: usize, plain: Plain) -> Option<LeaseTag> {
        if !plain.leased {
            lane.slots.retire(i);
            return None;
        }
        let Leased { tag, pin } = self.leased[i].take()?;
        self.pins.complete(tag.lease.pins(), pin);
        Some(tag)
    }

    /// A plain operation completed: ends it, or issues it again after a reset.
    pub(super) fn end_plain(&mut self, lane: &Lane, c: medium::Completion) {
        let i = c.tag as usize;
        let Some(plain) = self.plain.get(i).copied() else { return };
        let mut buf = c.buf;
        let mut result = c.result;
        if let Err(e) = &result {
            self.health.saw(e);
            if e.kind() == medium::ErrorKind::Reset
                && plain.tries < RETRIES
                && let Some(b) = buf.take()
            {
                let again = Plain { tries: plain.tries + 1, ..plain };
                match self.dev.submit(c.tag, again.op(b)) {
                    Ok(()) => {
                        self.plain[i] = again;
                        return;
                    }
                    Err(r) => {
                        result = Err(r.error.unwrap_or_else(|| e.clone()));
                        if let Op::Read { buf: b, .. } | Op::Write { buf: b, .. } = r.op {
                            buf = Some(b);
                        }
                    }
                }
            }
        }
        if let (Ok(()), false, Some(b)) = (&result, plain.write, &mut buf)
            && plain.bytes < b.len()
        {
            b[plain.bytes..].fill(0);
        }
        if plain.write && !plain.fua {
            super::landed(&lane.traffic);
        }
        let mut lease = self.release(lane, i, plain);
        if let (Some(tag), true) = (&mut lease, result.is_ok()) {
            tag.done();
        }
        self.free_plain.push(i as u32);
        let result = result.map(|()| plain.bytes).map_err(Error::from);
        self.done.push(Finished { tag: plain.tag, result, buf, lease });
    }
}
