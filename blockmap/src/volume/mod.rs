//! The opened store: its one history, its queues, and the work that keeps it going.
//!
//! # Who waits for whom
//!
//! There are no threads of the store's own. Commits, checkpoints, removals and
//! the release of freed blocks are tasks of a lane of their own, the maintenance
//! lane; every poll and every blocking call drives it when it can take its latch
//! (law M2). A waiter also drives every other idle lane.
//!
//! # Lock order
//!
//! lane latch -> core -> range table of a file. A latch of another lane, and
//! that of the maintenance lane, is only ever tried, never waited for, while one is held.
//! No lock is held while a task waits: the compiler sees to that, a guard is not `Send`.

mod admit;
mod apart;
mod atomic;
mod change;
mod check;
mod checkpoint;
mod commit;
mod copy;
mod core;
mod cutting;
mod defrag;
mod delegate;
mod diff;
mod direct;
mod discard;
mod drive;
mod file;
mod format;
mod grant;
mod guards;
mod hold;
mod home;
mod late;
mod layout;
mod lease;
mod lease_end;
mod lease_io;
mod lease_report;
mod leasing;
mod limits;
mod list;
mod load;
mod locks;
mod logged;
mod names;
mod open;
mod plan;
mod prompt;
mod publish;
mod quarantine;
mod queue;
mod range_ops;
mod ranges;
mod read;
mod reap;
mod recover;
mod reflink;
mod register;
mod revoke;
mod ring;
mod seal;
mod sessions;
mod shelf;
mod shift;
mod stats;
mod tenancy;
mod together;
mod unshare;
mod waiters;
mod warm;
mod write;
mod zero;

pub use atomic::AtomicLimits;
pub use check::{CheckReport, Finding, MOST_FINDINGS};
pub use defrag::DefragReport;
pub use diff::DiffRange;
pub use discard::{Discarded, LostRecords};
pub use file::{DEFAULT_SESSION, FileHandle};
pub use format::{FormatSpec, check_journal_size, check_size};
pub use grant::{LeaseSpec, MOST_HOLD};
pub use lease::{LeaseCore, LeasePiece};
pub use lease_io::{LeaseAt, LeaseRefused};
pub use lease_report::{Holding, InFlight, LeaseInFlight};
pub use leasing::LEASE_TIME;
pub use list::{Entry, Listing};
pub use open::{CACHE_DEFAULT, CACHE_MIN, OpenSpec};
pub use queue::{Refused, VolumeQueue};
pub use read::MapPiece;
pub use recover::RecoveryReport;
pub use register::{Action, not_forked};
pub use seal::{SealCore, SealSpec};
pub use sessions::{Event, MOST_HELD, SessionCore};
pub use stats::{FileStat, JournalInfo, Space, Stats, VolumeInfo};
pub(crate) use together::{Together, forget, look_up};

use crate::cache::Cache;
use crate::format::types::{Seq, Superblock};
use crate::health::Health;
use crate::lane::Lane;
use core::Core;
use freehold_engine::medium::Medium;
use leasing::clock;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// An opened store. Shared by all handles; closing is [`Volume::close`].
pub struct Volume {
    medium: Arc<dyn Medium>,
    id: [u8; 16],
    blocks: u64,
    /// The journal's place in the store: first block, and blocks. Not used while it is apart.
    room: (u64, u64),
    ring: ring::Ring,
    health: Arc<Health>,
    core: Mutex<Core>,
    /// Law B3; the first epoch is 1.
    epoch: AtomicU64,
    /// Every record up to this one is durable.
    durable: AtomicU64,
    /// Somebody wants to hear that this record is durable.
    wanted: AtomicU64,
    /// The last record whose group's flush has been submitted, or is about to be.
    flushing: AtomicU64,
    /// The last checkpoint that is durable and marked.
    marked: AtomicU64,
    duty: Duty,
    maint: Arc<Lane>,
    lanes: Mutex<Vec<Arc<Lane>>>,
    idle: Mutex<Vec<Arc<Lane>>>,
    /// One more than the writes that had landed when the last flush was submitted; 0: not
    /// known yet.
    flushed: AtomicU64,
    /// Law B7: what is in the journal and not yet at home.
    late: Arc<late::Late>,
    /// Threads that wait for nothing but a commit.
    waiters: waiters::Waiters,
    progress: (Mutex<u64>, Condvar),
    /// Threads that sleep on `progress`.
    sleepers: AtomicU64,
    counters: stats::Counters,
    cache: Arc<Cache>,
    recovery: std::sync::OnceLock<RecoveryReport>,
    leasing: leasing::Leasing,
}

/// What the maintenance lane has to do, and what it is doing.
#[derive(Debug, Default)]
struct Duty {
    /// Anything at all: looked at on every poll.
    any: AtomicBool,
    committing: AtomicBool,
    checkpoint: AtomicBool,
    checkpointing: AtomicBool,
    home: AtomicBool,
    homing: AtomicBool,
    /// A pin of what is in quarantine has gone.
    kept: AtomicBool,
    reap: AtomicBool,
    reaping: AtomicBool,
}

impl Volume {
    /// The one history. Held for microseconds, never across I/O.
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// A transaction that comes to nothing.
    #[cfg(test)]
    pub(crate) fn look_at_changes(&self, look: impl FnOnce(&mut crate::txn::Txn<'_>)) {
        look(&mut self.core().view());
    }

    /// The medium under the store.
    pub fn medium(&self) -> &Arc<dyn Medium> {
        &self.medium
    }

    /// What opening it took.
    pub fn recovery(&self) -> &RecoveryReport {
        self.recovery.get_or_init(RecoveryReport::default)
    }

    fn durable(&self) -> Seq {
        self.durable.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Which slot a checkpoint's superblock goes to.
    fn slot(checkpoint: u64) -> u64 {
        1 - checkpoint % 2
    }

    fn check_superblock(sb: &Superblock, medium_blocks: u64) -> crate::Result<()> {
        use crate::{Error, ErrorKind};
        if sb.blocks > medium_blocks {
            return Err(Error::new(
                ErrorKind::Truncated,
                format!(
                    "the store has {} blocks of 4 KiB but its medium only {medium_blocks}: \
                     the image was truncated; restore it to its full length",
                    sb.blocks
                ),
            ));
        }
        let journal = sb.journal_start.checked_add(sb.journal_blocks);
        if journal.is_none_or(|end| end > sb.blocks) || sb.journal_blocks < format::MIN_JOURNAL {
            let slot = Self::slot(sb.checkpoint);
            return Err(Error::corrupt("superblock", slot, "its journal lies outside the store"));
        }
        if sb.journal_blocks > format::JOURNAL_LIMIT {
            let slot = Self::slot(sb.checkpoint);
            return Err(Error::corrupt(
                "superblock",
                slot,
                "its journal is longer than any can be",
            ));
        }
        let sizes = format::MIN_JOURNAL..=format::JOURNAL_LIMIT;
        if sb.apart.is_some_and(|journal| !sizes.contains(&journal.blocks)) {
            let why = "its journal on another medium is shorter or longer than any can be";
            return Err(Error::corrupt("superblock", Self::slot(sb.checkpoint), why));
        }
        limits::superblock(sb)
    }
}
