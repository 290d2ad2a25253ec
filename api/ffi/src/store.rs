//! Stores: making, opening, closing; names.

use crate::args::{self, options, sized};
use crate::fault::{Fault, Outcome, count, status};
use crate::handle::Taken;
use crate::object::Object;
use crate::object::{fh_file, fh_queue, fh_session, fh_store, free, give, number, place, used};
use freehold::{FormatOptions, ListEntry, OpenOptions, Store, Timeouts};
use std::ffi::{c_char, c_int};
use std::time::Duration;

/// Format: take a medium that carries something else; never one that is mounted or held.
pub const FH_FORMAT_FORCE: u32 = 1;

/// Open: only read. Nothing is written, not even by recovery.
pub const FH_OPEN_READ_ONLY: u32 = 1;
/// Open, files: do not use io_uring.
pub const FH_OPEN_NO_IO_URING: u32 = 2;
/// Open, files: go through the page cache.
pub const FH_OPEN_CACHED: u32 = 4;

/// How a store is made. All zeroes but the size take the medium as it is.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_format_options {
    /// sizeof(struct fh_format_options).
    pub size: u32,
    /// FH_FORMAT_FORCE, or 0.
    pub flags: u32,
    /// Bytes of a file that is to be made; 0 for a block device, or a file that has its size.
    pub bytes: u64,
    /// The medium of the journal, as a URI; null for a journal in the store.
    pub journal: *const c_char,
    /// Bytes of a file that is to be made for the journal; 0 for 16 MiB.
    pub journal_bytes: u64,
}

/// How a store is opened. All zeroes but the size: for reading and writing, as fast as the system
/// lets us.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_open_options {
    /// sizeof(struct fh_open_options).
    pub size: u32,
    /// FH_OPEN_READ_ONLY, FH_OPEN_NO_IO_URING, FH_OPEN_CACHED.
    pub flags: u32,
    /// Bytes of memory for maps and bitmaps, 16 KiB at least; 0 for 512 MiB.
    pub cache_bytes: u64,
    /// Where to look for a journal on a medium of its own, as a URI; null for where the store's
    /// URI says.
    pub journal: *const c_char,
    /// NVMe: milliseconds that a command may take before the controller is reset; 0 for 30000.
    pub io_timeout_ms: u64,
    /// NVMe: milliseconds that an admin command may take; 0 for 10000.
    pub admin_timeout_ms: u64,
}

/// One line of a listing.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_entry {
    /// Bytes of the name, or of a prefix that names were folded into; not ended by NUL.
    pub name: [c_char; 255],
    /// How many.
    pub name_len: u8,
    /// 1 for a prefix, which has no numbers.
    pub is_prefix: u8,
    /// Zeroes.
    pub reserved: [u8; 7],
    /// Bytes of the file.
    pub size: u64,
    /// Bytes that its map takes, shared or not.
    pub allocated: u64,
    /// Extents in its map.
    pub extents: u64,
}

sized! {
    fh_format_options: journal_bytes,
    fh_open_options: admin_timeout_ms,
}

/// # Safety
/// At `at` is null or such a struct, with texts that end in NUL.
unsafe fn format_options(at: *const fh_format_options) -> Outcome<FormatOptions> {
    // SAFETY: as the caller promises.
    let o = unsafe { options(at)? };
    args::flags(o.flags, FH_FORMAT_FORCE)?;
    // SAFETY: as the caller promises.
    let journal = unsafe { args::maybe_string(o.journal, "journal")? };
    let bytes = |given: u64| (given > 0).then_some(given);
    Ok(FormatOptions {
        size: bytes(o.bytes),
        force: o.flags & FH_FORMAT_FORCE != 0,
        journal: journal.map(str::to_owned),
        journal_size: bytes(o.journal_bytes),
    })
}

/// # Safety
/// At `at` is null or such a struct, with texts that end in NUL.
pub(crate) unsafe fn open_options(at: *const fh_open_options) -> Outcome<OpenOptions> {
    // SAFETY: as the caller promises.
    let o = unsafe { options(at)? };
    args::flags(o.flags, FH_OPEN_READ_ONLY | FH_OPEN_NO_IO_URING | FH_OPEN_CACHED)?;
    // SAFETY: as the caller promises.
    let journal = unsafe { args::maybe_string(o.journal, "journal")? };
    let usual = Timeouts::default();
    Ok(OpenOptions {
        read_only: o.flags & FH_OPEN_READ_ONLY != 0,
        io_uring: o.flags & FH_OPEN_NO_IO_URING == 0,
        direct: o.flags & FH_OPEN_CACHED == 0,
        timeouts: Timeouts {
            io: args::millis(o.io_timeout_ms, usual.io),
            admin: args::millis(o.admin_timeout_ms, usual.admin),
        },
        cache_bytes: (o.cache_bytes > 0).then_some(o.cache_bytes),
        journal: journal.map(str::to_owned),
    })
}

