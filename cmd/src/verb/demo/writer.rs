//! The writer that gets killed: durable records in a log, each acknowledged
//! on standard output once it is durable, with other changes going on.

use super::DATABASE;
use crate::failure::{Failure, Outcome};
use crate::pattern::{self, Rng};
use crate::verb::open_to_write;
use freehold::{ErrorKind, File, Store};
use std::io::Write;

/// Writes records until it is killed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// What the records' bytes follow from
    #[arg(long)]
    seed: u64,
    /// Records that are in the log already
    #[arg(long)]
    records: u64,
}

/// The log, a reflink of it at some time, and files that come and go.
pub(super) const LOG: &[u8] = b"writer/log";
pub(super) const SNAPSHOT: &[u8] = b"writer/snapshot";
const NEW_SNAPSHOT: &[u8] = b"writer/snapshot.new";
const SCRATCH: &[u8] = b"writer/scratch";

/// Records that one writer adds at most, so that the log stays small.
const LIMIT: u64 = 8000;

/// Every so many records, a snapshot; more often, other changes.
const SNAPSHOT_EVERY: u64 = 32;
const SCRATCH_EVERY: u64 = 8;

/// The bytes of record `number`: magic, number, length, then random bytes.
/// A record can be recognised, and is known in advance.
pub(super) fn record(seed: u64, number: u64) -> Vec<u8> {
    let len = 64 + Rng::new(seed ^ !number).below(8000);
    let mut bytes = b"FHRECORD".to_vec();
    bytes.extend(number.to_le_bytes());
    bytes.extend(len.to_le_bytes());
    let head = bytes.len();
    bytes.resize(head + len as usize, 0);
    pattern::page(seed, number, &mut bytes[head..]);
    bytes
}

pub(crate) fn run(args: &Args) -> Outcome {
    // Without a parent there is nobody to kill us.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let store = open_to_write(&args.uri)?;
    let log = match store.open_file(LOG) {
        Err(error) if error.kind() == ErrorKind::NotFound => store.create(LOG)?,
        other => other?,
    };
    let mut end: u64 = (0..args.records).map(|n| record(args.seed, n).len() as u64).sum();
    // What follows was being written when the last writer died.
    log.truncate(end)?;
    let mut rng = Rng::new(args.seed ^ args.records);
    for number in args.records..args.records + LIMIT {
        let bytes = record(args.seed, number);
        log.write_at(&bytes, end)?;
        end += bytes.len() as u64;
        log.sync()?;
        acknowledge("record", number + 1)?;
        if number % SNAPSHOT_EVERY == 0 {
            snapshot(&store)?;
            acknowledge("snapshot", number + 1)?;
        }
        if number % SCRATCH_EVERY == 0 {
            scratch(&store, &mut rng)?;
        }
    }
    loop {
        scratch(&store, &mut rng)?;
        store.sync()?;
    }
}

fn acknowledge(what: &str, count: u64) -> Outcome {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{what} {count}").and_then(|()| out.flush()).map_err(Failure::new)
}

/// Replaces the snapshot by a reflink of the log, durably.
fn snapshot(store: &Store) -> Outcome {
    remove(store, NEW_SNAPSHOT)?;
    store.reflink(LOG, NEW_SNAPSHOT)?;
    store.rename(NEW_SNAPSHOT, SNAPSHOT)?;
    Ok(store.sync()?)
}

/// Changes that nobody waits for: a reflink of the database, overwrites and
/// punches in it, a truncate, a removal.
fn scratch(store: &Store, rng: &mut Rng) -> Outcome {
    remove(store, SCRATCH)?;
    let file: File = store.reflink(DATABASE, SCRATCH)?;
    let mut bytes = vec![0; 5000];
    for _ in 0..4 {
        rng.fill(&mut bytes);
        file.write_at(&bytes, rng.below(file.size()))?;
        file.punch(rng.below(file.size()), rng.below(100_000))?;
    }
    Ok(file.truncate(rng.below(file.size()))?)
}

fn remove(store: &Store, name: &[u8]) -> Outcome {
    match store.remove(name) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
