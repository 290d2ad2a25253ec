//! `freehold ls`: names by prefix, in byte order.

use super::open_to_read;
use crate::failure::{Failure, Outcome};
use crate::{name, output, size, table};
use freehold::{FileStat, ListEntry, Store};
use serde_json::{Map, Value};
use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;

/// List files.
///
/// Names are flat: `/` is an ordinary character, and all names that begin with
/// the prefix are listed. With a delimiter, names that go on past it are
/// listed once, as their common beginning, the way object stores do.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// Only names that begin so
    #[arg(default_value = "")]
    prefix: OsString,
    /// Show sizes and allocation too
    #[arg(short, long)]
    long: bool,
    /// List what goes on past this character once (usually /)
    #[arg(short, long, value_name = "CHAR", value_parser = delimiter)]
    delimiter: Option<u8>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Names fetched at a time.
const PAGE: usize = 1000;

fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err("a delimiter is one ASCII character, such as /".to_string()),
    }
}

pub(crate) fn run(args: &Args) -> Outcome {
    let store = open_to_read(&args.uri)?;
    if args.json {
        let mut all = Vec::new();
        each(&store, args, |entry| {
            all.push(to_json(&store, entry)?);
            Ok(())
        })?;
        return output::json(&Value::from(all));
    }
    if args.long {
        return long(&store, args);
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    // Exact bytes for programs, harmless ones for people.
    let people = std::io::stdout().is_terminal();
    each(&store, args, |entry| {
        let (ListEntry::File { name, .. } | ListEntry::Prefix(name)) = entry;
        let line = if people { name::show(name).into_bytes() } else { name.clone() };
        out.write_all(&line).and_then(|()| out.write_all(b"\n")).map_err(|e| output::lost(&e))
    })?;
    out.flush().map_err(|error| output::lost(&error))
}

fn long(store: &Store, args: &Args) -> Outcome {
    let mut rows = table::new(&[">size", ">allocated", ">shared", ">extents", "name"]);
    let none = || "-".to_string();
    each(store, args, |entry| {
        match entry {
            ListEntry::Prefix(prefix) => {
                rows.add_row([none(), none(), none(), none(), name::show(prefix)]);
            }
            ListEntry::File { name, .. } => {
                let stat = full_stat(store, name)?;
                rows.add_row([
                    stat.size.to_string(),
                    size::show(stat.allocated),
                    size::show(stat.shared),
                    stat.extents.to_string(),
                    name::show(name),
                ]);
            }
        }
        Ok(())
    })?;
    table::print(&rows)
}

/// Calls `tell` for every entry, a page at a time.
fn each(store: &Store, args: &Args, mut tell: impl FnMut(&ListEntry) -> Outcome) -> Outcome {
    let prefix = args.prefix.as_bytes();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.list(prefix, args.delimiter, after.as_deref(), PAGE)?;
        for entry in &page.entries {
            tell(entry)?;
        }
        match page.entries.into_iter().next_back() {
            Some(ListEntry::File { name, .. } | ListEntry::Prefix(name)) if page.more => {
                after = Some(name);
            }
            _ => return Ok(()),
        }
    }
}

/// A file's figures, with how much of it is shared, which a listing leaves out.
fn full_stat(store: &Store, name: &[u8]) -> Outcome<FileStat> {
    let file = store.open_file(name)?;
    file.stat().map_err(|error| Failure::from(error).during(name::show(name)))
}

fn to_json(store: &Store, entry: &ListEntry) -> Outcome<Value> {
    let mut object = Map::new();
    match entry {
        ListEntry::Prefix(prefix) => name::put_json(&mut object, "prefix", prefix),
        ListEntry::File { name, .. } => {
            stat_json(&mut object, name, &full_stat(store, name)?);
        }
    }
    Ok(Value::from(object))
}

/// The fields that `ls` and `stat` give.
pub(super) fn stat_json(object: &mut Map<String, Value>, name: &[u8], stat: &FileStat) {
    name::put_json(object, "name", name);
    object.insert("size".into(), stat.size.into());
    object.insert("allocated".into(), stat.allocated.into());
    object.insert("shared".into(), stat.shared.into());
    object.insert("extents".into(), stat.extents.into());
}
