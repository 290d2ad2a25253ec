//! Which session waits for which, over all files of the store.
//!
//! Every operation that waits, by its ticket, has an edge from its session to each
//! session that it waits for, and each edge has its cause. It goes with that: not when the
//! operation wakes and finds out, or else a session that gave back what it was asked for and
//! asks anew would close a circle with somebody who does not wait for it any more.
//! Invariant: there is no cycle of two sessions or more. An
//! edge that would close one is refused, so of a cycle it is the operation that came
//! last that learns of it. Operations of one session may wait for one another: they
//! do so in the order of their tickets, which has no cycles.

use super::kinds::{Id, SessionId};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// To wait would close a cycle of waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WouldDeadlock {
    /// The session that waits, by way of others, for the one that asked.
    pub holder: SessionId,
}

/// Why an operation waits for a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A lease or seal of the session's is in the way.
    Held(Id),
    /// An operation of the session's, by its ticket, comes first.
    Turn(u64),
}

/// An edge: for whom, and why.
pub type Edge = (SessionId, Cause);

/// The graph.
#[derive(Debug, Default)]
pub struct Waits {
    tickets: BTreeMap<u64, (SessionId, SmallVec<[Edge; 2]>)>,
    /// (waiting session, ticket)
    waiters: BTreeSet<(SessionId, u64)>,
    /// (cause, ticket)
    causes: BTreeSet<(Cause, u64)>,
}

impl Waits {
    /// An operation of a session begins to wait for others, in place of those that it
    /// waited for before.
    ///
    /// # Errors
    /// `WouldDeadlock` if one of them waits for this session, however indirectly. Then
    /// nothing is changed.
    pub fn add(
        &mut self,
        ticket: u64,
        waiter: SessionId,
        holders: &[Edge],
    ) -> Result<(), WouldDeadlock> {
        let mut others: SmallVec<[Edge; 2]> =
            holders.iter().copied().filter(|(holder, _)| *holder != waiter).collect();
        others.sort_unstable();
        others.dedup();
        let closes = others.iter().find(|(holder, _)| self.leads(ticket, *holder, waiter));
        if let Some(&(holder, _)) = closes {
            return Err(WouldDeadlock { holder });
        }
        self.remove(ticket);
        if !others.is_empty() {
            self.waiters.insert((waiter, ticket));
            self.causes.extend(others.iter().map(|(_, cause)| (*cause, ticket)));
            self.tickets.insert(ticket, (waiter, others));
        }
        Ok(())
    }

    /// The operation waits no longer. Others may wait for their turn behind it.
    pub fn remove(&mut self, ticket: u64) {
        if let Some((waiter, holders)) = self.tickets.remove(&ticket) {
            self.waiters.remove(&(waiter, ticket));
            for (_, cause) in holders {
                self.causes.remove(&(cause, ticket));
            }
        }
    }

    /// Nobody waits for this any more, whether he knows it yet or not.
    pub fn over(&mut self, cause: Cause) {
        let range = self.causes.range((cause, 0)..=(cause, u64::MAX));
        let tickets: SmallVec<[u64; 4]> = range.map(|(_, ticket)| *ticket).collect();
        for ticket in tickets {
            self.causes.remove(&(cause, ticket));
            let Some((waiter, holders)) = self.tickets.get_mut(&ticket) else { continue };
            holders.retain(|(_, other)| *other != cause);
            if holders.is_empty() {
                self.waiters.remove(&(*waiter, ticket));
                self.tickets.remove(&ticket);
            }
        }
    }

    /// No operation waits.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty() && self.causes.is_empty()
    }

    /// A session waits for another, the edges of one ticket left out.
    fn leads(&self, except: u64, from: SessionId, to: SessionId) -> bool {
        let mut seen = BTreeSet::from([from]);
        let mut next = vec![from];
        while let Some(at) = next.pop() {
            if at == to {
                return true;
            }
            let tickets = self.waiters.range((at, 0)..=(at, u64::MAX));
            for (_, ticket) in tickets.filter(|(_, ticket)| *ticket != except) {
                let Some((_, holders)) = self.tickets.get(ticket) else { continue };
                let holders = holders.iter().map(|(holder, _)| *holder);
                next.extend(holders.filter(|holder| seen.insert(*holder)));
            }
        }
        false
    }
}
