//! Taking operations: how each becomes commands, at once or when there are places.

use super::super::controller::Controller;
use super::super::spec::command::{Command, nvm};
use super::super::spec::io::FUA;
use super::core::Core;
use super::piece::{Kind, Work};
use crate::medium::check::{check, full, is_place, reject};
use crate::medium::{BLOCK, Error, ErrorKind, Op, Rejected, Result};
use crate::memory::Buffer;

impl Core {
    /// Takes an operation.
    #[inline]
    pub(super) fn submit(
        &mut self,
        controller: &Controller,
        tag: u64,
        op: Op,
    ) -> std::result::Result<(), Rejected> {
        if controller.news() != self.calm {
            self.heed(controller);
            if let Some(error) = &self.ended {
                return Err(reject(op, error.clone()));
            }
        }
        match op {
            Op::Read { at, buf } => {
                self.transfer::<{ nvm::READ }>(controller, tag, (at, buf), false)
            }
            Op::Write { at, buf, fua } if !self.read_only => {
                self.transfer::<{ nvm::WRITE }>(controller, tag, (at, buf), fua)
            }
            other => self.submit_long(controller, tag, other),
        }
    }

    /// Takes a transfer: makes its command, where it is one and can go at once.
    #[inline]
    fn transfer<const OPCODE: u8>(
        &mut self,
        controller: &Controller,
        tag: u64,
        (at, buf): (u64, Buffer),
        fua: bool,
    ) -> std::result::Result<(), Rejected> {
        let Some((place, address)) = self.is_simple(controller, at, &buf) else {
            let op = match OPCODE {
                nvm::WRITE => Op::Write { at, buf, fua },
                _ => Op::Read { at, buf },
            };
            return self.submit_long(controller, tag, op);
        };
        let len = buf.len();
        let cid = self.slab.fill(place, tag, buf);
        let space = &*self.space;
        let (at, count) = (at << space.shift, ((len / BLOCK) as u32) << space.shift);
        let flags = if fua { FUA } else { 0 };
        let command = Command::ranged(OPCODE, space.nsid, at, count, flags).with_cid(cid);
        let data = self.lists.point(place, space.abilities.sgl, address, len);
        self.rings.push(&command.with_data(data));
        Ok(())
    }

    /// Whether an operation is one command and can go at once: a transfer that is not
    /// refused, not longer than a command, from memory that the device reaches, with nothing
    /// before it. Its place then, and where its memory is for the device.
    #[inline]
    fn is_simple(&self, controller: &Controller, at: u64, buf: &Buffer) -> Option<(u16, u64)> {
        let address = controller.device_address(buf)?;
        let len = buf.len();
        let fits = len <= self.most && is_place(at, len, &self.space.geometry);
        // Where there are no others, a place is all that it needs.
        let others = self.ops.open() + self.finished.len();
        if !fits || (others > 0 && !self.has_room()) {
            return None;
        }
        Some((self.slab.vacant()?, address))
    }

    /// Whether one more operation may go at once, although there are some that wait.
    #[cold]
    fn has_room(&self) -> bool {
        self.waiting.is_empty() && self.in_flight() < self.slab.depth()
    }

    /// Takes an operation that is not one command at once, or refuses it.
    #[cold]
    fn submit_long(
        &mut self,
        controller: &Controller,
        tag: u64,
        op: Op,
    ) -> std::result::Result<(), Rejected> {
        if let Err(error) = check(&op, &self.space.geometry) {
            return Err(reject(op, error));
        }
        if self.in_flight() >= self.slab.depth() {
            return Err(full(op));
        }
        match op {
            Op::Read { at, buf } => self.transfer_long(controller, tag, Kind::Read, (at, buf)),
            Op::Write { at, buf, fua } if !self.read_only => {
                self.transfer_long(controller, tag, Kind::Write { fua }, (at, buf))
            }
            Op::Compare { at, buf } => {
                self.transfer_long(controller, tag, Kind::Compare, (at, buf))
            }
            Op::Flush => self.order(tag, Kind::Flush, 0, 1),
            Op::WriteZeroes { at, count } if !self.read_only => {
                self.order_blocks(tag, Kind::WriteZeroes, at, count)
            }
            Op::Deallocate { at, count } if !self.read_only => {
                self.order_blocks(tag, Kind::Deallocate, at, count)
            }
            Op::Copy { from, to, count } if !self.read_only => {
                let from = from << self.space.shift;
                self.order_blocks(tag, Kind::Copy { from }, to, count)
            }
            other => Err(reject(other, read_only())),
        }
    }

    /// Takes one that may be several commands, has to wait for others, or whose buffer the
    /// device cannot reach: such bytes are copied (law M4).
    fn transfer_long(
        &mut self,
        controller: &Controller,
        tag: u64,
        kind: Kind,
        (at, buf): (u64, Buffer),
    ) -> std::result::Result<(), Rejected> {
        let address = controller.device_address(&buf);
        let (address, bounce) = match address {
            Some(address) => (address, None),
            None => match self.bounce(controller, kind, &buf) {
                Ok((address, copy)) => (address, Some((copy, kind == Kind::Read))),
                Err(error) => return Err(reject(op_of(kind, at, buf), error)),
            },
        };
        let total = ((buf.len() / BLOCK) as u64) << self.space.shift;
        let work = Work { kind, at: at << self.space.shift, total, cut: 0, address };
        let op = self.ops.take(tag, (Some(buf), bounce), work);
        self.waiting.push_back(op);
        self.feed();
        Ok(())
    }

    fn bounce(&self, c: &Controller, kind: Kind, buf: &Buffer) -> Result<(u64, Buffer)> {
        let mut copy = c.pool.take(buf.len())?;
        if kind != Kind::Read {
            copy.copy_from_slice(buf);
        }
        match c.pool.device_address(&copy) {
            Some(address) => Ok((address, copy)),
            None => Err(Error::new(ErrorKind::Limit, "the pool has no memory for the device")),
        }
    }

    fn order_blocks(
        &mut self,
        tag: u64,
        kind: Kind,
        at: u64,
        count: u64,
    ) -> std::result::Result<(), Rejected> {
        self.order(tag, kind, at << self.space.shift, count << self.space.shift)
    }

    /// Takes an operation without a buffer.
    fn order(
        &mut self,
        tag: u64,
        kind: Kind,
        at: u64,
        total: u64,
    ) -> std::result::Result<(), Rejected> {
        let work = Work { kind, at, total, cut: 0, address: 0 };
        let op = self.ops.take(tag, (None, None), work);
        self.waiting.push_back(op);
        self.feed();
        Ok(())
    }

    /// Makes commands of what waits, while there are places for them.
    pub(super) fn feed(&mut self) {
        while let Some(&op) = self.waiting.front() {
            while let Some(work) = self.ops.work(op) {
                let Some((slot, cid)) = self.slab.take(op) else { return };
                let command = self.lists.next(&self.space, work, slot);
                self.rings.push(&command.with_cid(cid));
                self.ops.began(op);
            }
            self.waiting.pop_front();
        }
    }
}

fn read_only() -> Error {
    Error::new(ErrorKind::Permission, "the namespace is open for reading only, or write protected")
}

/// The operation with a buffer that was taken apart.
fn op_of(kind: Kind, at: u64, buf: Buffer) -> Op {
    match kind {
        Kind::Write { fua } => Op::Write { at, buf, fua },
        Kind::Compare => Op::Compare { at, buf },
        _ => Op::Read { at, buf },
    }
}
