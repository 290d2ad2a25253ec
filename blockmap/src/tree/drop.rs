//! Letting go of a subtree: one lowering if others hold it, else all below it.

use super::node::Body;
use super::{Fault, Link, Schema};
use crate::txn::Txn;
use std::sync::Arc;

/// One parent of the node is gone. The count decides who descends: whoever
/// takes away the last parent (law B2, "structure goes by the exact count").
pub(crate) fn drop_link<S: Schema>(
    txn: &mut Txn<'_>,
    link: &Arc<Link<S>>,
    release: bool,
) -> Result<(), Fault> {
    if S::SHARED {
        txn.tally_unknown();
        if txn.count(link.at.addr)? > 1 {
            return txn.lower(link.at.addr, 1);
        }
    }
    let node = link.get()?;
    txn.reads(link.at.generation);
    match &node.body {
        Body::Leaf(entries) if release => {
            entries.iter().try_for_each(|(_, v)| S::release(txn, v))?;
        }
        Body::Leaf(_) => {}
        Body::Inner(children) => {
            children.iter().try_for_each(|c| drop_link(txn, &c.link, release))?;
        }
    }
    txn.free(link.at.addr, 1)
}
