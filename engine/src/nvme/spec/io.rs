//! Commands of the NVM command set (Base 1.4, 6; NVM 1.0, 3.2) and the lists of
//! ranges that two of them take.

use super::command::{Command, nvm};

/// FUA: bit 30 of dword 12 of reads, writes, compares, write zeroes and copies.
pub const FUA: u32 = 1 << 30;
/// LR, limited retry: bit 31 of the same.
pub const LIMITED_RETRY: u32 = 1 << 31;
/// PRINFO: bits 29:26 of the same; zero without protection information.
pub const PRINFO: u32 = 0xf << 26;
/// DEAC: bit 25 of dword 12 of Write Zeroes: may deallocate (6.17).
pub const DEALLOCATE_ZEROES: u32 = 1 << 25;
/// AD, deallocate: bit 2 of dword 11 of Dataset Management (6.7).
pub const DSM_DEALLOCATE: u32 = 1 << 2;
/// Most ranges of one Dataset Management command (6.7).
pub const DSM_RANGES: usize = 256;
/// Most logical blocks that NLB of one command can name.
pub const NLB_MAX: u32 = 1 << 16;

/// Builders of NVM commands. Numbers are logical blocks; `count` is from 1 to
/// [`NLB_MAX`], and goes into NLB zero-based.
impl Command {
    /// A command that names a range, with `flags` in dword 12.
    #[inline]
    pub const fn ranged(opcode: u8, nsid: u32, slba: u64, count: u32, flags: u32) -> Self {
        let mut command = Self::new(opcode, nsid);
        command.0[5] = slba;
        command.with_cdw(12, (count.wrapping_sub(1) & 0xffff) | flags)
    }

    /// Read (6.9).
    pub const fn read(nsid: u32, slba: u64, count: u32) -> Self {
        Self::ranged(nvm::READ, nsid, slba, count, 0)
    }

    /// Write (6.15), forced to the medium with `fua`.
    pub const fn write(nsid: u32, slba: u64, count: u32, fua: bool) -> Self {
        Self::ranged(nvm::WRITE, nsid, slba, count, if fua { FUA } else { 0 })
    }

    /// Compare (6.6).
    pub const fn compare(nsid: u32, slba: u64, count: u32) -> Self {
        Self::ranged(nvm::COMPARE, nsid, slba, count, 0)
    }

    /// Flush (6.8).
    pub const fn flush(nsid: u32) -> Self {
        Self::new(nvm::FLUSH, nsid)
    }

    /// Write Zeroes (6.17).
    pub const fn write_zeroes(nsid: u32, slba: u64, count: u32) -> Self {
        Self::ranged(nvm::WRITE_ZEROES, nsid, slba, count, 0)
    }

    /// Dataset Management that deallocates `ranges`, from 1 to [`DSM_RANGES`] (6.7).
    pub const fn deallocate(nsid: u32, ranges: u32) -> Self {
        Self::new(nvm::DATASET_MANAGEMENT, nsid)
            .with_cdw(10, ranges.wrapping_sub(1) & 0xff)
            .with_cdw(11, DSM_DEALLOCATE)
    }

    /// Copy to `slba` of `ranges` source ranges in format 0, from 1 to 256 (NVM 1.0,
    /// 3.2.2).
    pub const fn copy(nsid: u32, slba: u64, ranges: u32) -> Self {
        let mut command = Self::new(nvm::COPY, nsid);
        command.0[5] = slba;
        command.with_cdw(12, ranges.wrapping_sub(1) & 0xff)
    }

    /// Starting LBA of a read, write, compare, write zeroes, verify or copy.
    pub const fn slba(&self) -> u64 {
        self.cdw_pair(10)
    }

    /// How many logical blocks a read, write, compare, write zeroes or verify names.
    pub const fn blocks(&self) -> u32 {
        (self.cdw(12) & 0xffff) + 1
    }

    /// Whether FUA is set.
    pub const fn fua(&self) -> bool {
        self.cdw(12) & FUA != 0
    }
}

/// One range of Dataset Management: 16 bytes (6.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DsmRange {
    /// Context attributes: hints.
    pub attributes: u32,
    /// How many logical blocks; not zero-based.
    pub count: u32,
    /// The first one.
    pub slba: u64,
}

impl DsmRange {
    /// Bytes that one has.
    pub const BYTES: usize = 16;

    /// The range as two little-endian words, lower first.
    pub const fn words(self) -> [u64; 2] {
        [self.attributes as u64 | (self.count as u64) << 32, self.slba]
    }

    /// The range of two words.
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self { attributes: words[0] as u32, count: (words[0] >> 32) as u32, slba: words[1] }
    }
}

/// One source range of Copy in format 0: 32 bytes, without protection information
/// (NVM 1.0, 3.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyRange {
    /// First logical block read.
    pub slba: u64,
    /// How many, zero-based.
    pub nlb: u16,
}

impl CopyRange {
    /// Bytes that one has.
    pub const BYTES: usize = 32;

    /// The range as four little-endian words, lower first.
    pub const fn words(self) -> [u64; 4] {
        [0, self.slba, self.nlb as u64, 0]
    }

    /// The range of four words; protection information is not looked at.
    pub const fn from_words(words: [u64; 4]) -> Self {
        Self { slba: words[1], nlb: words[2] as u16 }
    }
}
