//! Files: bytes at offsets, and the map behind them.

use crate::store::Inner;
use crate::{FileStat, Result, Session, Store};
use freehold_blockmap::{FileHandle, MapPiece};
use std::fmt;
use std::sync::Arc;

/// An open file. Cloning it is cheap; any thread may use it. While one exists
/// the file keeps its blocks, even when its name is gone.
#[derive(Clone)]
pub struct File {
    pub(crate) handle: FileHandle,
    store: Arc<Inner>,
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
    pub(crate) fn new(store: &Store, handle: FileHandle) -> Self {
        File { handle, store: store.inner.clone() }
    }

    /// The session that the file belongs to.
    pub fn session(&self) -> Session {
        Session::of(&Store { inner: self.store.clone() })
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
        self.store.volume.stat(&self.handle)
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
        self.store.volume.extent_at(&self.handle, offset).map(Extent::from)
    }

    /// Reads at any offset; short at the end of the file. Blocks.
    ///
    /// # Errors
    /// `Io`, `Corrupt`, `Gone`.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        self.store.volume.read_at(&self.handle, buf, offset)
    }

    /// Writes all of `buf` at any offset; the file grows as needed. Bytes outside
    /// the range never change. Blocks; durable after a sync.
    ///
    /// # Errors
    /// `NoSpace`, `Invalid` past the greatest size, `Io`, `Poisoned`, `ReadOnly`.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.store.volume.write_at(&self.handle, buf, offset)
    }

    /// As [`File::write_at`], and durable when it returns: these bytes, and the
    /// size, the map and the name that they need. Other bytes of the file that were
    /// written without this still want a sync.
    ///
    /// An overwrite of whole blocks that are written and not shared is one write to
    /// the device. Up to 16 KiB anywhere else (an append, a hole, shared blocks) is
    /// one write of the data and one to the journal, without a flush, and writers in
    /// several threads share the one to the journal. Longer writes cost a write and
    /// a sync.
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
        self.store.volume.write_durable_at(&self.handle, buf, offset)
    }

    /// Makes the file shorter, or longer with zeroes.
    ///
    /// # Errors
    /// As [`File::write_at`].
    pub fn truncate(&self, size: u64) -> Result<()> {
        self.store.volume.truncate(&self.handle, size)
    }

    /// Makes a range read as zeroes and frees its whole blocks. The size stays.
    ///
    /// # Errors
    /// As [`File::write_at`].
    pub fn punch(&self, offset: u64, len: u64) -> Result<()> {
        self.store.volume.punch(&self.handle, offset, len)
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
        self.store.volume.collapse(&self.handle, offset, len)
    }

    /// Makes room: what lies at the offset or behind it moves up, and between is a
    /// hole. As [`File::collapse`] otherwise.
    ///
    /// # Errors
    /// `Invalid` unless both numbers are multiples of 4096 and the offset lies inside
    /// the file (otherwise truncate it); as [`File::write_at`].
    pub fn insert(&self, offset: u64, len: u64) -> Result<()> {
        self.store.volume.insert(&self.handle, offset, len)
    }

    /// Sets blocks aside for a range, so that writes there find space; the file
    /// grows to its end. Shared blocks are copied.
    ///
    /// # Errors
    /// `NoSpace`, with what was done kept.
    pub fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.store.volume.allocate(&self.handle, offset, len)
    }

    /// A new file that shares all of this one, in constant time.
    ///
    /// # Errors
    /// `Exists`.
    pub fn reflink(&self, to: &[u8]) -> Result<File> {
        let handle = self.store.volume.reflink_file(&self.handle, to)?;
        Ok(File { handle, store: self.store.clone() })
    }

    /// Shares a range of this file with a place in another one of the store.
    ///
    /// # Errors
    /// `Invalid` for offsets that are not multiples of 4096, a range past the end,
    /// overlapping ranges, or files of two stores.
    pub fn reflink_range(&self, offset: u64, to: &File, to_offset: u64, len: u64) -> Result<()> {
        self.store.volume.reflink_range(&self.handle, offset, &to.handle, to_offset, len)
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
        let pieces = self.store.volume.iomap(&self.handle, offset, len)?;
        Ok(pieces.into_iter().map(Iomap::from).collect())
    }

    /// Makes durable what has completed of this file: bytes, size, map, name. Blocks.
    ///
    /// # Errors
    /// `Poisoned` if anything was lost.
    pub fn sync(&self) -> Result<()> {
        self.store.volume.sync_handle(&self.handle)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}
