//! Which session waits for which, over all files of the store.
//!
//! Every operation that waits, by its ticket, has an edge from its session to each
//! session that it waits for. Invariant: there is no cycle of two sessions or more. An
//! edge that would close one is refused, so of a cycle it is the operation that came
//! last that learns of it. Operations of one session may wait for one another: they
//! do so in the order of their tickets, which has no cycles.

use super::kinds::SessionId;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// To wait would close a cycle of waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WouldDeadlock {
    /// The session that waits, by way of others, for the one that asked.
    pub holder: SessionId,
}

/// The graph.
#[derive(Debug, Default)]
pub struct Waits {
    tickets: BTreeMap<u64, (SessionId, SmallVec<[SessionId; 2]>)>,
    /// (waiting session, ticket)
    waiters: BTreeSet<(SessionId, u64)>,
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
        holders: &[SessionId],
    ) -> Result<(), WouldDeadlock> {
        let mut others: SmallVec<[SessionId; 2]> =
            holders.iter().copied().filter(|holder| *holder != waiter).collect();
        others.sort_unstable();
        others.dedup();
        let closes = others.iter().find(|holder| self.leads(ticket, **holder, waiter));
        if let Some(&holder) = closes {
            return Err(WouldDeadlock { holder });
        }
        self.remove(ticket);
        if !others.is_empty() {
            self.waiters.insert((waiter, ticket));
            self.tickets.insert(ticket, (waiter, others));
        }
        Ok(())
    }

    /// The operation waits no longer.
    pub fn remove(&mut self, ticket: u64) {
        if let Some((waiter, _)) = self.tickets.remove(&ticket) {
            self.waiters.remove(&(waiter, ticket));
        }
    }

    /// No operation waits.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
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
                next.extend(holders.iter().copied().filter(|holder| seen.insert(*holder)));
            }
        }
        false
    }
}
