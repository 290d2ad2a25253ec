//! Recovery: from the newest checkpoint, through the journal, to the last
//! durable record (laws B8 and B9).
//!
//! The journal is read whole before anything is applied. A group that does not
//! decode ends it, unless a whole group of a later number says that this one
//! had been durable: then the journal is damaged, and nothing is guessed. All
//! addresses that the records name are reserved first; so a node that replay
//! makes never lands on a block that a later record claims. Nothing that the
//! checkpoint names is written: replay works in memory, and its nodes go to
//! fresh blocks at the next checkpoint.

use super::Volume;
use super::core::Core;
use super::ring::Ring;
use super::shelf::CONDEMNED;
use crate::error::{Error, ErrorKind, Result};
use crate::format::BLOCK;
use crate::format::journal::{decode_group, decode_group_head};
use crate::format::types::{Addr, Extent, Record, Seq, Superblock};
use crate::journal::ring_runs;
use crate::lane::Io;
use crate::tree::{Cursor, Fault};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records whose nodes are fetched together.
const AHEAD: usize = 256;

/// Records that are applied as one change at the most.
const TOGETHER: usize = AHEAD;

/// What opening a store took.
#[derive(Debug, Clone, Default)]
pub struct RecoveryReport {
    /// The checkpoint that recovery began from.
    pub checkpoint: u64,
    /// Journal groups replayed.
    pub groups: u64,
    /// Records replayed.
    pub records: u64,
    /// Bytes of the groups that were replayed.
    pub journal_bytes: u64,
    /// From the call to the store being ready.
    pub elapsed: Duration,
}

/// The records after a checkpoint, and where the journal goes on.
pub(super) struct History {
    pub(super) next_seq: Seq,
    pub(super) next_group: u64,
    pub(super) next_pos: u64,
    pub(super) groups: u64,
    pub(super) records: Vec<Record>,
    /// The checkpoint's own mark is among them.
    pub(super) marked: bool,
    /// Only one superblock is sound, or the newest is of an older version.
    pub(super) renew: bool,
}

impl History {
    pub(super) fn none(sb: &Superblock) -> Self {
        History {
            next_seq: sb.cut_seq + 1,
            next_group: sb.cut_group,
            next_pos: sb.cut_pos,
            groups: 0,
            records: Vec::new(),
            marked: false,
            renew: false,
        }
    }
}

/// The history in a ring, or what is wrong with it (law B9).
pub(super) fn read_history(
    ring: &[u8],
    place: &Ring,
    sb: &Superblock,
    fallback: bool,
) -> Result<History> {
    let mut h = follow(ring, sb);
    confirmed_later(ring, place.start(), sb, &h)?;
    for r in &h.records {
        if let Record::Mark { checkpoint } = r {
            if *checkpoint > sb.checkpoint {
                let why = format!("the journal says that checkpoint {checkpoint} was durable");
                return Err(Error::corrupt("superblock", Volume::slot(*checkpoint), &why));
            }
            h.marked |= *checkpoint == sb.checkpoint;
        }
    }
    if fallback {
        tracing::warn!(checkpoint = sb.checkpoint, "one superblock is damaged; using the other");
        h.renew = true;
    }
    Ok(h)
}

/// Follows the groups from the checkpoint's cut to the journal's end.
pub(super) fn follow(ring: &[u8], sb: &Superblock) -> History {
    let mut h = History::none(sb);
    let end = sb.cut_pos + (ring.len() / BLOCK) as u64;
    while h.next_pos < end {
        let Some((head, records)) = group_at(ring, sb, h.next_pos) else { break };
        let follows = head.number == h.next_group && head.first_seq == h.next_seq;
        if !follows || h.next_pos + u64::from(head.blocks) > end {
            break;
        }
        h.next_group += 1;
        h.next_pos += u64::from(head.blocks);
        h.next_seq += records.len() as u64;
        h.groups += 1;
        h.records.extend(records);
    }
    h
}

/// The whole group at a position, if there is one.
fn group_at(
    ring: &[u8],
    sb: &Superblock,
    pos: u64,
) -> Option<(crate::format::types::GroupHead, Vec<Record>)> {
    let lap = (ring.len() / BLOCK) as u64;
    let at = (pos % lap) as usize * BLOCK;
    let head = decode_group_head(ring.get(at..at + BLOCK)?, &sb.store_id).ok()?;
    if head.pos != pos || u64::from(head.blocks) > lap {
        return None;
    }
    let mut bytes = Vec::with_capacity(head.blocks as usize * BLOCK);
    for (first, _, n) in ring_runs(0, lap, pos, u64::from(head.blocks)) {
        bytes.extend_from_slice(ring.get(first as usize * BLOCK..(first + n) as usize * BLOCK)?);
    }
    decode_group(&bytes, &sb.store_id, pos).ok()
}

/// Law B9: is the group at which the journal ended confirmed by a later one,
/// in this lap of the ring or in a later one that has overwritten it?
fn confirmed_later(ring: &[u8], start: Addr, sb: &Superblock, h: &History) -> Result<()> {
    let lap = (ring.len() / BLOCK) as u64;
    for (i, block) in ring.chunks_exact(BLOCK).enumerate() {
        let Ok(head) = decode_group_head(block, &sb.store_id) else { continue };
        let later =
            head.pos % lap == i as u64 && head.pos >= h.next_pos && head.confirmed >= h.next_group;
        if later && group_at(ring, sb, head.pos).is_some() {
            let at = start + h.next_pos % lap;
            let why = format!("group {} was durable, as group {} says", h.next_group, head.number);
            return Err(Error::corrupt("journal", at, &why));
        }
    }
    Ok(())
}

