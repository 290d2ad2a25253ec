//! A window medium behind a cache: what nobody wrote back is lost when it crashes.
//!
//! Its bytes are memory, a file of it, so that leases on it are windows laid side by side. A
//! thread's write-backs count when the same thread fences; what was stored and is not durable
//! by then is kept or lost at a crash, each aligned 8 bytes for themselves.

use super::rng::Rng;
use crate::medium::{BLOCK, Geometry, Medium, Queue, Result, Window};
use crate::memory::{MAX_BUFFER, Persistence, Pool, Sealed, SharedMemory, WindowMemory};
use crate::window::{MAX_DEPTH, WindowQueue};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::ThreadId;

/// Bytes of a line.
const LINE: usize = 64;

/// What is kept or lost as one.
const WORD: usize = 8;

/// What of the memory is durable.
#[derive(Debug, Default)]
struct Durable {
    bytes: Vec<u8>,
    /// What each thread has written back and not fenced.
    begun: HashMap<ThreadId, Vec<Range<usize>>>,
}

#[derive(Debug)]
struct Cache {
    /// Where the memory begins, as an address.
    base: usize,
    memory: OnceLock<Weak<SharedMemory>>,
    durable: Mutex<Durable>,
    trap: Mutex<Trap>,
}

/// A crash that is to come, or has.
#[derive(Debug, Default)]
struct Trap {
    /// After so many fences more, and its seed.
    armed: Option<(u64, u64)>,
    left: Option<Vec<u8>>,
}

impl Cache {
    /// The bytes as any thread sees them now.
    fn seen(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = vec![0; range.len()];
        let memory = self.memory.get().and_then(Weak::upgrade).map(WindowMemory::new);
        // Somebody may have them exclusively: the kernel reads them.
        let read = memory.map(|memory| memory.salvage(range.start as u64, &mut bytes));
        assert!(matches!(read, Some(Ok(()))), "the model cannot read its own memory");
        bytes
    }
}

impl Cache {
    /// What a crash leaves: of what is not durable, each word as it was or as it is.
    fn torn(&self, seed: u64) -> Vec<u8> {
        let len = self.durable.lock().unwrap_or_else(PoisonError::into_inner).bytes.len();
        let now = self.seen(0..len);
        let mut bytes = {
            let durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
            durable.bytes.clone()
        };
        let mut rng = Rng::new(seed);
        for (old, new) in bytes.chunks_exact_mut(WORD).zip(now.chunks_exact(WORD)) {
            if old != new && rng.below(2) == 0 {
                old.copy_from_slice(new);
            }
        }
        bytes
    }

    /// Is this the fence before which it crashes?
    fn spring(&self) {
        let mut trap = self.trap.lock().unwrap_or_else(PoisonError::into_inner);
        match trap.armed {
            Some((0, seed)) => {
                trap.armed = None;
                trap.left = Some(self.torn(seed));
            }
            Some((more, seed)) => trap.armed = Some((more - 1, seed)),
            None => {}
        }
    }
}

impl Persistence for Cache {
    fn write_back(&self, at: *const u8, len: usize) {
        let Some(from) = at.addr().checked_sub(self.base) else { return };
        let lines = from / LINE * LINE..(from + len).next_multiple_of(LINE);
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        durable.begun.entry(std::thread::current().id()).or_default().push(lines);
    }

    fn fence(&self) -> Result<()> {
        self.spring();
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = durable.begun.remove(&std::thread::current().id()).unwrap_or_default();
        for lines in begun.into_iter().filter(|lines| !lines.is_empty()) {
            let bytes = self.seen(lines.clone());
            durable.bytes[lines].copy_from_slice(&bytes);
        }
        Ok(())
    }
}

/// A window medium whose cache is lost at a crash. Clones are handles of the same one.
#[derive(Clone)]
pub struct CachedMedium {
    geometry: Geometry,
    memory: Arc<SharedMemory>,
    cache: Arc<Cache>,
    pool: Pool,
}

impl CachedMedium {
    /// A medium of so many blocks, all zeroes, and durable.
    ///
    /// # Errors
    /// `Limit` where the system has no such memory.
    pub fn new(blocks: u64) -> Result<Self> {
        Self::with(vec![0; blocks as usize * BLOCK])
    }

