//! Compares Freehold with XFS and btrfs on the same loop device, and writes
//! `docs/benchmarks.md`. `bench/run` starts it and cleans up after it.
//!
//! `work` holds the workloads, `bed` what they need of each side, `stage` the
//! device, `drive` what keeps operations in flight, `hand` the processes in which they are
//! measured, `results` the values and `report`, `plots`, `machine` and `earlier` the document.

mod bed;
mod drive;
mod earlier;
mod hand;
mod machine;
mod outcome;
mod plots;
mod report;
mod results;
mod scale;
mod stage;
mod work;

use clap::Parser;
use outcome::{Outcome, fail};
use report::Circumstances;
use results::{Results, Side};
use scale::Scale;
use stage::Stage;
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use work::{ALL, Site, Workload};

/// Measure Freehold beside XFS and btrfs.
#[derive(Debug, Parser)]
#[command(name = "compare")]
struct Args {
    /// Folder for images and mounts: it must exist and be empty
    #[arg(long)]
    work: PathBuf,
    /// Where benchmarks.md and plots/ go; without it nothing is written
    #[arg(long)]
    docs: Option<PathBuf>,
    /// Fewer and shorter: two or three minutes
    #[arg(long)]
    quick: bool,
    /// Only to see that it works: a few seconds
    #[arg(long, hide = true)]
    tiny: bool,
    /// Use no loop device and mount nothing, even as root
    #[arg(long)]
    plain: bool,
    /// Rounds of each workload
    #[arg(long)]
    repeat: Option<usize>,
    /// Only this workload; may be given again
    #[arg(long)]
    only: Vec<String>,
    /// Only this side: freehold, xfs, btrfs or raw; may be given again
    #[arg(long)]
    side: Vec<String>,
    /// Replace only these workloads' sections in the document, which say that they are of this day
    #[arg(long, value_name = "DAY", requires_all = ["docs", "only"], conflicts_with_all = ["quick", "side"])]
    update: Option<String>,
    /// Leave the results of one workload in this file, for the process that asked
    #[arg(long, hide = true)]
    results: Option<PathBuf>,
    /// Write the section of the document that is measured elsewhere than the rest
    #[arg(long, hide = true)]
    section: Option<PathBuf>,
    /// Only say what so many idle leases weigh, each
    #[arg(long, hide = true)]
    weigh: Option<u64>,
    /// Only look up in a map: how many extents, milliseconds
    #[arg(long, hide = true, num_args = 2, value_names = ["EXTENTS", "MS"])]
    look_up: Option<Vec<u64>>,
    /// Only serve an NVMe controller, as the word says
    #[arg(long, hide = true, num_args = 2, value_names = ["SOCKET", "WORD"])]
    serve_nvme: Option<Vec<String>>,
    /// Only read so many blocks: whose loop, socket, depth, count
    #[arg(long, hide = true, num_args = 4, value_names = ["LOOP", "SOCKET", "QD", "COUNT"])]
    read_nvme: Option<Vec<String>>,
    /// Only read so many blocks by the C library, or by Rust: which, what, count
    #[arg(long, hide = true, num_args = 3, value_names = ["LANGUAGE", "WHAT", "COUNT"])]
    read_c: Option<Vec<String>>,
    /// Only a loop of `guest`, for its system calls to be counted
    #[arg(long, hide = true, num_args = 4, value_names = ["URI", "LOOP", "QD", "TIMES"])]
    guest_loop: Option<Vec<String>>,
    /// What the document names as the version measured
    #[arg(long)]
    commit: Option<String>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("compare: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Outcome {
    if let Some(leases) = args.weigh {
        return work::lease::print_weight(leases);
    }
    if let Some(words) = &args.look_up {
        return work::map::huge::print(words);
    }
    if let Some(words) = &args.serve_nvme {
        return work::nvme::serve(words);
    }
    if let Some(words) = &args.read_nvme {
        return work::nvme::read(words);
    }
    if let Some(words) = &args.guest_loop {
        return work::guest::looped(words);
    }
    if let Some(words) = &args.read_c {
        return work::c::read(words);
    }
    let chosen = choose(&args.only)?;
    if let Some(s) = args.side.iter().find(|s| Side::ALL.iter().all(|o| o.option() != s.as_str())) {
        return fail(format!("no side is called {s}; there are freehold, xfs, btrfs and raw"));
    }
    if let (Some(_), Some(docs)) = (&args.update, &args.docs) {
        earlier::check(docs, &chosen)?;
    }
    let scale = match (args.tiny, args.quick) {
        (true, _) => Scale::tiny(),
        (_, true) => Scale::quick(),
        _ => Scale::full(),
    };
    let rounds = args.repeat.unwrap_or(scale.repeat).max(1);
    let stage = Stage::new(&args.work, "image", scale.device, args.plain)?;
    let written = OnceCell::new();
    let missing = missing(args, &stage);
    let (mut results, mut failed) = (Results::default(), Vec::new());
    for workload in &chosen {
        let start = Instant::now();
        if chosen.len() > 1 {
            hand::measure(args, workload, &mut results, &mut failed)?;
            continue;
        }
        let few = if workload.once { 1 } else { rounds };
        for round in 0..few {
            let (stage, written) = (&stage, &written);
            let site = Site { stage, written, dir: &args.work, scale: &scale, round };
            sides(&site, workload, &missing, &mut results, &mut failed);
        }
        print!("{}", report::print(workload, &results));
        println!("[{}: {:.0} s]", workload.name, start.elapsed().as_secs_f64());
    }
    if let Some(file) = &args.results {
        return hand::leave(file, &results, &failed);
    }
    let run = format!("{}, {rounds} rounds (large map and ageing: 1)", scale.name);
    let machine = machine::describe(&args.work, args.commit.as_deref(), stage.is_device());
    let failures = failed.len();
    let mut all = Circumstances { machine, run, missing, failed, plots: Vec::new() };
    if let Some(path) = &args.section {
        std::fs::write(path, report::apart(&results, &all))?;
    }
    if let Some(docs) = &args.docs {
        write(args, docs, &chosen, &results, &mut all)?;
    }
    if failures > 0 {
        return fail(format!("{failures} measurements failed; see above"));
    }
    Ok(())
}

/// The sides that cannot be measured, and why; said by the first process alone.
fn missing(args: &Args, stage: &Stage) -> Vec<(Side, String)> {
    let mut missing = Vec::new();
    for side in Side::ALL {
        let left_out = !args.side.is_empty() && !args.side.iter().any(|s| s == side.option());
        let why = left_out.then(|| "left out by --side".to_owned());
        if let Some(why) = why.or_else(|| stage.why_not(side)) {
            if args.results.is_none() {
                println!("{}: not measured here: {why}", side.name());
            }
            missing.push((side, why));
        }
    }
    missing
}

/// The sides of one round, one after the other.
fn sides(
    site: &Site<'_>,
    workload: &Workload,
    missing: &[(Side, String)],
    results: &mut Results,
    failed: &mut Vec<(&'static str, Side, String)>,
) {
    for side in Side::ALL {
        if !workload.sides.contains(&side) || missing.iter().any(|(s, _)| *s == side) {
            continue;
        }
        if let Err(e) = (workload.run)(site, side, results) {
            eprintln!("{}, {}: not measured here: {e}", workload.name, side.name());
            failed.push((workload.name, side, e.to_string()));
        }
    }
}

fn choose(only: &[String]) -> Outcome<Vec<&'static Workload>> {
    if let Some(unknown) = only.iter().find(|o| !ALL.iter().any(|w| w.name == o.as_str())) {
        let names: Vec<&str> = ALL.iter().map(|w| w.name).collect();
        return fail(format!("no workload is called {unknown}; there are {}", names.join(", ")));
    }
    let wanted = |w: &&Workload| match only {
        [] => !w.asked_for,
        only => only.iter().any(|o| o == w.name),
    };
    Ok(ALL.iter().filter(wanted).collect())
}

fn write(
    args: &Args,
    docs: &Path,
    chosen: &[&Workload],
    results: &Results,
    all: &mut Circumstances,
) -> Outcome {
    // A section's own figures must not give way to gaps, which only the head could explain.
    if args.update.is_some() && !all.failed.is_empty() {
        return fail("not all was measured, see above: the document is as it was");
    }
    all.plots = plots::write(results, &docs.join("plots"))?;
    let text = match &args.update {
        Some(day) => earlier::update(docs, chosen, results, all, day)?,
        None => {
            let before = std::fs::read_to_string(docs.join("benchmarks.md")).unwrap_or_default();
            report::document(results, all) + earlier::kept(&before)
        }
    };
    earlier::put(docs, &text)
}
