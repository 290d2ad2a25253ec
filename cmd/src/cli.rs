//! The command line: the list of verbs. What a verb takes stands with the verb.

use crate::verb::*;
use clap::{Parser, Subcommand};

/// Files on a storage device of your own: crash-safe, reflinked in constant time.
#[derive(Debug, Parser)]
#[command(name = "freehold", version, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

const AFTER: &str = "\
A store is named by a URI: file:PATH, or PATH alone (a regular file or a block device);
nvme:BDF (an NVMe controller that `bind` has taken from the kernel); vfio-user:SOCKET
(an NVMe controller that another process emulates, as `emulate` does); mem:SIZE (memory,
for bench). `doctor` says what each needs.
Sizes and offsets are in bytes, or with K, M, G, T.

Exit codes: 0 done and durable; 1 failed (check: there are findings; diff: they differ);
2 the command makes no sense, or the store cannot be opened.
FREEHOLD_LOG=debug shows what the library does.";

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make a store on a file or device
    Format(format::Args),
    /// Show what a store is and what it lies on
    Info(info::Args),
    /// List files
    Ls(ls::Args),
    /// Store a local file, replacing atomically
    Put(put::Args),
    /// Fetch a file to a local one, replacing atomically
    Get(get::Args),
    /// Write a file to standard output
    Cat(cat::Args),
    /// Remove files
    Rm(rm::Args),
    /// Rename a file, replacing atomically
    Mv(mv::Args),
    /// Show a file's size and allocation
    Stat(stat::Args),
    /// Show where a file's bytes lie
    Map(map::Args),
    /// Set a file's size
    Truncate(truncate::Args),
    /// Free a range of a file; it reads as zeroes
    Punch(punch::Args),
    /// Make a range of a file read as zeroes; it keeps its blocks
    Zero(zero::Args),
    /// Take a range out of a file; what lies behind it moves down
    Collapse(collapse::Args),
    /// Make room in a file: what lies behind moves up
    Insert(insert::Args),
    /// Allocate a range of a file, unshared
    Allocate(allocate::Args),
    /// Make a copy of a file that shares its blocks, in constant time
    Reflink(reflink::Args),
    /// Move a file's blocks together
    Defrag(defrag::Args),
    /// Show where two files differ
    Diff(diff::Args),
    /// Prove that a store is consistent; writes nothing
    Check(check::Args),
    /// Show how full a store is
    Df(df::Args),
    /// Find out what a medium needs and how to mend what is missing
    Doctor(doctor::Args),
    /// Show the store's counters since it was opened
    Stats(stats::Args),
    /// Measure a store
    Bench(bench::Args),
    /// Show, with every byte verified, what the store promises
    Demo(demo::Args),
    /// Serve an emulated NVMe controller over vfio-user
    Emulate(emulate::Args),
    /// Take an NVMe controller from the kernel's driver, for stores on nvme:BDF
    Bind(bind::Args),
    /// Give an NVMe controller back to the kernel's driver
    Unbind(bind::BackArgs),
    /// Write a shell's completions to standard output
    Completions(completions::Args),
    /// Write manual pages
    Man(man::Args),
    /// The writer that `demo` kills
    #[command(hide = true)]
    DemoWriter(demo::writer::Args),
    /// The device whose power `demo` cuts
    #[command(hide = true)]
    DemoDevice(demo::device::Args),
    /// Removes what its parent leaves behind
    #[command(hide = true)]
    Janitor,
}
