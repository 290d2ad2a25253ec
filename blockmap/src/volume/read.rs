//! Reading: any range, from one version of the map.

use super::Volume;
use super::file::{FileHandle, FileState, Piece, Version};
use super::late::Bytes;
use super::ranges::extents_in;
use super::stats::{FileStat, shared_blocks};
use crate::error::{Error, ErrorKind, Result};
use crate::format::BLOCK;
use crate::format::types::Extent;
use crate::lane::{Io, all};
use crate::txn::Txn;
use freehold_engine::memory::Buffer;
use std::pin::Pin;
use std::sync::Arc;

/// Blocks that one blocking call moves at a time.
pub(super) const CHUNK: usize = 1 << 20;

const B: u64 = BLOCK as u64;

/// One line of a file's map, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapPiece {
    /// Where in the file.
    pub offset: u64,
    /// How long.
    pub len: u64,
    /// Where on the medium; none for a hole.
    pub address: Option<u64>,
    /// Allocated, but reads as zeroes.
    pub unwritten: bool,
    /// Some other map has these blocks too.
    pub shared: bool,
}

impl Volume {
    /// Reads into a buffer of whole blocks; says how many of the `want` bytes the
    /// file had. Bytes behind them are zeroes.
    pub(super) async fn read_task(
        self: &Arc<Self>,
        io: &Io,
        file: &Arc<FileState>,
        off: u64,
        buf: Buffer,
        want: usize,
    ) -> (Result<usize>, Option<Buffer>) {
        // Law B3: nothing that this version names is reused before we are done.
        let blocks = (off / B, off.saturating_add(want as u64).div_ceil(B));
        let _seen = match self.seen_to_read(io, file, blocks).await {
            Ok(seen) => seen,
            Err(e) => return (Err(e), Some(buf)),
        };
        let v = file.load();
        let n = v.size.saturating_sub(off).min(want as u64) as usize;
        let skip = (off % B) as usize;
        if n == 0 {
            return (Ok(0), Some(zero_from(buf, 0)));
        }
        let first = off / B;
        let blocks = (off + n as u64).div_ceil(B) - first;
        if skip == 0 {
            return match self.read_blocks(io, &v, first, blocks, buf).await {
                Ok(buf) => (Ok(n), Some(zero_from(buf, n))),
                Err((e, buf)) => (Err(e), buf),
            };
        }
        let bounce = match self.medium.pool().take(blocks as usize * BLOCK) {
            Ok(b) => b,
            Err(e) => return (Err(e.into()), Some(buf)),
        };
        match self.read_blocks(io, &v, first, blocks, bounce).await {
            Ok(bounce) => {
                let mut buf = buf;
                buf[..n].copy_from_slice(&bounce[skip..skip + n]);
                (Ok(n), Some(zero_from(buf, n)))
            }
            Err((e, _)) => (Err(e), Some(buf)),
        }
    }

    /// Reads whole blocks into the beginning of a buffer. The caller is seen.
    pub(super) async fn read_blocks(
        self: &Arc<Self>,
        io: &Io,
        v: &Version,
        first: u64,
        blocks: u64,
        mut buf: Buffer,
    ) -> std::result::Result<Buffer, (Error, Option<Buffer>)> {
        let found = match self.look(io, |_| extents_in(v, first, first + blocks)).await {
            Ok(found) => found,
            Err(e) => return Err((e, Some(buf))),
        };
        let most = u64::from(self.medium.geometry().max_transfer) / B;
        let cuts = pieces(first, blocks, &found, most);
        let cuts = self.split_late(cuts);
        let spare =
            (buf.len() > blocks as usize * BLOCK).then(|| buf.split_off(blocks as usize * BLOCK));
        let mut parts: Vec<Part> = Vec::with_capacity(cuts.len());
        // From the back, so that each piece is what is left behind.
        for (block, _, place) in cuts.into_iter().rev() {
            let at = (block - first) as usize * BLOCK;
            let mut part = buf.split_off(at);
            let io = io.clone();
            match place {
                Place::Medium(at) => {
                    parts.push(Box::pin(async move { io.read(at, part).await }));
                }
                Place::Hole => {
                    part.fill(0);
                    parts.push(Box::pin(async move { Ok(part) }));
                }
                Place::Late(bytes) => {
                    part.fill(0);
                    part[..bytes.len()].copy_from_slice(&bytes);
                    parts.push(Box::pin(async move { Ok(part) }));
                }
            }
        }
        parts.reverse();
        rejoin(all(parts).await, spare)
    }

