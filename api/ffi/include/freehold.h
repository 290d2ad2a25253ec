/*
 * freehold.h - a storage engine in user space, for C99 and C++.
 *
 * Made from the sources of the library: do not edit. docs/ffi.md is a tour. Link with `pkg-config
 * --cflags --libs freehold`, or add --static for libfreehold.a.
 *
 * RULES
 *
 * Threads. Handles of stores, sessions, files, leases, pins, seals and registrations may be used
 * by any thread, several at a time. A queue is used by the thread that made it, or adopted it by
 * fh_queue_adopt; any other one is told FH_EWRONGTHREAD. A buffer is used by one thread at a time,
 * but a lease's buffer may be pinned by many. The library makes no thread.
 *
 * Fork. A forked child owns nothing of its parent's stores: every call there answers FH_EFORKED,
 * every function that ends a handle does nothing, and memory of buffers and windows is not mapped
 * there, so that a touch of it is a SIGSEGV. The parent notices nothing. A child that wants a
 * store calls exec first. posix_spawn, and fork followed by exec, are always right; no descriptor
 * of the library goes through exec.
 *
 * Signals. No function may be called in a signal handler but fh_window_at. The library handles no
 * signal and sends none. Calls that block go on after one (SA_RESTART or not). A window of
 * persistent memory that fails raises SIGBUS, as any mapped file does.
 *
 * Handles. A handle is a number, not an address: never follow it. It is ended once, by the
 * function that is named where it is made. A null handle, one that was ended, one of another kind
 * and a number that was made up are told: FH_EBADF. To end a null handle does nothing. A handle
 * that is ended while another thread is in a blocking call with it goes when that call returns;
 * queues and their buffers, and a file that is being submitted with, are ended by one thread while
 * no other uses them.
 *
 * Results. 0 or above is success. Below 0 is a code: from -1 to -4095 the system's errno, negated;
 * from -10000 down one of FH_E...: -100xx for mistakes of the caller, -101xx for refusals, which
 * pass or can be met, -102xx for failures. fh_error_message says in one sentence what to do; a
 * completion that failed brings its own message.
 *
 * Structs that begin with `uint32_t size` may grow in later versions: set the size to sizeof, all
 * else to zero, then what you want. Others never change. Numbers are bytes unless said otherwise.
 *
 * Versions. The library is libfreehold.so.0; while it is 0, a minor version may change anything,
 * and symbols have the version FREEHOLD_0.1.
 */

#ifndef FREEHOLD_H
#define FREEHOLD_H

#include <stddef.h>
#include <stdint.h>

/**
 * A window where the medium has one, else DMA memory.
 */
#define FH_MEMORY_AUTO 0

/**
 * The storage itself, as memory: what is written there is written.
 */
#define FH_MEMORY_WINDOW 1

/**
 * Memory of its own that devices reach, filled and flushed by a queue.
 */
#define FH_MEMORY_DMA 2

/**
 * The same in the controller's own memory.
 */
#define FH_MEMORY_CMB 3

/**
 * Buffers of a lease, windows: pages that cannot be touched take the window's place when the
 * lease is fenced while it is pinned still. For FH_READ and FH_WRITE access.
 */
#define FH_BUFFER_CLOSES 1

/**
 * Caller: no such file, store or device.
 */
#define FH_ENOENT -2

/**
 * Failure: the device reported an error.
 */
#define FH_EIO -5

/**
 * Caller: a handle that is null, was freed, or is of another kind.
 */
#define FH_EBADF -9

/**
 * The queue is full: poll it, and submit again. Nothing happened.
 */
#define FH_EAGAIN -11

/**
 * Refusal: no right to use it.
 */
#define FH_EACCES -13

/**
 * Caller: a null pointer where there must be memory.
 */
#define FH_EFAULT -14

/**
 * Refusal: somebody else holds it, or work in flight or a pin is in the way.
 */
#define FH_EBUSY -16

/**
 * Caller: the name is taken.
 */
#define FH_EEXIST -17

/**
 * Failure: the medium vanished, or may have lost completed writes.
 */
#define FH_ENODEV -19

/**
 * Caller: a bad argument: a range, a name, a length, a flag, the size of a struct.
 */
#define FH_EINVAL -22

/**
 * Refusal: no free space.
 */
#define FH_ENOSPC -28

/**
 * Caller: the store was opened for reading only.
 */
#define FH_EROFS -30

/**
 * Refusal: the device or system cannot do this.
 */
#define FH_EOPNOTSUPP -95

/**
 * Caller: what was opened is not a store.
 */
#define FH_ENOTASTORE -10001

/**
 * Caller: the journal of the store is missing, or what was given is not it.
 */
#define FH_EWRONGJOURNAL -10002

/**
 * Caller: a store of a newer format, or with features that this library lacks.
 */
#define FH_ETOONEW -10003

/**
 * Caller: the queue is another thread's; fh_queue_adopt takes it over.
 */
#define FH_EWRONGTHREAD -10004

/**
 * Refusal: the medium carries something that is not ours to overwrite.
 */
#define FH_EOCCUPIED -10101

/**
 * Refusal: a seal forbids it; the message says whose.
 */
#define FH_ESEALED -10102

/**
 * Refusal: the lease was asked for back; return it, or take it again later.
 */
#define FH_ERECALLED -10103

/**
 * Refusal: the lease was taken. The ordinary reads and writes always work.
 */
#define FH_EREVOKED -10104

/**
 * Refusal: it would wait for itself.
 */
#define FH_EWOULDDEADLOCK -10105

/**
 * Refusal: a forked child owns nothing of its parent's stores.
 */
#define FH_EFORKED -10106

/**
 * Refusal: a limit of the system; the message says which to raise.
 */
#define FH_ELIMIT -10107

/**
 * Failure: a structure on the medium is damaged; fh_error_place says which.
 */
#define FH_ECORRUPT -10201

/**
 * Failure: the store's image is shorter than the store.
 */
#define FH_ETRUNCATED -10202

/**
 * Failure: an earlier write or flush of the store's own was lost; open it again.
 */
#define FH_EPOISONED -10203

/**
 * Failure: a defect of the library, caught at its boundary; the message says where. The
 * handles of the call are not to be used any more.
 */
#define FH_EPANIC -10204

/**
 * Failure: one that this version has no code for.
 */
#define FH_EOTHER -10299

/**
 * As a length: to the end of the file, or of all that a file can be.
 */
#define FH_TO_END UINT64_MAX

/**
 * Info: nothing can be changed.
 */
#define FH_INFO_READ_ONLY 1

/**
 * Info: completed writes need a flush to be durable.
 */
#define FH_INFO_VOLATILE_CACHE 2

/**
 * Info: the CPU reaches the bytes directly.
 */
#define FH_INFO_WINDOW 4

/**
 * Info: the journal has a medium of its own.
 */
#define FH_INFO_JOURNAL_APART 8

/**
 * Access: reads; others may write the same bytes in place.
 */
#define FH_READ 1

/**
 * Access: reads and writes; others may do so, too.
 */
#define FH_WRITE 2

/**
 * Access: reads of bytes that nobody changes.
 */
#define FH_STABLE 3

/**
 * Access: reads and writes of bytes that nobody else reads or writes.
 */
#define FH_EXCLUSIVE 4

/**
 * It can be used.
 */
#define FH_LEASE_HELD 1

/**
 * Its own session has changed the map: the next pin, fill or flush looks it up again.
 */
#define FH_LEASE_STALE 2

/**
 * It has delegates, and gives no pins until they have gone.
 */
#define FH_LEASE_SUSPENDED 3

/**
 * It was asked for back.
 */
#define FH_LEASE_RECALLED 4

/**
 * It was taken while nothing used it; nothing was lost.
 */
#define FH_LEASE_TAKEN 5

/**
 * Its deadline has passed, and it is being taken.
 */
#define FH_LEASE_FENCING 6

/**
 * It was taken in the middle of a use.
 */
#define FH_LEASE_REVOKED 7

/**
 * It was given back.
 */
#define FH_LEASE_RETURNED 8

/**
 * Nothing; reads as zeroes.
 */
#define FH_HOLE 0

/**
 * Blocks that were set aside; reads as zeroes.
 */
#define FH_UNWRITTEN 1

/**
 * Blocks with data.
 */
#define FH_WRITTEN 2

/**
 * As an address: there is none.
 */
#define FH_NOWHERE UINT64_MAX

/**
 * Pins: it may write. DMA memory counts as written from then on, until it is flushed; a window
 * each time that such a pin ends.
 */
#define FH_PIN_WRITE 1

/**
 * As a time-out: as long as it takes.
 */
#define FH_FOREVER -1

/**
 * As a time: there is none.
 */
#define FH_NO_TIME UINT64_MAX

/**
 * No extent in the range is added, moved, unshared, punched or truncated.
 */
#define FH_SEAL_LAYOUT 1

/**
 * The size of the file may not go down.
 */
#define FH_SEAL_SHRINK 2

/**
 * The size may not go up; nothing is written or allocated past the end.
 */
#define FH_SEAL_GROW 4

/**
 * No byte in the range changes; moving and unsharing stay allowed.
 */
#define FH_SEAL_WRITE 8

/**
 * Like FH_SEAL_WRITE, but writable leases that exist go on.
 */
#define FH_SEAL_FUTURE_WRITE 16

/**
 * Nobody else may add seals.
 */
#define FH_SEAL_SEAL 32

/**
 * Seals: who needs the range may ask for the seal back, and it is cleared at the deadline.
 */
#define FH_SEAL_BREAKABLE 1

/**
 * A lease or breakable seal was asked for back. Finish, flush what is dirty, and return it.
 */
#define FH_EVENT_RECALL 1

/**
 * A recall was taken back: nobody wants the range any more. The lease is held again.
 */
#define FH_EVENT_WITHDRAWN 2

/**
 * A lease or breakable seal was taken: at its deadline, or because nothing used it.
 */
#define FH_EVENT_REVOKED 3

/**
 * Format: take a medium that carries something else; never one that is mounted or held.
 */
#define FH_FORMAT_FORCE 1

/**
 * Open: only read. Nothing is written, not even by recovery.
 */
#define FH_OPEN_READ_ONLY 1

/**
 * Open, files: do not use io_uring.
 */
#define FH_OPEN_NO_IO_URING 2

