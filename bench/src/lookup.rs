//! What a look-up costs in a map of very many extents, and what the map takes.
//!
//! `lookup [EXTENTS [CACHE-BYTES]]`: allocates so many extents of one block (by
//! default ten million) on a memory medium, in ascending order and in random
//! order; asks for random blocks, one after the other; prints nanoseconds of a
//! look-up and bytes of memory for an extent.

use freehold::{File, OpenOptions, Result, Store};
use freehold_bench::{BLOCK, permuted};
use freehold_engine::medium::Medium;
use freehold_engine::mem::MemMedium;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

const LOOKS: u64 = 5_000_000;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>());
    let (Some(Ok(extents)), Some(Ok(cache))) =
        (args.next().or(Some(Ok(10_000_000))), args.next().or(Some(Ok(1 << 30))))
    else {
        eprintln!("lookup: give a number of extents, and bytes for the cache");
        return ExitCode::FAILURE;
    };
    for random in [false, true] {
        if let Err(e) = one(extents, cache, random) {
            eprintln!("lookup: {e}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Bytes of memory that the process has.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn one(extents: u64, cache: u64, random: bool) -> Result<()> {
    let bytes = extents * BLOCK * 5 / 4 + (64 << 20);
    let medium: Arc<dyn Medium> = Arc::new(MemMedium::new(bytes)?);
    Store::format_on(medium.clone())?.close()?;
    let options = OpenOptions { cache_bytes: Some(cache), ..OpenOptions::default() };
    let store = Store::open_on(medium.clone(), &options)?;
    let file = store.create(b"f")?;
    for i in 0..extents {
        let block = if random { permuted(i, extents) } else { i };
        file.allocate(block * 2 * BLOCK, BLOCK)?;
    }
    drop(file);
    store.close()?;
    // What is read back is what a program that opens a store has.
    let before = resident();
    let store = Store::open_on(medium, &options)?;
    let file = store.open_file(b"f")?;
    for i in 0..extents {
        file.extent_at(i * 2 * BLOCK)?;
    }
    let (now, stats) = (resident(), store.stats());
    let order = if random { "random" } else { "ascending" };
    println!(
        "{extents} extents made in {order} order: {:.1} bytes of memory for an extent by the \
         system, {:.1} by the store\'s account",
        now.saturating_sub(before) as f64 / extents as f64,
        stats.cache_used as f64 / extents as f64
    );
    for _ in 0..3 {
        println!("  a look-up of a random block: {:.0} ns", look(&file, extents)?);
    }
    Ok(())
}

fn look(file: &File, extents: u64) -> Result<f64> {
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    let begun = Instant::now();
    for _ in 0..LOOKS {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        black_box(file.extent_at((x >> 20) % extents * 2 * BLOCK)?);
    }
    Ok(begun.elapsed().as_secs_f64() * 1e9 / LOOKS as f64)
}
