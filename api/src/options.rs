//! How a store is made and opened.

use freehold_engine::nvme::Timeouts;

/// How a store is made. [`FormatOptions::default`] takes the medium as it is.
///
/// ```
/// let o = freehold::FormatOptions { size: Some(1 << 30), ..Default::default() };
/// # assert!(!o.force);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormatOptions {
    /// Bytes of a file that is to be made; a block device, or a file that has its
    /// size, takes none.
    pub size: Option<u64>,
    /// Take a medium that carries something else; never one that is mounted or held.
    pub force: bool,
    /// The medium of the journal, as a URI: the same as the key `journal` in the store's.
    pub journal: Option<String>,
    /// Bytes of a file that is to be made for the journal; 16 MiB if nothing is said.
    pub journal_size: Option<u64>,
}

/// How a store is opened. By default: for reading and writing, as fast as the
/// system lets us.
///
/// ```
/// let o = freehold::OpenOptions { read_only: true, ..Default::default() };
/// # assert!(o.direct);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOptions {
    /// Only read: nothing is written, not even by recovery.
    pub read_only: bool,
    /// Files: use io_uring where the system lets us.
    pub io_uring: bool,
    /// Files: bypass the page cache where the file system can.
    pub direct: bool,
    /// NVMe: how long a command may take before the controller is reset, and an admin
    /// command before it is given up.
    pub timeouts: Timeouts,
    /// Bytes of memory for nodes of maps and for space bitmaps, 16 KiB at least;
    /// none for the default of 512 MiB. What does not fit is read again when it is
    /// needed. Of a store that this process has open already, it changes nothing.
    pub cache_bytes: Option<u64>,
    /// Where to look for the journal of a store that has it on a medium of its own, as a URI:
    /// the same as the key `journal` in the store's.
    pub journal: Option<String>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions {
            read_only: false,
            io_uring: true,
            direct: true,
            timeouts: Timeouts::default(),
            cache_bytes: None,
            journal: None,
        }
    }
}

impl From<&OpenOptions> for freehold_engine::OpenOptions {
    fn from(o: &OpenOptions) -> Self {
        freehold_engine::OpenOptions {
            read_only: o.read_only,
            io_uring: o.io_uring,
            direct: o.direct,
            timeouts: o.timeouts,
            ..Self::default()
        }
    }
}

impl From<&OpenOptions> for freehold_blockmap::OpenSpec {
    fn from(o: &OpenOptions) -> Self {
        freehold_blockmap::OpenSpec { read_only: o.read_only, cache_bytes: o.cache_bytes }
    }
}

impl From<&FormatOptions> for freehold_engine::FormatOptions {
    fn from(o: &FormatOptions) -> Self {
        freehold_engine::FormatOptions { size: o.size, force: o.force }
    }
}