/**
 * Open, files: go through the page cache.
 */
#define FH_OPEN_CACHED 4

/**
 * Memory for I/O of a queue. One thread at a time.
 */
typedef struct fh_buffer fh_buffer;

/**
 * An open file. Any thread may use it; several at a time.
 */
typedef struct fh_file fh_file;

/**
 * The right to use a range of a file directly. Any thread may use it; several at a time.
 */
typedef struct fh_lease fh_lease;

/**
 * Memory through which a lease is used. Any thread may pin it, several at a time; whoever
 * submits, moves, discards or salvages it is alone with it.
 */
typedef struct fh_lease_buffer fh_lease_buffer;

/**
 * A use of a lease's buffer that is under way. Any thread may use and end it.
 */
typedef struct fh_pin fh_pin;

/**
 * Operations in flight of one thread. Only the thread that made or adopted it may use it.
 */
typedef struct fh_queue fh_queue;

/**
 * Leased blocks that foreign devices know. Any thread may use it.
 */
typedef struct fh_registration fh_registration;

/**
 * A seal that is set. Any thread may use it.
 */
typedef struct fh_seal fh_seal;

/**
 * An owner of files, seals and leases. Any thread may use it; several at a time.
 */
typedef struct fh_session fh_session;

/**
 * An opened store. Any thread may use it; several at a time.
 */
typedef struct fh_store fh_store;

/**
 * Which memory a lease is used through.
 */
typedef struct fh_lease_buffer_options {
    /**
     * sizeof(struct fh_lease_buffer_options).
     */
    uint32_t size;
    /**
     * FH_BUFFER_CLOSES, or 0.
     */
    uint32_t flags;
    /**
     * FH_MEMORY_AUTO and so on.
     */
    uint32_t memory;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Of DMA memory for a part of the lease: its first byte in the file, a whole block.
     */
    uint64_t offset;
    /**
     * Bytes of the part, whole blocks; 0 for all of the lease.
     */
    uint64_t length;
} fh_lease_buffer_options;

/**
 * A lease's buffer, as it is now.
 */
typedef struct fh_lease_buffer_info {
    /**
     * sizeof(struct fh_lease_buffer_info), set by the caller.
     */
    uint32_t size;
    /**
     * 1 if it is the storage itself.
     */
    uint32_t is_window;
    /**
     * Its first byte, as an offset in the file.
     */
    uint64_t offset;
    /**
     * Bytes in it.
     */
    uint64_t length;
    /**
     * 1 if it has bytes that are nowhere else: written, and not flushed since.
     */
    uint32_t is_dirty;
    /**
     * Zero.
     */
    uint32_t reserved;
} fh_lease_buffer_info;

/**
 * One range of an atomic write.
 */
typedef struct fh_write {
    /**
     * Where in the file.
     */
    uint64_t offset;
    /**
     * The bytes.
     */
    const void *data;
    /**
     * How many.
     */
    size_t length;
} fh_write;

/**
 * What a store and its medium are.
 */
typedef struct fh_info {
    /**
     * sizeof(struct fh_info), set by the caller.
     */
    uint32_t size;
    /**
     * FH_INFO_READ_ONLY and the like.
     */
    uint32_t flags;
    /**
     * Drawn at random when it was formatted.
     */
    uint8_t store_id[16];
    /**
     * Version of the format.
     */
    uint32_t version;
    /**
     * Bytes of a block.
     */
    uint32_t block_size;
    /**
     * Blocks of the store.
     */
    uint64_t blocks;
    /**
     * Bytes of the journal.
     */
    uint64_t journal_bytes;
    /**
     * The last durable checkpoint.
     */
    uint64_t checkpoint;
    /**
     * Bytes that the device itself addresses.
     */
    uint32_t lba_bytes;
    /**
     * Most bytes in one command.
     */
    uint32_t max_transfer;
    /**
     * Bytes that the device writes all or nothing.
     */
    uint32_t atomic_bytes;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Most bytes of one fh_file_write_atomic.
     */
    uint64_t atomic_max_bytes;
    /**
     * Most ranges of one.
     */
    uint64_t atomic_max_ranges;
    /**
     * Most bytes of one that is fast.
     */
    uint64_t atomic_fast_bytes;
} fh_info;

/**
 * What opening a store took.
 */
typedef struct fh_recovery {
    /**
     * sizeof(struct fh_recovery), set by the caller.
     */
    uint32_t size;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * The checkpoint that it began from.
     */
    uint64_t checkpoint;
    /**
     * Journal groups replayed.
     */
    uint64_t groups;
    /**
     * Records replayed.
     */
    uint64_t records;
    /**
     * Bytes of the groups.
     */
    uint64_t journal_bytes;
    /**
     * Nanoseconds from the call to the store being ready.
     */
    uint64_t elapsed_ns;
} fh_recovery;

/**
 * How the space of a store is used, in bytes.
 */
typedef struct fh_space {
    /**
     * sizeof(struct fh_space), set by the caller.
     */
    uint32_t size;
    /**
     * Zero.
     */
    uint32_t zero;
    /**
     * The whole store.
     */
    uint64_t total;
    /**
     * What can be taken now, the reserve included.
     */
    uint64_t free;
    /**
     * Kept for removals and checkpoints.
     */
    uint64_t reserved;
    /**
     * Freed, and waiting for a checkpoint.
     */
    uint64_t condemned;
    /**
     * The journal's room in the store.
     */
    uint64_t journal;
    /**
     * The journal on another medium; not a part of the store.
     */
    uint64_t journal_apart;
    /**
     * How much of it the next opening would read back.
     */
    uint64_t journal_used;
    /**
     * Free but for pins of leases that were taken at their deadline.
     */
    uint64_t quarantined;
    /**
     * Memory, not blocks: what a device that was lost may still write to.
     */
    uint64_t withheld;
} fh_space;

/**
 * What a store has done since it was opened.
 */
typedef struct fh_stats {
    /**
     * sizeof(struct fh_stats), set by the caller.
     */
    uint32_t size;
    /**
     * Zero.
     */
    uint32_t zero;
    /**
     * Plain reads that users submitted.
     */
    uint64_t reads;
    /**
     * Plain writes that users submitted.
     */
    uint64_t writes;
    /**
     * Read commands that the device was given.
     */
    uint64_t device_reads;
    /**
     * Write commands that the device was given.
     */
    uint64_t device_writes;
    /**
     * Flush commands that the device was given.
     */
    uint64_t device_flushes;
    /**
     * Bytes that the device was asked to read.
     */
    uint64_t device_bytes_read;
    /**
     * Bytes that the device was asked to write.
     */
    uint64_t device_bytes_written;
    /**
     * Durable writes that were stored into the store's window, by no command.
     */
    uint64_t stored_writes;
    /**
     * Bytes of them.
     */
    uint64_t stored_bytes;
    /**
     * Journal groups written.
     */
    uint64_t journal_groups;
    /**
     * Records in them.
     */
    uint64_t journal_records;
    /**
     * Bytes of them.
     */
    uint64_t journal_bytes;
    /**
     * Checkpoints completed.
     */
    uint64_t checkpoints;
    /**
     * Nodes and bitmaps written by checkpoints.
     */
    uint64_t nodes_written;
    /**
     * Nodes and bitmaps read.
     */
    uint64_t nodes_read;
    /**
     * Nodes and bitmaps evicted from memory.
     */
    uint64_t cache_evictions;
    /**
     * Bytes of memory that nodes and bitmaps take.
     */
    uint64_t cache_used;
    /**
     * How much of that is on no medium yet.
     */
    uint64_t cache_dirty;
    /**
     * What it may be at most.
     */
    uint64_t cache_budget;
    /**
     * Blocks copied because they were shared.
     */
    uint64_t cow_blocks;
    /**
     * Bytes that the device copied by itself.
     */
    uint64_t copied_by_device;
    /**
     * Bytes that were copied through the device's own memory.
     */
    uint64_t copied_through_cmb;
    /**
     * Bytes that were copied through memory of this process.
     */
    uint64_t copied_through_host;
    /**
     * Reflinks, whole and of ranges.
     */
    uint64_t reflinks;
    /**
     * Atomic writes.
     */
    uint64_t atomic_writes;
    /**
     * Bytes of memory that a lost device may still reach.
     */
    uint64_t withheld_bytes;
} fh_stats;

/**
 * What a check found.
 */
typedef struct fh_check_report {
    /**
     * sizeof(struct fh_check_report), set by the caller.
     */
    uint32_t size;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * What is wrong; 0 for a sound store.
     */
    uint64_t findings;
    /**
     * Files, condemned ones included.
     */
    uint64_t files;
    /**
     * Nodes and bitmaps.
     */
    uint64_t nodes;
    /**
     * Blocks in use.
     */
    uint64_t blocks;
} fh_check_report;

/**
 * How a lease is asked for.
 */
typedef struct fh_lease_options {
    /**
     * sizeof(struct fh_lease_options).
     */
    uint32_t size;
    /**
     * 0.
     */
    uint32_t flags;
    /**
     * Milliseconds that the longest use may take, beside the store's lease time; 0 for 100,
     * 30000 at most.
     */
    uint64_t max_hold_ms;
} fh_lease_options;

/**
 * A lease, as it is now.
 */
typedef struct fh_lease_info {
    /**
     * sizeof(struct fh_lease_info), set by the caller.
     */
    uint32_t size;
    /**
     * FH_READ and so on.
     */
    uint32_t access;
    /**
     * Its number in the store; never used again.
     */
    uint64_t id;
    /**
     * The first byte of the file that it is over.
     */
    uint64_t start;
    /**
     * And the one behind the last.
     */
    uint64_t end;
    /**
     * 1 at first, one more each time that it is held again after a recall or a refresh.
     */
    uint64_t seq;
    /**
     * FH_LEASE_HELD and so on. Another thread may change it at any time.
     */
    uint32_t state;
    /**
     * Zero.
     */
    uint32_t reserved;
} fh_lease_info;

/**
 * A piece of a map. Numbers in bytes.
 */
typedef struct fh_extent {
    /**
     * Where in the file.
     */
    uint64_t offset;
    /**
     * How long.
     */
    uint64_t length;
    /**
     * Where on the medium; FH_NOWHERE for a hole.
     */
    uint64_t address;
    /**
     * FH_HOLE, FH_UNWRITTEN or FH_WRITTEN.
     */
    uint32_t kind;
    /**
     * 1 if another map has these blocks, too.
     */
    uint32_t shared;
} fh_extent;

