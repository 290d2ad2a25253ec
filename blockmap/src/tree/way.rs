//! A look-up on its way down, one level at a time.

use super::lookup::Hit;
use super::node::{Body, Child, Kept};
use super::{Fault, Link, Schema};
use freehold_engine::rcu::Reading;
use std::sync::Arc;

/// Where a look-up is. What it has found stays for as long as the reading goes on.
pub(super) struct Way<'a, S: Schema> {
    /// None when it is at its end.
    link: Option<&'a Arc<Link<S>>>,
    /// None before it has arrived there.
    node: Option<&'a Kept<S>>,
    /// What the node's parent says of it; none for a root.
    from: Option<&'a Child<S>>,
    /// What is looked for, counted as the node counts.
    key: S::Key,
    /// By how much the node's keys are moved.
    shift: u64,
    /// Between which numbers they lie, if it is known.
    bounds: Option<(u64, u64)>,
    /// Where in the node the key may be.
    guess: usize,
}

/// Where a look-up has ended: the entry, if there is one, in its leaf.
pub(super) struct End<'a, S: Schema> {
    entry: Option<&'a (S::Key, S::Val)>,
    shift: u64,
    stamp: u64,
}

impl<S: Schema> End<'_, S> {
    /// The entry as the tree counts, and its leaf's stamp.
    pub(super) fn hit(self) -> Option<Hit<S>> {
        self.entry.map(|(k, v)| (S::moved(k, self.shift), v.clone(), self.stamp))
    }
}

impl<'a, S: Schema> Way<'a, S> {
    /// Begins at the root.
    pub(super) fn to(link: &'a Arc<Link<S>>, key: S::Key) -> Self {
        Way { link: Some(link), node: None, from: None, key, shift: 0, bounds: None, guess: 0 }
    }

    /// Is there a node yet to be looked at?
    pub(super) fn is_open(&self) -> bool {
        self.link.is_some()
    }

    /// It goes no further.
    pub(super) fn close(&mut self) {
        (self.link, self.node) = (None, None);
    }

    /// Finds the node, and asks for it.
    #[inline]
    pub(super) fn arrive(&mut self, reading: &'a Reading) -> Result<(), Fault> {
        let Some(link) = self.link else { return Ok(()) };
        let node = link.peek(reading).ok_or_else(|| Fault::Missing(link.clone()))?;
        node.prefetch();
        self.node = Some(node);
        Ok(())
    }

    /// Guesses where in the node the key is, and asks for that.
    #[inline]
    pub(super) fn aim(&mut self) {
        match self.node.map(|n| &n.body) {
            Some(Body::Leaf(e)) => {
                self.guess = S::guess(e, |(k, _)| k, &self.key, self.bounds);
                S::prefetch(e, self.guess);
            }
            Some(Body::Inner(c)) => {
                self.guess = S::guess(c, |c| &c.key, &self.key, self.bounds);
                S::prefetch(c, self.guess);
            }
            None => {}
        }
    }

    /// Goes down by one level, to the link. Where it ends, if this was a leaf or the key
    /// is before all.
    pub(super) fn step(&mut self) -> Result<Option<End<'a, S>>, Fault> {
        let Some(node) = self.node.take() else { return Ok(None) };
        if let Some(child) = self.from {
            child.check(node)?;
        }
        let end = |entry| Ok(Some(End { entry, shift: self.shift, stamp: node.stamp }));
        match &node.body {
            Body::Leaf(e) => {
                let i = S::after(e, |(k, _)| k, &self.key, self.guess);
                end(i.checked_sub(1).map(|i| &e[i]))
            }
            Body::Inner(c) => {
                let i = S::after(c, |c| &c.key, &self.key, self.guess).saturating_sub(1);
                let child = &c[i];
                if child.key > self.key {
                    return end(None);
                }
                child.link.prefetch();
                let next = c.get(i + 1).map(|c| S::number(&c.key));
                let next = next.or(self.bounds.map(|(_, hi)| hi));
                // Moved back by as much, a key is counted as the child does.
                let back = child.shift.wrapping_neg();
                self.bounds = next
                    .map(|hi| (S::number(&child.key).wrapping_add(back), hi.wrapping_add(back)));
                self.shift = self.shift.wrapping_add(child.shift);
                self.key = S::moved(&self.key, back);
                self.from = Some(child);
                self.link = Some(&child.link);
                Ok(None)
            }
        }
    }
}
