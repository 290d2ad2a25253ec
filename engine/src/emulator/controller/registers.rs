//! BAR0: the controller's registers, its doorbells, and the table of MSI-X
//! (Base 1.4, 3.1).
//!
//! Reads of any width and place give the bytes that stand there; reserved ones are
//! zero. Writes are taken in the widths that the specification allows: aligned 4
//! bytes, and 8 as two halves, the lower first. Others, and writes to what is
//! read-only or reserved, change nothing.

use super::super::cmb::Cmb;
use super::super::doorbell::{DOORBELLS, PAGE};
use super::super::queue::{Cq, Rung, Sq};
use super::Controller;
use super::events::Event;
use crate::nvme::spec::registers::{
    ACQ, AQA, ASQ, Aqa, CAP, CC, CMBLOC, CMBMSC, CMBSTS, CMBSZ, CRTO, CSTS, Cc, Csts, INTMC, INTMS,
    PMRCAP, PMRCTL, PMREBS, PMRSTS, VS,
};

/// Bytes of BAR0: registers, doorbells, MSI-X table, pending bits; a page each.
pub(in super::super) const BAR0_BYTES: u64 = 0x4000;
/// Where the doorbells begin.
pub(in super::super) const DOORBELL_PAGE: u64 = 0x1000;
/// Where the table of MSI-X begins.
pub(in super::super) const MSIX_TABLE: u64 = 0x2000;
/// Where its pending bits begin. None is ever set: an interrupt is signalled when it
/// arises, and a vector without an eventfd has none.
pub(in super::super) const MSIX_PENDING: u64 = 0x3000;

const CMBMSC_HIGH: u64 = CMBMSC + 4;

impl Controller {
    /// Reads bytes of BAR0; what lies outside reads as zeroes.
    ///
    /// A read of PMRSTS is a barrier of the region (3.1.18, PMRWBM).
    pub(in super::super) fn read_bar(&mut self, offset: u64, to: &mut [u8]) {
        let end = offset.saturating_add(to.len() as u64);
        if offset < PMRSTS + 4 && PMRSTS < end {
            self.barrier();
        }
        for (i, byte) in to.iter_mut().enumerate() {
            let at = offset.saturating_add(i as u64);
            *byte = (self.dword(at & !3) >> (at % 4 * 8)) as u8;
        }
    }

    /// Writes bytes of BAR0.
    ///
    /// CMBMSC alone is told apart by width: its base address is in force when all of it was
    /// written at once.
    pub(in super::super) fn write_bar(&mut self, offset: u64, from: &[u8]) {
        if let (CMBMSC, Ok(all), Some(cmb)) = (offset, from.try_into(), &mut self.cmb) {
            return cmb.set_control(u64::from_le_bytes(all));
        }
        let aligned = offset.is_multiple_of(from.len().max(1) as u64);
        if !matches!(from.len(), 4 | 8) || !aligned {
            return;
        }
        for (i, chunk) in from.chunks_exact(4).enumerate() {
            let value = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
            self.write_dword(offset + 4 * i as u64, value);
        }
    }

    fn dword(&self, at: u64) -> u32 {
        const CAP_HIGH: u64 = CAP + 4;
        const ASQ_HIGH: u64 = ASQ + 4;
        const ACQ_HIGH: u64 = ACQ + 4;
        let registers = &self.registers;
        match at {
            CAP => self.traits.cap.0 as u32,
            CAP_HIGH => (self.traits.cap.0 >> 32) as u32,
            VS => self.traits.version,
            INTMS | INTMC => registers.mask,
            CC => registers.cc.0,
            CSTS => registers.csts.0,
            AQA => registers.aqa.0,
            ASQ => registers.asq as u32,
            ASQ_HIGH => (registers.asq >> 32) as u32,
            ACQ => registers.acq as u32,
            ACQ_HIGH => (registers.acq >> 32) as u32,
            CRTO => self.traits.crto,
            CMBLOC => self.cmb().map_or(0, Cmb::location),
            CMBSZ => self.cmb().map_or(0, Cmb::size),
            CMBMSC => self.cmb().map_or(0, |cmb| cmb.control() as u32),
            CMBMSC_HIGH => self.cmb().map_or(0, |cmb| (cmb.control() >> 32) as u32),
            CMBSTS => self.cmb().map_or(0, Cmb::status),
            PMRCAP..PMREBS => self.region().map_or(0, |region| match at {
                PMRCAP => region.capabilities().0,
                PMRCTL => region.control().0,
                _ => region.status().0,
            }),
            DOORBELL_PAGE..MSIX_TABLE => self.doorbells.load(((at - DOORBELL_PAGE) / 4) as usize),
            MSIX_TABLE..MSIX_PENDING => {
                let at = (at - MSIX_TABLE) as usize;
                let bytes = self.msix_table[at..at + 4].first_chunk::<4>();
                bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
            }
            _ => 0,
        }
    }

