//! What the engine itself costs: reads from a medium that completes them at
//! once and moves nothing.

use super::Site;
use crate::bed::BLOCK;
use crate::drive::Rng;
use crate::outcome::{Outcome, fail};
use crate::results::{Results, Side, Unit};
use freehold::{File, Store};
use freehold_engine::medium::{
    Completion, Geometry, Medium, Op, Queue as MediumQueue, Rejected, Result as MediumResult,
};
use freehold_engine::memory::Pool;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) const HOW: &str = "A memory medium whose reads, once the file is written, complete \
    without a copy: 4 KiB at random blocks of a file of 1 GiB (4 MiB in a tiny run), QD32, one \
    thread, through `File` and `Queue`. The medium alone is the same loop without the store.";

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let size = site.scale.file;
    let inner = freehold_engine::open(&format!("mem:{}", 2 * size), &Default::default())?;
    let medium = Arc::new(NullMedium { inner, silent: Arc::default() });
    let store = Store::format_on(medium.clone())?;
    let file = store.create(b"file")?;
    let piece = vec![1; 1 << 20];
    for at in (0..size).step_by(1 << 20) {
        file.write_at(&piece, at)?;
    }
    store.checkpoint()?;
    medium.silent.store(true, Ordering::Release);
    let blocks = size / BLOCK;
    let rate = through_queue(&store, &file, blocks, site.scale.time)?;
    results.add("null", "4 KiB reads, QD32, one thread", Unit::PerSecond, side, rate);
    let rate = medium_alone(medium.as_ref(), blocks, site.scale.time)?;
    results.add("null", "the medium alone", Unit::PerSecond, side, rate);
    Ok(())
}

fn through_queue(store: &Store, file: &File, blocks: u64, time: Duration) -> Outcome<f64> {
    let mut queue = store.queue(32)?;
    let mut idle = Vec::with_capacity(32);
    for _ in 0..32 {
        idle.push(queue.buffer(BLOCK as usize)?);
    }
    let (mut rng, mut done, mut count) = (Rng::new(1), Vec::with_capacity(32), 0u64);
    let start = Instant::now();
    while !count.is_multiple_of(1 << 10) || start.elapsed() < time {
        while let Some(buf) = idle.pop() {
            if queue.read(file, rng.below(blocks) * BLOCK, buf, 0).is_err() {
                return fail("the queue took no read");
            }
        }
        queue.poll(&mut done);
        for c in done.drain(..) {
            c.result?;
            idle.extend(c.buf);
            count += 1;
        }
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn medium_alone(medium: &dyn Medium, blocks: u64, time: Duration) -> Outcome<f64> {
    let mut queue = medium.queue(32)?;
    let mut idle = Vec::with_capacity(32);
    for _ in 0..32 {
        idle.push(medium.pool().take(BLOCK as usize)?);
    }
    let (mut rng, mut done, mut count) = (Rng::new(1), Vec::with_capacity(32), 0u64);
    let start = Instant::now();
    while !count.is_multiple_of(1 << 10) || start.elapsed() < time {
        while let Some(buf) = idle.pop() {
            if queue.submit(0, Op::Read { at: rng.below(blocks), buf }).is_err() {
                return fail("the medium took no read");
            }
        }
        queue.poll(&mut done);
        for c in done.drain(..) {
            c.result?;
            idle.extend(c.buf);
            count += 1;
        }
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

/// Memory whose reads do nothing once it is silent.
#[derive(Debug)]
struct NullMedium {
    inner: Arc<dyn Medium>,
    silent: Arc<AtomicBool>,
}

impl Medium for NullMedium {
    fn uri(&self) -> &str {
        self.inner.uri()
    }

    fn geometry(&self) -> &Geometry {
        self.inner.geometry()
    }

    fn queue(&self, depth: u32) -> MediumResult<Box<dyn MediumQueue>> {
        let inner = self.inner.queue(depth)?;
        let done = VecDeque::with_capacity(inner.depth());
        Ok(Box::new(NullQueue { inner, silent: self.silent.clone(), done }))
    }

    fn pool(&self) -> &Pool {
        self.inner.pool()
    }
}

#[derive(Debug)]
struct NullQueue {
    inner: Box<dyn MediumQueue>,
    silent: Arc<AtomicBool>,
    done: VecDeque<Completion>,
}

impl MediumQueue for NullQueue {
    fn submit(&mut self, tag: u64, op: Op) -> Result<(), Rejected> {
        match op {
            Op::Read { buf, .. }
                if self.in_flight() < self.depth() && self.silent.load(Ordering::Relaxed) =>
            {
                self.done.push_back(Completion { tag, result: Ok(()), buf: Some(buf) });
                Ok(())
            }
            other => self.inner.submit(tag, other),
        }
    }

    fn ring(&mut self) {
        self.inner.ring();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> usize {
        let count = self.done.len();
        done.extend(self.done.drain(..));
        count + self.inner.poll(done)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> MediumResult<()> {
        if self.done.is_empty() { self.inner.wait(timeout) } else { Ok(()) }
    }

    fn event_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn in_flight(&self) -> usize {
        self.done.len() + self.inner.in_flight()
    }

    fn depth(&self) -> usize {
        self.inner.depth()
    }
}
