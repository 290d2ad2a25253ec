//! `freehold diff`: where two files of a store differ.

use super::{CHUNK, open_to_read};
use crate::failure::{Failure, Outcome};
use crate::{name, output, table};
use freehold::{DiffRange, File};
use serde_json::{Value, json};
use std::ffi::OsString;

/// Bytes that are compared, and told, together.
const BLOCK: usize = 4096;

/// Show where two files differ; exit with 1 if they do.
///
/// What reflinks share is passed over without reading it, so the cost is in the
/// differences. Where the files have different blocks their bytes are compared, block by
/// block.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// One file
    a: OsString,
    /// The other file
    b: OsString,
    /// Do not compare bytes: different blocks are a difference
    #[arg(long)]
    map_only: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let store = open_to_read(&args.uri)?;
    let a = store.open_file(name::given(&args.a)?)?;
    let b = store.open_file(name::given(&args.b)?)?;
    let mut ranges = a.diff(&b)?;
    if !args.map_only {
        ranges = unequal(&a, &b, &ranges)?;
    }
    if args.json {
        let ranges: Vec<Value> =
            ranges.iter().map(|r| json!({ "offset": r.offset, "length": r.len })).collect();
        output::json(&json!({ "same": ranges.is_empty(), "ranges": ranges }))?;
    } else if !ranges.is_empty() {
        let mut rows = table::new(&[">offset", ">length"]);
        for r in &ranges {
            rows.add_row([r.offset.to_string(), r.len.to_string()]);
        }
        table::print(&rows)?;
    }
    if ranges.is_empty() { Ok(()) } else { Err(Failure::Told) }
}

/// What of the ranges holds different bytes, in whole blocks.
fn unequal(a: &File, b: &File, ranges: &[DiffRange]) -> Outcome<Vec<DiffRange>> {
    let mut out: Vec<DiffRange> = Vec::new();
    let (mut x, mut y) = (vec![0; CHUNK], vec![0; CHUNK]);
    for range in ranges {
        let mut done = 0;
        while done < range.len {
            let (offset, n) = (range.offset + done, (range.len - done).min(CHUNK as u64) as usize);
            let (had, has) = (a.read_at(&mut x[..n], offset)?, b.read_at(&mut y[..n], offset)?);
            for at in (0..n).step_by(BLOCK) {
                let end = (at + BLOCK).min(n);
                if x[at..end.min(had).max(at)] != y[at..end.min(has).max(at)] {
                    put(&mut out, offset + at as u64, (end - at) as u64);
                }
            }
            done += n as u64;
        }
    }
    Ok(out)
}

fn put(out: &mut Vec<DiffRange>, offset: u64, len: u64) {
    match out.last_mut() {
        Some(last) if last.offset + last.len == offset => last.len += len,
        _ => out.push(DiffRange { offset, len }),
    }
}
