//! Walking trees node by node, with every rule of a node held against it.

use super::{CheckReport, Ledger};
use crate::error::Result;
use crate::format::types::{Addr, Extent, FileId};
use crate::format::{BLOCK, Extents};
use crate::lane::{Io, all};
use crate::tree::{Body, Fault, Kept, Link, Node, Schema, Tree};
use crate::volume::Volume;
use crate::volume::file::{Map, Version};
use freehold_engine::memory::Buffer;
use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;

/// Nodes read at a time.
const AHEAD: usize = 32;

/// A node to visit, and what its parent says of it.
struct Visit<S: Schema> {
    link: Arc<Link<S>>,
    /// By how much the keys of its subtree are moved.
    shift: u64,
    /// As the tree counts.
    first: Option<S::Key>,
    before: Option<S::Key>,
}

/// What hangs below a node of a file's map.
#[derive(Default)]
struct Below {
    blocks: u64,
    extents: u64,
    end: u64,
    /// And by how much each is moved.
    children: Vec<(Addr, u64)>,
}

pub(super) struct Walk<'a> {
    vol: &'a Arc<Volume>,
    io: &'a Io,
    pub(super) report: CheckReport,
    pub(super) ledger: Ledger,
    below: HashMap<Addr, Below>,
}

/// A node as the walk has it: never kept in its link, so the walk fills no cache.
enum Found<S: Schema> {
    Read(Node<S>),
    InMemory(Arc<Kept<S>>),
}

impl<S: Schema> Deref for Found<S> {
    type Target = Node<S>;

    fn deref(&self) -> &Node<S> {
        match self {
            Found::Read(node) => node,
            Found::InMemory(kept) => kept,
        }
    }
}

type Read<S> = Pin<Box<dyn Future<Output = std::result::Result<Found<S>, String>> + Send>>;

impl<'a> Walk<'a> {
    pub(super) fn new(vol: &'a Arc<Volume>, io: &'a Io) -> Self {
        Walk {
            vol,
            io,
            report: CheckReport::default(),
            ledger: Ledger::default(),
            below: HashMap::new(),
        }
    }

    /// A metadata block; none, with a finding, if it cannot be read.
    pub(super) async fn read(&mut self, addr: Addr, what: &str) -> Result<Option<Buffer>> {
        if addr >= self.vol.blocks {
            self.report.find(what, addr, "it lies past the end of the store");
            return Ok(None);
        }
        let buf = self.vol.medium().pool().take(BLOCK)?;
        match self.io.read(addr, buf).await {
            Ok(buf) => Ok(Some(buf)),
            Err(e) => {
                self.report.find(what, addr, e.to_string());
                Ok(None)
            }
        }
    }

    /// All entries of a tree that is not shared.
    pub(super) async fn entries<S: Schema>(
        &mut self,
        tree: &Tree<S>,
    ) -> Result<Vec<(S::Key, S::Val)>> {
        let mut out = Vec::new();
        let roots = tree.root.iter().cloned().collect();
        self.visit_all(roots, |walk, link, node| {
            if walk.ledger.owners(link.at.addr) > 0 {
                walk.report.find(S::WHAT, link.at.addr, "a node with two owners");
                return false;
            }
            walk.ledger.add(link.at.addr, 1);
            if let Body::Leaf(e) = &node.body {
                out.extend(e.iter().cloned());
            }
            true
        })
        .await?;
        out.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(out)
    }

    /// A file's map; where its last extent ends. A node that another map holds as
    /// well is visited once and counted twice.
    pub(super) async fn map(&mut self, tree: &Tree<Extents>) -> Result<Option<u64>> {
        let Some(root) = &tree.root else { return Ok(None) };
        let top = root.at.addr;
        if self.below.contains_key(&top) {
            self.ledger.add(top, 1);
        } else {
            self.visit_all(vec![root.clone()], |walk, link, node| walk.map_node(link, node))
                .await?;
        }
        Ok(Some(self.sum(top).2))
    }

    fn map_node(&mut self, link: &Link<Extents>, node: &Node<Extents>) -> bool {
        self.ledger.add(link.at.addr, 1);
        if self.below.contains_key(&link.at.addr) {
            return false;
        }
        let mut below = Below::default();
        match &node.body {
            Body::Leaf(entries) => {
                for (k, e) in entries {
                    self.claim("extent tree", link.at.addr, e);
                    below.blocks += u64::from(e.len);
                    below.extents += 1;
                    below.end = k + u64::from(e.len);
                }
            }
            Body::Inner(c) => {
                below.children = c.iter().map(|c| (c.link.at.addr, c.shift)).collect()
            }
        }
        self.below.insert(link.at.addr, below);
        true
    }

    /// An owner for each block of an extent of this structure.
    pub(super) fn claim(&mut self, structure: &str, at: u64, e: &Extent) {
        let len = u64::from(e.len);
        match e.phys.checked_add(len) {
            Some(end) if end <= self.vol.blocks => self.ledger.add(e.phys, len),
            _ => self.report.find(structure, at, "an extent reaches past the end of the store"),
        }
    }

