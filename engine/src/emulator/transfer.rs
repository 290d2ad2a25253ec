//! Where a command's data lie in the client's memory: PRP entries and lists (Base
//! 1.4, 4.3), SGLs (4.4).
//!
//! The lists are the client's, and hostile: each entry is loaded once and judged
//! then; a list is as long as the transfer needs and no longer, a chain of segments
//! ends after a fixed number, and every address is looked up before anything moves.

use super::cmb::Allows;
use super::guest::{Guest, Whose};
use crate::nvme::spec::command::{Command, PSDT_PRP, PSDT_SGL, PSDT_SGL_BOTH};
use crate::nvme::spec::pointer::SglDescriptor;
use crate::nvme::spec::status::Status;

/// SGL descriptors that one command may have, of all kinds together.
const MOST_DESCRIPTORS: usize = 4096;

/// A run of bytes at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) iova: u64,
    pub(super) len: u64,
}

/// What the controller runs with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Memory pages are `1 << page_shift` bytes (CC.MPS).
    pub(super) page_shift: u32,
    /// SGLS bits 1:0; zero where SGLs are refused, as for admin commands (Base 1.4,
    /// 4.4: over PCIe those have PRPs).
    pub(super) sgl: u32,
    /// What may lie in the controller's memory buffer, where there is one.
    pub(super) cmb: Option<Allows>,
}

/// The parts of one transfer. Kept and used again, so that it allocates while it
/// grows to its largest alone.
#[derive(Debug, Default)]
pub(super) struct Transfer {
    parts: Vec<Part>,
}

type Plan<T = ()> = Result<T, Status>;

impl Transfer {
    /// Finds the parts of `len` bytes, and that all of them can be reached: by reads
    /// of the controller, or (`write`) by its writes.
    ///
    /// # Errors
    /// The status that the command fails with; nothing has moved.
    pub(super) fn plan(
        &mut self,
        command: &Command,
        len: u64,
        rules: Rules,
        write: bool,
        guest: &impl Guest,
    ) -> Plan {
        self.parts.clear();
        match command.psdt() {
            PSDT_PRP => self.plan_prps(command, len, rules, guest)?,
            PSDT_SGL | PSDT_SGL_BOTH if rules.sgl != 0 => {
                self.plan_sgl(command.sgl(), len, rules, guest)?;
            }
            _ => return Err(Status::INVALID_FIELD.final_()),
        }
        if !self.parts.iter().all(|part| guest.has(part.iova, part.len, write)) {
            return Err(Status::DATA_TRANSFER_ERROR);
        }
        let Some(cmb) = rules.cmb else { return Ok(()) };
        // All data of a command are in the buffer, or none (3.1.11, CDMMMS).
        let whose = self.parts.iter().map(|part| guest.whose(part.iova, part.len));
        match whose.reduce(Whose::and) {
            None | Some(Whose::Clients) => Ok(()),
            Some(Whose::Controllers) if write && cmb.rds || !write && cmb.wds => Ok(()),
            Some(_) => Err(Status::INVALID_CMB_USE.final_()),
        }
    }

    /// The parts, in order.
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Copies the client's bytes out, from all parts, one after another.
    pub(super) fn gather(&self, guest: &impl Guest, to: &mut [u8]) -> Plan {
        let mut rest = to;
        for part in &self.parts {
            let (now, later) = rest.split_at_mut(part.len as usize);
            guest.load(part.iova, now).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            rest = later;
        }
        Ok(())
    }

    /// Copies bytes to the client, over all parts; no more than there are.
    pub(super) fn scatter(&self, guest: &impl Guest, from: &[u8]) -> Plan {
        let mut rest = from;
        for part in &self.parts {
            let (now, later) = rest.split_at((part.len as usize).min(rest.len()));
            guest.store(part.iova, now).map_err(|_| Status::DATA_TRANSFER_ERROR)?;
            rest = later;
        }
        Ok(())
    }

    fn push(&mut self, iova: u64, len: u64) {
        match self.parts.last_mut() {
            Some(last) if last.iova.checked_add(last.len) == Some(iova) => last.len += len,
            _ => self.parts.push(Part { iova, len }),
        }
    }

    fn plan_prps(&mut self, command: &Command, len: u64, rules: Rules, guest: &impl Guest) -> Plan {
        let page = 1u64 << rules.page_shift;
        let (prp1, prp2) = (command.prp1(), command.prp2());
        if !prp1.is_multiple_of(4) {
            return Err(Status::PRP_OFFSET.final_());
        }
        let first = len.min(page - prp1 % page);
        if first > 0 {
            self.push(prp1, first);
        }
        let rest = len - first;
        if rest == 0 {
            return Ok(());
        }
        if rest <= page {
            if prp2 % page != 0 {
                return Err(Status::PRP_OFFSET.final_());
            }
            self.push(prp2, rest);
            return Ok(());
        }
        self.plan_list(prp2, rest, rules, guest)
    }

