//! Reads, writes and durable writes by offset.

use super::polled::{Refusal, Work};
use super::{Args, Target, Workload};
use crate::failure::Outcome;
use crate::pattern::Rng;
use freehold::{Buffer, Completion, File, Queue};

/// One thread's file, and where its next operation goes.
pub(super) struct Plain {
    workload: Workload,
    file: File,
    rng: Rng,
    /// Operations that fit in the file.
    places: u64,
    bs: u64,
    /// The next append's place.
    end: u64,
}

impl Plain {
    pub(super) fn new(args: &Args, target: &Target, number: u32) -> Outcome<Plain> {
        let name = format!("file-{number}");
        let seed = args.seed.wrapping_add(u64::from(number));
        let file = match args.workload {
            Workload::Append => target.create(&name)?,
            _ => target.create_full(&name, seed)?,
        };
        let (places, bs) = (target.file_size() / args.bs, args.bs);
        Ok(Plain { workload: args.workload, file, rng: Rng::new(seed), places, bs, end: 0 })
    }
}

impl Work for Plain {
    type Buffer = Buffer;

    fn buffer(&mut self, queue: &Queue) -> Outcome<Buffer> {
        let mut buf = queue.buffer(self.bs as usize)?;
        self.rng.fill(&mut buf);
        Ok(buf)
    }

    fn is_full(&self) -> bool {
        self.workload == Workload::Append && self.end == self.places
    }

    fn restart(&mut self) -> Outcome {
        self.end = 0;
        Ok(self.file.truncate(0)?)
    }

    fn submit(&mut self, queue: &mut Queue, buf: Buffer, tag: u64) -> Result<(), Refusal<Buffer>> {
        let append = self.workload == Workload::Append;
        let place = if append { self.end } else { self.rng.below(self.places) };
        let offset = place * self.bs;
        let taken = match self.workload {
            Workload::Randread => queue.read(&self.file, offset, buf, tag),
            Workload::Append | Workload::OverwriteSync => {
                queue.write_durable(&self.file, offset, buf, tag)
            }
            _ => queue.write(&self.file, offset, buf, tag),
        };
        self.end += u64::from(append && taken.is_ok());
        taken.map_err(|refused| (refused.buf, refused.error))
    }

    fn back(completion: Completion) -> Option<Buffer> {
        completion.buf
    }
}
