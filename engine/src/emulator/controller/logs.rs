//! Log pages (Base 1.4, 5.14), and what is counted for them.

use super::super::guest::Guest;
use super::Controller;
use crate::nvme::spec::ALL_NAMESPACES;
use crate::nvme::spec::command::{Command, admin, nvm};
use crate::nvme::spec::identify::{
    ONCS_COMPARE, ONCS_COPY, ONCS_DATASET_MANAGEMENT, ONCS_WRITE_ZEROES,
};
use crate::nvme::spec::log::{ErrorEntry, FirmwareSlots, Smart, WARNING_RELIABILITY, id};
use crate::nvme::spec::status::{MEDIA, Status};
use std::collections::VecDeque;

/// Entries of the error log.
pub(super) const ERROR_ENTRIES: usize = 64;
/// RAE: the events of the page stay as they are.
const RETAIN: u32 = 1 << 15;
/// Bytes of the list of changed namespaces, and of the effects.
const LIST_BYTES: usize = 4096;
/// Room temperature in kelvins: there is no sensor.
const ROOM: u16 = 296;

/// A command that failed.
#[derive(Debug, Clone, Copy)]
struct Failed {
    count: u64,
    qid: u16,
    cid: u16,
    status: Status,
}

/// Counters since the emulator was started.
#[derive(Debug, Default)]
pub(super) struct Logs {
    blocks_read: u64,
    blocks_written: u64,
    reads: u64,
    writes: u64,
    media_errors: u64,
    failures: u64,
    errors: VecDeque<Failed>,
}

impl Logs {
    #[inline]
    pub(super) fn read(&mut self, blocks: u64) {
        self.reads += 1;
        self.blocks_read += blocks;
    }

    #[inline]
    pub(super) fn written(&mut self, blocks: u64) {
        self.writes += 1;
        self.blocks_written += blocks;
    }

    /// Notes a command that failed; the oldest goes when there are too many.
    #[cold]
    pub(super) fn failed(&mut self, qid: u16, cid: u16, status: Status) {
        self.failures += 1;
        if status.sct() == MEDIA {
            self.media_errors += 1;
        }
        self.errors.truncate(ERROR_ENTRIES - 1);
        self.errors.push_front(Failed { count: self.failures, qid, cid, status });
    }

    /// The newest first.
    fn error_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ERROR_ENTRIES * ErrorEntry::BYTES);
        for failed in &self.errors {
            let mut entry = ErrorEntry::new();
            entry.set_count(failed.count);
            entry.set_sqid(failed.qid);
            entry.set_cid(failed.cid);
            entry.set_status(failed.status.0 << 1);
            // No parameter is pointed at.
            entry.set_location(0xffff);
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes.resize(ERROR_ENTRIES * ErrorEntry::BYTES, 0);
        bytes
    }
}

impl Controller {
    pub(super) fn get_log_page(
        &mut self,
        command: &Command,
        guest: &impl Guest,
    ) -> Result<u32, Status> {
        let invalid = Err(Status::INVALID_FIELD.final_());
        let page = command.cdw(10) as u8;
        let dwords = u64::from(command.cdw(10) >> 16) | u64::from(command.cdw(11) & 0xffff) << 16;
        let (len, offset) = ((dwords + 1) * 4, command.cdw_pair(12));
        let bytes = self.log_bytes(page, command.nsid())?;
        if len > self.traits.max_transfer() || offset % 4 != 0 || offset > bytes.len() as u64 {
            return invalid;
        }
        // What is asked for beyond the page reads as zeroes.
        let mut part = bytes[offset as usize..].to_vec();
        part.resize(len as usize, 0);
        self.send(command, &part, guest)?;
        if command.cdw(10) & RETAIN == 0 {
            self.events.was_read(page);
        }
        Ok(0)
    }

