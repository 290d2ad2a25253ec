//! The verbs, one file each, and what they have in common.

pub(crate) mod allocate;
pub(crate) mod bench;
pub(crate) mod bind;
pub(crate) mod cat;
pub(crate) mod check;
pub(crate) mod collapse;
pub(crate) mod completions;
pub(crate) mod defrag;
pub(crate) mod demo;
pub(crate) mod df;
pub(crate) mod diff;
mod discard;
pub(crate) mod doctor;
pub(crate) mod emulate;
pub(crate) mod format;
pub(crate) mod get;
pub(crate) mod info;
pub(crate) mod insert;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod map;
pub(crate) mod mv;
pub(crate) mod punch;
pub(crate) mod put;
pub(crate) mod reflink;
pub(crate) mod rm;
pub(crate) mod stat;
pub(crate) mod stats;
pub(crate) mod truncate;
mod work;
pub(crate) mod zero;

use crate::cli::Verb;
use crate::failure::{Failure, Outcome};
use crate::{name, size};
use freehold::{File, OpenOptions, Store};
use std::ffi::OsString;

/// Bytes that a copy moves at a time.
const CHUNK: usize = 4 << 20;

// What the verbs take that change a range of a file. (No documentation comment: the
// parser would show it in place of the verb's own.)
#[derive(Debug, clap::Args)]
pub(crate) struct FileRange {
    /// The store
    uri: String,
    /// The file
    name: OsString,
    /// First byte
    #[arg(value_parser = size::parse)]
    offset: u64,
    /// How many bytes
    #[arg(value_parser = size::parse)]
    length: u64,
}

impl FileRange {
    fn change(&self, how: impl FnOnce(&File, u64, u64) -> freehold::Result<()>) -> Outcome {
        let bytes = name::given(&self.name)?;
        change(&self.uri, |store| Ok(how(&store.open_file(bytes)?, self.offset, self.length)?))
    }
}

/// Does what the command line asks for.
pub(crate) fn run(verb: Verb) -> Outcome {
    match verb {
        Verb::Format(args) => format::run(&args),
        Verb::Info(args) => info::run(&args),
        Verb::Ls(args) => ls::run(&args),
        Verb::Put(args) => put::run(&args),
        Verb::Get(args) => get::run(&args),
        Verb::Cat(args) => cat::run(&args),
        Verb::Rm(args) => rm::run(&args),
        Verb::Mv(args) => mv::run(&args),
        Verb::Stat(args) => stat::run(&args),
        Verb::Map(args) => map::run(&args),
        Verb::Truncate(args) => truncate::run(&args),
        Verb::Punch(args) => punch::run(&args),
        Verb::Zero(args) => zero::run(&args),
        Verb::Collapse(args) => collapse::run(&args),
        Verb::Insert(args) => insert::run(&args),
        Verb::Allocate(args) => allocate::run(&args),
        Verb::Reflink(args) => reflink::run(&args),
        Verb::Defrag(args) => defrag::run(&args),
        Verb::Diff(args) => diff::run(&args),
        Verb::Check(args) => check::run(&args),
        Verb::Df(args) => df::run(&args),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Stats(args) => stats::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Emulate(args) => emulate::run(&args),
        Verb::Bind(args) => bind::run(&args),
        Verb::Unbind(args) => bind::back(&args),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man(args) => man::run(&args),
        Verb::DemoWriter(args) => demo::writer::run(&args),
        Verb::DemoDevice(args) => demo::device::serve(&args),
        Verb::Janitor => crate::janitor::run(),
    }
}

/// Opens a store to read it.
fn open_to_read(uri: &str) -> Outcome<Store> {
    open_within(uri, None)
}

/// Opens a store to read it, with so many bytes of memory for its maps.
fn open_within(uri: &str, cache_bytes: Option<u64>) -> Outcome<Store> {
    let options = OpenOptions { read_only: true, cache_bytes, ..OpenOptions::default() };
    Store::open(uri, &options).map_err(|error| Failure::open(uri, &error))
}

/// Opens a store to change it.
fn open_to_write(uri: &str) -> Outcome<Store> {
    Store::open(uri, &OpenOptions::default()).map_err(|error| Failure::open(uri, &error))
}

/// Opens a store, changes it, and closes it: durable when this returns.
///
/// The store is closed after a failure too, so that what was done before is
/// kept; the first failure is the one that is told.
fn change<T>(uri: &str, work: impl FnOnce(&Store) -> Outcome<T>) -> Outcome<T> {
    let store = open_to_write(uri)?;
    let result = work(&store);
    let closed = store.close();
    let value = result?;
    closed?;
    Ok(value)
}
