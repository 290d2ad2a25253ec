//! Durable small writes, by one writer and by sixteen.

use super::Site;
use crate::bed::{self, WRITER_BLOCKS};
use crate::drive::{counted, durable};
use crate::outcome::Outcome;
use crate::results::{Results, Side, Unit};

pub(crate) const HOW: &str = "Each writer is a thread with a file of its own. XFS, btrfs and the \
    device: `pwrite` with O_DIRECT and O_DSYNC. Freehold: `write_durable_at`. Device writes and flushes are \
    those that the block layer counts for the loop device: it counts a flush among the writes \
    as well, and neighbouring writes that it has joined as one.";

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let bed = bed::make(site.written()?, side)?;
    let mut first = 0;
    for append in [false, true] {
        if append && side == Side::Raw {
            break;
        }
        for writers in [1, 16] {
            let own = (first..first + writers).map(|i| bed.writer(i, append));
            let own = own.collect::<Outcome<Vec<_>>>()?;
            first += writers;
            bed.settle().or_else(|e| if side == Side::Raw { Ok(()) } else { Err(e) })?;
            let mut times = None;
            let (done, cost) = counted(bed.as_ref(), || {
                let (done, all) = durable(own, site.scale.time, append, WRITER_BLOCKS)?;
                times = Some(all);
                Ok(done)
            })?;
            let verb = if append { "append" } else { "overwrite" };
            let s = if writers == 1 { "" } else { "s" };
            let case = format!("{verb}, {writers} writer{s}");
            results.add("durable", &case, Unit::PerSecond, side, done.per_second());
            if let Some(cost) = cost {
                results.cost("durable", &case, side, cost);
            }
            if let Some(times) = times {
                let p99 = times.value_at_quantile(0.99) as f64 / 1e9;
                results.add("durable", format!("{case}, p99"), Unit::Time, side, p99);
            }
        }
    }
    Ok(())
}
