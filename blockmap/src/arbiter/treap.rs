//! The order of the nodes of one lane: a treap whose links lie in the nodes.
//!
//! Every function takes the slab and the root of a subtree and returns what the root
//! has become. Depth is that of a random tree: some 30 for 10,000 nodes.

use super::intervals::{NONE, Node, spread};
use super::kinds::{Id, Span};

fn key(node: &Node) -> (u64, Id) {
    (node.span.start, node.id)
}

/// Sets the links of a node and computes its reach.
fn link(nodes: &mut [Node], at: u32, left: u32, right: u32) -> u32 {
    let reach = |nodes: &[Node], at: u32| nodes.get(at as usize).map_or(0, |node| node.reach);
    let below = reach(nodes, left).max(reach(nodes, right));
    let node = &mut nodes[at as usize];
    node.left = left;
    node.right = right;
    node.reach = below.max(node.span.end);
    at
}

/// Puts a node into a subtree.
pub(super) fn insert(nodes: &mut [Node], root: u32, new: u32) -> u32 {
    let Some(&top) = nodes.get(root as usize) else { return link(nodes, new, NONE, NONE) };
    let added = nodes[new as usize];
    if spread(added.id) > spread(top.id) {
        let (left, right) = split(nodes, root, key(&added));
        return link(nodes, new, left, right);
    }
    if key(&added) < key(&top) {
        let left = insert(nodes, top.left, new);
        link(nodes, root, left, top.right)
    } else {
        let right = insert(nodes, top.right, new);
        link(nodes, root, top.left, right)
    }
}

/// Takes a node out of a subtree.
pub(super) fn remove(nodes: &mut [Node], root: u32, old: u32) -> u32 {
    let Some(&top) = nodes.get(root as usize) else { return NONE };
    if root == old {
        return merge(nodes, top.left, top.right);
    }
    if key(&nodes[old as usize]) < key(&top) {
        let left = remove(nodes, top.left, old);
        link(nodes, root, left, top.right)
    } else {
        let right = remove(nodes, top.right, old);
        link(nodes, root, top.left, right)
    }
}

/// What lies before a key, and what lies after it.
fn split(nodes: &mut [Node], root: u32, at: (u64, Id)) -> (u32, u32) {
    let Some(&top) = nodes.get(root as usize) else { return (NONE, NONE) };
    if key(&top) < at {
        let (left, right) = split(nodes, top.right, at);
        (link(nodes, root, top.left, left), right)
    } else {
        let (left, right) = split(nodes, top.left, at);
        (left, link(nodes, root, right, top.right))
    }
}

/// One subtree of two, all of the first before all of the second.
fn merge(nodes: &mut [Node], first: u32, second: u32) -> u32 {
    let (Some(&a), Some(&b)) = (nodes.get(first as usize), nodes.get(second as usize)) else {
        return if first == NONE { second } else { first };
    };
    if spread(a.id) > spread(b.id) {
        let right = merge(nodes, a.right, second);
        link(nodes, first, a.left, right)
    } else {
        let left = merge(nodes, first, b.left);
        link(nodes, second, left, b.right)
    }
}

/// Shows every node that has a block in the span, in order, until told to stop; says
/// whether it was told.
pub(super) fn find(
    nodes: &[Node],
    root: u32,
    span: Span,
    stop: &mut dyn FnMut(&Node) -> bool,
) -> bool {
    let Some(node) = nodes.get(root as usize) else { return false };
    if node.reach <= span.start {
        return false;
    }
    find(nodes, node.left, span, stop)
        || (node.span.overlaps(span) && stop(node))
        || (node.span.start < span.end && find(nodes, node.right, span, stop))
}
