//! How long operations take.
//!
//! Reading the clock takes some 30 ns. Operations that take under 1 us are
//! therefore timed in batches of at least 1,000, and each counts with its
//! batch's mean, which may be a fraction of a nanosecond.

use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// Operations in a batch.
pub(super) const BATCH: u64 = 1000;

/// Operations that decide whether to use batches, and warm up.
pub(super) const TRIAL: u64 = 2 * BATCH;

/// Below this mean, batches are used.
pub(super) const SHORT: Duration = Duration::from_micros(1);

/// The longest time that a histogram tells apart from longer ones.
const LONGEST: Duration = Duration::from_secs(1000);

/// What was measured, by one thread or by all together.
#[derive(Debug)]
pub(super) struct Measured {
    /// In picoseconds.
    histogram: Histogram<u64>,
    pub(super) operations: u64,
    pub(super) elapsed: Duration,
}

impl Measured {
    pub(super) fn new() -> Measured {
        // The bounds are constants that the histogram takes.
        let histogram = Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64 * 1000, 3)
            .expect("the bounds are valid");
        Measured { histogram, operations: 0, elapsed: Duration::ZERO }
    }

    /// `count` operations took `time` together.
    #[inline]
    pub(super) fn record(&mut self, time: Duration, count: u64) {
        let each = time.as_nanos() as u64 * 1000 / count;
        self.histogram.saturating_record_n(each.max(1), count);
        self.operations += count;
    }

    /// Adds another thread's.
    pub(super) fn join(&mut self, other: &Measured) {
        self.histogram.add(&other.histogram).expect("all histograms have the same bounds");
        self.operations += other.operations;
        self.elapsed = self.elapsed.max(other.elapsed);
    }

    pub(super) fn quantile_ns(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1000.0
    }

    pub(super) fn per_second(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

/// Counts completions that nobody timed one by one.
#[derive(Debug)]
pub(super) struct Batch {
    start: Instant,
    count: u64,
}

impl Batch {
    pub(super) fn begin() -> Batch {
        Batch { start: Instant::now(), count: 0 }
    }

    /// `count` more are done. A full batch is recorded; gives the time then.
    #[inline]
    pub(super) fn add(&mut self, count: u64, to: &mut Measured) -> Option<Instant> {
        self.count += count;
        if self.count < BATCH {
            return None;
        }
        let now = Instant::now();
        to.record(now - self.start, self.count);
        *self = Batch { start: now, count: 0 };
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_give_fractions_of_a_nanosecond() {
        let mut measured = Measured::new();
        measured.record(Duration::from_nanos(2500), 1000);
        assert!((measured.quantile_ns(0.5) - 2.5).abs() < 0.01);
        assert_eq!(measured.operations, 1000);
    }

    #[test]
    fn threads_add_up() {
        let (mut a, mut b) = (Measured::new(), Measured::new());
        a.record(Duration::from_micros(1), 1);
        b.record(Duration::from_micros(3), 1);
        b.elapsed = Duration::from_secs(2);
        a.join(&b);
        assert_eq!((a.operations, a.elapsed), (2, Duration::from_secs(2)));
        assert!((a.per_second() - 1.0).abs() < 1e-9);
    }
}