/**
 * Bytes at one place of two files.
 */
typedef struct fh_range {
    /**
     * First byte.
     */
    uint64_t offset;
    /**
     * How many.
     */
    uint64_t length;
} fh_range;

/**
 * A file's numbers, in bytes.
 */
typedef struct fh_stat {
    /**
     * sizeof(struct fh_stat), set by the caller.
     */
    uint32_t size;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Its length.
     */
    uint64_t bytes;
    /**
     * What its map takes, shared or not.
     */
    uint64_t allocated;
    /**
     * How much of that others have, too.
     */
    uint64_t shared;
    /**
     * Extents in its map.
     */
    uint64_t extents;
} fh_stat;

/**
 * What came of moving a file's blocks together.
 */
typedef struct fh_defrag_report {
    /**
     * sizeof(struct fh_defrag_report), set by the caller.
     */
    uint32_t size;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * Places on the medium that the range lay in.
     */
    uint64_t extents_before;
    /**
     * Places that it lies in now.
     */
    uint64_t extents_after;
    /**
     * Bytes that were moved.
     */
    uint64_t moved;
} fh_defrag_report;

/**
 * An operation that has ended.
 */
typedef struct fh_completion {
    /**
     * What it was submitted with.
     */
    uint64_t user_data;
    /**
     * Bytes read or written, 0 for a sync; or a code.
     */
    int64_t result;
    /**
     * What went wrong, one sentence that ends in NUL, good until the queue is polled again;
     * null if nothing did.
     */
    const char *message;
    /**
     * Zero.
     */
    uint64_t reserved;
} fh_completion;

/**
 * Takes back what was registered: when it returns 0, no device reaches the blocks any more.
 * Otherwise some still may; then it is called again when somebody next needs them.
 */
typedef int (*fh_action)(void *context);

/**
 * A lease or a seal of a store.
 */
typedef struct fh_holding {
    /**
     * Its number in the store.
     */
    uint64_t id;
    /**
     * Whose it is.
     */
    uint64_t session;
    /**
     * The file's number.
     */
    uint64_t file;
    /**
     * The first byte that it covers.
     */
    uint64_t start;
    /**
     * And the one behind the last; FH_TO_END for a seal to the end.
     */
    uint64_t end;
    /**
     * Of a lease its access, FH_READ and so on; 0 of a seal.
     */
    uint32_t access;
    /**
     * Of a seal its kinds, FH_SEAL_LAYOUT and so on; 0 of a lease.
     */
    uint32_t kinds;
    /**
     * Of a seal: 1 if it can be asked for back.
     */
    uint32_t breakable;
    /**
     * FH_LEASE_HELD and so on.
     */
    uint32_t state;
    /**
     * Nanoseconds that it has been held; FH_NO_TIME for a seal.
     */
    uint64_t age_ns;
    /**
     * Nanoseconds until it is taken; FH_NO_TIME if it was not asked for back.
     */
    uint64_t left_ns;
} fh_holding;

/**
 * What may still reach blocks or memory through one lease.
 */
typedef struct fh_lease_in_flight {
    /**
     * The lease's number.
     */
    uint64_t lease;
    /**
     * Whose it is.
     */
    uint64_t session;
    /**
     * The file's number.
     */
    uint64_t file;
    /**
     * Short pins, of threads: those of Rust.
     */
    uint64_t short_pins;
    /**
     * Long pins: those of C among them.
     */
    uint64_t long_pins;
    /**
     * Commands on a device.
     */
    uint64_t io;
    /**
     * Registrations.
     */
    uint64_t registered;
    /**
     * Bytes in quarantine because of it.
     */
    uint64_t quarantine;
    /**
     * Nanoseconds that the lease has been held.
     */
    uint64_t age_ns;
} fh_lease_in_flight;

/**
 * How a store is opened. All zeroes but the size: for reading and writing, as fast as the system
 * lets us.
 */
typedef struct fh_open_options {
    /**
     * sizeof(struct fh_open_options).
     */
    uint32_t size;
    /**
     * FH_OPEN_READ_ONLY, FH_OPEN_NO_IO_URING, FH_OPEN_CACHED.
     */
    uint32_t flags;
    /**
     * Bytes of memory for maps and bitmaps, 16 KiB at least; 0 for 512 MiB.
     */
    uint64_t cache_bytes;
    /**
     * Where to look for a journal on a medium of its own, as a URI; null for where the store's
     * URI says.
     */
    const char *journal;
    /**
     * NVMe: milliseconds that a command may take before the controller is reset; 0 for 30000.
     */
    uint64_t io_timeout_ms;
    /**
     * NVMe: milliseconds that an admin command may take; 0 for 10000.
     */
    uint64_t admin_timeout_ms;
} fh_open_options;

/**
 * What giving a journal up loses.
 */
typedef struct fh_discarded {
    /**
     * sizeof(struct fh_discarded), set by the caller.
     */
    uint32_t size;
    /**
     * 1 if it was done: the store has its journal in itself now.
     */
    uint32_t done;
    /**
     * The store.
     */
    uint8_t store_id[16];
    /**
     * The journal that is given up.
     */
    uint8_t journal_id[16];
    /**
     * The checkpoint that the store goes back to.
     */
    uint64_t checkpoint;
    /**
     * The last record of its history that the checkpoint has.
     */
    uint64_t last_record;
    /**
     * 1 if what would have been replayed is known.
     */
    uint32_t known;
    /**
     * 1 if one superblock is damaged: run a check afterwards.
     */
    uint32_t uncertain;
    /**
     * Groups of the journal that are lost.
     */
    uint64_t groups;
    /**
     * Records in them.
     */
    uint64_t records;
} fh_discarded;

/**
 * How a seal is set.
 */
typedef struct fh_seal_options {
    /**
     * sizeof(struct fh_seal_options).
     */
    uint32_t size;
    /**
     * FH_SEAL_BREAKABLE, or 0.
     */
    uint32_t flags;
    /**
     * Milliseconds that setting it may wait for others; 0 for 1000.
     */
    uint64_t timeout_ms;
} fh_seal_options;

/**
 * What a session is told.
 */
typedef struct fh_event {
    /**
     * FH_EVENT_RECALL, FH_EVENT_WITHDRAWN or FH_EVENT_REVOKED; there may be others later.
     */
    uint32_t kind;
    /**
     * Of a recall: 1 if what was written to buffers and not flushed may still be flushed.
     */
    uint32_t may_flush;
    /**
     * The lease's or seal's number.
     */
    uint64_t id;
    /**
     * The file's number.
     */
    uint64_t file;
    /**
     * Of a recall: the first byte of what it covers.
     */
    uint64_t start;
    /**
     * And the one behind the last.
     */
    uint64_t end;
    /**
     * Of a recall: nanoseconds until it is taken.
     */
    uint64_t grace_ns;
    /**
     * Zeroes.
     */
    uint64_t reserved[2];
} fh_event;

/**
 * What is behind an address.
 */
typedef struct fh_window {
    /**
     * sizeof(struct fh_window), set by the caller.
     */
    uint32_t size;
    /**
     * Zero.
     */
    uint32_t reserved;
    /**
     * The number of the lease whose window it is.
     */
    uint64_t lease;
    /**
     * Which byte of the file it is.
     */
    uint64_t offset;
    /**
     * Where the window begins.
     */
    uint64_t address;
    /**
     * Bytes of the window.
     */
    uint64_t length;
} fh_window;

/**
 * How a store is made. All zeroes but the size take the medium as it is.
 */
typedef struct fh_format_options {
    /**
     * sizeof(struct fh_format_options).
     */
    uint32_t size;
    /**
     * FH_FORMAT_FORCE, or 0.
     */
    uint32_t flags;
    /**
     * Bytes of a file that is to be made; 0 for a block device, or a file that has its size.
     */
    uint64_t bytes;
    /**
     * The medium of the journal, as a URI; null for a journal in the store.
     */
    const char *journal;
    /**
     * Bytes of a file that is to be made for the journal; 0 for 16 MiB.
     */
    uint64_t journal_bytes;
} fh_format_options;

/**
 * One line of a listing.
 */
typedef struct fh_entry {
    /**
     * Bytes of the name, or of a prefix that names were folded into; not ended by NUL.
     */
    char name[255];
    /**
     * How many.
     */
    uint8_t name_len;
    /**
     * 1 for a prefix, which has no numbers.
     */
    uint8_t is_prefix;
    /**
     * Zeroes.
     */
    uint8_t reserved[7];
    /**
     * Bytes of the file.
     */
    uint64_t size;
    /**
     * Bytes that its map takes, shared or not.
     */
    uint64_t allocated;
    /**
     * Extents in its map.
     */
    uint64_t extents;
} fh_entry;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Memory for I/O through a queue of the same store, in whole blocks of 4096 bytes. It begins
 * with whatever its last user left there, of the same process.
 *
 * Parameters: `memory` is FH_MEMORY_AUTO, FH_MEMORY_DMA or FH_MEMORY_CMB. `bytes` is rounded up.
 * `buffer` gets the handle.
 * Thread: the queue's.
 * Ownership: the caller frees the handle by fh_buffer_free. From submission until its
 * completion is polled the memory is the queue's: it is not to be touched.
 * Returns: 0, or a code.
 * Errors: FH_ELIMIT when the system gives none; FH_EOPNOTSUPP for FH_MEMORY_CMB where the
 * controller has none for data; FH_EINVAL for FH_MEMORY_WINDOW, which leases have;
 * FH_EWRONGTHREAD.
 */
int fh_buffer_new(struct fh_queue *queue,
                  uint32_t memory,
                  size_t bytes,
                  struct fh_buffer **buffer);

/**
 * Where a buffer's memory is. It stays there for as long as the handle does.
 *
 * Parameters: `buffer`.
 * Thread: any.
 * Ownership: the memory is the library's, and the caller's to use while it is not in flight.
 * Returns: its first byte, on a boundary of 4096; null for no buffer.
 * Errors: none; fh_error_message says why it is null.
 */
void *fh_buffer_address(struct fh_buffer *buffer);

