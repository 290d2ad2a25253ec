//! A file's arbiter: what is granted and sealed, and what it tells about that.
//!
//! A file has one while there is a lease, a seal or a claim on it.

use super::claims::{Claimant, Claims};
use super::family::Family;
use super::held::{self, Entry, Phase, State};
use super::intervals::{Intervals, Node};
use super::kinds::{Access, Change, Held, Id, Kinds, Request, SessionId, Span};
use super::recall::{Note, Pending};
use bitflags::bitflags;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};

/// A lease that is granted.
#[derive(Debug, Clone, Copy)]
pub struct LeaseEntry {
    /// Which it is.
    pub id: Id,
    /// Whose it is; a number of at most 32 bits.
    pub session: SessionId,
    /// What it lets its holder do.
    pub access: Access,
    /// Where.
    pub span: Span,
    /// The first sequence number; 0 counts as 1.
    pub seq: u64,
    /// How long the holder may keep a pin, in nanoseconds. Kept in milliseconds, rounded
    /// up, and 65 seconds at most.
    pub max_hold_ns: u64,
    /// The lease that it is a delegate of.
    pub parent: Option<Id>,
}

/// A seal that is set.
#[derive(Debug, Clone, Copy)]
pub struct SealEntry {
    /// Which it is.
    pub id: Id,
    /// Whose it is.
    pub session: SessionId,
    /// What it keeps from happening; implied kinds are added.
    pub kinds: Kinds,
    /// Where. Kinds of the file hold wherever this is.
    pub span: Span,
    /// It can be recalled.
    pub breakable: bool,
}

/// Why a seal was not cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotCleared {
    /// There is no such seal.
    Unknown,
    /// It is this session's.
    Of(SessionId),
}

bitflags! {
    /// What must ask the arbiter of a file; what is not named need not. Grants and seals
    /// always ask.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// Whatever takes a range: changes of the map or of the size, and writes of parts
        /// of blocks.
        const MAP = 1;
        /// Overwrites of whole blocks in place.
        const WRITES = 2;
        /// Reads.
        const READS = 4;
        /// No write may be deferred into the journal.
        const HOME = 8;
    }
}

/// What is held of one file, and who waits for it.
#[derive(Debug, Default)]
pub struct FileArbiter {
    pub(super) held: Intervals,
    pub(super) sessions: Sessions,
    pub(super) family: Family,
    pub(super) pending: BTreeMap<Id, Pending>,
    /// Deadlines of what is pending, in order.
    pub(super) due: BTreeSet<(u64, Id)>,
    /// Leases that were taken or revoked and not acknowledged.
    pub(super) notes: BTreeMap<Id, Note>,
    pub(super) claims: Claims,
}

impl FileArbiter {
    /// A file of which nothing is held.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a lease out, after `admit` said `Go`. The sequence number of the lease that it
    /// is a delegate of grows. False, and nothing is changed, if the id is in use, the
    /// span is empty, the parent is gone, or the session's number is too great.
    pub fn grant(&mut self, lease: LeaseEntry) -> bool {
        if lease.parent.is_some_and(|parent| !self.is_lease(parent)) {
            return false;
        }
        let Some(mut node) = Node::new(lease.id, lease.session, lease.span) else { return false };
        node.begin(Held::Lease(lease.access), lease.seq, lease.max_hold_ns);
        if !self.add(node) {
            return false;
        }
        self.notes.remove(&lease.id);
        if let Some(parent) = lease.parent {
            self.family.add(parent, lease.id);
            self.touch(parent);
        }
        true
    }

    /// Sets a seal, after `admit` said `Go`. False, and nothing is changed, if the id is in
    /// use, there are no kinds, the span is empty and the kinds are not all of the file, or the
    /// session's number is too great.
    pub fn seal(&mut self, seal: SealEntry) -> bool {
        let kinds = seal.kinds.expanded() & Kinds::all();
        let of_file = Kinds::OF_FILE.contains(kinds);
        let span = if of_file { Span::WHOLE } else { seal.span };
        let Some(mut node) = Node::new(seal.id, seal.session, span) else { return false };
        node.begin(Held::Seal { kinds, breakable: seal.breakable }, 1, 0);
        !kinds.is_empty() && self.add(node)
    }

