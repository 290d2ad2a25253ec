//! Who reads right now: one record for each thread, which that thread alone writes.
//!
//! A record's word counts the guards that the thread holds (its lower half) and the
//! readings that it has ended (its upper half). Guards may be dropped in any order:
//! a reading ends with the last of them.
//!
//! Records are never freed. That of a thread that exits is handed on to the next one,
//! unless a guard was forgotten there, or will end while the thread's last locals go.

use crate::pin::barrier;
use crate::pin::sync::{AtomicU64, Mutex};
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// The half of a word that counts guards.
const GUARDS: u64 = u32::MAX as u64;
/// One reading that has ended.
const ENDED: u64 = 1 << 32;

/// What one thread reads.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Record {
    word: AtomicU64,
}

impl Record {
    /// One guard more. What is loaded behind it was not taken away before.
    #[inline(always)]
    pub(super) fn enter(&self) {
        let word = self.word.load(Relaxed);
        assert!(word & GUARDS < GUARDS, "a thread has forgotten too many guards");
        // Release: who finds this mark instead of the end of the reading before it has seen
        // that end, and all that was done under it.
        self.word.store(word + 1, Release);
        barrier::light(barrier::fenced());
    }

    /// One guard fewer.
    #[inline(always)]
    pub(super) fn leave(&self) {
        let word = self.word.load(Relaxed) - 1;
        let word = if word & GUARDS == 0 { word.wrapping_add(ENDED) } else { word };
        // Release: what was done under the guard is done before the reading has ended.
        self.word.store(word, Release);
    }

    /// Which reading it is in, if it is in one.
    fn inside(&self) -> Option<u64> {
        let word = self.word.load(Acquire);
        (word & GUARDS != 0).then_some(word / ENDED)
    }
}

/// All records.
pub(super) struct Roll {
    records: Mutex<Records>,
}

#[derive(Default)]
struct Records {
    all: Vec<&'static Record>,
    /// Those whose thread is gone.
    idle: Vec<&'static Record>,
}

/// Readings that were under way when something had been taken away.
#[derive(Debug, Default)]
pub(super) struct Readers(Vec<(&'static Record, u64)>);

impl Readers {
    /// Have all of them ended?
    pub(super) fn gone(&mut self) -> bool {
        self.0.retain(|(record, reading)| record.inside() == Some(*reading));
        self.0.is_empty()
    }
}

impl Roll {
    #[cfg(not(all(loom, test)))]
    const fn new() -> Self {
        Roll { records: Mutex::new(Records { all: Vec::new(), idle: Vec::new() }) }
    }

    #[cfg(all(loom, test))]
    pub(super) fn new() -> Self {
        Roll { records: Mutex::new(Records::default()) }
    }

    /// A record for a thread that has none. A look that comes later sees its marks.
    pub(super) fn join(&self) -> &'static Record {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = records.idle.pop() {
            return record;
        }
        let record: &'static Record = Box::leak(Box::new(Record { word: AtomicU64::new(0) }));
        records.all.push(record);
        record
    }

    /// The thread has come to its end.
    pub(super) fn hand_on(&self, record: &'static Record) {
        if record.inside().is_none() {
            self.records.lock().unwrap_or_else(PoisonError::into_inner).idle.push(record);
        }
    }

    /// The readings that may have found what this thread took away before the call.
    ///
    /// # Errors
    /// That of the barrier. Then nothing may be concluded.
    pub(super) fn readers(&self) -> io::Result<Readers> {
        barrier::everywhere()?;
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let inside = |r: &&'static Record| r.inside().map(|reading| (*r, reading));
        Ok(Readers(records.all.iter().filter_map(inside).collect()))
    }
}

#[cfg(not(all(loom, test)))]
mod own {
    //! The running thread's record.

    use super::{Readers, Record, Roll};
    use std::cell::Cell;
    use std::io;
    use std::marker::PhantomData;
    use std::sync::atomic::{AtomicU64, Ordering, fence};

    static ROLL: Roll = Roll::new();

    /// Guards of threads whose locals are going, which have no record any more.
    static LATE: AtomicU64 = AtomicU64::new(0);

    struct Exit;

    impl Drop for Exit {
        fn drop(&mut self) {
            if let Some(record) = OWN.take() {
                ROLL.hand_on(record);
            }
        }
    }

    // Two of them, because one that has a destructor would be checked at every guard.
    thread_local! {
        static OWN: Cell<Option<&'static Record>> = const { Cell::new(None) };
        static EXIT: Exit = const { Exit };
    }

    #[cold]
    fn join() -> Option<&'static Record> {
        EXIT.try_with(|_| ()).ok()?;
        let record = ROLL.join();
        OWN.set(Some(record));
        Some(record)
    }

    /// While one lives its thread may read slots, and nothing that it found there is
    /// freed. Hold it for a look-up, not while waiting: what is evicted meanwhile stays in
    /// memory. Forgetting it (`mem::forget`) keeps all that is evicted from then on.
    ///
    /// ```compile_fail
    /// fn sends<T: Send>() {}
    /// sends::<freehold_engine::rcu::Reading>();
    /// ```
    #[derive(Debug)]
    #[must_use = "a reading that is over at once keeps nothing"]
    pub struct Reading {
        /// None: counted among the late ones.
        record: Option<&'static Record>,
        /// Neither `Send` nor `Sync`: the record has one writer.
        _here: PhantomData<*const ()>,
    }

    /// Begins to read. May be nested. Never blocks but where a thread calls it first.
    #[inline]
    pub fn reading() -> Reading {
        let record = OWN.get().or_else(join);
        match record {
            Some(record) => record.enter(),
            None => {
                LATE.fetch_add(1, Ordering::SeqCst);
                fence(Ordering::SeqCst);
            }
        }
        Reading { record, _here: PhantomData }
    }

    impl Drop for Reading {
        #[inline]
        fn drop(&mut self) {
            match self.record {
                Some(record) => record.leave(),
                None => {
                    LATE.fetch_sub(1, Ordering::Release);
                }
            }
        }
    }

    /// The readings that must end before what was taken away is freed.
    pub(in crate::rcu) fn readers() -> io::Result<Readers> {
        ROLL.readers()
    }

    /// Does no thread read whose locals are going? Asked after the barrier.
    pub(in crate::rcu) fn none_late() -> bool {
        LATE.load(Ordering::Acquire) == 0
    }
}

#[cfg(not(all(loom, test)))]
pub use own::{Reading, reading};
#[cfg(not(all(loom, test)))]
pub(super) use own::{none_late, readers};