/// Makes an empty store on a medium, and opens it.
///
/// Parameters: `uri` names the medium: "file:PATH", "mem:64M", "pmem:PATH", "nvme:BDF",
/// "vfio-user:SOCKET" and others. `options` may be null. `store` gets the handle.
/// Thread: any. Blocks for a few writes.
/// Ownership: the caller has the handle, and ends it by fh_store_close or fh_store_free. The
/// texts are the caller's, and not looked at afterwards.
/// Returns: 0, or a code.
/// Errors: FH_EBUSY for a medium that is mounted or open elsewhere; FH_EOCCUPIED for one that
/// carries something else (FH_FORMAT_FORCE overrides that); FH_EINVAL for a bad URI, size or
/// option; what the medium reports.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_format(
    uri: *const c_char,
    options: *const fh_format_options,
    store: *mut *mut fh_store,
) -> c_int {
    status(|| {
        place(store)?;
        // SAFETY: the caller gives a text, null or options, and a place for a handle.
        unsafe {
            let made = Store::format(args::string(uri, "uri")?, &format_options(options)?)?;
            give(store, made)
        }
    })
}

/// Opens a store; recovers it if it was not closed. A store that this process has open already
/// is the same store again, with one more handle.
///
/// Parameters: `uri` as for fh_store_format. `options` may be null. `store` gets the handle.
/// Thread: any. Blocks while it is recovered: under a second, as a rule.
/// Ownership: as fh_store_format.
/// Returns: 0, or a code.
/// Errors: FH_ENOENT, FH_ENOTASTORE, FH_ETOONEW, FH_ETRUNCATED, FH_ECORRUPT; FH_EWRONGJOURNAL,
/// with the journal that is wanted; FH_EBUSY while another process has it open; FH_EINVAL for a
/// bad URI or option; FH_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_open(
    uri: *const c_char,
    options: *const fh_open_options,
    store: *mut *mut fh_store,
) -> c_int {
    status(|| {
        place(store)?;
        // SAFETY: the caller gives a text, null or options, and a place for a handle.
        unsafe {
            let opened = Store::open(args::string(uri, "uri")?, &open_options(options)?)?;
            give(store, opened)
        }
    })
}

/// Ends a store: all is durable, and it opens again without recovery. Leases and breakable seals
/// are asked for back first.
///
/// Parameters: `store` is ended if this returns 0, and good still if it does not.
/// Thread: any. Blocks, for as long as the holders of leases may take.
/// Ownership: every other handle that came from the store, of files, sessions, queues, leases,
/// buffers, pins, seals and registrations, is freed before.
/// Returns: 0, or a code.
/// Errors: FH_EBUSY while other handles are left, another thread is in a call with this one, or
/// a lease or seal is not given up, with its holder; FH_EPOISONED; FH_EWOULDDEADLOCK in a
/// registration's action.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_close(store: *mut fh_store) -> c_int {
    status(|| {
        crate::object::not_forked()?;
        match fh_store::table().take_to(number(store), Store::try_close) {
            Taken::None => Err(Fault::handle(fh_store::NAME)),
            Taken::Used => {
                let why = "another thread is in a call with this store";
                Err(Fault::new(crate::code::FH_EBUSY, why))
            }
            Taken::Value(closed) => Ok(closed?),
        }
    })
}

/// Ends a handle of a store and waits for nothing. What a sync promised is kept; a store whose
/// last handle goes so is recovered when it is next opened.
///
/// Parameters: `store` may be null.
/// Thread: any.
/// Ownership: the handle is not used again.
/// Returns: nothing.
/// Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_free(store: *mut fh_store) {
    free(store);
}

/// Makes a new, empty file. It is durable after a sync.
///
/// Parameters: `name` has `name_len` bytes, 1 to 255, none of them NUL. `file` gets the handle.
/// Thread: any.
/// Ownership: the caller frees the handle by fh_file_free. The file belongs to the store's own
/// session.
/// Returns: 0, or a code.
/// Errors: FH_EEXIST; FH_EINVAL for a bad name; FH_ENOSPC, FH_EROFS, FH_EIO, FH_EPOISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_create(
    store: *mut fh_store,
    name: *const c_char,
    name_len: usize,
    file: *mut *mut fh_file,
) -> c_int {
    status(|| {
        place(file)?;
        let store = used(store)?;
        // SAFETY: the caller gives so many bytes, and a place for a handle.
        unsafe { give(file, store.create(args::bytes(name.cast(), name_len, "name")?)?) }
    })
}

