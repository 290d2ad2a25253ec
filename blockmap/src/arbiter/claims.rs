//! Operations that wait for this file, or are under way on it.
//!
//! A claim *waits* until nothing is in its way, or it *goes*: what was decided for it
//! stands until it leaves. Two claims conflict if one is a grant or a seal that the
//! other would meet in the table. The younger one waits for the older, so that neither a
//! row of grants can starve an operation nor the reverse, and whoever comes waits for
//! those that go, whatever their age. Operations never wait for one another here.
//!
//! Grants and seals look at all claims, and others do so while a grant or a seal is
//! listed: in time that grows with the operations that programs wait for.

use super::kinds::{Change, Held, Kinds, Request, SessionId, Span};
use super::table::{Cell, verdict};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// An operation that waits or is under way, for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claimant {
    /// Its age: smaller is older.
    pub ticket: u64,
    /// Whose it is.
    pub session: SessionId,
    /// What it does.
    pub change: Change,
    /// When `admit` first made it wait, in nanoseconds of the caller's clock; 0 if it
    /// never did.
    pub since: u64,
    /// It is under way and does not wait.
    pub going: bool,
}

#[derive(Debug)]
pub(super) struct Claim {
    pub(super) session: SessionId,
    pub(super) change: Change,
    pub(super) spans: SmallVec<[Span; 1]>,
    /// What it leaves behind.
    pub(super) makes: Option<Held>,
    since: u64,
    going: bool,
}

/// The list, by ticket. An operation that is several changes has a claim for each.
#[derive(Debug, Default)]
pub(super) struct Claims {
    list: BTreeMap<u64, SmallVec<[Claim; 1]>>,
    /// How many of them are grants or seals. Where there are none, other operations need
    /// not look.
    makers: usize,
}

impl Claims {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Lists a change of an operation, in place of what is listed of the same change.
    pub(super) fn put(&mut self, r: &Request, makes: Option<Held>, since: u64, going: bool) {
        if r.ticket == 0 {
            return;
        }
        let spans = r.spans.iter().copied().filter(|span| !span.is_empty()).collect();
        let (session, change) = (r.session, r.change);
        let mut claim = Claim { session, change, spans, makes, since, going };
        self.makers += usize::from(makes.is_some());
        let claims = self.list.entry(r.ticket).or_default();
        match claims.iter_mut().find(|claim| claim.change == r.change) {
            Some(before) => {
                claim.since = if before.since == 0 { since } else { before.since };
                self.makers -= usize::from(before.makes.is_some());
                *before = claim;
            }
            None => claims.push(claim),
        }
    }

    /// The change is listed, and under way.
    pub(super) fn goes(&self, r: &Request) -> bool {
        let claims = self.list.get(&r.ticket).into_iter().flatten();
        claims.into_iter().any(|claim| claim.change == r.change && claim.going)
    }

    pub(super) fn leave(&mut self, ticket: u64) {
        let claims = self.list.remove(&ticket).into_iter().flatten();
        self.makers -= claims.filter(|claim| claim.makes.is_some()).count();
    }

    pub(super) fn end_session(&mut self, session: SessionId) {
        self.list.retain(|_, claims| {
            claims.retain(|claim| claim.session != session);
            !claims.is_empty()
        });
        self.makers = self.iter().filter(|(_, claim)| claim.makes.is_some()).count();
    }

    pub(super) fn session(&self, ticket: u64) -> Option<SessionId> {
        self.list.get(&ticket)?.first().map(|claim| claim.session)
    }

    /// All claims, the oldest first, with their tickets.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Claim)> {
        self.list.iter().flat_map(|(ticket, claims)| claims.iter().map(|c| (*ticket, c)))
    }

    pub(super) fn report(&self) -> impl Iterator<Item = Claimant> {
        self.iter().map(|(ticket, c)| Claimant {
            ticket,
            session: c.session,
            change: c.change,
            since: c.since,
            going: c.going,
        })
    }

    /// What grants and seals will leave behind.
    pub(super) fn coming(&self) -> impl Iterator<Item = (&Claim, Held)> {
        let claims = self.iter().take(if self.makers > 0 { usize::MAX } else { 0 });
        claims.filter_map(|(_, claim)| Some((claim, claim.makes?)))
    }

    /// The first claim that this request must queue behind.
    pub(super) fn before(&self, r: &Request, makes: Option<Held>) -> Option<u64> {
        if makes.is_none() && self.makers == 0 {
            return None;
        }
        let others = self.iter().filter(|(ticket, claim)| {
            *ticket != r.ticket && (r.ticket == 0 || *ticket < r.ticket || claim.going)
        });
        let mut conflicts = others.filter(|(_, claim)| {
            let own = claim.session == r.session;
            let meets = |change, held| meets(change, &claim.spans, held, r.spans, own);
            makes.is_some_and(|held| meets(claim.change, held))
                || claim.makes.is_some_and(|held| meets(r.change, held))
        });
        conflicts.next().map(|(ticket, _)| ticket)
    }
}

/// A change of some spans has to do with something held over other spans.
fn meets(change: Change, spans: &[Span], held: Held, over: &[Span], own: bool) -> bool {
    let overlap = || spans.iter().any(|a| over.iter().any(|b| a.overlaps(*b)));
    let conflicts = |part| verdict(change, part, own) != Cell::On;
    parts(held)
        .into_iter()
        .flatten()
        .any(|(part, of_file)| conflicts(part) && (of_file || overlap()))
}

/// A seal has a part that holds wherever it lies and a part that holds in its range.
pub(super) fn parts(held: Held) -> [Option<(Held, bool)>; 2] {
    match held {
        Held::Lease(_) => [Some((held, false)), None],
        Held::Seal { kinds, breakable } => {
            let part = |kinds: Kinds, of_file| {
                (!kinds.is_empty()).then_some((Held::Seal { kinds, breakable }, of_file))
            };
            [part(kinds - Kinds::OF_FILE, false), part(kinds & Kinds::OF_FILE, true)]
        }
    }
}
