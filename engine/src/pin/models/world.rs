//! What the models run in: loom's atomics and threads, a few counters, and
//! membarrier as a fence on every thread.
//!
//! # Why the model of membarrier is faithful
//!
//! What the system promises: for each other thread of the process there is a point
//! of its program, between the call and its return, at which the thread passes a
//! full barrier (it is interrupted there, or was not running). So the model's call
//! asks each thread, and returns when each has answered; a thread looks for such a
//! question between any two of its accesses (`step`), and where it finds one it
//! executes a sequentially consistent fence and answers.
//!
//! - It allows all that the system does. The look is a relaxed load, so a thread may
//!   miss the question at any number of steps and be interrupted at any later one:
//!   every point of its program is tried. A relaxed load orders nothing when it
//!   finds no question. Between two steps there is one access that others can see
//!   (or, with the lock of the lists held, what they see as one), so no point is
//!   left out; what the machine reorders elsewhere, loom's relaxed accesses do too.
//! - It promises no more than the system. Question, fence and answer order what is
//!   before the call before what is after the point, and what is before the point
//!   before what is after the return: a full barrier on both sides does that too.
//! - A thread that has ended has answered for good: the system switched away from it.
//!   A thread that is in the call itself has answered too, because the call begins and
//!   ends with a barrier. It takes that answer back before the last one: who still
//!   reads it has asked before that barrier. Two calls wait one after the other, which
//!   loom could not explore otherwise; as each is a full barrier for its caller, and
//!   for each thread a point of its own, they order no less when they overlap.
//!
//! What the compiler fences forbid, the compiler's reordering, is not in the model:
//! it runs the program in the order of the source, which is what they enforce.

use super::super::table::{Exit, Own, Roll};
use loom::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
pub(in crate::pin) use loom::sync::atomic::fence;
pub(crate) use loom::sync::{Mutex, atomic::AtomicU64};
use std::cell::Cell;
use std::sync::Arc;

pub(crate) use super::super::sync::Fault;

pub(in crate::pin) const CELLS: usize = 2;
pub(in crate::pin) const CHUNKS: usize = 2;
pub(in crate::pin) const PAGE: usize = 1;

loom::lazy_static! {
    pub(in crate::pin) static ref ROLL: Mutex<Roll> = Mutex::new(Roll::new());
    /// One call of membarrier at a time.
    static ref CALL: Mutex<()> = Mutex::new(());
}

loom::thread_local! {
    pub(in crate::pin) static OWN: Own = Own::new();
    /// Only asked whether it is still there; `run` ends a thread itself.
    pub(in crate::pin) static EXIT: () = ();
    static ME: Cell<Option<Arc<Mail>>> = Cell::new(None);
    static ALL: Cell<Option<Arc<Vec<Arc<Mail>>>>> = Cell::new(None);
}

/// Which of the two protocols a model runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Membarrier,
    Fences,
}

std::thread_local! {
    // loom runs a model's threads as coroutines of the test's own thread.
    static FORM: Cell<Form> = const { Cell::new(Form::Membarrier) };
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
    static WRONG: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// The questions that a thread was asked, and the last that it answered.
struct Mail {
    asked: AtomicU64,
    answered: AtomicU64,
}

pub(in crate::pin) fn registered() -> bool {
    FORM.get() == Form::Membarrier
}

pub(crate) fn broken(fault: Fault) -> bool {
    FAULT.get() == Some(fault)
}

pub(in crate::pin) fn compiler_barrier() {
    step();
}

pub(in crate::pin) fn counters() -> Option<&'static [[AtomicU64; 2]; CELLS]> {
    let pair = |_| [AtomicU64::new(0), AtomicU64::new(0)];
    Some(Box::leak(Box::new(std::array::from_fn(pair))))
}

fn taken<T: Clone>(cell: &Cell<Option<T>>) -> Option<T> {
    let value = cell.take();
    cell.set(value.clone());
    value
}

/// A point at which this thread may be interrupted by another's membarrier.
pub(crate) fn step() {
    if let Some(mail) = ME.with(taken) {
        let asked = mail.asked.load(Relaxed);
        // Written by this thread alone.
        if asked > mail.answered.load(Relaxed) {
            fence(SeqCst);
            mail.answered.store(asked, Release);
        }
    }
}