/**
 * Bytes in a buffer.
 *
 * Parameters: `buffer`.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: the bytes, a multiple of 4096; 0 for no buffer.
 * Errors: none.
 */
size_t fh_buffer_size(struct fh_buffer *buffer);

/**
 * Ends a handle of a buffer. What is in flight goes on; its memory is not used again before it
 * has completed.
 *
 * Parameters: `buffer` may be null.
 * Thread: any; the queue's while it is in flight.
 * Ownership: the handle is not used again, nor the memory.
 * Returns: nothing.
 * Errors: none.
 */
void fh_buffer_free(struct fh_buffer *buffer);

/**
 * Memory to use a lease by. A window is the storage itself, of the whole lease, and there is one
 * buffer of it at a time. DMA memory is private to its buffer, begins as zeroes, is filled and
 * flushed by a queue, and may be for a part of the lease.
 *
 * Parameters: `options` may be null, for FH_MEMORY_AUTO. `buffer` gets the handle.
 * Thread: any.
 * Ownership: the caller frees the handle by fh_lease_buffer_free. It keeps the lease.
 * Returns: 0, or a code.
 * Errors: FH_EOPNOTSUPP for a window where the medium has none for that access, or, with
 * FH_BUFFER_CLOSES, none that can be taken away; FH_EBUSY while the lease has a window buffer
 * already; FH_ELIMIT for DMA memory of more than 16 MiB, or that is not to be had; FH_EINVAL for
 * what is not whole blocks inside the lease, a part of a window, or FH_BUFFER_CLOSES with
 * FH_STABLE or FH_EXCLUSIVE access; FH_ERECALLED, FH_EREVOKED; as fh_lease_refresh.
 */
int fh_lease_buffer_new(struct fh_lease *lease,
                        const struct fh_lease_buffer_options *options,
                        struct fh_lease_buffer **buffer);

/**
 * A lease's buffer, as it is now.
 *
 * Parameters: `info` is filled; the caller sets its size before.
 * Thread: any; no other one submits or moves it meanwhile.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EBUSY while it is in flight; FH_EINVAL for a wrong size; FH_EBADF, FH_EFAULT.
 */
int fh_lease_buffer_describe(struct fh_lease_buffer *buffer,
                             struct fh_lease_buffer_info *info);

/**
 * Moves a buffer of DMA memory to another place of its lease: what a buffer pool does when it
 * evicts a page. Its bytes are what they were: fill it.
 *
 * Parameters: `offset` is the new first byte in the file: as many whole blocks inside the lease.
 * Thread: any; no other one uses the buffer meanwhile.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for a window, for unflushed bytes, and for what is not inside the lease;
 * FH_EBUSY while it is pinned or in flight.
 */
int fh_lease_buffer_move(struct fh_lease_buffer *buffer,
                         uint64_t offset);

/**
 * Gives up what was written to a buffer and not flushed: it counts as clean.
 *
 * Parameters: `buffer`.
 * Thread: any; no other one uses the buffer meanwhile.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EBUSY while it is pinned or in flight.
 */
int fh_lease_buffer_discard(struct fh_lease_buffer *buffer);

/**
 * Takes the private memory out of a lease's buffer, whatever has become of the lease, so that
 * what was not flushed can be written in the ordinary way.
 *
 * Parameters: `buffer` is ended if this returns 0. `memory` gets the handle of its memory: whole
 * blocks, the bytes of the lease in front.
 * Thread: any; no other one uses the buffer meanwhile.
 * Ownership: the caller frees `memory` by fh_buffer_free.
 * Returns: 0, or a code; then the buffer is as it was.
 * Errors: FH_EINVAL for a window, which has none; FH_EBUSY while it is pinned or in flight.
 */
int fh_lease_buffer_salvage(struct fh_lease_buffer *buffer,
                            struct fh_buffer **memory);

/**
 * Ends a handle of a lease's buffer. Pins go on, and keep its memory, or the addresses of its
 * window; what is in flight goes on. What was not flushed was never written.
 *
 * Parameters: `buffer` may be null.
 * Thread: any; no other one uses the buffer meanwhile, but for its pins; the queue's while it is
 * in flight.
 * Ownership: the handle is not used again.
 * Returns: nothing.
 * Errors: none.
 */
void fh_lease_buffer_free(struct fh_lease_buffer *buffer);

/**
 * Says what the last call of this thread that failed said: one sentence, with what to do.
 *
 * Parameters: none.
 * Thread: each thread has its own message, and reads no other's.
 * Ownership: the text is the library's. It is good until the next call of this thread that
 * fails.
 * Returns: a text that ends in NUL; an empty one if no call of this thread has failed.
 * Errors: none.
 */
const char *fh_error_message(void);

/**
 * Says which structure is damaged, after a call of this thread that failed with FH_ECORRUPT.
 *
 * Parameters: `block`, if it is not null, gets the number of the structure's block on the
 * medium.
 * Thread: each thread has its own.
 * Ownership: as fh_error_message.
 * Returns: the structure's name; null if the last failure of this thread was another one.
 * Errors: none.
 */
const char *fh_error_place(uint64_t *block);

/**
 * The name of a code, such as "FH_ERECALLED": for logs.
 *
 * Parameters: `code` is what a call returned.
 * Thread: any.
 * Ownership: the text is constant.
 * Returns: the name; null for a number that is no code of this library.
 * Errors: none.
 */
const char *fh_error_name(int code);

/**
 * Reads at any offset; short at the end of the file. Up to 1 MiB comes from one version of the
 * file's map.
 *
 * Parameters: `data` has room for `length` bytes.
 * Thread: any. Blocks.
 * Ownership: the memory is the caller's, of any kind.
 * Returns: how many bytes were read, or a code.
 * Errors: FH_EIO, FH_ECORRUPT, FH_ENODEV; FH_EWOULDDEADLOCK under an Exclusive pin of the same
 * session.
 */
int64_t fh_file_read(struct fh_file *file,
                     void *data,
                     size_t length,
                     uint64_t offset);

/**
 * Writes all of it at any offset; the file grows as needed. Bytes outside the range never
 * change, also across a crash. Durable after a sync.
 *
 * Parameters: `data` has `length` bytes.
 * Thread: any. Blocks.
 * Ownership: the memory is the caller's, of any kind.
 * Returns: 0, or a code.
 * Errors: FH_ENOSPC; FH_EINVAL past the greatest size; FH_ESEALED, FH_EWOULDDEADLOCK, FH_EBUSY;
 * FH_EIO, FH_EPOISONED, FH_EROFS.
 */
int fh_file_write(struct fh_file *file,
                  const void *data,
                  size_t length,
                  uint64_t offset);

/**
 * As fh_file_write, and durable when it returns: these bytes, and the size, the map and the
 * name that they need.
 *
 * Parameters: as fh_file_write.
 * Thread: any. Blocks.
 * Ownership: as fh_file_write.
 * Returns: 0, or a code.
 * Errors: as fh_file_write. After one the range holds old or new bytes, which need not be
 * durable.
 */
int fh_file_write_durable(struct fh_file *file,
                          const void *data,
                          size_t length,
                          uint64_t offset);

/**
 * Writes several ranges so that they become visible together or not at all, to readers and
 * across a crash. Durable after a sync.
 *
 * Parameters: `writes` has `number` ranges, which do not overlap.
 * Thread: any. Blocks.
 * Ownership: the memory is the caller's.
 * Returns: 0, or a code. After an error nothing has changed.
 * Errors: FH_EINVAL for ranges that overlap; FH_ELIMIT beyond fh_store_atomic_limits; as
 * fh_file_write.
 */
int fh_file_write_atomic(struct fh_file *file,
                         const struct fh_write *writes,
                         size_t number);

/**
 * The length of a file in bytes.
 *
 * Parameters: `file`.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: the bytes, or a code.
 * Errors: FH_EBADF.
 */
int64_t fh_file_size(struct fh_file *file);

/**
 * Makes a file shorter, or longer with zeroes.
 *
 * Parameters: `size` in bytes.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: as fh_file_write.
 */
int fh_file_truncate(struct fh_file *file,
                     uint64_t size);

/**
 * Makes a range read as zeroes and frees its whole blocks. The size stays.
 *
 * Parameters: `offset` and `length` in bytes.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: as fh_file_write.
 */
int fh_file_punch(struct fh_file *file,
                  uint64_t offset,
                  uint64_t length);

/**
 * Makes a range read as zeroes and keeps its blocks, or gives it some. The size stays.
 *
 * Parameters: `offset` and `length` in bytes.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: as fh_file_write; after FH_ENOSPC a part may be zeroed.
 */
int fh_file_zero(struct fh_file *file,
                 uint64_t offset,
                 uint64_t length);

/**
 * Takes a range out: what lies behind it moves down, and the file gets shorter. The cost does
 * not depend on how much is moved. Durable when it returns.
 *
 * Parameters: `offset` and `length` are multiples of 4096, and the range ends before the file
 * does.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for other ranges; as fh_file_write.
 */
int fh_file_collapse(struct fh_file *file,
                     uint64_t offset,
                     uint64_t length);

/**
 * Makes room: what lies at the offset or behind it moves up, and between is a hole. Durable when
 * it returns.
 *
 * Parameters: `offset` and `length` are multiples of 4096; the offset lies inside the file.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for other ranges; as fh_file_write.
 */
int fh_file_insert(struct fh_file *file,
                   uint64_t offset,
                   uint64_t length);

/**
 * Sets blocks aside for a range, so that writes there find space; the file grows to its end.
 * Shared blocks are copied.
 *
 * Parameters: `offset` and `length` in bytes.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_ENOSPC, with what was done kept; as fh_file_write.
 */
int fh_file_allocate(struct fh_file *file,
                     uint64_t offset,
                     uint64_t length);

/**
 * Makes a new file that shares all of this one, in constant time.
 *
 * Parameters: `name` has `name_len` bytes. `made` gets the new file's handle; it may be null if
 * none is wanted.
 * Thread: any. Blocks.
 * Ownership: the caller frees the handle by fh_file_free. The file belongs to the session of
 * this one.
 * Returns: 0, or a code.
 * Errors: FH_EEXIST; as fh_store_create; FH_EWOULDDEADLOCK, FH_EBUSY.
 */
int fh_file_reflink(struct fh_file *file,
                    const char *name,
                    size_t name_len,
                    struct fh_file **made);

