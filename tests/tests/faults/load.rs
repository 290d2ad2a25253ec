//! A workload that knows what it was promised.
//!
//! Each write fills whole blocks of one file with a stamp: the file, the block
//! and the number of the write. So each sector of a file tells which write it is
//! from; after a crash it must be one that was not older than the last promise
//! and not newer than the last attempt.

use freehold::{Error, ErrorKind, File, Store};
use freehold_engine::sim::{SimImage, SimMedium, SimOptions};
use freehold_tests::random::Random;
use freehold_tests::specimen::{B, bytes, names, open, options};
use std::collections::BTreeMap;
use std::sync::OnceLock;

const SECTOR: usize = 512;
const FILES: u64 = 4;
const BLOCKS: u64 = 24;
const STEPS: usize = 60;

/// What the workload met.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Operations that failed although the store was sound before and after.
    pub(crate) failed: u32,
    /// The store was poisoned.
    pub(crate) poisoned: bool,
    /// The medium was gone.
    pub(crate) gone: bool,
}

/// What a block of a file may hold: numbers of writes, 0 for none.
#[derive(Debug, Clone, Copy, Default)]
struct Block {
    /// The last write that a sync promised.
    promised: u64,
    /// The last one that succeeded.
    landed: u64,
    /// The last one.
    attempted: u64,
}

/// One file: its blocks, and what is known of its name.
#[derive(Debug, Clone, Default)]
struct Known {
    id: u64,
    blocks: Vec<Block>,
    /// It is there, whatever happens.
    kept: bool,
    /// It is not, whatever happens.
    absent: bool,
}

/// A step of the workload.
#[derive(Debug, Clone, Copy)]
enum Step {
    Write { file: u64, start: u64, len: u64 },
    Reflink { file: u64, to: u64 },
    Remove { file: u64 },
    Read { file: u64 },
    SyncFile { file: u64 },
    Sync,
    Checkpoint,
    Nothing,
}

pub(crate) struct Load {
    pub(crate) sim: SimMedium,
    pub(crate) store: Option<Store>,
    pub(crate) outcome: Outcome,
    seed: u64,
    steps: Vec<Step>,
    next: usize,
    stamp: u64,
    known: BTreeMap<u64, Known>,
}

fn name(id: u64) -> Vec<u8> {
    format!("file {id}").into_bytes()
}

/// The bytes of a block, of which each sector tells by itself where it is from.
fn fill(buf: &mut Vec<u8>, source: u64, block: u64, stamp: u64) {
    for _ in 0..B as usize / SECTOR {
        let from = buf.len();
        for word in [source, block, stamp, source ^ block << 20 ^ stamp << 40] {
            buf.extend_from_slice(&word.to_le_bytes());
        }
        for i in 0..SECTOR - 32 {
            buf.push((stamp as u8).wrapping_mul(31).wrapping_add(i as u8));
        }
        debug_assert_eq!(buf.len() - from, SECTOR);
    }
}

/// A store with the files in it, all of them durable; made once.
fn prepared() -> &'static SimImage {
    static IMAGE: OnceLock<SimImage> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let sim = SimMedium::new(options());
        let store = Store::format_on(sim.medium()).unwrap();
        for id in 1..=FILES {
            let file = store.create(&name(id)).unwrap();
            // From the back and one by one: extents that do not merge make trees.
            for block in (0..BLOCKS).rev() {
                let mut buf = Vec::new();
                fill(&mut buf, id, block, 1);
                file.write_at(&buf, block * B).unwrap();
            }
        }
        store.close().unwrap();
        sim.image()
    })
}

impl Load {
    pub(crate) fn new(seed: u64) -> Self {
        let options =
            SimOptions { seed, ..SimOptions { blocks: options().blocks, ..Default::default() } };
        let sim = SimMedium::with_image(options, prepared().clone());
        let store = open(&sim, false).unwrap();
        let block = Block { promised: 1, landed: 1, attempted: 1 };
        let known =
            |id| Known { id, blocks: vec![block; BLOCKS as usize], kept: true, absent: false };
        let mut random = Random::new(seed);
        let mut copies = Vec::new();
        Load {
            sim,
            store: Some(store),
            outcome: Outcome::default(),
            seed,
            // What went wrong behind everybody's back comes out at the last sync.
            steps: (0..STEPS)
                .map(|i| step(&mut random, i as u64, &mut copies))
                .chain([Step::Sync])
                .collect(),
            next: 0,
            stamp: 1,
            known: (1..=FILES).map(|id| (id, known(id))).collect(),
        }
    }