/// Opens a file by its name.
///
/// Parameters: as fh_store_create.
/// Thread: any.
/// Ownership: as fh_store_create.
/// Returns: 0, or a code.
/// Errors: FH_ENOENT, FH_ECORRUPT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_open_file(
    store: *mut fh_store,
    name: *const c_char,
    name_len: usize,
    file: *mut *mut fh_file,
) -> c_int {
    status(|| {
        place(file)?;
        let store = used(store)?;
        // SAFETY: the caller gives so many bytes, and a place for a handle.
        unsafe { give(file, store.open_file(args::bytes(name.cast(), name_len, "name")?)?) }
    })
}

/// Takes a name away; the blocks follow when the last handle, lease and pin of the file is gone.
///
/// Parameters: `name` has `name_len` bytes.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_ENOENT; FH_EROFS, FH_EIO, FH_EPOISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_remove(
    store: *mut fh_store,
    name: *const c_char,
    name_len: usize,
) -> c_int {
    status(|| {
        let store = used(store)?;
        // SAFETY: the caller gives so many bytes.
        let name = unsafe { args::bytes(name.cast(), name_len, "name")? };
        Ok(store.remove(name)?)
    })
}

/// Renames a file; one that has the new name is replaced in the same step, also across a crash.
///
/// Parameters: two names, each with its length.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_ENOENT; FH_EINVAL for a bad name; FH_ENOSPC, FH_EROFS, FH_EIO, FH_EPOISONED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_rename(
    store: *mut fh_store,
    from: *const c_char,
    from_len: usize,
    to: *const c_char,
    to_len: usize,
) -> c_int {
    status(|| {
        let store = used(store)?;
        // SAFETY: the caller gives so many bytes each.
        let (from, to) = unsafe {
            (args::bytes(from.cast(), from_len, "from")?, args::bytes(to.cast(), to_len, "to")?)
        };
        Ok(store.rename(from, to)?)
    })
}

/// Makes a new file that shares all blocks of another one, in constant time.
///
/// Parameters: two names, each with its length. `file` gets the new file's handle; it may be
/// null if none is wanted.
/// Thread: any.
/// Ownership: as fh_store_create.
/// Returns: 0, or a code.
/// Errors: FH_ENOENT, FH_EEXIST; as fh_store_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_reflink(
    store: *mut fh_store,
    from: *const c_char,
    from_len: usize,
    to: *const c_char,
    to_len: usize,
    file: *mut *mut fh_file,
) -> c_int {
    status(|| {
        let store = used(store)?;
        // SAFETY: the caller gives so many bytes each, and null or a place for a handle.
        unsafe {
            let from = args::bytes(from.cast(), from_len, "from")?;
            let made = store.reflink(from, args::bytes(to.cast(), to_len, "to")?)?;
            if file.is_null() { Ok(()) } else { give(file, made) }
        }
    })
}

/// Lists names that begin with a prefix and come after another one, in the order of their
/// bytes; with a delimiter, folded at its first place behind the prefix.
///
/// Parameters: `prefix` and `after` have their lengths; `after` may be null, and its length 0,
/// for all. `delimiter` is a byte, or -1 for none. `entries` has room for `room` lines. For the
/// next ones the name or prefix of the last line is `after`.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: how many lines were filled; fewer than `room` if there are no more. Or a code.
/// Errors: FH_ECORRUPT, FH_EIO; FH_EINVAL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_list(
    store: *mut fh_store,
    prefix: *const c_char,
    prefix_len: usize,
    delimiter: c_int,
    after: *const c_char,
    after_len: usize,
    entries: *mut fh_entry,
    room: usize,
) -> i64 {
    count(|| {
        let store = used(store)?;
        let delimiter = match delimiter {
            -1 => None,
            byte => Some(u8::try_from(byte).map_err(|_| Fault::invalid("no byte"))?),
        };
        // SAFETY: the caller gives so many bytes each.
        let (prefix, after) = unsafe {
            let after = (!after.is_null()).then_some(after);
            let after = after.map(|a| args::bytes(a.cast(), after_len, "after")).transpose()?;
            (args::bytes(prefix.cast(), prefix_len, "prefix")?, after)
        };
        let listing = store.list(prefix, delimiter, after, room)?;
        // SAFETY: the caller has so much room.
        unsafe { args::list(entries, room, listing.entries.iter().map(entry)) }
    })
}

