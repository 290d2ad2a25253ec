//! Workloads of reads, writes and durable writes on polled queues.

use super::measure::{Batch, Measured, SHORT, TRIAL};
use super::{Args, Target, Workload};
use crate::failure::{Failure, Outcome};
use crate::pattern::Rng;
use crate::verb::work;
use freehold::{Buffer, Completion, File, Queue, Stats};
use std::sync::Barrier;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// Runs the workload in all threads, all beginning at once.
pub(super) fn run(args: &Args, target: &Target, time: Duration) -> Outcome<(Measured, Stats)> {
    let lanes =
        (0..args.threads).map(|i| Lane::new(args, target, i)).collect::<Outcome<Vec<_>>>()?;
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

/// One thread's file, queue and operations in flight.
struct Lane {
    workload: Workload,
    file: File,
    queue: Queue,
    rng: Rng,
    /// Operations that fit in the file.
    places: u64,
    bs: u64,
    /// The next append's place.
    end: u64,
    slots: Vec<Slot>,
    free: Vec<(usize, Buffer)>,
    done: Vec<Completion>,
}

impl Lane {
    fn new(args: &Args, target: &Target, number: u32) -> Outcome<Lane> {
        let append = args.workload == Workload::Append;
        let random = matches!(args.workload, Workload::Randread | Workload::Randwrite);
        let name = format!("file-{number}");
        let seed = args.seed.wrapping_add(u64::from(number));
        let file = if append { target.create(&name)? } else { target.create_full(&name, seed)? };
        let depth = args.qd.unwrap_or(if random { 32 } else { 1 });
        let queue = target.store().queue(depth)?;
        let now = Instant::now();
        let mut lane = Lane {
            workload: args.workload,
            file,
            rng: Rng::new(seed),
            places: target.file_size() / args.bs,
            bs: args.bs,
            end: 0,
            slots: (0..depth).map(|_| Slot { start: now }).collect(),
            free: Vec::with_capacity(depth as usize),
            done: Vec::with_capacity(depth as usize),
            queue,
        };
        for slot in 0..depth as usize {
            let mut buf = lane.queue.buffer(args.bs as usize)?;
            lane.rng.fill(&mut buf);
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
        if self.workload == Workload::Append && self.end == self.places {
            self.drain()?;
            self.file.truncate(0)?;
            self.end = 0;
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
        while let Some((slot, buf)) = self.free.pop() {
            let place = match self.workload {
                Workload::Append if self.end == self.places => {
                    self.free.push((slot, buf));
                    return Ok(());
                }
                Workload::Append => self.end,
                _ => self.rng.below(self.places),
            };
            if timed {
                self.slots[slot].start = Instant::now();
            }
            let (offset, tag) = (place * self.bs, slot as u64);
            let taken = match self.workload {
                Workload::Randread => self.queue.read(&self.file, offset, buf, tag),
                Workload::Append | Workload::OverwriteSync => {
                    self.queue.write_durable(&self.file, offset, buf, tag)
                }
                _ => self.queue.write(&self.file, offset, buf, tag),
            };
            match taken {
                Ok(()) => self.end += u64::from(self.workload == Workload::Append),
                Err(refused) => {
                    self.free.extend(refused.buf.map(|buf| (slot, buf)));
                    return refused.error.map_or(Ok(()), |error| Err(error.into()));
                }
            }
        }
        Ok(())
    }

    /// Takes a completion; gives the slot whose operation it was.
    fn finish(&mut self, completion: Completion) -> Outcome<usize> {
        completion.result.map_err(Failure::from)?;
        let slot = completion.tag as usize;
        self.free.extend(completion.buf.map(|buf| (slot, buf)));
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
