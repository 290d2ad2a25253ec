//! Which stores this process has open: the same store twice is one store.

use crate::store::Inner;
use freehold_engine::uri::{Target, Uri};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

type Open = HashMap<String, Weak<Inner>>;

fn open() -> MutexGuard<'static, Open> {
    static OPEN: OnceLock<Mutex<Open>> = OnceLock::new();
    OPEN.get_or_init(Mutex::default).lock().unwrap_or_else(|e| e.into_inner())
}

/// The stores, held while one is being opened, so that two threads that open
/// the same one get the same one.
pub(crate) struct Registry(MutexGuard<'static, Open>);

impl Registry {
    pub(crate) fn lock() -> Self {
        let mut open = open();
        open.retain(|_, s| s.strong_count() > 0);
        Registry(open)
    }

    pub(crate) fn find(&self, key: &str) -> Option<Arc<Inner>> {
        self.0.get(key)?.upgrade()
    }

    pub(crate) fn put(&mut self, key: String, store: &Arc<Inner>) {
        self.0.insert(key, Arc::downgrade(store));
    }
}

/// What tells stores apart: the device and inode behind a path, whatever it is
/// called; none for media that are new each time they are opened.
pub(crate) fn key(uri: &str) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let meta = metadata(uri)?;
    Some(format!("{}:{}", meta.dev(), meta.ino()))
}

/// The length of the regular file that a URI names, if it has any.
pub(crate) fn length(uri: &str) -> Option<u64> {
    metadata(uri).filter(|m| m.is_file() && m.len() > 0).map(|m| m.len())
}

pub(crate) fn metadata(uri: &str) -> Option<std::fs::Metadata> {
    let parsed = Uri::parse(uri).ok()?;
    let (Target::File { path } | Target::Pmem { path, .. }) = parsed.target else { return None };
    std::fs::metadata(path).ok()
}
