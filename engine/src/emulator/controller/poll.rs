//! One look at every queue: what the controller does for as long as it is awake.
//!
//! The work of a look is bounded: so many commands of each queue that is there, each
//! bounded by its own limits. So neither a queue nor the socket waits for another
//! queue's client.

use super::super::disk::Done;
use super::super::guest::{Guest, Reach};
use super::super::queue::Rung;
use super::events::Event;
use super::{Controller, Late, MOST_LATE, Until};
use std::time::Instant;

/// Commands that are taken from one queue in one look; and where each is a call of the system,
/// behind which messages wait.
const BURST: u32 = 64;
const SLOW_BURST: u32 = 1;
/// Looks between two sweeps over doorbells that nobody should write.
const SWEEP: u32 = 1 << 16;

impl Controller {
    /// Takes and executes what the clients have rung for; whether there was anything.
    pub(in super::super) fn poll(&mut self, guest: &impl Guest) -> bool {
        if !self.is_running() {
            return false;
        }
        let mut busy = self.run_late(guest);
        let mut place = 0;
        // A command may make and delete queues: the list is asked anew each time.
        while let Some(&qid) = self.active.get(place) {
            place += 1;
            match self.look(qid, guest) {
                Ok(did) => busy |= did,
                // A ring that cannot be reached: nothing can be said to the client.
                Err(_) => self.fail(),
            }
            if !self.is_running() || self.vanish.is_some() {
                break;
            }
        }
        self.looks = self.looks.wrapping_add(1);
        if self.looks.is_multiple_of(SWEEP) {
            self.sweep();
        }
        if self.events.is_due() && self.post_events(guest).is_err() {
            self.fail();
        }
        self.announce();
        busy
    }

    /// Whether commands take far longer than a look at the socket.
    pub(in super::super) fn is_slow(&self) -> bool {
        self.disk.is_slow()
    }

    /// Looks at one submission queue and takes what is there.
    fn look(&mut self, qid: u16, guest: &impl Guest) -> Reach<bool> {
        let slot = usize::from(qid);
        let Some(sq) = &mut self.sqs[slot] else { return Ok(false) };
        let value = match &sq.shadow {
            Some(shadow) => shadow.load(guest)?,
            None => self.doorbells.load(2 * slot),
        };
        match sq.ring(value) {
            Rung::Same if sq.head == sq.tail => return Ok(false),
            Rung::Same => {}
            Rung::New => match &mut sq.shadow {
                Some(shadow) => shadow.keep_behind(guest, sq.tail, sq.size)?,
                // It was written into the page, so nothing will wake us next time.
                None if qid == 0 => self.rings_by_message = false,
                None => {}
            },
            Rung::Bad => self.events.raise(Event::InvalidDoorbellValue),
        }
        let cqid = sq.cqid;
        let mut did = false;
        for _ in 0..if self.is_slow() { SLOW_BURST } else { BURST } {
            if self.late.len() >= MOST_LATE || !self.has_room(cqid, guest)? {
                break;
            }
            let Some(sq) = self.sqs[slot].as_mut().filter(|sq| sq.head != sq.tail) else { break };
            let command = sq.fetch(guest)?;
            did = true;
            self.take(qid, command, guest)?;
            if self.vanish.is_some() || self.registers.csts.cfs() == 1 {
                break;
            }
        }
        Ok(did)
    }

    /// Whether a completion can be posted: looks at the head's doorbell only when,
    /// as far as is known, it cannot.
    #[inline]
    pub(super) fn has_room(&mut self, cqid: u16, guest: &impl Guest) -> Reach<bool> {
        match &self.cqs[usize::from(cqid)] {
            Some(cq) if cq.has_room() => Ok(true),
            _ => self.take_head(cqid, guest),
        }
    }

    /// Looks at a completion queue's doorbell; whether there is room then.
    fn take_head(&mut self, cqid: u16, guest: &impl Guest) -> Reach<bool> {
        let slot = usize::from(cqid);
        let Some(cq) = &mut self.cqs[slot] else { return Ok(false) };
        let value = match &cq.shadow {
            Some(shadow) => shadow.load(guest)?,
            None => self.doorbells.load(2 * slot + 1),
        };
        match cq.ring(value) {
            Rung::Same => {}
            Rung::New => {
                let (head, size) = (cq.head, cq.size);
                if let Some(shadow) = &mut cq.shadow {
                    shadow.keep_behind(guest, head, size)?;
                }
            }
            Rung::Bad => self.events.raise(Event::InvalidDoorbellValue),
        }
        cq.stalled = !cq.has_room();
        Ok(!cq.stalled)
    }

    /// Executes the commands that were held back and are due, and completes those that waited
    /// for a flush that has ended.
    fn run_late(&mut self, guest: &impl Guest) -> bool {
        if self.late.is_empty() {
            return false;
        }
        let (mut now, mut did, mut place) = (None, false, 0);
        while let Some(late) = self.late.get(place).copied() {
            let Some(cqid) = self.sqs[usize::from(late.qid)].as_ref().map(|sq| sq.cqid) else {
                self.late.remove(place);
                continue;
            };
            let synced = match late.until {
                Until::Due(due) if due > *now.get_or_insert_with(Instant::now) => {
                    place += 1;
                    continue;
                }
                Until::Due(_) => None,
                Until::Synced(flush) => match self.disk.synced(flush) {
                    None => {
                        place += 1;
                        continue;
                    }
                    synced => synced,
                },
            };
            let ran = match self.has_room(cqid, guest) {
                Ok(true) => {
                    self.late.remove(place);
                    did = true;
                    self.end_late(&late, synced, guest)
                }
                Ok(false) => {
                    place += 1;
                    Ok(())
                }
                Err(e) => Err(e),
            };
            if ran.is_err() {
                self.fail();
                return did;
            }
        }
        did
    }

    fn end_late(&mut self, late: &Late, synced: Option<Done>, guest: &impl Guest) -> Reach {
        let Some(synced) = synced else { return self.run(late.qid, late.command, guest) };
        let answer = synced.map(|()| 0).map_err(|trouble| self.told(trouble));
        self.complete(late.qid, late.command.cid(), answer, guest)
    }

    /// Whether a command waits for a flush.
    pub(in super::super) fn is_syncing(&self) -> bool {
        self.late.iter().any(|late| matches!(late.until, Until::Synced(_)))
    }

    /// Looks at the doorbells of queues that are not there, and at heads.
    pub(super) fn sweep(&mut self) {
        for slot in 0..self.sqs.len() {
            if self.sqs[slot].is_none() && self.doorbells.load(2 * slot) != 0 {
                self.doorbells.store(2 * slot, 0);
                self.events.raise(Event::InvalidDoorbell);
            }
            let head = self.doorbells.load(2 * slot + 1);
            let Some(cq) = &mut self.cqs[slot] else {
                if head != 0 {
                    self.doorbells.store(2 * slot + 1, 0);
                    self.events.raise(Event::InvalidDoorbell);
                }
                continue;
            };
            if cq.shadow.is_none() && cq.ring(head) == Rung::Bad {
                self.events.raise(Event::InvalidDoorbellValue);
            }
        }
    }

    /// Signals the interrupts of queues that were posted to: once each.
    fn announce(&mut self) {
        if self.posted.is_empty() {
            return;
        }
        for slot in self.posted.drain(..) {
            let Some(cq) = &mut self.cqs[usize::from(slot)] else { continue };
            cq.unannounced = false;
            let vector = cq.vector.map(usize::from);
            if let Some(Some(interrupt)) = vector.and_then(|vector| self.irqs.get(vector)) {
                interrupt.signal();
            }
        }
    }
}
