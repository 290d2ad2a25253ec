//! Buffers: memory for I/O, and memory through which a lease is used.

use crate::args::{self, answer, options, sized};
use crate::fault::{Fault, Outcome, status};
use crate::handle::Taken;
use crate::kept::{self, Kept, Lends, pinned};
use crate::object::{
    Object, fh_buffer, fh_lease, fh_lease_buffer, fh_queue, give_with, not_forked, not_one, number,
    place, used,
};
use crate::pin::Excluded;
use crate::queue;
use crate::stale::Known;
use freehold::{Access, Buffer, LeaseBuffer, Memory};
use std::ffi::{c_int, c_void};

/// A window where the medium has one, else DMA memory.
pub const FH_MEMORY_AUTO: u32 = 0;
/// The storage itself, as memory: what is written there is written.
pub const FH_MEMORY_WINDOW: u32 = 1;
/// Memory of its own that devices reach, filled and flushed by a queue.
pub const FH_MEMORY_DMA: u32 = 2;
/// The same in the controller's own memory.
pub const FH_MEMORY_CMB: u32 = 3;

/// Buffers of a lease, windows: pages that cannot be touched take the window's place when the
/// lease is fenced while it is pinned still. For FH_READ and FH_WRITE access.
pub const FH_BUFFER_CLOSES: u32 = 1;

/// Which memory a lease is used through.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_lease_buffer_options {
    /// sizeof(struct fh_lease_buffer_options).
    pub size: u32,
    /// FH_BUFFER_CLOSES, or 0.
    pub flags: u32,
    /// FH_MEMORY_AUTO and so on.
    pub memory: u32,
    /// Zero.
    pub reserved: u32,
    /// Of DMA memory for a part of the lease: its first byte in the file, a whole block.
    pub offset: u64,
    /// Bytes of the part, whole blocks; 0 for all of the lease.
    pub length: u64,
}

/// A lease's buffer, as it is now.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_lease_buffer_info {
    /// sizeof(struct fh_lease_buffer_info), set by the caller.
    pub size: u32,
    /// 1 if it is the storage itself.
    pub is_window: u32,
    /// Its first byte, as an offset in the file.
    pub offset: u64,
    /// Bytes in it.
    pub length: u64,
    /// 1 if it has bytes that are nowhere else: written, and not flushed since.
    pub is_dirty: u32,
    /// Zero.
    pub reserved: u32,
}

sized! {
    fh_lease_buffer_options: length,
    fh_lease_buffer_info: reserved,
}

/// What a buffer's handle leads to.
pub struct FreeBuffer {
    kept: Kept<Buffer>,
    first: usize,
    len: usize,
}

/// What a handle of a lease's buffer leads to.
pub struct LeasedBuffer {
    kept: Kept<LeaseBuffer>,
    /// Of an Exclusive lease: who pins it to write is alone.
    pub(crate) excluded: Option<Excluded>,
    /// Of one that closes: where it is, for who faults.
    pub(crate) known: Option<Known>,
}

impl Lends for fh_buffer {
    type Lent = Buffer;
    const PINNED: bool = false;

    #[inline(always)]
    fn kept(inner: &FreeBuffer) -> &Kept<Buffer> {
        &inner.kept
    }
}

impl Lends for fh_lease_buffer {
    type Lent = LeaseBuffer;
    const PINNED: bool = true;

    #[inline(always)]
    fn kept(inner: &LeasedBuffer) -> &Kept<LeaseBuffer> {
        &inner.kept
    }
}

impl FreeBuffer {
    fn new(buffer: Buffer, handle: u64) -> Self {
        let (first, len) = (buffer.address().expose_provenance(), buffer.len());
        FreeBuffer { kept: Kept::new(buffer, handle), first, len }
    }
}

impl LeasedBuffer {
    fn new(buffer: LeaseBuffer, closes: bool, handle: u64) -> Self {
        let exclusive = buffer.lease().access() == Access::Exclusive;
        let known = closes.then(|| Known::new(buffer.lease().id(), buffer.offset()));
        let excluded = exclusive.then(Excluded::default);
        LeasedBuffer { excluded, known, kept: Kept::new(buffer, handle) }
    }

    pub(crate) fn kept(&self) -> &Kept<LeaseBuffer> {
        &self.kept
    }
}

fn memory(number: u32) -> Outcome<Memory> {
    match number {
        FH_MEMORY_AUTO => Ok(Memory::Auto),
        FH_MEMORY_WINDOW => Ok(Memory::Window),
        FH_MEMORY_DMA => Ok(Memory::Dma),
        FH_MEMORY_CMB => Ok(Memory::Cmb),
        _ => Err(Fault::invalid(format!("{number} is no memory: FH_MEMORY_AUTO and so on are"))),
    }
}

