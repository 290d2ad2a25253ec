//! One run: operations, the journal with its durable prefix, checkpoints, and
//! crashes. After every operation each decision is held against the oracle.

use super::apply::Record;
use super::decide::Looked;
use super::oracle::{Owner, View, owners};
use super::rules::{Break, Fault, Kind, fault};
use super::state::{Block, Body, FILE, FileId, NodeId, Seq, State};
use std::collections::VecDeque;

/// One step of a history. A step that makes no sense where it stands does
/// nothing, so that a history stays valid when steps are left out.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Logs a record that chooses no blocks.
    Map(Record),
    /// Writes blocks in place where that is allowed, else to fresh blocks.
    Write { file: FileId, at: i32, len: i32 },
    /// Looks a block up, as a write or a grant does, and changes nothing.
    Look { file: FileId, at: i32 },
    /// Another thread looks a block up, and stops before it sets the bit.
    Begin { file: FileId, at: i32 },
    /// That thread goes on.
    End,
    /// A revoked lease leaves a block in quarantine.
    Quarantine { file: FileId, at: i32 },
    /// The last pin on a quarantined block is gone.
    Lift { block: Block },
    /// A leaf leaves the cache.
    Evict { leaf: NodeId },
    /// All but the last `late` records become durable.
    Sync { late: u64 },
    /// A checkpoint is cut at the last record.
    Cut,
    /// The checkpoint that was cut is durable.
    Finish,
    /// A crash that loses `lost` records, or all that are not durable.
    Crash { lost: u64 },
}

/// What a run did, so that a test can tell that it did something.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) fast: u64,
    pub(crate) in_place: u64,
    pub(crate) copied: u64,
    pub(crate) crashes: u64,
    pub(crate) regained: u64,
}

impl Stats {
    /// Adds what another run did.
    pub(crate) fn add(&mut self, other: &Self) {
        self.fast += other.fast;
        self.in_place += other.in_place;
        self.copied += other.copied;
        self.crashes += other.crashes;
        self.regained += other.regained;
    }
}

/// A store with its journal.
pub(crate) struct Run {
    pub(crate) state: State,
    pub(crate) durable: Seq,
    pub(crate) stats: Stats,
    records: Vec<Record>,
    /// What each record left, from the last durable one on.
    views: VecDeque<View>,
    checkpoint: (Seq, State),
    cut: Option<(Seq, State)>,
    /// A look-up of another thread that has not set its bit yet.
    looked: Option<Looked>,
}

impl Run {
    pub(crate) fn new(broken: Break) -> Self {
        let state = State::new(broken);
        Self {
            durable: 0,
            stats: Stats::default(),
            records: Vec::new(),
            views: VecDeque::from([View::new()]),
            checkpoint: (0, state.clone()),
            cut: None,
            looked: None,
            state,
        }
    }

    /// Does one step and checks all that must hold after it.
    pub(crate) fn step(&mut self, op: &Op) -> Result<(), Fault> {
        match *op {
            Op::Map(ref record) => self.map(record)?,
            Op::Write { file, at, len } => self.write(file, at, len)?,
            Op::Look { file, at } if self.open(file) => {
                self.decide(file, at)?;
            }
            Op::Begin { file, at } if self.open(file) => {
                self.looked = self.state.look_begin(file, at)?;
            }
            Op::End => {
                if let Some(looked) = self.looked.take() {
                    self.state.look_end(&looked)?;
                }
            }
            Op::Quarantine { file, at } if self.open(file) => self.state.quarantine(file, at)?,
            Op::Lift { block } if self.state.blocks[block].quarantine > 0 => {
                self.state.blocks[block].quarantine -= 1;
                self.state.settle(self.durable);
            }
            Op::Evict { leaf } => {
                if matches!(self.state.node(leaf).map(|node| &node.body), Ok(Body::Leaf(_))) {
                    self.state.evict(leaf)?;
                }
            }
            Op::Sync { late } => self.sync(self.last().saturating_sub(late)),
            Op::Cut => self.cut = Some((self.last(), self.state.clone())),
            Op::Finish => self.finish()?,
            Op::Crash { lost } => self.crash(lost)?,
            _ => {}
        }
        self.check()
    }

    fn last(&self) -> Seq {
        self.records.len() as Seq
    }

    fn open(&self, file: FileId) -> bool {
        self.state.files.get(&file).is_some_and(|record| !record.condemned)
    }

    fn fits(&self, record: &Record) -> bool {
        match *record {
            Record::Create { file } => !self.state.files.contains_key(&file),
            Record::Reflink { from, to } => self.open(from) && !self.state.files.contains_key(&to),
            Record::Range { from, at, len, to, dest, .. } => {
                self.open(from)
                    && self.open(to)
                    && at.max(dest) + len <= FILE
                    && (from != to || (at - dest).abs() >= len)
            }
            Record::Slice { file } => {
                self.state.files.get(&file).is_some_and(|record| record.condemned)
            }
            Record::Write { .. } => false,
            Record::Condemn { file }
            | Record::Split { file, .. }
            | Record::Merge { file, .. }
            | Record::Punch { file, .. }
            | Record::Collapse { file, .. } => self.open(file),
        }
    }

    fn map(&mut self, record: &Record) -> Result<(), Fault> {
        if self.fits(record) { self.log(record.clone()) } else { Ok(()) }
    }

