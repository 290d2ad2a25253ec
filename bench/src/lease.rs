//! What leases cost: giving, taking, and I/O through them.
//!
//! `lease [ROUNDS]`: a grant and its return; an Exclusive grant that takes other leases of the
//! file, one or 10,000, all idle; then 4 KiB at QD32 through a lease, by offset, and on
//! the bare medium, on a medium that moves no data; and what a lease weighs. The median
//! of the rounds, the lowest and the highest.

#[allow(dead_code, reason = "a lease is filled, and nothing is written")]
#[path = "compare/null.rs"]
mod null;

use freehold_blockmap::arbiter::Access;
use freehold_blockmap::{
    FileHandle, Finished, FormatSpec, LeaseCore, LeaseSpec, LeaseTag, Result, SessionCore, Volume,
};
use freehold_engine::medium::{Medium, Op};
use null::NullMedium;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const B: u64 = 4096;
const BLOCKS: u64 = 16_384;
const MANY: u64 = 10_000;

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

struct Bed {
    medium: Arc<NullMedium>,
    vol: Arc<Volume>,
    file: FileHandle,
    own: Arc<SessionCore>,
    other: Arc<SessionCore>,
}

fn bed() -> Result<Bed> {
    let inner = freehold_engine::open(&format!("mem:{}", 4 * BLOCKS * B), &Default::default())?;
    let medium = NullMedium::new(inner);
    let vol = Volume::format(medium.clone(), &FormatSpec::default())?;
    let file = vol.create(b"f")?;
    for i in 0..BLOCKS / 256 {
        vol.write_at(&file, &vec![1; 1 << 20], i << 20)?;
    }
    vol.sync()?;
    vol.checkpoint()?;
    medium.silence();
    let (own, other) = (vol.default_session(), vol.new_session());
    Ok(Bed { medium, vol, file, own, other })
}

fn grant(
    bed: &Bed,
    who: &Arc<SessionCore>,
    block: u64,
    len: u64,
    access: Access,
) -> Result<Arc<LeaseCore>> {
    let spec = LeaseSpec { access, max_hold: Duration::ZERO };
    bed.vol.lease(&bed.file, who, (block * B, len * B), spec)
}

fn run(rounds: usize) -> Result<()> {
    let bed = bed()?;
    let mut rows: Vec<(&str, &str, Vec<f64>)> = Vec::new();
    let mut note = |name: &'static str, unit: &'static str, value: f64| match rows
        .iter_mut()
        .find(|(n, ..)| *n == name)
    {
        Some((.., all)) => all.push(value),
        None => rows.push((name, unit, vec![value])),
    };
    for _ in 0..rounds {
        for (name, access) in [
            ("grant and return, Read", Access::Read),
            ("grant and return, Write", Access::Write),
            ("grant and return, Stable", Access::Stable),
            ("grant and return, Exclusive", Access::Exclusive),
        ] {
            let begun = Instant::now();
            for i in 0..MANY {
                drop(grant(&bed, &bed.own, i, 1, access)?);
            }
            note(name, "ns", begun.elapsed().as_nanos() as f64 / MANY as f64);
        }
        let begun = Instant::now();
        for i in 0..1000 {
            let lease = grant(&bed, &bed.own, i, 1, Access::Read)?;
            drop(grant(&bed, &bed.other, i, 1, Access::Exclusive)?);
            drop(lease);
        }
        note(
            "one idle lease taken, with two grants",
            "us",
            begun.elapsed().as_nanos() as f64 / 1e6,
        );
        let leases: Result<Vec<_>> =
            (0..MANY).map(|i| grant(&bed, &bed.own, i, 1, Access::Read)).collect();
        let leases = leases?;
        let begun = Instant::now();
        drop(grant(&bed, &bed.other, 0, MANY, Access::Exclusive)?);
        note(
            "10,000 idle leases taken by one grant",
            "ms",
            begun.elapsed().as_nanos() as f64 / 1e6,
        );
        drop(leases);
        note("4 KiB reads at QD32, bare medium", "M/s", bare(&bed)? / 1e6);
        note("4 KiB reads at QD32, by offset", "M/s", by_offset(&bed)? / 1e6);
        note("4 KiB fills at QD32, through a lease", "M/s", through(&bed)? / 1e6);
    }
    let weight = weight(&bed)?;
    println!("median (lowest to highest of {rounds} rounds)");
    for (name, unit, mut all) in rows {
        all.sort_by(f64::total_cmp);
        let (low, mid, high) = (all[0], all[all.len() / 2], all[all.len() - 1]);
        println!("{name:40} {mid:10.2} {unit} ({low:.2} to {high:.2})");
    }
    println!("{:40} {weight:10.0} bytes", "an idle lease weighs");
    Ok(())
}