    fn write_dword(&mut self, at: u64, value: u32) {
        const LOW: u64 = 0xffff_ffff;
        const ASQ_HIGH: u64 = ASQ + 4;
        const ACQ_HIGH: u64 = ACQ + 4;
        let registers = &mut self.registers;
        match at {
            INTMS => registers.mask |= value,
            INTMC => registers.mask &= !value,
            CC => self.configure(Cc(value)),
            CMBMSC | CMBMSC_HIGH => {
                if let Some(cmb) = &mut self.cmb {
                    cmb.set_half(at == CMBMSC_HIGH, value);
                }
            }
            PMRCTL => {
                if let Some(region) = &mut self.region {
                    region.set_control(value);
                }
            }
            AQA => registers.aqa = Aqa(value & 0x0fff_0fff),
            // The lower twelve bits are reserved.
            ASQ => registers.asq = registers.asq & !LOW | u64::from(value & !0xfff),
            ASQ_HIGH => registers.asq = registers.asq & LOW | u64::from(value) << 32,
            ACQ => registers.acq = registers.acq & !LOW | u64::from(value & !0xfff),
            ACQ_HIGH => registers.acq = registers.acq & LOW | u64::from(value) << 32,
            DOORBELL_PAGE..MSIX_TABLE => {
                self.ring_by_message(((at - DOORBELL_PAGE) / 4) as usize, value);
            }
            MSIX_TABLE..MSIX_PENDING => {
                let at = (at - MSIX_TABLE) as usize;
                if at < usize::from(self.traits.vectors()) * 16 {
                    self.msix_table[at..at + 4].copy_from_slice(&value.to_le_bytes());
                }
            }
            _ => {}
        }
    }

    /// A write of CC (3.1.5).
    fn configure(&mut self, new: Cc) {
        let old = self.registers.cc;
        match (old.en() == 1, new.en() == 1) {
            (false, true) => {
                self.registers.cc = new;
                self.enable();
            }
            (true, false) => {
                self.reset();
                self.registers.cc = new;
            }
            // While it is enabled only the entry sizes, which are for queues to come,
            // and the shutdown notification may change.
            (true, true) => {
                let sizes = old.with_iosqes(new.iosqes()).with_iocqes(new.iocqes());
                self.registers.cc = sizes.with_shn(new.shn());
            }
            (false, false) => self.registers.cc = new,
        }
        if new.shn() != 0 && old.shn() != new.shn() {
            self.shut_down();
        }
    }

    /// A shutdown (7.6.2): nothing is fetched any more, and the cache is written. If
    /// that fails the shutdown does not complete, which is all that can be said.
    fn shut_down(&mut self) {
        const OCCURRING: u32 = 1;
        const COMPLETE: u32 = 2;
        self.late.clear();
        let status = if self.flush().is_ok() { COMPLETE } else { OCCURRING };
        self.registers.csts = self.registers.csts.with_shst(status);
    }

    /// CC.EN was set: ready at once, or failed for what cannot be done (3.1.5, 7.6.1).
    fn enable(&mut self) {
        let (cc, cap, aqa) = (self.registers.cc, self.traits.cap, self.registers.aqa);
        let css = match cc.css() {
            0 => cap.css() & 1 != 0,
            6 => cap.css() & 1 << 6 != 0,
            7 => cap.css() & 1 << 7 != 0,
            _ => false,
        };
        let page = 1u64 << (12 + cc.mps());
        let page_fits = (cap.mpsmin()..=cap.mpsmax()).contains(&u64::from(cc.mps()));
        let (asq, acq) = (self.registers.asq, self.registers.acq);
        let aligned = asq.is_multiple_of(page) && acq.is_multiple_of(page);
        // A queue has two entries at least (4.1.3).
        let sized = aqa.asqs() >= 1 && aqa.acqs() >= 1;
        self.registers.csts = Csts(0);
        if !css || !page_fits || !aligned || !sized || cc.ams() != 0 {
            self.fail();
            return;
        }
        self.doorbells.clear();
        self.sqs[0] = Some(Sq::new(0, asq, aqa.asqs() + 1, 0, None));
        let mut cq = Cq::new(0, acq, aqa.acqs() + 1, Some(0), None);
        cq.users = 1;
        self.cqs[0] = Some(cq);
        self.active = vec![0];
        self.registers.csts = Csts(0).with_rdy(1);
    }

    /// Bytes of a memory page (CC.MPS).
    pub(super) fn page_shift(&self) -> u32 {
        12 + self.registers.cc.mps()
    }

    /// A doorbell that came as a message. For a queue with a shadow it only says that
    /// there is something to look at.
    fn ring_by_message(&mut self, index: usize, value: u32) {
        const { assert!(DOORBELLS * 4 == PAGE) };
        if self.registers.csts.rdy() == 0 {
            return;
        }
        let qid = index / 2;
        if qid == 0 {
            self.rings_by_message = true;
        }
        let rung = if index.is_multiple_of(2) {
            match self.sqs.get_mut(qid).and_then(Option::as_mut) {
                Some(sq) if sq.shadow.is_some() => return,
                Some(sq) => Some(sq.ring(value)),
                None => None,
            }
        } else {
            match self.cqs.get_mut(qid).and_then(Option::as_mut) {
                Some(cq) if cq.shadow.is_some() => return,
                Some(cq) => Some(cq.ring(value)),
                None => None,
            }
        };
        match rung {
            None => self.events.raise(Event::InvalidDoorbell),
            Some(rung) => {
                // Clients that map the page and read it see one value.
                self.doorbells.store(index, value);
                if rung == Rung::Bad {
                    self.events.raise(Event::InvalidDoorbellValue);
                }
            }
        }
    }
}
