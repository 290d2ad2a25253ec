//! Making and deleting I/O queues (Base 1.4, 5.3 to 5.6), and the buffers of shadow
//! doorbells (5.7).

use super::super::cmb::CmbOptions;
use super::super::guest::{Guest, Whose};
use super::super::queue::{Cq, ShadowPages, Sq};
use super::Controller;
use crate::nvme::spec::command::{Command, Cqe};
use crate::nvme::spec::status::Status;

type Answer = Result<u32, Status>;

/// PC: the queue is contiguous.
const CONTIGUOUS: u32 = 1;
/// IEN: interrupts are enabled.
const INTERRUPTS: u32 = 2;

impl Controller {
    /// Whether an identifier names an I/O queue that there may be.
    fn may_be(&self, qid: u16) -> bool {
        qid != 0 && usize::from(qid) < self.sqs.len()
    }

    /// What both kinds have in common: identifier, entries, base.
    fn new_queue(&self, command: &Command, entry: u32) -> Result<(u16, u32, u64), Status> {
        let qid = command.cdw(10) as u16;
        let size = (command.cdw(10) >> 16) + 1;
        if !self.may_be(qid) {
            return Err(Status::QUEUE_ID.final_());
        }
        // The entry size is set in CC before the first queue (3.1.5).
        let most = self.traits.cap.mqes() as u32 + 1;
        let known = match entry {
            Command::LOG2 => self.registers.cc.iosqes(),
            _ => self.registers.cc.iocqes(),
        };
        if size < 2 || size > most || known != entry {
            return Err(Status::QUEUE_SIZE.final_());
        }
        // CAP.CQR: the queue is in one piece, which begins on a page.
        if command.cdw(11) & CONTIGUOUS == 0 {
            return Err(Status::INVALID_FIELD.final_());
        }
        if !command.prp1().is_multiple_of(1 << self.page_shift()) {
            return Err(Status::PRP_OFFSET.final_());
        }
        Ok((qid, size, command.prp1()))
    }

    /// Whether a queue may lie where it does: all of it in the memory buffer only where that
    /// takes such queues, in part nowhere (3.1.12).
    fn may_lie(
        &self,
        base: u64,
        len: u64,
        allowed: fn(&CmbOptions) -> bool,
        guest: &impl Guest,
    ) -> Result<(), Status> {
        let Some(cmb) = self.cmb() else { return Ok(()) };
        match guest.whose(base, len) {
            Whose::Clients => Ok(()),
            Whose::Controllers if allowed(cmb.options()) => Ok(()),
            _ => Err(Status::INVALID_CMB_USE.final_()),
        }
    }

    pub(super) fn create_cq(&mut self, command: &Command, guest: &impl Guest) -> Answer {
        let (qid, size, base) = self.new_queue(command, Cqe::LOG2)?;
        if self.cqs[usize::from(qid)].is_some() {
            return Err(Status::QUEUE_ID.final_());
        }
        let (flags, vector) = (command.cdw(11), (command.cdw(11) >> 16) as u16);
        if vector >= self.vectors() {
            return Err(Status::INTERRUPT_VECTOR.final_());
        }
        if !guest.has(base, u64::from(size) * 16, true) {
            return Err(Status::DATA_TRANSFER_ERROR);
        }
        self.may_lie(base, u64::from(size) * 16, |cmb| cmb.cqs, guest)?;
        let vector = (flags & INTERRUPTS != 0).then_some(vector);
        let shadow = self.shadow.map(|pages| pages.cq(qid));
        let mut cq = Cq::new(qid, base, size, vector, shadow);
        if let Some(shadow) = &mut cq.shadow {
            shadow.tell(guest, 0).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
        }
        // A value from before this queue is none of its own.
        self.doorbells.store(2 * usize::from(qid) + 1, 0);
        self.cqs[usize::from(qid)] = Some(cq);
        Ok(0)
    }

