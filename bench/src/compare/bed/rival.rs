//! XFS and btrfs: direct I/O by io_uring where many operations are in flight,
//! `O_DSYNC` where one is to be durable, FICLONE and fsync for reflinks.
//!
//! The engine's medium on an ordinary file is the io_uring queue: what we use
//! ourselves.

use super::{BLOCK, Bed, PIECE, Target, WRITER_BLOCKS, Writer};
use crate::outcome::{Outcome, fail};
use crate::results::Side;
use crate::stage::{Counters, Mount, Stage};
use freehold_engine::medium::{Completion, Medium, Op, Queue};
use freehold_engine::memory::{Buffer, Pool};
use freehold_engine::uri::encode;
use rustix::fs::{FallocateFlags, OFlags, fallocate, ioctl_ficlone};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file system on the stage.
pub(crate) struct Rival<'a> {
    stage: &'a Stage,
    mount: Mount,
    pool: Pool,
}

impl<'a> Rival<'a> {
    /// An empty one.
    pub(crate) fn new(stage: &'a Stage, side: Side) -> Outcome<Self> {
        Ok(Rival { stage, mount: stage.make(side)?, pool: Pool::new() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.path.join(name)
    }

    /// Makes the directory's own change durable.
    fn sync_names(&self) -> Outcome {
        Ok(File::open(&self.mount.path)?.sync_all()?)
    }
}

impl Bed for Rival<'_> {
    fn target(&self, name: &str, depth: u32) -> Outcome<Box<dyn Target>> {
        let uri = format!("file:{}", encode(self.path(name).as_os_str().as_bytes()));
        let medium = freehold_engine::open(&uri, &freehold_engine::OpenOptions::default())?;
        Ok(Box::new(MediumTarget::new(medium, depth)?))
    }

    fn put(&self, name: &str, offset: u64, len: u64) -> Outcome {
        let file = direct(&self.path(name), OFlags::empty())?;
        let mut piece = self.pool.take(PIECE)?;
        piece.fill(7);
        let mut at = 0;
        while at < len {
            let n = (len - at).min(PIECE as u64);
            file.write_all_at(&piece[..n as usize], offset + at)?;
            at += n;
        }
        Ok(())
    }

    fn get(&self, name: &str, len: u64) -> Outcome {
        let file = direct(&self.path(name), OFlags::empty())?;
        let mut piece = self.pool.take(PIECE)?;
        let mut at = 0;
        while at < len {
            let n = (len - at).min(PIECE as u64);
            file.read_exact_at(&mut piece[..n as usize], at)?;
            at += n;
        }
        Ok(())
    }

    fn many(&self, name: &str, extents: u64) -> Outcome {
        let file = File::options().read(true).write(true).create_new(true).open(self.path(name))?;
        // Without a size set ahead, a file system may allocate the holes along.
        file.set_len(extents * BLOCK)?;
        let block = vec![7; BLOCK as usize];
        for i in 0..extents.div_ceil(2) {
            file.write_all_at(&block, i * 2 * BLOCK)?;
        }
        file.sync_all()?;
        fallocate(&file, FallocateFlags::empty(), 0, extents * BLOCK)?;
        Ok(file.sync_all()?)
    }

    fn reflink(&self, from: &str, to: &str) -> Outcome {
        let from = File::open(self.path(from))?;
        let to = File::create_new(self.path(to))?;
        ioctl_ficlone(&to, &from)?;
        Ok(to.sync_all()?)
    }

    fn remove(&self, name: &str) -> Outcome {
        std::fs::remove_file(self.path(name))?;
        self.sync_names()
    }

    fn truncate(&self, name: &str) -> Outcome {
        let file = File::options().write(true).open(self.path(name))?;
        file.set_len(0)?;
        Ok(file.sync_all()?)
    }

    fn settle(&self) -> Outcome {
        Ok(rustix::fs::syncfs(&File::open(&self.mount.path)?)?)
    }

    fn free(&self) -> Outcome<u64> {
        let s = rustix::fs::statvfs(&self.mount.path)?;
        Ok(s.f_bfree * s.f_frsize)
    }

    fn writer(&self, number: u64, append: bool) -> Outcome<Box<dyn Writer>> {
        let name = format!("{}-{number}", if append { "log" } else { "table" });
        self.put(&name, 0, if append { 0 } else { WRITER_BLOCKS * BLOCK })?;
        self.settle()?;
        Ok(Box::new(SyncWriter::open(&self.path(&name), 0)?))
    }

    fn counters(&self) -> Option<Counters> {
        self.stage.counters()
    }
}

fn direct(path: &Path, more: OFlags) -> Outcome<File> {
    let flags = (OFlags::DIRECT | more).bits() as i32;
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).custom_flags(flags);
    Ok(options.open(path)?)
}

/// Operations in flight on an ordinary file or a device.
pub(super) struct MediumTarget {
    medium: Arc<dyn Medium>,
    queue: Box<dyn Queue>,
    done: Vec<Completion>,
}

impl MediumTarget {
    pub(super) fn new(medium: Arc<dyn Medium>, depth: u32) -> Outcome<Self> {
        let queue = medium.queue(depth)?;
        Ok(MediumTarget { medium, queue, done: Vec::new() })
    }
}

impl Target for MediumTarget {
    fn buffer(&self, len: usize) -> Outcome<Buffer> {
        Ok(self.medium.pool().take(len)?)
    }

    fn submit(&mut self, write: bool, block: u64, buf: Buffer) -> Outcome<Option<Buffer>> {
        let op = match write {
            true => Op::Write { at: block, buf, fua: false },
            false => Op::Read { at: block, buf },
        };
        match self.queue.submit(0, op) {
            Ok(()) => Ok(None),
            Err(rejected) => match (rejected.error, rejected.op) {
                (None, Op::Write { buf, .. } | Op::Read { buf, .. }) => Ok(Some(buf)),
                (Some(e), _) => Err(e.into()),
                (None, _) => fail("another operation came back"),
            },
        }
    }

    fn reap(&mut self, idle: &mut Vec<Buffer>) -> Outcome<u64> {
        while self.queue.poll(&mut self.done) == 0 {
            self.queue.wait(None)?;
        }
        let n = self.done.len() as u64;
        for c in self.done.drain(..) {
            c.result?;
            idle.extend(c.buf);
        }
        Ok(n)
    }
}

/// `pwrite` with `O_DSYNC` and `O_DIRECT`.
pub(super) struct SyncWriter {
    file: File,
    buf: Buffer,
    start: u64,
}

impl SyncWriter {
    /// Its blocks count from `start`.
    pub(super) fn open(path: &Path, start: u64) -> Outcome<Self> {
        let mut buf = Pool::new().take(BLOCK as usize)?;
        buf.fill(9);
        Ok(SyncWriter { file: direct(path, OFlags::DSYNC)?, buf, start })
    }
}

impl Writer for SyncWriter {
    fn write(&mut self, block: u64) -> Outcome {
        Ok(self.file.write_all_at(&self.buf, (self.start + block) * BLOCK)?)
    }
}
