//! Features (Base 1.4, 5.13 and 5.21). Nothing is kept over a reset, so nothing is
//! saveable.

use super::super::guest::Guest;
use super::super::options::Traits;
use super::Controller;
use crate::nvme::spec::command::Command;
use crate::nvme::spec::feature::{Queues, Vector, id};
use crate::nvme::spec::identify::{ONCS_SAVE_SELECT, ONCS_TIMESTAMP, VWC_PRESENT};
use crate::nvme::spec::log::WARNING_RELIABILITY;
use crate::nvme::spec::status::Status;
use std::time::Instant;

/// SV of Set Features: save it.
const SAVE: u32 = 1 << 31;
/// Bytes of the data of Timestamp.
const TIMESTAMP_BYTES: usize = 8;
/// The default of the temperature thresholds: WCTEMP above, nothing below.
const WARM: u32 = 343;

/// The features that have a value.
#[derive(Debug, Clone)]
pub(super) struct Features {
    arbitration: u32,
    power: u32,
    over: u32,
    under: u32,
    error_recovery: u32,
    write_cache: u32,
    queues: u32,
    coalescing: u32,
    /// By vector: coalescing is off for it. Nothing is coalesced anyway.
    uncoalesced: Vec<bool>,
    atomicity: u32,
    async_events: u32,
    /// Milliseconds that were set, and when.
    timestamp: Option<(u64, Instant)>,
}

impl Features {
    /// The defaults.
    pub(super) fn new(traits: &Traits) -> Self {
        let most = u32::from(traits.queues) - 1;
        Self {
            arbitration: 6,
            power: 0,
            over: WARM,
            under: 0,
            error_recovery: 0,
            write_cache: 1,
            queues: Queues(0).with_submission(most).with_completion(most).0,
            coalescing: 0,
            uncoalesced: vec![false; usize::from(traits.vectors())],
            atomicity: 0,
            async_events: 0,
            timestamp: None,
        }
    }

    /// Whether writes may wait for a flush.
    #[inline]
    pub(super) fn caches_writes(&self) -> bool {
        self.write_cache & 1 == 1
    }

    /// Whether a SMART warning of that kind is an event (5.21.1.11).
    pub(super) fn tells_of_reliability(&self) -> bool {
        self.async_events & u32::from(WARNING_RELIABILITY) != 0
    }

    /// The value of a feature, where it has one in dword 0.
    fn value(&self, feature: u8, selector: u32) -> Result<u32, Status> {
        Ok(match feature {
            id::ARBITRATION => self.arbitration,
            id::POWER => self.power,
            id::TEMPERATURE => match selector >> 20 & 3 {
                0 => self.over,
                1 => self.under,
                _ => return Err(Status::INVALID_FIELD.final_()),
            },
            id::ERROR_RECOVERY => self.error_recovery,
            id::WRITE_CACHE => self.write_cache,
            id::QUEUES => self.queues,
            id::COALESCING => self.coalescing,
            id::VECTOR => {
                let vector = Vector(selector).vector();
                let off = self.uncoalesced.get(vector as usize);
                let off = off.ok_or(Status::INVALID_FIELD.final_())?;
                Vector(0).with_vector(vector).with_uncoalesced(u32::from(*off)).0
            }
            id::WRITE_ATOMICITY => self.atomicity,
            id::ASYNC_EVENTS => self.async_events,
            id::TIMESTAMP => 0,
            _ => return Err(Status::INVALID_FIELD.final_()),
        })
    }

    /// Milliseconds in 47:0, in 50:49 whether they were set (5.21.1.14).
    fn timestamp_bytes(&self, since: Instant) -> [u8; TIMESTAMP_BYTES] {
        const SET: u64 = 1 << 49;
        let (milliseconds, origin) = match self.timestamp {
            Some((set, when)) => (set.wrapping_add(when.elapsed().as_millis() as u64), SET),
            None => (since.elapsed().as_millis() as u64, 0),
        };
        (milliseconds & ((1 << 48) - 1) | origin).to_le_bytes()
    }
}

impl Controller {
    /// Whether this controller has the feature at all.
    fn has_feature(&self, feature: u8) -> bool {
        match feature {
            id::WRITE_CACHE => self.traits.vwc & VWC_PRESENT != 0,
            id::TIMESTAMP => self.traits.oncs & ONCS_TIMESTAMP != 0,
            _ => true,
        }
    }

