//! The Controller Memory Buffer (Base 1.4, 3.1.11, 3.1.12, 3.1.16, 4.7): registers, and
//! memory at an address that the client chooses.
//!
//! Its registers are shown when CMBMSC.CRE is set. The base address is in force when CMBMSC
//! was written as one access of 64 bits: written by halves it reads back, and nothing is
//! there (as with QEMU).

use super::aperture::Aperture;
use crate::medium::{BLOCK, Error, ErrorKind, Result};
use crate::nvme::spec::registers::{CmbLoc, CmbMsc, CmbSts, CmbSz};
use std::sync::Arc;

/// The BAR that the buffer is, as with QEMU.
pub(super) const BAR: u32 = 2;
/// Bytes of the largest buffer: what CMBSZ says in units of 4 KiB.
const LARGEST: u64 = 1 << 31;

/// A Controller Memory Buffer to be emulated, and what may lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CmbOptions {
    /// Bytes: a power of two, from 4096 on.
    pub size: u64,
    /// Submission queues.
    pub sqs: bool,
    /// Completion queues.
    pub cqs: bool,
    /// PRP lists and SGL segments.
    pub lists: bool,
    /// Data that the controller writes there: of reads.
    pub rds: bool,
    /// Data that the controller reads there: of writes.
    pub wds: bool,
}

impl CmbOptions {
    /// With the attributes that QEMU's has: all but completion queues.
    pub fn new(size: u64) -> Self {
        Self { size, sqs: true, cqs: false, lists: true, rds: true, wds: true }
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// `Invalid`, saying what to give instead.
    pub(super) fn check(&self) -> Result<()> {
        if self.size.is_power_of_two() && (BLOCK as u64..=LARGEST).contains(&self.size) {
            return Ok(());
        }
        let size = self.size;
        let text = format!("a buffer of {size} bytes: give a power of two from 4096 to {LARGEST}");
        Err(Error::new(ErrorKind::Invalid, text))
    }
}

/// What may lie in it, for whoever looks a command's addresses up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allows {
    pub(super) lists: bool,
    pub(super) rds: bool,
    pub(super) wds: bool,
}

/// The buffer.
#[derive(Debug)]
pub(super) struct Cmb {
    options: CmbOptions,
    aperture: Arc<Aperture>,
    /// As it reads.
    control: CmbMsc,
    /// Where the controller finds it.
    base: Option<u64>,
    refused: bool,
}

impl Cmb {
    /// A buffer of zeroes.
    ///
    /// # Errors
    /// `Limit` with what to raise.
    pub(super) fn new(options: CmbOptions) -> Result<Self> {
        let aperture = Arc::new(Aperture::new(options.size)?);
        Ok(Self { options, aperture, control: CmbMsc(0), base: None, refused: false })
    }

    /// Its bytes.
    pub(super) fn aperture(&self) -> &Arc<Aperture> {
        &self.aperture
    }

    /// What may lie in it.
    pub(super) fn options(&self) -> &CmbOptions {
        &self.options
    }

    /// What commands may name in it.
    pub(super) fn allows(&self) -> Allows {
        let CmbOptions { lists, rds, wds, .. } = self.options;
        Allows { lists, rds, wds }
    }

    fn shown(&self, value: u32) -> u32 {
        if self.control.cre() == 1 { value } else { 0 }
    }

    /// CMBLOC (3.1.11): lists may lie apart from their commands, and from each other.
    pub(super) fn location(&self) -> u32 {
        self.shown(CmbLoc(0).with_bir(BAR).with_cdpcils(1).with_cdpmls(1).0)
    }

    /// CMBSZ (3.1.12), in units of 4 KiB.
    pub(super) fn size(&self) -> u32 {
        let CmbOptions { size, sqs, cqs, lists, rds, wds } = self.options;
        let size = CmbSz(0).with_sz((size / BLOCK as u64) as u32).with_sqs(sqs.into());
        let size = size.with_cqs(cqs.into()).with_lists(lists.into());
        self.shown(size.with_rds(rds.into()).with_wds(wds.into()).0)
    }

    /// CMBMSC (3.1.16).
    pub(super) fn control(&self) -> u64 {
        self.control.0
    }

    /// CMBSTS (3.1.17).
    pub(super) fn status(&self) -> u32 {
        CmbSts(0).with_cbai(self.refused.into()).0
    }

    /// A write of CMBMSC as one.
    pub(super) fn set_control(&mut self, value: u64) {
        let value = CmbMsc(value);
        self.control =
            CmbMsc(0).with_cre(value.cre()).with_cmse(value.cmse()).with_cba(value.cba());
        self.refused = false;
        let base = value.cba() << 12;
        self.base = (value.cmse() == 1).then_some(base);
        if value.cmse() == 1 && base.checked_add(self.options.size).is_none() {
            self.refuse();
        }
    }

    /// A write of a half of it.
    pub(super) fn set_half(&mut self, upper: bool, value: u32) {
        const LOW: u64 = 0xffff_ffff;
        let old = self.control.0;
        self.control = CmbMsc(match upper {
            true => old & LOW | u64::from(value) << 32,
            false => old & !LOW | u64::from(value & 0xffff_f003),
        });
    }

    /// Where the controller finds it.
    pub(super) fn base(&self) -> Option<u64> {
        self.base
    }

    /// The address cannot be: the client's memory is there.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
        self.base = None;
    }

    /// A function reset. A controller reset leaves it as it is (3.1.16).
    pub(super) fn reset(&mut self) {
        (self.control, self.base, self.refused) = (CmbMsc(0), None, false);
    }

    /// What a client left there is not the next one's.
    pub(super) fn clear(&self) {
        const ZEROES: &[u8] = &[0; 64 << 10];
        let (mut at, len) = (0, self.aperture.len());
        while at < len {
            let count = (ZEROES.len() as u64).min(len - at);
            // The range is inside, and the memory is our own.
            let _ = self.aperture.memory().write(at, &ZEROES[..count as usize]);
            at += count;
        }
    }
}
