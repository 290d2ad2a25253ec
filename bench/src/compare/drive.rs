//! Keeps operations in flight, or threads writing, and counts.

use crate::bed::{BLOCK, Bed, Target, Writer};
use crate::outcome::{Outcome, fail};
use crate::results::Cost;
use crate::stage::Counters;
use hdrhistogram::Histogram;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// A generator of random numbers (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}

/// When a measurement ends: whichever comes first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) time: Duration,
    pub(crate) count: u64,
}

impl Limit {
    pub(crate) fn time(time: Duration) -> Self {
        Limit { time, count: u64::MAX }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) count: u64,
    pub(crate) elapsed: Duration,
}

impl Done {
    pub(crate) fn per_second(&self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// What the device did for each operation.
    pub(crate) fn cost(&self, before: Option<Counters>, after: Option<Counters>) -> Option<Cost> {
        let (a, b) = (before?, after?);
        let each = |n: u64| n as f64 / self.count.max(1) as f64;
        let (writes, flushes) = (each(b.writes - a.writes), each(b.flushes - a.flushes));
        Some(Cost { writes, flushes })
    }
}

/// Small operations at the blocks that `place` names, `depth` at a time. All
/// that were begun have ended when it returns, and count.
pub(crate) fn drive(
    target: &mut dyn Target,
    depth: u32,
    write: bool,
    limit: Limit,
    place: &mut dyn FnMut() -> u64,
) -> Outcome<Done> {
    let mut idle: Vec<_> = Vec::with_capacity(depth as usize);
    for _ in 0..depth {
        let mut buf = target.buffer(BLOCK as usize)?;
        buf.fill(5);
        idle.push(buf);
    }
    let start = Instant::now();
    let (mut begun, mut ended, mut over) = (0, 0, false);
    let mut waiting = None;
    while !over || ended < begun {
        while !over && begun < limit.count {
            let Some(buf) = idle.pop() else { break };
            let block = waiting.take().unwrap_or_else(&mut *place);
            if let Some(back) = target.submit(write, block, buf)? {
                idle.push(back);
                waiting = Some(block);
                break;
            }
            begun += 1;
        }
        if ended < begun {
            ended += target.reap(&mut idle)?;
        }
        over |= begun >= limit.count || start.elapsed() >= limit.time;
    }
    Ok(Done { count: ended, elapsed: start.elapsed() })
}

/// Durable writes by as many threads as there are writers, each on its own
/// file; and how long each took.
pub(crate) fn durable(
    writers: Vec<Box<dyn Writer>>,
    time: Duration,
    append: bool,
    blocks: u64,
) -> Outcome<(Done, Histogram<u64>)> {
    let ready = Barrier::new(writers.len());
    let results = std::thread::scope(|scope| {
        let threads: Vec<_> = writers
            .into_iter()
            .enumerate()
            .map(|(i, mut writer)| {
                let ready = &ready;
                scope.spawn(move || -> Outcome<(Done, Histogram<u64>)> {
                    let mut rng = Rng::new(i as u64 + 1);
                    let mut times = histogram();
                    ready.wait();
                    let (start, mut count) = (Instant::now(), 0);
                    let mut now = start;
                    while now - start < time {
                        writer.write(if append { count } else { rng.below(blocks) })?;
                        let end = Instant::now();
                        times.saturating_record((end - now).as_nanos() as u64);
                        now = end;
                        count += 1;
                    }
                    Ok((Done { count, elapsed: now - start }, times))
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join()).collect::<Vec<_>>()
    });
    let (mut all, mut times) = (Done { count: 0, elapsed: Duration::ZERO }, histogram());
    for result in results {
        let Ok(result) = result else { return fail("a writer panicked") };
        let (done, own) = result?;
        all.count += done.count;
        all.elapsed = all.elapsed.max(done.elapsed);
        times.add(&own)?;
    }
    Ok((all, times))
}

/// Nanoseconds up to a hundred seconds.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 100_000_000_000, 3).expect("the bounds are valid")
}

/// Runs `work` and says what the device did for each of its operations.
pub(crate) fn counted(
    bed: &dyn Bed,
    work: impl FnOnce() -> Outcome<Done>,
) -> Outcome<(Done, Option<Cost>)> {
    let before = bed.counters();
    let done = work()?;
    Ok((done, done.cost(before, bed.counters())))
}

/// All numbers below `n`, each once, in an order that looks random: a full
/// cycle of a linear congruential generator over the next power of two.
pub(crate) fn permutation(n: u64, seed: u64) -> impl FnMut() -> u64 {
    let mask = n.next_power_of_two() - 1;
    let mut x = seed & mask;
    move || loop {
        x = x.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f) & mask;
        // The low bits of such a generator are poor: look at them in reverse.
        let y = x.reverse_bits() >> (mask.leading_zeros().min(63));
        if y < n {
            return y;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permutation_names_each_number_once() {
        for n in [1u64, 2, 7, 1000, 1024] {
            let mut next = permutation(n, 5);
            let mut seen: Vec<u64> = (0..n).map(|_| next()).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..n).collect::<Vec<_>>(), "{n}");
        }
    }
}
