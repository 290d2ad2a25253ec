//! What a store is, has done, and holds: numbers and texts.

use crate::args::{self, answer, sized};
use crate::fault::{count, status};
use crate::object::{fh_store, used};
use freehold::Store;
use std::ffi::{c_char, c_int};
use std::fmt::Write;

/// Info: nothing can be changed.
pub const FH_INFO_READ_ONLY: u32 = 1;
/// Info: completed writes need a flush to be durable.
pub const FH_INFO_VOLATILE_CACHE: u32 = 2;
/// Info: the CPU reaches the bytes directly.
pub const FH_INFO_WINDOW: u32 = 4;
/// Info: the journal has a medium of its own.
pub const FH_INFO_JOURNAL_APART: u32 = 8;

/// What a store and its medium are.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_info {
    /// sizeof(struct fh_info), set by the caller.
    pub size: u32,
    /// FH_INFO_READ_ONLY and the like.
    pub flags: u32,
    /// Drawn at random when it was formatted.
    pub store_id: [u8; 16],
    /// Version of the format.
    pub version: u32,
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks of the store.
    pub blocks: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// The last durable checkpoint.
    pub checkpoint: u64,
    /// Bytes that the device itself addresses.
    pub lba_bytes: u32,
    /// Most bytes in one command.
    pub max_transfer: u32,
    /// Bytes that the device writes all or nothing.
    pub atomic_bytes: u32,
    /// Zero.
    pub reserved: u32,
    /// Most bytes of one fh_file_write_atomic.
    pub atomic_max_bytes: u64,
    /// Most ranges of one.
    pub atomic_max_ranges: u64,
    /// Most bytes of one that is fast.
    pub atomic_fast_bytes: u64,
}

/// What opening a store took.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_recovery {
    /// sizeof(struct fh_recovery), set by the caller.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// The checkpoint that it began from.
    pub checkpoint: u64,
    /// Journal groups replayed.
    pub groups: u64,
    /// Records replayed.
    pub records: u64,
    /// Bytes of the groups.
    pub journal_bytes: u64,
    /// Nanoseconds from the call to the store being ready.
    pub elapsed_ns: u64,
}

/// How the space of a store is used, in bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_space {
    /// sizeof(struct fh_space), set by the caller.
    pub size: u32,
    /// Zero.
    pub zero: u32,
    /// The whole store.
    pub total: u64,
    /// What can be taken now, the reserve included.
    pub free: u64,
    /// Kept for removals and checkpoints.
    pub reserved: u64,
    /// Freed, and waiting for a checkpoint.
    pub condemned: u64,
    /// The journal's room in the store.
    pub journal: u64,
    /// The journal on another medium; not a part of the store.
    pub journal_apart: u64,
    /// How much of it the next opening would read back.
    pub journal_used: u64,
    /// Free but for pins of leases that were taken at their deadline.
    pub quarantined: u64,
    /// Memory, not blocks: what a device that was lost may still write to.
    pub withheld: u64,
}

/// What a store has done since it was opened.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_stats {
    /// sizeof(struct fh_stats), set by the caller.
    pub size: u32,
    /// Zero.
    pub zero: u32,
    /// Plain reads that users submitted.
    pub reads: u64,
    /// Plain writes that users submitted.
    pub writes: u64,
    /// Read commands that the device was given.
    pub device_reads: u64,
    /// Write commands that the device was given.
    pub device_writes: u64,
    /// Flush commands that the device was given.
    pub device_flushes: u64,
    /// Bytes that the device was asked to read.
    pub device_bytes_read: u64,
    /// Bytes that the device was asked to write.
    pub device_bytes_written: u64,
    /// Durable writes that were stored into the store's window, by no command.
    pub stored_writes: u64,
    /// Bytes of them.
    pub stored_bytes: u64,
    /// Journal groups written.
    pub journal_groups: u64,
    /// Records in them.
    pub journal_records: u64,
    /// Bytes of them.
    pub journal_bytes: u64,
    /// Checkpoints completed.
    pub checkpoints: u64,
    /// Nodes and bitmaps written by checkpoints.
    pub nodes_written: u64,
    /// Nodes and bitmaps read.
    pub nodes_read: u64,
    /// Nodes and bitmaps evicted from memory.
    pub cache_evictions: u64,
    /// Bytes of memory that nodes and bitmaps take.
    pub cache_used: u64,
    /// How much of that is on no medium yet.
    pub cache_dirty: u64,
    /// What it may be at most.
    pub cache_budget: u64,
    /// Blocks copied because they were shared.
    pub cow_blocks: u64,
    /// Bytes that the device copied by itself.
    pub copied_by_device: u64,
    /// Bytes that were copied through the device's own memory.
    pub copied_through_cmb: u64,
    /// Bytes that were copied through memory of this process.
    pub copied_through_host: u64,
    /// Reflinks, whole and of ranges.
    pub reflinks: u64,
    /// Atomic writes.
    pub atomic_writes: u64,
    /// Bytes of memory that a lost device may still reach.
    pub withheld_bytes: u64,
}

