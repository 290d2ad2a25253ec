//! Durable writes where the CPU reaches the storage (`window`).

use super::Site;
use crate::outcome::Outcome;
use crate::results::{Results, Side, Unit};
use freehold_bench::windows::WindowBed;

pub(crate) const HOW: &str = "A store on a file of memory that plays persistent memory \
    (`pmem:...?volatile=1&exclusive=1`, every page touched before): the instructions are those of \
    persistent memory, the medium is this machine's memory. Beside it the bare instructions in \
    private memory: 4 KiB copied to a random block of 16 MiB, written back, fenced; and for an \
    append the same in order of the blocks, then one of 192 bytes, as a journal's record takes, \
    with a fence of its own. What is between two such rows is the store's software. One thread, \
    `write_durable_at` for appends, checkpoints included.";

/// Rows of which the first is ours and the second what it is held against.
pub(crate) const RIVALS: &[(&str, &str)] =
    &[("durable overwrite by a lease", "copied and written back"), (APPEND, BARE_APPEND)];

const APPEND: &str = "durable append";
const BARE_APPEND: &str = "a block and a record copied and written back";

/// Turns in a round.
const TURNS: usize = 5;

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let count = site.scale.leases;
    let mut bed = WindowBed::new()?;
    // The journal's ring goes round before anything counts.
    bed.appended(count)?;
    for _ in 0..TURNS {
        for (name, each) in [
            ("copied and written back", bed.bare(count)?),
            ("durable overwrite by a lease", bed.by_lease(count)?),
            (BARE_APPEND, bed.bare_append(count)?),
            (APPEND, bed.appended(count)?),
        ] {
            results.add("window", name, Unit::Time, side, each);
        }
    }
    Ok(())
}