fn entry(line: &ListEntry) -> fh_entry {
    let zero = freehold::FileStat::default();
    let (name, stat, is_prefix) = match line {
        ListEntry::File { name, stat } => (name, *stat, 0),
        ListEntry::Prefix(name) => (name, zero, 1),
    };
    let len = name.len().min(255);
    let bytes = std::array::from_fn(|i| name.get(i).map_or(0, |b| *b as c_char));
    fh_entry {
        name: bytes,
        name_len: len as u8,
        is_prefix,
        reserved: [0; 7],
        size: stat.size,
        allocated: stat.allocated,
        extents: stat.extents,
    }
}

/// Makes durable all that has completed.
///
/// Parameters: `store`.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EPOISONED if anything was lost; FH_EIO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_sync(store: *mut fh_store) -> c_int {
    status(|| Ok(used(store)?.sync()?))
}

/// Writes a checkpoint and waits for it: space that was freed can be used again.
///
/// Parameters: `store`.
/// Thread: any. Blocks.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EPOISONED, FH_EROFS, FH_EIO.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_checkpoint(store: *mut fh_store) -> c_int {
    status(|| Ok(used(store)?.checkpoint()?))
}

/// Says how long the holders of leases and breakable seals have from now on when these are asked
/// for back, beside what they declared.
///
/// Parameters: `milliseconds`, from 1 to 60000; a second if nothing is said.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_set_lease_time(store: *mut fh_store, milliseconds: u64) -> c_int {
    status(|| {
        used(store)?.set_lease_time(Duration::from_millis(milliseconds));
        Ok(())
    })
}

/// Asks for all leases and breakable seals back. fh_store_close does so by itself.
///
/// Parameters: `store`.
/// Thread: any. Blocks for as long as the holders of those that are in use may take.
/// Ownership: leases that are taken keep their handles, which say so.
/// Returns: 0, or a code.
/// Errors: FH_EBUSY, with the holder, where one is not given up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_recall(store: *mut fh_store) -> c_int {
    status(|| Ok(used(store)?.recall()?))
}

/// The store's own session: what is opened from the store itself belongs to it.
///
/// Parameters: `session` gets a handle.
/// Thread: any.
/// Ownership: the caller frees the handle by fh_session_free.
/// Returns: 0, or a code.
/// Errors: FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_store_session(
    store: *mut fh_store,
    session: *mut *mut fh_session,
) -> c_int {
    status(|| {
        let owner = used(store)?.session();
        // SAFETY: the caller gives a place for a handle.
        unsafe { give(session, owner.into()) }
    })
}

/// One more session, for a part of the program that holds seals and leases of its own.
///
/// Parameters: `session` gets the handle.
/// Thread: any.
/// Ownership: the caller frees the handle by fh_session_free. The session ends by
/// fh_session_end, or with the last handle of it, of its files, seals, leases and buffers.
/// Returns: 0, or a code.
/// Errors: FH_EBADF, FH_EFAULT, FH_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_session_new(
    store: *mut fh_store,
    session: *mut *mut fh_session,
) -> c_int {
    status(|| {
        let owner = used(store)?.new_session()?;
        // SAFETY: the caller gives a place for a handle.
        unsafe { give(session, owner.into()) }
    })
}

/// Makes a queue for operations of the calling thread.
///
/// Parameters: `depth` is how many may be in flight; a device may grant fewer. `queue` gets the
/// handle.
/// Thread: any; from then on only this thread may use the queue, until another one adopts it.
/// Ownership: the caller frees the handle by fh_queue_free.
/// Returns: 0, or a code.
/// Errors: FH_ELIMIT, with what to raise; FH_EINVAL for a depth of 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_queue_new(
    store: *mut fh_store,
    depth: u32,
    queue: *mut *mut fh_queue,
) -> c_int {
    status(|| {
        place(queue)?;
        if depth == 0 {
            return Err(Fault::invalid("a queue of depth 0 takes nothing"));
        }
        let made = used(store)?.queue(depth)?;
        // SAFETY: the caller gives a place for a handle.
        unsafe { give(queue, crate::queue::Polled::new(made, depth)) }
    })
}

/// The version of the library, such as "0.1.0".
///
/// Parameters: none.
/// Thread: any.
/// Ownership: the text is constant.
/// Returns: a text that ends in NUL.
/// Errors: none.
#[unsafe(no_mangle)]
pub extern "C" fn fh_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
