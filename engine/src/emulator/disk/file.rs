//! Bytes in a file, by calls that return errors: a file that somebody truncates or
//! that meets a bad sector answers with a status and never with a signal.

use super::syncer::{Syncer, Ticket};
use super::{Done, Trouble};
use crate::medium::{Error, ErrorKind, Result};
use rustix::fs::{FallocateFlags, FlockOperation, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Bytes that are zeroed by one write where the file system has no better way.
const ZEROES: &[u8] = &[0; 64 << 10];

/// Runs of data that are looked at to say how much of a range takes space.
const MOST_RUNS: usize = 4096;

/// A sparse file of a fixed size, which one emulator has at a time.
#[derive(Debug)]
pub(super) struct BackingFile {
    /// Before the file: it is at rest when that is closed.
    syncer: Syncer,
    file: Arc<File>,
    identity: (u64, u64),
}

fn failed(path: &Path, what: &str, error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => ErrorKind::NotFound,
        std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
        std::io::ErrorKind::StorageFull => ErrorKind::NoSpace,
        std::io::ErrorKind::IsADirectory => ErrorKind::Invalid,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("cannot {what} the backing file {}: {error}", path.display()))
}

impl BackingFile {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// What the system refuses; `Busy` when another emulator has it; `Invalid` for
    /// another size than `len` or for what is no regular file.
    pub(super) fn open(path: &Path, len: u64) -> Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).map_err(|e| failed(path, "open", &e))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            let name = path.display();
            Error::new(ErrorKind::Busy, format!("{name} is in use: end the emulator that has it"))
        })?;
        let look = || file.metadata().map_err(|e| failed(path, "look at", &e));
        let meta = look()?;
        let bad = |what: String| Err(Error::new(ErrorKind::Invalid, what));
        if !meta.is_file() {
            return bad(format!("{} is no regular file: name a file", path.display()));
        }
        match meta.len() {
            0 => file.set_len(len).map_err(|e| failed(path, "set the size of", &e))?,
            have if have != len => {
                return bad(format!(
                    "{} has {have} bytes and the namespaces take {len}: give the sizes that \
                     it was made with, or name another file",
                    path.display()
                ));
            }
            _ => {}
        }
        // Some files take a size and keep their own.
        if look()?.len() != len {
            return bad(format!("{} does not keep a size: name another file", path.display()));
        }
        let file = Arc::new(file);
        Ok(Self { syncer: Syncer::new(file.clone()), file, identity: (meta.dev(), meta.ino()) })
    }

    pub(super) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    pub(super) fn read(&self, at: u64, to: &mut [u8]) -> Done {
        self.file.read_exact_at(to, at).map_err(|_| Trouble::Unreadable)
    }

    pub(super) fn write(&self, at: u64, from: &[u8]) -> Done {
        self.file.write_all_at(from, at).map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Trouble::NoSpace,
            _ => Trouble::Unwritten,
        })
    }

    /// Zeroes by the file system's own means, else by writing.
    pub(super) fn zero(&self, at: u64, len: u64, deallocate: bool) -> Done {
        if len == 0 {
            return Ok(());
        }
        let how = if deallocate { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
        match rustix::fs::fallocate(&*self.file, how | FallocateFlags::KEEP_SIZE, at, len) {
            Ok(()) => Ok(()),
            Err(Errno::NOSPC | Errno::DQUOT) => Err(Trouble::NoSpace),
            Err(_) => {
                let step = ZEROES.len() as u64;
                (0..len.div_ceil(step)).try_for_each(|i| {
                    let count = step.min(len - i * step);
                    self.write(at + i * step, &ZEROES[..count as usize])
                })
            }
        }
    }

    /// Waits until all that was written is durable.
    pub(super) fn sync(&self) -> Done {
        self.syncer.now()
    }

    /// Begins to make it durable; None where it has to be waited for.
    pub(super) fn begin_sync(&mut self) -> Option<Ticket> {
        self.syncer.begin()
    }

    /// What came of that, once it has ended.
    pub(super) fn synced(&self, flush: Ticket) -> Option<Done> {
        self.syncer.ended(flush)
    }

    /// Whether any sync has failed.
    pub(super) fn is_broken(&self) -> bool {
        self.syncer.has_failed()
    }

    /// Bytes of a range that the file system has space for. What lies behind the
    /// first runs of a very scattered file counts as taken.
    pub(super) fn allocated(&self, at: u64, len: u64) -> u64 {
        let end = at + len;
        let (mut from, mut taken) = (at, 0);
        for _ in 0..MOST_RUNS {
            let data = match rustix::fs::seek(&*self.file, SeekFrom::Data(from)) {
                Ok(data) if data < end => data.max(from),
                Ok(_) | Err(Errno::NXIO) => return taken,
                Err(_) => return len,
            };
            let hole = rustix::fs::seek(&*self.file, SeekFrom::Hole(data)).unwrap_or(end).min(end);
            taken += hole.saturating_sub(data);
            from = hole;
            if from >= end {
                return taken;
            }
        }
        taken + (end - from)
    }
}

impl Drop for BackingFile {
    fn drop(&mut self) {
        // Closing would not do it while a child between its fork and its exec has the
        // descriptor, too.
        let _ = rustix::fs::flock(&*self.file, FlockOperation::Unlock);
    }
}
