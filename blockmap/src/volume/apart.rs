//! Which journal belongs to which store: what was found beside a store, held against what
//! its superblock says (docs/windows.md, "Two media").

use super::Volume;
use super::open::do_now;
use super::ring::Ring;
use crate::error::{Error, ErrorKind, Result};
use crate::format::types::{ApartJournal, JournalHeader, Kind, Superblock};
use crate::format::{BLOCK, FormatError, journal_header};
use freehold_engine::medium::{Medium, Op};
use std::sync::Arc;

/// The ring of a store.
///
/// # Errors
/// `WrongJournal`, with what is wanted and how to get it; `Invalid` for a journal that the
/// store has no use for; `Corrupt`, `Truncated`, `TooNew` for what is on its medium.
pub(super) fn find_ring(
    store: &Arc<dyn Medium>,
    journal: Option<Arc<dyn Medium>>,
    sb: &Superblock,
) -> Result<Ring> {
    match (sb.apart, journal) {
        (None, None) => Ok(Ring::own(store.clone(), sb)),
        (None, Some(journal)) => Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "{} has its journal in itself: open it without journal={}",
                store.uri(),
                journal.uri()
            ),
        )),
        (Some(wanted), None) => Err(wrong(
            sb,
            wanted,
            "is on a medium of its own, and none was named: open the store with journal=URI",
        )),
        (Some(wanted), Some(journal)) => {
            let found = headers(&*journal)?;
            judge(sb, wanted, &found, &*journal)?;
            Ok(Ring::apart(journal, wanted))
        }
    }
}

/// Sixteen bytes as people read them.
pub(super) fn hex(id: &[u8; 16]) -> String {
    id.iter().map(|b| format!("{b:02x}")).collect()
}

/// Names the journal that is wanted.
fn wrong(sb: &Superblock, wanted: ApartJournal, why: &str) -> Error {
    Error::new(
        ErrorKind::WrongJournal,
        format!(
            "the journal of store {} (journal {}, {} KiB, at checkpoint {}) {why}; if it is \
             lost, `freehold check --discard-journal` says what that loses",
            hex(&sb.store_id),
            hex(&wanted.id),
            wanted.blocks * BLOCK as u64 / 1024,
            sb.checkpoint,
        ),
    )
}

/// A slot of a journal's medium.
pub(super) type Slot = std::result::Result<JournalHeader, FormatError>;

/// What the two slots of a journal's medium hold.
pub(super) fn headers(medium: &dyn Medium) -> Result<[Slot; 2]> {
    let mut found = [Err(FormatError::BadMagic), Err(FormatError::BadMagic)];
    if medium.geometry().blocks < journal_header::RING_START {
        return Ok(found);
    }
    let mut queue = medium.queue(1)?;
    for (slot, found) in found.iter_mut().enumerate() {
        let buf = medium.pool().take(BLOCK)?;
        let block = do_now(&mut *queue, Op::Read { at: slot as u64, buf })?;
        let block = block.ok_or_else(|| Error::new(ErrorKind::Io, "a read gave no buffer back"))?;
        *found = journal_header::decode(&block, slot as u64);
    }
    Ok(found)
}

/// Is this the store's journal, of the right time?
pub(super) fn judge(
    sb: &Superblock,
    wanted: ApartJournal,
    found: &[Slot; 2],
    medium: &dyn Medium,
) -> Result<()> {
    if let Some(e @ FormatError::TooNew { .. }) = found.iter().find_map(|f| f.as_ref().err()) {
        let why = format!("the journal cannot be read by this version of Freehold: {e}");
        return Err(Error::new(ErrorKind::TooNew, why));
    }
    let sound = || found.iter().flatten();
    let ours = |h: &&JournalHeader| h.store_id == sb.store_id && h.journal_id == wanted.id;
    let Some(best) = sound().filter(ours).max_by_key(|h| h.epoch) else {
        return Err(strange(sb, wanted, found, medium.uri()));
    };
    if best.ring_blocks != wanted.blocks {
        let why = format!("its ring has {} blocks, not {}", best.ring_blocks, wanted.blocks);
        return Err(Error::corrupt("journal header", Volume::slot(best.epoch), &why));
    }
    let end = journal_header::RING_START + wanted.blocks;
    if end > medium.geometry().blocks {
        let why = format!(
            "the journal has {end} blocks of 4 KiB but {} only {}: it was truncated; restore it \
             to its full length",
            medium.uri(),
            medium.geometry().blocks
        );
        return Err(Error::new(ErrorKind::Truncated, why));
    }
    if best.epoch == sb.checkpoint || Some(best.epoch) == sb.checkpoint.checked_add(1) {
        return Ok(());
    }
    if best.epoch > sb.checkpoint {
        let why = format!(
            "has been told of checkpoint {}, so this is an older copy of the store: give the one \
             that was used with this journal last",
            best.epoch
        );
        return Err(wrong(sb, wanted, &why));
    }
    // The slot of the checkpoint in force is never written while that is in force.
    let slot = Volume::slot(sb.checkpoint);
    if let Err(e) = &found[slot as usize]
        && best.epoch + 1 == sb.checkpoint
    {
        return Err(Error::corrupt("journal header", slot, &e.to_string()));
    }
    let why = format!(
        "is newer than {}, which knows of checkpoint {} only: that is an older copy; give the \
         journal that the store was used with last",
        medium.uri(),
        best.epoch
    );
    Err(wrong(sb, wanted, &why))
}

/// No header is of the journal that is wanted.
fn strange(sb: &Superblock, wanted: ApartJournal, found: &[Slot; 2], uri: &str) -> Error {
    if let Some(other) = found.iter().flatten().next() {
        let why = match other.store_id == sb.store_id {
            true => format!(
                "is not {uri}: that is journal {} of the same store, which was given up",
                hex(&other.journal_id)
            ),
            false => format!("is not {uri}: that is a journal of store {}", hex(&other.store_id)),
        };
        return wrong(sb, wanted, &why);
    }
    let store = FormatError::WrongKind { found: Kind::Super as u8, expected: Kind::Journal };
    if found.iter().any(|f| f.as_ref() == Err(&store)) {
        return wrong(sb, wanted, &format!("is not {uri}: that is a store, not a journal"));
    }
    let damage = |(slot, f): (usize, &Slot)| match f {
        Err(e) if *e != FormatError::BadMagic => Some((slot as u64, *e)),
        _ => None,
    };
    match found.iter().enumerate().find_map(damage) {
        Some((slot, e)) => Error::corrupt("journal header", slot, &e.to_string()),
        None => wrong(sb, wanted, &format!("is not {uri}: that holds no journal")),
    }
}
