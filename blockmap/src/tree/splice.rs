//! Replacing a range of keys: the one way to change entries.

use super::drop::drop_link;
use super::node::{Child, SMALL, SPARE};
use super::share::{Children, OwnedBody, root_of};
use super::{Fault, Schema, Tree, build, own};
use crate::format::EntryCodec;
use crate::txn::Txn;
use freehold_engine::rcu;
use smallvec::SmallVec;
use std::ops::Range;

/// Entries that come: mostly one, which needs no memory of its own.
pub(crate) type New<S> = SmallVec<[(<S as EntryCodec>::Key, <S as EntryCodec>::Val); 1]>;

/// What takes the place of entries that a splice touches.
pub(crate) type InPlace<S> = SmallVec<[(<S as EntryCodec>::Key, <S as EntryCodec>::Val); 6]>;

/// Everything with a key in `[lo, hi)`, or the part of it that lies inside,
/// goes, and `new` takes its place.
pub(crate) struct Splice<S: Schema> {
    pub(crate) lo: S::Key,
    /// None: to the end.
    pub(crate) hi: Option<S::Key>,
    /// Ascending, inside the range.
    pub(crate) new: New<S>,
    /// Give up what the removed entries own. False where `new` takes it over.
    pub(crate) release: bool,
}

/// Applies a splice and gives the new tree. A tree that nobody else holds is
/// changed in its place.
pub(crate) fn splice<S: Schema>(
    txn: &mut Txn<'_>,
    tree: Tree<S>,
    s: Splice<S>,
) -> Result<Tree<S>, Fault> {
    let nodes = match tree.root.map(Child::of_root).transpose()?.flatten() {
        None => {
            let mut e = Vec::new();
            edit_entries(txn, &mut e, s)?;
            build(txn, 0, 0, OwnedBody::Leaf(e))?
        }
        Some(root) => splice_child(txn, root, s)?,
    };
    Ok(Tree { root: root_of(txn, nodes)? })
}

fn splice_child<S: Schema>(
    txn: &mut Txn<'_>,
    child: Child<S>,
    s: Splice<S>,
) -> Result<Children<S>, Fault> {
    let mut owned = own(txn, child)?;
    match &mut owned.body {
        OwnedBody::Leaf(e) => edit_entries(txn, e, s)?,
        OwnedBody::Inner(c) => splice_children(txn, c, s)?,
    }
    build(txn, owned.addr, owned.level, owned.body)
}

fn splice_children<S: Schema>(
    txn: &mut Txn<'_>,
    children: &mut Children<S>,
    s: Splice<S>,
) -> Result<(), Fault> {
    let Splice { lo, hi, new, release } = s;
    let a = super::lookup::child_index(children, &lo);
    let b = match &hi {
        None => children.len(),
        Some(h) => children.partition_point(|c| c.key < *h).max(a + 1),
    };
    if b == a + 1 && !new.is_empty() {
        return splice_one(txn, children, a, Splice { lo, hi, new, release });
    }
    // Where the first child behind those begins.
    let behind = children.get(b).map(|c| c.key.clone());
    let touched: Children<S> = children.splice(a..b, []).collect();
    let ends: Vec<Option<S::Key>> =
        touched.iter().skip(1).map(|c| Some(c.key.clone())).chain([behind]).collect();
    let mut new = Some(new);
    let mut result = Vec::new();
    for (child, end) in touched.into_iter().zip(ends) {
        let ends_inside = match (&hi, end) {
            (None, _) => true,
            (Some(h), Some(next)) => next <= *h,
            (Some(_), None) => false,
        };
        let fresh = new.take().unwrap_or_default();
        if child.key >= lo && ends_inside && fresh.is_empty() {
            drop_link(txn, &child.link, release)?;
            continue;
        }
        let part = Splice { lo: lo.clone(), hi: hi.clone(), new: fresh, release };
        result.extend(splice_child(txn, child, part)?);
    }
    let span = a..a + result.len();
    children.splice(a..a, result);
    merge_small(txn, children, span)
}

/// A splice that ends inside one child, as most do.
fn splice_one<S: Schema>(
    txn: &mut Txn<'_>,
    children: &mut Children<S>,
    at: usize,
    s: Splice<S>,
) -> Result<(), Fault> {
    // The last child stands in for it meanwhile.
    let child = children.swap_remove(at);
    let mut made = splice_child(txn, child, s)?;
    let n = made.len();
    if n == 1 {
        children.append(&mut made);
        let end = children.len() - 1;
        children.swap(at, end);
    } else {
        if let Some(last) = children.get(at).cloned() {
            children.push(last);
            children.remove(at);
        }
        children.splice(at..at, made);
    }
    merge_small(txn, children, at..at + n)
}

