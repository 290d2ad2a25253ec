//! What leases cost: giving, taking, and I/O through them.
//!
//! `lease [ROUNDS]`: what a lease weighs; a grant and its return; an Exclusive grant that takes
//! other leases of the file, one or 10,000, all idle; then 4 KiB at QD32 through a lease, by
//! offset, and on the bare medium, on a medium that moves no data; then durable writes of 4 KiB
//! on a file of memory that plays persistent memory: the copy and the flush instructions alone,
//! an overwrite through a lease, an append. The median of the rounds, the lowest and the highest.

use freehold_bench::leases::Bed;
use freehold_bench::spread;
use freehold_bench::windows::WindowBed;
use freehold_blockmap::Result;
use freehold_blockmap::arbiter::Access;
use std::process::ExitCode;

const MANY: u64 = 10_000;
const OPERATIONS: u64 = 2_000_000;

fn main() -> ExitCode {
    let rounds = match std::env::args().nth(1).map(|arg| arg.parse::<usize>()) {
        None => 9,
        Some(Ok(rounds @ 1..)) => rounds,
        Some(_) => {
            eprintln!("lease: give a number of rounds");
            return ExitCode::FAILURE;
        }
    };
    match run(rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lease: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(rounds: usize) -> Result<()> {
    let bed = Bed::new()?;
    let (weight, pinned) = bed.weight(20 * MANY)?;
    let mut window = WindowBed::new()?;
    let pieces = Bed::in_pieces()?;
    let mut rows: Vec<(&str, &str, Vec<f64>)> = Vec::new();
    for _ in 0..rounds {
        let granted = |access| Ok(bed.granted(access, MANY)? * 1e9);
        let figures = [
            ("grant and return, Read", "ns", granted(Access::Read)),
            ("grant and return, Write", "ns", granted(Access::Write)),
            ("grant and return, Stable", "ns", granted(Access::Stable)),
            ("grant and return, Exclusive", "ns", granted(Access::Exclusive)),
            ("one idle lease taken by one grant", "us", bed.one_taken(1000).map(|s| s * 1e6)),
            ("10,000 idle leases taken by one grant", "ms", bed.all_taken(MANY).map(|s| s * 1e3)),
            ("4 KiB reads at QD32, bare medium", "M/s", bed.bare(OPERATIONS).map(|n| n / 1e6)),
            ("4 KiB reads at QD32, by offset", "M/s", bed.by_offset(OPERATIONS).map(|n| n / 1e6)),
            ("4 KiB fills at QD32, by a lease", "M/s", bed.through(OPERATIONS).map(|n| n / 1e6)),
            (
                "the same, 131,072 extents, by offset",
                "M/s",
                pieces.by_offset(OPERATIONS).map(|n| n / 1e6),
            ),
            (
                "the same, 131,072 extents, by a lease",
                "M/s",
                pieces.through(OPERATIONS).map(|n| n / 1e6),
            ),
            ("4 KiB copied and flushed, bare", "ns", window.bare(MANY).map(|s| s * 1e9)),
            ("4 KiB durable overwrite, by a lease", "ns", window.by_lease(MANY).map(|s| s * 1e9)),
            ("4 KiB and a record, bare", "us", window.bare_append(MANY).map(|s| s * 1e6)),
            ("4 KiB durable append", "us", window.appended(MANY).map(|s| s * 1e6)),
        ];
        for (name, unit, value) in figures {
            match rows.iter_mut().find(|(n, ..)| *n == name) {
                Some((.., all)) => all.push(value?),
                None => rows.push((name, unit, vec![value?])),
            }
        }
    }
    println!("median (lowest to highest of {rounds} rounds)");
    for (name, unit, mut all) in rows {
        let (mid, low, high) = spread(&mut all);
        println!("{name:40} {mid:10.2} {unit} ({low:.2} to {high:.2})");
    }
    println!("{:40} {weight:10.0} bytes", "an idle lease weighs");
    println!("{:40} {pinned:10.0} bytes", "and for each thread that pinned it");
    Ok(())
}
