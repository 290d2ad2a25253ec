//! Whole parts of a tree: cutting it in two, putting two together, and sharing
//! a range. Each costs a path, whatever the range holds.

use super::node::Child;
use super::share::{Children, OwnedBody, move_child, root_of};
use super::{Body, Fault, Schema, Tree, build, own};
use crate::txn::Txn;

/// Cuts a tree at a key: what starts or lies before it, and the rest.
pub(crate) fn split<S: Schema>(
    txn: &mut Txn<'_>,
    tree: Tree<S>,
    at: &S::Key,
) -> Result<(Tree<S>, Tree<S>), Fault> {
    let Some(root) = tree.root.map(Child::of_root).transpose()?.flatten() else {
        return Ok((Tree::EMPTY, Tree::EMPTY));
    };
    txn.tally_unknown();
    let (l, r) = split_child(txn, root, at)?;
    Ok((Tree { root: root_of(txn, l)? }, Tree { root: root_of(txn, r)? }))
}

fn split_child<S: Schema>(
    txn: &mut Txn<'_>,
    child: Child<S>,
    at: &S::Key,
) -> Result<(Children<S>, Children<S>), Fault> {
    let owned = own(txn, child)?;
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
            if c.first().is_some_and(|c| c.key >= *at) {
                (OwnedBody::Inner(Vec::new()), OwnedBody::Inner(c))
            } else {
                let i = super::lookup::child_index(&c, at);
                let mut r = c.split_off(i + 1);
                let middle = c.pop().expect("the child that holds the key");
                let (ml, mr) = split_child(txn, middle, at)?;
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
        (Some(l), Some(r)) => (Child::of_root(l)?, Child::of_root(r)?),
    };
    let nodes = match (l, r) {
        (Some(l), Some(r)) => join_children(txn, l, r)?,
        (l, r) => l.into_iter().chain(r).collect(),
    };
    Ok(Tree { root: root_of(txn, nodes)? })
}

/// Two subtrees become siblings at the greater of their levels.
fn join_children<S: Schema>(
    txn: &mut Txn<'_>,
    l: Child<S>,
    r: Child<S>,
) -> Result<Children<S>, Fault> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    match l.link.at.level.cmp(&r.link.at.level) {
        Equal => Ok(vec![l, r]),
        Greater => {
            let owned = own(txn, l)?;
            let OwnedBody::Inner(mut c) = owned.body else { unreachable!("level above 0") };
            let last = c.pop().expect("an inner node has a child");
            c.extend(join_children(txn, last, r)?);
            build(txn, owned.addr, owned.level, OwnedBody::Inner(c))
        }
        Less => {
            let owned = own(txn, r)?;
            let OwnedBody::Inner(mut c) = owned.body else { unreachable!("level above 0") };
            let first = c.remove(0);
            let joined = join_children(txn, l, first)?;
            c.splice(0..0, joined);
            build(txn, owned.addr, owned.level, OwnedBody::Inner(c))
        }
    }
}

/// The same tree with all keys moved by so much, modulo 2^64. One node is made
/// anew; who moves keys past what a key can be has checked that before.
pub(crate) fn shift<S: Schema>(
    txn: &mut Txn<'_>,
    tree: Tree<S>,
    by: u64,
) -> Result<Tree<S>, Fault> {
    let Some(mut root) = tree.root.map(Child::of_root).transpose()?.flatten() else {
        return Ok(Tree::EMPTY);
    };
    move_child(&mut root, by);
    Ok(Tree { root: root_of(txn, vec![root])? })
}

/// A tree of its own over `[lo, hi)` of another one, which is not changed:
/// inner subtrees are shared, only the edges are made anew.
pub(crate) fn slice<S: Schema>(
    txn: &mut Txn<'_>,
    tree: &Tree<S>,
    lo: &S::Key,
    hi: &S::Key,
) -> Result<Tree<S>, Fault> {
    let Some(root) = tree.root.clone().map(Child::of_root).transpose()?.flatten() else {
        return Ok(Tree::EMPTY);
    };
    txn.tally_unknown();
    let nodes = slice_child(txn, &root, 0, lo, hi)?;
    Ok(Tree { root: root_of(txn, nodes)? })
}

/// `above`: by how much the keys of the child's parent are moved.
fn slice_child<S: Schema>(
    txn: &mut Txn<'_>,
    child: &Child<S>,
    above: u64,
    lo: &S::Key,
    hi: &S::Key,
) -> Result<Children<S>, Fault> {
    let node = child.node()?;
    let shift = above.wrapping_add(child.shift);
    let body = match &node.body {
        Body::Leaf(e) => {
            let mut out = Vec::new();
            for (k, v) in e {
                let k = S::moved(k, shift);
                if k >= *hi || !S::reaches(&k, v, lo) {
                    continue;
                }
                if let Some((k, mut v)) = S::cut(&k, v, lo, Some(hi)).mid {
                    S::share(txn, &v)?;
                    S::disown(&mut v);
                    out.push((k, v));
                }
            }
            OwnedBody::Leaf(out)
        }
        Body::Inner(c) => {
            let mut out = Vec::new();
            for (i, c) in c.iter().enumerate() {
                let key = S::moved(&c.key, shift);
                let next = node.child_key(i + 1).map(|k| S::moved(k, shift));
                if key >= *hi {
                    break;
                }
                if next.as_ref().is_some_and(|next| next <= lo) {
                    continue;
                }
                if key >= *lo && next.is_some_and(|next| next <= *hi) {
                    txn.raise(c.link.at.addr, 1)?;
                    out.push(Child {
                        key,
                        shift: shift.wrapping_add(c.shift),
                        link: c.link.clone(),
                    });
                } else {
                    out.extend(slice_child(txn, c, shift, lo, hi)?);
                }
            }
            OwnedBody::Inner(out)
        }
    };
    build(txn, 0, child.link.at.level, body)
}