/// Joins a node that the splice left small with a neighbour, where both fit
/// well into one block, the neighbour is in memory and belongs to nobody else.
fn merge_small<S: Schema>(
    txn: &mut Txn<'_>,
    children: &mut Children<S>,
    span: Range<usize>,
) -> Result<(), Fault> {
    for i in span.clone().rev() {
        if i >= children.len() || children.len() < 2 {
            continue;
        }
        let size = |c: &Child<S>| c.link.peek(&rcu::reading()).map(|n| n.bytes());
        let Some(mine) = size(&children[i]).filter(|n| *n < SMALL) else { continue };
        let left = if i > 0 { i - 1 } else { i };
        let other = if left == i { i + 1 } else { left };
        let Some(theirs) = size(&children[other]) else { continue };
        let limit = crate::format::header::PAYLOAD * 3 / 4;
        if mine + theirs > limit || (S::SHARED && txn.count(children[other].link.at.addr)? > 1) {
            continue;
        }
        // What the splice built is of this generation and has one parent.
        let second = own(txn, children.remove(left + 1))?;
        let first = own(txn, children.remove(left))?;
        let body = match (first.body, second.body) {
            (OwnedBody::Leaf(mut x), OwnedBody::Leaf(y)) => {
                x.extend(y);
                OwnedBody::Leaf(x)
            }
            (OwnedBody::Inner(mut x), OwnedBody::Inner(y)) => {
                x.extend(y);
                OwnedBody::Inner(x)
            }
            _ => return Err(Fault::corrupt(S::WHAT, first.addr, "siblings of unlike height")),
        };
        txn.free(second.addr, 1)?;
        let merged = build(txn, first.addr, first.level, body)?;
        children.splice(left..left, merged);
    }
    Ok(())
}

/// The splice inside one list of entries.
fn edit_entries<S: Schema>(
    txn: &mut Txn<'_>,
    entries: &mut Vec<(S::Key, S::Val)>,
    s: Splice<S>,
) -> Result<(), Fault> {
    let (range, window) = edited(txn, entries, s)?;
    // Little more room than it takes: leaves stay as long as the map does.
    let grown = window.len().saturating_sub(range.len());
    if entries.len() + grown > entries.capacity() {
        entries.reserve_exact(grown + SPARE);
    }
    entries.splice(range, window);
    Ok(())
}

/// Which of the entries a splice replaces, and what by: neighbours are merged where they fit.
pub(crate) fn edited<S: Schema>(
    txn: &mut Txn<'_>,
    entries: &[(S::Key, S::Val)],
    s: Splice<S>,
) -> Result<(Range<usize>, InPlace<S>), Fault> {
    let mut a = entries.partition_point(|(k, _)| *k < s.lo);
    if a > 0 && S::reaches(&entries[a - 1].0, &entries[a - 1].1, &s.lo) {
        a -= 1;
    }
    let b = match &s.hi {
        None => entries.len(),
        Some(h) => entries.partition_point(|(k, _)| k < h).max(a),
    };
    let (mut left, mut right) = (None, None);
    for (k, v) in &entries[a..b] {
        let cut = S::cut(k, v, &s.lo, s.hi.as_ref());
        // The first entry alone can reach below, and the last one beyond.
        left = left.or(cut.left);
        right = cut.right.or(right);
        if let Some((k, v)) = cut.mid {
            txn.tally::<S>(&k, &v, -1);
            if s.release {
                S::release(txn, &v)?;
            }
        }
    }
    s.new.iter().for_each(|(k, v)| txn.tally::<S>(k, v, 1));
    let from = a.saturating_sub(1);
    let to = (b + 1).min(entries.len());
    let mut window: InPlace<S> = entries[from..a].iter().cloned().collect();
    for e in left.into_iter().chain(s.new).chain(right).chain(entries[b..to].iter().cloned()) {
        match window.last().and_then(|last| S::merge(last, &e)) {
            Some(joined) => *window.last_mut().expect("just looked at it") = joined,
            None => window.push(e),
        }
    }
    txn.tally_entries::<S>(window.len() as i64 - (to - from) as i64);
    Ok((from..to, window))
}
