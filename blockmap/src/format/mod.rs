//! Every structure that lies on a medium, and nothing else.
//!
//! docs/format.md is the specification; a test holds it against these files.
//! Decoding never panics and never trusts a length: what does not fit is
//! [`FormatError`], with the reason. Encoding refuses what decoding would
//! refuse, so that nothing unreadable is ever written.

pub mod bitmap;
pub mod codec;
pub mod entries;
mod error;
pub mod file_record;
pub mod header;
pub mod journal;
pub mod journal_header;
pub mod layout;
pub mod node;
pub mod record;
#[cfg(test)]
mod refusals;
pub mod superblock;
#[cfg(test)]
mod tests;
pub mod types;
pub(crate) mod zeroes;

pub use entries::{CountRun, Counts, EntryCodec, Extents, Files, Names, Space};
pub use error::{FormatError, Result};

/// Bytes in a block.
pub const BLOCK: usize = 4096;

/// The version of the format that this code writes.
pub const VERSION: u32 = 3;

/// The first 8 bytes of every metadata block.
pub const MAGIC: [u8; 8] = *b"FREEHOLD";

/// Block addresses, block counts and file blocks are below this: 2^64 bytes.
pub const BLOCK_LIMIT: u64 = 1 << 52;

/// The first block that may belong to anything but a superblock.
pub const FIRST_BLOCK: types::Addr = 2;

/// Files' numbers are below this; the bit marks a condemned file's key.
pub const FILE_LIMIT: types::FileId = 1 << 63;

/// Roots are at most this far above their leaves.
pub const MAX_LEVEL: u8 = 12;
