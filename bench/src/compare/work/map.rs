//! One file of very many extents: how fast it is looked up and reflinked, and
//! what memory its map takes.

use super::Site;
use super::null::through_queue;
use super::reflink::case;
use crate::bed::BLOCK;
use crate::drive::Rng;
use crate::outcome::Outcome;
use crate::results::{Results, Side, Unit, median};
use freehold::{File, Store};
use freehold_bench::null::{NullMedium, mark};
use std::hint::black_box;
use std::time::Instant;

pub(crate) mod huge;

/// How often each is measured.
const ROUNDS: usize = 5;

pub(crate) const HOW: &str = "Every second block of the file is written, with data that the \
    medium drops (metadata goes to the device). Memory is the growth of the process (resident \
    set) while the map was made. Reads are of random blocks, \
    through `File` and `Queue` at QD32, from a medium that completes them at once: what they take \
    longer than in a file of one extent is the look-up. A queue looks up 32 reads together, which \
    wait for memory together. A look-up alone is `extent_at`, of a block that only the answer \
    before it tells: it waits for some four loads, one after the other, and how long one such \
    load takes here is shown below. `iomap` also tells what is shared. \"In huge pages\": the same \
    by a process of its own whose allocator asks for them \
    (`GLIBC_TUNABLES=glibc.malloc.hugetlb=1`), with its metadata on a memory medium. \
    The reflinks are the last rows of their own table.";

pub(crate) fn run(site: &Site<'_>, side: Side, results: &mut Results) -> Outcome {
    let extents = site.scale.map;
    let medium = NullMedium::new(site.stage.raw()?);
    let store = Store::format_on(medium.clone())?;
    let one = small(&store)?;
    let before = resident();
    let file = large(&store, extents)?;
    memory(results, format!("memory, bytes for each of {extents} extents"), before, extents);
    medium.silence();
    let time = site.scale.time;
    let alone = 1.0 / through_queue(&store, &one, time, |rng| rng.below(256))?;
    let small = extent_at(&one, 256, 1)?;
    through_queue(&store, &file, time, |rng| rng.below(extents) * 2)?;
    for _ in 0..ROUNDS {
        let among = 1.0 / through_queue(&store, &file, time, |rng| rng.below(extents) * 2)?;
        let name = format!("read of a block among {extents} extents");
        results.add("map", name, Unit::Time, side, among);
        let name = format!("look-up among {extents} extents");
        results.add("map", name, Unit::Time, side, (among - alone).max(0.0));
        let name = format!("look-up alone among {extents} extents");
        let took = extent_at(&file, extents, 2)?;
        results.add("map", name, Unit::Time, side, (took - small).max(0.0));
        let call = iomap(&file, extents)?;
        results.add("map", format!("`iomap` among {extents} extents"), Unit::Time, side, call);
    }
    results.add("map", "read of a block of one extent", Unit::Time, side, alone);
    for _ in 0..3 {
        let name = format!("one load from {} MiB of memory", (30 * extents) >> 20);
        results.add("map", name, Unit::Time, side, load(30 * extents));
    }
    // Two rows, because this medium takes its own time for a sync.
    for (file, name) in [(&one, format!("{}, same medium", case(1))), (&file, case(extents))] {
        let mut times = Vec::new();
        for i in 0..9 {
            let start = Instant::now();
            file.reflink(format!("{name}-{i}").as_bytes())?.sync()?;
            times.push(start.elapsed().as_secs_f64());
        }
        if let Some(time) = median(&times) {
            results.add("reflink", name, Unit::Time, side, time);
        }
    }
    store.checkpoint()?;
    drop((one, file, store, medium));
    let start = Instant::now();
    site.stage.open()?;
    results.time("map", "opening the store", side, start.elapsed());
    huge::run(site, results)
}

