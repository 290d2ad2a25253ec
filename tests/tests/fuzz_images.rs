//! Whole images and journals with any content under right checksums: opening
//! and using them ends in answers or errors, never in a panic or a hang.
//!
//! `FREEHOLD_SEEDS=A..B cargo test -p freehold-tests --test fuzz_images`

use freehold_tests::fuzz::{self, Function, fuzz_image, fuzz_journal};
use freehold_tests::random::Random;
use freehold_tests::seeds;
use std::sync::atomic::{AtomicU64, Ordering};

fn each_seed(test: &'static str, now: &'static AtomicU64, function: Function, longest: u64) {
    let range = seeds::range(0..800);
    let (seeds, before) = (range.end - range.start, fuzz::opened());
    now.store(range.start, Ordering::Relaxed);
    seeds::watch("fuzz_images", now);
    for seed in range {
        now.store(seed, Ordering::Relaxed);
        let mut random = Random::new(seed);
        let len = 4 + random.below(longest);
        let data: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
        if std::panic::catch_unwind(|| function(&data)).is_err() {
            panic!("seed {seed}: {data:?}\n{}", seeds::again("fuzz_images", seed));
        }
    }
    now.store(u64::MAX, Ordering::Relaxed);
    let opened = fuzz::opened() - before;
    println!("{test}: {opened} stores of {seeds} could be opened");
    assert!(opened > seeds / 8, "only {opened} stores of {seeds} were let in");
}

#[test]
fn any_image_ends_in_answers_or_errors() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    each_seed("images", &NOW, fuzz_image, 40);
}

#[test]
fn any_journal_ends_in_answers_or_errors() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    each_seed("journals", &NOW, fuzz_journal, 200);
}