    pub(super) fn get_features(
        &mut self,
        command: &Command,
        guest: &impl Guest,
    ) -> Result<u32, Status> {
        const CAPABILITIES: u32 = 3;
        const CHANGEABLE: u32 = 1 << 2;
        let (feature, select) = (command.cdw(10) as u8, command.cdw(10) >> 8 & 7);
        let selectable = self.traits.oncs & ONCS_SAVE_SELECT != 0;
        if !self.has_feature(feature) || select > CAPABILITIES || select != 0 && !selectable {
            return Err(Status::INVALID_FIELD.final_());
        }
        let selector = command.cdw(11);
        // Default and saved values are the same: nothing is saved.
        let defaults = Features::new(&self.traits);
        let from = if select == 0 { &self.features } else { &defaults };
        let value = from.value(feature, selector)?;
        if select == CAPABILITIES {
            return Ok(CHANGEABLE);
        }
        if feature == id::TIMESTAMP {
            let bytes = from.timestamp_bytes(self.started);
            self.send(command, &bytes, guest)?;
        }
        Ok(value)
    }

    pub(super) fn set_features(
        &mut self,
        command: &Command,
        guest: &impl Guest,
    ) -> Result<u32, Status> {
        let (feature, value) = (command.cdw(10) as u8, command.cdw(11));
        let invalid = Err(Status::INVALID_FIELD.final_());
        if !self.has_feature(feature) {
            return invalid;
        }
        self.features.value(feature, value)?;
        if command.cdw(10) & SAVE != 0 {
            return match self.traits.oncs & ONCS_SAVE_SELECT {
                0 => invalid,
                _ => Err(Status::NOT_SAVEABLE.final_()),
            };
        }
        match feature {
            id::ARBITRATION => self.features.arbitration = value & 0xffff_ff07,
            // One power state, number 0.
            id::POWER if value & 0x1f != 0 => return invalid,
            id::POWER => self.features.power = value & 0xe0,
            id::TEMPERATURE if value >> 20 & 3 == 0 => self.features.over = value & 0xffff,
            id::TEMPERATURE => self.features.under = value & 0xffff,
            // DULBE is not offered (NSFEAT).
            id::ERROR_RECOVERY if value & 1 << 16 != 0 => return invalid,
            id::ERROR_RECOVERY => self.features.error_recovery = value & 0xffff,
            id::WRITE_CACHE => {
                if value & 1 == 0 {
                    self.flush_all()?;
                }
                self.features.write_cache = value & 1;
            }
            id::QUEUES => return self.set_queues(Queues(value)),
            id::COALESCING => self.features.coalescing = value & 0xffff,
            id::VECTOR => {
                let vector = Vector(value);
                let off = self.features.uncoalesced.get_mut(vector.vector() as usize);
                *off.ok_or(Status::INVALID_FIELD.final_())? = vector.uncoalesced() == 1;
            }
            id::WRITE_ATOMICITY => self.features.atomicity = value & 1,
            id::ASYNC_EVENTS => self.features.async_events = value & 0xff,
            id::TIMESTAMP => {
                let (rules, len) = (self.admin_rules(), TIMESTAMP_BYTES);
                self.transfer.plan(command, len as u64, rules, false, guest)?;
                let mut bytes = [0; TIMESTAMP_BYTES];
                self.transfer.gather(guest, &mut bytes)?;
                let milliseconds = u64::from_le_bytes(bytes) & ((1 << 48) - 1);
                self.features.timestamp = Some((milliseconds, Instant::now()));
            }
            _ => return invalid,
        }
        Ok(0)
    }

    /// Number of Queues (5.21.1.7): as many as there are, whatever is asked for, and
    /// before the first queue is made.
    fn set_queues(&mut self, asked: Queues) -> Result<u32, Status> {
        if asked.submission() == 0xffff || asked.completion() == 0xffff {
            return Err(Status::INVALID_FIELD.final_());
        }
        let io = self.sqs.iter().skip(1).any(Option::is_some)
            || self.cqs.iter().skip(1).any(Option::is_some);
        if io {
            return Err(Status::SEQUENCE_ERROR.final_());
        }
        Ok(self.features.queues)
    }
}