    pub(crate) fn steps(&self) -> usize {
        self.steps.len()
    }

    /// Goes on to the end.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.run_to(self.steps.len())
    }

    pub(crate) fn run_to(&mut self, end: usize) -> Result<(), String> {
        while self.next < end {
            let step = self.steps[self.next];
            self.next += 1;
            let done = self.step(step);
            self.judge(step, done)
                .map_err(|why| format!("step {} {step:?}: {why}", self.next - 1))?;
        }
        Ok(())
    }

    /// May the step have ended so?
    fn judge(&mut self, step: Step, done: Result<(), Error>) -> Result<(), String> {
        self.outcome.gone = self.sim.is_dead();
        let reads = matches!(step, Step::Read { .. });
        let syncs = matches!(step, Step::Sync | Step::SyncFile { .. } | Step::Checkpoint);
        let sound = !self.store.as_ref().ok_or("no store")?.info().read_only;
        let was = std::mem::replace(&mut self.outcome.poisoned, !sound);
        let Err(e) = done else {
            let on_poison = was && !reads && !matches!(step, Step::Nothing);
            return if on_poison { Err("it succeeded on a poisoned store".into()) } else { Ok(()) };
        };
        // A file that must be opened first may fail to be found.
        let opens = matches!(step, Step::Write { .. } | Step::Reflink { .. });
        match e.kind() {
            ErrorKind::Poisoned if !reads && !sound => Ok(()),
            // The reflink that was to make it failed.
            ErrorKind::NotFound if self.outcome.failed > 0 => Ok(()),
            ErrorKind::Gone | ErrorKind::Io if reads || opens || (!syncs && !was) => {
                self.outcome.failed += u32::from(sound);
                Ok(())
            }
            _ => Err(format!("{:?}: {e}", e.kind())),
        }
    }

    fn open(&self, file: u64) -> Result<File, Error> {
        self.store.as_ref().expect("a store").open_file(&name(file))
    }

    fn step(&mut self, step: Step) -> Result<(), Error> {
        let store = self.store.clone().expect("a store");
        match step {
            Step::Write { file, start, len } => self.write(file, start, len),
            Step::Reflink { file, to } => {
                // If it is there after a crash, it has at least what had landed.
                let from = self.known[&file].clone();
                let blocks = from.blocks.iter().map(|b| Block { promised: b.landed, ..*b });
                let copy = Known { blocks: blocks.collect(), kept: false, ..from };
                self.known.insert(to, copy);
                store.reflink(&name(file), &name(to)).map(drop)
            }
            Step::Remove { file } => {
                self.known.get_mut(&file).expect("the step is not drawn else").kept = false;
                store.remove(&name(file))
            }
            Step::Read { file } => {
                let found = bytes(&self.open(file)?)?;
                if self.lost() {
                    return Ok(());
                }
                self.look(file, &found).unwrap_or_else(|why| panic!("a read: {why}"));
                Ok(())
            }
            Step::SyncFile { file } => {
                // That the file is not found is not what this is about.
                let Ok(handle) = self.open(file) else { return store.sync() };
                handle.sync()?;
                self.promise(file);
                Ok(())
            }
            Step::Sync => {
                store.sync()?;
                self.promise_all(&store);
                Ok(())
            }
            Step::Checkpoint => store.checkpoint(),
            Step::Nothing => Ok(()),
        }
    }

    fn write(&mut self, file: u64, start: u64, len: u64) -> Result<(), Error> {
        let handle = self.open(file)?;
        self.stamp += 1;
        let known = self.known.get_mut(&file).expect("one of the first files");
        let end = (start + len) as usize;
        if known.blocks.len() < end {
            known.blocks.resize(end, Block::default());
        }
        let mut buf = Vec::new();
        for block in start..start + len {
            fill(&mut buf, known.id, block, self.stamp);
            known.blocks[block as usize].attempted = self.stamp;
        }
        handle.write_at(&buf, start * B)?;
        for block in &mut known.blocks[start as usize..end] {
            block.landed = self.stamp;
        }
        Ok(())
    }

    /// The medium lost writes (law M3): what is read before it is opened again
    /// may be anything.
    fn lost(&self) -> bool {
        self.sim.medium().losses() > 0
    }

    /// What the file holds now stays.
    fn promise(&mut self, file: u64) {
        let known = self.known.get_mut(&file).expect("a file");
        known.kept = true;
        known.blocks.iter_mut().for_each(|b| b.promised = b.landed);
    }

    fn promise_all(&mut self, store: &Store) {
        let Ok(there) = names(store) else { return };
        let ids: Vec<u64> = self.known.keys().copied().collect();
        for id in ids {
            if there.contains(&name(id)) {
                self.promise(id);
            } else {
                assert!(id > FILES, "nobody removed file {id}");
                self.known.insert(id, Known { absent: true, ..Known::default() });
            }
        }
    }

    /// Are these bytes that the file may have: none older than the last promise,
    /// none newer than the last attempt, none of another file or block?
    fn look(&self, file: u64, found: &[u8]) -> Result<(), String> {
        let known = &self.known[&file];
        for (i, block) in known.blocks.iter().enumerate() {
            let Some(bytes) = found.get(i * B as usize..(i + 1) * B as usize) else {
                if block.promised > 0 {
                    return Err(format!("file {file} ends before block {i}"));
                }
                continue;
            };
            for (s, sector) in bytes.chunks(SECTOR).enumerate() {
                let word = |at: usize| u64::from_le_bytes(sector[at..at + 8].try_into().unwrap());
                let stamp = word(16);
                let mut whole = Vec::new();
                fill(&mut whole, known.id, i as u64, stamp);
                let zero = sector.iter().all(|b| *b == 0);
                let right = if zero {
                    block.promised == 0
                } else {
                    whole[..SECTOR] == *sector
                        && (block.promised..=block.attempted).contains(&stamp)
                };
                if !right {
                    return Err(format!(
                        "file {file} block {i} sector {s} is of write {stamp} (zero: {zero}), but {block:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Everything that was promised is there: before a crash, and after one.
    pub(crate) fn verify(&mut self) -> Result<(), String> {
        let store = self.store.take().ok_or("no store")?;
        if !self.outcome.gone && !self.lost() {
            self.verify_store(&store).map_err(|why| format!("before the crash: {why}"))?;
        }
        drop(store);
        for i in 0..3 {
            let sim = self.sim.reopen(self.seed * 3 + i);
            let store = open(&sim, false).map_err(|e| format!("opening: {e}"))?;
            self.verify_store(&store).map_err(|why| format!("after crash {i}: {why}"))?;
            store
                .create(b"one more")
                .and_then(|f| f.write_at(b"x", 0))
                .map_err(|e| e.to_string())?;
            store.close().map_err(|e| format!("closing: {e}"))?;
        }
        Ok(())
    }

    fn verify_store(&self, store: &Store) -> Result<(), String> {
        let there = names(store).map_err(|e| e.to_string())?;
        for (id, known) in &self.known {
            let found = there.contains(&name(*id));
            if (known.kept && !found) || (known.absent && found) {
                return Err(format!("file {id} is there: {found}, but {known:?}"));
            }
            if !found {
                continue;
            }
            let file = store.open_file(&name(*id)).map_err(|e| e.to_string())?;
            self.look(*id, &bytes(&file).map_err(|e| e.to_string())?)?;
        }
        let report = match store.check() {
            Err(e) if e.kind() == ErrorKind::Poisoned && self.outcome.poisoned => return Ok(()),
            report => report.map_err(|e| e.to_string())?,
        };
        if report.clean() { Ok(()) } else { Err(format!("{:?}", report.findings)) }
    }
}

/// One step; `copies` are the reflinks that have a name.
fn step(random: &mut Random, i: u64, copies: &mut Vec<u64>) -> Step {
    let file = 1 + random.below(FILES);
    match random.below(16) {
        0..=5 => {
            let start = random.below(BLOCKS + 4);
            Step::Write { file, start, len: 1 + random.below(6) }
        }
        6..=7 => {
            copies.push(100 + i);
            Step::Reflink { file, to: 100 + i }
        }
        8 if copies.is_empty() => Step::Nothing,
        8 => Step::Remove { file: copies.swap_remove(random.below(copies.len() as u64) as usize) },
        9..=10 => Step::Read { file },
        11..=12 => Step::SyncFile { file },
        13..=14 => Step::Sync,
        _ => Step::Checkpoint,
    }
}