/// Bytes that the process grows by for each of many leases.
fn weight(bed: &Bed) -> Result<f64> {
    const LEASES: u64 = 20 * MANY;
    let mut leases = Vec::with_capacity(LEASES as usize);
    // The list's own pages are there before.
    leases.resize_with(LEASES as usize, || None);
    let before = resident();
    for (i, place) in leases.iter_mut().enumerate() {
        *place = Some(grant(bed, &bed.own, i as u64 % MANY, 1, Access::Read)?);
    }
    Ok((resident() - before) as f64 / LEASES as f64)
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

const OPERATIONS: u64 = 2_000_000;

/// A place that is somewhere else each time.
fn place(i: u64) -> u64 {
    i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40 & (BLOCKS - 1)
}

fn bare(bed: &Bed) -> Result<f64> {
    let mut queue = bed.medium.queue(32)?;
    let mut idle = Vec::with_capacity(32);
    for _ in 0..32 {
        idle.push(bed.medium.pool().take(B as usize)?);
    }
    let (mut done, mut n) = (Vec::with_capacity(32), 0);
    let begun = Instant::now();
    while n < OPERATIONS {
        while let Some(buf) = idle.pop() {
            n += 1;
            if queue.submit(n, Op::Read { at: place(n), buf }).is_err() {
                return Err(full());
            }
        }
        queue.poll(&mut done);
        idle.extend(done.drain(..).filter_map(|c| c.buf));
    }
    Ok(n as f64 / begun.elapsed().as_secs_f64())
}

fn by_offset(bed: &Bed) -> Result<f64> {
    let mut queue = bed.vol.queue(32)?;
    let mut idle = Vec::with_capacity(32);
    for _ in 0..32 {
        idle.push(queue.buffer(B as usize)?);
    }
    let (mut done, mut n) = (Vec::<Finished>::with_capacity(32), 0);
    let begun = Instant::now();
    while n < OPERATIONS {
        while let Some(buf) = idle.pop() {
            n += 1;
            queue
                .read(&bed.file, place(n) * B, buf, n)
                .map_err(|r| r.error.unwrap_or_else(full))?;
        }
        queue.poll(&mut done);
        for c in done.drain(..) {
            if let Some(buf) = c.buf {
                idle.push(buf);
            }
        }
    }
    Ok(n as f64 / begun.elapsed().as_secs_f64())
}

fn through(bed: &Bed) -> Result<f64> {
    let lease = grant(bed, &bed.own, 0, BLOCKS, Access::Read)?;
    let mut queue = bed.vol.queue(32)?;
    let mut idle = Vec::with_capacity(32);
    for _ in 0..32 {
        idle.push((LeaseTag::new(lease.clone(), 0), queue.buffer(B as usize)?));
    }
    let (mut done, mut n) = (Vec::<Finished>::with_capacity(32), 0);
    let begun = Instant::now();
    while n < OPERATIONS {
        while let Some((mut share, buf)) = idle.pop() {
            n += 1;
            share.at.move_to(place(n) * B);
            queue.fill_share(share, buf, n).map_err(|r| r.error.unwrap_or_else(full))?;
        }
        queue.poll(&mut done);
        for c in done.drain(..) {
            if let (Some(share), Some(buf)) = (c.lease, c.buf) {
                idle.push((share, buf));
            }
        }
    }
    Ok(n as f64 / begun.elapsed().as_secs_f64())
}

fn full() -> freehold_blockmap::Error {
    freehold_blockmap::Error::new(freehold_blockmap::ErrorKind::Busy, "the queue took no more")
}
