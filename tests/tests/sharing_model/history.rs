//! Random histories from a seed, and the shortest one that still shows a fault.

use super::apply::Record;
use super::rules::{Break, Fault};
use super::run::{Op, Run, Stats};
use super::state::{Body, FILE, FileId, Node};

/// Steps in one history.
const STEPS: usize = 60;
/// Files at one time.
const FILES: usize = 5;

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn offset(&mut self) -> i32 {
        self.below(FILE as usize) as i32
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() { None } else { Some(from[self.below(from.len())]) }
    }
}

/// A fault with the history that leads to it.
pub(crate) struct Failure {
    pub(crate) fault: Fault,
    pub(crate) history: Vec<Op>,
}

/// Runs the history of a seed to its end.
pub(crate) fn run(seed: u64, broken: Break) -> Result<Stats, Failure> {
    let mut random = Random::new(seed);
    let mut run = Run::new(broken);
    let mut history = Vec::new();
    let mut next = 0;
    let mood = random.below(4);
    for _ in 0..STEPS {
        let op = choose(&mut random, &run, &mut next, mood);
        history.push(op);
        if let Err(fault) = run.step(&history[history.len() - 1]) {
            return Err(Failure { fault, history });
        }
    }
    match run.last_owner_regains() {
        Ok(()) => Ok(run.stats),
        Err(fault) => Err(Failure { fault, history }),
    }
}

/// Runs given steps, and what every run ends with.
pub(crate) fn replay(history: &[Op], broken: Break) -> Result<Stats, Fault> {
    let mut run = Run::new(broken);
    history.iter().try_for_each(|op| run.step(op))?;
    run.last_owner_regains()?;
    Ok(run.stats)
}

/// Leaves out steps as long as a fault of the same kind remains.
pub(crate) fn shrink(mut failure: Failure, broken: Break) -> Failure {
    let mut again = true;
    while again {
        again = false;
        for i in (0..failure.history.len()).rev() {
            let mut shorter = failure.history.clone();
            shorter.remove(i);
            match replay(&shorter, broken) {
                Err(fault) if fault.kind == failure.fault.kind => {
                    failure = Failure { fault, history: shorter };
                    again = true;
                }
                _ => {}
            }
        }
    }
    failure
}

/// The next step. A third of the histories dwell on one part of the store.
fn choose(random: &mut Random, run: &Run, next: &mut FileId, mood: usize) -> Op {
    let files = &run.state.files;
    let open: Vec<FileId> = files.iter().filter(|(_, f)| !f.condemned).map(|(id, _)| *id).collect();
    let Some(file) = random.pick(&open).filter(|_| files.len() > 1 || random.below(3) > 0) else {
        *next += 1;
        return Op::Map(Record::Create { file: *next });
    };
    let at = random.offset();
    if random.below(4) == 0 {
        match mood {
            0 => return checkpoints(random, file, at),
            1 => return volatile(random, run, file, at),
            _ => {}
        }
    }
    let len = 1 + random.below(8) as i32;
    match random.below(100) {
        0..22 => Op::Write { file, at, len: len.min(6) },
        22..35 => Op::Look { file, at },
        35..43 if files.len() < FILES => {
            *next += 1;
            Op::Map(Record::Reflink { from: file, to: *next })
        }
        43..51 => {
            let to = random.pick(&open).unwrap_or(file);
            let dest = if random.below(2) == 0 { at } else { random.offset() };
            let trees = random.below(3) > 0;
            Op::Map(Record::Range { from: file, at, len: len + 2, to, dest, trees })
        }
        51..54 => Op::Map(Record::Punch { file, at, len }),
        54..56 => Op::Map(Record::Collapse { file, at, len: len.min(3) }),
        56..59 => Op::Map(Record::Split { file, at }),
        59..65 => {
            Op::Map(Record::Merge { file, index: random.below(4), leaves: random.below(2) == 0 })
        }
        65..69 => Op::Map(Record::Condemn { file }),
        69..77 => {
            let gone = files.iter().filter(|(_, f)| f.condemned).map(|(id, _)| *id);
            let gone: Vec<FileId> = gone.collect();
            random.pick(&gone).map_or(Op::Look { file, at }, |file| Op::Map(Record::Slice { file }))
        }
        77..87 => volatile(random, run, file, at),
        _ => checkpoints(random, file, at),
    }
}

/// What becomes durable, and what does not.
fn checkpoints(random: &mut Random, file: FileId, at: i32) -> Op {
    match random.below(12) {
        0..4 => Op::Sync { late: random.below(4) as u64 },
        4..6 => Op::Cut,
        6..8 => Op::Finish,
        8..10 => Op::Crash { lost: random.below(6) as u64 },
        _ => Op::Look { file, at },
    }
}

/// What is not in any record: quarantine, the cache, look-ups of other threads.
fn volatile(random: &mut Random, run: &Run, file: FileId, at: i32) -> Op {
    match random.below(13) {
        0..3 => Op::Quarantine { file, at },
        3..5 => {
            let held = run.state.blocks.iter().enumerate().filter(|(_, c)| c.quarantine > 0);
            let held: Vec<usize> = held.map(|(block, _)| block).collect();
            random.pick(&held).map_or(Op::Quarantine { file, at }, |block| Op::Lift { block })
        }
        5..9 => {
            let nodes = run.state.nodes.iter().enumerate();
            let leaf = |node: &Option<Node>| {
                node.as_ref().is_some_and(|node| matches!(node.body, Body::Leaf(_)))
            };
            let leaves: Vec<usize> = nodes.filter(|(_, n)| leaf(n)).map(|(id, _)| id).collect();
            random.pick(&leaves).map_or(Op::Cut, |leaf| Op::Evict { leaf })
        }
        9..11 => Op::Begin { file, at },
        _ => Op::End,
    }
}
