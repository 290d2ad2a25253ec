//! Queues: operations that are submitted and polled.
//!
//! A queue is its thread's: that is looked at on each call, and nothing is locked. The tag of an
//! operation is where its buffer is kept, which remembers what the caller gave; an operation
//! without one, a sync, has a number with the highest bit set.

use crate::code::{self, FH_EAGAIN, FH_EBUSY, FH_EWOULDDEADLOCK, FH_EWRONGTHREAD};
use crate::fault::{Fault, Outcome, count, quietly, sentence, status};
use crate::kept::{self, Kept, Lends};
use crate::object::{
    Object, fh_buffer, fh_file, fh_lease_buffer, fh_queue, not_forked, number, peek,
};
use freehold::{Buffer, BufferRefused, Completion, File, LeaseBuffer, Queue, Refused};
use std::cell::UnsafeCell;
use std::ffi::{CString, c_char, c_int};
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::null;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// As a time-out: as long as it takes.
pub const FH_FOREVER: i64 = -1;

/// An operation that has ended.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct fh_completion {
    /// What it was submitted with.
    pub user_data: u64,
    /// Bytes read or written, 0 for a sync; or a code.
    pub result: i64,
    /// What went wrong, one sentence that ends in NUL, good until the queue is polled again;
    /// null if nothing did.
    pub message: *const c_char,
    /// Zero.
    pub reserved: u64,
}

/// Operations without a buffer have tags from here on.
const SYNC: u64 = 1 << 63;
/// Tags of those with a lease's buffer have this bit, in which the kinds of buffers differ.
const LEASED: u64 = 2;

const _: () = assert!(fh_lease_buffer::KIND & LEASED != 0 && fh_buffer::KIND & LEASED == 0);

/// What a queue's handle leads to. In this order: whose it is lies beside the handle's name.
#[repr(C)]
pub struct Polled {
    /// The thread that may use it; with [`IN_A_CALL`] nobody may, and with [`DOOMED`] it was
    /// freed in the middle of that call. A thread's number leaves the lowest bits free.
    owner: AtomicUsize,
    core: UnsafeCell<Core>,
}

const IN_A_CALL: usize = 1;
const DOOMED: usize = 2;

// SAFETY: `core` is reached by the queue's thread alone (`owner`), and by one call of it at a
// time: during one that may run others, `Inside`, it is nobody's.
unsafe impl Sync for Polled {}

struct Core {
    queue: Queue,
    /// Finished, and not told yet.
    done: Vec<Completion>,
    /// Of the completions that were told last.
    messages: Vec<CString>,
    /// What syncs in flight were submitted with, and which numbers are free.
    syncs: Vec<u64>,
    free: Vec<u64>,
}

impl Polled {
    pub(crate) fn new(queue: Queue, depth: u32) -> Self {
        let room = depth.min(1 << 16) as usize;
        Polled {
            owner: AtomicUsize::new(this_thread()),
            core: UnsafeCell::new(Core {
                queue,
                done: Vec::with_capacity(room),
                messages: Vec::new(),
                syncs: Vec::new(),
                free: Vec::new(),
            }),
        }
    }
}

/// What tells the threads that live at one time apart: an address of each, whose two lowest
/// bits are 0.
#[inline(always)]
fn this_thread() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        let thread: usize;
        // SAFETY: by the ABI of this architecture the first word of a thread's block points to
        // itself; it is read, and nothing else happens.
        unsafe {
            std::arch::asm!(
                "mov {}, qword ptr fs:[0]",
                out(reg) thread,
                options(nostack, preserves_flags, readonly, pure)
            );
        }
        thread
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        thread_local!(static HERE: usize = const { 0 });
        HERE.with(|here| std::ptr::from_ref(here).addr())
    }
}

/// A call in a queue: the only one.
pub(crate) struct Inside {
    polled: &'static Polled,
    handle: u64,
}

/// The queue, if this thread may use it now.
#[inline(always)]
fn mine(queue: *mut fh_queue) -> Outcome<&'static Polled> {
    // SAFETY: a queue is freed by its thread, which is here, and in the middle of a call that is
    // put off until the call is over.
    let polled = unsafe { peek::<fh_queue>(number(queue))? };
    if polled.owner.load(Ordering::Relaxed) != this_thread() {
        return Err(not_now(polled));
    }
    Ok(polled)
}

