//! Whole parts of a tree: cutting it in two, putting two together, and sharing
//! a range. Each costs a path, whatever the range holds.

use super::share::{Children, OwnedBody, root_of};
use super::{Body, Fault, Link, Schema, Tree, build, own};
use crate::txn::Txn;
use std::sync::Arc;

/// Cuts a tree at a key: what starts or lies before it, and the rest.
pub(crate) fn split<S: Schema>(
    txn: &mut Txn<'_>,
    tree: &Tree<S>,
    at: &S::Key,
) -> Result<(Tree<S>, Tree<S>), Fault> {
    let Some(root) = &tree.root else { return Ok((Tree::EMPTY, Tree::EMPTY)) };
    txn.tally_unknown();
    let (l, r) = split_link(txn, root, at)?;
    Ok((Tree { root: root_of(txn, l)? }, Tree { root: root_of(txn, r)? }))
}

fn split_link<S: Schema>(
    txn: &mut Txn<'_>,
    link: &Arc<Link<S>>,
    at: &S::Key,
) -> Result<(Children<S>, Children<S>), Fault> {
    let owned = own(txn, link)?;
    let (left, right) = match owned.body {
        OwnedBody::Leaf(e) => {
            let (mut l, mut r) = (Vec::new(), Vec::new());
            for (k, v) in e {
                if k >= *at {
                    r.push((k, v));
                    continue;
                }
                // The entry starts before the cut; a run may reach past it.
                let cut = S::cut(&k, &v, at, None);
                if S::reaches(&k, &v, at) {
                    l.extend(cut.left);
                    r.extend(cut.mid);
                } else {
                    l.push((k, v));
                }
            }
            (OwnedBody::Leaf(l), OwnedBody::Leaf(r))
        }
        OwnedBody::Inner(mut c) => {
            if c.first().is_some_and(|(k, _)| k >= at) {
                (OwnedBody::Inner(Vec::new()), OwnedBody::Inner(c))
            } else {
                let i = super::lookup::child_index(&c, at);
                let mut r = c.split_off(i + 1);
                let (_, middle) = c.pop().expect("the child that holds the key");
                let (ml, mr) = split_link(txn, &middle, at)?;
                c.extend(ml);
                r.splice(0..0, mr);
                (OwnedBody::Inner(c), OwnedBody::Inner(r))
            }
        }
    };
    let l = build(txn, owned.addr, owned.level, left)?;
    let r = build(txn, 0, owned.level, right)?;
    Ok((l, r))
}

/// Puts two trees together; every key of the left is before every key of the right.
pub(crate) fn join<S: Schema>(
    txn: &mut Txn<'_>,
    left: Tree<S>,
    right: Tree<S>,
) -> Result<Tree<S>, Fault> {
    let (l, r) = match (left.root, right.root) {
        (None, root) | (root, None) => return Ok(Tree { root }),
        (Some(l), Some(r)) => (l, r),
    };
    let key = |l: &Arc<Link<S>>| -> Result<S::Key, Fault> {
        l.get()?.first_key().cloned().ok_or_else(|| Fault::corrupt(S::WHAT, l.at.addr, "empty"))
    };
    let (lk, rk) = (key(&l)?, key(&r)?);
    let nodes = join_links(txn, (lk, l), (rk, r))?;
    Ok(Tree { root: root_of(txn, nodes)? })
}

/// Two subtrees become siblings at the greater of their levels.
fn join_links<S: Schema>(
    txn: &mut Txn<'_>,
    l: (S::Key, Arc<Link<S>>),
    r: (S::Key, Arc<Link<S>>),
) -> Result<Children<S>, Fault> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match l.1.at.level.cmp(&r.1.at.level) {
        Equal => Ok(vec![l, r]),
        Greater => {
            let owned = own(txn, &l.1)?;
            let OwnedBody::Inner(mut c) = owned.body else { unreachable!("level above 0") };
            let last = c.pop().expect("an inner node has a child");
            c.extend(join_links(txn, last, r)?);
            build(txn, owned.addr, owned.level, OwnedBody::Inner(c))
        }
        Less => {
            let owned = own(txn, &r.1)?;
            let OwnedBody::Inner(mut c) = owned.body else { unreachable!("level above 0") };
            let first = c.remove(0);
            let joined = join_links(txn, l, first)?;
            c.splice(0..0, joined);
            build(txn, owned.addr, owned.level, OwnedBody::Inner(c))
        }
    }
}

/// A tree of its own over `[lo, hi)` of another one, which is not changed:
/// inner subtrees are shared, only the edges are made anew.
pub(crate) fn slice<S: Schema>(
    txn: &mut Txn<'_>,
    tree: &Tree<S>,
    lo: &S::Key,
    hi: &S::Key,
) -> Result<Tree<S>, Fault> {
    let Some(root) = &tree.root else { return Ok(Tree::EMPTY) };
    txn.tally_unknown();
    let nodes = slice_link(txn, root, lo, hi)?;
    Ok(Tree { root: root_of(txn, nodes)? })
}

fn slice_link<S: Schema>(
    txn: &mut Txn<'_>,
    link: &Arc<Link<S>>,
    lo: &S::Key,
    hi: &S::Key,
) -> Result<Children<S>, Fault> {
    let node = link.get()?;
    let body = match &node.body {
        Body::Leaf(e) => {
            let mut out = Vec::new();
            for (k, v) in e.iter().filter(|(k, v)| k < hi && S::reaches(k, v, lo)) {
                if let Some((k, mut v)) = S::cut(k, v, lo, Some(hi)).mid {
                    S::share(txn, &v)?;
                    S::disown(&mut v);
                    out.push((k, v));
                }
            }
            OwnedBody::Leaf(out)
        }
        Body::Inner(c) => {
            let a = super::lookup::child_index(c, lo);
            let mut out = Vec::new();
            for i in a..c.len() {
                let (k, l) = &c[i];
                if k >= hi {
                    break;
                }
                let inside = k >= lo && c.get(i + 1).is_some_and(|(next, _)| next <= hi);
                if inside {
                    txn.raise(l.at.addr, 1)?;
                    out.push((k.clone(), l.clone()));
                } else {
                    out.extend(slice_link(txn, l, lo, hi)?);
                }
            }
            OwnedBody::Inner(out)
        }
    };
    build(txn, 0, link.at.level, body)
}
