//! `freehold bench`: measure a store.

mod called;
mod leased;
mod measure;
mod plain;
mod polled;
mod target;

use crate::failure::{Failure, Outcome};
use crate::{output, size, table};
use freehold::Stats;
use measure::Measured;
use serde_json::json;
use std::time::Duration;
use target::Target;

/// Measure a store.
///
/// The store may be one that exists: bench makes files of its own in it and
/// removes them. `mem:SIZE`, or a file that does not exist, is formatted, and
/// the file removed afterwards.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to do
    #[arg(value_enum)]
    workload: Workload,
    /// The store
    uri: String,
    /// Operations in flight in each thread (default: 32 for randread, randwrite, lease-read
    /// and lease-write, else 1)
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4096))]
    qd: Option<u32>,
    /// Bytes of each read, write or lease, a multiple of 4K
    #[arg(long, value_parser = size::parse, default_value = "4K")]
    bs: u64,
    /// How long to measure
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Size of each thread's file (default: 256M, or less in a small store)
    #[arg(long, value_parser = size::parse)]
    file_size: Option<u64>,
    /// Threads, each with a file and a queue of its own; lookup and pin use one file together
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: u32,
    /// Extents of the file that lookup and reflink use
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    extents: u64,
    /// Where random offsets begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Workload {
    /// Random reads
    Randread,
    /// Random overwrites, not synced
    Randwrite,
    /// Durable appends: each is durable when it completes
    Append,
    /// Durable overwrites in place: each is durable when it completes
    OverwriteSync,
    /// Look-ups of random offsets in a file of many extents
    Lookup,
    /// Durable reflinks of a file of many extents
    Reflink,
    /// Pins of a lease's buffer, each with its unpin; all threads pin the same one
    Pin,
    /// Idle leases taken by a conflicting grant of another session; the grant is timed
    Revoke,
    /// Random reads through a lease of the whole file
    LeaseRead,
    /// Random overwrites through a lease of the whole file, not synced
    LeaseWrite,
}

impl Workload {
    fn name(self) -> &'static str {
        match self {
            Workload::Randread => "randread",
            Workload::Randwrite => "randwrite",
            Workload::Append => "append",
            Workload::OverwriteSync => "overwrite-sync",
            Workload::Lookup => "lookup",
            Workload::Reflink => "reflink",
            Workload::Pin => "pin",
            Workload::Revoke => "revoke",
            Workload::LeaseRead => "lease-read",
            Workload::LeaseWrite => "lease-write",
        }
    }

    /// Operations in flight, if nobody says otherwise.
    fn depth(self) -> u32 {
        match self {
            Workload::Randread
            | Workload::Randwrite
            | Workload::LeaseRead
            | Workload::LeaseWrite => 32,
            _ => 1,
        }
    }
}

pub(crate) fn run(args: &Args) -> Outcome {
    if args.bs == 0 || !args.bs.is_multiple_of(super::work::BLOCK) || args.bs > 64 << 20 {
        return Err(Failure::usage("--bs must be a multiple of 4K, at most 64M"));
    }
    if !args.seconds.is_finite() || args.seconds <= 0.0 || args.seconds > 86_400.0 {
        return Err(Failure::usage("--seconds must be above 0, and at most a day"));
    }
    let target = Target::open(args)?;
    let result = measure(args, &target);
    let closed = target.close();
    let (measured, device) = result?;
    closed?;
    tell(args, &measured, &device)
}

/// What the device did meanwhile.
struct Device {
    writes: u64,
    flushes: u64,
}

fn measure(args: &Args, target: &Target) -> Outcome<(Measured, Device)> {
    let time = Duration::from_secs_f64(args.seconds);
    let difference = |before: &Stats, after: &Stats| Device {
        writes: after.device_writes - before.device_writes,
        flushes: after.device_flushes - before.device_flushes,
    };
    let store = target.store();
    match args.workload {
        Workload::Lookup => called::lookup(args, target, time),
        Workload::Reflink => called::reflink(args, target, time),
        Workload::Pin => leased::pin(args, target, time),
        Workload::Revoke => leased::revoke(args, target, time),
        Workload::LeaseRead | Workload::LeaseWrite => {
            polled::run(args, target, time, leased::Through::new)
        }
        Workload::Randread | Workload::Randwrite | Workload::Append | Workload::OverwriteSync => {
            polled::run(args, target, time, plain::Plain::new)
        }
    }
    .map(|(measured, before)| (measured, difference(&before, &store.stats())))
}

fn tell(args: &Args, measured: &Measured, device: &Device) -> Outcome {
    let per_op = |n: u64| n as f64 / measured.operations.max(1) as f64;
    let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|q| measured.quantile_ns(q));
    let (writes, flushes) = (per_op(device.writes), per_op(device.flushes));
    if args.json {
        return output::json(&json!({
            "workload": args.workload.name(),
            "operations": measured.operations,
            "iops": measured.per_second(),
            "p50_ns": p50,
            "p99_ns": p99,
            "p999_ns": p999,
            "device_writes_per_op": writes,
            "flushes_per_op": flushes,
        }));
    }
    let time = |ns: f64| match ns {
        _ if ns < 1e3 => format!("{ns:.1} ns"),
        _ => size::time(Duration::from_nanos(ns as u64)),
    };
    let mut rows = table::new(&[
        "workload",
        ">operations",
        ">per second",
        ">p50",
        ">p99",
        ">p99.9",
        ">device writes/op",
        ">flushes/op",
    ]);
    rows.add_row([
        args.workload.name().to_string(),
        size::count(measured.operations),
        size::count(measured.per_second() as u64),
        time(p50),
        time(p99),
        time(p999),
        format!("{writes:.3}"),
        format!("{flushes:.3}"),
    ]);
    table::print(&rows)
}
