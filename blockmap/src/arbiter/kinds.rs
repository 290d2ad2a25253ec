//! The words of the arbiter: spans, accesses, kinds of seals, changes and answers.
//!
//! Nothing here has a state. What the words mean together is in `table.rs`; who holds
//! what is in `file.rs`.

use bitflags::bitflags;
use smallvec::SmallVec;
use std::fmt;

/// Who holds seals and leases, and who asks. 1 is the store's default session.
pub type SessionId = u64;
/// A lease or a seal: unique in the store, never used again. The caller numbers them.
pub type Id = u64;
/// A few leases or seals.
pub type Ids = SmallVec<[Id; 4]>;

/// A range of a file in blocks of 4 KiB, its end exclusive; `u64::MAX` is "to the end".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first block.
    pub start: u64,
    /// The block after the last.
    pub end: u64,
}

impl Span {
    /// The whole file, wherever its end may be.
    pub const WHOLE: Span = Span { start: 0, end: u64::MAX };

    /// No block lies in it. One whose end is before its start is empty, too.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The two have a block in common.
    pub fn overlaps(self, other: Span) -> bool {
        !self.common(other).is_empty()
    }

    /// The blocks that lie in both.
    #[must_use]
    pub fn common(self, other: Span) -> Span {
        Span { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            u64::MAX => write!(f, "blocks from {} on", self.start),
            end => write!(f, "blocks {}..{end}", self.start),
        }
    }
}

/// What a lease lets its holder do, and what it keeps others from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Access {
    /// Reads; others may write the same bytes in place.
    Read,
    /// Reads and writes; others may do so, too.
    Write,
    /// Reads of bytes that nobody changes.
    Stable,
    /// Reads and writes of bytes that nobody else reads or writes.
    Exclusive,
}

impl Access {
    /// All of them, in the order of the tables.
    pub const ALL: [Access; 4] = [Access::Read, Access::Write, Access::Stable, Access::Exclusive];

    /// The holder may change bytes.
    pub fn writes(self) -> bool {
        matches!(self, Access::Write | Access::Exclusive)
    }
}

bitflags! {
    /// What a seal keeps from happening.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Kinds: u8 {
        /// No extent in the range is added, moved, unshared, punched or truncated.
        const LAYOUT = 1;
        /// The size of the file may not go down.
        const SHRINK = 2;
        /// The size may not go up; nothing is written or allocated past the end.
        const GROW = 4;
        /// No byte in the range changes; moving and unsharing stay allowed.
        const WRITE = 8;
        /// Like `WRITE`, but writable leases that exist go on.
        const FUTURE_WRITE = 16;
        /// Nobody else may add seals.
        const SEAL = 32;
    }
}

impl Kinds {
    /// Kinds that speak of the file and not of a range.
    pub const OF_FILE: Kinds = Kinds::SHRINK.union(Kinds::GROW).union(Kinds::SEAL);

    /// With all that they imply: `WRITE` implies `FUTURE_WRITE`. Expanded before
    /// anything is decided, so that nothing is added after a drain.
    #[must_use]
    pub fn expanded(self) -> Kinds {
        match self.contains(Kinds::WRITE) {
            true => self | Kinds::FUTURE_WRITE,
            false => self,
        }
    }
}