/// Begins a call in a queue.
#[inline(always)]
pub(crate) fn inside(queue: *mut fh_queue) -> Outcome<Inside> {
    not_forked()?;
    let polled = mine(queue)?;
    polled.owner.store(this_thread() | IN_A_CALL, Ordering::Relaxed);
    Ok(Inside { polled, handle: number(queue) })
}

#[cold]
fn not_now(polled: &Polled) -> Fault {
    match polled.owner.load(Ordering::Relaxed) & !(IN_A_CALL | DOOMED) == this_thread() {
        false => {
            let why = "the queue is another thread's: fh_queue_adopt takes it over";
            Fault::new(FH_EWRONGTHREAD, why)
        }
        true => Fault::new(FH_EWOULDDEADLOCK, "an action cannot use the queue that runs it"),
    }
}

impl Deref for Inside {
    type Target = Queue;

    #[inline(always)]
    fn deref(&self) -> &Queue {
        // SAFETY: this is the only call in the queue.
        unsafe { &(*self.polled.core.get()).queue }
    }
}

impl DerefMut for Inside {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Queue {
        &mut self.core().queue
    }
}

impl Inside {
    #[inline(always)]
    fn core(&mut self) -> &mut Core {
        // SAFETY: this is the only call in the queue, and is borrowed mutably.
        unsafe { &mut *self.polled.core.get() }
    }
}

impl Drop for Inside {
    #[inline(always)]
    fn drop(&mut self) {
        let owner = self.polled.owner.load(Ordering::Relaxed);
        self.polled.owner.store(owner & !IN_A_CALL, Ordering::Relaxed);
        if owner & DOOMED != 0 {
            fh_queue::table().remove(self.handle);
        }
    }
}

#[cold]
fn full() -> Fault {
    Fault::new(FH_EAGAIN, "the queue is full: poll it, and submit again")
}

/// Submits an operation with a buffer. Whether this is a forked child, who calls this asks.
///
/// # Safety
/// The buffer is the caller's alone.
#[inline(always)]
unsafe fn submit<O: Lends>(
    queue: *mut fh_queue,
    buffer: *mut O,
    user_data: u64,
    begin: impl FnOnce(&mut Queue, O::Lent, u64) -> Result<(), (Option<O::Lent>, Fault)>,
) -> Outcome {
    let polled = mine(queue)?;
    // SAFETY: the buffer is the caller's alone.
    let kept = unsafe { kept::here::<O>(number(buffer))? };
    // SAFETY: as above, and it is here.
    let Some(lent) = (unsafe { kept.take(number(queue), user_data) }) else {
        return Err(kept.away(O::NAME));
    };
    // SAFETY: this thread alone uses the queue, and is in no other call with it. To submit runs
    // nothing that could call back.
    let queue = unsafe { &mut (*polled.core.get()).queue };
    match begin(queue, lent, kept.tag() | O::KIND & LEASED) {
        Ok(()) => Ok(()),
        Err((lent, why)) => {
            // SAFETY: as above; it was just lent.
            unsafe { kept.back(lent) };
            Err(why)
        }
    }
}

#[cold]
fn refused(r: Refused) -> (Option<Buffer>, Fault) {
    (r.buf, r.error.map_or_else(full, Fault::from))
}

#[cold]
fn buffer_refused(r: BufferRefused) -> (Option<LeaseBuffer>, Fault) {
    (Some(r.buffer), r.error.map_or_else(full, Fault::from))
}

/// Submits an operation of a file. In a forked child the store refuses it, and what fails here
/// before that is told so, too ([`Fault::tell`]).
///
/// # Safety
/// The buffer is the caller's alone; the file is not freed meanwhile.
#[inline(always)]
unsafe fn submit_on(
    queue: *mut fh_queue,
    file: *mut fh_file,
    buffer: *mut fh_buffer,
    user_data: u64,
    begin: impl FnOnce(&mut Queue, &File, Buffer, u64) -> Result<(), Refused>,
) -> Outcome {
    // SAFETY: the file is not freed meanwhile, by the caller's promise.
    let file = unsafe { peek::<fh_file>(number(file))? };
    let begin = |queue: &mut Queue, lent, tag| begin(queue, file, lent, tag).map_err(refused);
    // SAFETY: as the caller promises.
    unsafe { submit(queue, buffer, user_data, begin) }
}

