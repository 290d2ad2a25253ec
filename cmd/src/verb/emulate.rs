//! `freehold emulate`: an NVMe controller over vfio-user, in a process of its own.

use crate::failure::{Failure, Outcome};
use crate::{output, size};
use freehold_engine::emulator::{
    Backing, CmbOptions, Emulator, Ended, Fault, Options, Profile, RegionOptions, stop_on_signals,
};
use std::path::PathBuf;

/// Serve an emulated NVMe controller over vfio-user, until it is interrupted.
///
/// Clients reach it as vfio-user:SOCKET (ours; others name the socket in their own
/// way), one after another. What they wrote stays for the next one; SIGINT and SIGTERM
/// flush it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where clients connect: a Unix socket, made and removed
    #[arg(long)]
    socket: PathBuf,
    /// Bytes of a namespace; give it again for another one
    #[arg(long, required = true, value_parser = size::parse)]
    size: Vec<u64>,
    /// Keep the namespaces in this file, one behind another (default: in memory)
    #[arg(long, value_name = "FILE", conflicts_with = "null")]
    backing: Option<PathBuf>,
    /// Bytes of a logical block
    #[arg(long, default_value = "512", value_parser = ["512", "4096"])]
    lba: String,
    /// I/O queue pairs (default: what the profile has)
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=511))]
    queues: Option<u16>,
    /// Move no data and complete at once, to measure everything else
    #[arg(long)]
    null: bool,
    /// Keep unflushed writes in this process alone: kill -9 loses, tears and reorders them
    #[arg(long, conflicts_with = "null")]
    volatile_cache: bool,
    /// Bytes that also a kill keeps or loses as one, up to 4K (default: a logical block)
    #[arg(long, value_parser = size::parse, requires = "volatile_cache")]
    atomic: Option<u64>,
    /// Whose answers to give
    #[arg(long, value_enum, default_value = "freehold")]
    profile: Like,
    /// Offer no shadow doorbells
    #[arg(long)]
    no_shadow_doorbells: bool,
    /// A Controller Memory Buffer of SIZE bytes (a power of two); with =ATTRIBUTES (sqs, cqs,
    /// lists, rds, wds, none, joined by +) for what may lie in it (default: all but cqs)
    #[arg(long, value_name = "SIZE[=ATTRIBUTES]", value_parser = cmb)]
    cmb: Option<CmbOptions>,
    /// A Persistent Memory Region of that many bytes (a power of two), kept in FILE; opened as
    /// pmr:vfio-user:SOCKET
    #[arg(long, value_name = "FILE:SIZE", value_parser = region)]
    pmr: Option<RegionOptions>,
    /// What shall go wrong, as KIND:KEY=VALUE,...; give it again for more
    #[arg(long, value_name = "SPEC", long_help = FAULTS)]
    fault: Vec<Fault>,
    /// Seed of the cache's and the faults' chances
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Parses SIZE or SIZE=ATTRIBUTES.
fn cmb(text: &str) -> Result<CmbOptions, String> {
    let (bytes, attributes) = match text.split_once('=') {
        Some((bytes, attributes)) => (bytes, Some(attributes)),
        None => (text, None),
    };
    let mut cmb = CmbOptions::new(size::parse(bytes)?);
    let Some(attributes) = attributes else { return Ok(cmb) };
    cmb = CmbOptions { sqs: false, cqs: false, lists: false, rds: false, wds: false, ..cmb };
    for name in attributes.split('+') {
        match name {
            "sqs" => cmb.sqs = true,
            "cqs" => cmb.cqs = true,
            "lists" => cmb.lists = true,
            "rds" => cmb.rds = true,
            "wds" => cmb.wds = true,
            "none" => {}
            other => {
                let known = "sqs, cqs, lists, rds, wds or none";
                return Err(format!("there is no attribute '{other}': give {known}"));
            }
        }
    }
    Ok(cmb)
}

/// Parses FILE:SIZE; the file's name may have colons.
fn region(text: &str) -> Result<RegionOptions, String> {
    match text.rsplit_once(':') {
        Some((file, bytes)) if !file.is_empty() => {
            Ok(RegionOptions::new(file, size::parse(bytes)?))
        }
        _ => Err("give FILE:SIZE, as in /tmp/pmr:16M".to_owned()),
    }
}

/// Whose answers an emulator gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Like {
    /// Its own: everything that is built
    Freehold,
    /// QEMU 7.2's controller
    Qemu,
    /// SPDK's vfio-user target
    Spdk,
}

const FAULTS: &str = "\
What shall go wrong, as KIND:KEY=VALUE,...; give it again for more.

Kinds: drop (never completed), delay (ms=N), duplicate (completed twice),
corrupt (what=cid|phase|head|queue), status (sct=N,sc=N,dnr=1), fatal (CSTS.CFS),
vanish (how=close|exit), region (err=N,health=N: PMRSTS after a barrier).

Of the commands of op=io|read|write|flush|zeroes|compare|deallocate|copy|admin
(default io), or for region and vanish of op=barrier, it strikes all, or the nth=N, every=N, those after=N others, or one in
chance=N; count=N times at most.

For example: --fault delay:ms=50,op=read,nth=7 --fault fatal:after=1000";

pub(crate) fn run(args: &Args) -> Outcome {
    let stop = stop_on_signals().map_err(Failure::usage)?;
    let mut emulator = Emulator::new(&options(args)).map_err(Failure::usage)?;
    let socket = emulator.socket().display().to_string();
    output::line(format!("serving on {socket}; open it as vfio-user:{socket}"))?;
    match emulator.serve(stop).map_err(Failure::new)? {
        Ended::Stopped => Ok(()),
        Ended::Vanished => Err(Failure::new("a fault ended the emulator, as it was asked to")),
    }
}

fn options(args: &Args) -> Options {
    let first = args.size.first().copied().unwrap_or(0);
    let mut options = Options::new(&args.socket, first);
    options.namespaces.clone_from(&args.size);
    options.lba = if args.lba == "4096" { 4096 } else { 512 };
    options.queues = args.queues;
    options.backing = match &args.backing {
        Some(path) => Backing::File(path.clone()),
        None if args.null => Backing::Null,
        None => Backing::Memory,
    };
    options.volatile_cache = args.volatile_cache;
    options.atomic = args.atomic.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX));
    options.profile = match args.profile {
        Like::Freehold => Profile::Freehold,
        Like::Qemu => Profile::Qemu,
        Like::Spdk => Profile::Spdk,
    };
    options.shadow_doorbells = !args.no_shadow_doorbells;
    options.region.clone_from(&args.pmr);
    options.cmb = args.cmb;
    options.faults.clone_from(&args.fault);
    options.seed = args.seed;
    options
}
