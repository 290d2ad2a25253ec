//! The loop that a program in C has, for measurements: nothing but the functions of the header,
//! called as a C program calls them.

use crate::*;
use freehold::Store;
use std::ffi::{CStr, c_int};
use std::hint::black_box;
use std::ptr::{null, null_mut};

/// What goes through a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Through {
    /// Reads of a file.
    Reads,
    /// Fills of a lease's buffers.
    Fills,
}

/// A queue and as many buffers of a block as it takes.
#[derive(Debug)]
pub struct Rig {
    what: Through,
    store: *mut fh_store,
    file: *mut fh_file,
    lease: *mut fh_lease,
    queue: *mut fh_queue,
    plain: Vec<*mut fh_buffer>,
    leased: Vec<*mut fh_lease_buffer>,
    /// Buffers that are not in flight.
    idle: Vec<usize>,
    done: Vec<fh_completion>,
}

const BLOCK: u64 = 4096;

fn good(code: c_int) -> Result<(), String> {
    if code >= 0 {
        return Ok(());
    }
    // SAFETY: the message is the library's, and no call failed since.
    Err(unsafe { CStr::from_ptr(fh_error_message()) }.to_string_lossy().into_owned())
}

impl Rig {
    /// Opens a file of a store, and what is needed to read it.
    ///
    /// # Errors
    /// What the calls say.
    pub fn new(store: Store, name: &str, depth: usize, what: Through) -> Result<Self, String> {
        let mut rig = Rig {
            what,
            store: handle_of(store),
            file: null_mut(),
            lease: null_mut(),
            queue: null_mut(),
            plain: vec![null_mut(); depth],
            leased: vec![null_mut(); depth],
            idle: (0..depth).collect(),
            done: Vec::with_capacity(depth),
        };
        // SAFETY: names and places are good, and this thread has all of them alone.
        unsafe {
            let (name, len) = (name.as_ptr().cast(), name.len());
            good(fh_store_open_file(rig.store, name, len, &raw mut rig.file))?;
            good(fh_queue_new(rig.store, depth as u32, &raw mut rig.queue))?;
            if what == Through::Fills {
                let to = &raw mut rig.lease;
                good(fh_file_lease(rig.file, FH_READ, 0, FH_TO_END, null(), to))?;
            }
            for i in 0..depth {
                let one = fh_lease_buffer_options {
                    size: size_of::<fh_lease_buffer_options>() as u32,
                    flags: 0,
                    memory: FH_MEMORY_DMA,
                    reserved: 0,
                    offset: i as u64 * BLOCK,
                    length: BLOCK,
                };
                let (plain, leased) = (&raw mut rig.plain[i], &raw mut rig.leased[i]);
                good(match what {
                    Through::Reads => fh_buffer_new(rig.queue, FH_MEMORY_DMA, 4096, plain),
                    Through::Fills => fh_lease_buffer_new(rig.lease, &raw const one, leased),
                })?;
            }
        }
        Ok(rig)
    }

    /// Reads until `count` reads have completed; `place` says which block is next. Fills go to
    /// where their buffers are.
    ///
    /// # Errors
    /// What the calls say.
    pub fn go(&mut self, count: u64, mut place: impl FnMut() -> u64) -> Result<(), String> {
        // By their addresses, as a program has them: nothing of them is in this loop.
        let read = black_box(
            fh_queue_read as unsafe extern "C" fn(_, *mut fh_file, _, *mut fh_buffer, _) -> _,
        );
        let fill = black_box(
            fh_queue_fill as unsafe extern "C" fn(*mut fh_queue, *mut fh_lease_buffer, _) -> _,
        );
        let poll = black_box(
            fh_queue_poll as unsafe extern "C" fn(*mut fh_queue, *mut fh_completion, _) -> i64,
        );
        let mut completed = 0;
        while completed < count {
            while let Some(i) = self.idle.pop() {
                // SAFETY: the handles are good, and the buffer is not in flight.
                let code = unsafe {
                    match self.what {
                        Through::Reads => {
                            let at = place() * BLOCK;
                            read(self.queue, self.file, at, self.plain[i], i as u64)
                        }
                        Through::Fills => fill(self.queue, self.leased[i], i as u64),
                    }
                };
                if code != 0 {
                    return good(code);
                }
            }
            // SAFETY: there is so much room, and what was told is there.
            let told = unsafe {
                let room = self.done.capacity();
                let told = poll(self.queue, self.done.as_mut_ptr(), room);
                if told < 0 {
                    return good(told as c_int);
                }
                self.done.set_len(told as usize);
                told
            };
            for c in &self.done {
                if c.result != BLOCK as i64 {
                    return Err(format!("a read gave {}", c.result));
                }
                self.idle.push(c.user_data as usize);
            }
            completed += told as u64;
        }
        Ok(())
    }

    /// Pins and unpins a lease's buffer.
    ///
    /// # Errors
    /// What the calls say.
    pub fn pins(&mut self, count: u64) -> Result<(), String> {
        for _ in 0..count {
            let mut pin = null_mut();
            // SAFETY: the handles are good, and the pin is ended once.
            unsafe {
                good(fh_lease_buffer_pin(self.leased[0], 0, null_mut(), &raw mut pin))?;
                fh_unpin(pin);
            }
        }
        Ok(())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // SAFETY: each is a handle of this rig, or null, and is ended once.
        unsafe {
            fh_queue_free(self.queue);
            self.plain.iter().for_each(|b| fh_buffer_free(*b));
            self.leased.iter().for_each(|b| fh_lease_buffer_free(*b));
            fh_lease_free(self.lease);
            fh_file_free(self.file);
            fh_store_free(self.store);
        }
    }
}
