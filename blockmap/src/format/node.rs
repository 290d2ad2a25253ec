//! Nodes of the five trees: entries or children in one block. What an entry
//! looks like is in `entries.rs`; searching and changing trees is elsewhere.

use super::codec::{Reader, Writer};
use super::entries::EntryCodec;
use super::file_record::check_node;
use super::header::{self, HEADER, HeaderFields};
use super::layout::{Layout, contiguous, end};
use super::types::{Child, NodeRef};
use super::{FormatError, MAX_LEVEL, Result};

pub use super::header::PAYLOAD;

/// A child in an inner node, behind its key.
pub const CHILD_LAYOUT: Layout = &[("block", 0, 8), ("generation", 8, 8)];

/// What follows that in trees whose keys can be shifted, from version 2 on.
pub const SHIFT_LAYOUT: Layout = &[("shift", 16, 8)];

const CHILD_BYTES: usize = end(CHILD_LAYOUT);
const SHIFT_BYTES: usize = end(SHIFT_LAYOUT) - CHILD_BYTES;
const _: () = assert!(contiguous(CHILD_LAYOUT, 0) && contiguous(SHIFT_LAYOUT, CHILD_BYTES));

/// A node as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedNode<C: EntryCodec> {
    /// 0 for a leaf.
    pub level: u8,
    /// The share stamp of an extent leaf (law B1); else 0.
    pub stamp: u64,
    /// What it holds.
    pub body: Body<C>,
}

/// What a node holds, by ascending key.
#[derive(Debug, Clone, PartialEq)]
pub enum Body<C: EntryCodec> {
    /// The entries of a leaf. Only a root may have none.
    Leaf(Vec<(C::Key, C::Val)>),
    /// The children of an inner node, at least one. A key is not above any key
    /// below its child, and above all keys below the child before.
    Inner(Vec<(C::Key, Child)>),
}

impl<C: EntryCodec> DecodedNode<C> {
    /// A leaf without entries, which nothing but a root may be.
    pub fn is_empty(&self) -> bool {
        matches!(&self.body, Body::Leaf(entries) if entries.is_empty())
    }
}

/// Bytes that a child with this key takes in an inner node.
pub fn child_len<C: EntryCodec>(key: &C::Key) -> usize {
    C::key_len(key) + CHILD_BYTES + if C::SHIFTED { SHIFT_BYTES } else { 0 }
}

/// Payload bytes of a leaf with these entries.
pub fn leaf_len<'a, C: EntryCodec>(
    entries: impl IntoIterator<Item = (&'a C::Key, &'a C::Val)>,
) -> usize
where
    C::Key: 'a,
    C::Val: 'a,
{
    entries.into_iter().map(|(k, v)| C::entry_len(k, v)).sum()
}

/// Payload bytes of an inner node with these children's keys.
pub fn inner_len<'a, C: EntryCodec>(keys: impl IntoIterator<Item = &'a C::Key>) -> usize
where
    C::Key: 'a,
{
    keys.into_iter().map(child_len::<C>).sum()
}

/// True if so many payload bytes fit into one node.
pub fn fits(bytes: usize) -> bool {
    bytes <= PAYLOAD
}

/// Where to split items of these sizes so that both sides have as nearly as
/// may be the same bytes: the index of the first item on the right, with one
/// item at least on each side. 0 for fewer than two items.
pub fn split_at(sizes: &[usize]) -> usize {
    let total: usize = sizes.iter().sum();
    let (mut left, mut best) = (0, (usize::MAX, 0));
    for (i, size) in sizes.iter().enumerate().take(sizes.len().saturating_sub(1)) {
        left += size;
        best = best.min((left.abs_diff(total - left), i + 1));
    }
    best.1
}

/// Writes a leaf that is to lie at `at` into `block`.
pub fn encode_leaf<'a, C: EntryCodec>(
    entries: impl IntoIterator<Item = (&'a C::Key, &'a C::Val)>,
    stamp: u64,
    at: NodeRef,
    id: &[u8; 16],
    block: &mut [u8],
) -> Result<()>
where
    C::Key: 'a,
    C::Val: 'a,
{
    if at.level != 0 {
        return Err(FormatError::Malformed("a leaf above level 0"));
    }
    let mut previous: Option<(&C::Key, &C::Val)> = None;
    encode::<C>(at, stamp, id, block, |w| {
        let mut count = 0;
        for (key, val) in entries {
            check_leaf_entry::<C>(previous, key, val)?;
            C::put_entry(w, key, val);
            previous = Some((key, val));
            count += 1;
        }
        Ok(count)
    })
}

/// Writes an inner node that is to lie at `at` into `block`.
pub fn encode_inner<'a, C: EntryCodec>(
    children: impl IntoIterator<Item = (&'a C::Key, impl Into<Child>)>,
    at: NodeRef,
    id: &[u8; 16],
    block: &mut [u8],
) -> Result<()>
where
    C::Key: 'a,
{
    if at.level == 0 {
        return Err(FormatError::Malformed("an inner node at level 0"));
    }
    let mut previous = None;
    encode::<C>(at, 0, id, block, |w| {
        let mut count = 0;
        for (key, child) in children {
            let child = child.into();
            check_child::<C>(previous, key, child, at)?;
            C::put_key(w, key);
            w.u64(child.at.addr);
            w.u64(child.at.generation);
            if C::SHIFTED {
                w.u64(child.shift);
            }
            previous = Some(key);
            count += 1;
        }
        if count == 0 {
            Err(FormatError::Malformed("an inner node without children"))
        } else {
            Ok(count)
        }
    })
}