    fn with(bytes: Vec<u8>) -> Result<Self> {
        let len = bytes.len();
        let file: Arc<dyn crate::bus::Mmio> = Arc::new(Sealed::small(len)?);
        let cache = Arc::new(Cache {
            base: file.base().as_ptr().addr(),
            memory: OnceLock::new(),
            durable: Mutex::default(),
            trap: Mutex::default(),
        });
        // SAFETY: the file was made here, and this is the only window over it.
        let memory = unsafe { SharedMemory::over(file, len as u64, Arc::<Cache>::clone(&cache)) };
        let memory = Arc::new(memory?);
        let _ = cache.memory.set(Arc::downgrade(&memory));
        memory.store(0, &bytes)?;
        cache.durable.lock().unwrap_or_else(PoisonError::into_inner).bytes = bytes;
        let geometry = Geometry {
            blocks: (len / BLOCK) as u64,
            lba_bytes: BLOCK as u32,
            max_transfer: MAX_BUFFER as u32,
            max_depth: MAX_DEPTH,
            atomic_bytes: WORD as u32,
            atomic_boundary: None,
            volatile_cache: false,
            copy: true,
            deallocate: false,
            compare: true,
            window: true,
        };
        Ok(Self { geometry, memory, cache, pool: Pool::new() })
    }

    /// What a crash at this moment leaves, as a medium of its own: of what was not durable,
    /// each 8 bytes are kept or lost by the seed. This one goes on.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn after_crash(&self, seed: u64) -> Result<Self> {
        Self::with(self.cache.torn(seed))
    }

    /// From now on: what a crash leaves right before the fence that comes after so many others
    /// is kept aside, for [`Self::caught`].
    pub fn crash_at_fence(&self, after: u64, seed: u64) {
        let mut trap = self.cache.trap.lock().unwrap_or_else(PoisonError::into_inner);
        *trap = Trap { armed: Some((after, seed)), left: None };
    }

    /// Is that fence still to come?
    pub fn awaits_crash(&self) -> bool {
        let trap = self.cache.trap.lock().unwrap_or_else(PoisonError::into_inner);
        trap.armed.is_some()
    }

    /// What the crash left, if that fence came. There will be none any more.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn caught(&self) -> Result<Option<Self>> {
        let trap = {
            let mut trap = self.cache.trap.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *trap)
        };
        trap.left.map(Self::with).transpose()
    }
}

impl Medium for CachedMedium {
    fn uri(&self) -> &str {
        "sim:cached"
    }

    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn queue(&self, depth: u32) -> Result<Box<dyn Queue>> {
        let (memory, geometry) = (Arc::clone(&self.memory), self.geometry.clone());
        Ok(Box::new(WindowQueue::new(memory, geometry, depth)))
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn window(&self) -> Option<&dyn Window> {
        Some(&*self.memory)
    }

    fn window_memory(&self) -> Option<WindowMemory> {
        Some(WindowMemory::new(Arc::clone(&self.memory)))
    }
}

impl fmt::Debug for CachedMedium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedMedium")
            .field("blocks", &self.geometry.blocks)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_written_back_and_fenced() {
        let medium = CachedMedium::new(16).unwrap();
        let memory = medium.window().unwrap();
        memory.store(4096, &[1; 4096]).unwrap();
        memory.persist(4096, 4096).unwrap();
        memory.store(8192, &[2; 4096]).unwrap();
        // Written back, and fenced by nobody.
        medium.memory.write_back(8192, 4096).unwrap();
        std::thread::scope(|s| {
            s.spawn(|| medium.window().unwrap().persist(0, 8).unwrap());
        });
        let (mut kept, mut words) = ([0; 4096], [0; 4096]);
        let after = medium.after_crash(3).unwrap();
        after.window().unwrap().load(4096, &mut kept).unwrap();
        after.window().unwrap().load(8192, &mut words).unwrap();
        assert!(kept == [1; 4096]);
        let whole = |word: &[u8]| word.iter().all(|&b| b == word[0]);
        assert!(words.chunks_exact(WORD).all(whole), "a word was torn");
        assert!(words.contains(&0) && words.contains(&2));
    }
}
