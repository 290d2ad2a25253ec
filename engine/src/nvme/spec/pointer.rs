//! How a command names its memory: PRP entries and lists (Base 1.4, 4.3) and SGL
//! descriptors (4.4).

use super::PAGE;
use super::command::{PSDT_PRP, PSDT_SGL};

/// Entries in one page of a PRP list.
pub const PRP_LIST_ENTRIES: usize = PAGE / 8;

/// An SGL descriptor of 16 bytes (4.4.1): address, length, and type in the last byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SglDescriptor {
    /// Where the bytes, or the next descriptors, lie.
    pub address: u64,
    /// How many bytes.
    pub length: u32,
    /// Type in bits 7:4, subtype in bits 3:0.
    pub kind: u8,
}

impl SglDescriptor {
    /// Bytes that one has.
    pub const BYTES: usize = 16;
    /// Type and subtype of a data block by address.
    pub const DATA_BLOCK: u8 = 0x00;
    /// Type of a bit bucket: bytes of a read that are thrown away.
    pub const BIT_BUCKET: u8 = 0x10;
    /// Type of a segment: more descriptors, another segment behind them.
    pub const SEGMENT: u8 = 0x20;
    /// Type of the last segment: more descriptors, all of them data.
    pub const LAST_SEGMENT: u8 = 0x30;

    /// A data block.
    pub const fn data(address: u64, length: u32) -> Self {
        Self { address, length, kind: Self::DATA_BLOCK }
    }

    /// The descriptor as two little-endian words, lower first.
    pub const fn words(self) -> [u64; 2] {
        [self.address, self.length as u64 | (self.kind as u64) << 56]
    }

    /// The descriptor of two words; its reserved bytes are not looked at.
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self { address: words[0], length: words[1] as u32, kind: (words[1] >> 56) as u8 }
    }
}

/// DPTR of a command with the bits that say what it is (4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataPointer {
    /// PSDT: one of [`PSDT_PRP`](super::command) and its like.
    pub psdt: u8,
    /// Its two words, lower first.
    pub words: [u64; 2],
}

impl DataPointer {
    /// Two PRPs; the second is zero, a page, or a list.
    #[inline]
    pub const fn prps(prp1: u64, prp2: u64) -> Self {
        Self { psdt: PSDT_PRP, words: [prp1, prp2] }
    }

    /// One SGL descriptor.
    #[inline]
    pub const fn sgl(descriptor: SglDescriptor) -> Self {
        Self { psdt: PSDT_SGL, words: descriptor.words() }
    }
}

/// How a transfer is named by PRPs: entries after the first, for `len` bytes from
/// `address` (4.3). Zero needs no second entry, one is the second page itself, more
/// need a list.
pub const fn prp_entries_after_first(address: u64, len: usize) -> usize {
    let first = PAGE - (address as usize & (PAGE - 1));
    if len <= first { 0 } else { (len - first).div_ceil(PAGE) }
}

const _: () = {
    assert!(prp_entries_after_first(0, PAGE) == 0);
    assert!(prp_entries_after_first(0, 2 * PAGE) == 1);
    assert!(prp_entries_after_first(8, PAGE) == 1);
    assert!(prp_entries_after_first(0, 1 << 20) == 255);
};