/// Memory for I/O through a queue of the same store, in whole blocks of 4096 bytes. It begins
/// with whatever its last user left there, of the same process.
///
/// Parameters: `memory` is FH_MEMORY_AUTO, FH_MEMORY_DMA or FH_MEMORY_CMB. `bytes` is rounded up.
/// `buffer` gets the handle.
/// Thread: the queue's.
/// Ownership: the caller frees the handle by fh_buffer_free. From submission until its
/// completion is polled the memory is the queue's: it is not to be touched.
/// Returns: 0, or a code.
/// Errors: FH_ELIMIT when the system gives none; FH_EOPNOTSUPP for FH_MEMORY_CMB where the
/// controller has none for data; FH_EINVAL for FH_MEMORY_WINDOW, which leases have;
/// FH_EWRONGTHREAD.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_buffer_new(
    queue: *mut fh_queue,
    memory: u32,
    bytes: usize,
    buffer: *mut *mut fh_buffer,
) -> c_int {
    status(|| {
        place(buffer)?;
        let memory = self::memory(memory)?;
        let made = queue::inside(queue)?.buffer_in(memory, bytes)?;
        // SAFETY: the caller gives a place for a handle.
        unsafe { give_with(buffer, |handle| FreeBuffer::new(made, handle)) }
    })
}

/// Where a buffer's memory is. It stays there for as long as the handle does.
///
/// Parameters: `buffer`.
/// Thread: any.
/// Ownership: the memory is the library's, and the caller's to use while it is not in flight.
/// Returns: its first byte, on a boundary of 4096; null for no buffer.
/// Errors: none; fh_error_message says why it is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_buffer_address(buffer: *mut fh_buffer) -> *mut c_void {
    let mut first = 0;
    status(|| {
        first = used(buffer)?.first;
        Ok(())
    });
    std::ptr::with_exposed_provenance_mut(first)
}

/// Bytes in a buffer.
///
/// Parameters: `buffer`.
/// Thread: any.
/// Ownership: nothing changes hands.
/// Returns: the bytes, a multiple of 4096; 0 for no buffer.
/// Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_buffer_size(buffer: *mut fh_buffer) -> usize {
    let mut len = 0;
    status(|| {
        len = used(buffer)?.len;
        Ok(())
    });
    len
}

/// Ends a handle of a buffer. What is in flight goes on; its memory is not used again before it
/// has completed.
///
/// Parameters: `buffer` may be null.
/// Thread: any; the queue's while it is in flight.
/// Ownership: the handle is not used again, nor the memory.
/// Returns: nothing.
/// Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_buffer_free(buffer: *mut fh_buffer) {
    kept::free(buffer);
}

/// Memory to use a lease by. A window is the storage itself, of the whole lease, and there is one
/// buffer of it at a time. DMA memory is private to its buffer, begins as zeroes, is filled and
/// flushed by a queue, and may be for a part of the lease.
///
/// Parameters: `options` may be null, for FH_MEMORY_AUTO. `buffer` gets the handle.
/// Thread: any.
/// Ownership: the caller frees the handle by fh_lease_buffer_free. It keeps the lease.
/// Returns: 0, or a code.
/// Errors: FH_EOPNOTSUPP for a window where the medium has none for that access, or, with
/// FH_BUFFER_CLOSES, none that can be taken away; FH_EBUSY while the lease has a window buffer
/// already; FH_ELIMIT for DMA memory of more than 16 MiB, or that is not to be had; FH_EINVAL for
/// what is not whole blocks inside the lease, a part of a window, or FH_BUFFER_CLOSES with
/// FH_STABLE or FH_EXCLUSIVE access; FH_ERECALLED, FH_EREVOKED; as fh_lease_refresh.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_buffer_new(
    lease: *mut fh_lease,
    options: *const fh_lease_buffer_options,
    buffer: *mut *mut fh_lease_buffer,
) -> c_int {
    status(|| {
        place(buffer)?;
        // SAFETY: the caller gives null or options.
        let o = unsafe { self::options(options)? };
        args::flags(o.flags, FH_BUFFER_CLOSES)?;
        let (lease, memory) = (used(lease)?.lease(), self::memory(o.memory)?);
        let closes = o.flags & FH_BUFFER_CLOSES != 0;
        let made = match (o.length, memory) {
            (0, Memory::Auto | Memory::Window) if closes => lease.window_that_closes()?,
            _ if closes => {
                let why = "FH_BUFFER_CLOSES is for the window of a whole lease";
                return Err(Fault::invalid(why));
            }
            (0, _) => lease.buffer(memory)?,
            (length, _) => lease.buffer_in(memory, o.offset..args::end(o.offset, length)?)?,
        };
        // SAFETY: the caller gives a place for a handle.
        unsafe { give_with(buffer, |handle| LeasedBuffer::new(made, closes, handle)) }
    })
}