    /// Clears a seal of the session.
    ///
    /// # Errors
    /// There is no such seal, or it is another session's.
    pub fn clear(&mut self, id: Id, session: SessionId) -> Result<(), NotCleared> {
        match self.held.get(id) {
            Some(node) if node.is_lease() => Err(NotCleared::Unknown),
            Some(node) if node.session() != session => Err(NotCleared::Of(node.session())),
            Some(_) => {
                self.drop_node(id);
                Ok(())
            }
            None => Err(NotCleared::Unknown),
        }
    }

    /// A small number of a lease, its own as long as it stands in the way of others, then
    /// another's; none for what is no lease.
    pub fn slot(&self, id: Id) -> Option<u32> {
        let slot = self.held.slot(id)?;
        self.is_lease(id).then_some(slot)
    }

    /// Where a lease or seal is in its life; none if it is not known.
    pub fn state(&self, id: Id) -> Option<State> {
        if let Some(node) = self.held.get(id) {
            return Some(self.state_of(node));
        }
        self.notes.get(&id).map(Note::state)
    }

    pub(super) fn state_of(&self, node: &Node) -> State {
        let seq = node.seq();
        match node.phase() {
            Phase::Held => State::Held { seq },
            Phase::Stale => State::Stale { seq },
            Phase::Recalled => {
                let deadline = self.pending.get(&node.id).map_or(0, |p| p.deadline);
                State::Recalled { seq, deadline }
            }
            Phase::Fencing => State::Fencing { seq },
        }
    }

    /// Whose a lease or seal is and where it lies, for messages and for `Waits`.
    pub fn entry(&self, id: Id) -> Option<Entry> {
        self.held.get(id).map(|node| self.entry_of(node))
    }

    fn entry_of(&self, node: &Node) -> Entry {
        Entry { holder: node.holder(), state: self.state_of(node) }
    }

    /// The leases that stand in the way of others, in no order.
    pub fn leases(&self) -> impl Iterator<Item = Entry> {
        self.held.iter().filter(|node| node.is_lease()).map(|node| self.entry_of(node))
    }

    /// The seals, in no order.
    pub fn seals(&self) -> impl Iterator<Item = Entry> {
        self.held.iter().filter(|node| !node.is_lease()).map(|node| self.entry_of(node))
    }

    /// The operations that wait or are under way, the oldest first.
    pub fn claims(&self) -> impl Iterator<Item = Claimant> {
        self.claims.report()
    }

    /// The session of a listed operation, for `Waits`.
    pub fn claimant(&self, ticket: u64) -> Option<SessionId> {
        self.claims.session(ticket)
    }

    /// What must ask, because of what is held or of grants and seals that are listed. Any
    /// call that may change the arbiter may change it, `admit` too.
    pub fn flags(&self) -> Flags {
        let held = self.held.lanes().map(held::held);
        let coming = self.claims.coming().map(|(_, held)| held);
        held.chain(coming).fold(Flags::empty(), |flags, held| flags | flags_of(held))
    }