    /// Follows a PRP list. The first may begin inside a page, those that it chains to
    /// begin on one; so each has at least one entry of data, and the walk ends.
    fn plan_list(&mut self, list: u64, mut rest: u64, rules: Rules, guest: &impl Guest) -> Plan {
        let page = 1u64 << rules.page_shift;
        may_list(rules, list, guest)?;
        if !list.is_multiple_of(8) {
            return Err(Status::PRP_OFFSET.final_());
        }
        let mut at = list;
        while rest > 0 {
            let [mut entry] = load(guest, at)?;
            let is_last_of_page = at % page == page - 8;
            if is_last_of_page && rest > page {
                if entry % page != 0 {
                    return Err(Status::PRP_OFFSET.final_());
                }
                at = entry;
                may_list(rules, at, guest)?;
                [entry] = load(guest, at)?;
            }
            if entry % page != 0 {
                return Err(Status::PRP_OFFSET.final_());
            }
            let count = rest.min(page);
            self.push(entry, count);
            rest -= count;
            at = at.checked_add(8).ok_or(Status::DATA_TRANSFER_ERROR)?;
        }
        Ok(())
    }

    fn plan_sgl(
        &mut self,
        first: SglDescriptor,
        len: u64,
        rules: Rules,
        guest: &impl Guest,
    ) -> Plan {
        let mut rest = len;
        let mut segment = match first.kind {
            SglDescriptor::DATA_BLOCK => {
                self.push_block(first, &mut rest, rules)?;
                None
            }
            SglDescriptor::SEGMENT | SglDescriptor::LAST_SEGMENT => Some(first),
            _ => return Err(Status::SGL_TYPE.final_()),
        };
        let mut seen = 1;
        while let Some(current) = segment.take() {
            let count = current.length as usize / SglDescriptor::BYTES;
            if count == 0 || !(current.length as usize).is_multiple_of(SglDescriptor::BYTES) {
                return Err(Status::INVALID_SGL_SEGMENT.final_());
            }
            if !current.address.is_multiple_of(8) {
                return Err(Status::INVALID_SGL_SEGMENT.final_());
            }
            may_list(rules, current.address, guest)?;
            seen += count;
            if seen > MOST_DESCRIPTORS {
                return Err(Status::INVALID_SGL_COUNT.final_());
            }
            for i in 0..count {
                let at = current.address.checked_add((i * SglDescriptor::BYTES) as u64);
                let words = load::<2>(guest, at.ok_or(Status::DATA_TRANSFER_ERROR)?)?;
                let descriptor = SglDescriptor::from_words(words);
                match descriptor.kind {
                    SglDescriptor::DATA_BLOCK => self.push_block(descriptor, &mut rest, rules)?,
                    // Only the last descriptor of a segment that is not the last one.
                    SglDescriptor::SEGMENT | SglDescriptor::LAST_SEGMENT
                        if current.kind == SglDescriptor::SEGMENT && i + 1 == count =>
                    {
                        segment = Some(descriptor);
                    }
                    SglDescriptor::SEGMENT | SglDescriptor::LAST_SEGMENT => {
                        return Err(Status::INVALID_SGL_SEGMENT.final_());
                    }
                    _ => return Err(Status::SGL_TYPE.final_()),
                }
            }
            if current.kind == SglDescriptor::SEGMENT && segment.is_none() {
                return Err(Status::INVALID_SGL_SEGMENT.final_());
            }
        }
        if rest == 0 { Ok(()) } else { Err(Status::DATA_SGL_LENGTH.final_()) }
    }

    fn push_block(&mut self, block: SglDescriptor, rest: &mut u64, rules: Rules) -> Plan {
        let len = u64::from(block.length);
        // SGLS 10b: dword alignment and granularity (5.15.2.2).
        if rules.sgl == 2 && (!block.address.is_multiple_of(4) || !len.is_multiple_of(4)) {
            return Err(Status::SGL_OFFSET.final_());
        }
        if len > *rest {
            return Err(Status::DATA_SGL_LENGTH.final_());
        }
        if len > 0 {
            self.push(block.address, len);
        }
        *rest -= len;
        Ok(())
    }
}

/// Whether a list or segment may lie where it does.
fn may_list(rules: Rules, at: u64, guest: &impl Guest) -> Plan {
    match rules.cmb {
        Some(cmb) if !cmb.lists && guest.whose(at, 8) != Whose::Clients => {
            Err(Status::INVALID_CMB_USE.final_())
        }
        _ => Ok(()),
    }
}

fn load<const N: usize>(guest: &impl Guest, at: u64) -> Plan<[u64; N]> {
    guest.load_words(at).map_err(|_| Status::DATA_TRANSFER_ERROR)
}
