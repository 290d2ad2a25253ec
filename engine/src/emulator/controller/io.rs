//! The NVM command set (Base 1.4, 6): reads, writes, compares, zeroes, flushes.
//!
//! A command checks everything that it can before anything moves: namespace, range,
//! limits, and that each address is mapped. A client that changes its memory in the
//! middle gets what it made of it, and nobody else notices.

use super::super::disk::{Ticket, Trouble};
use super::super::guest::Guest;
use super::super::transfer::Rules;
use super::events::Event;
use super::{Controller, Namespace, Outcome};
use crate::nvme::spec::ALL_NAMESPACES;
use crate::nvme::spec::command::{Command, nvm};
use crate::nvme::spec::identify::VWC_FLUSH_ALL;
use crate::nvme::spec::io::DEALLOCATE_ZEROES;
use crate::nvme::spec::status::Status;

type Answer = Result<u32, Status>;

/// A command that is done, or done when a flush has ended.
type Begun = Result<Option<Ticket>, Status>;

fn begun(begun: Begun) -> Outcome {
    match begun {
        Ok(None) => Outcome::Done(Ok(0)),
        Ok(Some(flush)) => Outcome::Syncing(flush),
        Err(status) => Outcome::Done(Err(status)),
    }
}

/// CC.CSS for admin commands alone.
const ADMIN_ONLY: u32 = 7;

impl Controller {
    /// Executes an I/O command.
    #[inline]
    pub(super) fn io(&mut self, command: &Command, guest: &impl Guest) -> Outcome {
        if command.fuse() != 0 {
            return Outcome::Done(Err(Status::INVALID_FIELD.final_()));
        }
        if self.registers.cc.css() == ADMIN_ONLY {
            return Outcome::Done(Err(Status::INVALID_OPCODE.final_()));
        }
        Outcome::Done(match command.opcode() {
            nvm::READ => self.read(command, guest),
            nvm::WRITE => return begun(self.write(command, guest)),
            nvm::FLUSH => return begun(self.flush_command(command)),
            nvm::COMPARE => self.compare(command, guest),
            nvm::WRITE_ZEROES => self.write_zeroes(command),
            nvm::DATASET_MANAGEMENT => self.dataset_management(command, guest),
            nvm::COPY => self.copy(command, guest),
            _ => Err(Status::INVALID_OPCODE.final_()),
        })
    }

    /// The place of blocks on the disk: first byte and length.
    pub(super) fn place(
        &self,
        namespace: Namespace,
        slba: u64,
        blocks: u64,
    ) -> Result<(u64, u64), Status> {
        match slba.checked_add(blocks) {
            Some(end) if end <= namespace.blocks => {
                let start = namespace.start + (slba << self.lba_shift);
                Ok((start, blocks << self.lba_shift))
            }
            _ => Err(Status::LBA_OUT_OF_RANGE.final_()),
        }
    }

    /// The place of a command's blocks, which is no longer than a transfer may be.
    fn transfer_place(&self, command: &Command) -> Result<(u64, u64), Status> {
        let namespace = self.known(command.nsid())?;
        let place = self.place(namespace, command.slba(), u64::from(command.blocks()))?;
        if place.1 > self.traits.max_transfer() {
            return Err(Status::INVALID_FIELD.final_());
        }
        Ok(place)
    }

    /// How an I/O command may name its data.
    pub(super) fn io_rules(&self) -> Rules {
        Rules { sgl: self.traits.sgls & 3, ..self.admin_rules() }
    }

    /// Whether a write must be durable when it completes.
    pub(super) fn is_through(&self, command: &Command) -> bool {
        command.fua() || !self.features.caches_writes()
    }

    /// The status that the disk's trouble is told by.
    pub(super) fn told(&mut self, trouble: Trouble) -> Status {
        match trouble {
            Trouble::NoSpace => Status::CAPACITY_EXCEEDED,
            Trouble::Unreadable => Status::UNRECOVERED_READ,
            Trouble::Unwritten => Status::WRITE_FAULT,
            Trouble::NotDurable => {
                if self.features.tells_of_reliability() {
                    self.events.raise(Event::Unreliable);
                }
                Status::WRITE_FAULT.final_()
            }
        }
    }

