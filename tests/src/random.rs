//! Random numbers from a seed, and which seeds a test runs.

use std::ops::Range;
use std::time::{Duration, Instant};

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for the same seed, for ever.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed ^ 0x5851_f42d_4c95_7f2d);
        random.next_u64();
        random
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64() % end
    }

    /// True once in so many times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// Which seeds a test runs: those of `FREEHOLD_SEEDS=A..B`, all of them; or from
/// 0 on, until the time is over.
#[derive(Debug, Clone)]
pub struct Seeds {
    range: Range<u64>,
    until: Option<Instant>,
}

impl Seeds {
    /// The seeds of the environment, or as many as the time allows, `least` at least.
    ///
    /// # Panics
    /// If the variable is not `A..B`.
    pub fn of(budget: Duration) -> Self {
        let Ok(text) = std::env::var("FREEHOLD_SEEDS") else {
            return Seeds { range: 0..1_000_000, until: Some(Instant::now() + budget) };
        };
        let range = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
        let range = range.unwrap_or_else(|| panic!("FREEHOLD_SEEDS must be A..B, not {text:?}"));
        Seeds { range, until: None }
    }

    /// Did somebody ask for these very seeds?
    pub fn asked_for(&self) -> bool {
        self.until.is_none()
    }

    /// Runs a function for each seed, on as many threads as there are cores, and
    /// says how many seeds that were. The first seed of a thread runs in any case.
    ///
    /// # Panics
    /// With the message of the first seed that fails.
    pub fn run(&self, each: impl Fn(u64) -> Result<(), String> + Sync) -> u64 {
        let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let next = std::sync::atomic::AtomicU64::new(self.range.start);
        let failed = std::sync::Mutex::new(None::<(u64, String)>);
        let order = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, order);
                        let late = seed > self.range.start
                            && self.until.is_some_and(|t| Instant::now() > t);
                        if seed >= self.range.end || late || failed.lock().unwrap().is_some() {
                            return;
                        }
                        if let Err(why) = each(seed) {
                            failed.lock().unwrap().get_or_insert((seed, why));
                        }
                    }
                });
            }
        });
        if let Some((seed, why)) = failed.into_inner().unwrap() {
            panic!("seed {seed}: {why}");
        }
        next.into_inner().min(self.range.end) - self.range.start
    }
}

/// A panic is a failure like any other.
///
/// # Errors
/// What the function gives, or the panic's message.
pub fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}
