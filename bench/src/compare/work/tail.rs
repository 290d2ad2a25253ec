//! How long durable writes take while checkpoints are being written.

use super::Site;
use crate::bed::{BLOCK, Bed, Ours, WRITER_BLOCKS};
use crate::drive::{Limit, Rng, drive, durable};
use crate::outcome::{Outcome, fail};
use crate::results::{Results, Side, Unit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub(crate) const HOW: &str = "One thread overwrites 4 KiB durably. Alone; beside a thread that \
    overwrites in place at QD16; and beside one that fills random holes at QD16 and writes one \
    checkpoint after each 4,000 of them, so that a checkpoint is under way nearly always.";

#[derive(Clone, Copy, PartialEq)]
enum Load {
    None,
    InPlace,
    Checkpoints,
}

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let loads = [
        ("alone", Load::None),
        ("beside overwrites", Load::InPlace),
        ("during checkpoints", Load::Checkpoints),
    ];
    for (name, load) in loads {
        let ours = Ours::new(site.written()?)?;
        ours.put("other", 0, 16 << 20)?;
        let writer = ours.writer(0, false)?;
        ours.settle()?;
        let before = ours.store.stats().checkpoints;
        let over = AtomicBool::new(false);
        let times = std::thread::scope(|scope| {
            let beside = scope.spawn(|| disturb(&ours, load, &over));
            let measured = durable(vec![writer], 2 * site.scale.time, false, WRITER_BLOCKS);
            over.store(true, Ordering::Release);
            match beside.join() {
                Ok(result) => result.and(measured),
                Err(_) => fail("the load panicked"),
            }
        });
        let (done, times) = times?;
        let rate = format!("{name}, rate");
        results.add("tail", rate, Unit::PerSecond, side, done.per_second());
        for (q, label) in [(0.5, "p50"), (0.99, "p99"), (0.999, "p99.9"), (1.0, "longest")] {
            let time = times.value_at_quantile(q) as f64 / 1e9;
            results.add("tail", format!("{name}, {label}"), Unit::Time, side, time);
        }
        if load == Load::Checkpoints && site.round == 0 {
            let n = ours.store.stats().checkpoints - before;
            results.note("tail", format!("{n} checkpoints were written in the first round"));
        }
    }
    Ok(())
}

fn disturb(ours: &Ours<'_>, load: Load, over: &AtomicBool) -> Outcome {
    let mut rng = Rng::new(5);
    while load != Load::None && !over.load(Ordering::Acquire) {
        if load == Load::InPlace {
            let mut target = ours.target("other", 16)?;
            let limit = Limit::time(Duration::from_millis(50));
            drive(target.as_mut(), 16, true, limit, &mut || rng.below((16 << 20) / BLOCK))?;
        } else {
            let mut target = ours.target("sparse", 16)?;
            let limit = Limit { time: Duration::MAX, count: 4000 };
            drive(target.as_mut(), 16, true, limit, &mut || rng.below(1 << 22))?;
            ours.store.checkpoint()?;
        }
    }
    Ok(())
}