pub(in crate::pin) fn membarrier() -> std::io::Result<()> {
    let (me, all) = (ME.with(taken), ALL.with(taken));
    let (Some(me), Some(all)) = (me, all) else { return Ok(()) };
    fence(SeqCst);
    me.answered.store(u64::MAX, Release);
    let one = CALL.lock().expect("no panics");
    let others = all.iter().filter(|mail| !Arc::ptr_eq(mail, &me));
    let asked: Vec<_> = others.map(|m| (m, m.asked.fetch_add(1, Relaxed) + 1)).collect();
    for (mail, ticket) in asked {
        while mail.answered.load(Acquire) < ticket {
            loom::thread::yield_now();
        }
    }
    drop(one);
    me.answered.store(me.asked.load(Relaxed), Release);
    fence(SeqCst);
    Ok(())
}

/// Enters a lock under which others may call membarrier. A thread that waits there was switched
/// away from, and has answered as one has that is in the call itself. One that need not wait
/// passes barriers here that the system does not promise; whoever relies on what is before or
/// after a lock relies on the lock.
pub(in crate::pin) fn blocked<T>(enter: impl FnOnce() -> T) -> T {
    let Some(me) = ME.with(taken) else { return enter() };
    fence(SeqCst);
    me.answered.store(u64::MAX, Release);
    let entered = enter();
    me.answered.store(me.asked.load(Relaxed), Release);
    fence(SeqCst);
    entered
}

/// A thread of a model.
pub(crate) type Body = Box<dyn FnOnce() + Send>;

/// Runs these at once, the last on the model's own thread, and joins them.
pub(crate) fn run(mut bodies: Vec<Body>) {
    let mail = || Mail { asked: AtomicU64::new(0), answered: AtomicU64::new(0) };
    let all: Arc<Vec<_>> = Arc::new(bodies.iter().map(|_| Arc::new(mail())).collect());
    let enter = |body: Body, mail: Arc<Mail>, all: Arc<Vec<Arc<Mail>>>| {
        move || {
            ME.with(|me| me.set(Some(mail.clone())));
            ALL.with(|mails| mails.set(Some(all)));
            body();
            drop(Exit);
            ME.with(|me| me.set(None));
            mail.answered.store(u64::MAX, Release);
        }
    };
    let last = bodies.pop().map(|body| enter(body, all[bodies.len()].clone(), all.clone()));
    let spawned = bodies.into_iter().zip(all.iter().cloned());
    let spawned: Vec<_> =
        spawned.map(|(body, mail)| loom::thread::spawn(enter(body, mail, all.clone()))).collect();
    if let Some(last) = last {
        last();
    }
    for thread in spawned {
        thread.join().expect("a thread of the model");
    }
}

/// Notes that something happened which must not. (A panic in the middle of a model
/// would unwind through guards whose atomics are gone.)
pub(crate) fn must(holds: bool, what: &'static str) {
    if !holds {
        WRONG.set(Some(what));
    }
}

/// Tries every run of a model with at most `preemptions` of them, and tells what
/// went wrong in one, if anything did in any.
fn explore(form: Form, fault: Option<Fault>, preemptions: usize, model: fn()) -> Option<String> {
    FORM.set(form);
    FAULT.set(fault);
    WRONG.set(None);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    let explored = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        builder.check(move || {
            // Nothing of this run exists yet, so nothing is unwound.
            if let Some(what) = WRONG.get() {
                std::panic::panic_any(what);
            }
            model();
        })
    }));
    match (WRONG.get(), explored) {
        (Some(what), _) => Some(what.to_owned()),
        (None, Err(panic)) => std::panic::resume_unwind(panic),
        (None, Ok(())) => None,
    }
}

/// No run of the model goes wrong, in either form.
pub(crate) fn holds(preemptions: usize, model: fn()) {
    for form in [Form::Membarrier, Form::Fences] {
        assert_eq!(explore(form, None, preemptions, model), None, "{form:?}");
    }
}

/// With that part of the protocol left out some run of the model goes wrong.
pub(crate) fn misses(form: Form, fault: Fault, preemptions: usize, model: fn()) {
    let wrong = explore(form, Some(fault), preemptions, model);
    assert!(wrong.is_some(), "{form:?} without {fault:?}: nothing was found");
}
