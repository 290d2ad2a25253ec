//! How long a durable reflink takes, for files of few and of many extents.

use super::stage::Stage;
use crate::failure::Outcome;
use crate::size;
use crate::verb::work;
use std::time::{Duration, Instant};

/// Reflinks timed for each file; the median is told.
const TIMES: usize = 21;

/// A file's extents and the time of one durable reflink of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timed {
    pub(super) extents: u64,
    pub(super) reflink: Duration,
}

/// Makes the files and times their reflinks.
pub(super) fn reflinks(stage: &Stage) -> Outcome<Vec<Timed>> {
    stage.scale.extents.iter().map(|&extents| reflink(stage, extents)).collect()
}

fn reflink(stage: &Stage, extents: u64) -> Outcome<Timed> {
    let store = stage.store();
    let name = format!("extents/{extents}").into_bytes();
    let start = Instant::now();
    let file = store.create(&name)?;
    work::make_extents(store, &file, extents, stage.seed)?;
    store.checkpoint()?;
    let has = file.stat()?.extents;
    stage.say("write", start, format!("a file of {}", size::of(has, "extent")))?;
    let mut times = Vec::new();
    for i in 0..TIMES {
        let to = format!("extents/{extents}/copy-{i}");
        let start = Instant::now();
        let copy = file.reflink(to.as_bytes())?;
        copy.sync()?;
        times.push(start.elapsed());
    }
    let reflink = median(times);
    let text = format!("{}, durable: median of {TIMES}", size::of(has, "extent"));
    stage.say_took("reflink", reflink, text)?;
    Ok(Timed { extents, reflink })
}

/// The middle one.
pub(super) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
