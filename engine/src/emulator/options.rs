//! How an emulator is made: its options, and the profiles of other devices.

use super::cmb::CmbOptions;
use super::disk::{Backing, SECTOR};
use super::fault::Fault;
use super::region::RegionOptions;
use crate::medium::{Error, ErrorKind, Result};
use crate::nvme::spec::identify::{
    ONCS_COMPARE, ONCS_COPY, ONCS_DATASET_MANAGEMENT, ONCS_SAVE_SELECT, ONCS_TIMESTAMP,
    ONCS_WRITE_ZEROES, VWC_FLUSH_ALL, VWC_PRESENT,
};
use crate::nvme::spec::registers::{Cap, Version};
use std::path::PathBuf;

/// I/O queue pairs at most: their doorbells fill one page, beside the admin queue's.
pub const MAX_QUEUES: u16 = 511;
/// Namespaces at most.
pub const MAX_NAMESPACES: usize = 128;

/// Which device's answers are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Our own: everything that is built, honestly identified.
    #[default]
    Freehold,
    /// The limits of QEMU 7.2's controller, without CMB and PMR.
    Qemu,
    /// The limits of SPDK's vfio-user target.
    Spdk,
}

/// What to emulate. Begin with [`Options::new`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Where clients connect: a Unix socket.
    pub socket: PathBuf,
    /// Bytes of each namespace, from number 1: multiples of 4096.
    pub namespaces: Vec<u64>,
    /// Bytes of a logical block: 512 or 4096.
    pub lba: u32,
    /// I/O queue pairs; `None` is as many as the profile has.
    pub queues: Option<u16>,
    /// Where the bytes are kept.
    pub backing: Backing,
    /// Unflushed writes live in the emulator's memory alone: killing it loses, tears
    /// and reorders them.
    pub volatile_cache: bool,
    /// Bytes that are written all or nothing, also by a kill: a power of two from a
    /// logical block to 4096. `None` is one logical block, the least that there is.
    pub atomic: Option<u32>,
    /// Which device's answers are given.
    pub profile: Profile,
    /// Shadow doorbells are offered, where the profile has them.
    pub shadow_doorbells: bool,
    /// SGLs are offered, where the profile has them.
    pub sgl: bool,
    /// The Copy command is offered, where the profile has it.
    pub copy: bool,
    /// A Persistent Memory Region beside the namespaces. With the volatile cache it loses
    /// what no barrier covered.
    pub region: Option<RegionOptions>,
    /// A Controller Memory Buffer.
    pub cmb: Option<CmbOptions>,
    /// What shall go wrong.
    pub faults: Vec<Fault>,
    /// Seed of everything that is left to chance.
    pub seed: u64,
}

impl Options {
    /// One namespace in memory, with logical blocks of 512 bytes.
    pub fn new(socket: impl Into<PathBuf>, size: u64) -> Self {
        Self {
            socket: socket.into(),
            namespaces: vec![size],
            lba: 512,
            queues: None,
            backing: Backing::Memory,
            volatile_cache: false,
            atomic: None,
            profile: Profile::Freehold,
            shadow_doorbells: true,
            sgl: true,
            copy: true,
            region: None,
            cmb: None,
            faults: Vec::new(),
            seed: 0,
        }
    }

