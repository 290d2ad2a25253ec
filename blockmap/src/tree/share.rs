//! Making a node changeable: in the same block, in a new block, or as a copy
//! of a shared one. Laws B1 and B2 as far as nodes are concerned.

use super::node::{Body, Child, inner_len};
use super::{Fault, Kept, Link, Node, Schema};
use crate::format::header::PAYLOAD;
use crate::format::types::{Addr, NodeRef};
use crate::txn::Txn;
use smallvec::SmallVec;
use std::sync::Arc;

/// A node taken apart, to be changed and built again.
pub(crate) struct Owned<S: Schema> {
    /// The block that the first node built from this gets.
    pub(crate) addr: Addr,
    pub(crate) level: u8,
    pub(crate) body: OwnedBody<S>,
}

pub(crate) enum OwnedBody<S: Schema> {
    Leaf(Vec<(S::Key, S::Val)>),
    Inner(Children<S>),
}

pub(crate) type Children<S> = Vec<Child<S>>;

/// Takes a node for changing. What it holds is given as its parent counts: the
/// shift is applied, and what is built from it has none.
///
/// A shared node is left to its other parents: the copy adds one parent to
/// each child, and the original loses one. A node of an older checkpoint moves
/// to a new block. A leaf older than its file's last sharing forgets what it
/// owned, because somebody else may own it too (law B1). A node that the same
/// transaction made, and so nobody else has, is taken as it is, without a copy.
pub(crate) fn own<S: Schema>(txn: &mut Txn<'_>, child: Child<S>) -> Result<Owned<S>, Fault> {
    let node = child.node()?;
    let Child { shift, link, .. } = child;
    txn.reads(link.at.generation);
    // What was made since the file's last sharing has had one parent ever since.
    let ours = !S::SHARED || node.stamp >= txn.file_share_gen;
    let shared = !ours && txn.count(link.at.addr)? > 1;
    if !ours && !shared && txn.settled(link.at.addr, 1) == 0 {
        hold_down(txn, &node.body);
    }
    let addr = if shared {
        let addr = txn.alloc_node()?;
        hand_down(txn, &node.body)?;
        txn.lower(link.at.addr, 1)?;
        addr
    } else if link.at.generation == txn.generation {
        link.at.addr
    } else {
        let addr = txn.alloc_node()?;
        txn.free(link.at.addr, 1)?;
        addr
    };
    let disown =
        S::SHARED && (shared || node.stamp < txn.file_share_gen) && !txn.sabotage("keep-own-bits");
    let level = link.at.level;
    let mut body = taken(link, node);
    match &mut body {
        OwnedBody::Leaf(e) => {
            if disown {
                e.iter_mut().for_each(|(_, v)| S::disown(v));
            }
            if shift != 0 {
                e.iter_mut().for_each(|(k, _)| *k = S::moved(k, shift));
            }
        }
        OwnedBody::Inner(c) if shift != 0 => c.iter_mut().for_each(|c| move_child(c, shift)),
        OwnedBody::Inner(_) => {}
    }
    Ok(Owned { addr, level, body })
}

/// A subtree moves along the keys.
pub(super) fn move_child<S: Schema>(c: &mut Child<S>, by: u64) {
    c.key = S::moved(&c.key, by);
    c.shift = c.shift.wrapping_add(by);
}

/// What a node holds: itself where nobody else has it, else a copy.
fn taken<S: Schema>(link: Arc<Link<S>>, node: Arc<Kept<S>>) -> OwnedBody<S> {
    let unpack = |body| match body {
        Body::Leaf(e) => OwnedBody::Leaf(e),
        Body::Inner(c) => OwnedBody::Inner(c),
    };
    let Some(held) = Arc::into_inner(link).and_then(Link::into_node) else {
        return unpack(node.body.roomy());
    };
    drop(held);
    match Arc::try_unwrap(node) {
        Ok(node) => unpack(node.into_node().body),
        Err(node) => unpack(node.body.roomy()),
    }
}

/// The node's count was lowered by a record that is not durable, and the node
/// gives way to others: what it says of its children's owners must outlive it.
/// (Else its successor's path looks clean, and a crash brings back an owner whose
/// blocks were overwritten in place.)
fn hold_down<S: Schema>(txn: &mut Txn<'_>, body: &Body<S>) {
    match body {
        Body::Leaf(e) => e.iter().for_each(|(_, v)| S::hold(txn, v)),
        Body::Inner(c) => c.iter().for_each(|c| txn.hold(c.link.at.addr, 1)),
    }
}

/// Each child of a copied node has one parent more.
fn hand_down<S: Schema>(txn: &mut Txn<'_>, body: &Body<S>) -> Result<(), Fault> {
    match body {
        Body::Leaf(e) => e.iter().try_for_each(|(_, v)| S::share(txn, v)),
        Body::Inner(c) => c.iter().try_for_each(|c| txn.raise(c.link.at.addr, 1)),
    }
}

