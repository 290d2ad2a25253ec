//! Recall, return, fence: the life of a lease after its grant.
//!
//! Nothing happens by itself. The caller asks for what is overdue and begins its fence;
//! it says when the fence is done.

use super::claims::parts;
use super::file::FileArbiter;
use super::held::{Phase, State};
use super::intervals::Node;
use super::kinds::{Change, Held, Id, Ids, Request, SessionId, Span};
use super::table::Cell;

/// A recall that is not answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pending {
    pub(super) deadline: u64,
    /// When it was recalled, and what the holder was given, in nanoseconds.
    at: u64,
    grace: u64,
    /// Its fence has failed: it ends all the same, and is never held again.
    overdue: bool,
}

/// A lease that was taken or revoked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    session: SessionId,
    seq: u64,
    revoked: bool,
}

impl Note {
    pub(super) fn state(&self) -> State {
        let seq = self.seq;
        if self.revoked { State::Revoked { seq } } else { State::Taken { seq } }
    }
}

/// What a recall found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recall {
    /// Nothing by that id that could be recalled: that counts as answered.
    Gone,
    /// It is recalled now.
    Asked {
        /// The sequence number.
        seq: u64,
        /// When it is over, in nanoseconds of the caller's clock.
        deadline: u64,
        /// Its delegates that were recalled with it, or have less time than they had.
        delegates: Ids,
    },
    /// It was recalled before; the deadline stays.
    Pending {
        /// The sequence number.
        seq: u64,
        /// When it is over.
        deadline: u64,
    },
    /// It is being fenced: that ends by itself.
    Fencing {
        /// The sequence number.
        seq: u64,
    },
}

/// What the end of a lease has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Nothing by that id, or it cannot end so.
    Nothing,
    /// It goes when its fence is done.
    Later,
    /// It stands in nobody's way any more. If it was a delegate, the sequence number of
    /// the lease that it came from has grown.
    Gone(Option<Id>),
}

/// What a partial return has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    /// Nothing by that id, or it cannot be returned in part any more.
    Nothing,
    /// Nothing was kept: it is returned wholly.
    All(End),
    /// This is left of it.
    Kept {
        /// The range.
        span: Span,
        /// `Held` again if nobody wants what is left; else recalled as before, with more
        /// time if something was given back.
        state: State,
    },
}

/// What the beginning of a fence has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Nothing by that id, or its fence has begun already.
    Nothing,
    /// A breakable seal of this session: it is cleared, and nothing is to be fenced.
    Cleared(SessionId),
    /// A lease, with its sequence number: to be fenced, then `revoked`.
    Begun(u64),
}

impl FileArbiter {
    /// Asks for a lease or a breakable seal back. The deadline is `now` and the lease time
    /// and, for a lease, what its holder declared, and never later than that of the lease
    /// that it is a delegate of. Delegates are recalled with it.
    pub fn recall(&mut self, id: Id, now: u64, lease_time_ns: u64) -> Recall {
        let Some(node) = self.held.get(id) else { return Recall::Gone };
        if matches!(node.held(), Held::Seal { breakable: false, .. }) {
            return Recall::Gone;
        }
        match self.state_of(node) {
            State::Recalled { seq, deadline } => return Recall::Pending { seq, deadline },
            State::Fencing { seq } => return Recall::Fencing { seq },
            _ => {}
        }
        let (seq, deadline) = self.ask(id, now, lease_time_ns);
        let mut delegates = Ids::new();
        let mut next: Vec<Id> = self.family.children(id).collect();
        while let Some(child) = next.pop() {
            next.extend(self.family.children(child));
            let above = self.deadline_above(child);
            match self.state(child) {
                Some(State::Held { .. } | State::Stale { .. }) => {
                    self.ask(child, now, lease_time_ns);
                }
                Some(State::Recalled { deadline, .. }) if deadline > above => {
                    self.set_deadline(child, above);
                }
                _ => continue,
            }
            delegates.push(child);
        }
        Recall::Asked { seq, deadline, delegates }
    }

    /// A lease that is recalled for this may still be flushed: not all that it covers is
    /// taken away, so that a dirty buffer is worth waiting for.
    pub fn may_flush(&self, r: &Request, id: Id) -> bool {
        let removes = matches!(r.change, Change::Cut | Change::ReflinkOnto);
        let Some(node) = self.held.get(id).filter(|node| node.is_lease()) else { return false };
        !(removes && r.spans.iter().any(|span| node.span.common(*span) == node.span))
    }

