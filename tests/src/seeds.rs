//! Seeds of a run that does the same work each time.

use std::ops::Range;

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
