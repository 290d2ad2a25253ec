//! How long a store takes to open after it was left with a full journal.
//!
//! `recover [DIR]`: for stores of 1 GiB and 1 TiB (sparse) in DIR, writes to
//! random holes until a checkpoint is about to begin, lets go of it as
//! a killed process would, opens it, and prints what that took.

use freehold::{FormatOptions, OpenOptions, Store};
use freehold_bench::write_blocks;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let dir = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    for size in [1u64 << 30, 1 << 40] {
        for round in 0..3 {
            if let Err(e) = one(&dir, size, round) {
                eprintln!("recover: {e}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn one(dir: &std::path::Path, size: u64, round: u64) -> freehold::Result<()> {
    let path = dir.join(format!("freehold-recover-{}", std::process::id()));
    let uri = format!("file:{}", path.display());
    let options = FormatOptions { size: Some(size), force: true };
    let report = (|| -> freehold::Result<_> {
        let store = Store::format(&uri, &options)?;
        let file = store.create(b"f")?;
        let span = (size / 4096).min(1 << 26);
        let mut x = 0x9e37_79b9_7f4a_7c15u64 ^ round;
        let before = store.stats().checkpoints;
        // A checkpoint begins at 49,152 records: as full as the journal gets
        // unless the checkpoint is slower than the writers.
        let mut left = 49_000;
        while left > 0 && store.stats().checkpoints == before {
            write_blocks(&store, &file, 64, 1000, |_| {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (x >> 20) % span
            })?;
            left -= 1000;
        }
        file.sync()?;
        drop((file, store));
        let store = Store::open(&uri, &OpenOptions::default())?;
        Ok(store.recovery().clone())
    })();
    let _ = std::fs::remove_file(&path);
    let r = report?;
    println!(
        "{:>5} GiB: {:>8} records, {:>6} KiB of journal: open took {:.1} ms",
        size >> 30,
        r.records,
        r.journal_bytes / 1024,
        r.elapsed.as_secs_f64() * 1e3
    );
    Ok(())
}
