//! Either end of vfio-user against a peer that does anything: no panic, no hang, no
//! descriptor that stays.
//!
//! `FREEHOLD_SEEDS=A..B cargo test -p freehold-tests --test vfio_user_fuzz`

use freehold_tests::fuzz::Function;
use freehold_tests::fuzz::vfio_user::{ANSWERED, fuzz_client, fuzz_server};
use freehold_tests::random::Random;
use freehold_tests::seeds;
use freehold_tests::vfio_user::open_descriptors;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A case that is not done after so many looks of a second each hangs.
const PATIENCE: u32 = 120;

/// Descriptors are counted: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Ends the process, with the words to repeat it, when a seed does not end.
fn watch(test: &'static str, now: &'static AtomicU64) {
    std::thread::spawn(move || {
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
                eprintln!("{test}: seed {seed} hangs\n{}", seeds::again("vfio_user_fuzz", seed));
                std::process::abort();
            }
        }
    });
}

fn each_seed(test: &'static str, now: &'static AtomicU64, function: Function) {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let range = seeds::range(0..250);
    let count = range.end - range.start;
    let (answered, open) = (ANSWERED.load(Ordering::Relaxed), open_descriptors());
    now.store(range.start, Ordering::Relaxed);
    watch(test, now);
    for seed in range {
        now.store(seed, Ordering::Relaxed);
        let mut random = Random::new(seed);
        let len = 8 + random.below(600);
        let data: Vec<u8> = (0..len).map(|_| random.next_u64() as u8).collect();
        if std::panic::catch_unwind(|| function(&data)).is_err() {
            panic!("seed {seed}\n{}", seeds::again("vfio_user_fuzz", seed));
        }
        let after = open_descriptors();
        assert_eq!(
            after,
            open,
            "seed {seed} leaves descriptors\n{}",
            seeds::again("vfio_user_fuzz", seed)
        );
    }
    now.store(u64::MAX, Ordering::Relaxed);
    let answered = ANSWERED.load(Ordering::Relaxed) - answered;
    println!("{test}: {answered} requests of {count} seeds were answered well");
    assert!(answered > count, "only {answered} good answers: the run tests nothing");
}

#[test]
fn any_client_ends_in_answers_or_a_closed_connection() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    each_seed("server", &NOW, fuzz_server);
}

#[test]
fn any_server_ends_in_answers_or_errors() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    each_seed("client", &NOW, fuzz_client);
}
