//! What a completed operation does to the bytes, and what one in flight may do.

use super::cache::Origin;
use super::image::{Block, zero};
use super::state::{Flying, State};
use crate::medium::{BLOCK, Error, ErrorKind, Op, Result};
use std::sync::Arc;

/// Bytes that a read sees old or new together.
const SECTOR: usize = 512;

impl State {
    /// Does a good operation. `rest` was in flight with it and is not done.
    ///
    /// # Errors
    /// `Mismatch`, for a comparison alone.
    pub(super) fn apply(&mut self, op: &mut Flying, rest: &[Flying]) -> Result<()> {
        let origin = if op.queue.is_some() { Origin::Reported } else { Origin::Unreported };
        match &op.op {
            Op::Read { .. } => self.read(op, rest),
            Op::Compare { .. } => return self.compare(op, rest),
            Op::Flush => {
                if !self.liar {
                    self.cache.flush(op.before);
                }
            }
            Op::WriteZeroes { at, count } => {
                let durable = !self.options.volatile_cache && !self.liar;
                let change = self.change(origin, op.write_bytes(), durable);
                self.cache.write_zeroes(*at, at + count, change);
            }
            Op::Write { .. } | Op::Deallocate { .. } | Op::Copy { .. } => {
                let fua = matches!(op.op, Op::Write { fua: true, .. });
                let durable = (fua || !self.options.volatile_cache) && !self.liar;
                let blocks = self.outcome_of(op);
                let change = self.change(origin, op.write_bytes(), durable);
                for (block, data) in blocks {
                    self.cache.write(block, data, change);
                }
            }
        }
        Ok(())
    }

    /// Does what is left of an operation that failed: any part of it.
    pub(super) fn apply_failed(&mut self, op: &mut Flying) {
        match &mut op.op {
            Op::Read { buf, .. } => {
                let noise = self.noise();
                for block in buf.as_chunks_mut::<BLOCK>().0 {
                    *block = *noise;
                }
            }
            Op::Flush | Op::Compare { .. } => {}
            _ => {
                let blocks = self.outcome_of(op);
                let change = self.change(Origin::Reported, usize::MAX, false);
                for (block, data) in blocks {
                    let old = self.cache.visible.get(block);
                    let torn = self.mixture(&[old, data]);
                    self.cache.write(block, torn, change);
                }
            }
        }
    }

    /// The blocks that an operation leaves, if it is carried out whole.
    pub(super) fn outcome_of(&self, op: &Flying) -> Vec<(u64, Arc<Block>)> {
        match &op.op {
            Op::Read { .. } | Op::Flush | Op::Compare { .. } => Vec::new(),
            Op::Write { at, .. } => (*at..).zip(op.data.iter().cloned()).collect(),
            Op::WriteZeroes { at, count } => {
                let blocks = self.cache.touched(*at, at + count);
                blocks.into_iter().map(|block| (block, zero())).collect()
            }
            Op::Copy { from, to, count } => {
                (0..*count).map(|i| (to + i, self.cache.visible.get(from + i))).collect()
            }
            Op::Deallocate { at, count } => {
                let blocks = self.cache.touched(*at, at + count);
                // Decided by the block alone, so that looking changes nothing.
                let any = |block: u64| match (block ^ op.before ^ self.options.seed) % 3 {
                    0 => self.cache.visible.get(block),
                    1 => zero(),
                    _ => Arc::new([0xdb; BLOCK]),
                };
                blocks.into_iter().map(|block| (block, any(block))).collect()
            }
        }
    }

    /// Fills a read's buffer: each sector as it was when the read began, as it
    /// is now, or as a write in flight makes it.
    fn read(&mut self, op: &mut Flying, rest: &[Flying]) {
        let Op::Read { at, buf } = &mut op.op else { return };
        let first = *at;
        for (index, bytes) in buf.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate() {
            *bytes = *self.look(first + index as u64, &op.seen[index], rest);
        }
    }

    /// Compares what a read would have found.
    fn compare(&mut self, op: &Flying, rest: &[Flying]) -> Result<()> {
        let Op::Compare { at, buf } = &op.op else { return Ok(()) };
        for (index, bytes) in buf.as_chunks::<BLOCK>().0.iter().enumerate() {
            let block = at + index as u64;
            if *self.look(block, &op.seen[index], rest) != *bytes {
                let text = format!("block {block} is not what it was compared with");
                return Err(Error::new(ErrorKind::Mismatch, text));
            }
        }
        Ok(())
    }

    /// A block as a read finds it that saw it when it began.
    fn look(&mut self, block: u64, seen: &Arc<Block>, rest: &[Flying]) -> Arc<Block> {
        let mut choices = vec![self.cache.visible.get(block)];
        if !Arc::ptr_eq(seen, &choices[0]) {
            choices.push(Arc::clone(seen));
        }
        for other in self.flying.iter().chain(rest) {
            if let Op::Write { at, .. } = &other.op
                && let Some(offset) = block.checked_sub(*at)
                && let Some(data) = other.data.get(offset as usize)
            {
                choices.push(Arc::clone(data));
            }
        }
        if choices.len() == 1 { choices.swap_remove(0) } else { self.mixture(&choices) }
    }

    /// A block of which each sector is one of several.
    fn mixture(&mut self, choices: &[Arc<Block>]) -> Arc<Block> {
        let mut data = *choices[0];
        for start in (0..BLOCK).step_by(SECTOR) {
            let choice = &choices[self.rng.below(choices.len() as u64) as usize];
            data[start..start + SECTOR].copy_from_slice(&choice[start..start + SECTOR]);
        }
        Arc::new(data)
    }

    fn noise(&mut self) -> Arc<Block> {
        let mut data = [0; BLOCK];
        for word in data.as_chunks_mut::<8>().0 {
            *word = self.rng.next().to_le_bytes();
        }
        Arc::new(data)
    }
}