/// What a check found.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_check_report {
    /// sizeof(struct fh_check_report), set by the caller.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// What is wrong; 0 for a sound store.
    pub findings: u64,
    /// Files, condemned ones included.
    pub files: u64,
    /// Nodes and bitmaps.
    pub nodes: u64,
    /// Blocks in use.
    pub blocks: u64,
}

sized! {
    fh_info: atomic_fast_bytes,
    fh_recovery: elapsed_ns,
    fh_space: withheld,
    fh_stats: withheld_bytes,
    fh_check_report: blocks,
}

/// What a store and its medium are.
///
/// Parameters: `info` is filled; the caller sets its size before.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for a wrong size; FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_info(store: *mut fh_store, info: *mut fh_info) -> c_int {
    status(|| {
        let store = used(store)?;
        let (i, atomic) = (store.info(), store.atomic_limits());
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        let found = fh_info {
            size: 0,
            flags: flag(i.read_only, FH_INFO_READ_ONLY)
                | flag(i.volatile_cache, FH_INFO_VOLATILE_CACHE)
                | flag(i.window, FH_INFO_WINDOW)
                | flag(i.journal.is_some(), FH_INFO_JOURNAL_APART),
            store_id: i.store_id,
            version: i.version,
            block_size: i.block_size,
            blocks: i.blocks,
            journal_bytes: i.journal_bytes,
            checkpoint: i.checkpoint,
            lba_bytes: i.lba_bytes,
            max_transfer: i.max_transfer,
            atomic_bytes: i.atomic_bytes,
            reserved: 0,
            atomic_max_bytes: atomic.max_bytes,
            atomic_max_ranges: atomic.max_ranges as u64,
            atomic_fast_bytes: atomic.fast_bytes,
        };
        // SAFETY: the caller gives such a struct.
        unsafe { answer(info, found) }
    })
}

/// What opening a store took.
///
/// Parameters: `recovery` is filled; the caller sets its size before.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for a wrong size; FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_recovery(
    store: *mut fh_store,
    recovery: *mut fh_recovery,
) -> c_int {
    status(|| {
        let store = used(store)?;
        let r = store.recovery();
        let found = fh_recovery {
            size: 0,
            reserved: 0,
            checkpoint: r.checkpoint,
            groups: r.groups,
            records: r.records,
            journal_bytes: r.journal_bytes,
            elapsed_ns: u64::try_from(r.elapsed.as_nanos()).unwrap_or(u64::MAX),
        };
        // SAFETY: the caller gives such a struct.
        unsafe { answer(recovery, found) }
    })
}

/// How the space of a store is used.
///
/// Parameters: `space` is filled; the caller sets its size before.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for a wrong size; FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_space(store: *mut fh_store, space: *mut fh_space) -> c_int {
    status(|| {
        let s = used(store)?.space();
        let found = fh_space {
            size: 0,
            zero: 0,
            total: s.total,
            free: s.free,
            reserved: s.reserved,
            condemned: s.condemned,
            journal: s.journal,
            journal_apart: s.journal_apart,
            journal_used: s.journal_used,
            quarantined: s.quarantined,
            withheld: s.withheld,
        };
        // SAFETY: the caller gives such a struct.
        unsafe { answer(space, found) }
    })
}

/// What a store has done since it was opened.
///
/// Parameters: `stats` is filled; the caller sets its size before.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for a wrong size; FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_stats(store: *mut fh_store, stats: *mut fh_stats) -> c_int {
    status(|| {
        let found = numbers(&*used(store)?);
        // SAFETY: the caller gives such a struct.
        unsafe { answer(stats, found) }
    })
}