/// A lease's buffer, as it is now.
///
/// Parameters: `info` is filled; the caller sets its size before.
/// Thread: any; no other one submits or moves it meanwhile.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EBUSY while it is in flight; FH_EINVAL for a wrong size; FH_EBADF, FH_EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_buffer_describe(
    buffer: *mut fh_lease_buffer,
    info: *mut fh_lease_buffer_info,
) -> c_int {
    status(|| {
        let inner = used(buffer)?;
        // SAFETY: nobody submits it meanwhile, by the contract of this call.
        let look = unsafe { inner.kept.look() };
        let b = look.ok_or_else(|| inner.kept.away(fh_lease_buffer::NAME))?;
        let found = fh_lease_buffer_info {
            size: 0,
            is_window: b.is_window().into(),
            offset: b.offset(),
            length: b.len(),
            is_dirty: b.is_dirty().into(),
            reserved: 0,
        };
        // SAFETY: the caller gives such a struct.
        unsafe { answer(info, found) }
    })
}

/// Changes a buffer that nothing pins.
fn alone<R>(
    buffer: *mut fh_lease_buffer,
    change: impl FnOnce(&mut LeaseBuffer) -> Outcome<R>,
) -> Outcome<R> {
    not_forked()?;
    // SAFETY: the caller is alone with the buffer, by the contract of these calls, and pins,
    // which others may have, are looked for.
    let inner = unsafe {
        fh_lease_buffer::table().peek_unused(
            number(buffer),
            not_one::<fh_lease_buffer>,
            pinned::<fh_lease_buffer>,
        )?
    };
    // SAFETY: as above.
    match unsafe { inner.kept.change() } {
        Some(buffer) => change(buffer),
        None => Err(inner.kept.away(fh_lease_buffer::NAME)),
    }
}

/// Moves a buffer of DMA memory to another place of its lease: what a buffer pool does when it
/// evicts a page. Its bytes are what they were: fill it.
///
/// Parameters: `offset` is the new first byte in the file: as many whole blocks inside the lease.
/// Thread: any; no other one uses the buffer meanwhile.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EINVAL for a window, for unflushed bytes, and for what is not inside the lease;
/// FH_EBUSY while it is pinned or in flight.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_buffer_move(buffer: *mut fh_lease_buffer, offset: u64) -> c_int {
    status(|| alone(buffer, |b| Ok(b.move_to(offset)?)))
}

/// Gives up what was written to a buffer and not flushed: it counts as clean.
///
/// Parameters: `buffer`.
/// Thread: any; no other one uses the buffer meanwhile.
/// Ownership: nothing changes hands.
/// Returns: 0, or a code.
/// Errors: FH_EBUSY while it is pinned or in flight.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_buffer_discard(buffer: *mut fh_lease_buffer) -> c_int {
    status(|| {
        alone(buffer, |b| {
            b.discard();
            Ok(())
        })
    })
}

/// Takes the private memory out of a lease's buffer, whatever has become of the lease, so that
/// what was not flushed can be written in the ordinary way.
///
/// Parameters: `buffer` is ended if this returns 0. `memory` gets the handle of its memory: whole
/// blocks, the bytes of the lease in front.
/// Thread: any; no other one uses the buffer meanwhile.
/// Ownership: the caller frees `memory` by fh_buffer_free.
/// Returns: 0, or a code; then the buffer is as it was.
/// Errors: FH_EINVAL for a window, which has none; FH_EBUSY while it is pinned or in flight.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_buffer_salvage(
    buffer: *mut fh_lease_buffer,
    memory: *mut *mut fh_buffer,
) -> c_int {
    status(|| {
        place(memory)?;
        alone(buffer, |b| match b.is_window() {
            true => Err(Fault::invalid("a window has no memory of its own")),
            false => Ok(()),
        })?;
        let own = match fh_lease_buffer::table().take(number(buffer)) {
            Taken::Value(inner) => inner.kept.into_inner().map(LeaseBuffer::salvage),
            Taken::Used => return Err(pinned::<fh_lease_buffer>()),
            Taken::None => return Err(not_one::<fh_lease_buffer>()),
        };
        match own {
            // SAFETY: the caller gives a place for a handle.
            Some(Ok(own)) => unsafe { give_with(memory, |handle| FreeBuffer::new(own, handle)) },
            _ => Err(Fault::invalid("a window has no memory of its own")),
        }
    })
}

/// Ends a handle of a lease's buffer. Pins go on, and keep its memory, or the addresses of its
/// window; what is in flight goes on. What was not flushed was never written.
///
/// Parameters: `buffer` may be null.
/// Thread: any; no other one uses the buffer meanwhile, but for its pins; the queue's while it is
/// in flight.
/// Ownership: the handle is not used again.
/// Returns: nothing.
/// Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_lease_buffer_free(buffer: *mut fh_lease_buffer) {
    kept::free(buffer);
}
