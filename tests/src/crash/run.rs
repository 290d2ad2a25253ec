//! Choosing crashes, recovering, judging, going on.

use super::judge;
use super::machine::{Journal, Machine};
use super::story::Story;
use crate::history::{Driver, Op, State, Taste, all_comes_back, clean, listed, make, shrink};
use crate::model::tiny_cache;
use crate::random::{Random, guarded};
use freehold::{OpenOptions, Store};
use freehold_engine::sim::{SimOptions, Survival};

/// Which crashes of a history are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Of the history and of what survives.
    pub seed: u64,
    /// Blocks of the store.
    pub blocks: u64,
    /// Stores through a window tear at 8 bytes.
    pub window: bool,
    /// Look at every step, or at about so many.
    pub steps: usize,
    /// Outcomes of each crash.
    pub outcomes: u64,
    /// How often to go on after a recovery and crash again.
    pub again: u32,
    /// So many syncs come first, which fill the journal: at about 60 it is half
    /// full and a checkpoint begins by itself; at 126 its ring comes round.
    pub before: u64,
    /// Where the journal is.
    pub journal: Journal,
}

impl Plan {
    fn options(&self) -> SimOptions {
        SimOptions {
            blocks: self.blocks,
            seed: self.seed,
            window: self.window,
            ..Default::default()
        }
    }

    /// A share of the runs has a cache of a few nodes.
    fn open_options(&self) -> OpenOptions {
        OpenOptions { cache_bytes: tiny_cache(self.seed), ..OpenOptions::default() }
    }

    fn grain(&self) -> u64 {
        if self.window { 8 } else { 512 }
    }
}

/// Runs a history and looks at its crashes; says at how many.
///
/// # Errors
/// What is wrong, and at which crash.
pub fn history(plan: &Plan, ops: &[Op]) -> Result<u64, String> {
    history_after(plan, &[], ops)
}

/// As [`history`], after a set-up during which nothing crashes.
///
/// # Errors
/// As there.
pub fn history_after(plan: &Plan, set_up: &[Op], ops: &[Op]) -> Result<u64, String> {
    let machine = Machine::new(plan.options(), plan.journal);
    let store = machine.format()?;
    let free = store.space().free;
    store.close().map_err(|e| format!("close: {e}"))?;
    let store = machine.open(&plan.open_options())?;
    fill_journal(&store, plan.before)?;
    let mut driver = driver(&machine, store, State::default());
    for op in set_up {
        driver.step(op).map_err(|e| format!("{op:?} in the set-up: {}", e.text()))?;
    }
    driver.store().sync().map_err(|e| format!("sync after the set-up: {e}"))?;
    let story = Story::record(&machine.store, &mut driver, ops)?;
    drop(driver);
    let mut run = Run { plan: *plan, free, random: Random::new(plan.seed), points: 0 };
    run.crashes(&machine, &story, plan.steps, plan.again)?;
    Ok(run.points)
}

fn driver(machine: &Machine, store: Store, state: State) -> Driver {
    Driver::new(machine.store.medium(), store, state).with_journal(machine.beside())
}

fn fill_journal(store: &Store, syncs: u64) -> Result<(), String> {
    let name = b"before";
    for i in 0..syncs {
        let done = if i % 2 == 0 { store.create(name).map(drop) } else { store.remove(name) };
        done.and_then(|()| store.sync()).map_err(|e| format!("before the history: {e}"))?;
    }
    match store.remove(name) {
        Ok(()) => store.sync().map_err(|e| e.to_string()),
        Err(_) => Ok(()),
    }
}

struct Run {
    plan: Plan,
    /// Bytes that are free in an empty store.
    free: u64,
    random: Random,
    points: u64,
}

impl Run {
    fn crashes(
        &mut self,
        m: &Machine,
        story: &Story,
        steps: usize,
        again: u32,
    ) -> Result<(), String> {
        let all = story.steps();
        for step in 0..all {
            if all > steps && self.random.below(all as u64) >= steps as u64 {
                continue;
            }
            for outcome in 0..self.plan.outcomes {
                let survival = match (outcome, self.random.below(8)) {
                    (0, 0) => Survival::Nothing,
                    (0, 1) => Survival::Everything,
                    _ => Survival::Random,
                };
                let seed = self.random.next_u64();
                self.one(m, story, (step, survival, seed), again).map_err(|e| {
                    let running = story.moment(step).running;
                    format!(
                        "crash at step {step} of {all} ({survival:?}, {seed:#x}), in operation \
                         {running}, {:?}:\n{e}",
                        story.ops[running]
                    )
                })?;
            }
        }
        Ok(())
    }

    /// One outcome of one crash.
    fn one(
        &mut self,
        m: &Machine,
        story: &Story,
        (step, survival, seed): (usize, Survival, u64),
        again: u32,
    ) -> Result<(), String> {
        self.points += 1;
        let left = m.crash_of(step, survival, seed);
        left.store.keep_crashes();
        let store = left.open(&self.plan.open_options())?;
        let state = judge(story.moment(step), &store, self.plan.grain())?;
        clean(&store)?;
        if again > 0 && self.random.one_in(3) {
            self.during_recovery(&left, story, step)?;
        }
        if again > 0 && self.random.one_in(3) {
            return self.go_on(left, store, state, again - 1);
        }
        if self.random.one_in(24) {
            all_comes_back(&store, self.free)?;
            clean(&store)?;
        }
        Ok(())
    }