/// Applies the history and makes the volume ready for use.
pub(super) fn replay(
    vol: &Arc<Volume>,
    sb: &Superblock,
    history: History,
    begun: Instant,
) -> Result<()> {
    let report = RecoveryReport {
        checkpoint: sb.checkpoint,
        groups: history.groups,
        records: history.records.len() as u64,
        journal_bytes: (history.next_pos - sb.cut_pos) * BLOCK as u64,
        elapsed: Duration::ZERO,
    };
    let first = sb.cut_seq + 1;
    let (marked, renew) = (history.marked, history.renew);
    let records = Arc::new(history.records);
    let v = vol.clone();
    vol.run(move |io| async move { v.replay_all(&io, first, &records).await })?;
    vol.check_homes()?;
    if vol.health.is_read_only() {
        vol.keep_homes();
    } else {
        let v = vol.clone();
        vol.run(move |io| async move { v.write_homes(&io).await })?;
        // What was read may be in a cache only, if the process before was killed:
        // it counts as durable from here on. Without its mark, nothing of the
        // checkpoint before may be reused until that is durable, too.
        let last = match marked {
            true => vol.durable(),
            false => vol.core().push_mark(sb.checkpoint),
        };
        let v = vol.clone();
        vol.run(move |io| async move { v.sync_to(&io, last).await })?;
    }
    if renew && vol.health.writable().is_ok() {
        // A crash tore it: the next checkpoint goes there, and two are sound again. Or a program
        // wrote it that would not know our groups, and must not take them for the journal's end.
        let v = vol.clone();
        vol.run(move |io| async move { v.next_checkpoint(&io).await })?;
    }
    let elapsed = begun.elapsed();
    tracing::info!(?report, ?elapsed, "store opened");
    let _ = vol.recovery.set(RecoveryReport { elapsed, ..report });
    if !vol.core().shelf.condemned.is_empty() {
        vol.ask_reap();
    }
    Ok(())
}

impl Volume {
    async fn replay_all(self: &Arc<Self>, io: &Io, first: Seq, records: &[Record]) -> Result<()> {
        self.core().space.set_replaying(true);
        self.warm_space(io, records).await;
        let mut next = 0;
        self.look(io, |v| reserve(&mut v.core(), records, &mut next)).await?;
        for (i, chunk) in records.chunks(AHEAD).enumerate() {
            self.warm(io, chunk).await;
            let mut done = 0;
            let mut most = TOGETHER;
            self.look(io, |v| {
                let mut core = v.core();
                while done < chunk.len() {
                    let some = together(&chunk[done..], most);
                    let last = first + (i * AHEAD + done + some.len()) as u64 - 1;
                    // If a node is missing after all, each try shall get further.
                    core.replay(some, last).inspect_err(|_| most = 1)?;
                    done += some.len();
                }
                Ok(())
            })
            .await?;
        }
        self.core().space.set_replaying(false);
        match self.find_condemned(io).await {
            // Which files wait for their removal cannot be told. The others can be
            // read; nothing is changed that would have to be told apart from them.
            Err(e) if e.kind() == ErrorKind::Corrupt => {
                self.health.spoil(&e);
                Ok(())
            }
            done => done,
        }
    }

    /// The condemned that the checkpoint knows of (law B10).
    async fn find_condemned(self: &Arc<Self>, io: &Io) -> Result<()> {
        let tree = self.core().shelf.tree.clone();
        let mut from = CONDEMNED;
        loop {
            let key = self
                .look(io, |_| {
                    let mut c = Cursor::seek(&tree, &from)?;
                    while let Some((k, _, _)) = c.next()? {
                        if k >= from {
                            return Ok(Some(k));
                        }
                    }
                    Ok(None)
                })
                .await?;
            let Some(key) = key else { return Ok(()) };
            let id = key & !CONDEMNED;
            self.look(io, |v| {
                let mut core = v.core();
                // Replay may have taken the last of it already.
                if core.shelf.file(id)?.is_some_and(|f| f.load().condemned) {
                    core.shelf.condemned.insert(id);
                }
                Ok(())
            })
            .await?;
            let Some(next) = key.checked_add(1) else { return Ok(()) };
            from = next;
        }
    }
}

/// The records at the beginning that can be applied as one change: they change maps
/// of files that are there, and nothing that a later one of them would have to see.
fn together(records: &[Record], most: usize) -> &[Record] {
    let maps = |r: &&Record| {
        matches!(
            r,
            Record::Map { .. }
                | Record::Convert { .. }
                | Record::Zero { .. }
                | Record::Grow { .. }
                | Record::Atomic { .. }
                | Record::Data { .. }
        )
    };
    let n = records.iter().take(most).take_while(maps).count();
    &records[..n.max(1)]
}

/// Law B8: every address that a record names is taken before any is applied.
/// Goes on at `next` when a bitmap had to be read.
fn reserve(
    core: &mut Core,
    records: &[Record],
    next: &mut usize,
) -> std::result::Result<(), Fault> {
    while let Some(r) = records.get(*next) {
        let named: Vec<&(u64, Extent)> = match r {
            _ if crate::sabotage::breaks("no-reservation") => Vec::new(),
            Record::Map { extents, .. } => extents.iter().collect(),
            Record::Atomic { parts, .. } => parts.iter().flat_map(|p| &p.extents).collect(),
            _ => Vec::new(),
        };
        for (_, e) in named {
            core.space.reserve(e.phys, u64::from(e.len))?;
        }
        *next += 1;
    }
    Ok(())
}