    /// Nothing is held and nobody waits. Notes of what was taken or revoked do not count:
    /// the holder's own state word remembers those.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.claims.is_empty()
    }

    /// Lists a change of an operation that waits, so that new grants and seals queue behind
    /// it. `admit` does that itself where it makes one wait. Without a ticket nothing is
    /// done. One ticket may have several changes, each listed by itself.
    pub fn wait(&mut self, r: &Request) {
        let makes = self.makes(r.change);
        self.claims.put(r, makes, 0, false);
    }

    /// Lists a change of an operation that goes: what was decided stands until it leaves.
    /// Grants and seals that conflict with it wait; if it is a grant or a seal itself, so
    /// do operations that conflict with that (a WRITE seal that drains keeps new
    /// writers out with it).
    pub fn begin(&mut self, r: &Request) {
        let makes = self.makes(r.change);
        self.claims.put(r, makes, 0, true);
    }

    /// The operation waits no longer and is not under way, with all its changes. Whoever was
    /// listed leaves, whatever became of it.
    pub fn leave(&mut self, ticket: u64) {
        self.claims.leave(ticket);
    }

    /// What a change leaves behind: for a lease that is refreshed, itself.
    pub(super) fn makes(&self, change: Change) -> Option<Held> {
        match change {
            Change::Grant { access, .. } | Change::Delegate { access, .. } => {
                Some(Held::Lease(access))
            }
            Change::Refresh { lease, .. } => self.held.get(lease).map(Node::held),
            Change::Seal { kinds, breakable } => {
                Some(Held::Seal { kinds: kinds.expanded(), breakable })
            }
            _ => None,
        }
    }

    pub(super) fn is_lease(&self, id: Id) -> bool {
        self.held.get(id).is_some_and(Node::is_lease)
    }

    fn add(&mut self, node: Node) -> bool {
        let lane = node.lane();
        let (session, column) = (node.session(), column(lane));
        let added = self.held.insert(lane, node);
        if added {
            self.sessions.add(session, column);
        }
        added
    }

    /// Takes a lease or seal out with all that is known of it, its family apart.
    pub(super) fn drop_node(&mut self, id: Id) -> Option<Node> {
        let lane = self.held.get(id)?.lane();
        let node = self.held.remove(lane, id)?;
        self.forget_deadline(id);
        self.sessions.remove(node.session(), column(lane));
        Some(node)
    }

    pub(super) fn forget_deadline(&mut self, id: Id) {
        if let Some(pending) = self.pending.remove(&id) {
            self.due.remove(&(pending.deadline, id));
        }
    }
}

/// How many leases of each access, and how many seals, each session has of the file. In
/// the order of sessions; mostly there is one, and it takes no memory of its own.
#[derive(Debug, Default)]
pub(super) struct Sessions(SmallVec<[(SessionId, [u32; 5]); 1]>);

impl Sessions {
    fn place(&self, session: SessionId) -> Result<usize, usize> {
        self.0.binary_search_by_key(&session, |(session, _)| *session)
    }

    fn add(&mut self, session: SessionId, column: usize) {
        let at = self.place(session).unwrap_or_else(|at| {
            self.0.insert(at, (session, [0; 5]));
            at
        });
        self.0[at].1[column] += 1;
    }

    fn remove(&mut self, session: SessionId, column: usize) {
        let Ok(at) = self.place(session) else { return };
        let counts = &mut self.0[at].1;
        counts[column] = counts[column].saturating_sub(1);
        if *counts == [0; 5] {
            self.0.remove(at);
        }
    }

    /// What a session has of the file.
    pub(super) fn of(&self, session: SessionId) -> [u32; 5] {
        self.place(session).map_or([0; 5], |at| self.0[at].1)
    }
}

/// The column of `Sessions` in which a lane is counted.
pub(super) fn column(lane: u8) -> usize {
    match held::held(lane) {
        Held::Lease(access) => access as usize,
        Held::Seal { .. } => 4,
    }
}

fn flags_of(held: Held) -> Flags {
    let lease = Flags::MAP | Flags::HOME;
    match held {
        Held::Lease(Access::Read | Access::Write) => lease,
        Held::Lease(Access::Stable) => lease | Flags::WRITES,
        Held::Lease(Access::Exclusive) => Flags::all(),
        Held::Seal { kinds, .. } => {
            let mut flags = Flags::empty();
            flags.set(Flags::MAP, kinds != Kinds::SEAL);
            flags.set(Flags::HOME, kinds.contains(Kinds::LAYOUT));
            flags.set(Flags::WRITES, kinds.intersects(Kinds::WRITE | Kinds::FUTURE_WRITE));
            flags
        }
    }
}
