//! How long a durable reflink takes, by the extents of its file.

use super::Site;
use crate::bed;
use crate::outcome::Outcome;
use crate::results::{Results, Side, median};
use std::time::{Duration, Instant};

pub(crate) const HOW: &str = "Every second block of the file is written, those between are \
    allocated. Freehold: `reflink` and `sync`; XFS and btrfs: FICLONE and fsync of the copy. \
    Each value is the median of five reflinks, or of as many as fit into two seconds.";

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let bed = bed::make(site.stage, side)?;
    // The first one of all pays for much else.
    bed.put("warm", 0, 4096)?;
    bed.reflink("warm", "warmer")?;
    for &extents in site.scale.extents {
        let name = format!("extents-{extents}");
        bed.many(&name, extents)?;
        bed.settle()?;
        let begun = Instant::now();
        let mut times = Vec::new();
        while times.len() < 5 && begun.elapsed() < Duration::from_secs(2) {
            let copy = format!("copy-{extents}-{}", times.len());
            let start = Instant::now();
            bed.reflink(&name, &copy)?;
            times.push(start.elapsed().as_secs_f64());
        }
        if let Some(time) = median(&times) {
            results.time("reflink", case(extents), side, Duration::from_secs_f64(time));
        }
    }
    Ok(())
}

/// The name of a case, which the plot reads back.
pub(crate) fn case(extents: u64) -> String {
    format!("{extents} extent{}", if extents == 1 { "" } else { "s" })
}