    /// Makes a lease or seal Recalled.
    fn ask(&mut self, id: Id, now: u64, lease_time_ns: u64) -> (u64, u64) {
        let above = self.deadline_above(id);
        let Some(node) = self.held.get_mut(id) else { return (0, 0) };
        let grace = lease_time_ns.saturating_add(node.hold_ns());
        let deadline = now.saturating_add(grace).min(above);
        let seq = node.go(Phase::Recalled);
        self.pending.insert(id, Pending { deadline, at: now, grace, overdue: false });
        self.due.insert((deadline, id));
        (seq, deadline)
    }

    fn set_deadline(&mut self, id: Id, deadline: u64) {
        if let Some(pending) = self.pending.get_mut(&id) {
            self.due.remove(&(pending.deadline, id));
            pending.deadline = deadline;
            self.due.insert((deadline, id));
        }
    }

    /// Takes a recall back if no listed operation wants the lease or seal any more, and no
    /// fence of it has begun: its new sequence number.
    pub fn withdraw(&mut self, id: Id) -> Option<u64> {
        let recalled = self.held.get(id).is_some_and(|node| node.phase() == Phase::Recalled);
        if !recalled || self.is_overdue(id) || self.wanted(id) {
            return None;
        }
        self.forget_deadline(id);
        self.held.get_mut(id).map(|node| node.go(Phase::Held))
    }

    /// Its fence has failed.
    fn is_overdue(&self, id: Id) -> bool {
        self.pending.get(&id).is_some_and(|p| p.overdue)
    }

    /// What is recalled and might be withdrawn: in the order of their numbers, so that a
    /// lease comes before its delegates.
    pub fn recalled(&self) -> Ids {
        self.pending.keys().copied().collect()
    }

    /// A listed operation waits for a lease or seal, or for one that it is a delegate of.
    fn wanted(&self, id: Id) -> bool {
        let Some(node) = self.held.get(id) else { return false };
        let waits = |cell| !matches!(cell, Cell::On | Cell::Round | Cell::Refresh);
        self.claims.iter().any(|(_, claim)| {
            let meets = claim.spans.iter().any(|span| span.overlaps(node.span));
            parts(node.held()).into_iter().flatten().any(|(part, of_file)| {
                (meets || of_file) && waits(self.cell(claim.session, claim.change, part, node))
            })
        }) || self
            .family
            .parent(id)
            .filter(|parent| self.pending.contains_key(parent))
            .is_some_and(|parent| self.is_overdue(parent) || self.wanted(parent))
    }

    /// The holder gives a lease back, or acknowledges that it was taken or revoked. One
    /// that is being fenced goes when that is done.
    pub fn returned(&mut self, id: Id) -> End {
        if self.notes.remove(&id).is_some() {
            return End::Gone(None);
        }
        let Some(node) = self.held.get_mut(id).filter(|node| node.is_lease()) else {
            return End::Nothing;
        };
        if node.phase() == Phase::Fencing {
            node.leave_alone();
            return End::Later;
        }
        self.end(id, None)
    }

    /// A lease that nothing uses is taken, with no word from its holder, who finds it
    /// `Taken`. One that is being fenced may end so, too, if the last use has ended.
    pub fn take(&mut self, id: Id) -> End {
        if !self.is_lease(id) {
            return End::Nothing;
        }
        self.end(id, Some(false))
    }

    /// The fence of a lease is done: its holder finds it `Revoked`.
    pub fn revoked(&mut self, id: Id) -> End {
        let fencing = self.held.get(id).is_some_and(|node| node.phase() == Phase::Fencing);
        if !fencing {
            return End::Nothing;
        }
        self.end(id, Some(true))
    }

    /// A lease stands in nobody's way any more; what its holder is to find, if anything.
    fn end(&mut self, id: Id, revoked: Option<bool>) -> End {
        let Some(node) = self.drop_node(id) else { return End::Nothing };
        if let Some(revoked) = revoked
            && !node.is_alone()
        {
            let note = Note { session: node.session(), seq: node.seq() + 1, revoked };
            self.notes.insert(id, note);
        }
        let parent = self.family.remove(id);
        if let Some(parent) = parent {
            self.touch(parent);
        }
        End::Gone(parent)
    }

