//! Files: bytes at offsets.

use crate::args;
use crate::fault::{Fault, Outcome, count, status};
use crate::object::{fh_file, fh_session, free, give, place, used};
use freehold_engine::memory::foreign;
use std::ffi::{c_char, c_int, c_void};

/// As a length: to the end of the file, or of all that a file can be.
pub const FH_TO_END: u64 = u64::MAX;

/// One range of an atomic write.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_write {
    /// Where in the file.
    pub offset: u64,
    /// The bytes.
    pub data: *const c_void,
    /// How many.
    pub length: usize,
}

/// Reads at any offset; short at the end of the file. Up to 1 MiB comes from one version of the
/// file's map.
///
/// Parameters: `data` has room for `length` bytes.
/// Thread: any. Blocks.
/// Ownership: the memory is the caller's, of any kind.
/// Returns: how many bytes were read, or a code.
/// Errors: FH_EIO, FH_ECORRUPT, FH_ENODEV; FH_EWOULDDEADLOCK under an Exclusive pin of the same
/// session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_read(
    file: *mut fh_file,
    data: *mut c_void,
    length: usize,
    offset: u64,
) -> i64 {
    count(|| {
        let file = used(file)?;
        // SAFETY: the caller gives so many bytes, which are its alone.
        let data = unsafe { args::bytes_mut(data.cast(), length, "data")? };
        Ok(file.read_at(data, offset)? as i64)
    })
}

/// Writes all of it at any offset; the file grows as needed. Bytes outside the range never
/// change, also across a crash. Durable after a sync.
///
/// Parameters: `data` has `length` bytes.
/// Thread: any. Blocks.
/// Ownership: the memory is the caller's, of any kind.
/// Returns: 0, or a code.
/// Errors: FH_ENOSPC; FH_EINVAL past the greatest size; FH_ESEALED, FH_EWOULDDEADLOCK, FH_EBUSY;
/// FH_EIO, FH_EPOISONED, FH_EROFS.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_write(
    file: *mut fh_file,
    data: *const c_void,
    length: usize,
    offset: u64,
) -> c_int {
    status(|| {
        let file = used(file)?;
        // SAFETY: the caller gives so many bytes.
        Ok(file.write_at(unsafe { args::bytes(data.cast(), length, "data")? }, offset)?)
    })
}

/// As fh_file_write, and durable when it returns: these bytes, and the size, the map and the
/// name that they need.
///
/// Parameters: as fh_file_write.
/// Thread: any. Blocks.
/// Ownership: as fh_file_write.
/// Returns: 0, or a code.
/// Errors: as fh_file_write. After one the range holds old or new bytes, which need not be
/// durable.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_write_durable(
    file: *mut fh_file,
    data: *const c_void,
    length: usize,
    offset: u64,
) -> c_int {
    status(|| {
        let file = used(file)?;
        // SAFETY: the caller gives so many bytes.
        Ok(file.write_durable_at(unsafe { args::bytes(data.cast(), length, "data")? }, offset)?)
    })
}

/// Writes several ranges so that they become visible together or not at all, to readers and
/// across a crash. Durable after a sync.
///
/// Parameters: `writes` has `number` ranges, which do not overlap.
/// Thread: any. Blocks.
/// Ownership: the memory is the caller's.
/// Returns: 0, or a code. After an error nothing has changed.
/// Errors: FH_EINVAL for ranges that overlap; FH_ELIMIT beyond fh_store_atomic_limits; as
/// fh_file_write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_write_atomic(
    file: *mut fh_file,
    writes: *const fh_write,
    number: usize,
) -> c_int {
    status(|| {
        let file = used(file)?;
        if writes.is_null() && number > 0 {
            return Err(Fault::null("writes"));
        }
        // SAFETY: the caller gives so many ranges.
        let writes = unsafe { foreign::values(writes, number) };
        // SAFETY: each has its bytes.
        let range = |w: &fh_write| unsafe {
            Ok((w.offset, args::bytes(w.data.cast(), w.length, "the data of a range")?))
        };
        let writes = writes.iter().map(range).collect::<Outcome<Vec<(u64, &[u8])>>>()?;
        Ok(file.write_atomic(&writes)?)
    })
}

/// The length of a file in bytes.
///
/// Parameters: `file`.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: the bytes, or a code.
/// Errors: FH_EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_size(file: *mut fh_file) -> i64 {
    count(|| Ok(used(file)?.size() as i64))
}

/// Makes a file shorter, or longer with zeroes.
///
/// Parameters: `size` in bytes.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: as fh_file_write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_truncate(file: *mut fh_file, size: u64) -> c_int {
    status(|| Ok(used(file)?.truncate(size)?))
}