    fn read(&mut self, command: &Command, guest: &impl Guest) -> Answer {
        let (at, len) = self.transfer_place(command)?;
        self.transfer.plan(command, len, self.io_rules(), true, guest)?;
        if command.fua() {
            // What a forced read returns is on the medium (6.9).
            self.flush_all()?;
        }
        self.logs.read(u64::from(command.blocks()));
        if self.disk.is_null() {
            return Ok(0);
        }
        if let Some(bytes) = self.disk.bytes(at, len as usize) {
            self.transfer.scatter(guest, bytes)?;
            return Ok(0);
        }
        let bytes = &mut self.scratch[..len as usize];
        match self.disk.read(at, bytes) {
            Ok(()) => self.transfer.scatter(guest, bytes).map(|()| 0),
            Err(trouble) => Err(self.told(trouble)),
        }
    }

    fn write(&mut self, command: &Command, guest: &impl Guest) -> Begun {
        const DIRECTIVE: u32 = 0xf << 20;
        let (at, len) = self.transfer_place(command)?;
        if command.cdw(12) & DIRECTIVE != 0 {
            return Err(Status::INVALID_FIELD.final_());
        }
        self.transfer.plan(command, len, self.io_rules(), false, guest)?;
        self.logs.written(u64::from(command.blocks()));
        let through = self.is_through(command);
        if self.disk.is_null() {
            return Ok(None);
        }
        if let [part] = *self.transfer.parts()
            && let Some(bytes) = self.disk.bytes_mut(at, part.len as usize)
        {
            return match guest.load(part.iova, bytes) {
                Ok(()) => Ok(None),
                Err(_) => Err(Status::DATA_TRANSFER_ERROR),
            };
        }
        let bytes = &mut self.scratch[..len as usize];
        self.transfer.gather(guest, bytes)?;
        let written = match through {
            true => self.disk.write_through(at, bytes),
            false => self.disk.write(at, bytes, false).map(|()| None),
        };
        written.map_err(|trouble| self.told(trouble))
    }

    fn compare(&mut self, command: &Command, guest: &impl Guest) -> Answer {
        let (at, len) = self.transfer_place(command)?;
        self.transfer.plan(command, len, self.io_rules(), false, guest)?;
        self.logs.read(u64::from(command.blocks()));
        let half = self.scratch.len() / 2;
        let (theirs, ours) = self.scratch.split_at_mut(half);
        let (theirs, ours) = (&mut theirs[..len as usize], &mut ours[..len as usize]);
        self.transfer.gather(guest, theirs)?;
        match self.disk.read(at, ours) {
            Ok(()) if theirs == ours => Ok(0),
            Ok(()) => Err(Status::COMPARE_FAILURE),
            Err(trouble) => Err(self.told(trouble)),
        }
    }

    fn write_zeroes(&mut self, command: &Command) -> Answer {
        let namespace = self.known(command.nsid())?;
        let blocks = u64::from(command.blocks());
        let (at, len) = self.place(namespace, command.slba(), blocks)?;
        let deallocate = command.cdw(12) & DEALLOCATE_ZEROES != 0;
        let through = self.is_through(command);
        self.logs.written(blocks);
        match self.disk.zero(at, len, deallocate, through) {
            Ok(()) => Ok(0),
            Err(trouble) => Err(self.told(trouble)),
        }
    }

    /// Flush (6.8): everything that completed before, of all namespaces, whichever is
    /// named.
    fn flush_command(&mut self, command: &Command) -> Begun {
        let all = self.traits.vwc & VWC_FLUSH_ALL == VWC_FLUSH_ALL;
        if !(command.nsid() == ALL_NAMESPACES && all) {
            self.known(command.nsid())?;
        }
        self.disk.begin_flush().map_err(|trouble| self.told(trouble))
    }

    pub(super) fn flush_all(&mut self) -> Answer {
        match self.disk.flush() {
            Ok(()) => Ok(0),
            Err(trouble) => Err(self.told(trouble)),
        }
    }
}