/// What an operation is about to do. One operation may be several changes, each asked
/// for by itself, under one hold of the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// Reads bytes.
    Read,
    /// Writes whole blocks that are written and unshared, in place.
    Overwrite,
    /// The same for parts of blocks, which are read and written back (law B6).
    OverwritePart,
    /// Writes where extents must be added or moved: to holes, to unwritten or shared
    /// blocks, and atomically.
    Fill,
    /// Adds extents and unshares, and changes no byte.
    Allocate,
    /// Takes extents out or away: truncate down, punch, zero, collapse, insert.
    Cut,
    /// The size goes up, or something is written or allocated past the end. The spans
    /// are the last block, if it is filled in part: the rest of it is zeroed. What is
    /// added past the end is a `Fill` or `Allocate`.
    Grow,
    /// The size goes down; the blocks that go are a `Cut`.
    Shrink,
    /// Shares blocks of this file with another.
    ReflinkFrom,
    /// Replaces blocks of this file by those of another.
    ReflinkOnto,
    /// Takes a name away, also by renaming over it.
    Unlink,
    /// Gives a lease out.
    Grant {
        /// What it lets its holder do.
        access: Access,
        /// Blocks must be unshared, allocated or zeroed for it.
        unshares: bool,
    },
    /// Gives a lease out below another one, of a different session as a rule. The
    /// request's session is the new holder.
    Delegate {
        /// What it lets its holder do.
        access: Access,
        /// The lease that it comes from.
        parent: Id,
    },
    /// Makes a stale lease good again, in place, over its span.
    Refresh {
        /// The lease.
        lease: Id,
        /// Blocks must be unshared, allocated or zeroed for it.
        unshares: bool,
    },
    /// Sets a seal.
    Seal {
        /// What it keeps from happening; implied kinds are added here.
        kinds: Kinds,
        /// It can be recalled.
        breakable: bool,
    },
    /// Moves blocks in the background: defragmentation, for one.
    Relocate,
    /// Closes the store.
    Close,
}

/// A question to the arbiter.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who asks.
    pub session: SessionId,
    /// What is to be done.
    pub change: Change,
    /// Where. Empty spans touch nothing.
    pub spans: &'a [Span],
    /// The age of the operation, which grows with every new one. 0: it does not wait.
    pub ticket: u64,
}

/// A lease or a seal, as the tables see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Held {
    /// A lease.
    Lease(Access),
    /// A seal, its kinds expanded.
    Seal {
        /// What it keeps from happening.
        kinds: Kinds,
        /// It can be recalled.
        breakable: bool,
    },
}

/// A lease or a seal that is in the way, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Whose it is.
    pub session: SessionId,
    /// Which it is.
    pub id: Id,
    /// What it is.
    pub held: Held,
    /// Where it lies.
    pub span: Span,
}

/// Why a change cannot go on, whoever waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A seal forbids it: one that cannot be recalled, or one of the session's own.
    Sealed(Holder),
    /// A seal that cannot be recalled keeps the store open.
    Busy(Holder),
    /// The lease that was to be delegated or refreshed is recalled.
    Recalled(Holder),
    /// The lease that was to be delegated or refreshed was taken or revoked.
    Ended(Id),
    /// The lease that was to be delegated or refreshed is not there, or gives less.
    NoLease(Id),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holder { session, id, held, span } = self;
        match held {
            Held::Lease(access) => write!(f, "lease {id} ({access:?})")?,
            Held::Seal { kinds, breakable } => {
                let firm = if *breakable { "breakable " } else { "" };
                write!(f, "{firm}seal {id} ({})", Names(*kinds))?;
            }
        }
        write!(f, " of session {session} over {span}")
    }
}

struct Names(Kinds);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bitflags::parser::to_writer(&self.0, f)
    }
}

/// What the arbiter says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing is in the way.
    Go,
    /// These must be gone first, leases and breakable seals: each is to be taken if it
    /// is idle, else recalled. A WRITE seal and a close name the session's own, too.
    Recall(Ids),
    /// Nothing of others is in the way. These leases of the session itself must be
    /// taken first; with a use on one of them the change would wait for itself.
    Take(Ids),
    /// Nothing else is in the way. These leases of the session itself are to be stale
    /// while the change is made, and refreshed after it; with a use on one of them the
    /// change would wait for itself. Also those that are stale already: what was in flight
    /// through one may be still.
    Own(Ids),
    /// An operation that is older, or under way, and this one exclude each other: its
    /// ticket must have left first.
    Behind(u64),
    /// It cannot be done while this is held.
    Refused(Refusal),
    /// For `Relocate`: keep off these.
    Round(Vec<Span>),
}
