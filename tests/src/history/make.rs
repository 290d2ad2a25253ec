//! Random histories.

use super::content::BLOCK;
use super::{Op, When, Who};
use crate::random::Random;

/// What histories are like.
#[derive(Debug, Clone, Copy)]
pub struct Taste {
    /// Names in use.
    pub names: u64,
    /// Files reach this far.
    pub reach: u64,
    /// The longest write.
    pub write: u64,
    /// Of 16 writes, how many are whole blocks.
    pub aligned: u64,
    /// Of 100 operations, how many make things durable.
    pub syncs: u64,
    /// Of 100 operations, how many are checkpoints.
    pub checkpoints: u64,
    /// Closing and opening, looking at whole files.
    pub looks: bool,
    /// Of 16 writes, how many go through a queue.
    pub queued: u64,
    /// Of 16 writes, how many are scattered over the file, and the most extents
    /// that one makes.
    pub scattered: (u64, u64),
    /// Of 16 writes that are not queued, how many are durable when they return.
    pub durable: u64,
    /// Of 100 operations, how many take blocks away: removal, truncate, punch.
    pub removals: u64,
}

impl Taste {
    /// Small files, all operations.
    pub const SMALL: Taste = Taste {
        names: 6,
        reach: 48 * BLOCK,
        write: 6 * BLOCK,
        aligned: 8,
        syncs: 12,
        checkpoints: 4,
        looks: true,
        queued: 4,
        durable: 4,
        removals: 22,
        scattered: (1, 12),
    };
}

struct Maker<'a> {
    random: &'a mut Random,
    taste: &'a Taste,
    tag: u32,
}

/// A history of so many operations.
pub fn make(random: &mut Random, taste: &Taste, length: usize) -> Vec<Op> {
    let mut maker = Maker { random, taste, tag: 0 };
    let mut ops = Vec::with_capacity(length);
    for name in 0..2 {
        ops.push(Op::Create { name });
    }
    while ops.len() < length {
        ops.push(maker.op());
    }
    ops
}

