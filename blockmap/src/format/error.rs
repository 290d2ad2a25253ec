//! What can be wrong with a block, or with a value that is to become one.
//! Where the block was and which file suffers is the caller's to say.

use super::types::Kind;

/// The result of reading or writing a structure of the format.
pub type Result<T> = std::result::Result<T, FormatError>;

/// Why a block was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// No superblock: the medium, or this slot, holds something else.
    #[error("no Freehold store: the block does not begin with \"FREEHOLD\"")]
    NotAStore,
    /// The block is no metadata block.
    #[error("not a metadata block: it does not begin with \"FREEHOLD\"")]
    BadMagic,
    /// The block was torn, damaged, or belongs to another store.
    #[error(
        "checksum is {found:#010x} but the bytes give {computed:#010x}: \
         torn, damaged, or of another store"
    )]
    BadChecksum {
        /// In the header.
        found: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A whole block of another structure.
    #[error("block is of kind {found}, expected {expected:?}")]
    WrongKind {
        /// In the header.
        found: u8,
        /// Asked for.
        expected: Kind,
    },
    /// A whole block that was meant for another place, or an older turn of the journal.
    #[error("block says that it lies at {found}, but was read at {expected}")]
    WrongAddress {
        /// In the header.
        found: u64,
        /// Where it was read.
        expected: u64,
    },
    /// A whole block of another time: a write was lost, or came too late.
    #[error("block is of generation {found}, its parent names generation {expected}")]
    WrongGeneration {
        /// In the header.
        found: u64,
        /// Asked for.
        expected: u64,
    },
    /// A whole journal group of another store.
    #[error("group belongs to store {}", Hex(.found))]
    WrongStore {
        /// The other store's id.
        found: [u8; 16],
    },
    /// Sound, but this program is too old for it.
    #[error(
        "format version {version}, required features {refuse:#x}: \
         this program knows version {} and features {:#x}",
        super::VERSION,
        super::superblock::KNOWN_REFUSE
    )]
    TooNew {
        /// The version that wrote it.
        version: u32,
        /// Its features that a reader must know, all of them.
        refuse: u64,
    },
    /// Ends before what it announces.
    #[error("cut short: {0}")]
    Short(&'static str),
    /// A value does not fit into the block or the group.
    #[error("no room: {0}")]
    TooLong(&'static str),
    /// The checksum is right and the content makes no sense: it was written so.
    #[error("malformed: {0}")]
    Malformed(&'static str),
}

/// Bytes in hexadecimal.
struct Hex<'a>(&'a [u8]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