/// Builds nodes of one level from what a node was changed into: none if it is
/// empty, several if it no longer fits. The first takes `addr` (0: none to reuse).
pub(crate) fn build<S: Schema>(
    txn: &mut Txn<'_>,
    addr: Addr,
    level: u8,
    body: OwnedBody<S>,
) -> Result<Children<S>, Fault> {
    let mut spare = (addr != 0).then_some(addr);
    let mut out = Vec::with_capacity(1);
    match body {
        OwnedBody::Leaf(e) => {
            for part in chunk(e, |(k, v)| S::entry_len(k, v)) {
                let key = part[0].0.clone();
                let node = Node { stamp: txn.stamp::<S>(), body: Body::Leaf(part) };
                out.push(Child::here(key, place(txn, &mut spare, level, node)?));
            }
        }
        OwnedBody::Inner(c) => {
            for part in chunk(c, |c| inner_len::<S>(&c.key)) {
                let key = part[0].key.clone();
                let node = Node { stamp: txn.stamp::<S>(), body: Body::Inner(part) };
                out.push(Child::here(key, place(txn, &mut spare, level, node)?));
            }
        }
    }
    if let Some(addr) = spare {
        txn.free(addr, 1)?;
    }
    Ok(out)
}

fn place<S: Schema>(
    txn: &mut Txn<'_>,
    spare: &mut Option<Addr>,
    level: u8,
    node: Node<S>,
) -> Result<Arc<Link<S>>, Fault> {
    let addr = match spare.take() {
        Some(a) => a,
        None => txn.alloc_node()?,
    };
    Ok(Link::fresh(txn.cache(), NodeRef { addr, generation: txn.generation, level }, node))
}

/// Leaves of a map that has outgrown its file's record.
pub(crate) fn build_leaf<S: Schema>(
    txn: &mut Txn<'_>,
    entries: Vec<(S::Key, S::Val)>,
) -> Result<Children<S>, Fault> {
    build(txn, 0, 0, OwnedBody::Leaf(entries))
}

/// Adds levels until one node is left, or takes away levels that have one child.
/// A root stands where it counts from: it has no shift.
pub(crate) fn root_of<S: Schema>(
    txn: &mut Txn<'_>,
    mut nodes: Children<S>,
) -> Result<Option<Arc<Link<S>>>, Fault> {
    while nodes.len() > 1 {
        let level = nodes[0].link.at.level + 1;
        nodes = build(txn, 0, level, OwnedBody::Inner(nodes))?;
    }
    let Some(root) = nodes.pop() else { return Ok(None) };
    let mut root = settle(txn, root)?;
    while root.at.level > 0 && root.at.generation == txn.generation {
        // A shared root belongs to others as it is.
        if S::SHARED && txn.count(root.at.addr)? > 1 {
            break;
        }
        let node = root.get()?;
        let Body::Inner(c) = &node.body else { break };
        let [only] = c.as_slice() else { break };
        let only = only.clone();
        if S::SHARED && txn.settled(root.at.addr, 1) == 0 {
            txn.hold(only.link.at.addr, 1);
        }
        txn.free(root.at.addr, 1)?;
        root = settle(txn, only)?;
    }
    Ok(Some(root))
}

/// The node of a child, made anew if its keys are moved.
fn settle<S: Schema>(txn: &mut Txn<'_>, child: Child<S>) -> Result<Arc<Link<S>>, Fault> {
    if child.shift == 0 {
        return Ok(child.link);
    }
    let owned = own(txn, child)?;
    let mut nodes = build(txn, owned.addr, owned.level, owned.body)?;
    // It was one node, and moving it changes no sizes.
    nodes.pop().map(|c| c.link).ok_or_else(|| Fault::corrupt(S::WHAT, owned.addr, "empty"))
}

/// Cuts a list into blocks' worth of about equal size. A list that grew at its
/// end, as under appends, leaves full nodes behind instead of half-full ones.
fn chunk<T>(items: Vec<T>, len: impl Fn(&T) -> usize) -> SmallVec<[Vec<T>; 1]> {
    let total: usize = items.iter().map(&len).sum();
    if items.is_empty() {
        return SmallVec::new();
    }
    if total <= PAYLOAD {
        return SmallVec::from_buf([items]);
    }
    let parts = total.div_ceil(PAYLOAD);
    let goal = if parts == 2 { total * 2 / 3 } else { total / parts + 1 };
    let goal = goal.min(PAYLOAD);
    let mut out = SmallVec::with_capacity(parts + 1);
    let (mut part, mut used) = (Vec::new(), 0);
    for item in items {
        let n = len(&item);
        if used + n > PAYLOAD || (used >= goal && !part.is_empty()) {
            out.push(std::mem::take(&mut part));
            used = 0;
        }
        used += n;
        part.push(item);
    }
    out.push(part);
    out
}
