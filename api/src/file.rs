//! Files: bytes at offsets, and the map behind them.

use crate::store::Inner;
use crate::{DefragReport, DiffRange, FileStat, Result, Session};
use freehold_blockmap::{FileHandle, MapPiece, SessionCore, Volume, not_forked};
use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

/// An open file. Cloning it is cheap; any thread may use it. While one exists
/// the file keeps its blocks, even when its name is gone.
#[derive(Clone)]
pub struct File {
    pub(crate) handle: FileHandle,
    store: Arc<Inner>,
    who: Arc<SessionCore>,
}

/// What stands behind a range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IomapKind {
    /// Nothing; reads as zeroes.
    Hole,
    /// Blocks that were set aside; reads as zeroes.
    Unwritten,
    /// Blocks with data.
    Written,
}

/// A piece of a file's map. All numbers in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Iomap {
    /// Where in the file.
    pub offset: u64,
    /// How long.
    pub length: u64,
    /// What it is.
    pub kind: IomapKind,
    /// Another map has these blocks too.
    pub shared: bool,
    /// Where on the medium; none for a hole.
    pub address: Option<u64>,
}

/// What stands behind one place of a file. All numbers in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// Where in the file: the beginning of the block that was asked for.
    pub offset: u64,
    /// How far from there the extent reaches. A hole may reach further than said.
    pub length: u64,
    /// What it is.
    pub kind: IomapKind,
    /// Where on the medium; none for a hole.
    pub address: Option<u64>,
}

impl From<MapPiece> for Extent {
    fn from(p: MapPiece) -> Self {
        let Iomap { offset, length, kind, address, .. } = p.into();
        Extent { offset, length, kind, address }
    }
}

impl From<MapPiece> for Iomap {
    fn from(p: MapPiece) -> Self {
        let kind = match p.address {
            None => IomapKind::Hole,
            Some(_) if p.unwritten => IomapKind::Unwritten,
            Some(_) => IomapKind::Written,
        };
        Iomap { offset: p.offset, length: p.len, kind, shared: p.shared, address: p.address }
    }
}

impl File {
    pub(crate) fn new(store: &Arc<Inner>, who: &Arc<SessionCore>, handle: FileHandle) -> Self {
        let handle = handle.for_session(who.id());
        File { handle, store: store.clone(), who: who.clone() }
    }

    /// The session that the file belongs to. It never changes.
    pub fn session(&self) -> Session {
        Session::of(&self.store, &self.who)
    }

    pub(crate) fn who(&self) -> &Arc<SessionCore> {
        &self.who
    }

    /// The store, unless this is a forked child.
    #[inline]
    pub(crate) fn volume(&self) -> Result<&Arc<Volume>> {
        not_forked()?;
        Ok(&self.store.volume)
    }

    /// Bytes.
    pub fn size(&self) -> u64 {
        self.handle.size()
    }