/**
 * Shares a range of a file with a place in another one of the store, or in itself.
 *
 * Parameters: bytes from `offset` on, `length` of them, are shared with `to` from `to_offset`
 * on: multiples of 4096, but for the end of the file.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for other numbers, a range past the end, ranges that overlap, or files of
 * two stores; FH_ESEALED; as fh_file_write.
 */
int fh_file_reflink_range(struct fh_file *file,
                          uint64_t offset,
                          struct fh_file *to,
                          uint64_t to_offset,
                          uint64_t length);

/**
 * Makes durable what has completed of a file: bytes, size, map, name. What was written to a
 * lease's buffer and not flushed is not covered.
 *
 * Parameters: `file`.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EPOISONED if anything was lost.
 */
int fh_file_sync(struct fh_file *file);

/**
 * The session that a file belongs to. It never changes.
 *
 * Parameters: `session` gets a handle.
 * Thread: any.
 * Ownership: the caller frees the handle by fh_session_free.
 * Returns: 0, or a code.
 * Errors: FH_EBADF, FH_EFAULT.
 */
int fh_file_session(struct fh_file *file,
                    struct fh_session **session);

/**
 * Ends a handle of a file. Leases, seals and operations in flight keep the file.
 *
 * Parameters: `file` may be null.
 * Thread: any; not while another thread submits to a queue with it.
 * Ownership: the handle is not used again.
 * Returns: nothing.
 * Errors: none.
 */
void fh_file_free(struct fh_file *file);

/**
 * What a store and its medium are.
 *
 * Parameters: `info` is filled; the caller sets its size before.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for a wrong size; FH_EBADF, FH_EFAULT.
 */
int fh_store_info(struct fh_store *store,
                  struct fh_info *info);

/**
 * What opening a store took.
 *
 * Parameters: `recovery` is filled; the caller sets its size before.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for a wrong size; FH_EBADF, FH_EFAULT.
 */
int fh_store_recovery(struct fh_store *store,
                      struct fh_recovery *recovery);

/**
 * How the space of a store is used.
 *
 * Parameters: `space` is filled; the caller sets its size before.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for a wrong size; FH_EBADF, FH_EFAULT.
 */
int fh_store_space(struct fh_store *store,
                   struct fh_space *space);

/**
 * What a store has done since it was opened.
 *
 * Parameters: `stats` is filled; the caller sets its size before.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for a wrong size; FH_EBADF, FH_EFAULT.
 */
int fh_store_stats(struct fh_store *store,
                   struct fh_stats *stats);

/**
 * The URI that a store was opened by.
 *
 * Parameters: `text` has room for `room` bytes; the URI is cut to it, and ended by NUL.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: how long the whole text is, without the NUL; or a code.
 * Errors: FH_EBADF, FH_EFAULT.
 */
int64_t fh_store_uri(struct fh_store *store,
                     char *text,
                     size_t room);

/**
 * The URI of the medium that a store has its journal on, where that is another one.
 *
 * Parameters: `text` has room for `room` bytes; the URI is cut to it, and ended by NUL.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: how long the whole text is, without the NUL, so 0 for a journal in the store; or a
 * code.
 * Errors: FH_EBADF, FH_EFAULT.
 */
int64_t fh_store_journal(struct fh_store *store,
                         char *text,
                         size_t room);

/**
 * What the device under a store says of itself: model, limits, health. Nothing where there is
 * no device that could be asked.
 *
 * Parameters: `text` has room for `room` bytes: lines of "group.name", a tab, and a value.
 * Thread: any. Blocks until the device has answered.
 * Ownership: nothing changes hands.
 * Returns: how long the whole text is, without the NUL; or a code.
 * Errors: what the device or the link to it reports.
 */
int64_t fh_store_device(struct fh_store *store,
                        char *text,
                        size_t room);

/**
 * Proves the map of a store: every block is free, or owned once, or counted exactly; every tree
 * is ordered. Reads all metadata, writes nothing, and may run while the store is used.
 *
 * Parameters: `report` is filled; the caller sets its size before. `text` has room for `room`
 * bytes: a line for each finding; it may be null if `room` is 0.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: how long the whole text is, without the NUL, so 0 for a sound store; or a code.
 * Errors: only what keeps it from running; FH_EPOISONED: open the store again first.
 */
int64_t fh_store_check(struct fh_store *store,
                       struct fh_check_report *report,
                       char *text,
                       size_t room);

/**
 * Takes a lease on a range of bytes, rounded out to whole blocks: while it is held, the blocks
 * under it stay where they are, and whoever needs them moved asks for it back first. For
 * writing, all blocks of the range are allocated, written and unshared first.
 *
 * Parameters: `access` is FH_READ, FH_WRITE, FH_STABLE or FH_EXCLUSIVE. `offset` and `length` in
 * bytes; FH_TO_END for all of the file. `options` may be null. `lease` gets the handle.
 * Thread: any. Blocks while others are in the way.
 * Ownership: the caller ends the handle by fh_lease_free, which gives the lease back. It keeps
 * its file.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for a range that is empty or not inside the file, and for a session that
 * has ended; FH_ESEALED; FH_EBUSY where a holder that is overdue cannot be fenced;
 * FH_EWOULDDEADLOCK; for writing FH_ENOSPC and FH_EROFS; FH_EIO, FH_ECORRUPT, FH_EPOISONED.
 */
int fh_file_lease(struct fh_file *file,
                  uint32_t access,
                  uint64_t offset,
                  uint64_t length,
                  const struct fh_lease_options *options,
                  struct fh_lease **lease);

/**
 * A lease, as it is now.
 *
 * Parameters: `info` is filled; the caller sets its size before.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for a wrong size; FH_EBADF, FH_EFAULT.
 */
int fh_lease_describe(struct fh_lease *lease,
                      struct fh_lease_info *info);

/**
 * Where a lease is in its life. Another thread may change it at any time.
 *
 * Parameters: `lease`.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: FH_LEASE_HELD and so on, or a code.
 * Errors: FH_EBADF, FH_EFORKED.
 */
int fh_lease_state(struct fh_lease *lease);

/**
 * What stands behind a lease's range, in order, holes included. Where that lies on the medium
 * is told by a registration alone: their addresses are FH_NOWHERE here.
 *
 * Parameters: `extents` has room for `room`.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: how many extents there are, also if that is more than `room`. Or a code.
 * Errors: FH_EBADF, FH_EFAULT.
 */
int64_t fh_lease_iomap(struct fh_lease *lease,
                       struct fh_extent *extents,
                       size_t room);

/**
 * Makes a stale lease good again, where its blocks are now. Pins, fills and flushes do so by
 * themselves.
 *
 * Parameters: `lease`.
 * Thread: any. Blocks as fh_file_lease does.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_ERECALLED while it is asked for back, FH_EREVOKED when it is gone, FH_EBUSY while
 * it has delegates; as fh_file_lease.
 */
int fh_lease_refresh(struct fh_lease *lease);

/**
 * Takes the same range again with the same access, in place of this lease, which is given back
 * first: what to do after FH_ERECALLED and FH_EREVOKED, when it is wanted again. Buffers of the
 * old one stay with the old one: make new ones, and write what they have unflushed by
 * fh_lease_buffer_salvage.
 *
 * Parameters: `lease` keeps its handle, and has a new number.
 * Thread: any; no other one is in a call with it. Blocks as fh_file_lease does.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code; then it is the old lease still.
 * Errors: FH_ENOENT if the file was removed since; FH_EREVOKED if the store was closed;
 * FH_EBUSY while it is pinned, registered or in flight; as fh_file_lease.
 */
int fh_lease_reacquire(struct fh_lease *lease);

/**
 * Gives a lease back before its handle goes. Waits for nothing, and flushes nothing. If it is
 * gone already, nothing happens.
 *
 * Parameters: `lease` keeps its handle, which is freed as ever.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EBUSY while it is pinned, registered, or has I/O in flight: then it stays.
 */
int fh_lease_return(struct fh_lease *lease);

/**
 * Gives a beginning or an end of a lease back. If it was asked for back, and that was all that
 * was wanted, it is held again; otherwise there is more time.
 *
 * Parameters: `length` bytes from `offset` on are kept: whole blocks of its range.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EBUSY while it is pinned, registered or has I/O in flight; FH_EINVAL for what is
 * not whole blocks inside; FH_EREVOKED.
 */
int fh_lease_return_part(struct fh_lease *lease,
                         uint64_t offset,
                         uint64_t length);

/**
 * Gives another session a lease on a part of this one. An Exclusive lease gives no pins while it
 * has delegates; others go on beside theirs. A recall of this lease recalls its delegates.
 *
 * Parameters: `to` is a session of the store. `offset` and `length` are whole blocks inside the
 * lease's range; `access` as for fh_file_lease. `delegate` gets the handle.
 * Thread: any.
 * Ownership: the caller frees the handle by fh_lease_free.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for what is not whole blocks inside, an access that this one cannot give
 * on, or a session that has ended or is another store's; FH_EBUSY while an Exclusive lease is
 * pinned, registered or has unflushed bytes; FH_ERECALLED, FH_EREVOKED, FH_ESEALED,
 * FH_EWOULDDEADLOCK.
 */
int fh_lease_delegate(struct fh_lease *lease,
                      struct fh_session *to,
                      uint32_t access,
                      uint64_t offset,
                      uint64_t length,
                      struct fh_lease **delegate);

/**
 * Ends a handle of a lease. The lease is given back when its buffers and pins are gone, too.
 *
 * Parameters: `lease` may be null.
 * Thread: any. Waits for nothing.
 * Ownership: the handle is not used again.
 * Returns: nothing.
 * Errors: none.
 */
void fh_lease_free(struct fh_lease *lease);

/**
 * The map of a range up to the end of the file, holes included.
 *
 * Parameters: `offset` and `length` in bytes; FH_TO_END for all. `extents` has room for `room`.
 * Thread: any. Blocks where nodes of the map are not in memory.
 * Ownership: nothing changes hands. An address is good for as long as a LAYOUT seal or a lease
 * keeps the blocks where they are, and no longer.
 * Returns: how many extents there are, also if that is more than `room`, which are filled then:
 * the next ones begin where the last one ends. Or a code.
 * Errors: FH_ECORRUPT, FH_EIO.
 */