    /// Blocks that are late are not read from the medium. Asked when the map has been
    /// looked at, and before the medium is.
    fn split_late(&self, cuts: Vec<(u64, u64, Place)>) -> Vec<(u64, u64, Place)> {
        if self.late.len() == 0 {
            return cuts;
        }
        let mut out = Vec::with_capacity(cuts.len());
        for (block, n, place) in cuts {
            let Place::Medium(phys) = place else {
                out.push((block, n, place));
                continue;
            };
            let mut done = 0;
            for (at, bytes) in self.late.among(phys, n) {
                let skip = at - phys;
                if skip > done {
                    out.push((block + done, skip - done, Place::Medium(phys + done)));
                }
                out.push((block + skip, 1, Place::Late(bytes)));
                done = skip + 1;
            }
            if done < n {
                out.push((block + done, n - done, Place::Medium(phys + done)));
            }
        }
        out
    }

    /// What stands behind one place: the rest of its extent, or a hole of one block
    /// at least. `shared` is not looked at and false. Allocates nothing and takes no
    /// lock; blocks only where a node must be read.
    ///
    /// # Errors
    /// `Corrupt` if a node on the way cannot be read.
    pub fn extent_at(self: &Arc<Self>, file: &FileHandle, off: u64) -> Result<MapPiece> {
        if let Ok(found) = file.state().version.load().lookup(off / B) {
            return Ok(piece_at(off, found));
        }
        let (vol, state) = (self.clone(), file.state().clone());
        let found = self.run(move |io| async move {
            vol.look(&io, |_| state.version.load().lookup(off / B)).await
        })?;
        Ok(piece_at(off, found))
    }

    /// The map of a range, holes included, up to the file's end.
    ///
    /// # Errors
    /// `Corrupt` if a node on the way cannot be read.
    pub fn iomap(self: &Arc<Self>, file: &FileHandle, off: u64, len: u64) -> Result<Vec<MapPiece>> {
        let (vol, state) = (self.clone(), file.state().clone());
        self.run(move |io| async move {
            vol.look(&io, |vol| {
                let v = state.load();
                let end = off.saturating_add(len).min(v.size.next_multiple_of(B));
                if off >= end {
                    return Ok(Vec::new());
                }
                let found = extents_in(&v, off / B, end.div_ceil(B))?;
                let mut core = vol.core();
                let txn = core.view();
                let mut out = Vec::new();
                let mut at = off / B;
                for (k, e, _) in &found {
                    hole(&mut out, at, *k);
                    let mut done = 0;
                    for (len, shared) in sharing(&txn, &v, *k, e)? {
                        out.push(MapPiece {
                            offset: (k + done) * B,
                            len: len * B,
                            address: Some((e.phys + done) * B),
                            unwritten: e.unwritten,
                            shared,
                        });
                        done += len;
                    }
                    at = k + u64::from(e.len);
                }
                hole(&mut out, at, end.div_ceil(B));
                Ok(out)
            })
            .await
        })
    }

    /// Size, allocation, sharing. Walks the map.
    ///
    /// # Errors
    /// `Corrupt` if a node cannot be read.
    pub fn stat(self: &Arc<Self>, file: &FileHandle) -> Result<FileStat> {
        self.count_file(file.state(), true)
    }

