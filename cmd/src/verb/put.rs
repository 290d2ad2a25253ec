//! `freehold put`: store a local file, whole or not at all.
//!
//! The bytes go to a file with a name of its own, which replaces the target
//! when all of it is durable. A `put` that is killed leaves such a file behind;
//! the next one removes it.

use super::{CHUNK, change};
use crate::failure::{Failure, Outcome};
use crate::{name, pattern, progress};
use freehold::{ErrorKind, File, ListEntry, Store};
use indicatif::ProgressBar;
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

/// Store a local file, replacing atomically.
///
/// Whoever opens the name finds the old bytes or all of the new ones. Holes
/// stay holes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The store
    uri: String,
    /// The local file, or - for standard input
    local: PathBuf,
    /// Its name in the store
    name: OsString,
}

/// Beginning of the names of files that are not yet whole; 16 hexadecimal digits follow.
const UNFINISHED: &[u8] = b".freehold-put-";

pub(crate) fn run(args: &Args) -> Outcome {
    let bytes = name::given(&args.name)?;
    let mut source = Source::open(&args.local)?;
    change(&args.uri, |store| {
        remove_leftovers(store)?;
        store_as(store, &mut source, bytes)
    })
}

/// Stores a local file under `name`, replacing atomically and durably.
pub(super) fn local(store: &Store, path: &Path, name: &[u8]) -> Outcome {
    store_as(store, &mut Source::open(path)?, name)
}

fn store_as(store: &Store, source: &mut Source, name: &[u8]) -> Outcome {
    let (unfinished, file) = create_unfinished(store)?;
    let copied = source.copy_to(&file).and_then(|()| Ok(file.sync()?));
    drop(file);
    let result = copied.and_then(|()| {
        store.rename(&unfinished, name)?;
        Ok(store.sync()?)
    });
    if result.is_err() {
        // The failure is told already; what stays is removed by the next put.
        let _ = store.remove(&unfinished);
    }
    result
}

fn create_unfinished(store: &Store) -> Outcome<(Vec<u8>, File)> {
    loop {
        let mut unfinished = UNFINISHED.to_vec();
        unfinished.extend(format!("{:016x}", pattern::fresh_seed()).bytes());
        match store.create(&unfinished) {
            Ok(file) => return Ok((unfinished, file)),
            Err(error) if error.kind() == ErrorKind::Exists => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes what earlier puts that were killed have left. Safe because this
/// process is the only one that has the store open.
fn remove_leftovers(store: &Store) -> Outcome {
    let page = store.list(UNFINISHED, None, None, 1000)?;
    for entry in page.entries {
        if let ListEntry::File { name, .. } = entry
            && name.len() == UNFINISHED.len() + 16
            && name[UNFINISHED.len()..].iter().all(u8::is_ascii_hexdigit)
        {
            store.remove(&name)?;
        }
    }
    Ok(())
}

/// Where the bytes come from.
struct Source {
    path: PathBuf,
    file: Option<std::fs::File>,
    /// The size, where it is known before reading.
    size: Option<u64>,
}

impl Source {
    fn open(path: &Path) -> Outcome<Source> {
        if path == Path::new("-") {
            return Ok(Source { path: "standard input".into(), file: None, size: None });
        }
        let fail = |error: std::io::Error| Failure::local(path, "cannot read", &error);
        let file = std::fs::File::open(path).map_err(fail)?;
        let meta = file.metadata().map_err(fail)?;
        if meta.is_dir() {
            return Err(Failure::new(format!(
                "{} is a directory: put takes a file",
                path.display()
            )));
        }
        let size = if meta.file_type().is_block_device() {
            Some(seek(&file, SeekFrom::End(0)).map_err(|e| fail(e.into()))?)
        } else {
            // Files made by the kernel (/proc) say 0 and have bytes all the same.
            Some(meta.len()).filter(|len| meta.is_file() && *len > 0)
        };
        Ok(Source { path: path.to_path_buf(), file: Some(file), size })
    }

    fn copy_to(&mut self, to: &File) -> Outcome {
        match (&self.file, self.size) {
            (Some(file), Some(size)) => self.copy_extents(file, size, to),
            (Some(file), None) => self.copy_stream(file, to),
            (None, _) => self.copy_stream(std::io::stdin().lock(), to),
        }
    }

    /// Copies what is not a hole.
    fn copy_extents(&self, from: &std::fs::File, size: u64, to: &File) -> Outcome {
        to.truncate(size)?;
        let bar = progress::bytes("put", size);
        let mut buf = vec![0; CHUNK.min(size as usize)];
        let mut at = 0;
        while at < size {
            let Some((start, end)) = self.data(from, at, size)? else { break };
            self.copy_range(from, start, end, to, &mut buf, &bar)?;
            at = end;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The next range at or after `at` that is not a hole.
    fn data(&self, from: &std::fs::File, at: u64, size: u64) -> Outcome<Option<(u64, u64)>> {
        let fail = |e: Errno| Failure::local(&self.path, "cannot read", &e.into());
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // A file system that knows no holes: all is data.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some((at, size))),
            Err(error) => return Err(fail(error)),
        };
        if start >= size {
            return Ok(None);
        }
        let end = seek(from, SeekFrom::Hole(start)).map_err(fail)?;
        Ok(Some((start, end.min(size))))
    }

    fn copy_range(
        &self,
        from: &std::fs::File,
        start: u64,
        end: u64,
        to: &File,
        buf: &mut [u8],
        bar: &ProgressBar,
    ) -> Outcome {
        let mut at = start;
        while at < end {
            let want = buf.len().min((end - at) as usize);
            let n = match from.read_at(&mut buf[..want], at) {
                Ok(0) => {
                    return Err(Failure::new(format!(
                        "{} became shorter while it was read: try again",
                        self.path.display()
                    )));
                }
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Failure::local(&self.path, "cannot read", &error)),
            };
            to.write_at(&buf[..n], at)?;
            at += n as u64;
            bar.set_position(at);
        }
        Ok(())
    }

    /// Copies until the end, wherever that is.
    fn copy_stream(&self, mut from: impl Read, to: &File) -> Outcome {
        let mut buf = vec![0; CHUNK];
        let mut at = 0;
        loop {
            let mut filled = 0;
            while filled < buf.len() {
                match from.read(&mut buf[filled..]) {
                    Ok(0) => break,
                    Ok(n) => filled += n,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(Failure::local(&self.path, "cannot read", &error)),
                }
            }
            if filled == 0 {
                return Ok(());
            }
            to.write_at(&buf[..filled], at)?;
            at += filled as u64;
        }
    }
}
