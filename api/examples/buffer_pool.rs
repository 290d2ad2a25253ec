//! A database's buffer pool on leases: fixed frames, each with a page of a table under a
//! Write lease. Pages are filled, pinned, changed, flushed and evicted; when somebody needs
//! the blocks the pool is told, flushes what is dirty, and gives the page's lease back.
//!
//! Beside it another session takes snapshots by reflink. In every snapshot each page is
//! whole: the counters at its two ends are equal.

use freehold::{
    Access, Completion, Error, ErrorKind, Event, File, LeaseBuffer, Queue, Result, Session, Store,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const PAGE: u64 = 4096;
const PAGES: u64 = 64;
const FRAMES: usize = 8;
const SNAPSHOTS: u64 = 20;
/// Updates between two snapshots, at least.
const EVERY: u64 = 100;

/// A page in memory.
struct Frame {
    page: u64,
    buffer: LeaseBuffer,
    used: u64,
}

/// Frames, the least recently used of which makes room.
struct Pool {
    session: Session,
    file: File,
    queue: Queue,
    frames: Vec<Frame>,
    clock: u64,
    recalls: u64,
}

impl Pool {
    fn new(session: Session, file: File) -> Result<Self> {
        let queue = session.store().queue(4)?;
        Ok(Pool { session, file, queue, frames: Vec::new(), clock: 0, recalls: 0 })
    }

    /// Changes a page. What is changed is in memory until it is flushed.
    fn update(&mut self, page: u64, change: impl Fn(&mut [u8])) -> Result<()> {
        loop {
            let at = self.frame(page)?;
            let pinned = self.frames[at].buffer.pin_mut();
            let done = pinned.and_then(|mut pin| pin.slice_mut(0, PAGE).map(&change));
            match done {
                // It was asked for between the look and the pin.
                Err(e) if is_gone(&e) => self.give_back(at)?,
                done => return done,
            }
        }
    }

    /// The page's frame; it is filled if the page was in none.
    fn frame(&mut self, page: u64) -> Result<usize> {
        self.answer()?;
        self.clock += 1;
        if let Some(at) = self.frames.iter().position(|f| f.page == page) {
            self.frames[at].used = self.clock;
            return Ok(at);
        }
        if self.frames.len() == FRAMES {
            let used = |at: &usize| self.frames[*at].used;
            let oldest = (0..FRAMES).min_by_key(used).unwrap_or(0);
            self.give_back(oldest)?;
        }
        let range = page * PAGE..(page + 1) * PAGE;
        let buffer = loop {
            let lease = match self.file.lease(range.clone(), Access::Write, &Default::default()) {
                // Who is in front of us waits for our own frames.
                Err(e) if e.kind() == ErrorKind::WouldDeadlock => {
                    self.answer()?;
                    continue;
                }
                lease => lease?,
            };
            match lease.buffer_at(range.clone()).and_then(|b| self.through(b, false)) {
                Ok(buffer) => break buffer,
                // It was wanted already.
                Err(e) if is_gone(&e) => {}
                Err(e) => return Err(e),
            }
        };
        self.frames.push(Frame { page, buffer, used: self.clock });
        Ok(self.frames.len() - 1)
    }

    /// Gives back what was asked for.
    fn answer(&mut self) -> Result<()> {
        for event in self.session.events() {
            let (Event::Recall { id, .. } | Event::Revoked { id, .. }) = event else { continue };
            if let Some(at) = self.frames.iter().position(|f| f.buffer.lease().id() == id) {
                self.recalls += 1;
                self.give_back(at)?;
            }
        }
        Ok(())
    }

    /// Flushes a frame if it is dirty, and lets go of its lease.
    fn give_back(&mut self, at: usize) -> Result<()> {
        let Frame { buffer, .. } = self.frames.swap_remove(at);
        match buffer.is_dirty() {
            true => self.through(buffer, true).map(drop),
            false => Ok(()),
        }
    }

    /// Fills or flushes a buffer, and waits for it.
    fn through(&mut self, buffer: LeaseBuffer, write: bool) -> Result<LeaseBuffer> {
        let taken = match write {
            true => self.queue.flush(buffer, 0),
            false => self.queue.fill(buffer, 0),
        };
        taken.map_err(|r| r.error.unwrap_or_else(|| Error::new(ErrorKind::Busy, "no room")))?;
        let mut done: Vec<Completion> = Vec::new();
        while self.queue.poll(&mut done) == 0 {
            self.queue.wait(None)?;
        }
        let mut completion = done.swap_remove(0);
        let buffer = completion.take_lease();
        completion.result?;
        buffer.ok_or_else(|| Error::new(ErrorKind::Invalid, "a command lost its buffer"))
    }

    fn flush_all(&mut self) -> Result<()> {
        while !self.frames.is_empty() {
            self.give_back(0)?;
        }
        self.file.sync()
    }
}

fn is_gone(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::Recalled | ErrorKind::Revoked)
}

fn counter(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// The sum of a table's counters; both ends of each page have the same one.
fn sum(file: &File) -> Result<u64> {
    let mut page = vec![0; PAGE as usize];
    let mut sum = 0;
    for at in 0..PAGES {
        file.read_at(&mut page, at * PAGE)?;
        let (first, last) = (counter(&page[..8]), counter(&page[PAGE as usize - 8..]));
        assert_eq!(first, last, "page {at} of a snapshot is torn");
        sum += first;
    }
    Ok(sum)
}

pub(crate) fn main() -> Result<()> {
    let store = Store::format("mem:64M", &Default::default())?;
    // Nobody's bytes are to be lost because this program was stopped for a while.
    store.set_lease_time(Duration::from_secs(60));
    let session = store.new_session()?;
    let table = session.create(b"table")?;
    table.write_at(&vec![0; (PAGES * PAGE) as usize], 0)?;
    let mut pool = Pool::new(session, table)?;

    let (others, made) = (store.new_session()?, Arc::new(AtomicU64::new(0)));
    let progress = made.clone();
    let snapshots = std::thread::spawn(move || -> Result<Vec<u64>> {
        let table = others.open_file(b"table")?;
        let snapshot = |n| {
            while progress.load(Ordering::Acquire) < n * EVERY {
                std::thread::yield_now();
            }
            sum(&table.reflink(format!("table@{n}").as_bytes())?)
        };
        (1..=SNAPSHOTS).map(snapshot).collect()
    });

    let (mut updates, mut random) = (0u64, 1u64);
    while !snapshots.is_finished() {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        pool.update((random >> 33) % PAGES, |page| {
            let next = (counter(&page[..8]) + 1).to_le_bytes();
            page[..8].copy_from_slice(&next);
            page[PAGE as usize - 8..].copy_from_slice(&next);
        })?;
        updates += 1;
        made.store(updates, Ordering::Release);
    }
    pool.flush_all()?;
    let sums = snapshots.join().expect("the other thread does not panic")?;
    assert!(sums.is_sorted(), "a snapshot has less than one before it: {sums:?}");
    assert_eq!(sum(&pool.file)?, updates);
    assert!(pool.recalls > 0, "nobody asked for a page that was not flushed");
    println!("{updates} updates, {} recalls answered, {SNAPSHOTS} snapshots", pool.recalls);
    Ok(())
}
