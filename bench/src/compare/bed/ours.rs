//! Freehold's side.

use super::{BLOCK, Bed, PIECE, Target, WRITER_BLOCKS, Writer};
use crate::outcome::{Outcome, fail};
use crate::stage::{Counters, Stage};
use freehold::{Buffer, Completion, ErrorKind, File, Queue, Store};
use std::sync::Mutex;

/// A store on the stage.
pub(crate) struct Ours<'a> {
    stage: &'a Stage,
    pub(crate) store: Store,
    /// For what is read and written in sequence.
    serial: Mutex<Option<(Queue, Buffer)>>,
}

impl<'a> Ours<'a> {
    /// An empty one.
    pub(crate) fn new(stage: &'a Stage) -> Outcome<Self> {
        Ok(Ours { stage, store: stage.store()?, serial: Mutex::new(None) })
    }

    /// One operation after the other, a piece each.
    fn serial(&self, write: bool, name: &str, offset: u64, len: u64) -> Outcome {
        let file = self.file(name)?;
        let Ok(mut kept) = self.serial.lock() else { return fail("a thread panicked") };
        let (mut queue, mut buf) = match kept.take() {
            Some(both) => both,
            None => {
                let queue = self.store.queue(1)?;
                let buf = queue.buffer(PIECE)?;
                (queue, buf)
            }
        };
        let (mut at, mut done) = (0, Vec::new());
        while at < len {
            // The last piece may be shorter: the rest of the buffer comes back behind it.
            let n = (len - at).min(PIECE as u64);
            let rest = (n < PIECE as u64).then(|| buf.split_off(n as usize));
            let taken = match write {
                true => queue.write(&file, offset + at, buf, 0),
                false => queue.read(&file, offset + at, buf, 0),
            };
            if let Err(refused) = taken {
                return refused
                    .error
                    .map_or_else(|| fail("an empty queue is full"), |e| Err(e.into()));
            }
            while queue.poll(&mut done) == 0 {
                queue.wait(None)?;
            }
            let Some(ended) = done.pop() else { return fail("nothing has ended") };
            ended.result?;
            let Some(back) = ended.buf else { return fail("a buffer was lost") };
            buf = back;
            if let Some(rest) = rest
                && buf.unsplit(rest).is_err()
            {
                return fail("a buffer was cut that does not join");
            }
            at += n;
        }
        *kept = Some((queue, buf));
        Ok(())
    }

    /// Opens a file, or makes it.
    pub(crate) fn file(&self, name: &str) -> Outcome<File> {
        Ok(match self.store.open_file(name.as_bytes()) {
            Err(e) if e.kind() == ErrorKind::NotFound => self.store.create(name.as_bytes())?,
            other => other?,
        })
    }
}

impl Bed for Ours<'_> {
    fn target(&self, name: &str, depth: u32) -> Outcome<Box<dyn Target>> {
        let queue = self.store.queue(depth)?;
        Ok(Box::new(OurTarget { queue, file: self.file(name)?, done: Vec::new() }))
    }

    fn put(&self, name: &str, offset: u64, len: u64) -> Outcome {
        self.serial(true, name, offset, len)
    }

    fn get(&self, name: &str, len: u64) -> Outcome {
        self.serial(false, name, 0, len)
    }

    fn many(&self, name: &str, extents: u64) -> Outcome {
        let file = self.file(name)?;
        freehold_bench::write_blocks(&self.store, &file, 64, extents.div_ceil(2), |i| 2 * i)?;
        file.allocate(0, extents * BLOCK)?;
        Ok(file.sync()?)
    }

    fn reflink(&self, from: &str, to: &str) -> Outcome {
        let copy = self.store.reflink(from.as_bytes(), to.as_bytes())?;
        Ok(copy.sync()?)
    }

    fn remove(&self, name: &str) -> Outcome {
        self.store.remove(name.as_bytes())?;
        Ok(self.store.sync()?)
    }

    fn truncate(&self, name: &str) -> Outcome {
        let file = self.file(name)?;
        file.truncate(0)?;
        Ok(file.sync()?)
    }

    fn settle(&self) -> Outcome {
        self.store.sync()?;
        Ok(self.store.checkpoint()?)
    }

    fn free(&self) -> Outcome<u64> {
        Ok(self.store.space().free)
    }

    fn writer(&self, number: u64, append: bool) -> Outcome<Box<dyn Writer>> {
        let name = format!("{}-{number}", if append { "log" } else { "table" });
        let file = self.store.create(name.as_bytes())?;
        if !append {
            self.put(&name, 0, WRITER_BLOCKS * BLOCK)?;
        }
        file.sync()?;
        Ok(Box::new(OurWriter { file, block: vec![9; BLOCK as usize] }))
    }

    fn counters(&self) -> Option<Counters> {
        let s = self.store.stats();
        let ours = Counters { writes: s.device_writes, flushes: s.device_flushes };
        self.stage.counters().or(Some(ours))
    }
}

struct OurTarget {
    queue: Queue,
    file: File,
    done: Vec<Completion>,
}

impl Target for OurTarget {
    fn buffer(&self, len: usize) -> Outcome<Buffer> {
        Ok(self.queue.buffer(len)?)
    }

    fn submit(&mut self, write: bool, block: u64, buf: Buffer) -> Outcome<Option<Buffer>> {
        let taken = match write {
            true => self.queue.write(&self.file, block * BLOCK, buf, 0),
            false => self.queue.read(&self.file, block * BLOCK, buf, 0),
        };
        match taken {
            Ok(()) => Ok(None),
            Err(refused) => match refused.error {
                Some(e) => Err(e.into()),
                None => Ok(refused.buf),
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

struct OurWriter {
    file: File,
    block: Vec<u8>,
}

impl Writer for OurWriter {
    fn write(&mut self, block: u64) -> Outcome {
        Ok(self.file.write_durable_at(&self.block, block * BLOCK)?)
    }
}
