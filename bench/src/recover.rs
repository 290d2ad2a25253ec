//! How long a store takes to open after it was left with a full journal.
//!
//! `recover [DIR]`: for stores of 1 GiB and 1 TiB (sparse) in DIR, writes to
//! random holes until a checkpoint is about to begin, lets go of it as
//! a killed process would, opens it, and prints what that took.
//!
//! `recover DIR EXTENTS`: the same for one file of so many extents, by random
//! writes into its holes, each of which moves a node of the map.

use freehold::{File, FormatOptions, OpenOptions, Store};
use freehold_bench::{BLOCK, write_blocks};
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let dir = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    if let Some(n) = std::env::args().nth(2) {
        let done = n.parse().map_err(|_| "give a number of extents".to_owned());
        return match done.and_then(|n| large(&dir, n).map_err(|e| e.to_string())) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("recover: {e}");
                ExitCode::FAILURE
            }
        };
    }
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
    let options = FormatOptions { size: Some(size), force: true, ..Default::default() };
    let report = (|| -> freehold::Result<_> {
        let store = Store::format(&uri, &options)?;
        let file = store.create(b"f")?;
        let span = (size / 4096).min(1 << 26);
        let mut x = 0x9e37_79b9_7f4a_7c15u64 ^ round;
        let before = store.stats().checkpoints;
        // A checkpoint begins at 131,072 records: as full as the journal gets
        // unless the checkpoint is slower than the writers.
        let mut left = 131_000;
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

/// Random writes into the holes of a map of very many extents, up to the moment
/// before a checkpoint, and past it while that is under way.
fn large(dir: &std::path::Path, extents: u64) -> freehold::Result<()> {
    let path = dir.join(format!("freehold-recover-{}", std::process::id()));
    let uri = format!("file:{}", path.display());
    let size = extents * 4096 * 4 + (64 << 20);
    let result = (|| {
        let store = Store::format(
            &uri,
            &FormatOptions { size: Some(size), force: true, ..Default::default() },
        )?;
        let file = store.create(b"f")?;
        for i in 0..extents {
            file.allocate(i * 2 * BLOCK, BLOCK)?;
        }
        store.checkpoint()?;
        drop(file);
        let (mut store, mut seed) = (store, 1);
        for until in [0.5, 0.95, 1.5] {
            let file = store.open_file(b"f")?;
            store.checkpoint()?;
            leave(&store, &file, extents, until, &mut seed)?;
            drop((file, store));
            store = Store::open(&uri, &OpenOptions::default())?;
            print(&format!("{until} of the way to a checkpoint"), &store);
        }
        Ok(())
    })();
    let _ = std::fs::remove_file(&path);
    result
}

/// Writes to random holes. A checkpoint begins by itself at about 16 Ki nodes.
fn leave(
    store: &Store,
    file: &File,
    extents: u64,
    until: f64,
    x: &mut u64,
) -> freehold::Result<()> {
    const NODES: f64 = 16_384.0;
    // Of `leaves` evenly many are hit: so many writes move so many of them.
    let leaves = extents as f64 / 113.0;
    let share = (NODES * until / leaves).min(0.99);
    let writes = (-leaves * (1.0 - share).ln()) as u64;
    write_blocks(store, file, 64, writes.min(40_000), |_| {
        *x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*x >> 20) % extents * 2 + 1
    })?;
    file.sync()
}

fn print(what: &str, store: &Store) {
    let (r, s) = (store.recovery(), store.stats());
    println!(
        "{what}: {} records, {} KiB of journal, {} nodes read: open took {:.1} ms",
        r.records,
        r.journal_bytes / 1024,
        s.nodes_read,
        r.elapsed.as_secs_f64() * 1e3
    );
}