    /// The holder gives a part of a lease back and keeps one range of it, at `now`. That
    /// counts as progress: the grace begins anew, but it ends no later than twice the
    /// grace after the recall.
    pub fn partial(&mut self, id: Id, keep: Span, now: u64) -> Partial {
        let above = self.deadline_above(id);
        let Some(node) = self.held.get(id).filter(|node| node.is_lease()).copied() else {
            return Partial::Nothing;
        };
        let span = keep.common(node.span);
        if node.phase() == Phase::Fencing {
            return Partial::Nothing;
        }
        if span.is_empty() {
            return Partial::All(self.returned(id));
        }
        if span != node.span {
            self.held.resize(node.lane(), id, span);
            if let Some(node) = self.held.get_mut(id) {
                node.go(node.phase());
            }
            if let Some(&Pending { deadline, at, grace, .. }) = self.pending.get(&id) {
                let latest = at.saturating_add(grace.saturating_mul(2));
                let renewed = now.saturating_add(grace).min(latest).min(above);
                self.set_deadline(id, renewed.max(deadline));
            }
        }
        self.withdraw(id);
        let state = self.held.get(id).map(|node: &Node| self.state_of(node));
        state.map_or(Partial::Nothing, |state| Partial::Kept { span, state })
    }

    /// A lease that is held becomes stale: it stands in the way of others as before, and
    /// its holder refreshes it before the next use. Its sequence number, unless it is
    /// recalled or gone.
    pub fn stale(&mut self, id: Id) -> Option<u64> {
        let node = self.held.get_mut(id).filter(|node| node.is_lease())?;
        match node.phase() {
            Phase::Held => Some(node.go(Phase::Stale)),
            Phase::Stale => Some(node.seq()),
            Phase::Recalled | Phase::Fencing => None,
        }
    }

    /// A lease that is held or stale is good again, with a new layout and a new sequence
    /// number, which is returned; none if it is recalled or gone.
    pub fn refresh(&mut self, id: Id) -> Option<u64> {
        let node = self.held.get_mut(id).filter(|node| node.is_lease())?;
        match node.phase() {
            Phase::Held | Phase::Stale => Some(node.go(Phase::Held)),
            Phase::Recalled | Phase::Fencing => None,
        }
    }

    /// The fence of a lease begins, at its deadline or because its session has ended. A
    /// breakable seal that was recalled is cleared.
    pub fn fencing(&mut self, id: Id) -> Fence {
        let Some(node) = self.held.get_mut(id) else { return Fence::Nothing };
        if !node.is_lease() {
            let session = node.session();
            if node.phase() != Phase::Recalled {
                return Fence::Nothing;
            }
            self.drop_node(id);
            return Fence::Cleared(session);
        }
        if node.phase() == Phase::Fencing {
            return Fence::Nothing;
        }
        let seq = node.go(Phase::Fencing);
        self.forget_deadline(id);
        Fence::Begun(seq)
    }

    /// A fence did not come to its end: the lease is recalled as before, its time over.
    pub fn unfence(&mut self, id: Id, now: u64) {
        let Some(node) = self.held.get_mut(id).filter(|n| n.phase() == Phase::Fencing) else {
            return;
        };
        node.go(Phase::Recalled);
        self.pending.insert(id, Pending { deadline: now, at: now, grace: 0, overdue: true });
        self.due.insert((now, id));
    }

    /// What was recalled and has not been given back in time, the longest overdue first.
    pub fn overdue(&self, now: u64) -> impl Iterator<Item = Id> {
        self.due.range(..=(now, Id::MAX)).map(|(_, id)| *id)
    }

    /// When something will be overdue next.
    pub fn next_deadline(&self) -> Option<u64> {
        self.due.first().map(|(deadline, _)| *deadline)
    }

    /// A session has ended: its seals, its claims and what it had not acknowledged are
    /// gone, and its leases are to be fenced at once. They are returned, Fencing, and go
    /// without a note when they are `revoked`.
    pub fn end_session(&mut self, session: SessionId) -> Vec<Id> {
        self.claims.end_session(session);
        self.notes.retain(|_, note| note.session != session);
        if self.sessions.of(session) == [0; 5] {
            return Vec::new();
        }
        let of_session = self.held.iter().filter(|node| node.session() == session);
        let (leases, seals): (Vec<&Node>, Vec<&Node>) = of_session.partition(|n| n.is_lease());
        let [mut leases, seals] =
            [leases, seals].map(|of| of.iter().map(|n| n.id).collect::<Vec<Id>>());
        for id in seals {
            self.drop_node(id);
        }
        leases.sort_unstable();
        for id in &leases {
            self.fencing(*id);
            if let Some(node) = self.held.get_mut(*id) {
                node.leave_alone();
            }
        }
        leases
    }
}
