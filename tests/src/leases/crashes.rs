//! Crashes at every write and flush while leases, seals and fences are at work.
//!
//! What is promised: a flush through a lease is durable after a sync, as a write is, and
//! until then each sector of its blocks holds what it held or what was flushed there since.
//! Nothing of seals, leases and quarantine is there afterwards, and other files hold what
//! they held.

use super::world::{B, World, demand, flushed, sound, text};
use crate::cases::Verdict;
use crate::random::Random;
use freehold_blockmap::arbiter::{Access, Kinds};
use freehold_blockmap::{FileHandle, LeaseCore, SealCore, Volume};
use freehold_engine::sim::{SimMedium, Survival};
use std::sync::Arc;
use std::time::Duration;

/// Blocks that the history is about; all of `f`.
const BLOCKS: u64 = 16;

/// What a block may hold: what a sync promised, and all that was written there since. A
/// byte for each write; 0 for zeroes.
#[derive(Debug, Clone, Default)]
struct Block {
    may: Vec<u8>,
}

/// What `f` and its reflinks may hold after a crash at some step.
#[derive(Debug, Clone)]
struct Promise {
    blocks: Vec<Block>,
    /// So many reflinks were made durable; each with what it holds.
    copies: Vec<Vec<Block>>,
}

/// Crashes that were looked at.
#[derive(Debug, Default, Clone, Copy)]
pub struct Points(pub u64);

struct Run {
    world: World,
    lease: Option<Arc<LeaseCore>>,
    seal: Option<SealCore>,
    random: Random,
    now: Promise,
    next: u8,
    /// The promise that held when so many crashes had been kept, before each operation.
    marks: Vec<(usize, Promise)>,
}

/// A history of leased I/O on the simulated medium, with a crash at each of its writes and
/// flushes.
///
/// # Errors
/// What a crash left that no promise allows.
pub fn leased_history(seed: u64, outcomes: u64) -> Result<Points, String> {
    let world = World::sim(seed)?;
    let other = world.vol.create(b"other").map_err(text)?;
    world.vol.write_at(&other, &[200; 8 * B as usize], 0).map_err(text)?;
    drop(other);
    world.vol.sync().map_err(text)?;
    world.hurry();
    let sim = world.sim.clone().ok_or("no medium")?;
    sim.keep_crashes();
    let one = Block { may: vec![1] };
    let now = Promise { blocks: vec![one; BLOCKS as usize], copies: Vec::new() };
    let random = Random::new(seed);
    let mut run = Run { world, lease: None, seal: None, random, now, next: 2, marks: Vec::new() };
    for i in 0..30 {
        run.marks.push((sim.crashes(), run.now.clone()));
        run.step().map_err(|e| format!("operation {i}: {e}"))?;
    }
    run.marks.push((sim.crashes(), run.now.clone()));
    let mut points = Points::default();
    for step in 0..sim.crashes() {
        let i = run.marks.partition_point(|(at, _)| *at <= step);
        // What was promised before the operation that was under way, and what it may do.
        let before = run.marks[i - 1].1.clone();
        let after = run.marks.get(i).map_or(&before, |m| &m.1).clone();
        for outcome in 0..outcomes {
            let survival = if outcome == 0 { Survival::Nothing } else { Survival::Random };
            let left = sim.crash_of(step, survival, seed ^ (outcome << 32) ^ step as u64);
            judge(&left, &before, &after)
                .map_err(|e| format!("crash at step {step}, in operation {}: {e}", i - 1))?;
            points.0 += 1;
        }
    }
    Ok(points)
}

fn judge(left: &SimMedium, before: &Promise, after: &Promise) -> Verdict {
    let vol = Volume::open(left.medium(), &Default::default()).map_err(text)?;
    demand(vol.holdings().is_empty() && vol.inflight().is_empty(), || "leases survived".into())?;
    sound(&vol)?;
    let file = vol.open_file(b"f").map_err(text)?;
    compare(&vol, &file, &before.blocks, &after.blocks)?;
    for i in 0..after.copies.len() {
        let name = copy_name(i);
        match (vol.open_file(&name), before.copies.get(i)) {
            (Ok(copy), was) => {
                let is = &after.copies[i];
                compare(&vol, &copy, was.unwrap_or(is), is)
                    .map_err(|e| format!("copy {i}: {e}"))?;
            }
            (Err(_), None) => {}
            (Err(e), Some(_)) => return Err(format!("copy {i}, which was synced: {}", text(e))),
        }
    }
    let other = vol.open_file(b"other").map_err(text)?;
    (0..8).try_for_each(|b| super::world::holds(&vol, &other, b, 200))
}

