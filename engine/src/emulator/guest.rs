//! The client's memory as the controller sees it: bytes at I/O virtual addresses.
//!
//! Everything behind this trait may change at any time, and every address may be
//! wrong: the controller copies what it judges, and judges the copy. The words of a
//! ring are loaded and stored whole, because the client polls them.

/// An address that no mapping of the client has, or not with that access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadAddress;

/// What an access at an address gives.
pub(super) type Reach<T = ()> = Result<T, BadAddress>;

/// Whose memory a range is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The client's; also what is not there.
    Clients,
    /// The controller's own buffer.
    Controllers,
    /// In parts.
    Both,
}

impl Whose {
    /// Of two ranges together.
    pub(super) fn and(self, other: Self) -> Self {
        if self == other { self } else { Whose::Both }
    }
}

/// Memory by I/O virtual address. An access may span several mappings that touch.
/// After an error, what was copied before the bad address may have arrived.
pub(super) trait Guest {
    /// Copies bytes out.
    fn load(&self, iova: u64, to: &mut [u8]) -> Reach;

    /// Copies bytes in.
    fn store(&self, iova: u64, from: &[u8]) -> Reach;

    /// Loads aligned words, each whole, after what was seen before.
    fn load_words<const N: usize>(&self, iova: u64) -> Reach<[u64; N]>;

    /// Stores two aligned words, each whole, the second one after everything
    /// that was stored before it (Release).
    fn store_pair(&self, iova: u64, words: [u64; 2]) -> Reach;

    /// Loads an aligned word of 32 bits (Acquire).
    fn load32(&self, iova: u64) -> Reach<u32>;

    /// Stores an aligned word of 32 bits (Release).
    fn store32(&self, iova: u64, value: u32) -> Reach;

    /// Whose it is.
    fn whose(&self, iova: u64, len: u64) -> Whose;

    /// Whether the whole range may be read (or written) now.
    fn has(&self, iova: u64, len: u64, write: bool) -> bool;
}