int64_t fh_file_iomap(struct fh_file *file,
                      uint64_t offset,
                      uint64_t length,
                      struct fh_extent *extents,
                      size_t room);

/**
 * What stands behind one byte: the quickest look-up there is. `shared` is not worked out.
 *
 * Parameters: `extent` gets it, from the block with the byte on; past the end a hole.
 * Thread: any. Blocks only where a node of the map is not in memory.
 * Ownership: as fh_file_iomap.
 * Returns: 0, or a code.
 * Errors: FH_ECORRUPT, FH_EIO.
 */
int fh_file_extent_at(struct fh_file *file,
                      uint64_t offset,
                      struct fh_extent *extent);

/**
 * Where two files of a store have different blocks, in order. Outside of these ranges they hold
 * the same bytes; inside, bytes may be equal by chance. What reflinks still share costs nothing.
 *
 * Parameters: `ranges` has room for `room`.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: how many ranges there are, also if that is more than `room`. Or a code.
 * Errors: FH_EINVAL for files of two stores; FH_ECORRUPT, FH_EIO.
 */
int64_t fh_file_diff(struct fh_file *one,
                     struct fh_file *other,
                     struct fh_range *ranges,
                     size_t room);

/**
 * A file's numbers. Walks its map.
 *
 * Parameters: `stat` is filled; the caller sets its size before.
 * Thread: any. Blocks where nodes of the map are not in memory.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_ECORRUPT, FH_EIO; FH_EINVAL for a wrong size.
 */
int fh_file_stat(struct fh_file *file,
                 struct fh_stat *stat);

/**
 * Moves the blocks of a range together where free space has longer runs than they lie in. The
 * bytes do not change, and others may go on reading and writing.
 *
 * Parameters: `offset` and `length` in bytes; FH_TO_END for all. `report` may be null.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EROFS, FH_EIO, FH_EPOISONED. A lack of space is none: what cannot be moved stays.
 */
int fh_file_defrag(struct fh_file *file,
                   uint64_t offset,
                   uint64_t length,
                   struct fh_defrag_report *report);

/**
 * Pins a lease's buffer for a use by the CPU: while the pin is there, nobody who needs the range
 * gets on, up to the deadline of a recall. Some 150 ns; nothing is allocated. Where
 * the lease's own session has changed the map it is looked up again first, which blocks as
 * fh_file_lease does.
 *
 * Under FH_READ and FH_WRITE access others may write a window's bytes meanwhile: read and write
 * them by atomic or volatile accesses, or by fh_pin_load and fh_pin_store. Under FH_EXCLUSIVE a
 * pin that writes has no other beside it.
 *
 * Parameters: `flags` is FH_PIN_WRITE or 0. `address`, if it is not null, gets where the first
 * byte is; fh_pin_part says how many lie there side by side: all of them, but for windows in
 * segments. `pin` gets the handle.
 * Thread: any.
 * Ownership: the caller ends the pin by fh_unpin, on any thread. The address is good until then,
 * and is not the pin's any more when the lease was revoked: then the memory is stale, or, with
 * FH_BUFFER_CLOSES, cannot be touched.
 * Returns: 0, or a code.
 * Errors: FH_ERECALLED, FH_EREVOKED; FH_EBUSY while it is in flight, while the lease has
 * delegates, or where an Exclusive pin excludes it; FH_EINVAL for FH_PIN_WRITE where the access
 * only reads; as fh_lease_refresh.
 */
int fh_lease_buffer_pin(struct fh_lease_buffer *buffer,
                        uint32_t flags,
                        void **address,
                        struct fh_pin **pin);

/**
 * Where a byte of a pinned buffer is, and how many lie there side by side: all from there on,
 * but for windows in segments.
 *
 * Parameters: `at` counts from the buffer's first byte. `address` gets the place, `length`, if it
 * is not null, the bytes.
 * Thread: any.
 * Ownership: as fh_lease_buffer_pin.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL at the end of the buffer or beyond it.
 */
int fh_pin_part(struct fh_pin *pin,
                uint64_t at,
                void **address,
                size_t *length);

/**
 * Copies bytes out of a pinned buffer. What others write there meanwhile may be torn.
 *
 * Parameters: `at` counts from the buffer's first byte; `data` has room for `length`.
 * Thread: any.
 * Ownership: the memory is the caller's.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL outside the buffer.
 */
int fh_pin_load(struct fh_pin *pin,
                uint64_t at,
                void *data,
                size_t length);

/**
 * Copies bytes into a pinned buffer.
 *
 * Parameters: `at` counts from the buffer's first byte; `data` has `length` bytes.
 * Thread: any.
 * Ownership: the memory is the caller's.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL outside the buffer, and for a pin without FH_PIN_WRITE.
 */
int fh_pin_store(struct fh_pin *pin,
                 uint64_t at,
                 const void *data,
                 size_t length);

/**
 * As fh_pin_store, and durable when it returns: on persistent memory the copy and the
 * instructions that flush it, on a Persistent Memory Region one barrier. For windows under
 * FH_WRITE access.
 *
 * Parameters: as fh_pin_store.
 * Thread: any.
 * Ownership: as fh_pin_store.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for other buffers; as fh_pin_store; what the medium reports: then nothing is
 * known of these bytes.
 */
int fh_pin_store_durably(struct fh_pin *pin,
                         uint64_t at,
                         const void *data,
                         size_t length);

/**
 * Ends a pin. Whoever waits for the range goes on. It cannot fail, and waits for nothing.
 *
 * Parameters: `pin` may be null.
 * Thread: any.
 * Ownership: the handle, and addresses that it gave, are not used again.
 * Returns: nothing.
 * Errors: none.
 */
void fh_unpin(struct fh_pin *pin);

/**
 * Submits a read into a buffer; short at the end of the file, zeroes behind that. Never sleeps,
 * and allocates nothing where it is of whole blocks of one extent.
 *
 * Parameters: `offset` in bytes, any. `user_data` comes back with the completion.
 * Thread: the queue's; no other one frees the file meanwhile.
 * Ownership: the buffer is the queue's until its completion was polled. The file may be freed.
 * Returns: 0, or a code; then nothing happened.
 * Errors: FH_EAGAIN when the queue is full: poll it first; FH_EWRONGTHREAD; FH_EBUSY for a buffer
 * in flight; FH_EBADF. What goes wrong later is in the completion.
 */
int fh_queue_read(struct fh_queue *queue,
                  struct fh_file *file,
                  uint64_t offset,
                  struct fh_buffer *buffer,
                  uint64_t user_data);

/**
 * Submits a write of a whole buffer; the file grows as needed. Durable after a sync.
 *
 * Parameters: as fh_queue_read.
 * Thread: as fh_queue_read.
 * Ownership: as fh_queue_read.
 * Returns: 0, or a code; then nothing happened.
 * Errors: as fh_queue_read; FH_EROFS, FH_EPOISONED; FH_EINVAL past the greatest size.
 */
int fh_queue_write(struct fh_queue *queue,
                   struct fh_file *file,
                   uint64_t offset,
                   struct fh_buffer *buffer,
                   uint64_t user_data);

/**
 * As fh_queue_write; the bytes, and what they need to be found, are durable when it completes.
 *
 * Parameters: as fh_queue_read.
 * Thread: as fh_queue_read.
 * Ownership: as fh_queue_read.
 * Returns: 0, or a code; then nothing happened.
 * Errors: as fh_queue_write.
 */
int fh_queue_write_durable(struct fh_queue *queue,
                           struct fh_file *file,
                           uint64_t offset,
                           struct fh_buffer *buffer,
                           uint64_t user_data);

/**
 * Submits a sync: makes durable what has completed of the file when this is submitted.
 *
 * Parameters: `user_data` comes back with the completion.
 * Thread: as fh_queue_read.
 * Ownership: the file may be freed.
 * Returns: 0, or a code; then nothing happened.
 * Errors: FH_EAGAIN when the queue is full; FH_EWRONGTHREAD; FH_EBADF.
 */
int fh_queue_sync(struct fh_queue *queue,
                  struct fh_file *file,
                  uint64_t user_data);

/**
 * Submits a read of a lease's bytes into its buffer, without a look-up. What was written there
 * and not flushed is overwritten. Of a window there is nothing to read: it completes at once.
 *
 * Parameters: `user_data` comes back with the completion.
 * Thread: the queue's; no other one uses the buffer meanwhile.
 * Ownership: the buffer is the queue's until its completion was polled.
 * Returns: 0, or a code; then nothing happened.
 * Errors: FH_EAGAIN when the queue is full; FH_EBUSY for a buffer that is pinned or in flight;
 * FH_EINVAL for a lease of another store; FH_EWRONGTHREAD; FH_EBADF. In the completion
 * FH_ERECALLED and FH_EREVOKED, and what the device reports.
 */
int fh_queue_fill(struct fh_queue *queue,
                  struct fh_lease_buffer *buffer,
                  uint64_t user_data);

/**
 * Submits a write of a lease's buffer to the lease's blocks, in place and without a look-up. If
 * it succeeds the buffer is clean. Durable after a sync of the file. Of a window, what was
 * written through pins that have ended is there already.
 *
 * Parameters: as fh_queue_fill.
 * Thread: as fh_queue_fill.
 * Ownership: as fh_queue_fill.
 * Returns: 0, or a code; then nothing happened.
 * Errors: as fh_queue_fill; FH_EINVAL for a lease that does not write.
 */
int fh_queue_flush(struct fh_queue *queue,
                   struct fh_lease_buffer *buffer,
                   uint64_t user_data);

/**
 * As fh_queue_flush; the bytes are durable when it completes.
 *
 * Parameters: as fh_queue_fill.
 * Thread: as fh_queue_fill.
 * Ownership: as fh_queue_fill.
 * Returns: 0, or a code; then nothing happened.
 * Errors: as fh_queue_flush.
 */
int fh_queue_persist(struct fh_queue *queue,
                     struct fh_lease_buffer *buffer,
                     uint64_t user_data);

/**
 * Tells what has finished, and drives the queue, the store's own work, and deadlines that have
 * come. Never sleeps, but for actions that it runs, and allocates nothing but the messages of
 * what failed.
 *
 * Parameters: `completions` has room for `room`; what finds none is told next time.
 * Thread: the queue's.
 * Ownership: buffers that are told are the caller's again.
 * Returns: how many were told, 0 for none; or a code.
 * Errors: FH_EWRONGTHREAD, FH_EBADF, FH_EFAULT, FH_EFORKED; FH_EWOULDDEADLOCK in an action that
 * this queue runs.
 */