    /// Blocks, extents and end of what hangs below a node. As deep as the tree is high.
    fn sum(&self, addr: Addr) -> (u64, u64, u64) {
        let Some(b) = self.below.get(&addr) else { return (0, 0, 0) };
        b.children.iter().fold((b.blocks, b.extents, b.end), |acc, c| {
            let s = self.sum(c.0);
            (acc.0 + s.0, acc.1 + s.1, acc.2.max(s.2.wrapping_add(c.1)))
        })
    }

    /// The numbers in the files' records against their maps.
    pub(super) fn check_sums(&mut self, files: &BTreeMap<FileId, Arc<Version>>) {
        if !self.report.clean() {
            return;
        }
        for (id, v) in files {
            let Some((blocks, extents)) = v.known() else { continue };
            let (b, e) = match &v.map {
                Map::Tree(tree) => {
                    let sum = tree.root.as_ref().map_or((0, 0, 0), |r| self.sum(r.at.addr));
                    (sum.0, sum.1)
                }
                Map::Inline { extents, .. } => {
                    let blocks = extents.iter().map(|(_, e)| u64::from(e.len)).sum();
                    (blocks, extents.len() as u64)
                }
            };
            if (b, e) != (blocks, extents) {
                let what = format!(
                    "its record says {blocks} blocks in {extents} extents, its map has {b} in {e}"
                );
                self.report.find("file record", *id, what);
            }
        }
    }

    /// Visits nodes from the roots on; `enter` says whether to go below.
    async fn visit_all<S: Schema>(
        &mut self,
        roots: Vec<Arc<Link<S>>>,
        mut enter: impl FnMut(&mut Self, &Link<S>, &Node<S>) -> bool + Send,
    ) -> Result<()> {
        let visit = |link| Visit { link, shift: 0, first: None, before: None };
        let mut stack: Vec<Visit<S>> = roots.into_iter().map(visit).collect();
        while !stack.is_empty() {
            let batch = stack.split_off(stack.len().saturating_sub(AHEAD));
            let reads: Vec<Read<S>> = batch.iter().map(|v| self.fetch(&v.link)).collect();
            for (v, node) in batch.into_iter().zip(all(reads).await) {
                self.report.nodes += 1;
                match node {
                    Ok(node) => {
                        self.judge(&v, &node);
                        if enter(self, &v.link, &node) {
                            push_children(&mut stack, &node, v.shift, v.before);
                        }
                    }
                    Err(why) => {
                        self.ledger.add(v.link.at.addr, 1);
                        self.report.find(S::WHAT, v.link.at.addr, why);
                    }
                }
            }
        }
        Ok(())
    }

    /// The node: from the medium if it is there, else from memory.
    fn fetch<S: Schema>(&self, link: &Arc<Link<S>>) -> Read<S> {
        let (vol, io, link) = (self.vol.clone(), self.io.clone(), link.clone());
        Box::pin(async move {
            // Written meanwhile, it may have been evicted as well.
            if !link.is_written()
                && let Ok(node) = link.get()
            {
                return Ok(Found::InMemory(node));
            }
            if link.at.addr >= vol.blocks {
                return Err("it lies past the end of the store".to_owned());
            }
            let buf = vol.medium().pool().take(BLOCK).map_err(|e| e.to_string())?;
            let buf = io.read(link.at.addr, buf).await.map_err(|e| e.to_string())?;
            Link::<S>::decode(link.at, &buf, &vol.id).map(Found::Read).map_err(|f| match f {
                Fault::Corrupt { why, .. } => why,
                _ => "it cannot be read".to_owned(),
            })
        })
    }

    /// Is the node where its parent says, and in order with its neighbours?
    fn judge<S: Schema>(&mut self, v: &Visit<S>, node: &Node<S>) {
        let at = v.link.at.addr;
        let (first, last) = match &node.body {
            Body::Leaf(e) => (e.first().map(|x| &x.0), e.last().map(|x| &x.0)),
            Body::Inner(c) => (c.first().map(|c| &c.key), c.last().map(|c| &c.key)),
        };
        let (first, last) =
            (first.map(|k| S::moved(k, v.shift)), last.map(|k| S::moved(k, v.shift)));
        if let (Some(want), Some(is)) = (&v.first, &first)
            && want != is
        {
            let what = format!("its first key is {is:?}, its parent says {want:?}");
            self.report.find(S::WHAT, at, what);
        }
        if let (Some(limit), Some(last)) = (&v.before, &last)
            && last >= limit
        {
            self.report.find(S::WHAT, at, "keys out of order with the next node");
        }
        if let (Some(limit), Body::Leaf(e)) = (&v.before, &node.body)
            && let (Some((_, val)), Some(k)) = (e.last(), last)
            && k < *limit
            && S::is_run()
            && S::reaches(&k, val, limit)
        {
            self.report.find(S::WHAT, at, "its last entry reaches into the next node");
        }
    }
}

fn push_children<S: Schema>(
    stack: &mut Vec<Visit<S>>,
    node: &Node<S>,
    shift: u64,
    before: Option<S::Key>,
) {
    let Body::Inner(children) = &node.body else { return };
    for (i, c) in children.iter().enumerate() {
        let next = children.get(i + 1).map(|c| S::moved(&c.key, shift)).or_else(|| before.clone());
        stack.push(Visit {
            link: c.link.clone(),
            shift: shift.wrapping_add(c.shift),
            first: Some(S::moved(&c.key, shift)),
            before: next,
        });
    }
}
