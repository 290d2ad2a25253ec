//! Sessions: whose leases and seals they are, and where a recall is told.
//!
//! A session hears of recalls in three ways: the next pin of the lease fails, its queue
//! of events has one, and its descriptor is readable. The descriptor also becomes
//! readable at the next deadline of anybody's recall, so that a program that only
//! waits for it drives what is due (law M2). No signals, no threads.

use super::Volume;
use super::file::DEFAULT_SESSION;
use crate::arbiter::{Id, SessionId};
use crate::error::{Error, ErrorKind, Result};
use crate::format::types::FileId;
use freehold_engine::event::Signal;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

/// Leases and seals that one session can have at a time.
pub const MOST_HELD: u64 = 1 << 20;

/// Numbers of sessions that can have any: they are kept in 32 bits.
const MOST_SESSIONS: SessionId = u32::MAX as SessionId;

/// What a session is told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A lease, or a breakable seal, is asked for back.
    Recall {
        /// The lease's or the seal's number.
        id: Id,
        /// The file's number.
        file: FileId,
        /// First byte and the one behind the last of what it covers.
        range: (u64, u64),
        /// How long until it is taken.
        grace: Duration,
        /// What was written to its buffers and not flushed may still be flushed.
        may_flush: bool,
    },
    /// A recall was taken back: nobody wants the range any more.
    Withdrawn {
        /// The lease's number.
        id: Id,
        /// The file's number.
        file: FileId,
    },
    /// A lease was taken, at its deadline or because it was idle.
    Revoked {
        /// The lease's number.
        id: Id,
        /// The file's number.
        file: FileId,
    },
}

/// An owner of seals and leases.
#[derive(Debug)]
pub struct SessionCore {
    id: SessionId,
    events: Mutex<VecDeque<Event>>,
    signal: OnceLock<Signal>,
    ended: AtomicBool,
    /// Leases and seals that it has.
    pub(super) held: AtomicU64,
    /// Blocks in quarantine on its account.
    pub(super) quarantined: AtomicU64,
}

/// The sessions of a store.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: Mutex<BTreeMap<SessionId, Weak<SessionCore>>>,
    default: OnceLock<Arc<SessionCore>>,
    next: AtomicU64,
}

impl SessionCore {
    fn new(id: SessionId) -> Arc<Self> {
        Arc::new(SessionCore {
            id,
            events: Mutex::default(),
            signal: OnceLock::new(),
            ended: AtomicBool::new(false),
            held: AtomicU64::new(0),
            quarantined: AtomicU64::new(0),
        })
    }

    /// Its number in the store; 1 is the store's own.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// It has ended: nothing is granted to it any more.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Fails if it has ended.
    pub(super) fn goes_on(&self) -> Result<()> {
        match self.has_ended() {
            true => Err(Error::new(ErrorKind::Invalid, "the session has ended: open another")),
            false => Ok(()),
        }
    }

    /// True for whoever ends it.
    pub(super) fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }

    /// May it have one more?
    ///
    /// # Errors
    /// `Limit`.
    pub(super) fn may_hold(&self) -> Result<()> {
        if self.id > MOST_SESSIONS {
            let why = "the store has had 2^32 sessions: open it again for more";
            return Err(Error::new(ErrorKind::Limit, why));
        }
        if self.held.load(Ordering::Acquire) < MOST_HELD {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Limit,
            format!("the session has {MOST_HELD} leases and seals; return some of them first"),
        ))
    }

    pub(super) fn tell(&self, event: Event) {
        self.events.lock().expect("no holder panics").push_back(event);
        if let Some(signal) = self.signal.get() {
            signal.post();
        }
    }

    /// What it was told since the last call, in order.
    pub fn take_events(&self) -> Vec<Event> {
        self.take_some_events(usize::MAX)
    }

    /// The first of them; while there are more the descriptor stays readable.
    pub fn take_some_events(&self, most: usize) -> Vec<Event> {
        let mut events = self.events.lock().expect("no holder panics");
        let taken = most.min(events.len());
        if let Some(signal) = self.signal.get().filter(|_| taken == events.len()) {
            signal.clear();
        }
        events.drain(..taken).collect()
    }

    /// A descriptor that is readable while there are events, and from the next deadline on.
    ///
    /// # Errors
    /// `Limit` when the system gives no descriptors.
    pub fn event_fd(&self) -> Result<BorrowedFd<'_>> {
        let signal = match self.signal.get() {
            Some(signal) => signal,
            None => {
                let made = Signal::new().map_err(Error::from)?;
                let signal = self.signal.get_or_init(|| made);
                // What came before the descriptor was there.
                if !self.events.lock().expect("no holder panics").is_empty() {
                    signal.post();
                }
                signal
            }
        };
        Ok(std::os::fd::AsFd::as_fd(signal))
    }
}

impl Sessions {
    fn all(&self) -> Vec<Arc<SessionCore>> {
        let mut live = self.live.lock().expect("no holder panics");
        live.retain(|_, s| s.strong_count() > 0);
        live.values().filter_map(Weak::upgrade).collect()
    }

    fn make(&self, id: SessionId) -> Arc<SessionCore> {
        let session = SessionCore::new(id);
        self.live.lock().expect("no holder panics").insert(id, Arc::downgrade(&session));
        session
    }

    /// The store's own.
    pub(super) fn default_one(&self) -> Arc<SessionCore> {
        self.default.get_or_init(|| self.make(DEFAULT_SESSION)).clone()
    }

    pub(super) fn find(&self, id: SessionId) -> Option<Arc<SessionCore>> {
        self.live.lock().expect("no holder panics").get(&id).and_then(Weak::upgrade)
    }
}

impl Volume {
    /// The session that the store's own handles belong to.
    pub fn default_session(&self) -> Arc<SessionCore> {
        self.leasing.sessions.default_one()
    }

    /// One more session. It ends when it is told to, or with its last handle.
    pub fn new_session(&self) -> Arc<SessionCore> {
        let id = DEFAULT_SESSION + 1 + self.leasing.sessions.next.fetch_add(1, Ordering::Relaxed);
        self.leasing.sessions.make(id)
    }

    /// Whoever only waits for a descriptor wakes up at this deadline.
    pub(super) fn arm(&self, deadline: u64) {
        for session in self.leasing.sessions.all() {
            if let Some(signal) = session.signal.get() {
                // Past what a clock can tell there is nothing to wake up for.
                let _ = signal.arm(Some(deadline));
            }
        }
    }
}
