//! Delegates: leases that come from another lease.
//!
//! A delegate is a lease of its own, with a holder of its own. Against the leases that it
//! comes from it never conflicts; against others that come from the same first lease it
//! conflicts as leases of one session do. An Exclusive lease gives no pins while it has
//! delegates. A delegate whose parent goes belongs to the parent's parent.

use super::file::FileArbiter;
use super::held::Phase;
use super::intervals::Node;
use super::kinds::{Access, Change, Held, Id, Refusal, Request, SessionId};
use super::table::{Cell, verdict};
use std::collections::{BTreeMap, BTreeSet};

/// Who comes from whom. Leases that neither delegate nor are delegated are not in it.
#[derive(Debug, Default)]
pub(super) struct Family {
    parents: BTreeMap<Id, Id>,
    /// (parent, child)
    children: BTreeSet<(Id, Id)>,
}

impl Family {
    pub(super) fn add(&mut self, parent: Id, child: Id) {
        self.parents.insert(child, parent);
        self.children.insert((parent, child));
    }

    /// Takes a lease out; its delegates go to its parent, which is returned.
    pub(super) fn remove(&mut self, id: Id) -> Option<Id> {
        let parent = self.parents.remove(&id);
        if let Some(parent) = parent {
            self.children.remove(&(parent, id));
        }
        let children: Vec<Id> = self.children(id).collect();
        for child in children {
            self.children.remove(&(id, child));
            match parent {
                Some(parent) => self.add(parent, child),
                None => drop(self.parents.remove(&child)),
            }
        }
        parent
    }

    pub(super) fn parent(&self, id: Id) -> Option<Id> {
        self.parents.get(&id).copied()
    }

    pub(super) fn children(&self, id: Id) -> impl Iterator<Item = Id> {
        self.children.range((id, 0)..=(id, Id::MAX)).map(|(_, child)| *child)
    }

    /// A lease, the one that it comes from, and so on.
    fn line(&self, id: Id) -> impl Iterator<Item = Id> {
        std::iter::successors(Some(id), |id| self.parent(*id))
    }

    fn first(&self, id: Id) -> Id {
        self.line(id).last().unwrap_or(id)
    }
}

/// A lease can give this access on.
fn gives(parent: Access, child: Access) -> bool {
    matches!(
        (parent, child),
        (Access::Exclusive, _) | (_, Access::Read) | (Access::Write, Access::Write)
    ) || parent == child
}

impl FileArbiter {
    /// Why a lease cannot be delegated or refreshed, if it cannot.
    pub(super) fn barred(&self, r: &Request) -> Option<Refusal> {
        let id = match r.change {
            Change::Delegate { parent, .. } => parent,
            Change::Refresh { lease, .. } => lease,
            _ => return None,
        };
        let node = self.held.get(id).filter(|node| node.is_lease());
        let Some(node) = node else {
            let recalled = self.notes.contains_key(&id);
            return Some(if recalled { Refusal::Ended(id) } else { Refusal::NoLease(id) });
        };
        let Held::Lease(has) = node.held() else { return Some(Refusal::NoLease(id)) };
        let inside = |span: &super::kinds::Span| span.common(node.span) == *span;
        let fits = match r.change {
            Change::Delegate { access, .. } => gives(has, access),
            _ => node.session() == r.session,
        };
        match node.phase() {
            Phase::Recalled | Phase::Fencing => Some(Refusal::Recalled(node.holder())),
            _ if !fits || !r.spans.iter().filter(|s| !s.is_empty()).all(inside) => {
                Some(Refusal::NoLease(id))
            }
            _ => None,
        }
    }

    /// What a change does about a lease or seal that it meets, kinship included.
    pub(super) fn cell(&self, session: SessionId, change: Change, part: Held, node: &Node) -> Cell {
        let own = node.session() == session;
        match change {
            Change::Refresh { lease, .. } if lease == node.id => Cell::On,
            Change::Delegate { parent, .. } if !node.is_lease() => {
                // Who holds the parent acts, for the session that asks.
                let acts = self.held.get(parent).map(Node::session);
                verdict(change, part, own || acts == Some(node.session()))
            }
            Change::Delegate { parent, .. } => {
                if self.family.line(parent).any(|id| id == node.id) {
                    return Cell::On;
                }
                if self.family.first(parent) != self.family.first(node.id) {
                    return verdict(change, part, own);
                }
                match verdict(change, part, true) {
                    Cell::Take | Cell::Refresh if !own => Cell::Recall,
                    cell => cell,
                }
            }
            _ => verdict(change, part, own),
        }
    }

    /// The lease gives no pins: it is Exclusive and has delegates.
    pub fn suspended(&self, id: Id) -> bool {
        let exclusive = |node: &Node| node.held() == Held::Lease(Access::Exclusive);
        self.held.get(id).is_some_and(exclusive) && self.family.children(id).next().is_some()
    }

    /// The lease that this one is a delegate of.
    pub fn parent(&self, id: Id) -> Option<Id> {
        self.family.parent(id)
    }

    /// The delegates of a lease, those of delegates not included.
    pub fn delegates(&self, id: Id) -> impl Iterator<Item = Id> {
        self.family.children(id)
    }

    /// The sequence number of a lease grows because its delegates have changed.
    pub(super) fn touch(&mut self, id: Id) {
        if let Some(node) = self.held.get_mut(id)
            && matches!(node.phase(), Phase::Held | Phase::Stale)
        {
            node.go(node.phase());
        }
    }

    /// A delegate may not be later than this: the first deadline of the leases that it
    /// comes from.
    pub(super) fn deadline_above(&self, id: Id) -> u64 {
        let above = self.family.line(id).skip(1);
        let deadlines = above.filter_map(|id| self.pending.get(&id).map(|p| p.deadline));
        deadlines.min().unwrap_or(u64::MAX)
    }
}
