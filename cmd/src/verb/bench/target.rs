//! The store that is measured: one that exists, or one made for the purpose.

use super::{Args, Workload};
use crate::failure::{Failure, Outcome};
use crate::janitor::Janitor;
use crate::pattern;
use crate::verb::work::BLOCK;
use freehold::{ErrorKind, File, FormatOptions, OpenOptions, Store};
use freehold_engine::uri;
use std::cell::RefCell;
use std::path::PathBuf;

/// Size of a thread's file, unless the store is small.
const FILE_SIZE: u64 = 256 << 20;

/// What a store needs besides data: journal, metadata, reserve.
const OVERHEAD: u64 = 256 << 20;

/// An open store, and the names of the files that are removed in the end.
pub(super) struct Target {
    store: Store,
    names: RefCell<Vec<Vec<u8>>>,
    tag: u64,
    file_size: u64,
    /// Of a store made for the purpose nothing is kept.
    temporary: bool,
    _janitor: Option<Janitor>,
}

impl Target {
    pub(super) fn open(args: &Args) -> Outcome<Target> {
        let uri = &args.uri;
        let open = |error| Failure::open(uri, &error);
        let mut janitor = None;
        let mut temporary = true;
        let store = if uri.starts_with("mem:") {
            Store::format(uri, &FormatOptions::default()).map_err(open)?
        } else {
            match Store::open(uri, &OpenOptions::default()) {
                Ok(store) => {
                    temporary = false;
                    store
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let path = path(uri).ok_or_else(|| open(error))?;
                    janitor.insert(Janitor::start()?).file(&path)?;
                    let options =
                        FormatOptions { size: Some(wanted(args)), ..FormatOptions::default() };
                    Store::format(uri, &options).map_err(open)?
                }
                Err(error) => return Err(open(error)),
            }
        };
        let each = store.space().free / u64::from(args.threads) / 2;
        let room = each / BLOCK.max(args.bs) * BLOCK.max(args.bs);
        let file_size = args.file_size.unwrap_or(FILE_SIZE.min(room)) / args.bs * args.bs;
        if file_size < args.bs {
            return Err(Failure::usage(
                "the file would be smaller than one operation: give a larger store, \
                 a larger --file-size or a smaller --bs",
            ));
        }
        let tag = pattern::fresh_seed();
        let names = RefCell::default();
        Ok(Target { store, names, tag, file_size, temporary, _janitor: janitor })
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Bytes of each thread's file.
    pub(super) fn file_size(&self) -> u64 {
        self.file_size
    }

    /// A name that no file has; its file is removed in the end.
    pub(super) fn name(&self, what: &str) -> Vec<u8> {
        let name = format!(".freehold-bench-{:016x}-{what}", self.tag).into_bytes();
        self.names.borrow_mut().push(name.clone());
        name
    }

    /// A new file.
    pub(super) fn create(&self, what: &str) -> Outcome<File> {
        Ok(self.store.create(&self.name(what))?)
    }

    /// A new file of [`Target::file_size`] written bytes.
    pub(super) fn create_full(&self, what: &str, seed: u64) -> Outcome<File> {
        let file = self.create(what)?;
        let mut buf = vec![0; (1 << 20).min(self.file_size as usize)];
        pattern::page(seed, 0, &mut buf);
        let mut at = 0;
        while at < self.file_size {
            let n = (buf.len() as u64).min(self.file_size - at);
            file.write_at(&buf[..n as usize], at)?;
            at += n;
        }
        file.sync()?;
        Ok(file)
    }

    /// Removes the files, closes the store, and removes it if it was made here.
    pub(super) fn close(self) -> Outcome {
        if self.temporary {
            return Ok(());
        }
        for name in self.names.into_inner() {
            match self.store.remove(&name) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(self.store.close()?)
    }
}

/// How large a store this benchmark wants.
fn wanted(args: &Args) -> u64 {
    let data = match args.workload {
        // Blocks, their names in the map, and the maps of copies.
        Workload::Lookup | Workload::Reflink => args.extents.saturating_mul(2 * BLOCK),
        _ => args.file_size.unwrap_or(FILE_SIZE).saturating_mul(2 * u64::from(args.threads)),
    };
    data.saturating_add(OVERHEAD).next_multiple_of(1 << 20)
}

/// The path in a URI that names a file.
fn path(uri: &str) -> Option<PathBuf> {
    match uri::Uri::parse(uri).ok()?.target {
        uri::Target::File { path } => Some(path),
        _ => None,
    }
}
