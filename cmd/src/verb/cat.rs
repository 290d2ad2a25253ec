//! `freehold cat`: a file to standard output.

use super::{CHUNK, open_to_read};
use crate::failure::{Failure, Outcome};
use crate::{name, output};
use freehold::File;
use std::ffi::OsString;
use std::io::{self, Write};

/// Write a file to standard output.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// The file
    name: OsString,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let bytes = name::given(&args.name)?;
    let store = open_to_read(&args.uri)?;
    to_stdout(&store.open_file(bytes)?)
}

/// Writes the whole file to standard output.
pub(super) fn to_stdout(file: &File) -> Outcome {
    to_writer(file, &mut std::io::stdout().lock(), |error| output::lost(&error))
}

/// Writes the whole file, its holes as zeroes. `fail` says what a failed write means.
pub(super) fn to_writer(
    file: &File,
    out: &mut impl Write,
    fail: impl Fn(io::Error) -> Failure,
) -> Outcome {
    let mut buf = vec![0; CHUNK.min(file.size().max(1) as usize)];
    let mut offset = 0;
    loop {
        let n = file
            .read_at(&mut buf, offset)
            .map_err(|e| Failure::from(e).during(format!("reading at byte {offset}")))?;
        if n == 0 {
            return out.flush().map_err(fail);
        }
        out.write_all(&buf[..n]).map_err(&fail)?;
        offset += n as u64;
    }
}