    pub(super) fn create_sq(&mut self, command: &Command, guest: &impl Guest) -> Answer {
        let (qid, size, base) = self.new_queue(command, Command::LOG2)?;
        if self.sqs[usize::from(qid)].is_some() {
            return Err(Status::QUEUE_ID.final_());
        }
        let cqid = (command.cdw(11) >> 16) as u16;
        if !self.may_be(cqid) {
            return Err(Status::QUEUE_ID.final_());
        }
        if self.cqs[usize::from(cqid)].is_none() {
            return Err(Status::CQ_INVALID.final_());
        }
        if !guest.has(base, u64::from(size) * 64, false) {
            return Err(Status::DATA_TRANSFER_ERROR);
        }
        self.may_lie(base, u64::from(size) * 64, |cmb| cmb.sqs, guest)?;
        let shadow = self.shadow.map(|pages| pages.sq(qid));
        let mut sq = Sq::new(qid, base, size, cqid, shadow);
        if let Some(shadow) = &mut sq.shadow {
            shadow.tell(guest, 0).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
        }
        self.doorbells.store(2 * usize::from(qid), 0);
        self.sqs[usize::from(qid)] = Some(sq);
        if let Some(cq) = &mut self.cqs[usize::from(cqid)] {
            cq.users += 1;
        }
        self.active.push(qid);
        Ok(0)
    }

    /// What was fetched has completed, except for what a fault holds back, which is dropped,
    /// never executed, and what waits for a flush (5.6 allows both to be aborted without a
    /// completion).
    pub(super) fn delete_sq(&mut self, command: &Command) -> Answer {
        let qid = command.cdw(10) as u16;
        if !self.may_be(qid) {
            return Err(Status::QUEUE_ID.final_());
        }
        let Some(sq) = self.sqs[usize::from(qid)].take() else {
            return Err(Status::QUEUE_ID.final_());
        };
        if let Some(cq) = &mut self.cqs[usize::from(sq.cqid)] {
            cq.users -= 1;
        }
        self.active.retain(|other| *other != qid);
        self.late.retain(|late| late.qid != qid);
        self.doorbells.store(2 * usize::from(qid), 0);
        Ok(0)
    }

    pub(super) fn delete_cq(&mut self, command: &Command) -> Answer {
        let qid = command.cdw(10) as u16;
        if !self.may_be(qid) {
            return Err(Status::QUEUE_ID.final_());
        }
        match &self.cqs[usize::from(qid)] {
            None => return Err(Status::QUEUE_ID.final_()),
            Some(cq) if cq.users > 0 => return Err(Status::QUEUE_DELETION.final_()),
            Some(_) => self.cqs[usize::from(qid)] = None,
        }
        self.doorbells.store(2 * usize::from(qid) + 1, 0);
        Ok(0)
    }

    /// Doorbell Buffer Config. It serves the I/O queues that there are and those to
    /// come; the admin queue keeps its doorbells.
    pub(super) fn doorbell_buffer(&mut self, command: &Command, guest: &impl Guest) -> Answer {
        if !self.traits.shadow_doorbells {
            return Err(Status::INVALID_OPCODE.final_());
        }
        let page = 1u64 << self.page_shift();
        let (doorbells, events) = (command.prp1(), command.prp2());
        let aligned = doorbells.is_multiple_of(page) && events.is_multiple_of(page);
        if !aligned || doorbells == events {
            return Err(Status::INVALID_FIELD.final_());
        }
        if !guest.has(doorbells, page, false) || !guest.has(events, page, true) {
            return Err(Status::DATA_TRANSFER_ERROR);
        }
        let pages = ShadowPages { doorbells, events };
        let fails = |_| Status::DATA_TRANSFER_ERROR;
        for sq in self.sqs.iter_mut().flatten().filter(|sq| sq.id != 0) {
            let mut shadow = pages.sq(sq.id);
            shadow.tell(guest, sq.tail as u16).map_err(fails)?;
            sq.shadow = Some(shadow);
        }
        for cq in self.cqs.iter_mut().flatten().filter(|cq| cq.id != 0) {
            let mut shadow = pages.cq(cq.id);
            shadow.tell(guest, cq.head as u16).map_err(fails)?;
            cq.shadow = Some(shadow);
        }
        self.shadow = Some(pages);
        Ok(0)
    }
}