/// Submits a read into a buffer; short at the end of the file, zeroes behind that. Never sleeps,
/// and allocates nothing where it is of whole blocks of one extent.
///
/// Parameters: `offset` in bytes, any. `user_data` comes back with the completion.
/// Thread: the queue's; no other one frees the file meanwhile.
/// Ownership: the buffer is the queue's until its completion was polled. The file may be freed.
/// Returns: 0, or a code; then nothing happened.
/// Errors: FH_EAGAIN when the queue is full: poll it first; FH_EWRONGTHREAD; FH_EBUSY for a buffer
/// in flight; FH_EBADF. What goes wrong later is in the completion.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_queue_read(
    queue: *mut fh_queue,
    file: *mut fh_file,
    offset: u64,
    buffer: *mut fh_buffer,
    user_data: u64,
) -> c_int {
    // SAFETY: the contract of this call.
    status(|| unsafe {
        submit_on(queue, file, buffer, user_data, |q, f, b, tag| q.read(f, offset, b, tag))
    })
}

/// Submits a write of a whole buffer; the file grows as needed. Durable after a sync.
///
/// Parameters: as fh_queue_read.
/// Thread: as fh_queue_read.
/// Ownership: as fh_queue_read.
/// Returns: 0, or a code; then nothing happened.
/// Errors: as fh_queue_read; FH_EROFS, FH_EPOISONED; FH_EINVAL past the greatest size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_queue_write(
    queue: *mut fh_queue,
    file: *mut fh_file,
    offset: u64,
    buffer: *mut fh_buffer,
    user_data: u64,
) -> c_int {
    // SAFETY: the contract of this call.
    status(|| unsafe {
        submit_on(queue, file, buffer, user_data, |q, f, b, tag| q.write(f, offset, b, tag))
    })
}

/// As fh_queue_write; the bytes, and what they need to be found, are durable when it completes.
///
/// Parameters: as fh_queue_read.
/// Thread: as fh_queue_read.
/// Ownership: as fh_queue_read.
/// Returns: 0, or a code; then nothing happened.
/// Errors: as fh_queue_write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_queue_write_durable(
    queue: *mut fh_queue,
    file: *mut fh_file,
    offset: u64,
    buffer: *mut fh_buffer,
    user_data: u64,
) -> c_int {
    // SAFETY: the contract of this call.
    status(|| unsafe {
        submit_on(queue, file, buffer, user_data, |q, f, b, tag| q.write_durable(f, offset, b, tag))
    })
}

/// Submits a sync: makes durable what has completed of the file when this is submitted.
///
/// Parameters: `user_data` comes back with the completion.
/// Thread: as fh_queue_read.
/// Ownership: the file may be freed.
/// Returns: 0, or a code; then nothing happened.
/// Errors: FH_EAGAIN when the queue is full; FH_EWRONGTHREAD; FH_EBADF.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_queue_sync(
    queue: *mut fh_queue,
    file: *mut fh_file,
    user_data: u64,
) -> c_int {
    status(|| {
        // SAFETY: the file is not freed meanwhile, by the contract of this call.
        let file = unsafe { peek::<fh_file>(number(file))? };
        let mut inside = inside(queue)?;
        let core = inside.core();
        let number = core.free.pop().unwrap_or_else(|| {
            core.syncs.push(0);
            core.syncs.len() as u64 - 1
        });
        core.syncs[number as usize] = user_data;
        core.queue.sync(file, SYNC | number).map_err(|r| {
            core.free.push(number);
            refused(r).1
        })
    })
}

