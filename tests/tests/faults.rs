//! Errors of the device, at every operation of a workload in turn: what fails
//! says so, nothing that was promised is lost, and nothing is promised on top of
//! a lost write.
//!
//! A seed draws a workload and strikes at one operation in [`SHARE`] of it:
//! `FREEHOLD_SEEDS=A..B cargo test -p freehold-tests --test faults`

#[path = "faults/load.rs"]
mod load;

use freehold_engine::medium::ErrorKind;
use freehold_engine::sim::{FailPlan, OpKind, SimMedium};
use freehold_tests::seeds;
use load::{Load, Outcome};

/// How often a command cut off by a reset is issued again.
const RETRIES: u64 = 3;

/// Of the operations of a workload, a seed strikes at one in so many.
const SHARE: u64 = 8;

/// Runs the workload of a seed with faults planned on its medium, and verifies
/// all that must hold however they strike.
fn run(seed: u64, what: &str, plan: impl Fn(&SimMedium)) -> Outcome {
    let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut load = Load::new(seed);
        plan(&load.sim);
        load.run()?;
        load.verify()?;
        Ok::<Outcome, String>(load.outcome)
    }));
    match run {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(why)) => panic!("{what}: {why}\n{}", seeds::again("faults", seed)),
        Err(_) => panic!("{what}: see above\n{}", seeds::again("faults", seed)),
    }
}

/// How many operations of a kind the workload gives the device.
fn count(seed: u64, kind: OpKind) -> u64 {
    let mut load = Load::new(seed);
    let before = load.sim.stats();
    load.run().unwrap();
    let now = load.sim.stats();
    load.verify().unwrap();
    assert_eq!(load.outcome, Outcome::default(), "a sound device gives no error");
    match kind {
        OpKind::Read => now.reads - before.reads,
        OpKind::Write => now.writes - before.writes,
        _ => now.flushes - before.flushes,
    }
}

/// Fails one operation of a kind after the other.
fn at_each(kind: OpKind, error: ErrorKind, sticky: bool, mut judge: impl FnMut(u64, Outcome)) {
    for seed in seeds::range(0..3) {
        let n = count(seed, kind);
        assert!(n > 4, "only {n} {kind:?} operations");
        for after in (0..n).skip((seed % SHARE) as usize).step_by(SHARE as usize) {
            let plan = FailPlan { kind, after, sticky, error };
            judge(after, run(seed, &format!("{plan:?}"), |sim| sim.fail(plan)));
        }
    }
}

#[test]
fn a_write_fails_once() {
    let (mut data, mut own) = (0, 0);
    at_each(OpKind::Write, ErrorKind::Io, false, |_, outcome| {
        // Either a write of data, which fails alone, or one of the store's own,
        // which poisons it; never nothing, never both.
        assert_eq!(outcome.failed, u32::from(!outcome.poisoned), "{outcome:?}");
        data += outcome.failed;
        own += u32::from(outcome.poisoned);
    });
    assert!(data > 10 && own > 10, "{data} writes of data failed, {own} others");
}

#[test]
fn writes_fail_for_ever() {
    at_each(OpKind::Write, ErrorKind::Io, true, |_, outcome| {
        assert!(outcome.failed > 0 || outcome.poisoned, "{outcome:?}");
    });
}

#[test]
fn a_flush_fails() {
    for (error, sticky) in [(ErrorKind::Io, false), (ErrorKind::Io, true), (ErrorKind::Reset, true)]
    {
        at_each(OpKind::Flush, error, sticky, |_, outcome| {
            assert!(outcome.poisoned && outcome.failed == 0, "{outcome:?}");
        });
    }
}

#[test]
fn a_read_fails_once() {
    let (mut told, mut all) = (0, 0);
    at_each(OpKind::Read, ErrorKind::Io, false, |_, outcome| {
        // A checkpoint that cannot read what it builds on poisons the store; a
        // removal under way stops, and nobody waits for it.
        let (failed, poisoned) = (outcome.failed, u32::from(outcome.poisoned));
        assert!(failed + poisoned <= 1, "{outcome:?}");
        told += failed + poisoned;
        all += 1;
    });
    assert!(told > all / 2, "only {told} of {all} were told");
}

#[test]
fn what_a_reset_cuts_off_is_issued_again() {
    for kind in [OpKind::Write, OpKind::Read, OpKind::Flush] {
        at_each(kind, ErrorKind::Reset, false, |_, outcome| {
            assert_eq!(outcome, Outcome::default(), "one reset is nobody's error");
        });
    }
}

#[test]
fn what_is_cut_off_again_and_again_fails() {
    for kind in [OpKind::Write, OpKind::Read] {
        let mut failed = 0;
        for after in (0..count(0, kind)).step_by(9) {
            for times in [RETRIES, RETRIES + 1] {
                let what = format!("{times} resets of {kind:?} from {after} on");
                let outcome = run(0, &what, |sim| {
                    for after in after..after + times {
                        let error = ErrorKind::Reset;
                        sim.fail(FailPlan { kind, after, sticky: false, error });
                    }
                });
                if times <= RETRIES {
                    assert_eq!(outcome, Outcome::default(), "{what}");
                }
                failed += u32::from(outcome != Outcome::default());
            }
        }
        assert!(failed > 1, "only {failed} operations gave up");
    }
}

#[test]
fn the_medium_vanishes() {
    for kind in [OpKind::Write, OpKind::Read, OpKind::Flush] {
        at_each(kind, ErrorKind::Gone, false, |after, outcome| {
            assert!(outcome.gone && outcome.poisoned, "{kind:?} {after}: {outcome:?}");
        });
    }
}

#[test]
fn m3_writes_that_may_have_been_lost_poison_the_store() {
    for seed in seeds::range(0..10) {
        let again = |why| -> String { format!("{why}\n{}", seeds::again("faults", seed)) };
        let mut load = Load::new(seed);
        load.run_to(load.steps() / 2).unwrap_or_else(|why| panic!("{}", again(why)));
        load.sim.lose(seed);
        load.run().unwrap_or_else(|why| panic!("{}", again(why)));
        assert!(load.outcome.poisoned, "{}", again(format!("{:?}", load.outcome)));
        load.verify().unwrap_or_else(|why| panic!("{}", again(why)));
    }
}
