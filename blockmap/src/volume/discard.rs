//! Giving up a journal that is on a medium of its own: what that loses, and doing it.
//!
//! The store is taken as its newest checkpoint has it, with the ring that it keeps room for
//! in itself. A crash before the first superblock of that kind leaves a store that wants its
//! journal still, and to which that journal still fits.

use super::Volume;
use super::apart::{Slot, find_ring, headers};
use super::format::erase;
use super::open::{CACHE_DEFAULT, Parts, do_now, newest};
use super::recover::{self, History};
use super::ring::Ring;
use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::format::journal_header::RING_START;
use crate::format::types::{FileId, Record, Superblock};
use crate::format::{BLOCK, superblock};
use freehold_engine::medium::{Medium, Op};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// What giving up a journal loses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Discarded {
    /// The store.
    pub store_id: [u8; 16],
    /// The journal that is given up.
    pub journal_id: [u8; 16],
    /// The checkpoint that the store goes back to.
    pub checkpoint: u64,
    /// The last record of its history that the checkpoint has.
    pub last_record: u64,
    /// Why the journal that was given is not the right one; none where none was given.
    pub refused: Option<String>,
    /// What of it would have been replayed; none where it cannot be known.
    pub lost: Option<LostRecords>,
    /// One superblock is damaged. If that was the newer one, blocks of this checkpoint may
    /// have been used again since; a check finds damage to the map, and to nothing else.
    pub uncertain: bool,
    /// It was done: the store has its journal in itself now.
    pub done: bool,
}

/// Records that a journal holds beyond a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct LostRecords {
    /// Groups that can be read.
    pub groups: u64,
    /// Records in them.
    pub records: u64,
    /// Names of the files that they name, as far as the checkpoint or they themselves tell.
    pub files: Vec<Vec<u8>>,
}

impl Volume {
    /// Says what is lost when the journal of a store is given up, and with `force` does so:
    /// from then on the journal is in the store. The journal's medium is given where there is
    /// one that can be read, and why it cannot be used where that is so; it is only read.
    ///
    /// # Errors
    /// `Invalid` for a store whose journal is in itself, and where the journal is the right one:
    /// then the store opens with it. `Corrupt` where the journal tells of a checkpoint whose
    /// superblock is lost: then there is nothing to go back to. Else as [`Volume::open`].
    pub fn discard_journal(
        medium: Arc<dyn Medium>,
        journal: Option<Arc<dyn Medium>>,
        useless: Option<String>,
        force: bool,
    ) -> Result<Discarded> {
        let mut queue = medium.queue(16)?;
        let (sb, fallback) = newest(&*medium, &mut *queue)?;
        drop(queue);
        Self::check_superblock(&sb, medium.geometry().blocks)?;
        let Some(wanted) = sb.apart else {
            let why = "the journal of this store is in the store itself: there is none to give up";
            return Err(Error::new(ErrorKind::Invalid, why));
        };
        let mut said = Discarded {
            store_id: sb.store_id,
            journal_id: wanted.id,
            checkpoint: sb.checkpoint,
            last_record: sb.cut_seq,
            uncertain: fallback,
            ..Discarded::default()
        };
        let mut rest = None;
        if let Some(journal) = &journal {
            said.refused = Some(refused(&medium, journal, &sb, (fallback, useless))?);
            rest = readable(journal, &sb);
        } else {
            said.refused = useless;
        }
        let vol = as_of(&medium, &sb)?;
        if let Some(rest) = rest {
            let (mut names, ids) = named(&rest.records);
            names.extend(vol.names_of(&ids)?);
            let (groups, records) = (rest.groups, rest.records.len() as u64);
            said.lost = Some(LostRecords { groups, records, files: names.into_iter().collect() });
        }
        if force {
            drop(vol);
            give_up(&*medium, &sb)?;
            said.done = true;
        }
        Ok(said)
    }

    /// The names of these files.
    fn names_of(self: &Arc<Self>, ids: &BTreeSet<FileId>) -> Result<Vec<Vec<u8>>> {
        let mut found = Vec::new();
        let mut from: Vec<u8> = Vec::new();
        while let Some((mut name, id)) = self.next_name(&from, b"")? {
            if ids.contains(&id) {
                found.push(name.clone());
            }
            name.push(0);
            from = name;
        }
        Ok(found)
    }
}