/// Submits a read of a lease's bytes into its buffer, without a look-up. What was written there
/// and not flushed is overwritten. Of a window there is nothing to read: it completes at once.
///
/// Parameters: `user_data` comes back with the completion.
/// Thread: the queue's; no other one uses the buffer meanwhile.
/// Ownership: the buffer is the queue's until its completion was polled.
/// Returns: 0, or a code; then nothing happened.
/// Errors: FH_EAGAIN when the queue is full; FH_EBUSY for a buffer that is pinned or in flight;
/// FH_EINVAL for a lease of another store; FH_EWRONGTHREAD; FH_EBADF. In the completion
/// FH_ERECALLED and FH_EREVOKED, and what the device reports.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_queue_fill(
    queue: *mut fh_queue,
    buffer: *mut fh_lease_buffer,
    user_data: u64,
) -> c_int {
    // SAFETY: the contract of this call.
    status(|| unsafe {
        not_forked()?;
        submit(queue, buffer, user_data, |q, b, tag| q.fill(b, tag).map_err(buffer_refused))
    })
}

/// Submits a write of a lease's buffer to the lease's blocks, in place and without a look-up. If
/// it succeeds the buffer is clean. Durable after a sync of the file. Of a window, what was
/// written through pins that have ended is there already.
///
/// Parameters: as fh_queue_fill.
/// Thread: as fh_queue_fill.
/// Ownership: as fh_queue_fill.
/// Returns: 0, or a code; then nothing happened.
/// Errors: as fh_queue_fill; FH_EINVAL for a lease that does not write.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_queue_flush(
    queue: *mut fh_queue,
    buffer: *mut fh_lease_buffer,
    user_data: u64,
) -> c_int {
    // SAFETY: the contract of this call.
    status(|| unsafe {
        not_forked()?;
        submit(queue, buffer, user_data, |q, b, tag| q.flush(b, tag).map_err(buffer_refused))
    })
}

/// As fh_queue_flush; the bytes are durable when it completes.
///
/// Parameters: as fh_queue_fill.
/// Thread: as fh_queue_fill.
/// Ownership: as fh_queue_fill.
/// Returns: 0, or a code; then nothing happened.
/// Errors: as fh_queue_flush.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_queue_persist(
    queue: *mut fh_queue,
    buffer: *mut fh_lease_buffer,
    user_data: u64,
) -> c_int {
    // SAFETY: the contract of this call.
    status(|| unsafe {
        not_forked()?;
        submit(queue, buffer, user_data, |q, b, tag| q.persist(b, tag).map_err(buffer_refused))
    })
}

/// Tells what has finished, and drives the queue, the store's own work, and deadlines that have
/// come. Never sleeps, but for actions that it runs, and allocates nothing but the messages of
/// what failed.
///
/// Parameters: `completions` has room for `room`; what finds none is told next time.
/// Thread: the queue's.
/// Ownership: buffers that are told are the caller's again.
/// Returns: how many were told, 0 for none; or a code.
/// Errors: FH_EWRONGTHREAD, FH_EBADF, FH_EFAULT, FH_EFORKED; FH_EWOULDDEADLOCK in an action that
/// this queue runs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_queue_poll(
    queue: *mut fh_queue,
    completions: *mut fh_completion,
    room: usize,
) -> i64 {
    count(|| {
        if completions.is_null() && room > 0 {
            return Err(Fault::null("the array to be filled"));
        }
        let mut inside = inside(queue)?;
        let core = inside.core();
        if !core.messages.is_empty() {
            core.messages.clear();
        }
        core.queue.poll(&mut core.done);
        let (done, len) = (core.done.as_mut_ptr(), core.done.len());
        let told = len.min(room);
        // SAFETY: it gets shorter: what is there is moved out, or moved to the front. `tell`
        // changes nothing of the list.
        unsafe {
            core.done.set_len(0);
            for i in 0..told {
                // The caller has so much room.
                completions.add(i).write(core.tell(done.add(i).read()));
            }
            if told < len {
                done.copy_from(done.add(told), len - told);
                core.done.set_len(len - told);
            }
        }
        Ok(told as i64)
    })
}

/// What is told of an operation that failed.
#[cold]
fn failed(messages: &mut Vec<CString>, e: freehold::Error) -> (i64, *const c_char) {
    let message = sentence(&e.to_string());
    let at = message.as_ptr();
    // The text stays where it is when the list grows.
    messages.push(message);
    (code::of(e.kind()).into(), at)
}