/// A file of one extent.
fn small(store: &Store) -> Outcome<File> {
    let one = store.create(b"one")?;
    one.allocate(0, 1 << 20)?;
    fill(store, &one, 256, |i| i)?;
    store.checkpoint()?;
    Ok(one)
}

/// A file of so many.
fn large(store: &Store, extents: u64) -> Outcome<File> {
    let file = store.create(b"map")?;
    fill(store, &file, extents, |i| 2 * i)?;
    file.sync()?;
    store.checkpoint()?;
    Ok(file)
}

/// Writes one block at a time, marked as data.
fn fill(store: &Store, file: &File, count: u64, place: impl Fn(u64) -> u64) -> Outcome {
    let mut queue = store.queue(64)?;
    let mut idle = Vec::with_capacity(64);
    for _ in 0..64 {
        let mut buf = queue.buffer(BLOCK as usize)?;
        mark(&mut buf);
        idle.push(buf);
    }
    let (mut begun, mut ended, mut done) = (0, 0, Vec::with_capacity(64));
    while ended < count {
        while begun < count
            && let Some(buf) = idle.pop()
        {
            match queue.write(file, place(begun) * BLOCK, buf, 0) {
                Ok(()) => begun += 1,
                Err(refused) => {
                    if let Some(e) = refused.error {
                        return Err(e.into());
                    }
                    idle.extend(refused.buf);
                    break;
                }
            }
        }
        if queue.poll(&mut done) == 0 {
            queue.wait(None)?;
        }
        for c in done.drain(..) {
            c.result?;
            idle.extend(c.buf);
            ended += 1;
        }
    }
    Ok(())
}

/// Seconds for a look-up of a random block, every `step`th of the file, when which one is
/// known only from the answer before.
fn extent_at(file: &File, extents: u64, step: u64) -> Outcome<f64> {
    let (mut rng, mut last, n) = (Rng::new(4), 0, 1_000_000);
    let start = Instant::now();
    for _ in 0..n {
        // Zero, which the processor cannot know before the answer has come.
        let block = (rng.below(extents) + (last & 1)) % extents;
        last = file.extent_at(block * step * BLOCK)?.address.unwrap_or(0);
    }
    black_box(last);
    Ok(start.elapsed().as_secs_f64() / f64::from(n))
}

/// Seconds for each call.
fn iomap(file: &File, extents: u64) -> Outcome<f64> {
    let (mut rng, n) = (Rng::new(3), (extents / 50).max(1000));
    let start = Instant::now();
    for _ in 0..n {
        black_box(file.iomap(rng.below(extents) * 2 * BLOCK, BLOCK)?);
    }
    Ok(start.elapsed().as_secs_f64() / n as f64)
}

fn memory(results: &mut Results, name: String, before: Option<u64>, extents: u64) {
    if let Some((after, before)) = resident().zip(before) {
        let each = after.saturating_sub(before) as f64 / extents as f64;
        results.add("map", name, Unit::Number, Side::Freehold, each);
    }
}

/// Seconds for a load from a random place in so many bytes, when the place is known only
/// from the load before: what this machine's memory takes, whoever asks.
fn load(bytes: u64) -> f64 {
    const LINE: usize = 8;
    let lines = (bytes as usize / 64).max(2);
    let mut memory = vec![0u64; lines * LINE];
    // One cycle through all lines (Sattolo).
    let mut order: Vec<u32> = (0..lines as u32).collect();
    let mut rng = Rng::new(5);
    for i in (1..lines).rev() {
        order.swap(i, rng.below(i as u64) as usize);
    }
    for i in 0..lines {
        memory[order[i] as usize * LINE] = u64::from(order[(i + 1) % lines]);
    }
    let (mut at, loads) = (0, 2_000_000);
    let start = Instant::now();
    for _ in 0..loads {
        at = memory[at as usize * LINE];
    }
    black_box(at);
    start.elapsed().as_secs_f64() / f64::from(loads)
}

/// Bytes of memory that this process has.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