/// Why a journal is not that of the store.
fn refused(
    medium: &Arc<dyn Medium>,
    journal: &Arc<dyn Medium>,
    sb: &Superblock,
    (fallback, useless): (bool, Option<String>),
) -> Result<String> {
    let found = find_ring(medium, Some(journal.clone()), sb)
        .and_then(|ring| recover::read_history(&ring.read()?, &ring, sb, fallback));
    match found {
        Ok(_) => useless.ok_or_else(|| {
            let why = "this is the right journal: open the store with it, nothing is lost";
            Error::new(ErrorKind::Invalid, why)
        }),
        // Of the checkpoint before, blocks may have been used again.
        Err(e) if e.place().is_some_and(|p| p.what == "superblock") => Err(e),
        Err(e) if e.kind() == ErrorKind::TooNew => Err(e),
        Err(e) => Ok(e.to_string()),
    }
}

/// What can be read of a journal by its ids, whatever is wrong with it.
fn readable(journal: &Arc<dyn Medium>, sb: &Superblock) -> Option<History> {
    let wanted = sb.apart?;
    let ours = |slot: &Slot| {
        slot.as_ref().is_ok_and(|h| h.store_id == sb.store_id && h.journal_id == wanted.id)
    };
    let fits = RING_START + wanted.blocks <= journal.geometry().blocks;
    if !fits || !headers(&**journal).ok()?.iter().any(ours) {
        return None;
    }
    let ring = Ring::apart(journal.clone(), wanted).read().ok()?;
    Some(recover::follow(&ring, sb))
}

/// The store as its checkpoint has it, to be read.
fn as_of(medium: &Arc<dyn Medium>, sb: &Superblock) -> Result<Arc<Volume>> {
    let ring = Ring::own(medium.clone(), sb);
    let history = History::none(sb);
    let parts = Parts::of(sb, &history, Cache::new(CACHE_DEFAULT), ring.blocks());
    let vol = parts.build(medium.clone(), ring, true)?;
    recover::replay(&vol, sb, history, Instant::now())?;
    Ok(vol)
}

/// Writes the superblock in force again, for a journal in the store itself, under the next two
/// numbers: both slots have it so. Nothing else is written but the store's own ring: a block
/// that the checkpoint calls free may hold what the journal's records name, and until the
/// first of the two is there a journal that turns up must find it.
fn give_up(medium: &dyn Medium, sb: &Superblock) -> Result<()> {
    if sb.read_only() {
        let why = "the store has features that this version of Freehold may only read";
        return Err(Error::new(ErrorKind::ReadOnly, why));
    }
    erase(medium, sb.journal_start..sb.journal_start + sb.journal_blocks)?;
    let mut queue = medium.queue(1)?;
    for later in 1..=2 {
        let next = Superblock {
            refuse_features: sb.refuse_features & !superblock::JOURNAL_APART,
            checkpoint: sb.checkpoint + later,
            apart: None,
            ..sb.clone()
        };
        let slot = Volume::slot(next.checkpoint);
        let mut buf = medium.pool().take(BLOCK)?;
        superblock::encode(&next, slot, &mut buf)
            .map_err(|e| Error::corrupt("superblock", slot, &e.to_string()))?;
        do_now(&mut *queue, Op::Write { at: slot, buf, fua: true })?;
        do_now(&mut *queue, Op::Flush)?;
    }
    Ok(())
}

/// The files that records name, by name and by number.
fn named(records: &[Record]) -> (BTreeSet<Vec<u8>>, BTreeSet<FileId>) {
    let (mut names, mut ids) = (BTreeSet::new(), BTreeSet::new());
    for record in records {
        match record {
            Record::Create { name, .. } | Record::Remove { name } => {
                names.insert(name.clone());
            }
            Record::Rename { from, to } => names.extend([from.clone(), to.clone()]),
            Record::Reflink { from, name, .. } => {
                names.insert(name.clone());
                ids.insert(*from);
            }
            Record::ReflinkRange { from, to, .. } => ids.extend([*from, *to]),
            Record::Map { file, .. }
            | Record::Convert { file, .. }
            | Record::Grow { file, .. }
            | Record::Truncate { file, .. }
            | Record::Punch { file, .. }
            | Record::Collapse { file, .. }
            | Record::Insert { file, .. }
            | Record::Data { file, .. }
            | Record::Zero { file, .. }
            | Record::Atomic { file, .. } => {
                ids.insert(*file);
            }
            Record::Mark { .. } | Record::Slice { .. } => {}
        }
    }
    (names, ids)
}