    fn log(&mut self, record: Record) -> Result<(), Fault> {
        self.state.apply(self.last() + 1, &record)?;
        self.records.push(record);
        self.views.push_back(self.state.view()?);
        self.state.audit()
    }

    /// Asks as a write does; the answer must be true.
    fn decide(&mut self, file: FileId, at: i32) -> Result<bool, Fault> {
        let own = self.state.look(file, at, self.durable)?;
        if own {
            self.check()?;
        }
        Ok(own)
    }

    fn write(&mut self, file: FileId, at: i32, len: i32) -> Result<(), Fault> {
        if !self.open(file) {
            return Ok(());
        }
        let mut blocks = Vec::new();
        let mut free = self.state.free.iter().copied().collect::<VecDeque<_>>();
        for at in at..(at + len).min(FILE) {
            if self.decide(file, at)? {
                self.stats.in_place += 1;
            } else if let Some(block) = free.pop_front() {
                self.stats.copied += 1;
                blocks.push((at, block));
            }
        }
        if blocks.is_empty() { Ok(()) } else { self.log(Record::Write { file, blocks }) }
    }

    fn sync(&mut self, to: Seq) {
        if to > self.durable {
            self.views.drain(..(to - self.durable) as usize);
            self.durable = to;
        }
        self.state.settle(self.durable);
    }

    fn finish(&mut self) -> Result<(), Fault> {
        let Some((seq, mut state)) = self.cut.take() else { return Ok(()) };
        if seq > self.durable {
            self.cut = Some((seq, state));
            return Ok(());
        }
        let later = self.state.breaks(Break::CutTakesLaterStamps);
        for id in 0..state.nodes.len() {
            let Ok(leaf) = state.leaf_mut(id) else { continue };
            let now = self.state.leaf_mut(id).ok().filter(|now| now.version == leaf.version);
            if let (Some(now), true) = (&now, later) {
                leaf.clone_from(now);
            }
            leaf.image = leaf.bits();
            leaf.dirty = false;
            if let Some(now) = now {
                now.image = leaf.image.clone();
                now.dirty = false;
            }
        }
        self.checkpoint = (seq, state);
        Ok(())
    }

    fn crash(&mut self, lost: u64) -> Result<(), Fault> {
        let kept = self.last().saturating_sub(lost).max(self.durable);
        let view = self.views[(kept - self.durable) as usize].clone();
        let (from, mut state) = self.checkpoint.clone();
        state.blocks.iter_mut().for_each(|count| count.quarantine = 0);
        for seq in from..kept {
            state.apply(seq + 1, &self.records[seq as usize])?;
        }
        state.settle(kept);
        let mut found = state.view()?;
        let mut expected = view.clone();
        found.sort_unstable();
        expected.sort_unstable();
        if found != expected {
            return fault(Kind::Diverged, format!("recovery to record {kept} gave another map"));
        }
        self.records.truncate(kept as usize);
        self.durable = kept;
        self.views = VecDeque::from([view]);
        self.cut = None;
        self.looked = None;
        self.state = state;
        self.stats.crashes += 1;
        self.state.audit()
    }

    /// Holds every decision on every block against the oracle.
    fn check(&mut self) -> Result<(), Fault> {
        let owners = owners(&self.state, self.views.iter());
        let all_durable = self.durable == self.last();
        let now = self.views.back().map_or(&[][..], Vec::as_slice);
        for (block, place) in now {
            let (file, at) = *place;
            let Some(found) = self.state.find(file, at)? else {
                return fault(Kind::Count, format!("file {file} lost its block {at}"));
            };
            let alone = owners[*block] == Owner::Only(*place);
            let fast = self.state.fast(file, &found, self.durable)?;
            let slow = self.state.slow(file, &found, self.durable);
            self.stats.fast += u64::from(fast);
            if (fast || slow) && !alone {
                let by = if fast { "fast path" } else { "slow path" };
                let text = format!("the {by} calls block {block} of {place:?} unshared");
                return fault(Kind::Lie, text);
            }
            if all_durable && alone && !slow {
                let text = format!("block {block} of {place:?} is its own, yet called shared");
                return fault(Kind::Stuck, text);
            }
        }
        Ok(())
    }

    /// Removes all files but one, makes everything durable, and demands that
    /// the one that is left writes in place again after one look-up.
    pub(crate) fn last_owner_regains(&mut self) -> Result<(), Fault> {
        let open: Vec<FileId> =
            self.state.files.keys().copied().filter(|file| self.open(*file)).collect();
        for file in open.iter().skip(1) {
            self.step(&Op::Map(Record::Condemn { file: *file }))?;
        }
        while let Some(file) = self.state.files.iter().find(|(_, f)| f.condemned).map(|(id, _)| *id)
        {
            self.step(&Op::Map(Record::Slice { file }))?;
        }
        self.step(&Op::Sync { late: 0 })?;
        self.state.blocks.iter_mut().for_each(|count| count.quarantine = 0);
        self.state.settle(self.durable);
        let Some(file) = open.first().copied() else { return Ok(()) };
        let owners = owners(&self.state, self.views.iter());
        let now = self.views.back().cloned().unwrap_or_default();
        let places = now.into_iter().filter(|(b, place)| owners[*b] == Owner::Only(*place));
        for (block, (_, at)) in places {
            if !self.decide(file, at)? {
                return fault(Kind::Stuck, format!("block {block} at {at} stays shared"));
            }
            self.stats.regained += 1;
        }
        Ok(())
    }
}
