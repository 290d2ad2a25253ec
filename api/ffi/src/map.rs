//! Maps: where the bytes of a file are, and how two files differ.

use crate::args::{self, answer, sized};
use crate::fault::{count, status};
use crate::object::{fh_file, used};
use freehold::{Iomap, IomapKind};
use std::ffi::c_int;

/// Nothing; reads as zeroes.
pub const FH_HOLE: u32 = 0;
/// Blocks that were set aside; reads as zeroes.
pub const FH_UNWRITTEN: u32 = 1;
/// Blocks with data.
pub const FH_WRITTEN: u32 = 2;
/// As an address: there is none.
pub const FH_NOWHERE: u64 = u64::MAX;

/// A piece of a map. Numbers in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct fh_extent {
    /// Where in the file.
    pub offset: u64,
    /// How long.
    pub length: u64,
    /// Where on the medium; FH_NOWHERE for a hole.
    pub address: u64,
    /// FH_HOLE, FH_UNWRITTEN or FH_WRITTEN.
    pub kind: u32,
    /// 1 if another map has these blocks, too.
    pub shared: u32,
}

/// Bytes at one place of two files.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_range {
    /// First byte.
    pub offset: u64,
    /// How many.
    pub length: u64,
}

/// A file's numbers, in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_stat {
    /// sizeof(struct fh_stat), set by the caller.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Its length.
    pub bytes: u64,
    /// What its map takes, shared or not.
    pub allocated: u64,
    /// How much of that others have, too.
    pub shared: u64,
    /// Extents in its map.
    pub extents: u64,
}

/// What came of moving a file's blocks together.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_defrag_report {
    /// sizeof(struct fh_defrag_report), set by the caller.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// Places on the medium that the range lay in.
    pub extents_before: u64,
    /// Places that it lies in now.
    pub extents_after: u64,
    /// Bytes that were moved.
    pub moved: u64,
}

sized! {
    fh_stat: extents,
    fh_defrag_report: moved,
}

pub(crate) fn kind(kind: IomapKind) -> u32 {
    match kind {
        IomapKind::Hole => FH_HOLE,
        IomapKind::Unwritten => FH_UNWRITTEN,
        IomapKind::Written => FH_WRITTEN,
    }
}

impl From<Iomap> for fh_extent {
    fn from(e: Iomap) -> Self {
        fh_extent {
            offset: e.offset,
            length: e.length,
            address: e.address.unwrap_or(FH_NOWHERE),
            kind: kind(e.kind),
            shared: e.shared.into(),
        }
    }
}

/// The map of a range up to the end of the file, holes included.
///
/// Parameters: `offset` and `length` in bytes; FH_TO_END for all. `extents` has room for `room`.
/// Thread: any. Blocks where nodes of the map are not in memory.
/// Ownership: nothing changes hands. An address is good for as long as a LAYOUT seal or a lease
/// keeps the blocks where they are, and no longer.
/// Returns: how many extents there are, also if that is more than `room`, which are filled then:
/// the next ones begin where the last one ends. Or a code.
/// Errors: FH_ECORRUPT, FH_EIO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_iomap(
    file: *mut fh_file,
    offset: u64,
    length: u64,
    extents: *mut fh_extent,
    room: usize,
) -> i64 {
    count(|| {
        let map = used(file)?.iomap(offset, length)?;
        // SAFETY: the caller has so much room.
        unsafe { args::list(extents, room, map.into_iter().map(fh_extent::from)) }
    })
}

/// What stands behind one byte: the quickest look-up there is. `shared` is not worked out.
///
/// Parameters: `extent` gets it, from the block with the byte on; past the end a hole.
/// Thread: any. Blocks only where a node of the map is not in memory.
/// Ownership: as fh_file_iomap.
/// Returns: 0, or a code.
/// Errors: FH_ECORRUPT, FH_EIO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_extent_at(
    file: *mut fh_file,
    offset: u64,
    extent: *mut fh_extent,
) -> c_int {
    status(|| {
        let e = used(file)?.extent_at(offset)?;
        let found = fh_extent {
            offset: e.offset,
            length: e.length,
            address: e.address.unwrap_or(FH_NOWHERE),
            kind: kind(e.kind),
            shared: 0,
        };
        // SAFETY: the caller gives a place for it.
        unsafe { args::put(extent, found, "extent") }
    })
}

/// Where two files of a store have different blocks, in order. Outside of these ranges they hold
/// the same bytes; inside, bytes may be equal by chance. What reflinks still share costs nothing.
///
/// Parameters: `ranges` has room for `room`.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: how many ranges there are, also if that is more than `room`. Or a code.
/// Errors: FH_EINVAL for files of two stores; FH_ECORRUPT, FH_EIO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_diff(
    one: *mut fh_file,
    other: *mut fh_file,
    ranges: *mut fh_range,
    room: usize,
) -> i64 {
    count(|| {
        let all = used(one)?.diff(&*used(other)?)?;
        let all = all.into_iter().map(|r| fh_range { offset: r.offset, length: r.len });
        // SAFETY: the caller has so much room.
        unsafe { args::list(ranges, room, all) }
    })
}

/// A file's numbers. Walks its map.
///
/// Parameters: `stat` is filled; the caller sets its size before.
/// Thread: any. Blocks where nodes of the map are not in memory.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_ECORRUPT, FH_EIO; FH_EINVAL for a wrong size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_stat(file: *mut fh_file, stat: *mut fh_stat) -> c_int {
    status(|| {
        let s = used(file)?.stat()?;
        let found = fh_stat {
            size: 0,
            reserved: 0,
            bytes: s.size,
            allocated: s.allocated,
            shared: s.shared,
            extents: s.extents,
        };
        // SAFETY: the caller gives such a struct.
        unsafe { answer(stat, found) }
    })
}

/// Moves the blocks of a range together where free space has longer runs than they lie in. The
/// bytes do not change, and others may go on reading and writing.
///
/// Parameters: `offset` and `length` in bytes; FH_TO_END for all. `report` may be null.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EROFS, FH_EIO, FH_EPOISONED. A lack of space is none: what cannot be moved stays.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_defrag(
    file: *mut fh_file,
    offset: u64,
    length: u64,
    report: *mut fh_defrag_report,
) -> c_int {
    status(|| {
        let r = used(file)?.defrag(offset, length)?;
        if report.is_null() {
            return Ok(());
        }
        let found = fh_defrag_report {
            size: 0,
            reserved: 0,
            extents_before: r.extents_before,
            extents_after: r.extents_after,
            moved: r.moved,
        };
        // SAFETY: the caller gives such a struct.
        unsafe { answer(report, found) }
    })
}