fn numbers(store: &Store) -> fh_stats {
    let s = store.stats();
    fh_stats {
        size: 0,
        zero: 0,
        reads: s.reads,
        writes: s.writes,
        device_reads: s.device_reads,
        device_writes: s.device_writes,
        device_flushes: s.device_flushes,
        device_bytes_read: s.device_bytes_read,
        device_bytes_written: s.device_bytes_written,
        stored_writes: s.stored_writes,
        stored_bytes: s.stored_bytes,
        journal_groups: s.journal_groups,
        journal_records: s.journal_records,
        journal_bytes: s.journal_bytes,
        checkpoints: s.checkpoints,
        nodes_written: s.nodes_written,
        nodes_read: s.nodes_read,
        cache_evictions: s.cache_evictions,
        cache_used: s.cache_used,
        cache_dirty: s.cache_dirty,
        cache_budget: s.cache_budget,
        cow_blocks: s.cow_blocks,
        copied_by_device: s.copied_by_device,
        copied_through_cmb: s.copied_through_cmb,
        copied_through_host: s.copied_through_host,
        reflinks: s.reflinks,
        atomic_writes: s.atomic_writes,
        withheld_bytes: s.withheld_bytes,
    }
}

/// The URI that a store was opened by.
///
/// Parameters: `text` has room for `room` bytes; the URI is cut to it, and ended by NUL.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: how long the whole text is, without the NUL; or a code.
/// Errors: FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_uri(store: *mut fh_store, text: *mut c_char, room: usize) -> i64 {
    count(|| {
        let uri = used(store)?.info().uri;
        // SAFETY: the caller has so much room.
        unsafe { args::text(text, room, &uri) }
    })
}

/// The URI of the medium that a store has its journal on, where that is another one.
///
/// Parameters: `text` has room for `room` bytes; the URI is cut to it, and ended by NUL.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: how long the whole text is, without the NUL, so 0 for a journal in the store; or a
/// code.
/// Errors: FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_journal(
    store: *mut fh_store,
    text: *mut c_char,
    room: usize,
) -> i64 {
    count(|| {
        let uri = used(store)?.info().journal.map(|j| j.uri).unwrap_or_default();
        // SAFETY: the caller has so much room.
        unsafe { args::text(text, room, &uri) }
    })
}

/// What the device under a store says of itself: model, limits, health. Nothing where there is
/// no device that could be asked.
///
/// Parameters: `text` has room for `room` bytes: lines of "group.name", a tab, and a value.
/// Thread: any. Blocks until the device has answered.
/// Ownership: nothing changes hands.
/// Returns: how long the whole text is, without the NUL; or a code.
/// Errors: what the device or the link to it reports.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_device(
    store: *mut fh_store,
    text: *mut c_char,
    room: usize,
) -> i64 {
    count(|| {
        let mut lines = String::new();
        for fact in used(store)?.device()? {
            // Writing to a string does not fail.
            let _ = writeln!(lines, "{}.{}\t{}", fact.group, fact.name, fact.value);
        }
        // SAFETY: the caller has so much room.
        unsafe { args::text(text, room, &lines) }
    })
}

/// Proves the map of a store: every block is free, or owned once, or counted exactly; every tree
/// is ordered. Reads all metadata, writes nothing, and may run while the store is used.
///
/// Parameters: `report` is filled; the caller sets its size before. `text` has room for `room`
/// bytes: a line for each finding; it may be null if `room` is 0.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: how long the whole text is, without the NUL, so 0 for a sound store; or a code.
/// Errors: only what keeps it from running; FH_EPOISONED: open the store again first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_check(
    store: *mut fh_store,
    report: *mut fh_check_report,
    text: *mut c_char,
    room: usize,
) -> i64 {
    count(|| {
        let r = used(store)?.check()?;
        let found = fh_check_report {
            size: 0,
            reserved: 0,
            findings: r.findings.len() as u64,
            files: r.files,
            nodes: r.nodes,
            blocks: r.blocks,
        };
        let mut lines = String::new();
        for f in &r.findings {
            let _ = writeln!(lines, "{} at {}: {}", f.structure, f.address, f.what);
        }
        // SAFETY: the caller gives such a struct, and has so much room.
        unsafe {
            answer(report, found)?;
            args::text(text, room, &lines)
        }
    })
}
