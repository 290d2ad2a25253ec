//! A command from its fetching to its completion, and the faults on its way.

use super::super::fault::{Action, Corruption};
use super::super::guest::{Guest, Reach};
use super::super::queue::Cq;
use super::{Controller, Late, Outcome, Until, Vanish};
use crate::nvme::spec::command::{Command, Cqe};
use crate::nvme::spec::status::Status;
use std::time::Instant;

/// An identifier that no client of ours gives.
const NOBODY: u16 = 0xfffe;

impl Controller {
    /// Does what is to be done with a command that was fetched. There is room for
    /// its completion.
    #[inline]
    pub(super) fn take(&mut self, qid: u16, command: Command, guest: &impl Guest) -> Reach {
        if self.faults.is_empty() {
            return self.run(qid, command, guest);
        }
        match self.faults.strike(qid == 0, command.opcode()) {
            Some(action) => self.spoil(qid, command, action, guest),
            None => self.run(qid, command, guest),
        }
    }

    /// Executes a command and completes it.
    #[inline]
    pub(super) fn run(&mut self, qid: u16, command: Command, guest: &impl Guest) -> Reach {
        match self.execute(qid, &command, guest) {
            Outcome::Done(answer) => self.complete(qid, command.cid(), answer, guest),
            Outcome::Syncing(flush) => {
                self.late.push(Late { until: Until::Synced(flush), qid, command });
                Ok(())
            }
            Outcome::Outstanding => Ok(()),
        }
    }

    /// Executes a command to its end: what is made durable is waited for.
    fn execute_whole(&mut self, qid: u16, command: &Command, guest: &impl Guest) -> Outcome {
        match self.execute(qid, command, guest) {
            Outcome::Syncing(_) => Outcome::Done(self.flush_all()),
            outcome => outcome,
        }
    }

    fn execute(&mut self, qid: u16, command: &Command, guest: &impl Guest) -> Outcome {
        if qid == 0 {
            return self.admin(command, guest);
        }
        if !self.late.is_empty() && self.is_in_use(qid, command.cid()) {
            return Outcome::Done(Err(Status::ID_CONFLICT.final_()));
        }
        self.io(command, guest)
    }

    fn is_in_use(&self, qid: u16, cid: u16) -> bool {
        self.late.iter().any(|late| late.qid == qid && late.command.cid() == cid)
    }

    /// Posts a completion.
    #[inline]
    pub(super) fn complete(
        &mut self,
        qid: u16,
        cid: u16,
        answer: Result<u32, Status>,
        guest: &impl Guest,
    ) -> Reach {
        let (result, status) = match answer {
            Ok(result) => (result, Status::SUCCESS),
            Err(status) => {
                self.logs.failed(qid, cid, status);
                (0, status)
            }
        };
        let Some(sq) = &self.sqs[usize::from(qid)] else { return Ok(()) };
        let entry = Cqe::new(result, sq.head as u16, qid, cid, status, false);
        match self.open_to_post(sq.cqid) {
            Some(cq) => cq.post(entry, guest),
            None => Ok(()),
        }
    }

    /// A queue that gets an entry now and is to be announced for it.
    #[inline]
    fn open_to_post(&mut self, cqid: u16) -> Option<&mut Cq> {
        let cq = self.cqs[usize::from(cqid)].as_mut()?;
        if !cq.unannounced {
            self.posted.push(cqid);
        }
        Some(cq)
    }

    /// A command that a fault has chosen.
    #[cold]
    fn spoil(&mut self, qid: u16, command: Command, action: Action, guest: &impl Guest) -> Reach {
        let cid = command.cid();
        match action {
            Action::Drop => drop(self.execute(qid, &command, guest)),
            Action::Delay(time) => {
                self.late.push(Late { until: Until::Due(Instant::now() + time), qid, command });
            }
            Action::Duplicate => {
                if let Outcome::Done(answer) = self.execute_whole(qid, &command, guest) {
                    self.complete(qid, cid, answer, guest)?;
                }
                let cqid = self.sqs[usize::from(qid)].as_ref().map(|sq| sq.cqid);
                if let Some(cqid) = cqid.filter(|_| qid != 0)
                    && self.has_room(cqid, guest)?
                {
                    self.complete(qid, cid, Ok(0), guest)?;
                }
            }
            Action::Corrupt(how) => {
                if let Outcome::Done(answer) = self.execute_whole(qid, &command, guest) {
                    self.complete_wrongly(qid, cid, answer, how, guest)?;
                }
            }
            Action::Status(status) => self.complete(qid, cid, Err(status), guest)?,
            Action::Fatal => self.fail(),
            // It strikes barriers alone.
            Action::Region { .. } => {}
            Action::Vanish { exit } => {
                if let Some(region) = &mut self.region {
                    region.put_some_down(true);
                }
                self.vanish = Some(if exit { Vanish::Exit } else { Vanish::Close });
            }
        }
        Ok(())
    }

    fn complete_wrongly(
        &mut self,
        qid: u16,
        cid: u16,
        answer: Result<u32, Status>,
        how: Corruption,
        guest: &impl Guest,
    ) -> Reach {
        let Some(sq) = &self.sqs[usize::from(qid)] else { return Ok(()) };
        let (cqid, head, far) = (sq.cqid, sq.head as u16, sq.size as u16);
        let (result, status) = match answer {
            Ok(result) => (result, Status::SUCCESS),
            Err(status) => (0, status),
        };
        let entry = match how {
            Corruption::Cid => Cqe::new(result, head, qid, NOBODY, status, false),
            Corruption::Head => Cqe::new(result, far, qid, cid, status, false),
            Corruption::Queue => Cqe::new(result, head, qid ^ 0x8000, cid, status, false),
            Corruption::Phase => Cqe::new(result, head, qid, cid, status, false),
        };
        match self.open_to_post(cqid) {
            Some(cq) if how == Corruption::Phase => cq.post_unseen(entry, guest),
            Some(cq) => cq.post(entry, guest),
            None => Ok(()),
        }
    }
}
