//! The look-ups of a large map again, in a process whose memory lies in huge pages: a load
//! from a random place then waits for the memory and not for the page tables as well.

use super::super::Site;
use super::super::null::through_queue;
use super::{ROUNDS, large, load, small};
use crate::bed::BLOCK;
use crate::outcome::{Outcome, fail};
use crate::results::{Results, Side, Unit};
use freehold::Store;
use freehold_bench::null::NullMedium;
use freehold_engine::mem::MemMedium;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// What glibc's allocator is told. Another allocator does not listen, and says nothing.
const TUNABLES: (&str, &str) = ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1");

/// Has a process with such memory measure, and notes what it says.
pub(super) fn run(site: &Site<'_>, results: &mut Results) -> Outcome {
    let (extents, time) = (site.scale.map, site.scale.time);
    let out = Command::new(std::env::current_exe()?)
        .env(TUNABLES.0, TUNABLES.1)
        .arg("--work")
        .arg(site.dir)
        .args(["--look-up", &extents.to_string(), &time.as_millis().to_string()])
        .output()?;
    let text = String::from_utf8_lossy(&out.stdout);
    let numbers: Vec<f64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    if numbers.len() != 2 * ROUNDS {
        return fail(format!("nothing was looked up: {}", String::from_utf8_lossy(&out.stderr)));
    }
    let mut took = |name, n| results.add("map", name, Unit::Time, Side::Freehold, n);
    for pair in numbers.chunks(2) {
        took(format!("look-up among {extents} extents, in huge pages"), pair[0]);
        took(format!("one load from {} MiB, in huge pages", (30 * extents) >> 20), pair[1]);
    }
    Ok(())
}

/// Looks up as [`super::run`] does, and says for each round what a look-up took and what
/// one load.
pub(crate) fn print(words: &[u64]) -> Outcome {
    let [extents, millis] = *words else { return fail("extents and milliseconds are wanted") };
    let time = Duration::from_millis(millis);
    // Only what is metadata takes memory.
    let inner = MemMedium::new(extents * BLOCK * 5 / 4 + (64 << 20))?;
    let medium = NullMedium::new(Arc::new(inner));
    let store = Store::format_on(medium.clone())?;
    let (one, file) = (small(&store)?, large(&store, extents)?);
    medium.silence();
    let alone = 1.0 / through_queue(&store, &one, time, |rng| rng.below(256))?;
    through_queue(&store, &file, time, |rng| rng.below(extents) * 2)?;
    for _ in 0..ROUNDS {
        let among = 1.0 / through_queue(&store, &file, time, |rng| rng.below(extents) * 2)?;
        println!("{} {}", (among - alone).max(0.0), load(30 * extents));
    }
    Ok(())
}