fn encode<C: EntryCodec>(
    at: NodeRef,
    stamp: u64,
    id: &[u8; 16],
    block: &mut [u8],
    fill: impl FnOnce(&mut Writer<'_>) -> Result<u32>,
) -> Result<()> {
    check_node(&at)?;
    check_stamp::<C>(at.level, stamp)?;
    let payload =
        block.get_mut(HEADER..).ok_or(FormatError::Malformed("not one block of bytes"))?;
    let mut w = Writer::new(payload);
    let entries = fill(&mut w)?;
    let payload_len = w.finish()? as u32;
    let NodeRef { addr, generation, level } = at;
    let kind = C::KIND;
    header::seal(
        block,
        id,
        HeaderFields { kind, addr, generation, stamp, entries, payload_len, level },
    )
}

/// Reads the node that lies at `at`.
pub fn decode<C: EntryCodec>(block: &[u8], id: &[u8; 16], at: NodeRef) -> Result<DecodedNode<C>> {
    let (head, payload) = header::open(block, id, at.addr, Some(at.generation), C::KIND)?;
    let version = header::version_of(block);
    if head.level != at.level {
        return Err(FormatError::Malformed("node of another level than its parent says"));
    }
    check_node(&at)?;
    check_stamp::<C>(head.level, head.stamp)?;
    let mut r = Reader::new(payload);
    let body = if head.level == 0 {
        Body::Leaf(decode_leaf::<C>(&mut r, head.entries)?)
    } else {
        let shifted = C::SHIFTED && version > 1;
        Body::Inner(decode_inner::<C>(&mut r, head.entries, at, shifted)?)
    };
    if r.remaining() != 0 {
        return Err(FormatError::Malformed("bytes behind the last entry"));
    }
    Ok(DecodedNode { level: head.level, stamp: head.stamp, body })
}

fn decode_leaf<C: EntryCodec>(r: &mut Reader<'_>, count: u32) -> Result<Vec<(C::Key, C::Val)>> {
    let mut entries: Vec<(C::Key, C::Val)> = Vec::with_capacity(room(r, count));
    for _ in 0..count {
        let (key, val) = C::get_entry(r)?;
        check_leaf_entry::<C>(entries.last().map(|(k, v)| (k, v)), &key, &val)?;
        entries.push((key, val));
    }
    Ok(entries)
}

fn decode_inner<C: EntryCodec>(
    r: &mut Reader<'_>,
    count: u32,
    at: NodeRef,
    shifted: bool,
) -> Result<Vec<(C::Key, Child)>> {
    if count == 0 {
        return Err(FormatError::Malformed("an inner node without children"));
    }
    let mut children: Vec<(C::Key, Child)> = Vec::with_capacity(room(r, count));
    for _ in 0..count {
        let key = C::get_key(r)?;
        let (addr, generation) = (r.u64("child")?, r.u64("child")?);
        let shift = if shifted { r.u64("shift")? } else { 0 };
        let child = NodeRef { addr, generation, level: at.level.saturating_sub(1) };
        let child = Child { at: child, shift };
        check_child::<C>(children.last().map(|(k, _)| k), &key, child, at)?;
        children.push((key, child));
    }
    Ok(children)
}

/// Entries to make room for: no more than the bytes can hold, whatever the count says.
fn room(r: &Reader<'_>, count: u32) -> usize {
    (count as usize).min(r.remaining() / 8)
}

fn check_stamp<C: EntryCodec>(level: u8, stamp: u64) -> Result<()> {
    if stamp != 0 && !(C::STAMPED && level == 0) {
        return Err(FormatError::Malformed("a stamp on a node that has none"));
    }
    Ok(())
}

fn check_leaf_entry<C: EntryCodec>(
    previous: Option<(&C::Key, &C::Val)>,
    key: &C::Key,
    val: &C::Val,
) -> Result<()> {
    C::check_entry(key, val)?;
    let Some((before, before_val)) = previous else { return Ok(()) };
    if before >= key {
        return Err(FormatError::Malformed("keys do not ascend"));
    }
    C::check_next(before, before_val, key)
}

fn check_child<C: EntryCodec>(
    previous: Option<&C::Key>,
    key: &C::Key,
    child: Child,
    parent: NodeRef,
) -> Result<()> {
    C::check_key(key)?;
    C::check_shift(key, child.shift)?;
    let child = child.at;
    if previous.is_some_and(|before| before >= key) {
        return Err(FormatError::Malformed("keys do not ascend"));
    }
    if parent.level > MAX_LEVEL || child.level.checked_add(1) != Some(parent.level) {
        return Err(FormatError::Malformed("child is not one level below its parent"));
    }
    if child.generation > parent.generation || child.addr == parent.addr {
        return Err(FormatError::Malformed("child is younger than its parent, or is its parent"));
    }
    check_node(&child)
}
