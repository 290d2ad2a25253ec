//! Opening: which superblock counts, and a volume made from it.

use super::apart::find_ring;
use super::core::Core;
use super::cutting::Cutting;
use super::logged::Logged;
use super::ring::Ring;
use super::shelf::Shelf;
use super::stats::Counters;
use super::{Duty, Volume, recover};
use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::format::types::{Kind, NodeRef, Superblock};
use crate::format::{BLOCK, FormatError, VERSION, superblock};
use crate::health::Health;
use crate::journal::Journal;
use crate::lane::Lane;
use crate::lowering::Lowerings;
use crate::numbered::Numbered;
use crate::space::Space;
use crate::tree::Tree;
use freehold_engine::medium::{Completion, Medium, Op, Queue};
use freehold_engine::memory::Buffer;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// 4 MiB.
const RESERVE: u64 = 1024;

/// Bytes of memory for nodes and bitmaps by default: the map of a file of ten
/// million extents fits, and little of it is taken before it is needed.
pub const CACHE_DEFAULT: u64 = 512 << 20;

/// The smallest cache. A store works with any, because what an operation holds is
/// not evicted; with less than four nodes it does little but read and checkpoint.
pub const CACHE_MIN: u64 = 16 << 10;

/// How a store is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenSpec {
    /// Nothing is written, not even by recovery.
    pub read_only: bool,
    /// Bytes of memory for nodes and bitmaps; by default [`CACHE_DEFAULT`].
    pub cache_bytes: Option<u64>,
}

impl OpenSpec {
    fn budget(&self) -> Result<u64> {
        match self.cache_bytes {
            Some(n) if n < CACHE_MIN => Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "a cache of {n} bytes is too small: give {CACHE_MIN} bytes or more, or none \
                     for the default of {CACHE_DEFAULT}"
                ),
            )),
            given => Ok(given.unwrap_or(CACHE_DEFAULT)),
        }
    }
}

impl Volume {
    /// Opens the store on a medium and recovers it.
    ///
    /// Nothing is scanned: what is read is two superblocks, the journal, and
    /// the nodes that its records touch. For reading only, nothing is written either.
    ///
    /// # Errors
    /// `Invalid` for a cache that is too small; `NotAStore`, `TooNew`, `Truncated`; `Corrupt` with the structure; what the
    /// medium reports.
    pub fn open(medium: Arc<dyn Medium>, spec: &OpenSpec) -> Result<Arc<Volume>> {
        Self::open_with(medium, None, spec)
    }

    /// As [`Volume::open`], with the medium that the store's journal is on.
    ///
    /// # Errors
    /// As there, and `WrongJournal` where the journal is not that of the store, or is older
    /// or newer than the store; the message says which is wanted.
    pub fn open_with(
        medium: Arc<dyn Medium>,
        journal: Option<Arc<dyn Medium>>,
        spec: &OpenSpec,
    ) -> Result<Arc<Volume>> {
        let begun = Instant::now();
        let cache = Cache::new(spec.budget()?);
        let mut queue = medium.queue(16)?;
        let (sb, fallback) = newest(&*medium, &mut *queue)?;
        Self::check_superblock(&sb, medium.geometry().blocks)?;
        let read_only = spec.read_only || sb.read_only();
        let older = written_by_older(&*medium, &mut *queue, &sb)?;
        drop(queue);
        let ring = find_ring(&medium, journal, &sb)?;
        let read = ring.read()?;
        let mut history = recover::read_history(&read, &ring, &sb, fallback)?;
        history.renew |= older;
        if !read_only {
            ring.settle(&read)?;
        }
        drop(read);
        let vol = Parts::of(&sb, &history, cache, ring.blocks()).build(medium, ring, read_only)?;
        recover::replay(&vol, &sb, history, begun)?;
        Ok(vol)
    }
}

/// Did an older version of the format write this superblock?
fn written_by_older(medium: &dyn Medium, queue: &mut dyn Queue, sb: &Superblock) -> Result<bool> {
    let buf = medium.pool().take(BLOCK)?;
    let block = do_now(queue, Op::Read { at: Volume::slot(sb.checkpoint), buf })?;
    Ok(block.is_some_and(|block| superblock::version(&block) < VERSION))
}

/// The newest sound superblock, and whether the other slot is damaged.
pub(super) fn newest(medium: &dyn Medium, queue: &mut dyn Queue) -> Result<(Superblock, bool)> {
    if medium.geometry().blocks < 2 {
        return Err(Error::new(ErrorKind::NotAStore, "the medium is too small to hold a store"));
    }
    let mut found = Vec::new();
    for slot in 0..2u64 {
        let buf = medium.pool().take(BLOCK)?;
        let block = do_now(queue, Op::Read { at: slot, buf })?;
        let block = block.ok_or_else(|| Error::new(ErrorKind::Io, "a read gave no buffer back"))?;
        found.push(superblock::decode(&block, slot));
    }
    for f in &found {
        if let Err(e @ FormatError::TooNew { .. }) = f {
            return Err(Error::new(
                ErrorKind::TooNew,
                format!(
                    "the store cannot be opened by this version of Freehold: {e}; use a newer one"
                ),
            ));
        }
    }
    let damaged = found.iter().any(|f| f.is_err());
    let why = found
        .iter()
        .find_map(|f| f.as_ref().err().filter(|e| **e != FormatError::NotAStore).copied());
    let journal_there =
        FormatError::WrongKind { found: Kind::Journal as u8, expected: Kind::Super };
    let best = found.into_iter().flatten().max_by_key(|sb| sb.checkpoint);
    match (best, why) {
        (Some(sb), _) => Ok((sb, damaged)),
        (None, Some(e)) if e == journal_there => Err(Error::new(
            ErrorKind::NotAStore,
            format!(
                "{} holds the journal of a store, not a store: name the store, with journal={}",
                medium.uri(),
                medium.uri()
            ),
        )),
        (None, None) => Err(Error::new(
            ErrorKind::NotAStore,
            format!("{} holds no Freehold store; make one with `freehold format`", medium.uri()),
        )),
        (None, Some(e)) => Err(Error::corrupt("superblock", 0, &e.to_string())),
    }
}

