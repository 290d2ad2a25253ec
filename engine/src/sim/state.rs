//! The state of a simulated medium: operations in flight, their order, their
//! faults, and the moment of a crash.
//!
//! What an operation does to the bytes is in `apply`; the layers of bytes are
//! in `cache`.

use super::cache::{Cache, Change, Mask, Origin};
use super::image::{Block, SimImage};
use super::options::{FailPlan, Hold, OpKind, SimOptions, SimStats};
use super::rng::Rng;
use super::{Inner, lock};
use crate::medium::{BLOCK, Completion, Error, ErrorKind, Op};
use std::sync::{Arc, Weak};

/// An operation that was submitted and not polled.
#[derive(Debug)]
pub(super) struct Flying {
    /// The queue; none when it was dropped.
    pub(super) queue: Option<u64>,
    pub(super) tag: u64,
    pub(super) kind: OpKind,
    pub(super) op: Op,
    /// The bytes of a write, for the buffer goes back before they are durable.
    pub(super) data: Vec<Arc<Block>>,
    /// What a read's blocks held when it was submitted.
    pub(super) seen: Vec<Arc<Block>>,
    /// The number of the next change at submission: what a flush covers.
    pub(super) before: u64,
    /// The tick from which it may complete.
    due: u64,
    /// The error with which it ends.
    fault: Option<ErrorKind>,
}

impl Flying {
    /// Makes it end with an error.
    pub(super) fn fault_with(&mut self, kind: ErrorKind) {
        self.fault = Some(kind);
    }

    /// Bytes that it writes; without limit for what is no write, which no
    /// device makes atomic.
    pub(super) fn write_bytes(&self) -> usize {
        if self.kind == OpKind::Write { self.data.len() * BLOCK } else { usize::MAX }
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) options: SimOptions,
    pub(super) cache: Cache,
    pub(super) rng: Rng,
    pub(super) flying: Vec<Flying>,
    pub(super) stats: SimStats,
    /// Operations that change something, so far.
    pub(super) steps: u64,
    pub(super) crash_at: Option<u64>,
    /// Nothing is taken any more.
    pub(super) dead: bool,
    pub(super) liar: bool,
    pub(super) losses: u64,
    pub(super) holds: Vec<Hold>,
    pub(super) next_queue: u64,
    plans: Vec<FailPlan>,
    /// The number of the next change.
    next_change: u64,
    /// Counts polls.
    clock: u64,
    /// What a crash at each step so far would find, while somebody wants to know.
    pub(super) crashes: Option<Vec<Kept>>,
    /// The medium that crashes at the same moment.
    pub(super) twin: Option<Twin>,
}

/// What a crash at one moment would find: on this medium, and on one beside it.
pub(super) type Kept = (Cache, Option<Cache>);

/// A medium that crashes at the same moment as this one.
#[derive(Debug, Clone)]
pub(super) enum Twin {
    /// This one keeps what is kept, and that is the other.
    Second(Weak<Inner>),
    /// The other one does.
    First(Weak<Inner>),
}

impl State {
    pub(super) fn new(options: SimOptions, image: SimImage) -> Self {
        let cache = Cache { visible: image.clone(), durable: image, ..Cache::default() };
        Self {
            rng: Rng::new(options.seed),
            options,
            cache,
            flying: Vec::new(),
            stats: SimStats::default(),
            steps: 0,
            crash_at: None,
            dead: false,
            liar: false,
            losses: 0,
            holds: Vec::new(),
            next_queue: 0,
            plans: Vec::new(),
            next_change: 0,
            clock: 0,
            crashes: None,
            twin: None,
        }
    }

    /// The error of everything after the end.
    pub(super) fn gone() -> Error {
        Error::new(ErrorKind::Gone, "the simulated medium has crashed")
    }

    /// Why an operation is not taken.
    pub(super) fn refusal(&self, op: &Op) -> Option<Error> {
        if self.dead {
            return Some(Self::gone());
        }
        if self.losses > 0 && !matches!(op, Op::Read { .. }) {
            return Some(Error::new(
                ErrorKind::Gone,
                "the simulated medium lost completed writes: open it again",
            ));
        }
        None
    }

    pub(super) fn plan(&mut self, plan: FailPlan) {
        self.plans.push(plan);
    }

    /// The number of a change that is applied now.
    pub(super) fn change(&mut self, origin: Origin, bytes: usize, durable: bool) -> Change {
        let id = self.next_change;
        self.next_change += 1;
        let atomic =
            !matches!(origin, Origin::Store(_)) && bytes <= self.options.atomic_bytes as usize;
        Change { id, origin, atomic, durable }
    }

    /// Takes an operation that was checked.
    pub(super) fn submit(&mut self, queue: u64, tag: u64, op: Op) {
        let kind = OpKind::of(&op);
        self.stats.count(&op);
        let fault = self.fault(kind);
        let (data, seen) = match &op {
            Op::Write { buf, .. } => (blocks_of(buf), Vec::new()),
            Op::Read { at, buf } | Op::Compare { at, buf } => {
                let end = at + (buf.len() / BLOCK) as u64;
                (Vec::new(), (*at..end).map(|block| self.cache.visible.get(block)).collect())
            }
            _ => (Vec::new(), Vec::new()),
        };
        let delay = match self.options.in_order {
            true => 0,
            false => self.rng.below(u64::from(self.options.max_delay) + 1),
        };
        self.flying.push(Flying {
            queue: Some(queue),
            tag,
            kind,
            op,
            data,
            seen,
            before: self.next_change,
            due: self.clock + delay,
            fault,
        });
        if !matches!(kind, OpKind::Read | OpKind::Compare) {
            self.step();
        }
    }

