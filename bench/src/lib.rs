//! What the benchmarks share: making files of many extents, quickly; a medium that moves no
//! data; what pins and leases cost; durable writes on windows; the NVMe driver beside a plain loop.

pub mod guest;
pub mod leases;
pub mod null;
pub mod nvme;
pub mod pins;
pub mod windows;

use freehold::{Buffer, File, Result, Store};

/// Blocks of a benchmark's I/O.
pub const BLOCK: u64 = 4096;

/// Keeps `depth` writes of one block in flight until `count` of them are done;
/// `place` gives the file block of each.
///
/// # Errors
/// What a write reports.
pub fn write_blocks(
    store: &Store,
    file: &File,
    depth: usize,
    count: u64,
    mut place: impl FnMut(u64) -> u64,
) -> Result<()> {
    let mut queue = store.queue(depth as u32)?;
    let mut idle: Vec<Buffer> = Vec::with_capacity(depth);
    for _ in 0..depth {
        idle.push(queue.buffer(BLOCK as usize)?);
    }
    let (mut begun, mut ended) = (0, 0);
    let mut done = Vec::with_capacity(depth);
    while ended < count {
        while begun < count {
            let Some(buf) = idle.pop() else { break };
            match queue.write(file, place(begun) * BLOCK, buf, begun) {
                Ok(()) => begun += 1,
                Err(refused) => {
                    if let Some(e) = refused.error {
                        return Err(e);
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

/// A file of `extents` extents of one block each, with a hole between any two.
///
/// # Errors
/// What a write reports.
pub fn many_extents(store: &Store, name: &str, extents: u64) -> Result<File> {
    let file = store.create(name.as_bytes())?;
    write_blocks(store, &file, 64, extents, |i| 2 * i)?;
    file.sync()?;
    Ok(file)
}

/// The `i`th of `0..n` in an order that looks random: each number comes once.
pub fn permuted(i: u64, n: u64) -> u64 {
    // A step that shares no factor with `n` visits all of them.
    let mut step = (n as f64 * 0.618_033_988) as u64 | 1;
    while gcd(step, n) != 1 {
        step += 2;
    }
    (u128::from(i) * u128::from(step) % u128::from(n.max(1))) as u64
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The median, the lowest and the highest; there is at least one.
pub fn spread(found: &mut [f64]) -> (f64, f64, f64) {
    found.sort_by(f64::total_cmp);
    (found[found.len() / 2], found[0], found[found.len() - 1])
}

/// Bytes of memory that the process has; 0 where the system does not say.
pub fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}