/// One operation, start to end; for opening and formatting.
pub(super) fn do_now(queue: &mut dyn Queue, op: Op) -> Result<Option<Buffer>> {
    queue.submit(0, op).map_err(|r| match r.error {
        Some(e) => Error::from(e),
        None => Error::new(ErrorKind::Io, "the medium takes no operation at all"),
    })?;
    let mut done: Vec<Completion> = Vec::with_capacity(1);
    while queue.poll(&mut done) == 0 {
        queue.wait(Some(Duration::from_millis(100)))?;
    }
    let c = done.remove(0);
    c.result?;
    Ok(c.buf)
}

/// What a volume is made of.
pub(super) struct Parts {
    id: [u8; 16],
    blocks: u64,
    room: (u64, u64),
    core: Core,
    durable: u64,
}

impl Parts {
    /// The superblock of a store without any checkpoint.
    pub(super) fn unborn(id: [u8; 16], blocks: u64, journal_blocks: u64) -> Superblock {
        Superblock {
            refuse_features: 0,
            readonly_features: 0,
            ignore_features: superblock::GUARD,
            store_id: id,
            blocks,
            journal_start: 2,
            journal_blocks,
            checkpoint: 0,
            cut_seq: 0,
            cut_group: 1,
            cut_pos: 0,
            names: NodeRef::default(),
            files: NodeRef::default(),
            counts: NodeRef::default(),
            space: NodeRef::default(),
            share_gen: 1,
            next_file: 1,
            free: blocks,
            apart: None,
        }
    }

    /// A store as of a superblock and what came after it, with so many blocks of a ring.
    pub(super) fn of(
        sb: &Superblock,
        history: &recover::History,
        cache: Arc<Cache>,
        ring: u64,
    ) -> Self {
        let journal = Journal::new(
            ring,
            history.next_seq,
            history.next_group,
            history.next_pos,
            (sb.cut_pos, sb.cut_seq + 1),
        );
        let core = Core {
            shelf: Shelf {
                names: Tree::at(sb.names),
                tree: Tree::at(sb.files),
                files: Numbered::default(),
                circle: VecDeque::new(),
                gone: BTreeSet::new(),
                condemned: BTreeSet::new(),
                next_file: sb.next_file,
            },
            counts: Tree::at(sb.counts),
            space: Space::new(sb.blocks, Tree::at(sb.space), sb.free, cache),
            journal,
            generation: sb.checkpoint + 1,
            share_gen: sb.share_gen,
            dirty: BTreeSet::new(),
            cutting: Cutting::default(),
            lowerings: Lowerings::default(),
            settled: history.next_seq - 1,
            settling: None,
            logged: Logged::default(),
            late: Arc::default(),
            homes: BTreeMap::new(),
            deferred: BTreeMap::new(),
            deferred_blocks: 0,
            pledged: 0,
            load: Default::default(),
            room: Default::default(),
            reserve: RESERVE.max(sb.blocks / 100).min(sb.blocks / 8),
        };
        Parts {
            id: sb.store_id,
            blocks: sb.blocks,
            room: (sb.journal_start, sb.journal_blocks),
            core,
            durable: history.next_seq - 1,
        }
    }

    pub(super) fn build(
        self,
        medium: Arc<dyn Medium>,
        ring: Ring,
        read_only: bool,
    ) -> Result<Arc<Volume>> {
        let health = Arc::new(Health::new(read_only));
        let maint = Lane::new(ring.joined(medium.queue(64)?)?, health.clone());
        let marked = self.core.generation - 1;
        let cache = self.core.space.cache().clone();
        let late = self.core.late.clone();
        Ok(Arc::new(Volume {
            id: self.id,
            blocks: self.blocks,
            room: self.room,
            ring,
            health,
            core: Mutex::new(self.core),
            epoch: AtomicU64::new(1),
            durable: AtomicU64::new(self.durable),
            wanted: AtomicU64::new(self.durable),
            flushing: AtomicU64::new(self.durable),
            marked: AtomicU64::new(marked),
            duty: Duty::default(),
            maint,
            lanes: Mutex::default(),
            idle: Mutex::default(),
            flushed: AtomicU64::new(0),
            late,
            waiters: Default::default(),
            progress: Default::default(),
            sleepers: AtomicU64::new(0),
            counters: Counters::default(),
            cache,
            recovery: std::sync::OnceLock::new(),
            leasing: Default::default(),
            medium,
        }))
    }
}
