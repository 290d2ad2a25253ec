//! Making an empty store.

use super::Volume;
use super::open::{CACHE_DEFAULT, Parts};
use super::recover::History;
use super::ring::{Ring, ring_blocks};
use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::format::BLOCK;
use crate::format::journal_header::RING_START;
use crate::format::types::ApartJournal;
use freehold_engine::medium::{Medium, Op};
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

/// The smallest journal, in blocks: room for the largest records and what is kept.
pub(super) const MIN_JOURNAL: u64 = 128;

/// The largest journal by default: 16 MiB, which replays in well under a second.
pub(super) const MAX_JOURNAL: u64 = 4096;

/// The longest journal that a store can have: 256 MiB. It is read whole into memory.
pub(super) const JOURNAL_LIMIT: u64 = 65_536;

/// The smallest store: 8 MiB.
const MIN_BLOCKS: u64 = 2048;

/// What an empty store shall be like.
#[derive(Debug, Clone, Default)]
pub struct FormatSpec {
    /// Blocks of the journal; by default a 64th of the store within 512 KiB and 16 MiB, and
    /// on a medium of its own what fits there, up to 16 MiB.
    pub journal_blocks: Option<u64>,
    /// The store's id; by default drawn at random.
    pub id: Option<[u8; 16]>,
    /// The id of a journal on a medium of its own; by default drawn at random.
    pub journal_id: Option<[u8; 16]>,
}

/// Is a medium of so many bytes large enough for a journal of its own?
///
/// # Errors
/// `Invalid`, with the smallest size.
pub fn check_journal_size(bytes: u64) -> Result<()> {
    ring_blocks(bytes / BLOCK as u64, None).map(drop)
}

/// Is a medium of so many bytes large enough for a store?
///
/// # Errors
/// `Invalid` under 8 MiB.
pub fn check_size(bytes: u64) -> Result<()> {
    if bytes / (BLOCK as u64) < MIN_BLOCKS {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("a store needs at least 8 MiB; this is {} KiB", bytes / 1024),
        ));
    }
    Ok(())
}

impl Volume {
    /// Makes an empty store on a medium, whatever it held, and opens it.
    ///
    /// # Errors
    /// `Invalid` for a medium under 8 MiB or a journal that does not fit;
    /// what the medium refuses.
    pub fn format(medium: Arc<dyn Medium>, spec: &FormatSpec) -> Result<Arc<Volume>> {
        Self::format_with(medium, None, spec)
    }

    /// As [`Volume::format`], with the store's journal on a medium of its own, if one is given.
    ///
    /// # Errors
    /// As there; `Invalid` for a journal's medium under 520 KiB.
    pub fn format_with(
        medium: Arc<dyn Medium>,
        journal: Option<Arc<dyn Medium>>,
        spec: &FormatSpec,
    ) -> Result<Arc<Volume>> {
        let blocks = medium.geometry().blocks;
        check_size(blocks.saturating_mul(BLOCK as u64))?;
        let id = spec.id.map_or_else(random_id, Ok)?;
        let room = room(blocks, spec.journal_blocks.filter(|_| journal.is_none()))?;
        let first = Parts::unborn(id, blocks, room);
        let ring = match journal {
            None => Ring::own(medium.clone(), &first),
            Some(journal) => {
                let id = spec.journal_id.map_or_else(random_id, Ok)?;
                let blocks = ring_blocks(journal.geometry().blocks, spec.journal_blocks)?;
                Ring::apart(journal, ApartJournal { id, blocks })
            }
        };
        // The store first: from then on there is none, until its first superblock is written.
        // A journal is told of a checkpoint before that, so there is no store without one.
        erase(&*medium, 0..2 + room)?;
        if let Some((journal, apart)) = ring.elsewhere() {
            erase(&**journal, 0..RING_START + apart.blocks)?;
        }
        let none = History::none(&first);
        let parts = Parts::of(&first, &none, Cache::new(CACHE_DEFAULT), ring.blocks());
        let vol = parts.build(medium, ring, false)?;
        {
            let mut core = vol.core();
            core.space.set_replaying(true);
            let claimed = core.space.claim(0, 2 + room);
            core.space.set_replaying(false);
            claimed.map_err(|_| Error::new(ErrorKind::Invalid, "the journal does not fit"))?;
        }
        // Two checkpoints: both superblocks are this store's from the beginning.
        vol.checkpoint()?;
        vol.checkpoint()?;
        Ok(vol)
    }
}

/// Blocks of the journal's room in a store of so many.
fn room(blocks: u64, asked: Option<u64>) -> Result<u64> {
    let journal = asked.unwrap_or((blocks / 64).clamp(MIN_JOURNAL, MAX_JOURNAL));
    if journal < MIN_JOURNAL || journal > (blocks / 4).min(JOURNAL_LIMIT) {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!(
                "a journal has {MIN_JOURNAL} blocks at least, and a quarter of the store or \
                 {JOURNAL_LIMIT} blocks at most"
            ),
        ));
    }
    Ok(journal)
}

/// Takes away the superblocks of whatever store was here, or the headers of a journal, and
/// writes the journal's blocks once: on a sparse file, a commit into a block that the file
/// system has yet to allocate costs a commit of that file system as well.
pub(super) fn erase(medium: &dyn Medium, blocks: Range<u64>) -> Result<()> {
    let mut queue = medium.queue(4)?;
    let most = u64::from(medium.geometry().max_transfer) / BLOCK as u64;
    let mut at = blocks.start;
    while at < blocks.end {
        let n = (blocks.end - at).min(most.clamp(1, 256));
        let mut buf = medium.pool().take(n as usize * BLOCK)?;
        buf.fill(0);
        super::open::do_now(&mut *queue, Op::Write { at, buf, fua: false })?;
        at += n;
    }
    super::open::do_now(&mut *queue, Op::Flush)?;
    Ok(())
}

fn random_id() -> Result<[u8; 16]> {
    let mut id = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut id))
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot draw a store id: {e}")))?;
    Ok(id)
}