    /// Its numbers. Walks the map.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn stat(&self) -> Result<FileStat> {
        self.volume()?.stat(&self.handle)
    }

    /// What stands behind one byte, as [`File::iomap`] says it but for who shares it.
    /// Past the end of the file there is a hole. The quickest look-up there is:
    /// nothing is allocated, no lock is taken; it blocks only where a node of the
    /// map is not in memory.
    ///
    /// ```
    /// let store = freehold::Store::format("mem:16M", &Default::default())?;
    /// let file = store.create(b"f")?;
    /// file.write_at(&[1; 8192], 4096)?;
    /// let e = file.extent_at(5000)?;
    /// assert_eq!((e.offset, e.length), (4096, 8192));
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt`, `Io`.
    pub fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.volume()?.extent_at(&self.handle, offset).map(Extent::from)
    }

    /// Reads at any offset; short at the end of the file. Up to 1 MiB comes from one
    /// version of the file's map; more is several reads, one after the other. Blocks.
    ///
    /// # Errors
    /// `Io`, `Corrupt`, `Gone`.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.volume()?.read_at(&self.handle, buf, offset)
    }

    /// Writes all of `buf` at any offset; the file grows as needed. Bytes outside
    /// the range never change. Blocks; durable after a sync.
    ///
    /// # Errors
    /// `NoSpace`, `Invalid` past the greatest size, `Io`, `Poisoned`, `ReadOnly`.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.volume()?.write_at(&self.handle, buf, offset)
    }

    /// As [`File::write_at`], and durable when it returns: these bytes, and the
    /// size, the map and the name that they need. Other bytes of the file that were
    /// written without this still want a sync.
    ///
    /// An overwrite of whole blocks that are written and not shared is one write to
    /// the device. Up to 16 KiB anywhere else (an append, a hole, shared blocks) is
    /// one write of the data and one to the journal, without a flush, and writers in
    /// several threads share the one to the journal. Longer writes cost a write and
    /// a sync. On a store in a window (`pmem:`, `pmr:`) the calling thread stores the bytes
    /// in their place, of any length, and no command is needed.
    ///
    /// ```
    /// use freehold::Store;
    /// let store = Store::format("mem:16M", &Default::default())?;
    /// let log = store.create(b"log")?;
    /// for entry in 0..3u64 {
    ///     log.write_durable_at(&entry.to_le_bytes(), log.size())?;
    /// }
    /// assert_eq!(log.size(), 24);
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`File::write_at`]. After one, the range holds old or new bytes, which
    /// need not be durable.
    pub fn write_durable_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.volume()?.write_durable_at(&self.handle, buf, offset)
    }

    /// Writes several ranges, each an offset and bytes, so that they become visible
    /// together or not at all, to readers and across a crash; the file grows as needed.
    /// Every block that is touched moves to a new place. Blocks; durable after a sync.
    ///
    /// A read of up to 1 MiB, or of any length through a [`Queue`](crate::Queue), sees
    /// all of it or nothing; a longer `read_at` is several reads.
    ///
    /// ```
    /// let store = freehold::Store::format("mem:16M", &Default::default())?;
    /// let file = store.create(b"f")?;
    /// file.write_atomic(&[(0, b"from: 90"), (40_000, b"to: 110")])?;
    /// assert_eq!(file.size(), 40_007);
    /// assert!(store.atomic_limits().max_bytes >= 1 << 20);
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for ranges that overlap; `Limit` beyond
    /// [`Store::atomic_limits`](crate::Store::atomic_limits); and as
    /// [`File::write_at`]. After an error nothing has changed.
    pub fn write_atomic(&self, writes: &[(u64, &[u8])]) -> Result<()> {
        self.volume()?.write_atomic(&self.handle, writes)
    }

    /// Makes the file shorter, or longer with zeroes.
    ///
    /// # Errors
    /// As [`File::write_at`].
    pub fn truncate(&self, size: u64) -> Result<()> {
        self.volume()?.truncate(&self.handle, size)
    }

    /// Makes a range read as zeroes and frees its whole blocks. The size stays.
    ///
    /// # Errors
    /// As [`File::write_at`].
    pub fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.volume()?.punch(&self.handle, offset, len)
    }

    /// Makes a range read as zeroes and keeps its blocks, or gives it some: writes
    /// there find space. The size stays.
    ///
    /// ```
    /// use freehold::{IomapKind, Store};
    /// let store = Store::format("mem:16M", &Default::default())?;
    /// let file = store.create(b"f")?;
    /// file.write_at(&[1; 12288], 0)?;
    /// file.zero(4096, 4096)?;
    /// let map = file.iomap(0, u64::MAX)?;
    /// assert_eq!((map[1].offset, map[1].kind), (4096, IomapKind::Unwritten));
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`File::write_at`]; after `NoSpace` a part may be zeroed.
    pub fn zero(&self, offset: u64, len: u64) -> Result<()> {
        self.volume()?.zero(&self.handle, offset, len)
    }

    /// Takes a range out: what lies behind it moves down, and the file gets shorter
    /// by as much. In multiples of 4096 bytes; the cost does not depend on how much
    /// is moved. Happens wholly or not at all; durable when it returns.
    ///
    /// ```
    /// # use freehold::Store;
    /// # let store = Store::format("mem:16M", &Default::default())?;
    /// let log = store.create(b"log")?;
    /// log.write_at(&[[1; 4096], [2; 4096], [3; 4096]].concat(), 0)?;
    /// log.collapse(0, 4096)?;
    /// let mut first = [0; 4096];
    /// log.read_at(&mut first, 0)?;
    /// assert_eq!((log.size(), first), (8192, [2; 4096]));
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` unless both numbers are multiples of 4096 and the range ends before
    /// the file does (otherwise truncate it); as [`File::write_at`].
    pub fn collapse(&self, offset: u64, len: u64) -> Result<()> {
        self.volume()?.collapse(&self.handle, offset, len)
    }

    /// Makes room: what lies at the offset or behind it moves up, and between is a
    /// hole. As [`File::collapse`] otherwise.
    ///
    /// # Errors
    /// `Invalid` unless both numbers are multiples of 4096 and the offset lies inside
    /// the file (otherwise truncate it); as [`File::write_at`].
    pub fn insert(&self, offset: u64, len: u64) -> Result<()> {
        self.volume()?.insert(&self.handle, offset, len)
    }

    /// Sets blocks aside for a range, so that writes there find space; the file
    /// grows to its end. Shared blocks are copied.
    ///
    /// # Errors
    /// `NoSpace`, with what was done kept.
    pub fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.volume()?.allocate(&self.handle, offset, len)
    }

    /// A new file that shares all of this one, in constant time.
    ///
    /// # Errors
    /// `Exists`.
    pub fn reflink(&self, to: &[u8]) -> Result<File> {
        let handle = self.volume()?.reflink_file(&self.handle, to)?;
        Ok(File::new(&self.store, &self.who, handle))
    }

    /// Shares a range of this file with a place in another one of the store.
    ///
    /// # Errors
    /// `Invalid` for offsets that are not multiples of 4096, a range past the end,
    /// overlapping ranges, or files of two stores.
    pub fn reflink_range(&self, offset: u64, to: &File, to_offset: u64, len: u64) -> Result<()> {
        self.volume()?.reflink_range(&self.handle, offset, &to.handle, to_offset, len)
    }

    /// The map of a range up to the end of the file, holes included.
    ///
    /// ```
    /// use freehold::{IomapKind, Store};
    /// let store = Store::format("mem:16M", &Default::default())?;
    /// let file = store.create(b"f")?;
    /// file.write_at(&[1; 4096], 8192)?;
    /// let map = file.iomap(0, u64::MAX)?;
    /// assert_eq!(map[0].kind, IomapKind::Hole);
    /// assert_eq!((map[1].offset, map[1].kind), (8192, IomapKind::Written));
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn iomap(&self, offset: u64, len: u64) -> Result<Vec<Iomap>> {
        let pieces = self.volume()?.iomap(&self.handle, offset, len)?;
        Ok(pieces.into_iter().map(Iomap::from).collect())
    }

    /// Moves the blocks of a range together where free space has longer runs than they
    /// lie in; blocks that other files share stay. The bytes do not change, and others
    /// may go on reading and writing.
    ///
    /// ```
    /// let store = freehold::Store::format("mem:16M", &Default::default())?;
    /// let file = store.create(b"f")?;
    /// for i in [0, 2, 1, 3] {
    ///     file.write_at(&[i as u8; 4096], i * 4096)?;
    /// }
    /// let done = file.defrag(0, u64::MAX)?;
    /// assert!(done.extents_after <= done.extents_before);
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `ReadOnly`, `Io`, `Poisoned`. A lack of space is none: what cannot be moved stays.
    pub fn defrag(&self, offset: u64, len: u64) -> Result<DefragReport> {
        self.volume()?.defrag(&self.handle, offset, len)
    }

    /// Where this file and another one of the store have different blocks, in order.
    /// Outside of these ranges they hold the same bytes; inside, bytes may be equal by
    /// chance. What reflinks still share costs nothing.
    ///
    /// ```
    /// let store = freehold::Store::format("mem:16M", &Default::default())?;
    /// let file = store.create(b"f")?;
    /// file.write_at(&[1; 40_960], 0)?;
    /// let copy = file.reflink(b"copy")?;
    /// assert!(file.diff(&copy)?.is_empty());
    /// copy.write_at(b"x", 8200)?;
    /// let ranges = file.diff(&copy)?;
    /// assert_eq!((ranges[0].offset, ranges[0].len), (8192, 4096));
    /// # Ok::<(), freehold::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for files of two stores; `Corrupt`, `Io`.
    pub fn diff(&self, other: &File) -> Result<Vec<DiffRange>> {
        self.volume()?.diff(&self.handle, &other.handle)
    }

    /// Makes durable what has completed of this file: bytes, size, map, name. Blocks.
    ///
    /// # Errors
    /// `Poisoned` if anything was lost.
    pub fn sync(&self) -> Result<()> {
        self.volume()?.sync_handle(&self.handle)
    }
}

/// First byte and the one behind the last; an open end is `end`.
pub(crate) fn bounds(range: impl RangeBounds<u64>, end: u64) -> (u64, u64) {
    let first = match range.start_bound() {
        Bound::Included(at) => *at,
        Bound::Excluded(at) => at.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let last = match range.end_bound() {
        Bound::Included(at) => at.saturating_add(1),
        Bound::Excluded(at) => *at,
        Bound::Unbounded => end,
    };
    (first, last)
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}
