//! Who holds what: for `leases`, `inflight`, and messages.

use super::Volume;
use super::guards::Table;
use super::lease::LeaseCore;
use super::write::B;
use crate::arbiter::{Entry, Held, Id, SessionId, State};
use crate::format::types::FileId;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A lease or a seal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holding {
    /// Its number in the store.
    pub id: Id,
    /// Whose it is.
    pub session: SessionId,
    /// The file's number.
    pub file: FileId,
    /// First byte and the one behind the last; of a seal `u64::MAX` for "to the end".
    pub range: (u64, u64),
    /// What it is.
    pub what: Held,
    /// Where it is in its life.
    pub state: State,
    /// How long it has been held; seals: nothing.
    pub age: Option<Duration>,
    /// Until it is taken, if it was asked for back.
    pub left: Option<Duration>,
}

/// What may still reach blocks or memory of the store.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct InFlight {
    /// What goes through leases, by their numbers; those that nothing goes through are not
    /// among them.
    pub leases: Vec<LeaseInFlight>,
    /// Bytes of memory, not blocks, that a device which was lost may still write to, and
    /// that nobody uses again (law M4).
    pub withheld: u64,
}

/// What may still reach blocks or memory through one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseInFlight {
    /// The lease that it goes through.
    pub lease: Id,
    /// Whose it is.
    pub session: SessionId,
    /// The file's number.
    pub file: FileId,
    /// Pins of threads.
    pub short: u64,
    /// Pins that were sent or kept, `Bytes` among them.
    pub long: u64,
    /// Commands on a device.
    pub io: u64,
    /// Registrations.
    pub registered: usize,
    /// Bytes in quarantine because of it.
    pub quarantine: u64,
    /// How long the lease has been held.
    pub age: Duration,
}

impl InFlight {
    /// Nothing reaches anything: no lease is in use, and no memory withheld.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty() && self.withheld == 0
    }
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Holding { id, session, file, range: (start, end), what, state, age, left } = self;
        match what {
            Held::Lease(access) => write!(f, "{access:?} lease {id}")?,
            Held::Seal { kinds, .. } => write!(f, "seal {id} ({kinds:?})")?,
        }
        match *end {
            u64::MAX => write!(f, " of session {session} on file {file} from byte {start} on")?,
            end => write!(f, " of session {session} on bytes {start}..{end} of file {file}")?,
        }
        if let Some(age) = age {
            write!(f, ", held for {age:.1?}")?;
        }
        match (state, left) {
            (State::Held { .. }, _) => Ok(()),
            (_, Some(left)) => write!(f, ", asked for back, {left:.1?} left"),
            (State::Stale { .. }, _) => f.write_str(", out of date"),
            (State::Fencing { .. }, _) => f.write_str(", being fenced"),
            (state, _) => write!(f, ", {state:?}"),
        }
    }
}

impl Volume {
    /// All leases and seals, by their numbers.
    pub fn holdings(&self) -> Vec<Holding> {
        let now = super::clock();
        let mut out = Vec::new();
        for file in self.files_in_memory() {
            let of = |t: &Table| {
                let entries = t.arbiter.leases().chain(t.arbiter.seals());
                entries.map(|e| (e, t.lease(e.holder.id))).collect::<Vec<_>>()
            };
            let found = file.guards.look(of).unwrap_or_default();
            out.extend(found.into_iter().map(|(e, lease)| holding(lease, file.id, e, now)));
        }
        out.sort_unstable_by_key(|h: &Holding| h.id);
        out
    }

    /// What is in use now: pins, commands, registrations, quarantine; and memory that a
    /// lost device has.
    pub fn inflight(&self) -> InFlight {
        InFlight { leases: self.leases_in_flight(), withheld: self.withheld() }
    }

    fn leases_in_flight(&self) -> Vec<LeaseInFlight> {
        let kept: Vec<_> = {
            let kept = self.leasing.kept.lock().expect("no holder panics");
            kept.iter().map(|k| (k.lease().clone(), k.bytes())).collect()
        };
        let mut leases: Vec<_> = self.all_leases().into_iter().map(|l| (l, 0)).collect();
        leases.retain(|(l, _)| kept.iter().all(|(k, _)| !Arc::ptr_eq(k, l)));
        leases.extend(kept);
        let now = super::clock();
        let mut out: Vec<LeaseInFlight> = Vec::new();
        for (lease, quarantine) in leases {
            let c = lease.pins().counts();
            let what = LeaseInFlight {
                lease: lease.id(),
                session: lease.session().id(),
                file: lease.file_id(),
                short: c.short + u64::from(c.exclusive),
                long: c.long,
                io: c.io + lease.commands(),
                registered: lease.layout().registered().len(),
                quarantine,
                age: Duration::from_nanos(now.saturating_sub(lease.since())),
            };
            if what.short + what.long + what.io + quarantine > 0 || what.registered > 0 {
                out.push(what);
            }
        }
        out.sort_unstable_by_key(|w| w.lease);
        out
    }
}

fn holding(lease: Option<Arc<LeaseCore>>, file: FileId, e: Entry, now: u64) -> Holding {
    let id = e.holder.id;
    let left = match e.state {
        State::Recalled { deadline, .. } => {
            Some(Duration::from_nanos(deadline.saturating_sub(now)))
        }
        _ => None,
    };
    Holding {
        id,
        session: e.holder.session,
        file,
        range: (e.holder.span.start.saturating_mul(B), e.holder.span.end.saturating_mul(B)),
        what: e.holder.held,
        state: e.state,
        age: lease.map(|l| Duration::from_nanos(now.saturating_sub(l.since()))),
        left,
    }
}