int64_t fh_queue_poll(struct fh_queue *queue,
                      struct fh_completion *completions,
                      size_t room);

/**
 * Sleeps until something can be polled, nothing is in flight, or the time is over.
 *
 * Parameters: `timeout_ns` in nanoseconds, or FH_FOREVER.
 * Thread: the queue's. Blocks.
 * Ownership: nothing changes hands.
 * Returns: 0, also when the time is over; or a code.
 * Errors: FH_ENODEV when the medium has vanished; FH_EWRONGTHREAD, FH_EBADF, FH_EFORKED;
 * FH_EINVAL for another negative time.
 */
int fh_queue_wait(struct fh_queue *queue,
                  int64_t timeout_ns);

/**
 * Makes a queue the calling thread's.
 *
 * Parameters: `queue`, which no other thread is in a call with, nor will be.
 * Thread: any. What its last thread did with it comes before, by the program's own order.
 * Ownership: buffers in flight go with the queue.
 * Returns: 0, or a code.
 * Errors: FH_EBUSY while another thread is in a call with it; FH_EBADF, FH_EFORKED.
 */
int fh_queue_adopt(struct fh_queue *queue);

/**
 * Ends a queue and waits for nothing: what was submitted may still happen. Buffers in flight go
 * with it; their handles are only to be freed.
 *
 * Parameters: `queue` may be null.
 * Thread: the queue's, or any while none is in a call with it.
 * Ownership: the handle is not used again.
 * Returns: nothing.
 * Errors: none.
 */
void fh_queue_free(struct fh_queue *queue);

/**
 * Makes a lease's blocks known to foreign DMA (an RDMA card, a GPU, another driver): gives out
 * where they are on the medium, against an action that takes that back.
 *
 * While the registration is there the lease counts as used. If it is recalled and not returned
 * in time, the action is called: on whichever thread drives the deadline, without any lock, once
 * at a time. Calls into the same store from it answer FH_EWOULDDEADLOCK, but for those that end
 * handles. It must not throw, nor leave by longjmp.
 *
 * Parameters: `action` is not null. `context` is given to it, and may be null. `registration` gets
 * the handle.
 * Thread: any. Blocks as fh_lease_refresh does.
 * Ownership: the context belongs to the caller, and is good until fh_registration_end has
 * returned 1, or the action has returned 0. The caller ends the handle by fh_registration_end or
 * fh_registration_free.
 * Returns: 0, or a code.
 * Errors: FH_EFAULT without an action; FH_ERECALLED, FH_EREVOKED; as fh_lease_refresh.
 */
int fh_lease_register(struct fh_lease *lease,
                      fh_action action,
                      void *context,
                      struct fh_registration **registration);

/**
 * Where a registered lease's bytes are, in order. Good until the registration ends, or its
 * action is called.
 *
 * Parameters: `extents` has room for `room`.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: how many extents there are, also if that is more than `room`. Or a code.
 * Errors: FH_EBADF, FH_EFAULT.
 */
int64_t fh_registration_extents(struct fh_registration *registration,
                                struct fh_extent *extents,
                                size_t room);

/**
 * Ends a registration: no device reaches the blocks any more, the caller has seen to that.
 *
 * Parameters: `registration`.
 * Thread: any; no other one is in a call with it. Waits for nothing.
 * Ownership: the handle is not used again.
 * Returns: 1 if the action was not called, and will not be; 0 if it was called already; or a
 * code.
 * Errors: FH_EBADF, FH_EBUSY, FH_EFORKED.
 */
int fh_registration_end(struct fh_registration *registration);

/**
 * Ends a handle of a registration without ending the registration: the lease stays, without a
 * holder, until somebody needs its range and the action has returned 0.
 *
 * Parameters: `registration` may be null.
 * Thread: any.
 * Ownership: the handle is not used again; the context is, by the action.
 * Returns: nothing.
 * Errors: none.
 */
void fh_registration_free(struct fh_registration *registration);

/**
 * All leases and seals of a store, by their numbers: whose they are, what they cover, how old
 * they are, and where they are in their lives.
 *
 * Parameters: `holdings` has room for `room`.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: how many there are, also if that is more than `room`. Or a code.
 * Errors: FH_EBADF, FH_EFAULT.
 */
int64_t fh_store_leases(struct fh_store *store,
                        struct fh_holding *holdings,
                        size_t room);

/**
 * What may reach blocks or memory now, through each lease that is in use: pins, commands,
 * registrations, quarantine.
 *
 * Parameters: `leases` has room for `room`. `withheld`, if it is not null, gets the bytes of
 * memory, not blocks, that a device which was lost may still write to, and that nobody uses
 * again.
 * Thread: any. Does not block.
 * Ownership: nothing changes hands.
 * Returns: how many there are, also if that is more than `room`. Or a code.
 * Errors: FH_EBADF, FH_EFAULT.
 */
int64_t fh_store_inflight(struct fh_store *store,
                          struct fh_lease_in_flight *leases,
                          size_t room,
                          uint64_t *withheld);

/**
 * Says what is lost when the journal of a store, which is on a medium of its own, is given up;
 * with `force` does so: the store goes back to its newest checkpoint, and has its journal in
 * itself from then on.
 *
 * Parameters: `uri` and `options` as for fh_store_open; the store is not open. `force` is 1 to do
 * it, 0 to be told. `discarded` is filled; the caller sets its size before.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for a store whose journal is in itself, and for the right journal, with
 * which the store can be opened; FH_ECORRUPT where there is no checkpoint to go back to; as
 * fh_store_open.
 */
int fh_store_discard_journal(const char *uri,
                             const struct fh_open_options *options,
                             int force,
                             struct fh_discarded *discarded);

/**
 * Sets a seal on a range of bytes, rounded out to whole blocks. FH_SEAL_SHRINK, FH_SEAL_GROW and
 * FH_SEAL_SEAL speak of the whole file. It is set wholly or not at all, in force when this
 * returns, and binds its own session, too. Nothing of it is on the medium.
 *
 * Parameters: `kinds` are FH_SEAL_LAYOUT and so on, joined by |. `offset` and `length` in
 * bytes; FH_TO_END for all. `options` may be null. `seal` gets the handle.
 * Thread: any. Blocks while others are in the way.
 * Ownership: the caller ends the handle by fh_seal_clear or fh_seal_free. It keeps its file
 * and its session.
 * Returns: 0, or a code.
 * Errors: FH_EINVAL for no kinds or an empty range; FH_ESEALED where FH_SEAL_SEAL is set by
 * another session; FH_EBUSY when the time is over, with no seal set; FH_EWOULDDEADLOCK;
 * FH_EROFS.
 */
int fh_file_seal(struct fh_file *file,
                 uint32_t kinds,
                 uint64_t offset,
                 uint64_t length,
                 const struct fh_seal_options *options,
                 struct fh_seal **seal);

/**
 * The number of a seal in its store, as messages, events and fh_store_leases tell it.
 *
 * Parameters: `seal`.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: the number, or a code.
 * Errors: FH_EBADF.
 */
int64_t fh_seal_id(struct fh_seal *seal);

/**
 * What a seal forbids, if it is in force still: a breakable one may have been taken.
 *
 * Parameters: `seal`.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: its kinds, joined by |, with those that they imply; 0 if it is not in force; or a
 * code.
 * Errors: FH_EBADF, FH_EFORKED.
 */
int fh_seal_kinds(struct fh_seal *seal);

/**
 * Clears a seal.
 *
 * Parameters: `seal`.
 * Thread: any; no other one is in a call with it. Waits for nothing.
 * Ownership: the handle is not used again.
 * Returns: 1 if it was in force until now, 0 if it had been taken; or a code.
 * Errors: FH_EBADF, FH_EBUSY, FH_EFORKED.
 */
int fh_seal_clear(struct fh_seal *seal);

/**
 * Ends a handle of a seal, and so clears it.
 *
 * Parameters: `seal` may be null.
 * Thread: any. Waits for nothing.
 * Ownership: the handle is not used again.
 * Returns: nothing.
 * Errors: none.
 */
void fh_seal_free(struct fh_seal *seal);

/**
 * The number of a session, as messages and fh_store_leases tell it; 1 is the store's own.
 *
 * Parameters: `session`.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: the number, or a code.
 * Errors: FH_EBADF.
 */
int64_t fh_session_id(struct fh_session *session);

/**
 * As fh_store_create; the file, and what is held through it, belongs to this session.
 *
 * Parameters: as fh_store_create.
 * Thread: any.
 * Ownership: as fh_store_create.
 * Returns: 0, or a code.
 * Errors: as fh_store_create.
 */
int fh_session_create(struct fh_session *session,
                      const char *name,
                      size_t name_len,
                      struct fh_file **file);

/**
 * As fh_store_open_file; the file, and what is held through it, belongs to this session.
 *
 * Parameters: as fh_store_open_file.
 * Thread: any.
 * Ownership: as fh_store_open_file.
 * Returns: 0, or a code.
 * Errors: as fh_store_open_file.
 */
int fh_session_open_file(struct fh_session *session,
                         const char *name,
                         size_t name_len,
                         struct fh_file **file);

/**
 * Takes what the session was told, in order. Also drives what is due in the store: other
 * sessions' deadlines, and actions.
 *
 * Parameters: `events` has room for `room`.
 * Thread: any. Does not block, but for the actions that it runs.
 * Ownership: nothing changes hands.
 * Returns: how many were taken; while there are more, the descriptor stays readable. Or a code.
 * Errors: FH_EBADF, FH_EFAULT, FH_EFORKED.
 */
int64_t fh_session_events(struct fh_session *session,
                          struct fh_event *events,
                          size_t room);

/**
 * A descriptor that is readable while there are events, and when a recall's deadline has come:
 * for poll, epoll and the like. Read nothing from it: call fh_session_events.
 *
 * Parameters: `session`.
 * Thread: any.
 * Ownership: the descriptor is the session's, and closed with it. Do not close it.
 * Returns: the descriptor, 0 or above; or a code.
 * Errors: FH_ELIMIT when the process has no descriptors left: it takes three.
 */
int fh_session_event_fd(struct fh_session *session);

