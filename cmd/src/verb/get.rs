//! `freehold get`: fetch a file, whole or not at all.

use super::{CHUNK, cat, open_to_read};
use crate::failure::{Failure, Outcome};
use crate::{name, progress};
use freehold::{File, IomapKind};
use std::ffi::OsString;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

mod replace;
use replace::Replacement;

/// Fetch a file to a local one, replacing atomically.
///
/// The local file is the old one or the whole new one, also after a failure
/// half way. Holes stay holes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// The file
    name: OsString,
    /// The local file, or - for standard output
    local: PathBuf,
}

/// How much of a map is asked for at a time.
const STRETCH: u64 = 1 << 30;

pub(crate) fn run(args: &Args) -> Outcome {
    let bytes = name::given(&args.name)?;
    let store = open_to_read(&args.uri)?;
    let file = store.open_file(bytes)?;
    if args.local == Path::new("-") {
        return cat::to_stdout(&file);
    }
    match std::fs::metadata(&args.local) {
        Ok(meta) if meta.is_dir() => Err(Failure::new(format!(
            "{} is a directory: name the file to write",
            args.local.display()
        ))),
        // A device or a pipe is written to, never replaced.
        Ok(meta) if !meta.is_file() => {
            let fail = |error| Failure::local(&args.local, "cannot write", &error);
            let mut out = std::fs::File::options().write(true).open(&args.local).map_err(fail)?;
            cat::to_writer(&file, &mut out, fail)
        }
        _ => replace(&file, &args.local),
    }
}

/// Fills a new file and puts it in the place of `local`.
fn replace(file: &File, local: &Path) -> Outcome {
    let fail = |error| Failure::local(local, "cannot write", &error);
    let new = Replacement::begin(local).map_err(fail)?;
    copy(file, new.file(), local)?;
    new.commit().map_err(fail)
}

/// Copies what is not a hole and sets the size.
fn copy(from: &File, to: &std::fs::File, local: &Path) -> Outcome {
    let fail = |error| Failure::local(local, "cannot write", &error);
    let size = from.size();
    to.set_len(size).map_err(fail)?;
    let bar = progress::bytes("get", size);
    let mut buf = vec![0; CHUNK.min(size as usize)];
    let mut stretch = 0;
    while stretch < size {
        let length = STRETCH.min(size - stretch);
        for extent in from.iomap(stretch, length)? {
            if extent.kind != IomapKind::Written {
                continue;
            }
            // An extent may begin before the stretch and end after it.
            let mut at = extent.offset.max(stretch);
            let end = extent.offset.saturating_add(extent.length).min(stretch + length);
            while at < end {
                let want = buf.len().min((end - at) as usize);
                let n = from
                    .read_at(&mut buf[..want], at)
                    .map_err(|e| Failure::from(e).during(format!("reading at byte {at}")))?;
                if n == 0 {
                    return Err(Failure::new(format!("the file ended early, at byte {at}")));
                }
                to.write_all_at(&buf[..n], at).map_err(fail)?;
                at += n as u64;
                bar.set_position(at);
            }
        }
        stretch += length;
    }
    bar.finish_and_clear();
    Ok(())
}