    /// Reads at any offset into any memory; short at the end of the file. Blocks.
    ///
    /// # Errors
    /// `Io`, `Corrupt`, `Gone`.
    pub fn read_at(self: &Arc<Self>, file: &FileHandle, to: &mut [u8], off: u64) -> Result<usize> {
        let mut done = 0;
        while done < to.len() {
            let at = off.checked_add(done as u64).ok_or_else(|| {
                Error::new(ErrorKind::Invalid, "the range reaches past what any file can have")
            })?;
            let n = (to.len() - done).min(CHUNK);
            let buf = self.medium.pool().take(n)?;
            let (vol, state) = (self.clone(), file.state().clone());
            let (got, buf) = self.run_as(file.session(), move |io| async move {
                let (result, buf) = vol.read_task(&io, &state, at, buf, n).await;
                Ok((result?, buf))
            })?;
            if let Some(buf) = buf {
                to[done..done + got].copy_from_slice(&buf[..got]);
            }
            done += got;
            if got < n {
                break;
            }
        }
        Ok(done)
    }
}

type Part = Pin<Box<dyn Future<Output = Result<Buffer>> + Send>>;

/// Where some blocks are to be read.
enum Place {
    Hole,
    Medium(u64),
    /// One block that is late (law B7).
    Late(Bytes),
}

/// The range as commands: (first block, blocks, where).
fn pieces(
    first: u64,
    blocks: u64,
    found: &[(u64, Extent, bool)],
    most: u64,
) -> Vec<(u64, u64, Place)> {
    let mut out = Vec::with_capacity(2 * found.len() + 1);
    let mut at = first;
    for (k, e, _) in found {
        if *k > at {
            out.push((at, k - at, Place::Hole));
        }
        let mut done = 0;
        while done < u64::from(e.len) {
            let n = (u64::from(e.len) - done).min(most);
            let place = if e.unwritten { Place::Hole } else { Place::Medium(e.phys + done) };
            out.push((k + done, n, place));
            done += n;
        }
        at = k + u64::from(e.len);
    }
    if at < first + blocks {
        out.push((at, first + blocks - at, Place::Hole));
    }
    out
}

/// Puts the parts of a buffer together again.
pub(super) fn rejoin(
    parts: Vec<Result<Buffer>>,
    spare: Option<Buffer>,
) -> std::result::Result<Buffer, (Error, Option<Buffer>)> {
    let mut whole: Option<Buffer> = None;
    let mut error = None;
    for part in parts.into_iter().chain(spare.map(Ok)) {
        match part {
            Ok(b) => match &mut whole {
                // Parts that do not touch are those behind a lost one.
                Some(w) => drop(w.unsplit(b)),
                None => whole = Some(b),
            },
            Err(e) => error = error.or(Some(e)),
        }
    }
    match (error, whole) {
        (None, Some(w)) => Ok(w),
        (e, w) => Err((e.unwrap_or_else(|| Error::new(ErrorKind::Io, "a buffer was lost")), w)),
    }
}

fn zero_from(mut buf: Buffer, n: usize) -> Buffer {
    buf[n..].fill(0);
    buf
}

fn piece_at(off: u64, found: Piece) -> MapPiece {
    let offset = off - off % B;
    match found {
        Piece::Hole(n) => {
            MapPiece { offset, len: n * B, address: None, unwritten: false, shared: false }
        }
        Piece::Extent { e, .. } => MapPiece {
            offset,
            len: u64::from(e.len) * B,
            address: Some(e.phys * B),
            unwritten: e.unwritten,
            shared: false,
        },
    }
}

fn hole(out: &mut Vec<MapPiece>, from: u64, to: u64) {
    if from < to {
        out.push(MapPiece {
            offset: from * B,
            len: (to - from) * B,
            address: None,
            unwritten: false,
            shared: false,
        });
    }
}

/// An extent cut where its sharing changes.
fn sharing(
    txn: &Txn<'_>,
    v: &Version,
    k: u64,
    e: &Extent,
) -> std::result::Result<Vec<(u64, bool)>, crate::tree::Fault> {
    let len = u64::from(e.len);
    if shared_blocks(txn, v.root(), k, e)? == len {
        return Ok(vec![(len, true)]);
    }
    let mut out: Vec<(u64, bool)> = Vec::new();
    for (_, n, count) in txn.runs(e.phys, len)? {
        match out.last_mut() {
            Some((m, shared)) if *shared == (count > 1) => *m += n,
            _ => out.push((n, count > 1)),
        }
    }
    Ok(out)
}