/**
 * Ends a session for all its handles: its seals are cleared, its leases taken, those in use
 * fenced at once, and nothing is granted to it any more. Its files can be read and written.
 *
 * Parameters: `session` keeps its handle, which is freed as ever.
 * Thread: any. Blocks for I/O in flight through its leases, and for actions.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code. A second time it does nothing.
 * Errors: FH_EBUSY where a fence did not come to its end; FH_EINVAL for the store's own
 * session; FH_EWOULDDEADLOCK in a registration's action.
 */
int fh_session_end(struct fh_session *session);

/**
 * Ends a handle of a session. With the last one of it, of its files, seals, leases and
 * buffers, the session ends.
 *
 * Parameters: `session` may be null.
 * Thread: any.
 * Ownership: the handle is not used again.
 * Returns: nothing.
 * Errors: none.
 */
void fh_session_free(struct fh_session *session);

/**
 * Says whether an address lies in a window that was made with FH_BUFFER_CLOSES and pinned since:
 * for a handler of SIGSEGV, which so tells a pin that was kept too long from another fault.
 * It may be called in a signal handler: it locks nothing, allocates nothing, and leaves
 * fh_error_message alone.
 *
 * Parameters: `address` is si_addr. `window` is filled; the caller sets its size before.
 * Thread: any, also in a signal handler.
 * Ownership: nothing changes hands.
 * Returns: 1 if it does, 0 if not; or a code.
 * Errors: FH_EFAULT, and FH_EINVAL for a wrong size, without a message.
 */
int fh_window_at(const void *address,
                 struct fh_window *window);

/**
 * Makes an empty store on a medium, and opens it.
 *
 * Parameters: `uri` names the medium: "file:PATH", "mem:64M", "pmem:PATH", "nvme:BDF",
 * "vfio-user:SOCKET" and others. `options` may be null. `store` gets the handle.
 * Thread: any. Blocks for a few writes.
 * Ownership: the caller has the handle, and ends it by fh_store_close or fh_store_free. The
 * texts are the caller's, and not looked at afterwards.
 * Returns: 0, or a code.
 * Errors: FH_EBUSY for a medium that is mounted or open elsewhere; FH_EOCCUPIED for one that
 * carries something else (FH_FORMAT_FORCE overrides that); FH_EINVAL for a bad URI, size or
 * option; what the medium reports.
 */
int fh_store_format(const char *uri,
                    const struct fh_format_options *options,
                    struct fh_store **store);

/**
 * Opens a store; recovers it if it was not closed. A store that this process has open already
 * is the same store again, with one more handle.
 *
 * Parameters: `uri` as for fh_store_format. `options` may be null. `store` gets the handle.
 * Thread: any. Blocks while it is recovered: under a second, as a rule.
 * Ownership: as fh_store_format.
 * Returns: 0, or a code.
 * Errors: FH_ENOENT, FH_ENOTASTORE, FH_ETOONEW, FH_ETRUNCATED, FH_ECORRUPT; FH_EWRONGJOURNAL,
 * with the journal that is wanted; FH_EBUSY while another process has it open; FH_EINVAL for a
 * bad URI or option; FH_EFORKED.
 */
int fh_store_open(const char *uri,
                  const struct fh_open_options *options,
                  struct fh_store **store);

/**
 * Ends a store: all is durable, and it opens again without recovery. Leases and breakable seals
 * are asked for back first.
 *
 * Parameters: `store` is ended if this returns 0, and good still if it does not.
 * Thread: any. Blocks, for as long as the holders of leases may take.
 * Ownership: every other handle that came from the store, of files, sessions, queues, leases,
 * buffers, pins, seals and registrations, is freed before.
 * Returns: 0, or a code.
 * Errors: FH_EBUSY while other handles are left, another thread is in a call with this one, or
 * a lease or seal is not given up, with its holder; FH_EPOISONED; FH_EWOULDDEADLOCK in a
 * registration's action.
 */
int fh_store_close(struct fh_store *store);

/**
 * Ends a handle of a store and waits for nothing. What a sync promised is kept; a store whose
 * last handle goes so is recovered when it is next opened.
 *
 * Parameters: `store` may be null.
 * Thread: any.
 * Ownership: the handle is not used again.
 * Returns: nothing.
 * Errors: none.
 */
void fh_store_free(struct fh_store *store);

/**
 * Makes a new, empty file. It is durable after a sync.
 *
 * Parameters: `name` has `name_len` bytes, 1 to 255, none of them NUL. `file` gets the handle.
 * Thread: any.
 * Ownership: the caller frees the handle by fh_file_free. The file belongs to the store's own
 * session.
 * Returns: 0, or a code.
 * Errors: FH_EEXIST; FH_EINVAL for a bad name; FH_ENOSPC, FH_EROFS, FH_EIO, FH_EPOISONED.
 */
int fh_store_create(struct fh_store *store,
                    const char *name,
                    size_t name_len,
                    struct fh_file **file);

/**
 * Opens a file by its name.
 *
 * Parameters: as fh_store_create.
 * Thread: any.
 * Ownership: as fh_store_create.
 * Returns: 0, or a code.
 * Errors: FH_ENOENT, FH_ECORRUPT.
 */
int fh_store_open_file(struct fh_store *store,
                       const char *name,
                       size_t name_len,
                       struct fh_file **file);

/**
 * Takes a name away; the blocks follow when the last handle, lease and pin of the file is gone.
 *
 * Parameters: `name` has `name_len` bytes.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_ENOENT; FH_EROFS, FH_EIO, FH_EPOISONED.
 */
int fh_store_remove(struct fh_store *store,
                    const char *name,
                    size_t name_len);

/**
 * Renames a file; one that has the new name is replaced in the same step, also across a crash.
 *
 * Parameters: two names, each with its length.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_ENOENT; FH_EINVAL for a bad name; FH_ENOSPC, FH_EROFS, FH_EIO, FH_EPOISONED.
 */
int fh_store_rename(struct fh_store *store,
                    const char *from,
                    size_t from_len,
                    const char *to,
                    size_t to_len);

/**
 * Makes a new file that shares all blocks of another one, in constant time.
 *
 * Parameters: two names, each with its length. `file` gets the new file's handle; it may be
 * null if none is wanted.
 * Thread: any.
 * Ownership: as fh_store_create.
 * Returns: 0, or a code.
 * Errors: FH_ENOENT, FH_EEXIST; as fh_store_create.
 */
int fh_store_reflink(struct fh_store *store,
                     const char *from,
                     size_t from_len,
                     const char *to,
                     size_t to_len,
                     struct fh_file **file);

/**
 * Lists names that begin with a prefix and come after another one, in the order of their
 * bytes; with a delimiter, folded at its first place behind the prefix.
 *
 * Parameters: `prefix` and `after` have their lengths; `after` may be null, and its length 0,
 * for all. `delimiter` is a byte, or -1 for none. `entries` has room for `room` lines. For the
 * next ones the name or prefix of the last line is `after`.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: how many lines were filled; fewer than `room` if there are no more. Or a code.
 * Errors: FH_ECORRUPT, FH_EIO; FH_EINVAL.
 */
int64_t fh_store_list(struct fh_store *store,
                      const char *prefix,
                      size_t prefix_len,
                      int delimiter,
                      const char *after,
                      size_t after_len,
                      struct fh_entry *entries,
                      size_t room);

/**
 * Makes durable all that has completed.
 *
 * Parameters: `store`.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EPOISONED if anything was lost; FH_EIO.
 */
int fh_store_sync(struct fh_store *store);

/**
 * Writes a checkpoint and waits for it: space that was freed can be used again.
 *
 * Parameters: `store`.
 * Thread: any. Blocks.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EPOISONED, FH_EROFS, FH_EIO.
 */
int fh_store_checkpoint(struct fh_store *store);

/**
 * Says how long the holders of leases and breakable seals have from now on when these are asked
 * for back, beside what they declared.
 *
 * Parameters: `milliseconds`, from 1 to 60000; a second if nothing is said.
 * Thread: any.
 * Ownership: nothing changes hands.
 * Returns: 0, or a code.
 * Errors: FH_EBADF.
 */
int fh_store_set_lease_time(struct fh_store *store,
                            uint64_t milliseconds);

/**
 * Asks for all leases and breakable seals back. fh_store_close does so by itself.
 *
 * Parameters: `store`.
 * Thread: any. Blocks for as long as the holders of those that are in use may take.
 * Ownership: leases that are taken keep their handles, which say so.
 * Returns: 0, or a code.
 * Errors: FH_EBUSY, with the holder, where one is not given up.
 */
int fh_store_recall(struct fh_store *store);

/**
 * The store's own session: what is opened from the store itself belongs to it.
 *
 * Parameters: `session` gets a handle.
 * Thread: any.
 * Ownership: the caller frees the handle by fh_session_free.
 * Returns: 0, or a code.
 * Errors: FH_EBADF, FH_EFAULT.
 */
int fh_store_session(struct fh_store *store,
                     struct fh_session **session);

/**
 * One more session, for a part of the program that holds seals and leases of its own.
 *
 * Parameters: `session` gets the handle.
 * Thread: any.
 * Ownership: the caller frees the handle by fh_session_free. The session ends by
 * fh_session_end, or with the last handle of it, of its files, seals, leases and buffers.
 * Returns: 0, or a code.
 * Errors: FH_EBADF, FH_EFAULT, FH_EFORKED.
 */
int fh_session_new(struct fh_store *store,
                   struct fh_session **session);

/**
 * Makes a queue for operations of the calling thread.
 *
 * Parameters: `depth` is how many may be in flight; a device may grant fewer. `queue` gets the
 * handle.
 * Thread: any; from then on only this thread may use the queue, until another one adopts it.
 * Ownership: the caller frees the handle by fh_queue_free.
 * Returns: 0, or a code.
 * Errors: FH_ELIMIT, with what to raise; FH_EINVAL for a depth of 0.
 */
int fh_queue_new(struct fh_store *store,
                 uint32_t depth,
                 struct fh_queue **queue);

/**
 * The version of the library, such as "0.1.0".
 *
 * Parameters: none.
 * Thread: any.
 * Ownership: the text is constant.
 * Returns: a text that ends in NUL.
 * Errors: none.
 */
const char *fh_version(void);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FREEHOLD_H */
