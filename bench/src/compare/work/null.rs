//! What the engine itself costs: reads from a medium that completes them at
//! once and moves nothing (`null`).

use super::Site;
use crate::bed::BLOCK;
use crate::drive::Rng;
use crate::outcome::{Outcome, fail};
use crate::results::{Results, Side, Unit};
use freehold::{File, Store};
use freehold_bench::null::NullMedium;
use freehold_engine::medium::{Medium, Op};
use std::time::{Duration, Instant};

pub(crate) const HOW: &str = "A memory medium whose reads, once the file is written, complete \
    without a copy: 4 KiB at random blocks of a file of 1 GiB (4 MiB in a tiny run), QD32, one \
    thread, through `File` and `Queue`. The medium alone is the same loop without the store.";

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let size = site.scale.file;
    let inner = freehold_engine::open(&format!("mem:{}", 2 * size), &Default::default())?;
    let medium = NullMedium::new(inner);
    let store = Store::format_on(medium.clone())?;
    let file = store.create(b"file")?;
    let piece = vec![1; 1 << 20];
    for at in (0..size).step_by(1 << 20) {
        file.write_at(&piece, at)?;
    }
    store.checkpoint()?;
    medium.silence();
    let blocks = size / BLOCK;
    let rate = through_queue(&store, &file, site.scale.time, |rng| rng.below(blocks))?;
    results.add("null", "4 KiB reads, QD32, one thread", Unit::PerSecond, side, rate);
    let rate = medium_alone(medium.as_ref(), blocks, site.scale.time)?;
    results.add("null", "the medium alone", Unit::PerSecond, side, rate);
    Ok(())
}

/// Reads a second of the blocks that `place` names, 32 at a time.
pub(super) fn through_queue(
    store: &Store,
    file: &File,
    time: Duration,
    place: impl Fn(&mut Rng) -> u64,
) -> Outcome<f64> {
    let mut queue = store.queue(32)?;
    let mut idle = Vec::with_capacity(32);
    for _ in 0..32 {
        idle.push(queue.buffer(BLOCK as usize)?);
    }
    let (mut rng, mut done, mut count) = (Rng::new(1), Vec::with_capacity(32), 0u64);
    let start = Instant::now();
    while !count.is_multiple_of(1 << 10) || start.elapsed() < time {
        while let Some(buf) = idle.pop() {
            if queue.read(file, place(&mut rng) * BLOCK, buf, 0).is_err() {
                return fail("the queue took no read");
            }
        }
        queue.poll(&mut done);
        for c in done.drain(..) {
            c.result?;
            idle.extend(c.buf);
            count += 1;
        }
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn medium_alone(medium: &dyn Medium, blocks: u64, time: Duration) -> Outcome<f64> {
    let mut queue = medium.queue(32)?;
    let mut idle = Vec::with_capacity(32);
    for _ in 0..32 {
        idle.push(medium.pool().take(BLOCK as usize)?);
    }
    let (mut rng, mut done, mut count) = (Rng::new(1), Vec::with_capacity(32), 0u64);
    let start = Instant::now();
    while !count.is_multiple_of(1 << 10) || start.elapsed() < time {
        while let Some(buf) = idle.pop() {
            if queue.submit(0, Op::Read { at: rng.below(blocks), buf }).is_err() {
                return fail("the medium took no read");
            }
        }
        queue.poll(&mut done);
        for c in done.drain(..) {
            c.result?;
            idle.extend(c.buf);
            count += 1;
        }
    }
    Ok(count as f64 / start.elapsed().as_secs_f64())
}
