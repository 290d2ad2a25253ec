//! A history that ran on a simulated medium, and what it promised at each moment.

use crate::history::{Driver, Effect, Op, State};
use freehold_engine::sim::SimMedium;

/// What ran, and when.
#[derive(Debug, Clone)]
pub struct Story {
    /// The operations.
    pub ops: Vec<Op>,
    /// Before each operation, and after the last.
    pub states: Vec<State>,
    /// What each did.
    pub effects: Vec<Effect>,
    /// How many crashes had been kept before each operation, and after the last.
    marks: Vec<usize>,
}

/// What holds at a crash.
#[derive(Debug, Clone, Copy)]
pub struct Moment<'a> {
    /// The story.
    pub story: &'a Story,
    /// The operation that was under way; all before it had returned.
    pub running: usize,
}

impl Story {
    /// Does the operations and keeps the crashes of the medium.
    ///
    /// # Errors
    /// What an operation did wrong.
    pub fn record(medium: &SimMedium, driver: &mut Driver, ops: &[Op]) -> Result<Self, String> {
        medium.keep_crashes();
        let mut story = Story {
            ops: ops.to_vec(),
            states: vec![driver.state.clone()],
            effects: Vec::new(),
            marks: vec![0],
        };
        for (i, op) in ops.iter().enumerate() {
            let effect = driver.step(op);
            story.effects.push(effect.map_err(|e| format!("operation {i}, {op:?}: {}", e.text()))?);
            story.states.push(driver.state.clone());
            story.marks.push(medium.crashes());
        }
        Ok(story)
    }

    /// Crashes that were kept.
    pub fn steps(&self) -> usize {
        *self.marks.last().expect("there is a mark at the end")
    }

    /// The moment of a crash.
    pub fn moment(&self, step: usize) -> Moment<'_> {
        let running = self.marks.partition_point(|m| *m <= step) - 1;
        Moment { story: self, running: running.min(self.ops.len() - 1) }
    }

    /// Does the operation's record name this file?
    pub(super) fn names(&self, op: usize, file: u32) -> bool {
        let (a, b) = (&self.states[op], &self.states[op + 1]);
        let named = |s: &State| s.names.iter().find(|(_, f)| **f == file).map(|(n, _)| n.clone());
        let size = |s: &State| s.files.get(&file).map(|c| c.size);
        // Others may find that there is nothing to do, and then make no record.
        let shares = matches!(self.ops[op], Op::Reflink { .. } | Op::ReflinkRange { .. });
        (shares && self.effects[op].mapped.iter().any(|t| t.file == file))
            || named(a) != named(b)
            || size(a) != size(b)
    }
}

impl Moment<'_> {
    /// So many operations must be there, as far as records tell.
    pub(super) fn least(&self) -> usize {
        let mut least = 0;
        for (i, effect) in self.story.effects[..self.running].iter().enumerate() {
            if effect.synced_all || effect.recorded {
                least = i + 1;
            } else if let Some(file) = effect.synced.or(effect.promised()) {
                // Of a batch that is synced, the writes belong to it.
                let named = (0..=i).rev().find(|k| self.story.names(*k, file));
                least = least.max(named.map_or(0, |k| k + 1));
            }
        }
        least
    }

    /// The last operation after which all writes to the file were durable.
    pub(super) fn synced(&self, file: u32) -> usize {
        let effects = self.story.effects[..self.running].iter();
        let last = effects.enumerate().rev().find(|(_, e)| e.synced_all || e.synced == Some(file));
        last.map_or(0, |(i, _)| i + 1)
    }
}