/// Makes a range read as zeroes and frees its whole blocks. The size stays.
///
/// Parameters: `offset` and `length` in bytes.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: as fh_file_write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_punch(file: *mut fh_file, offset: u64, length: u64) -> c_int {
    status(|| Ok(used(file)?.punch(offset, length)?))
}

/// Makes a range read as zeroes and keeps its blocks, or gives it some. The size stays.
///
/// Parameters: `offset` and `length` in bytes.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: as fh_file_write; after FH_ENOSPC a part may be zeroed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_zero(file: *mut fh_file, offset: u64, length: u64) -> c_int {
    status(|| Ok(used(file)?.zero(offset, length)?))
}

/// Takes a range out: what lies behind it moves down, and the file gets shorter. The cost does
/// not depend on how much is moved. Durable when it returns.
///
/// Parameters: `offset` and `length` are multiples of 4096, and the range ends before the file
/// does.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for other ranges; as fh_file_write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_collapse(file: *mut fh_file, offset: u64, length: u64) -> c_int {
    status(|| Ok(used(file)?.collapse(offset, length)?))
}

/// Makes room: what lies at the offset or behind it moves up, and between is a hole. Durable when
/// it returns.
///
/// Parameters: `offset` and `length` are multiples of 4096; the offset lies inside the file.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for other ranges; as fh_file_write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_insert(file: *mut fh_file, offset: u64, length: u64) -> c_int {
    status(|| Ok(used(file)?.insert(offset, length)?))
}

/// Sets blocks aside for a range, so that writes there find space; the file grows to its end.
/// Shared blocks are copied.
///
/// Parameters: `offset` and `length` in bytes.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_ENOSPC, with what was done kept; as fh_file_write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_allocate(file: *mut fh_file, offset: u64, length: u64) -> c_int {
    status(|| Ok(used(file)?.allocate(offset, length)?))
}

/// Makes a new file that shares all of this one, in constant time.
///
/// Parameters: `name` has `name_len` bytes. `made` gets the new file's handle; it may be null if
/// none is wanted.
/// Thread: any. Blocks.
/// Ownership: the caller frees the handle by fh_file_free. The file belongs to the session of
/// this one.
/// Returns: 0, or a code.
/// Errors: FH_EEXIST; as fh_store_create; FH_EWOULDDEADLOCK, FH_EBUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_reflink(
    file: *mut fh_file,
    name: *const c_char,
    name_len: usize,
    made: *mut *mut fh_file,
) -> c_int {
    status(|| {
        let file = used(file)?;
        // SAFETY: the caller gives so many bytes, and null or a place for a handle.
        unsafe {
            let new = file.reflink(args::bytes(name.cast(), name_len, "name")?)?;
            if made.is_null() { Ok(()) } else { give(made, new) }
        }
    })
}

/// Shares a range of a file with a place in another one of the store, or in itself.
///
/// Parameters: bytes from `offset` on, `length` of them, are shared with `to` from `to_offset`
/// on: multiples of 4096, but for the end of the file.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for other numbers, a range past the end, ranges that overlap, or files of
/// two stores; FH_ESEALED; as fh_file_write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_reflink_range(
    file: *mut fh_file,
    offset: u64,
    to: *mut fh_file,
    to_offset: u64,
    length: u64,
) -> c_int {
    status(|| {
        let (from, to) = (used(file)?, used(to)?);
        Ok(from.reflink_range(offset, &to, to_offset, length)?)
    })
}

/// Makes durable what has completed of a file: bytes, size, map, name. What was written to a
/// lease's buffer and not flushed is not covered.
///
/// Parameters: `file`.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EPOISONED if anything was lost.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_sync(file: *mut fh_file) -> c_int {
    status(|| Ok(used(file)?.sync()?))
}

/// The session that a file belongs to. It never changes.
///
/// Parameters: `session` gets a handle.
/// Thread: any.
/// Ownership: the caller frees the handle by fh_session_free.
/// Returns: 0, or a code.
/// Errors: FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_session(
    file: *mut fh_file,
    session: *mut *mut fh_session,
) -> c_int {
    status(|| {
        place(session)?;
        let owner = used(file)?.session();
        // SAFETY: the caller gives a place for a handle.
        unsafe { give(session, owner.into()) }
    })
}

/// Ends a handle of a file. Leases, seals and operations in flight keep the file.
///
/// Parameters: `file` may be null.
/// Thread: any; not while another thread submits to a queue with it.
/// Ownership: the handle is not used again.
/// Returns: nothing.
/// Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_file_free(file: *mut fh_file) {
    free(file);
}
