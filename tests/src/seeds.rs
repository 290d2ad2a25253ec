//! Seeds of a run that does the same work each time.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A seed that is not done after so many looks of a second each hangs.
const PATIENCE: u32 = 120;

/// `FREEHOLD_SEEDS=A..B`, or the range that the test runs by default.
///
/// # Panics
/// If the variable is set to anything else.
pub fn range(default: Range<u64>) -> Range<u64> {
    let Ok(text) = std::env::var("FREEHOLD_SEEDS") else { return default };
    let range = text.split_once("..").and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    range.unwrap_or_else(|| panic!("FREEHOLD_SEEDS must be A..B, not {text:?}"))
}

/// How to repeat a seed of a test: for the message of a failure.
pub fn again(test: &str, seed: u64) -> String {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    format!(
        "again: FREEHOLD_SEEDS={seed}..{} cargo test -p freehold-tests --test {test} {name}",
        seed + 1
    )
}

/// Ends the process, with the words to repeat it, when a seed does not end. `now` is the
/// seed at hand, and `u64::MAX` when all are done.
///
/// # Panics
/// If there can be no thread for it.
pub fn watch(test: &'static str, now: &'static AtomicU64) {
    // It goes by the name of the test, which is in the words to repeat it.
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let looks = move || {
        let (mut seen, mut same) = (u64::MAX, 0);
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let seed = now.load(Ordering::Relaxed);
            same = if seed == seen { same + 1 } else { 0 };
            seen = seed;
            if seed == u64::MAX {
                return;
            }
            if same > PATIENCE {
                eprintln!("seed {seed} hangs\n{}", again(test, seed));
                std::process::abort();
            }
        }
    };
    std::thread::Builder::new().name(name).spawn(looks).expect("a thread to watch");
}