    fn log_bytes(&self, page: u8, nsid: u32) -> Result<Vec<u8>, Status> {
        let of_controller = nsid == 0 || nsid == ALL_NAMESPACES;
        match page {
            id::ERRORS => Ok(self.logs.error_bytes()),
            // LPA: there is no page for each namespace.
            id::SMART if !of_controller => Err(Status::INVALID_FIELD.final_()),
            id::SMART => Ok(self.smart().as_bytes().to_vec()),
            id::FIRMWARE => {
                let mut slots = FirmwareSlots::new();
                slots.set_afi(1);
                let mut revision = [b' '; 8];
                let version = env!("CARGO_PKG_VERSION").as_bytes();
                let len = version.len().min(8);
                revision[..len].copy_from_slice(&version[..len]);
                slots.set_frs1(u64::from_le_bytes(revision));
                Ok(slots.as_bytes().to_vec())
            }
            // No namespace ever changes.
            id::CHANGED_NAMESPACES => Ok(vec![0; LIST_BYTES]),
            id::EFFECTS => Ok(self.effects()),
            _ => Err(Status::LOG_PAGE.final_()),
        }
    }

    fn smart(&self) -> Smart {
        // Units of 1,000 times 512 bytes, rounded up (5.14.1.2).
        let units = |blocks: u64| (u128::from(blocks) << self.lba_shift).div_ceil(512_000);
        let hours = self.started.elapsed().as_secs() / 3600;
        let mut smart = Smart::new();
        if self.disk.is_broken() {
            smart.set_critical_warning(WARNING_RELIABILITY);
        }
        smart.set_temperature(ROOM);
        smart.set_spare(100);
        smart.set_spare_threshold(10);
        smart.set_data_units_read(units(self.logs.blocks_read));
        smart.set_data_units_written(units(self.logs.blocks_written));
        smart.set_host_reads(u128::from(self.logs.reads));
        smart.set_host_writes(u128::from(self.logs.writes));
        smart.set_power_cycles(1);
        smart.set_power_on_hours(u128::from(hours));
        smart.set_media_errors(u128::from(self.logs.media_errors));
        smart.set_error_entries(u128::from(self.logs.failures));
        smart
    }

    /// Commands Supported and Effects (5.14.1.5): admin commands, then I/O commands,
    /// a dword each; bit 0 supported, bit 1 changes logical blocks.
    fn effects(&self) -> Vec<u8> {
        const SUPPORTED: u32 = 1;
        const CHANGES: u32 = 3;
        const IO: usize = 256;
        let oncs = self.traits.oncs;
        let mut list: Vec<(usize, u32)> = [
            admin::DELETE_SQ,
            admin::CREATE_SQ,
            admin::GET_LOG_PAGE,
            admin::DELETE_CQ,
            admin::CREATE_CQ,
            admin::IDENTIFY,
            admin::ABORT,
            admin::SET_FEATURES,
            admin::GET_FEATURES,
            admin::ASYNC_EVENT,
        ]
        .map(|opcode| (usize::from(opcode), SUPPORTED))
        .to_vec();
        if self.traits.shadow_doorbells {
            list.push((usize::from(admin::DOORBELL_BUFFER), SUPPORTED));
        }
        let io = [
            (nvm::FLUSH, u16::MAX, SUPPORTED),
            (nvm::WRITE, u16::MAX, CHANGES),
            (nvm::READ, u16::MAX, SUPPORTED),
            (nvm::COMPARE, ONCS_COMPARE, SUPPORTED),
            (nvm::WRITE_ZEROES, ONCS_WRITE_ZEROES, CHANGES),
            (nvm::DATASET_MANAGEMENT, ONCS_DATASET_MANAGEMENT, CHANGES),
            (nvm::COPY, ONCS_COPY, CHANGES),
        ];
        let io = io.into_iter().filter(|(_, needs, _)| oncs & needs != 0);
        list.extend(io.map(|(opcode, _, effect)| (IO + usize::from(opcode), effect)));
        let mut bytes = vec![0; LIST_BYTES];
        for (slot, effect) in list {
            bytes[slot * 4..slot * 4 + 4].copy_from_slice(&effect.to_le_bytes());
        }
        bytes
    }
}