fn compare(vol: &Arc<Volume>, file: &FileHandle, a: &[Block], b: &[Block]) -> Verdict {
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let got = super::world::read(vol, file, i as u64)?;
        let wrong = got.iter().find(|byte| !a.may.contains(byte) && !b.may.contains(byte));
        demand(wrong.is_none() && got.len() == B as usize, || {
            format!("block {i} holds {wrong:?}, and may hold {:?} or {:?}", a.may, b.may)
        })?;
    }
    Ok(())
}

fn copy_name(i: usize) -> Vec<u8> {
    format!("copy{i}").into_bytes()
}

impl Run {
    fn step(&mut self) -> Verdict {
        match self.random.below(12) {
            0 => self.grant(),
            1..=3 => self.flush(),
            4 => self.write(),
            5 => self.punch(),
            6 => self.copy(),
            7 => self.seal(),
            8 => self.overdue(),
            9 => {
                self.lease = None;
                self.seal = None;
                self.world.vol.checkpoint().map_err(text)
            }
            _ => self.sync(),
        }
    }

    fn byte(&mut self) -> u8 {
        self.next += 1;
        self.next
    }

    fn grant(&mut self) -> Verdict {
        self.seal = None;
        let access = *self.random.pick(&[Access::Write, Access::Exclusive]);
        let first = self.random.below(BLOCKS - 4);
        self.lease = Some(self.world.lease(access, first, 4)?);
        Ok(())
    }

    /// From now on the block may hold this too, and for what a sync has promised: only.
    fn put(&mut self, first: u64, n: u64, byte: u8) {
        (first..first + n).for_each(|b| self.now.blocks[b as usize].may.push(byte));
    }

    fn flush(&mut self) -> Verdict {
        let Some(lease) = self.lease.clone() else { return self.grant() };
        let (start, end) = lease.range();
        let (first, n) = (start / B + self.random.below(3), 1 + self.random.below(2));
        if (first + n) * B > end {
            return Ok(());
        }
        let byte = self.byte();
        let mut queue = self.world.queue()?;
        match flushed(&mut queue, &lease, (first, n), byte) {
            Ok(()) => self.put(first, n, byte),
            // It was revoked meanwhile.
            Err(_) => self.lease = None,
        }
        Ok(())
    }

    fn write(&mut self) -> Verdict {
        let (first, byte) = (self.random.below(BLOCKS), self.byte());
        let bytes = vec![byte; B as usize];
        let logged = self.random.one_in(2);
        let (vol, file) = (&self.world.vol, &self.world.file);
        let done = match logged {
            true => vol.write_durable_at(file, &bytes, first * B),
            false => vol.write_at(file, &bytes, first * B),
        };
        if done.is_ok() {
            self.put(first, 1, byte);
        }
        if logged && done.is_ok() {
            self.now.blocks[first as usize].may = vec![byte];
        }
        Ok(())
    }

    fn punch(&mut self) -> Verdict {
        let first = self.random.below(BLOCKS - 2);
        if self.world.vol.punch(&self.world.file, first * B, 2 * B).is_ok() {
            self.put(first, 2, 0);
        }
        Ok(())
    }

    /// A reflink holds what the file holds when it is made.
    fn copy(&mut self) -> Verdict {
        let name = copy_name(self.now.copies.len());
        if self.world.vol.reflink_file(&self.world.file, &name).is_ok() {
            self.world.vol.sync().map_err(text)?;
            self.settle()?;
            self.now.copies.push(self.now.blocks.clone());
        }
        Ok(())
    }

    fn seal(&mut self) -> Verdict {
        let kinds = *self.random.pick(&[Kinds::LAYOUT, Kinds::WRITE, Kinds::SHRINK]);
        let who = self.world.comer.clone();
        self.seal = self.world.seal(&who, kinds, Duration::from_millis(3)).ok();
        Ok(())
    }

    /// A pin that does not end: the file's ordinary writes go on, elsewhere.
    fn overdue(&mut self) -> Verdict {
        let Some(lease) = self.lease.take() else { return Ok(()) };
        let Ok(_pin) = lease.hold() else { return Ok(()) };
        let (block, byte) = (lease.range().0 / B, self.byte());
        let bytes = vec![byte; 100];
        if self.world.vol.write_at(&self.world.file, &bytes, block * B + 50).is_ok() {
            self.put(block, 1, byte);
        }
        Ok(())
    }

    fn sync(&mut self) -> Verdict {
        self.world.vol.sync().map_err(text)?;
        self.settle()
    }

    /// All that is there now is promised: what it is, the file says.
    fn settle(&mut self) -> Verdict {
        let own = self.world.of(&self.world.holder);
        for i in 0..BLOCKS {
            let got = super::world::read(&self.world.vol, &own, i)?;
            let mut may: Vec<u8> = got.clone();
            may.sort_unstable();
            may.dedup();
            demand(may.iter().all(|b| self.now.blocks[i as usize].may.contains(b)), || {
                format!("block {i} holds {may:?}")
            })?;
            self.now.blocks[i as usize].may = may;
        }
        Ok(())
    }
}
