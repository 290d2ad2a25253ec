//! What can go wrong with a store, in three families: the caller's mistake, a
//! refusal, a failure. Each error is one sentence that says what to do.

use freehold_engine::medium;
use std::fmt;

/// A result of the block map.
pub type Result<T> = std::result::Result<T, Error>;

/// What kind of trouble it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Caller: a bad argument (range, name, length, URI).
    Invalid,
    /// Caller: no such file, store or device.
    NotFound,
    /// Caller: the name is taken.
    Exists,
    /// Caller: the store was opened for reading only.
    ReadOnly,
    /// Caller: what was opened is not a store.
    NotAStore,
    /// Caller: the journal of the store is missing, or what was given is not it; the message
    /// says which is wanted.
    WrongJournal,
    /// Caller: a store of a newer format, or with features that this build lacks.
    TooNew,
    /// Refusal: somebody else holds it, or work in flight is in the way.
    Busy,
    /// Refusal: the medium carries something that is not ours to overwrite.
    Occupied,
    /// Refusal: no right to use it.
    Permission,
    /// Refusal: the device or system cannot do this.
    Unsupported,
    /// Refusal: somebody else's seal forbids it; the message says whose.
    Sealed,
    /// Refusal: the lease was asked for back; return it, or take it again later.
    Recalled,
    /// Refusal: the lease was taken. The ordinary reads and writes always work.
    Revoked,
    /// Refusal: it would wait for itself.
    WouldDeadlock,
    /// Refusal: a forked child owns nothing of its parent's store; open it again there.
    ForkedChild,
    /// Refusal: no free space.
    NoSpace,
    /// Refusal: a limit of the system; the message says which to raise.
    Limit,
    /// Failure: the device reported an error.
    Io,
    /// Failure: the medium vanished, or may have lost completed writes (law M3).
    Gone,
    /// Failure: a structure on the medium is damaged.
    Corrupt,
    /// Failure: the store's image is shorter than the store.
    Truncated,
    /// Failure: an earlier write or flush of the store's own was lost; it must be opened again.
    Poisoned,
}

/// An error: its kind and a sentence.
///
/// One word: results come back with every operation.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Said>);

/// What an error says.
#[derive(Clone, PartialEq, Eq)]
struct Said {
    kind: ErrorKind,
    message: Box<str>,
    place: Option<Place>,
}

const _: () = assert!(size_of::<Result<()>>() == size_of::<usize>());

/// Which structure is damaged, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The structure's name.
    pub what: String,
    /// Its block on the medium.
    pub at: u64,
}

impl Error {
    /// An error of a kind with its sentence.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Said { kind, message: message.into().into_boxed_str(), place: None }))
    }

    /// A damaged structure: its name, its block, and what is wrong with it.
    pub fn corrupt(what: &str, at: u64, why: &str) -> Self {
        let place = Some(Place { what: what.to_owned(), at });
        let message = format!(
            "the {what} at block {at} is damaged ({why}); run `freehold check` and restore from a backup"
        );
        let (kind, message) = (ErrorKind::Corrupt, message.into_boxed_str());
        Self(Box::new(Said { kind, message, place }))
    }

    /// What kind of trouble it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// For `Corrupt`: which structure, and where.
    pub fn place(&self) -> Option<&Place> {
        self.0.place.as_ref()
    }
}

impl From<medium::Error> for Error {
    fn from(e: medium::Error) -> Self {
        use medium::ErrorKind as K;
        let kind = match e.kind() {
            K::Invalid => ErrorKind::Invalid,
            K::NotFound => ErrorKind::NotFound,
            K::Permission => ErrorKind::Permission,
            K::Busy => ErrorKind::Busy,
            K::Occupied => ErrorKind::Occupied,
            K::Unsupported => ErrorKind::Unsupported,
            K::Limit => ErrorKind::Limit,
            K::NoSpace => ErrorKind::NoSpace,
            K::Io | K::Mismatch | K::Reset => ErrorKind::Io,
            K::Gone => ErrorKind::Gone,
        };
        Error::new(kind, e.message())
    }
}

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