    /// Counts a step; the medium may die of it.
    pub(super) fn step(&mut self) {
        let step = self.steps;
        self.steps += 1;
        self.keep_crash();
        if self.crash_at == Some(step) {
            self.crash();
        }
    }

    /// Keeps what a crash now would find, on both media where there are two.
    fn keep_crash(&mut self) {
        let other = match &self.twin {
            Some(Twin::Second(other) | Twin::First(other)) => other.upgrade(),
            None => None,
        };
        let mut other = other.as_deref().map(lock);
        if let (Some(Twin::First(_)), Some(first)) = (&self.twin, &mut other) {
            if first.crashes.is_some() {
                let both = (first.after_crash(), Some(self.after_crash()));
                first.crashes.get_or_insert_default().push(both);
            }
        } else if self.crashes.is_some() {
            let both = (self.after_crash(), other.map(|second| second.after_crash()));
            self.crashes.get_or_insert_default().push(both);
        }
    }

    /// The fault that a plan has for an operation submitted now.
    pub(super) fn fault(&mut self, kind: OpKind) -> Option<ErrorKind> {
        let mut fault = None;
        self.plans.retain_mut(|plan| {
            if plan.kind != kind {
                return true;
            }
            if plan.after > 0 {
                plan.after -= 1;
                return true;
            }
            fault.get_or_insert(plan.error);
            plan.sticky
        });
        fault
    }

    /// The end: what is in flight may leave any part of itself behind.
    pub(super) fn crash(&mut self) {
        if self.dead {
            return;
        }
        self.dead = true;
        self.cache = self.after_crash();
    }

    /// The cache with what the operations in flight may leave behind.
    fn after_crash(&self) -> Cache {
        let mut order: Vec<&Flying> = self.flying.iter().collect();
        self.rng.clone().shuffle(&mut order);
        let mut cache = self.cache.clone();
        for (id, op) in (self.next_change..).zip(order) {
            let atomic = op.write_bytes() <= self.options.atomic_bytes as usize;
            let change = Change { id, origin: Origin::Unreported, atomic, durable: false };
            for (block, data) in self.outcome_of(op) {
                cache.add(block, data, Mask::ALL, change);
            }
        }
        cache
    }

    /// Advances the time by a poll and gives what completes for a queue.
    pub(super) fn poll(&mut self, queue: u64, done: &mut Vec<Completion>) -> usize {
        self.clock += 1;
        let mut ready: Vec<Flying> = Vec::new();
        let mut index = 0;
        while index < self.flying.len() {
            let op = &self.flying[index];
            let ours = op.queue.is_none_or(|q| q == queue);
            if ours && (self.dead || (op.due < self.clock && !self.is_held(op))) {
                ready.push(self.flying.remove(index));
            } else {
                index += 1;
            }
        }
        if !self.options.in_order {
            self.rng.shuffle(&mut ready);
        }
        let before = done.len();
        // Last to first, so that those not applied yet are found behind.
        ready.reverse();
        while let Some(op) = ready.pop() {
            self.finish(op, &ready, done);
        }
        done.len() - before
    }

    /// Ends an operation. `rest` completes in the same poll, after it.
    fn finish(&mut self, mut op: Flying, rest: &[Flying], done: &mut Vec<Completion>) {
        let result = match (self.dead, op.fault) {
            (true, _) => Err(Self::gone()),
            (false, None) => self.apply(&mut op, rest),
            (false, Some(kind)) => {
                self.apply_failed(&mut op);
                if kind == ErrorKind::Gone && self.losses == 0 {
                    self.crash();
                }
                Err(Error::new(kind, format!("injected: {:?} failed", op.kind)))
            }
        };
        // A dropped queue has nobody to tell.
        if op.queue.is_some() {
            done.push(Completion { tag: op.tag, result, buf: op.op.into_buffer() });
        }
    }

    pub(super) fn is_held(&self, op: &Flying) -> bool {
        self.holds
            .iter()
            .any(|hold| hold.kind.is_none_or(|k| k == op.kind) && hold.tags.contains(&op.tag))
    }

    /// Moves the time on to where a queue has something to poll; false when
    /// all it has in flight is held.
    pub(super) fn skip_to_completion(&mut self, queue: u64) -> bool {
        if self.dead {
            return true;
        }
        let due = self
            .flying
            .iter()
            .filter(|op| op.queue == Some(queue) && !self.is_held(op))
            .map(|op| op.due)
            .min();
        let Some(due) = due else { return false };
        self.clock = self.clock.max(due);
        true
    }

    pub(super) fn in_flight(&self, queue: u64) -> usize {
        self.flying.iter().filter(|op| op.queue == Some(queue)).count()
    }

    /// A queue is gone; what it had in flight goes on by itself.
    pub(super) fn abandon(&mut self, queue: u64) {
        for op in &mut self.flying {
            if op.queue == Some(queue) {
                op.queue = None;
            }
        }
        // A read has nobody to read for.
        self.flying.retain(|op| op.queue.is_some() || op.kind != OpKind::Read);
    }
}

/// The blocks of a buffer.
fn blocks_of(bytes: &[u8]) -> Vec<Arc<Block>> {
    bytes.as_chunks::<BLOCK>().0.iter().map(|block| Arc::new(*block)).collect()
}