    /// Bytes of all namespaces.
    pub(super) fn total(&self) -> Option<u64> {
        self.namespaces.iter().try_fold(0u64, |sum, size| sum.checked_add(*size))
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// `Invalid`, saying what to give instead.
    pub(super) fn check(&self) -> Result<()> {
        let bad = |what: String| Err(Error::new(ErrorKind::Invalid, what));
        if self.lba != 512 && self.lba != 4096 {
            return bad(format!("logical blocks of {} bytes: give 512 or 4096", self.lba));
        }
        if self.namespaces.is_empty() || self.namespaces.len() > MAX_NAMESPACES {
            return bad(format!("give from 1 to {MAX_NAMESPACES} namespaces"));
        }
        for size in &self.namespaces {
            if *size == 0 || !size.is_multiple_of(4096) {
                return bad(format!("a namespace of {size} bytes: give a multiple of 4096"));
            }
        }
        if self.total().is_none_or(|total| total > 1 << 50) {
            return bad("the namespaces are larger than 1024 TiB together".to_owned());
        }
        if self.queues.is_some_and(|n| n == 0 || n > MAX_QUEUES) {
            return bad(format!("give from 1 to {MAX_QUEUES} queue pairs"));
        }
        if self.volatile_cache && self.backing == Backing::Null {
            return bad("a null namespace keeps nothing that a cache could lose".to_owned());
        }
        if self.atomic.is_some_and(|a| !a.is_power_of_two() || a < self.lba || a > 4096) {
            return bad(format!("an atomic unit is a power of two from {} to 4096", self.lba));
        }
        if self.atomic.is_some_and(|a| a > self.lba) && !self.volatile_cache {
            return bad("an atomic unit of several blocks needs the volatile cache".to_owned());
        }
        self.cmb.as_ref().map_or(Ok(()), CmbOptions::check)?;
        self.region.as_ref().map_or(Ok(()), RegionOptions::check)
    }

    /// Bytes that the volatile cache puts down as one.
    pub(super) fn cache_unit(&self) -> Option<usize> {
        let unit = self.atomic.unwrap_or(self.lba) as usize;
        self.volatile_cache.then_some(unit.max(SECTOR))
    }
}

/// What the controller answers to be.
#[derive(Debug, Clone)]
pub(super) struct Traits {
    pub(super) cap: Cap,
    pub(super) version: u32,
    /// CRTO, where CAP.CRMS says that it is there.
    pub(super) crto: u32,
    pub(super) model: &'static str,
    pub(super) vendor: u16,
    /// Largest transfer: 4096 << MDTS bytes.
    pub(super) mdts: u8,
    pub(super) sgls: u32,
    pub(super) oncs: u16,
    pub(super) vwc: u8,
    pub(super) shadow_doorbells: bool,
    /// I/O queue pairs.
    pub(super) queues: u16,
    /// Source ranges of a Copy, zero-based.
    pub(super) msrc: u8,
}

/// Blocks of one source range of a Copy, and of all together.
pub(super) const COPY_BLOCKS: u16 = 128;

impl Traits {
    /// What a profile answers, within the options. `volatile`: the disk loses what is
    /// not flushed.
    pub(super) fn of(options: &Options, volatile: bool) -> Self {
        let base = ONCS_COMPARE | ONCS_DATASET_MANAGEMENT | ONCS_WRITE_ZEROES | ONCS_COPY;
        let full = base | ONCS_SAVE_SELECT | ONCS_TIMESTAMP;
        let mut traits = match options.profile {
            Profile::Freehold => Self {
                cap: Cap(0).with_mqes(4095).with_cqr(1).with_to(20).with_css(1).with_mpsmax(4),
                version: Version::V1_4.0,
                crto: 0,
                model: "Freehold emulated controller",
                vendor: VENDOR_NONE,
                mdts: 7,
                sgls: 1,
                oncs: full,
                vwc: VWC_FLUSH_ALL | if volatile { VWC_PRESENT } else { 0 },
                shadow_doorbells: true,
                queues: 64,
                msrc: 127,
            },
            // CAP as QEMU 7.2 has it, without CMBS and PMRS.
            Profile::Qemu => Self {
                cap: Cap(0x0040_1820_0f01_07ff),
                version: Version::V1_4.0,
                crto: 0,
                model: "QEMU NVMe Ctrl",
                vendor: 0x1b36,
                mdts: 7,
                sgls: 1,
                oncs: full,
                vwc: VWC_FLUSH_ALL | VWC_PRESENT,
                shadow_doorbells: true,
                queues: 64,
                msrc: 127,
            },
            Profile::Spdk => Self {
                cap: Cap(0x0800_0020_1e01_00ff),
                version: 0x0001_0300,
                crto: 0x001e,
                model: "SPDK bdev Controller",
                vendor: 0x4e58,
                mdts: 5,
                sgls: 2,
                oncs: base,
                // The cache is there; a flush of all namespaces at once is not.
                vwc: VWC_PRESENT | 2 << 1,
                shadow_doorbells: false,
                queues: 127,
                msrc: 0,
            },
        };
        traits.shadow_doorbells &= options.shadow_doorbells;
        if !options.sgl {
            traits.sgls = 0;
        }
        if !options.copy {
            traits.oncs &= !ONCS_COPY;
        }
        if options.region.is_some() {
            traits.cap = traits.cap.with_pmrs(1);
        }
        if options.cmb.is_some() {
            traits.cap = traits.cap.with_cmbs(1);
        }
        traits.queues = options.queues.unwrap_or(traits.queues);
        traits
    }

    /// Bytes of the largest transfer.
    pub(super) fn max_transfer(&self) -> u64 {
        4096 << self.mdts
    }

    /// Interrupt vectors: one for each queue pair, as far as the table has room.
    pub(super) fn vectors(&self) -> u16 {
        (self.queues + 1).min(MAX_VECTORS)
    }
}

/// A vendor number that stands for none (PCI: FFFFh is no device, 0 is not assigned).
const VENDOR_NONE: u16 = 0;
/// MSI-X vectors: their table fills one page of BAR0.
pub(super) const MAX_VECTORS: u16 = 256;