impl Maker<'_> {
    fn name(&mut self) -> u8 {
        // Few names are used much, so that histories of one file get long.
        let n = self.taste.names;
        self.random.below(n).min(self.random.below(n)) as u8
    }

    fn who(&mut self) -> Who {
        if self.random.one_in(4) {
            Who::Slot(self.random.below(3) as u8)
        } else {
            Who::Name(self.name())
        }
    }

    fn offset(&mut self) -> u64 {
        let reach = self.taste.reach / BLOCK;
        // Mostly near the front, where things meet.
        let end = if self.random.one_in(3) { reach } else { reach.div_ceil(6) };
        let block = self.random.below(end) * BLOCK;
        if self.random.below(16) < self.taste.aligned {
            return block;
        }
        block + self.random.below(BLOCK)
    }

    fn length(&mut self, off: u64) -> u64 {
        let most = self.taste.write;
        if off.is_multiple_of(BLOCK) && !self.random.one_in(4) {
            return (1 + self.random.below(most / BLOCK)) * BLOCK;
        }
        match self.random.below(4) {
            0 => 1 + self.random.below(600),
            1 => (off / BLOCK + 1) * BLOCK - off,
            _ => 1 + self.random.below(most),
        }
    }

    fn range(&mut self) -> (u64, u64) {
        let off = self.offset();
        (off, self.length(off))
    }

    fn op(&mut self) -> Op {
        let t = *self.taste;
        let mut roll = self.random.below(100);
        let mut below = |n: u64| {
            let hit = roll < n;
            roll = roll.saturating_sub(n);
            hit
        };
        if below(t.syncs) {
            return match self.random.below(3) {
                0 => Op::SyncAll,
                _ => Op::Sync { who: self.who() },
            };
        }
        if below(t.checkpoints) {
            return if t.looks && self.random.one_in(4) { Op::Reopen } else { Op::Checkpoint };
        }
        if below(t.removals) {
            return self.removal();
        }
        if below(14) {
            return self.sharing();
        }
        if below(10) {
            return self.naming();
        }
        if t.looks && below(6) {
            return self.look();
        }
        if below(3) {
            let (off, len) = self.range();
            return Op::Defrag { who: self.who(), off, len: 8 * len };
        }
        if below(3) {
            let (off, len) = self.range();
            let len = if self.random.one_in(2) { len } else { 4 * len };
            return Op::Allocate { who: self.who(), off, len };
        }
        self.write()
    }

    fn write(&mut self) -> Op {
        self.tag += 1;
        let (who, tag) = (self.who(), self.tag);
        let (often, most) = self.taste.scattered;
        if self.random.below(16) < often {
            let step = 2 + self.random.below(2);
            let count = 1 + self.random.below(most);
            let first =
                self.random.below((self.taste.reach / BLOCK).saturating_sub(count * step).max(1));
            return Op::Scatter { who, first, step, count, tag };
        }
        if self.random.one_in(8) {
            let parts = (0..1 + self.random.below(5)).map(|_| self.range()).collect();
            return Op::Atomic { who, parts, tag };
        }
        if self.random.below(16) >= self.taste.queued {
            let (off, len) = self.range();
            if self.random.below(16) < self.taste.durable {
                return Op::Durable { who, off, len, tag };
            }
            return Op::Write { who, off, len, tag };
        }
        let mut parts: Vec<(u64, u64)> = Vec::new();
        for _ in 0..1 + self.random.below(6) {
            let (off, len) = self.range();
            // A queue writes whole buffers; sectors of one block may be shared by
            // none, so that which of two came last is never in question.
            let off = off / BLOCK * BLOCK;
            let len = len.next_multiple_of(BLOCK);
            if parts.iter().all(|(o, l)| off + len <= *o || o + l <= off) {
                parts.push((off, len));
            }
        }
        let sync =
            *self.random.pick(&[When::Never, When::Never, When::During, When::After, When::Each]);
        Op::Batch { who, parts, tag, sync }
    }

    fn removal(&mut self) -> Op {
        let (off, len) = self.range();
        let who = self.who();
        if self.random.one_in(6) {
            let (off, len) = match self.random.one_in(12) {
                true => (off, len),
                false => (off / BLOCK * BLOCK, len.next_multiple_of(BLOCK)),
            };
            return match self.random.one_in(2) {
                true => Op::Collapse { who, off, len },
                false => Op::Insert { who, off, len },
            };
        }
        match self.random.below(8) {
            0 | 1 => Op::Remove { name: self.name() },
            2..=4 => Op::Truncate { who, size: if self.random.one_in(6) { 0 } else { off } },
            5 => Op::Zero { who, off, len: if self.random.one_in(3) { 8 * len } else { len } },
            _ => Op::Punch { who, off, len: if self.random.one_in(3) { 8 * len } else { len } },
        }
    }

    fn sharing(&mut self) -> Op {
        if self.random.one_in(2) {
            return Op::Reflink { who: self.who(), to: self.name() };
        }
        let (mut off, mut len) = self.range();
        let mut to_off = if self.random.one_in(2) { off } else { self.offset() };
        // Most requests are such that they are not refused.
        if !self.random.one_in(12) {
            off = off / BLOCK * BLOCK;
            to_off = to_off / BLOCK * BLOCK;
            if !self.random.one_in(6) {
                len = len.next_multiple_of(BLOCK);
            }
        }
        let from = self.who();
        let to = if self.random.one_in(4) { from } else { self.who() };
        Op::ReflinkRange { from, off, to, to_off, len }
    }

    fn naming(&mut self) -> Op {
        let name = self.name();
        match self.random.below(8) {
            0..=3 => Op::Create { name },
            4 => Op::Open { slot: self.random.below(3) as u8, name },
            5 => Op::Close { slot: self.random.below(3) as u8 },
            _ => Op::Rename { from: name, to: self.name() },
        }
    }

    fn look(&mut self) -> Op {
        let who = self.who();
        match self.random.below(5) {
            0 => Op::Look { who },
            1 => Op::Diff { a: who, b: self.who() },
            2 => Op::List {
                prefix: self.random.below(6) as u8,
                delimiter: self.random.one_in(2),
                after: self.random.one_in(2).then(|| self.random.below(12) as u8),
                limit: 1 + self.random.below(8) as u8,
            },
            _ => {
                let (off, len) = self.range();
                Op::Read { who, off, len }
            }
        }
    }
}
