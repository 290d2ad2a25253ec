//! Fetching ahead of a replay: what the next records will ask for is read many
//! blocks at a time, so that a replay takes as long as the medium needs for its
//! reads side by side, not one after the other.
//!
//! Only a help: what is left out here, or cannot be read, the replay itself asks for.

use super::Volume;
use super::ranges::extents_in;
use crate::format::BLOCK;
use crate::format::types::{Addr, FileId, GROUP_BLOCKS, Record};
use crate::lane::{Io, all};
use crate::tree::{Fault, path_nodes};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

/// Bitmaps and records that are fetched for together.
const AHEAD: usize = 256;

/// File blocks of a record that are looked at: a leaf's worth of single ones.
const BLOCKS: u64 = 256;

/// What a record will look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ask<'a> {
    /// A range of a file's map, with the counts and the bitmaps of what stands there.
    Range(FileId, u64, u64),
    /// A name, and the file behind it.
    Name(&'a [u8]),
    /// The bitmap of a space group.
    Group(u64),
}

type Read<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

impl Volume {
    /// Fetches the bitmaps of all blocks that the records name.
    pub(super) async fn warm_space(self: &Arc<Self>, io: &Io, records: &[Record]) {
        let mut groups = BTreeSet::new();
        for r in records {
            if let Record::Map { extents, .. } = r {
                for (_, e) in extents {
                    groups.insert(Ask::Group(e.phys / GROUP_BLOCKS));
                }
            }
        }
        let groups: Vec<Ask<'_>> = groups.into_iter().collect();
        self.ask_all(io, &groups).await;
    }

    /// Fetches what a few records need: their paths, and what hangs on them.
    pub(super) async fn warm(self: &Arc<Self>, io: &Io, records: &[Record]) {
        let asks: BTreeSet<Ask<'_>> = records.iter().flat_map(asks_of).collect();
        let asks: Vec<Ask<'_>> = asks.into_iter().collect();
        self.ask_all(io, &asks).await;
    }

    async fn ask_all(self: &Arc<Self>, io: &Io, asks: &[Ask<'_>]) {
        for some in asks.chunks(AHEAD) {
            let mut reads: Vec<Read<'_>> = Vec::with_capacity(some.len());
            for ask in some {
                reads.push(Box::pin(async move {
                    let _ = self.look(io, |v| v.ask(*ask)).await;
                }));
            }
            all(reads).await;
        }
    }

    fn ask(&self, ask: Ask<'_>) -> Result<(), Fault> {
        match ask {
            Ask::Range(file, start, len) => self.ask_range(file, start, len),
            Ask::Name(name) => {
                let mut core = self.core();
                match core.named(name)? {
                    Some(id) => core.shelf.file(id).map(drop),
                    None => Ok(()),
                }
            }
            Ask::Group(group) => self.ask_group(group),
        }
    }

    fn ask_group(&self, group: u64) -> Result<(), Fault> {
        match group < self.blocks.div_ceil(GROUP_BLOCKS) {
            true => self.core().space.touch(group),
            false => Ok(()),
        }
    }

    fn ask_range(&self, file: FileId, start: u64, len: u64) -> Result<(), Fault> {
        let Some(file) = self.core().shelf.file(file)? else { return Ok(()) };
        let v = file.load();
        let mut taken: Vec<(Addr, u64)> = Vec::new();
        if let Some(root) = v.root() {
            let mut path = Vec::new();
            path_nodes(root, &start, &mut path)?;
            taken.extend(path.into_iter().map(|addr| (addr, 1)));
        }
        let end = start.saturating_add(len.min(BLOCKS));
        let found = extents_in(&v, start, end)?;
        taken.extend(found.iter().map(|(_, e, _)| (e.phys, u64::from(e.len))));
        let mut groups = BTreeSet::new();
        {
            let mut core = self.core();
            let txn = core.view();
            for (start, len) in taken {
                txn.runs(start, len)?;
                let last = start.saturating_add(len.saturating_sub(1));
                groups.extend([start / GROUP_BLOCKS, last / GROUP_BLOCKS]);
            }
        }
        groups.into_iter().try_for_each(|g| self.ask_group(g))
    }
}

/// What a record will look up. A file that comes into being later is not found yet.
fn asks_of(r: &Record) -> Vec<Ask<'_>> {
    let range = |file: &FileId, start: &u64, len: &u64| Ask::Range(*file, *start, *len);
    match r {
        Record::Map { file, start, len, .. }
        | Record::Convert { file, start, len, .. }
        | Record::Punch { file, start, len, .. }
        | Record::Collapse { file, start, len, .. } => vec![range(file, start, len)],
        Record::Insert { file, start, .. } => vec![range(file, start, &1)],
        Record::Grow { file, .. } => vec![range(file, &0, &0)],
        Record::Truncate { file, size, .. } => {
            vec![range(file, &size.div_ceil(BLOCK as u64), &BLOCKS)]
        }
        Record::Reflink { from, name, .. } => vec![range(from, &0, &0), Ask::Name(name)],
        Record::ReflinkRange { from, from_start, to, to_start, len, .. } => {
            vec![range(from, from_start, len), range(to, to_start, len)]
        }
        Record::Slice { file, cursor } => vec![range(file, cursor, &BLOCKS)],
        Record::Create { name, .. } | Record::Remove { name } => vec![Ask::Name(name)],
        Record::Rename { from, to } => vec![Ask::Name(from), Ask::Name(to)],
        _ => Vec::new(),
    }
}
