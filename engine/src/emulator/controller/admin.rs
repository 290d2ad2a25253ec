//! The admin command set (Base 1.4, 5): who answers what.

use super::super::cmb::Cmb;
use super::super::guest::Guest;
use super::super::transfer::Rules;
use super::{Controller, Outcome, Until};
use crate::nvme::spec::command::{Command, PSDT_PRP, admin};
use crate::nvme::spec::status::Status;

/// ACL: aborts at a time, zero-based. Each is over when it completes.
pub(super) const ACL: u8 = 3;

impl Controller {
    /// Executes an admin command. What is not here (among others Keep Alive, Format
    /// NVM, firmware, namespace management, security, directives) is not identified
    /// as supported, and refused.
    pub(super) fn admin(&mut self, command: &Command, guest: &impl Guest) -> Outcome {
        if command.fuse() != 0 || command.psdt() != PSDT_PRP {
            return Outcome::Done(Err(Status::INVALID_FIELD.final_()));
        }
        Outcome::Done(match command.opcode() {
            admin::ASYNC_EVENT => return self.async_event(command.cid()),
            admin::ABORT => self.abort(command, guest),
            admin::DELETE_SQ => self.delete_sq(command),
            admin::CREATE_SQ => self.create_sq(command, guest),
            admin::DELETE_CQ => self.delete_cq(command),
            admin::CREATE_CQ => self.create_cq(command, guest),
            admin::IDENTIFY => self.identify(command, guest),
            admin::GET_LOG_PAGE => self.get_log_page(command, guest),
            admin::SET_FEATURES => self.set_features(command, guest),
            admin::GET_FEATURES => self.get_features(command, guest),
            admin::DOORBELL_BUFFER => self.doorbell_buffer(command, guest),
            _ => Err(Status::INVALID_OPCODE.final_()),
        })
    }

    /// How an admin command names its data: by PRPs alone (4.4).
    pub(super) fn admin_rules(&self) -> Rules {
        let cmb = self.cmb().map(Cmb::allows);
        Rules { page_shift: self.page_shift(), sgl: 0, cmb }
    }

    /// Sends an admin command's data.
    pub(super) fn send(
        &mut self,
        command: &Command,
        bytes: &[u8],
        guest: &impl Guest,
    ) -> Result<u32, Status> {
        let rules = self.admin_rules();
        self.transfer.plan(command, bytes.len() as u64, rules, true, guest)?;
        self.transfer.scatter(guest, bytes)?;
        Ok(0)
    }

    /// Abort (5.1). Only what waits can be aborted: an asynchronous event request,
    /// and a command that a fault holds back. Dword 0 says 1 where nothing was.
    fn abort(&mut self, command: &Command, guest: &impl Guest) -> Result<u32, Status> {
        const NOT_ABORTED: u32 = 1;
        let (qid, cid) = (command.cdw(10) as u16, (command.cdw(10) >> 16) as u16);
        let cqid = self.sqs.get(usize::from(qid)).and_then(Option::as_ref).map(|sq| sq.cqid);
        let Some(cqid) = cqid else { return Ok(NOT_ABORTED) };
        // The abort's own completion needs room as well, on the admin queue.
        let room = match &self.cqs[usize::from(cqid)] {
            Some(cq) => cq.used() + 2 < cq.size,
            None => false,
        };
        let held = self.late.iter().position(|l| {
            l.qid == qid && l.command.cid() == cid && matches!(l.until, Until::Due(_))
        });
        let found = room && (qid == 0 && self.events.withdraw(cid) || held.is_some());
        if !found {
            return Ok(NOT_ABORTED);
        }
        if let Some(place) = held {
            self.late.remove(place);
        }
        let answer = Err(Status::ABORT_REQUESTED);
        if self.complete(qid, cid, answer, guest).is_err() {
            self.fail();
        }
        Ok(0)
    }
}
