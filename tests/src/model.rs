//! The public API against the oracle, history by history.

use crate::history::{Driver, Op, State, Taste, make, shrink, verify};
use crate::history::{all_comes_back, clean};
use crate::random::Random;
use freehold::{OpenOptions, Store};
use freehold_engine::medium::Medium;
use freehold_engine::mem::MemMedium;
use freehold_engine::sim::{SimMedium, SimOptions};
use std::sync::Arc;

/// A history and the medium that it runs on.
#[derive(Debug, Clone)]
pub struct Case {
    /// Of the medium and of the history.
    pub seed: u64,
    /// Size of the store.
    pub blocks: u64,
    /// On memory, or on a simulated device.
    pub memory: bool,
    /// Bytes of the store's cache; none for the default.
    pub cache: Option<u64>,
    /// What happens.
    pub ops: Vec<Op>,
}

/// Runs a case to its end: all results, all contents, and the space. Says how
/// often the store was full.
///
/// # Errors
/// What is wrong, and after which operation.
pub fn run(case: &Case) -> Result<u64, String> {
    let medium: Arc<dyn Medium> = if case.memory {
        Arc::new(MemMedium::new(case.blocks * 4096).map_err(|e| e.to_string())?)
    } else {
        let options = SimOptions { blocks: case.blocks, seed: case.seed, ..Default::default() };
        SimMedium::new(options).medium()
    };
    run_on(medium, case)
}

/// Runs a case on a medium that is there already, and that is written anew.
///
/// # Errors
/// As [`run`].
pub fn run_on(medium: Arc<dyn Medium>, case: &Case) -> Result<u64, String> {
    let store = Store::format_on(medium.clone()).map_err(|e| e.to_string())?;
    let free = store.space().free;
    let mut driver = Driver::new(medium, store, State::default());
    if case.cache.is_some() {
        let options = OpenOptions { cache_bytes: case.cache, ..OpenOptions::default() };
        driver = driver.reopened(&options)?;
    }
    for (i, op) in case.ops.iter().enumerate() {
        let at = |e: String| format!("operation {i}, {op:?}: {e}");
        driver.step(op).map_err(|e| at(e.text()))?;
        if i % 32 == 31 {
            verify(&driver).map_err(at)?;
        }
    }
    let full = driver.full;
    finish(driver, free).map_err(|e| format!("at the end: {e}"))?;
    Ok(full)
}

fn finish(mut driver: Driver, free: u64) -> Result<(), String> {
    verify(&driver)?;
    clean(driver.store())?;
    driver.step(&Op::Reopen).map_err(|e| e.text())?;
    verify(&driver)?;
    clean(driver.store())?;
    all_comes_back(driver.store(), free)?;
    clean(driver.store())
}

/// The case of a seed.
pub fn case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let small = Taste::SMALL;
    let (taste, blocks, length) = match seed % 8 {
        // Full stores.
        0 | 1 => {
            let queued = if seed.is_multiple_of(8) { 12 } else { 3 };
            let removals = 12;
            let taste =
                Taste { reach: 4 << 20, write: 512 << 10, names: 8, queued, removals, ..small };
            (taste, 2048, 120)
        }
        // Trees of two and three levels.
        5 => {
            let scattered = (8, if seed % 40 == 5 { 1500 } else { 300 });
            (Taste { scattered, reach: 5000 * 4096, ..small }, 8192, 40)
        }
        2 => (Taste { names: 14, reach: 8 << 20, write: 64 << 10, ..small }, 8192, 200),
        // Many checkpoints, many syncs.
        3 => (Taste { checkpoints: 15, syncs: 25, ..small }, 2048, 150),
        // Names.
        4 => (Taste { names: 24, reach: 4 << 12, write: 8 << 10, ..small }, 2048, 250),
        _ => (small, 2048, 100),
    };
    let length = (length / 2 + random.below(length)) as usize;
    let ops = make(&mut random, &taste, length);
    let memory = random.one_in(3);
    Case { seed, blocks, memory, cache: tiny_cache(seed), ops }
}

/// A share of the seeds has a cache of a few nodes, or of a few dozen.
pub fn tiny_cache(seed: u64) -> Option<u64> {
    match seed / 8 % 4 {
        0 => Some(16 << 10),
        1 => Some(128 << 10),
        _ => None,
    }
}

/// Runs the case of a seed and says how often the store was full. A failure comes with the shortest history found.
///
/// # Errors
/// The failure, the history, and how to run it again.
pub fn seed(seed: u64) -> Result<u64, String> {
    let case = case(seed);
    let first = match guarded(&case) {
        Ok(full) => return Ok(full),
        Err(e) => e,
    };
    if std::env::var_os("FREEHOLD_SABOTAGE").is_some() {
        return Err(first);
    }
    let fails = |ops: &[Op]| guarded(&Case { ops: ops.to_vec(), ..case.clone() }).is_err();
    let ops = shrink(case.ops.clone(), 400, fails);
    let last = guarded(&Case { ops: ops.clone(), ..case.clone() }).err().unwrap_or_default();
    Err(format!(
        "{first}\nshortest history ({} blocks, memory: {}, cache: {:?}), which fails with: {last}\n{}\n\
         again: FREEHOLD_SEEDS={seed}..{} cargo test -p freehold-tests --test model random",
        case.blocks,
        case.memory,
        case.cache,
        crate::history::listed(&ops),
        seed + 1
    ))
}

/// A panic is a failure like any other.
fn guarded(case: &Case) -> Result<u64, String> {
    crate::random::guarded(|| run(case))
}
