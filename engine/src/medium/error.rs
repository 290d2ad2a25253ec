//! What can go wrong below the block map, and the words for it.

use std::fmt;

/// A result of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of trouble it is; decides what the block map does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller's mistake: a bad URI, range or length.
    Invalid,
    /// There is no such file or device.
    NotFound,
    /// No right to open or use it.
    Permission,
    /// Somebody else holds it (mounted, locked, opened exclusively).
    Busy,
    /// It carries something that is not ours to overwrite.
    Occupied,
    /// The device or system cannot do this.
    Unsupported,
    /// A limit of the system (memory, locked memory, descriptors).
    Limit,
    /// The medium is full (a sparse file on a full file system).
    NoSpace,
    /// The device reported an error for this operation alone.
    Io,
    /// A comparison found other bytes than it was given ([`Op::Compare`](super::Op::Compare));
    /// nothing is wrong with the device.
    Mismatch,
    /// The command was cut off by a reset: it may or may not have happened;
    /// reads and idempotent writes may be issued again.
    Reset,
    /// The medium vanished, or may have lost completed writes (law M3).
    Gone,
}

/// An error with its kind and a sentence that says what to do.
///
/// One word, so that a result is one too: results go through queues with every operation.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<What>);

/// What an error says.
#[derive(Clone, PartialEq, Eq)]
struct What {
    kind: ErrorKind,
    message: Box<str>,
}

impl Error {
    /// An error of a kind with a message of one sentence.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(What { kind, message: message.into().into_boxed_str() }))
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The sentence.
    pub fn message(&self) -> &str {
        &self.0.message
    }
}

const _: () = assert!(size_of::<Result<()>>() == size_of::<usize>());

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0.kind, self.0.message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}