    /// A crash while the store recovers: nothing more is lost.
    fn during_recovery(
        &mut self,
        left: &Machine,
        story: &Story,
        step: usize,
    ) -> Result<(), String> {
        let kept = left.store.crashes() as u64;
        if kept == 0 {
            return Ok(());
        }
        let at = self.random.below(kept) as usize;
        let second = left.crash_of(at, Survival::Random, self.random.next_u64());
        let what = |e| format!("crash at step {at} of the recovery:\n{e}");
        self.points += 1;
        let store = second.open(&self.plan.open_options()).map_err(what)?;
        judge(story.moment(step), &store, self.plan.grain()).map_err(what)?;
        clean(&store).map_err(what)
    }

    /// Works on with what was recovered, and crashes again.
    fn go_on(
        &mut self,
        left: Machine,
        store: Store,
        state: State,
        again: u32,
    ) -> Result<(), String> {
        let taste = taste(self.random.next_u64());
        let length = 4 + self.random.below(14) as usize;
        let mut ops = make(&mut self.random, &taste, length);
        for op in &mut ops {
            if let Op::Write { tag, .. }
            | Op::Durable { tag, .. }
            | Op::Batch { tag, .. }
            | Op::Atomic { tag, .. }
            | Op::Scatter { tag, .. } = op
            {
                *tag += 1000 * (again + 1);
            }
        }
        let mut driver = driver(&left, store, state);
        let what = |e| format!("then, after recovery:\n{}{e}", listed(&ops));
        let story = Story::record(&left.store, &mut driver, &ops).map_err(what)?;
        drop(driver);
        self.crashes(&left, &story, 4, again).map_err(what)
    }
}

/// Histories for crashes are short and do much at few places.
fn taste(seed: u64) -> Taste {
    let small = Taste { names: 4, reach: 24 * 4096, write: 4 * 4096, looks: false, ..Taste::SMALL };
    match seed % 8 {
        7 => Taste { durable: 12, syncs: 4, aligned: 5, reach: 8 * 4096, ..small },
        5 => Taste { scattered: (8, 150), reach: 400 * 4096, ..small },
        0 => Taste { syncs: 30, ..small },
        1 => Taste { checkpoints: 12, ..small },
        2 => Taste { removals: 35, ..small },
        3 => Taste { aligned: 3, queued: 0, reach: 6 * 4096, ..small },
        4 => Taste { reach: 5 << 20, write: 800 << 10, names: 8, removals: 12, ..small },
        _ => small,
    }
}

/// The history of a seed.
pub fn case(seed: u64) -> (Plan, Vec<Op>) {
    let mut random = Random::new(seed);
    let plan = Plan {
        seed,
        blocks: 2048,
        window: random.one_in(3),
        steps: usize::MAX,
        outcomes: 2,
        again: 2,
        before: random.below(2) * random.below(140),
        journal: Journal::Inside,
    };
    let length = 12 + random.below(40) as usize;
    (plan, make(&mut random, &taste(seed), length))
}

/// Runs the case of a seed and says at how many crashes it looked. A failure
/// comes with the shortest history found.
///
/// # Errors
/// The failure, the history, and how to run it again.
pub fn seed(seed: u64, steps: usize) -> Result<u64, String> {
    let (plan, ops) = case(seed);
    judged(Plan { steps, ..plan }, &ops, "random_histories")
}

/// The same with the journal on a medium of its own, which crashes at the same moment: a
/// window for two seeds of three.
///
/// # Errors
/// As [`seed`].
pub fn apart_seed(seed: u64, steps: usize) -> Result<u64, String> {
    let (plan, ops) = case(seed);
    let journal = if seed.is_multiple_of(3) { Journal::Blocks } else { Journal::Window };
    judged(Plan { steps, journal, ..plan }, &ops, "apart")
}

fn judged(plan: Plan, ops: &[Op], test: &str) -> Result<u64, String> {
    let seed = plan.seed;
    let first = match guarded(|| history(&plan, ops)) {
        Ok(points) => return Ok(points),
        Err(e) => e,
    };
    if std::env::var_os("FREEHOLD_SABOTAGE").is_some() {
        return Err(first);
    }
    let wide = Plan { steps: usize::MAX, outcomes: 4, again: 1, ..plan };
    let run = |ops: &[Op]| guarded(|| if ops.is_empty() { Ok(0) } else { history(&wide, ops) });
    let short = shrink(ops.to_vec(), 120, |ops| run(ops).is_err());
    let last = run(&short).err().unwrap_or_default();
    Err(format!(
        "{first}\nshortest history ({wide:?}), which fails with: {last}\n{}\n\
         again: FREEHOLD_SEEDS={seed}..{} cargo test -p freehold-tests --test crash {test}",
        listed(&short),
        seed + 1
    ))
}

/// Runs a history, and again with a checkpoint put in at each place; looks at
/// so many outcomes of every crash, after a set-up during which nothing crashes.
///
/// # Errors
/// What is wrong, and where the checkpoint stands.
pub fn everywhere(set_up: &[Op], ops: &[Op], outcomes: u64) -> Result<u64, String> {
    let mut points = 0;
    let media = [(false, Journal::Inside), (true, Journal::Inside), (false, Journal::Window)];
    for (window, journal) in media {
        for place in 0..=ops.len() {
            let mut with = ops.to_vec();
            // The first round has none.
            if place > 0 {
                with.insert(place, Op::Checkpoint);
            }
            let seed = place as u64 * 2 + u64::from(window);
            let plan = Plan {
                seed,
                blocks: 2048,
                window,
                steps: usize::MAX,
                outcomes,
                again: 0,
                before: if place % 2 == 0 { 0 } else { 58 },
                journal,
            };
            points += history_after(&plan, set_up, &with).map_err(|e| {
                format!(
                    "checkpoint at {place}, window: {window}, journal: {journal:?}: {e}\n{}",
                    listed(&with)
                )
            })?;
        }
    }
    Ok(points)
}
