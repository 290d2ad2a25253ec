//! Asynchronous events (Base 1.4, 5.2): few kinds, each told once until the client
//! has read its log page. So there is nothing that could grow.

use super::super::guest::{Guest, Reach};
use super::{Controller, Outcome};
use crate::nvme::spec::feature::AsyncEvent;
use crate::nvme::spec::log;
use crate::nvme::spec::status::Status;

/// AERL: requests that may be outstanding, zero-based.
pub(super) const AERL: u8 = 3;

/// What can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// A doorbell of a queue that is not there was written.
    InvalidDoorbell,
    /// A doorbell was set to what it cannot be.
    InvalidDoorbellValue,
    /// A flush failed: what was written may be lost.
    Unreliable,
}

impl Event {
    const ALL: [Self; 3] = [Self::InvalidDoorbell, Self::InvalidDoorbellValue, Self::Unreliable];

    fn bit(self) -> u8 {
        1 << self as u8
    }

    /// Dword 0 of the completion: type, information, log page.
    fn word(self) -> u32 {
        let (kind, info, page) = match self {
            Self::InvalidDoorbell => (0, 0, log::id::ERRORS),
            Self::InvalidDoorbellValue => (0, 1, log::id::ERRORS),
            Self::Unreliable => (1, 0, log::id::SMART),
        };
        AsyncEvent(0).with_kind(kind).with_info(info).with_log_page(u32::from(page)).0
    }

    fn page(self) -> u8 {
        AsyncEvent(self.word()).log_page() as u8
    }
}

/// Requests that wait, and events that do.
#[derive(Debug, Default)]
pub(super) struct Events {
    waiting: Vec<u16>,
    pending: u8,
    /// Log pages whose events are not told again before they are read.
    unread: u8,
}

impl Events {
    /// Something happened.
    pub(super) fn raise(&mut self, event: Event) {
        self.pending |= event.bit();
    }

    fn next(&self) -> Option<Event> {
        let may =
            |event: &Event| self.pending & event.bit() != 0 && self.unread & 1 << event.page() == 0;
        Event::ALL.into_iter().find(may)
    }

    /// Whether an event and a request for it are there.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.pending != 0 && !self.waiting.is_empty() && self.next().is_some()
    }

    /// A log page was read: its events are told again.
    pub(super) fn was_read(&mut self, page: u8) {
        if page < 8 {
            self.unread &= !(1 << page);
        }
    }

    /// Takes back a request that waits; whether there was one of that identifier.
    pub(super) fn withdraw(&mut self, cid: u16) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|other| *other != cid);
        self.waiting.len() < before
    }
}

impl Controller {
    /// Asynchronous Event Request.
    pub(super) fn async_event(&mut self, cid: u16) -> Outcome {
        if self.events.waiting.contains(&cid) {
            return Outcome::Done(Err(Status::ID_CONFLICT.final_()));
        }
        if self.events.waiting.len() > usize::from(AERL) {
            return Outcome::Done(Err(Status::ASYNC_EVENT_LIMIT.final_()));
        }
        self.events.waiting.push(cid);
        Outcome::Outstanding
    }

    /// Completes requests with events, as far as there are both and room.
    pub(super) fn post_events(&mut self, guest: &impl Guest) -> Reach {
        while let Some(event) = self.events.next() {
            if self.events.waiting.is_empty() || !self.has_room(0, guest)? {
                break;
            }
            let cid = self.events.waiting.remove(0);
            self.events.pending &= !event.bit();
            self.events.unread |= 1 << event.page();
            self.complete(0, cid, Ok(event.word()), guest)?;
        }
        Ok(())
    }
}
