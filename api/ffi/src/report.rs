//! Who holds what, and what is in flight; giving a lost journal up.

use crate::args::{self, answer, sized};
use crate::fault::{count, status};
use crate::lease::{self, FH_LEASE_HELD, FH_LEASE_RECALLED};
use crate::object::{fh_store, used};
use crate::store::{fh_open_options, open_options};
use freehold::{Discarded, Held, Holding, HoldingState, LeaseInFlight, Store};
use std::ffi::{c_char, c_int};
use std::time::Duration;

/// As a time: there is none.
pub const FH_NO_TIME: u64 = u64::MAX;

/// A lease or a seal of a store.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_holding {
    /// Its number in the store.
    pub id: u64,
    /// Whose it is.
    pub session: u64,
    /// The file's number.
    pub file: u64,
    /// The first byte that it covers.
    pub start: u64,
    /// And the one behind the last; FH_TO_END for a seal to the end.
    pub end: u64,
    /// Of a lease its access, FH_READ and so on; 0 of a seal.
    pub access: u32,
    /// Of a seal its kinds, FH_SEAL_LAYOUT and so on; 0 of a lease.
    pub kinds: u32,
    /// Of a seal: 1 if it can be asked for back.
    pub breakable: u32,
    /// FH_LEASE_HELD and so on.
    pub state: u32,
    /// Nanoseconds that it has been held; FH_NO_TIME for a seal.
    pub age_ns: u64,
    /// Nanoseconds until it is taken; FH_NO_TIME if it was not asked for back.
    pub left_ns: u64,
}

/// What may still reach blocks or memory through one lease.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_lease_in_flight {
    /// The lease's number.
    pub lease: u64,
    /// Whose it is.
    pub session: u64,
    /// The file's number.
    pub file: u64,
    /// Short pins, of threads: those of Rust.
    pub short_pins: u64,
    /// Long pins: those of C among them.
    pub long_pins: u64,
    /// Commands on a device.
    pub io: u64,
    /// Registrations.
    pub registered: u64,
    /// Bytes in quarantine because of it.
    pub quarantine: u64,
    /// Nanoseconds that the lease has been held.
    pub age_ns: u64,
}

/// What giving a journal up loses.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_discarded {
    /// sizeof(struct fh_discarded), set by the caller.
    pub size: u32,
    /// 1 if it was done: the store has its journal in itself now.
    pub done: u32,
    /// The store.
    pub store_id: [u8; 16],
    /// The journal that is given up.
    pub journal_id: [u8; 16],
    /// The checkpoint that the store goes back to.
    pub checkpoint: u64,
    /// The last record of its history that the checkpoint has.
    pub last_record: u64,
    /// 1 if what would have been replayed is known.
    pub known: u32,
    /// 1 if one superblock is damaged: run a check afterwards.
    pub uncertain: u32,
    /// Groups of the journal that are lost.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
}

sized! {
    fh_discarded: records,
}

fn nanos(time: Option<Duration>) -> u64 {
    time.map_or(FH_NO_TIME, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX))
}

fn state(state: HoldingState) -> u32 {
    match state {
        HoldingState::Held { .. } => FH_LEASE_HELD,
        HoldingState::Stale { .. } => lease::FH_LEASE_STALE,
        HoldingState::Recalled { .. } => FH_LEASE_RECALLED,
        HoldingState::Taken { .. } => lease::FH_LEASE_TAKEN,
        HoldingState::Fencing { .. } => lease::FH_LEASE_FENCING,
        HoldingState::Revoked { .. } => lease::FH_LEASE_REVOKED,
    }
}

fn holding(h: Holding) -> fh_holding {
    let (access, kinds, breakable) = match h.what {
        Held::Lease(access) => (lease::number(access), 0, false),
        Held::Seal { kinds, breakable } => (0, kinds.bits().into(), breakable),
    };
    fh_holding {
        id: h.id,
        session: h.session,
        file: h.file,
        start: h.range.0,
        end: h.range.1,
        access,
        kinds,
        breakable: breakable.into(),
        state: state(h.state),
        age_ns: nanos(h.age),
        left_ns: nanos(h.left),
    }
}

fn in_flight(l: LeaseInFlight) -> fh_lease_in_flight {
    fh_lease_in_flight {
        lease: l.lease,
        session: l.session,
        file: l.file,
        short_pins: l.short,
        long_pins: l.long,
        io: l.io,
        registered: l.registered as u64,
        quarantine: l.quarantine,
        age_ns: nanos(Some(l.age)),
    }
}

/// All leases and seals of a store, by their numbers: whose they are, what they cover, how old
/// they are, and where they are in their lives.
///
/// Parameters: `holdings` has room for `room`.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: how many there are, also if that is more than `room`. Or a code.
/// Errors: FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_leases(
    store: *mut fh_store,
    holdings: *mut fh_holding,
    room: usize,
) -> i64 {
    count(|| {
        let all = used(store)?.leases();
        // SAFETY: the caller has so much room.
        unsafe { args::list(holdings, room, all.into_iter().map(holding)) }
    })
}

/// What may reach blocks or memory now, through each lease that is in use: pins, commands,
/// registrations, quarantine.
///
/// Parameters: `leases` has room for `room`. `withheld`, if it is not null, gets the bytes of
/// memory, not blocks, that a device which was lost may still write to, and that nobody uses
/// again.
/// Thread: any. Does not block.
/// Ownership: nothing changes hands.
/// Returns: how many there are, also if that is more than `room`. Or a code.
/// Errors: FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_inflight(
    store: *mut fh_store,
    leases: *mut fh_lease_in_flight,
    room: usize,
    withheld: *mut u64,
) -> i64 {
    count(|| {
        let now = used(store)?.inflight();
        if !withheld.is_null() {
            // SAFETY: the caller gives null or a place for a number.
            unsafe { withheld.write(now.withheld) };
        }
        // SAFETY: the caller has so much room.
        unsafe { args::list(leases, room, now.leases.into_iter().map(in_flight)) }
    })
}

/// Says what is lost when the journal of a store, which is on a medium of its own, is given up;
/// with `force` does so: the store goes back to its newest checkpoint, and has its journal in
/// itself from then on.
///
/// Parameters: `uri` and `options` as for fh_store_open; the store is not open. `force` is 1 to do
/// it, 0 to be told. `discarded` is filled; the caller sets its size before.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for a store whose journal is in itself, and for the right journal, with
/// which the store can be opened; FH_ECORRUPT where there is no checkpoint to go back to; as
/// fh_store_open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_discard_journal(
    uri: *const c_char,
    options: *const fh_open_options,
    force: c_int,
    discarded: *mut fh_discarded,
) -> c_int {
    status(|| {
        // SAFETY: the caller gives a text, null or options, and such a struct.
        unsafe {
            // Before anything is done: can what comes of it be told?
            answer(discarded, told(&Discarded::default()))?;
            let (uri, options) = (args::string(uri, "uri")?, open_options(options)?);
            let done = Store::discard_journal(uri, &options, force != 0)?;
            answer(discarded, told(&done))
        }
    })
}

fn told(d: &Discarded) -> fh_discarded {
    let lost = d.lost.as_ref();
    fh_discarded {
        size: 0,
        done: d.done.into(),
        store_id: d.store_id,
        journal_id: d.journal_id,
        checkpoint: d.checkpoint,
        last_record: d.last_record,
        known: lost.is_some().into(),
        uncertain: d.uncertain.into(),
        groups: lost.map_or(0, |l| l.groups),
        records: lost.map_or(0, |l| l.records),
    }
}
