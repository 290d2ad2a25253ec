//! Taking away a file of many extents.

use super::Site;
use crate::bed::{self, Bed};
use crate::outcome::{Outcome, fail};
use crate::results::{Results, Side};
use std::time::{Duration, Instant};

pub(crate) const HOW: &str = "The time for each extent, so that files of different length compare: \
    a million extents for Freehold, a hundred thousand for XFS and btrfs (fewer in a quick run). \
    The first row ends when the call is durable, the second when the space is free for others.";

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let (ours, theirs) = site.scale.removed;
    let extents = if side == Side::Freehold { ours } else { theirs };
    let bed = bed::make(site.stage, side)?;
    for (verb, truncate) in [("unlink", false), ("truncate", true)] {
        let name = verb;
        bed.put("other", 0, 1 << 20)?;
        bed.settle()?;
        let empty = bed.free()?;
        bed.many(name, extents)?;
        bed.settle()?;
        let start = Instant::now();
        if truncate {
            bed.truncate(name)?
        } else {
            bed.remove(name)?
        }
        let called = start.elapsed();
        wait(bed.as_ref(), empty)?;
        let freed = start.elapsed();
        let each = |t: Duration| t.div_f64(extents as f64);
        results.time("removal", format!("{verb}, durable, each extent"), side, each(called));
        results.time("removal", format!("{verb}, space free, each extent"), side, each(freed));
    }
    Ok(())
}

/// Until all but 2 MiB of what was free is free again.
fn wait(bed: &dyn Bed, empty: u64) -> Outcome {
    let begun = Instant::now();
    while bed.free()? + (2 << 20) < empty {
        if begun.elapsed() > Duration::from_secs(60) {
            return fail("the space was not free after a minute");
        }
        bed.settle()?;
    }
    Ok(())
}
