//! Workloads of reads and writes on polled queues: what drives them.

use super::measure::{Batch, Measured, SHORT, TRIAL};
use super::{Args, Target};
use crate::failure::{Failure, Outcome};
use crate::verb::work;
use freehold::{Completion, Error, Queue, Stats};
use std::sync::Barrier;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// An operation that was not taken, with its buffer; without an error the queue is full.
pub(super) type Refusal<B> = (Option<B>, Option<Error>);

/// One thread's operations: where they go, and what they are done with.
pub(super) trait Work: Send {
    /// Memory of one operation.
    type Buffer: Send;

    /// Memory for one more operation in flight.
    fn buffer(&mut self, queue: &Queue) -> Outcome<Self::Buffer>;

    /// It must begin anew before it goes on.
    fn is_full(&self) -> bool {
        false
    }

    /// Begins anew. Nothing is in flight.
    fn restart(&mut self) -> Outcome {
        Ok(())
    }

    /// Submits the next operation.
    fn submit(
        &mut self,
        queue: &mut Queue,
        buf: Self::Buffer,
        tag: u64,
    ) -> Result<(), Refusal<Self::Buffer>>;

    /// What a completion gives back.
    fn back(completion: Completion) -> Option<Self::Buffer>;
}

/// Runs the workload in all threads, all beginning at once.
pub(super) fn run<W: Work>(
    args: &Args,
    target: &Target,
    time: Duration,
    make: impl Fn(&Args, &Target, u32) -> Outcome<W>,
) -> Outcome<(Measured, Stats)> {
    let lanes = (0..args.threads)
        .map(|i| Lane::new(args, target, make(args, target, i)?))
        .collect::<Outcome<Vec<_>>>()?;
    let ready = Barrier::new(lanes.len() + 1);
    let mut all = Measured::new();
    let before = std::thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .into_iter()
            .map(|lane| {
                let ready = &ready;
                scope.spawn(move || lane.run(time, ready))
            })
            .collect();
        ready.wait();
        let before = target.store().stats();
        ready.wait();
        for thread in threads {
            all.join(&joined(thread)?);
        }
        Ok::<_, Failure>(before)
    })?;
    Ok((all, before))
}

/// What a thread returned.
pub(super) fn joined<T>(thread: ScopedJoinHandle<'_, Outcome<T>>) -> Outcome<T> {
    thread.join().unwrap_or_else(|_| Err(Failure::new("a thread of the benchmark panicked")))
}

/// Where one operation in flight stands.
struct Slot {
    start: Instant,
}

/// One thread's queue and operations in flight.
struct Lane<W: Work> {
    work: W,
    queue: Queue,
    slots: Vec<Slot>,
    free: Vec<(usize, W::Buffer)>,
    done: Vec<Completion>,
}

impl<W: Work> Lane<W> {
    fn new(args: &Args, target: &Target, work: W) -> Outcome<Self> {
        let depth = args.qd.unwrap_or(args.workload.depth());
        let queue = target.store().queue(depth)?;
        let now = Instant::now();
        let mut lane = Lane {
            work,
            slots: (0..depth).map(|_| Slot { start: now }).collect(),
            free: Vec::with_capacity(depth as usize),
            done: Vec::with_capacity(depth as usize),
            queue,
        };
        for slot in 0..depth as usize {
            let buf = lane.work.buffer(&lane.queue)?;
            lane.free.push((slot, buf));
        }
        Ok(lane)
    }

    /// Warms up, meets the others, measures.
    fn run(mut self, time: Duration, ready: &Barrier) -> Outcome<Measured> {
        let trial = self.warm_up();
        ready.wait();
        ready.wait();
        let short = trial? < SHORT;
        let mut measured = Measured::new();
        let start = Instant::now();
        let mut batch = Batch::begin();
        let mut now = start;
        while now - start < time {
            let count = self.step(!short, |slot, end| measured.record(end - slot.start, 1))?;
            now =
                if short { batch.add(count, &mut measured).unwrap_or(now) } else { Instant::now() };
        }
        measured.elapsed = now - start;
        self.drain()?;
        Ok(measured)
    }

    /// Finds out how long an operation takes.
    fn warm_up(&mut self) -> Outcome<Duration> {
        let start = Instant::now();
        let mut count = 0;
        while count < TRIAL && start.elapsed() < Duration::from_millis(500) {
            count += self.step(false, |_, _| ())?;
        }
        Ok(start.elapsed() / count.max(1) as u32)
    }

    /// Fills the queue and reaps what has completed; gives how many operations ended.
    fn step(&mut self, timed: bool, mut ended: impl FnMut(&Slot, Instant)) -> Outcome<u64> {
        if self.work.is_full() {
            self.drain()?;
            self.work.restart()?;
        }
        self.submit(timed)?;
        work::wait(&mut self.queue, &mut self.done)?;
        let now = if timed { Instant::now() } else { self.slots[0].start };
        let mut done = std::mem::take(&mut self.done);
        let mut count = 0;
        for completion in done.drain(..) {
            let slot = self.finish(completion)?;
            if timed {
                ended(&self.slots[slot], now);
            }
            count += 1;
        }
        self.done = done;
        Ok(count)
    }

    fn submit(&mut self, timed: bool) -> Outcome {
        while !self.work.is_full()
            && let Some((slot, buf)) = self.free.pop()
        {
            if timed {
                self.slots[slot].start = Instant::now();
            }
            if let Err((buf, error)) = self.work.submit(&mut self.queue, buf, slot as u64) {
                self.free.extend(buf.map(|buf| (slot, buf)));
                return error.map_or(Ok(()), |error| Err(error.into()));
            }
        }
        Ok(())
    }

    /// Takes a completion; gives the slot whose operation it was.
    fn finish(&mut self, completion: Completion) -> Outcome<usize> {
        if let Err(error) = completion.result {
            return Err(error.into());
        }
        let slot = completion.tag as usize;
        self.free.extend(W::back(completion).map(|buf| (slot, buf)));
        Ok(slot)
    }

    /// Waits for all that is in flight.
    fn drain(&mut self) -> Outcome {
        while self.free.len() < self.slots.len() {
            work::wait(&mut self.queue, &mut self.done)?;
            let mut done = std::mem::take(&mut self.done);
            for completion in done.drain(..) {
                self.finish(completion)?;
            }
            self.done = done;
        }
        Ok(())
    }
}
