//! Making a node changeable: in the same block, in a new block, or as a copy
//! of a shared one. Laws B1 and B2 as far as nodes are concerned.

use super::node::{Body, inner_len};
use super::{Fault, Link, Node, Schema};
use crate::format::header::PAYLOAD;
use crate::format::types::{Addr, NodeRef};
use crate::txn::Txn;
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

pub(crate) type Children<S> = Vec<(<S as crate::format::EntryCodec>::Key, Arc<Link<S>>)>;

/// Takes a node for changing.
///
/// A shared node is left to its other parents: the copy adds one parent to
/// each child, and the original loses one. A node of an older checkpoint moves
/// to a new block. A leaf older than its file's last sharing forgets what it
/// owned, because somebody else may own it too (law B1).
pub(crate) fn own<S: Schema>(txn: &mut Txn<'_>, link: &Arc<Link<S>>) -> Result<Owned<S>, Fault> {
    let node = link.get()?;
    txn.reads(link.at.generation);
    let shared = S::SHARED && txn.count(link.at.addr)? > 1;
    let mut body = match &node.body {
        Body::Leaf(e) => OwnedBody::Leaf(e.clone()),
        Body::Inner(c) => OwnedBody::Inner(c.clone()),
    };
    if S::SHARED && !shared && txn.settled(link.at.addr, 1) == 0 {
        hold_down(txn, &body);
    }
    let addr = if shared {
        let addr = txn.alloc_node()?;
        hand_down(txn, &body)?;
        txn.lower(link.at.addr, 1)?;
        addr
    } else if link.at.generation == txn.generation {
        link.at.addr
    } else {
        let addr = txn.alloc_node()?;
        txn.free(link.at.addr, 1)?;
        addr
    };
    if let OwnedBody::Leaf(e) = &mut body
        && S::SHARED
        && (shared || node.stamp < txn.file_share_gen)
        && !txn.sabotage("keep-own-bits")
    {
        e.iter_mut().for_each(|(_, v)| S::disown(v));
    }
    Ok(Owned { addr, level: link.at.level, body })
}

/// The node's count was lowered by a record that is not durable, and the node
/// gives way to others: what it says of its children's owners must outlive it.
/// (Else its successor's path looks clean, and a crash brings back an owner whose
/// blocks were overwritten in place.)
fn hold_down<S: Schema>(txn: &mut Txn<'_>, body: &OwnedBody<S>) {
    match body {
        OwnedBody::Leaf(e) => e.iter().for_each(|(_, v)| S::hold(txn, v)),
        OwnedBody::Inner(c) => c.iter().for_each(|(_, l)| txn.hold(l.at.addr, 1)),
    }
}

/// Each child of a copied node has one parent more.
fn hand_down<S: Schema>(txn: &mut Txn<'_>, body: &OwnedBody<S>) -> Result<(), Fault> {
    match body {
        OwnedBody::Leaf(e) => e.iter().try_for_each(|(_, v)| S::share(txn, v)),
        OwnedBody::Inner(c) => c.iter().try_for_each(|(_, l)| txn.raise(l.at.addr, 1)),
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
    let mut out = Vec::new();
    match body {
        OwnedBody::Leaf(e) => {
            for part in chunk(e, |(k, v)| S::entry_len(k, v)) {
                let key = part[0].0.clone();
                let node = Node { stamp: txn.stamp::<S>(), body: Body::Leaf(part) };
                out.push((key, place(txn, &mut spare, level, node)?));
            }
        }
        OwnedBody::Inner(c) => {
            for part in chunk(c, |(k, _)| inner_len::<S>(k)) {
                let key = part[0].0.clone();
                out.push((
                    key,
                    place(txn, &mut spare, level, Node { stamp: 0, body: Body::Inner(part) })?,
                ));
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
pub(crate) fn root_of<S: Schema>(
    txn: &mut Txn<'_>,
    mut nodes: Children<S>,
) -> Result<Option<Arc<Link<S>>>, Fault> {
    while nodes.len() > 1 {
        let level = nodes[0].1.at.level + 1;
        nodes = build(txn, 0, level, OwnedBody::Inner(nodes))?;
    }
    let Some((_, mut root)) = nodes.pop() else { return Ok(None) };
    while root.at.level > 0 && root.at.generation == txn.generation {
        // A shared root belongs to others as it is.
        if S::SHARED && txn.count(root.at.addr)? > 1 {
            break;
        }
        let node = root.get()?;
        let Body::Inner(c) = &node.body else { break };
        let [(_, only)] = c.as_slice() else { break };
        if S::SHARED && txn.settled(root.at.addr, 1) == 0 {
            txn.hold(only.at.addr, 1);
        }
        txn.free(root.at.addr, 1)?;
        root = only.clone();
    }
    Ok(Some(root))
}

/// Cuts a list into blocks' worth of about equal size. A list that grew at its
/// end, as under appends, leaves full nodes behind instead of half-full ones.
fn chunk<T>(items: Vec<T>, len: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let total: usize = items.iter().map(&len).sum();
    if items.is_empty() {
        return Vec::new();
    }
    if total <= PAYLOAD {
        return vec![items];
    }
    let parts = total.div_ceil(PAYLOAD);
    let goal = if parts == 2 { total * 2 / 3 } else { total / parts + 1 };
    let goal = goal.min(PAYLOAD);
    let mut out = Vec::with_capacity(parts + 1);
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