impl Core {
    /// One completion; its buffer goes back.
    #[inline(always)]
    fn tell(&mut self, c: Completion) -> fh_completion {
        // What is not taken from it here is nothing.
        let mut c = ManuallyDrop::new(c);
        let tag = c.tag;
        let user_data = if tag & (SYNC | LEASED) == 0 {
            // SAFETY: the buffer was submitted to this queue, whose thread this is, and is its.
            let kept = unsafe { Kept::<Buffer>::of(tag) };
            let doomed = kept.is_doomed();
            // SAFETY: as above.
            let user_data = unsafe { kept.back(c.buf.take()) };
            if doomed {
                kept::bury::<fh_buffer>(kept);
            }
            user_data
        } else if tag & SYNC == 0 {
            // SAFETY: as above.
            let kept = unsafe { Kept::<LeaseBuffer>::of(tag & !LEASED) };
            let doomed = kept.is_doomed();
            // SAFETY: as above.
            let user_data = unsafe { kept.back(c.take_lease()) };
            if doomed {
                kept::bury::<fh_lease_buffer>(kept);
            }
            user_data
        } else {
            self.free.push(tag & !SYNC);
            self.syncs[(tag & !SYNC) as usize]
        };
        let (result, message) = match std::mem::replace(&mut c.result, Ok(0)) {
            Ok(bytes) => (bytes as i64, null()),
            Err(e) => failed(&mut self.messages, e),
        };
        fh_completion { user_data, result, message, reserved: 0 }
    }
}

/// Sleeps until something can be polled, nothing is in flight, or the time is over.
///
/// Parameters: `timeout_ns` in nanoseconds, or FH_FOREVER.
/// Thread: the queue's. Blocks.
/// Ownership: nothing changes hands.
/// Returns: 0, also when the time is over; or a code.
/// Errors: FH_ENODEV when the medium has vanished; FH_EWRONGTHREAD, FH_EBADF, FH_EFORKED;
/// FH_EINVAL for another negative time.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_queue_wait(queue: *mut fh_queue, timeout_ns: i64) -> c_int {
    status(|| {
        let timeout = match timeout_ns {
            FH_FOREVER => None,
            ns => match u64::try_from(ns) {
                Ok(ns) => Some(Duration::from_nanos(ns)),
                Err(_) => return Err(Fault::invalid("a time below 0 that is not FH_FOREVER")),
            },
        };
        let mut inside = inside(queue)?;
        let core = inside.core();
        if !core.done.is_empty() {
            return Ok(());
        }
        Ok(core.queue.wait(timeout)?)
    })
}

/// Makes a queue the calling thread's.
///
/// Parameters: `queue`, which no other thread is in a call with, nor will be.
/// Thread: any. What its last thread did with it comes before, by the program's own order.
/// Ownership: buffers in flight go with the queue.
/// Returns: 0, or a code.
/// Errors: FH_EBUSY while another thread is in a call with it; FH_EBADF, FH_EFORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_queue_adopt(queue: *mut fh_queue) -> c_int {
    status(|| {
        not_forked()?;
        // SAFETY: nobody frees the queue meanwhile, by the contract of this call.
        let polled = unsafe { peek::<fh_queue>(number(queue))? };
        if polled.owner.load(Ordering::Acquire) & IN_A_CALL != 0 {
            return Err(Fault::new(FH_EBUSY, "another thread is in a call with this queue"));
        }
        polled.owner.store(this_thread(), Ordering::Release);
        Ok(())
    })
}

/// Ends a queue and waits for nothing: what was submitted may still happen. Buffers in flight go
/// with it; their handles are only to be freed.
///
/// Parameters: `queue` may be null.
/// Thread: the queue's, or any while none is in a call with it.
/// Ownership: the handle is not used again.
/// Returns: nothing.
/// Errors: none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fh_queue_free(queue: *mut fh_queue) {
    quietly(|| {
        let handle = number(queue);
        // SAFETY: nobody else frees it meanwhile, by the contract of this call.
        let Ok(polled) = (unsafe { fh_queue::table().peek(handle, || ()) }) else { return };
        if polled.owner.load(Ordering::Acquire) & IN_A_CALL != 0 {
            polled.owner.fetch_or(DOOMED, Ordering::AcqRel);
        } else {
            fh_queue::table().remove(handle);
        }
    });
}
